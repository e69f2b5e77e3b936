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
from napari_restore.commands._answer import Answer
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
        # Python's warnings speak to developers; users are told by notes.
        warnings.simplefilter("ignore")
    code = _main(sys.argv[1:])
    if code != Cancelled.exit_code:
        atexit._run_exitfuncs()
    _streams.close()
    # A cancelled thread may be inside a kernel for seconds, and Python would wait for it: nothing is
    # lost, tiles are safe in their store once they are finished. And taking apart all that torch
    # has loaded would take up to two seconds after the file is there.
    os._exit(code)


def _main(words: list[str]) -> int:
    began = time.perf_counter()
    _set_environment()
    from napari_restore.commands._parser import build_parser

    try:
        options = build_parser().parse_args(words)
    except SystemExit as done:  # --help, --version or an argument error, already printed
        code = done.code if isinstance(done.code, int) else 1
        return _deliver("", code)
    except OSError as error:  # stdout took no help
        return _undelivered(error)
    options.words, options.began = words, began
    answer = _run(options)
    if options.json:
        from napari_restore.records import strict_json

        return _deliver(strict_json(answer.data, indent=2), answer.exit_code)
    return _deliver(answer.text, answer.exit_code, wrote_files=answer.wrote_files)


def _set_environment() -> None:
    """What the numerical libraries read once, when they are loaded.

    OpenMP threads that spin while they wait take the cores from decoding and
    from other programs; beside one busy core tiles took up to ten times longer.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("KMP_BLOCKTIME", "0")


def _run(options: argparse.Namespace) -> Answer:
    """The command's answer; what goes wrong becomes one, too."""
    from napari_restore.commands._failures import (
        as_json,
        as_restore_error,
        check_address_space,
        is_known,
    )

    # A library that prints must not spoil the JSON.
    quiet = contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext()
    with quiet:
        try:
            if options.computes:
                check_address_space()
            answer: Answer = options.run(options)
            return answer
        except (Exception, KeyboardInterrupt) as error:
            if not is_known(error):
                with contextlib.suppress(OSError):
                    traceback.print_exc()
                _streams.write_error("this is a bug; please report the lines above.")
                told = {"type": type(error).__name__, "message": str(error)}
                return Answer({"error": told}, "", 1)
            known = as_restore_error(error)
    _streams.write_error(str(known))
    return Answer({"error": as_json(known)}, "", known.exit_code)


def _deliver(text: str, code: int, *, wrote_files: bool = False) -> int:
    """Print the answer; the exit code, which is that of the failure if it could not be printed.

    Text that only tells of files, which `wrote_files` are there, may be missed.
    """
    failure = _streams.write_out(text)
    if failure is None or (code and not text) or (wrote_files and sys.stdout is None):
        return code
    known = _undelivered(failure)
    return code if wrote_files else code or known


def _undelivered(failure: OSError) -> int:
    from napari_restore.commands._failures import as_restore_error

    known = as_restore_error(failure)
    _streams.write_error(f"The answer could not be written to stdout: {known}")
    return known.exit_code
