"""gozoctl: the command line for administrators and scripts."""
