"""Products as agencies ship them: metadata and one file for each band."""
