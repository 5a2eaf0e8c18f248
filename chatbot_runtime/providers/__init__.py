"""Who answers. One module for each kind of source of answers."""
