"""Charts that draw tables, and one self-contained page whose every number names the table cell that it came from."""
