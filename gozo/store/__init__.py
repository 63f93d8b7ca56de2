"""The bucket that holds the schedules: following it, and writing to it."""
