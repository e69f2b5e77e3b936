"""Results: the list, adjustment, records, files, the cache."""
