"""What a run made: pixels to read, adjust and save."""
