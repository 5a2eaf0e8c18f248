"""What the runtime is measured beside. Each file runs by itself, some in an environment of its own."""
