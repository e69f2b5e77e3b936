"""One reader per kind of file, those that wrap others, and the choice of the reader of a file."""
