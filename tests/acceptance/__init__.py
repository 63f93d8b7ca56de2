"""What a user notices: real gozo processes, real signals, a real nats-server."""
