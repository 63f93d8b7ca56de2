"""What commands print, as a table, text or JSON."""
