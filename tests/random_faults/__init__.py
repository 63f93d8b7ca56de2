"""Faults at random, for as long as one likes, and an account at the end."""
