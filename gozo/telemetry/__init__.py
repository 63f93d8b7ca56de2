"""What the parts of a daemon record: counters and events."""
