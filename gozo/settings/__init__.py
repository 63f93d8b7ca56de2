"""Options, environment and configuration files, and the settings that result from them."""
