"""What a run will do: its tiles, its cost and its budget, decided before it starts."""
