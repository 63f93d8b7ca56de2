"""What operators see of a daemon: health, metrics, the NATS micro service, systemd."""
