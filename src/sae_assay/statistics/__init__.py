"""Statistics over the score table: SQL in sql/, distributions and the bootstrap in Python, one mart a question."""
