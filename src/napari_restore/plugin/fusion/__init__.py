"""The tab for exposure fusion: the frames of a bracket, and their picture as it is restored."""
