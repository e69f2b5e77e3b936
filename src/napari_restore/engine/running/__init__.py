"""A plan carried out in this process: jobs, tiles, sweeps, events."""
