"""Entry point of ``python -m napari_restore``: the command line."""

import sys

from napari_restore.commands import main

if __name__ == "__main__":
    sys.exit(main())
