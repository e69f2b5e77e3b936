"""Where and how strongly a result is applied."""
