"""Synthetic worlds: their construction, the rows drawn from them and the tasks built on their features."""
