"""What a cloud's cluster has and a bare one lacks. It must not be needed for the control plane to work."""
