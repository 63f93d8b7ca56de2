"""Takes requests and calls of admin verbs, from the wire to the bucket."""
