"""Export of images: one writer per format, each writing complete files only."""
