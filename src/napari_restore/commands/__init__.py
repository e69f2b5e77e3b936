"""The command line, `napari-restore COMMAND …`; one module per family of commands."""

from napari_restore.commands._main import main

__all__ = ["main"]
