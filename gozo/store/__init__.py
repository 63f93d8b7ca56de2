"""Where schedules are: the bucket, following it, and writing to it."""
