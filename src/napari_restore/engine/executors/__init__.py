"""Runs of one plan on several processes or machines, by dask.distributed."""
