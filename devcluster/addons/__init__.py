"""What a cloud's cluster has and a bare one lacks: metrics, volumes, load balancer addresses, fake nodes. Runs beside it."""
