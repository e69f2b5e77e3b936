"""Runs the command line as ``python -m napari_restore``."""

import sys

from napari_restore.commands import main

if __name__ == "__main__":
    sys.exit(main())
