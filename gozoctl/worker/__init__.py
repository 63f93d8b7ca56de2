"""The workers: of `gozoctl exec`, for each message, and of `gozoctl worker`, for each table."""
