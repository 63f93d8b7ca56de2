"""The way in: requests and admin verbs, from the wire to the bucket."""
