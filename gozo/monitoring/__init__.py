"""How operators observe a daemon: health, metrics, the NATS micro service, systemd."""
