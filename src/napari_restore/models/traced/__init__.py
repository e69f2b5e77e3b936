"""Sweeps of plain modules, found by tracing them and cutting at reductions over the image."""
