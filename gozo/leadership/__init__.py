"""Elects the replica that delivers, and reports its progress to the others."""
