"""Records the activity of a daemon: counters and events."""
