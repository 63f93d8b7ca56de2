"""gozo's tests: unit, integration (a real nats-server), acceptance (real processes)."""
