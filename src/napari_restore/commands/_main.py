"""The command line: `napari-restore COMMAND …`.

Exit codes: 0 done, 1 a bug, 2 bad input (nothing was written), 3 stopped by the
user, 4 out of memory budget, device memory or disk. Errors are one sentence on
stderr; with `--json` one JSON object, and nothing else, goes to stdout.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_restore.commands import _streams
from napari_restore.commands._result import CommandResult
from napari_restore.errors import Cancelled

if TYPE_CHECKING:
    import argparse

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, by default that of the process; returns the exit code."""
    if arguments is not None:
        return _main(list(arguments))
    _streams.set_up()
    if not sys.warnoptions:
        # Python's warnings are for developers; users get notes.
        warnings.simplefilter("ignore")
    code = _main(sys.argv[1:])
    if code != Cancelled.exit_code:
        atexit._run_exitfuncs()
    _streams.close()
    # Python would wait for a cancelled thread inside of a kernel; finished tiles are safe in their
    # store. Unloading torch would take up to two more seconds.
    os._exit(code)


def _main(argv: list[str]) -> int:
    started = time.perf_counter()
    _set_environment()
    from napari_restore.commands._parser import build_parser

    try:
        options = build_parser().parse_args(argv)
    except SystemExit as done:  # --help, --version or an argument error, already printed
        code = done.code if isinstance(done.code, int) else 1
        return _deliver("", code)
    except OSError as error:  # stdout took no help
        return _undelivered(error)
    options.argv, options.started = argv, started
    answer = _run(options)
    if options.json:
        from napari_restore.commands._flags import with_flags
        from napari_restore.records import strict_json

        return _deliver(strict_json(with_flags(answer.data), indent=2), answer.exit_code)
    return _deliver(answer.text, answer.exit_code, wrote_files=answer.wrote_files)


def _set_environment() -> None:
    """Set what numerical libraries read when they are loaded, and what threads find when they begin.

    OpenMP threads that spin while waiting block decoding and other programs; with one busy core
    tiles took up to ten times longer.
    """
    from napari_restore._heap import use_one_heap

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    use_one_heap()


def _run(options: argparse.Namespace) -> CommandResult:
    """Run the command; return its result, also for errors."""
    from napari_restore.commands._failures import (
        as_json,
        as_restore_error,
        check_address_space,
        is_known,
    )
    from napari_restore.commands._flags import with_flags

    # A library that prints must not spoil the JSON.
    quiet = contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext()
    with quiet:
        try:
            if options.computes:
                check_address_space()
            answer: CommandResult = options.run(options)
            return answer
        except (Exception, KeyboardInterrupt) as error:
            if not is_known(error):
                with contextlib.suppress(OSError):
                    traceback.print_exc()
                _streams.write_error("this is a bug; please report the lines above.")
                data = {"type": type(error).__name__, "message": str(error)}
                return CommandResult({"error": data}, "", 1)
            restore_error = as_restore_error(error)
    _streams.write_error(with_flags(restore_error.sentence))
    return CommandResult({"error": as_json(restore_error)}, "", restore_error.exit_code)


def _deliver(text: str, code: int, *, wrote_files: bool = False) -> int:
    """Print the result; return the exit code, that of the error if printing failed.

    With `wrote_files` a failed print is no error: the output is in files.
    """
    error = _streams.write_out(text)
    if error is None or (code and not text) or (wrote_files and sys.stdout is None):
        return code
    restore_error = _undelivered(error)
    return code if wrote_files else code or restore_error


def _undelivered(error: OSError) -> int:
    from napari_restore.commands._failures import as_restore_error

    restore_error = as_restore_error(error)
    _streams.write_error(f"The result could not be written to stdout: {restore_error}")
    return restore_error.exit_code
