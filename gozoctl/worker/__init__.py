"""`gozoctl exec` at work: the pool and the processes that it runs."""
