"""The window: reader, writer, sample and the Restore panel of napari."""
