"""One link to a NATS server, and JetStream over it."""
