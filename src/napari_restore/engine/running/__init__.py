"""A plan carried out: jobs, tiles, events, the child process."""
