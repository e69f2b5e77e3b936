"""Many boxes, models and images: one table of what their maps measure."""
