"""Commands of napari-restore that this distribution adds."""
