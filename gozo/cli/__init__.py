"""The command line of `gozo`."""
