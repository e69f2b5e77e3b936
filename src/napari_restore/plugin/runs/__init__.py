"""Runs: planned, started, watched; drafts, live, many images."""
