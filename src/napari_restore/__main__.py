"""Entry point of the program and of ``python -m napari_restore``: the command line."""

import sys


def main() -> int:
    """Run the command of this process; Ctrl-C while the command line is loaded ends it, too."""
    try:
        from napari_restore.commands import main as run
    except KeyboardInterrupt:
        print("napari-restore: Stopped.", file=sys.stderr)
        return 3
    return run()


if __name__ == "__main__":
    sys.exit(main())
