"""One reader per kind of file, those that wrap others, and which one opens what."""
