"""Networks of others, known by their weights."""
