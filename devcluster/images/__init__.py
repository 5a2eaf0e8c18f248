"""Container images without Docker and without a registry, described in `images.toml`. It must not know any cluster."""
