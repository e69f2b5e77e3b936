"""Results: what there is, how it looks, its record, its file."""
