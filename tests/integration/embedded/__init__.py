"""The embedded server against the real program."""
