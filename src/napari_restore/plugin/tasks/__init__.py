"""Work on other threads whose results arrive in the GUI thread, and messages to the user."""
