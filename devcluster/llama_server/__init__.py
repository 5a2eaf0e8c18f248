"""llama.cpp's llama-server by its own command line, out of a package. It must not know the rest of devcluster."""
