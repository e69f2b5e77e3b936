"""Models that see all tiles at once: their plans, tiers and runs."""
