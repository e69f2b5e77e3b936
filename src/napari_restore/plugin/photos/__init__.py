"""Several photos in one window: one is shown at a time."""
