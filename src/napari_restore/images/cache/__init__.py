"""What is kept: decoded chunks in memory, finished levels on disk."""
