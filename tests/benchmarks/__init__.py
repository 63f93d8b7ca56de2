"""How late messages are sent, and how many per second: run by hand, never a test's verdict."""
