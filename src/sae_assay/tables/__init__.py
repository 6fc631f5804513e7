"""The long score table: its schema, its files, and how score files become one table."""
