"""The command line: `napari-restore COMMAND …`.

Exit codes: 0 done, 1 a bug, 2 bad input (nothing was written), 3 stopped by the
user, 4 out of memory budget, device memory or disk. Errors are one sentence on
stderr; with `--json` one JSON object, and nothing else, goes to stdout.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_restore._commands import Answer
from napari_restore.errors import Cancelled, RestoreError

if TYPE_CHECKING:
    import argparse

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, by default that of the process; returns the exit code."""
    _set_environment()
    from napari_restore._commands._parser import build_parser

    try:
        options = build_parser().parse_args(arguments)
    except SystemExit as done:  # --help, --version or an argument error, already printed
        return done.code if isinstance(done.code, int) else 1
    options.words = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None and not sys.warnoptions:
        # Python's warnings speak to developers; users are told by notes.
        warnings.simplefilter("ignore")
    answer = _run(options)
    try:
        _print(answer, as_json=options.json)
    except BrokenPipeError:
        # Whoever read stdout, `head` for instance, has gone. Python would
        # complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if arguments is None and answer.exit_code == Cancelled.exit_code:
        # A thread may be inside a kernel for seconds and Python would wait for it.
        # Nothing is lost: tiles are safe in their store once they are finished.
        sys.stderr.flush()
        os._exit(answer.exit_code)
    return answer.exit_code


def _set_environment() -> None:
    """What the numerical libraries read once, when they are loaded.

    OpenMP threads that spin while they wait take the cores from decoding and
    from other programs; beside one busy core tiles took up to ten times longer.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("KMP_BLOCKTIME", "0")


def _run(options: argparse.Namespace) -> Answer:
    """The command's answer; what goes wrong becomes one, too."""
    # A library that prints must not spoil the JSON.
    quiet = contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext()
    with quiet:
        try:
            answer: Answer = options.run(options)
            return answer
        except (RestoreError, OSError, MemoryError, KeyboardInterrupt) as error:
            return _failed(error)
        except Exception as error:
            traceback.print_exc()
            print("napari-restore: this is a bug; please report the lines above.", file=sys.stderr)
            return Answer({"error": {"type": type(error).__name__, "message": str(error)}}, "", 1)


def _failed(error: BaseException) -> Answer:
    from napari_restore._commands._failures import as_json, as_restore_error

    known = as_restore_error(error)
    print(f"napari-restore: {known}", file=sys.stderr)
    return Answer({"error": as_json(known)}, "", known.exit_code)


def _print(answer: Answer, *, as_json: bool) -> None:
    if as_json:
        from napari_restore.records import strict_json

        print(strict_json(answer.data, indent=2))
    elif answer.text:
        print(answer.text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
