"""Pictures for the README, each made from a real run."""
