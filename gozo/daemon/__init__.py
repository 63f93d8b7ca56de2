"""`gozo serve`: starts, watches and stops the parts of the daemon."""
