"""Images out: one writer per format, and never half a file."""
