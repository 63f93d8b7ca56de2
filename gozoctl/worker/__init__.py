"""The worker of `gozoctl exec`: a pool that runs a command for each message."""
