"""Models that relate all tiles: their plans, tiers and runs."""
