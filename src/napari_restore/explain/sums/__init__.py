"""Sums of gradients along a path: in memory, or on disk, where an interrupted run continues."""
