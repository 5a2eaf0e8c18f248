"""How a list of models gets into a volume, whole or not at all. The Job's side of the runtime's image."""
