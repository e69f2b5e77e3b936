"""Work on other threads whose results arrive in the GUI thread."""
