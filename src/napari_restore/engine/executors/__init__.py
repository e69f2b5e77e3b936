"""Where the tiles of a plan are computed beside this process: the child process, and dask.distributed."""
