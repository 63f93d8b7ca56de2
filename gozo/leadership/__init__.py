"""Which replica delivers, and what it reports to the others."""
