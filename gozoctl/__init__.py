"""gozoctl: what an administrator or a shell script does with schedules."""
