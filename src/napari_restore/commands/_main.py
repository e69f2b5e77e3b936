"""The command line: `napari-restore COMMAND …`.

Exit codes: 0 done, 1 a bug, 2 bad input (nothing was written), 3 stopped by the
user, 4 out of memory budget, device memory or disk. Errors are one sentence on
stderr; with `--json` one JSON object, and nothing else, goes to stdout.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import os
import re
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Any, NoReturn

from napari_restore._heap import collect_seldom, use_one_heap
from napari_restore._points import reached
from napari_restore.commands import _streams
from napari_restore.commands._result import CommandResult
from napari_restore.errors import Cancelled, did_you_mean, escape_controls


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; without `arguments` that of this process, which ends."""
    if arguments is not None:
        return _main(list(arguments))
    collect_seldom()
    _streams.set_up()
    if not sys.warnoptions:
        # Python's warnings are for developers; users get notes.
        warnings.simplefilter("ignore")
    # Loading what came before took that long, nearly all of it computing.
    try:
        code = _main(sys.argv[1:], time.process_time())
    except KeyboardInterrupt:  # before the command has begun, or after its end
        _streams.write_error("Stopped.")
        code = Cancelled.exit_code
    if code != Cancelled.exit_code:
        atexit._run_exitfuncs()
    _streams.close()
    # Python would wait for a cancelled thread inside of a kernel; finished tiles are safe in their
    # store. Unloading torch would take up to two more seconds.
    os._exit(code)


def _main(argv: list[str], before: float = 0.0) -> int:
    """Run one command, of a process that began `before` seconds ago; returns the exit code."""
    started = time.perf_counter() - before
    set_environment()
    try:
        options = build_parser(at_once=False).parse_args(argv)
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


def set_environment() -> None:
    """Set what numerical libraries read when they are loaded, and what threads find when they begin."""
    # OpenMP threads that spin while waiting block decoding and other programs; with one busy core
    # tiles took up to ten times longer.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    use_one_heap()


def _run(options: argparse.Namespace) -> CommandResult:
    """Run the command; return its result, also for errors."""
    from napari_restore.commands._failures import as_json, as_restore_error, check_address_space
    from napari_restore.commands._flags import with_flags
    from napari_restore.commands._interrupt import treat_sigterm_as_ctrl_c

    # A library that prints must not spoil the JSON.
    quiet = contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext()
    with quiet:
        try:
            if options.computes:
                check_address_space()
                treat_sigterm_as_ctrl_c()
            reached("command begins")
            answer: CommandResult = options.run(options)
            return answer
        except (Exception, KeyboardInterrupt) as error:
            try:
                restore_error = as_restore_error(error)
            except Exception:
                with contextlib.suppress(OSError):
                    traceback.print_exc()
                _streams.write_error("this is a bug; please report the lines above.")
                data = {"type": type(error).__name__, "message": str(error)}
                return CommandResult({"error": data}, "", 1)
    _streams.write_error(with_flags(restore_error.sentence))
    return CommandResult({"error": as_json(restore_error)}, "", restore_error.exit_code)


def _deliver(text: str, code: int, *, wrote_files: bool = False) -> int:
    """Print the result; return the exit code, that of the error if printing failed."""
    # Where it `wrote_files` a failed print is no error: the output is in files.
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


EPILOG = """\
exit codes: 0 done, 1 a bug, 2 bad input, 3 stopped by Ctrl-C,
4 out of memory budget, device memory or disk (finished tiles are kept)

To resume an interrupted run, give the same command again.
"""


EXAMPLES = {
    "restore": (
        "photo.jpg -o clear.jpg --model atmosphere",
        "scene.tif -o clear.tif --model atmosphere-aerial --memory 2GiB",
        "*.tif -o cleared/ --model atmosphere-aerial",
    ),
    "plan": ("scene.tif --model atmosphere-aerial --memory 2GiB",),
    "fuse": ("dark.jpg medium.jpg bright.jpg -o fused.jpg", "brackets/ -o fused/"),
    "attribute": (
        "photo.jpg --model atmosphere --box 300 300 128 128 -o map.tif --figure map.png",
    ),
}
"""Usual arguments of commands with many options."""


def _examples(command: str) -> str | None:
    """Return the end of a command's help."""
    lines = [f"  napari-restore {command} {words}" for words in EXAMPLES.get(command, ())]
    return "\n".join(["examples:", *lines]) if lines else None


