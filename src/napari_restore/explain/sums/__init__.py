"""Where gradients along a path are added up: in memory, or on disk where a stop loses nothing."""
