"""Options, environment and configuration files, and what they add up to."""