class Parser(argparse.ArgumentParser):
    """A parser with one-line errors, without the usage; the options of a command come when needed."""

    command = ""
    """The command whose options are still to be added."""
    lacks = False
    """Whether the distribution that the command is of is not installed."""

    def complete(self) -> None:
        """Add the options of the command, once."""
        command, self.command = self.command, ""
        if not command:
            return
        self.set_defaults(computes=True)
        # A limit of -1e-5 is no option.
        self._negative_number_matcher = re.compile(r"-\.?\d[\d.]*(e[-+]?\d+)?$", re.I)
        self.add_argument("--json", action="store_true", help="print one JSON object on stdout")
        self.add_argument(
            "--progress",
            choices=("auto", "json", "off"),
            default="auto",
            help="progress on stderr: text, JSON lines, or errors only",
        )
        where = COMMANDS[command][1]
        if where != LAB:
            resolve_name(f"napari_restore.commands.{where}")(self)
            return
        from importlib.metadata import entry_points

        points = entry_points(group="napari_restore.commands", name=command)
        self.lacks = not points
        for point in points:
            point.load()(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.complete()
        if self.lacks:
            self.exit(2, f"{self.prog} is a command of {LAB}: pip install {LAB}\n")
        return super().parse_known_args(args, namespace)

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        if not arg_string:
            raise argparse.ArgumentError(action, "it is empty, as of a variable that is not set")
        return super()._get_value(action, arg_string)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            hint = did_you_mean(str(value), choices, "Choose from")
            raise argparse.ArgumentError(action, f"There is no {value!r}. {hint}")

    def error(self, message: str) -> NoReturn:
        if message.startswith("the following arguments are required"):
            message += "; models are listed by napari-restore models" * ("--model" in message)
        elif re.fullmatch(r"unrecognized arguments:( \w+=[^ -]\S*)+", message):
            message += "; several values of one option are joined by commas"
        message = escape_controls(message)
        self.exit(2, f"napari-restore: {message} (see {self.prog} --help)\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        if message and file is not None and file is sys.stdout:
            file.write(message)
        elif message:
            # As argparse does in newer versions of Python: the exit code stays where nobody can read why.
            with contextlib.suppress(AttributeError, OSError):
                (file or sys.stderr).write(message)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from napari_restore import __version__

        print(f"napari-restore {__version__}")
        parser.exit()


class _Completion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, _: Any, shell: Any, *more: Any) -> None:
        print(_completion(shell))
        parser.exit()


FILES = re.compile("FILE|PATH|OUT|CSV|RECORD|CONFIG|INDEX")
"""Words of a metavar that stand for the name of a file."""


def _completion(shell: str) -> str:
    """Return the script by which `shell` completes commands, options, files and ids of models."""
    import shtab

    from napari_restore.api import models

    ids = " ".join(card.id for card in models())
    known = {"bash": "_napari_restore_models", "zsh": f"({ids})"}
    helper = f'_napari_restore_models() {{ compgen -W "{ids}" -- "$1"; }}'
    parser = build_parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for command in commands.choices.values():
        for action in command._actions:
            shown = str(action.metavar)
            if shown.startswith("ID"):
                action.complete = known
            elif FILES.search(shown):
                action.complete = shtab.FILE
            elif shown == "DIR":
                action.complete = shtab.DIRECTORY
    script: str = shtab.complete(parser, shell=shell, preamble=helper if shell == "bash" else "")
    return script


def build_parser(*, at_once: bool = True) -> Parser:
    """Return the parser; every command sets `run`, a function of the options."""
    # Where not `at_once`, the options of a command are added, and its module is imported, when its
    # words are parsed: of all commands that takes longer than most answers.
    parser = Parser(
        prog="napari-restore",
        description="Restore huge images, region by region, within a memory budget.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    parser.add_argument(
        "--print-completion",
        action=_Completion,
        choices=("bash", "zsh"),
        help="print the script by which this shell completes commands, options and models, and exit",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for name, (summary, _) in COMMANDS.items():
        own = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=_examples(name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        own.command = name
        if at_once:
            own.complete()
    return parser


LAB = "napari-restore-lab"
COMMANDS = {
    "view": ("open napari with the images and the panel", "_inspect:add_view"),
    "models": ("list the models, or show one", "_inspect:add_models"),
    "inspect": ("tell which network a model file is", "_inspect:add_inspect"),
    "info": ("describe an image", "_info:add_info"),
    "plan": ("show what restore would do, without doing it", "_restore:add_plan"),
    "restore": ("restore images and write them", "_restore:add_restore"),
    "fuse": ("fuse the frames of a bracket into one picture", "_fuse:add"),
    "attribute": ("map which pixels made a result", "_attribute:add"),
    "attend": ("map what attention heads look at for a pixel", "_attend:add"),
    "haze": ("make hazy images of clear ones", LAB),
    "train": ("train a network, or resume its training", LAB),
    "evaluate": ("score models on hazy and clear images", LAB),
    "rerun": ("repeat the run of a record", "_restore:add_rerun"),
    "cache": ("list the cache, or clear it", "_inspect:add_cache"),
}
"""Summary of each command, and what adds its options to a parser: ours, or that of a distribution."""
