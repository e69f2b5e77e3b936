"""Exceptions, one class per failure, and the sentences they carry.

Every message is one sentence naming the cause; `hint` is the next step. Both name options by
`option`: Python shows ``tile=1024``, the command line ``--tile 1024`` and exits with `exit_code`,
the window the label of its control. Every folder of the package may import this module; it imports
none of them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

CONTROLS = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    r"\u2060-\u206f\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Characters that move the cursor, change the direction of text, are invisible or no characters;
joiners are letters."""
_MARK = re.compile("\ufdd0([a-z_]+(?:\\(\\))?)\ufdd1([^\ufdd0-\ufdd2]*)\ufdd2")
"""An option in a marked text. Unicode reserves these noncharacters for use inside a program."""

_CODE = re.compile(
    r"[\w./\\-]{1,300}\.(?:cc|cpp|cu|cuh|h|hpp):\d+:? |"
    r"(?:(?:static|virtual|const|void|bool|int|auto) )*"
    r"\b(?:\w+::)+~?\w+\((?:[^()]|\([^()]*\))*\)(?: const)?[:,]? ?"
)
"""Where in its C++ code a library has failed: a file with its line, and the signature of a function."""
LISTED, MOST_LISTED = 16, 24
"""How many names of a list stay where it has more than so many."""


def escape_controls(text: str, keep: str = "") -> str:
    r"""Return `text` with each control character, but for those in `keep`, as its escape sequence.

    Names in files are untrusted: one may contain sequences that a terminal obeys, lines that
    imitate our messages, or marks that reverse the letters. Bytes that are not UTF-8 become
    ``\xNN``.

    Parameters
    ----------
    text
        Any text.
    keep
        Control characters that stay.

    Returns
    -------
    str
        The text as it may be printed.
    """

    def escaped(match: re.Match[str]) -> str:
        letter = match[0]
        if letter in keep:
            return letter
        if "\udc80" <= letter <= "\udcff":  # a byte of a name that is not UTF-8
            return f"\\x{ord(letter) - 0xDC00:02x}"
        return letter.encode("unicode_escape").decode()

    return CONTROLS.sub(escaped, text)


class Option(NamedTuple):
    """An option in a `Message`: its name in Python, and values where the sentence gives some."""

    name: str
    """``tile``; ``write_record()`` where Python has a function for what is an option elsewhere."""
    values: tuple[Any, ...] = ()
    """Alternatives; a mapping for options that take ``name=value``, True for a switch."""


def option(name: str, *values: Any) -> str:
    """Mark an option for an f-string of an error, a `Message` or a note.

    ``f"Use {option('memory', '2GiB')} or more, or a smaller {option('tile')}."`` reads ``Use
    memory="2GiB" or more, or a smaller tile=.`` in Python and ``Use --memory 2GiB or more, or a
    smaller --tile.`` on the command line. Several values are alternatives.

    Parameters
    ----------
    name
        The name of the option in Python, ``tile``.
    *values
        Alternatives, as JSON has them.

    Returns
    -------
    str
        The option, marked for a `Message`.
    """
    return f"\ufdd0{name}\ufdd1{json.dumps(values)}\ufdd2"


class Message(str):
    """A sentence that names options. As text it has the names of Python, ``tile=1024``.

    Control characters, of names for instance, are escaped.
    """

    __slots__ = ("marked",)

    marked: str
    """The sentence with its options marked by `option`, for a longer message."""

    def __new__(cls, marked: str) -> Message:
        marked = marked.marked if isinstance(marked, Message) else marked
        message = super().__new__(cls, _replace_options(marked, _in_python))
        message.marked = marked
        return message

    def __getnewargs__(self) -> tuple[str]:
        return (self.marked,)

    def naming(self, name: Callable[[Option], str]) -> str:
        """Return the sentence with every option as the caller shows it.

        Parameters
        ----------
        name
            Returns how an option is shown.

        Returns
        -------
        str
            The sentence, control characters escaped.
        """
        return _replace_options(self.marked, name)


def _replace_options(marked: str, name: Callable[[Option], str]) -> str:
    def replaced(match: re.Match[str]) -> str:
        try:
            return name(Option(match[1], tuple(json.loads(match[2]))))
        except ValueError:  # not of `option`, but from the name of a file
            return match[0]

    return escape_controls(_MARK.sub(replaced, marked))


def _in_python(option: Option) -> str:
    """Return an option as an argument: ``tile=``, ``tile=1024``, ``device="cpu"``."""
    if option.name.endswith("()"):
        return option.name
    return f"{option.name}={' or '.join(map(_python_text, option.values))}"


def _python_text(value: Any) -> str:
    if isinstance(value, dict):
        items = (f'"{name}": {_python_text(each)}' for name, each in value.items())
        return f"{{{', '.join(items)}}}"
    # FILE stands for a value; True is not JSON.
    is_written = isinstance(value, bool) or (isinstance(value, str) and value.isupper())
    return str(value) if is_written else json.dumps(value, ensure_ascii=False)


def _readable(text: str) -> str:
    """Return a message without places in C++ code, and with a long list cut."""
    parts = _CODE.sub("", text.marked if isinstance(text, Message) else text).split(", ")
    if len(parts) > MOST_LISTED and "\ufdd1" not in "".join(left_out := parts[LISTED:-1]):
        parts[LISTED:-1] = [f"… ({len(left_out)} more)"]
    return ", ".join(parts)


class RestoreError(Exception):
    """Base of all errors that a user can cause or must know of.

    Parameters
    ----------
    message
        One sentence that names the cause.
    hint
        The next step; empty where there is none.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = Message(_readable(message))
        self.hint = Message(_readable(hint))
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.sentence

    @property
    def sentence(self) -> Message:
        """Message and hint."""
        return Message(f"{self.message.marked} {self.hint.marked}".strip())

    def __reduce__(self) -> tuple[type[RestoreError], tuple[str, str]]:
        return type(self), (self.message, self.hint)


class InputError(RestoreError):
    """Bad input: nothing was written."""

    exit_code = 2


class UnreadableImage(InputError):
    """The file is missing, empty, truncated, no image, or may not be read."""


class StackOfPlanes(UnreadableImage):
    """The file has several planes (pages, depths, times), and none was chosen."""


class OutsideFolder(UnreadableImage):
    """The image takes pixels from files outside its own folder, which needs the user's consent."""


class UnknownBands(InputError):
    """The model needs band roles that the image does not define."""


class BadRegion(InputError):
    """The region has no area or lies outside the image."""


class BadMask(InputError):
    """A mask has another size than the image and no georeference to locate it."""


class UnknownModel(InputError):
    """No model of that name."""


class BadParameter(InputError):
    """Unknown parameter or value outside its range."""


class MissingWeights(InputError):
    """The network has no weights: a file or `random:SEED` is needed."""


class BadModel(InputError):
    """A model file or its card does not match what the card claims."""


class TilesDiffer(BadModel):
    """Tiles of an image differ from the whole: the halo measured for the model is too small."""


class BadOutput(InputError):
    """The output equals the input, exists, or cannot be written there."""


class SourceChanged(InputError):
    """The source is not the one of the unfinished run."""


class Cancelled(RestoreError):
    """The user stopped the run; finished tiles are kept."""

    exit_code = 3


class ResourceError(RestoreError):
    """Memory, device memory or disk do not suffice; finished tiles are kept."""

    exit_code = 4


class BudgetTooSmall(ResourceError):
    """Not even the smallest tile fits the budget."""


class OutOfMemory(ResourceError):
    """The device or the machine ran out of memory even at the smallest tile."""


class DiskFull(ResourceError):
    """No space left where results or scratch are written."""


@contextlib.contextmanager
def disk_full_as(message: str, hint: str) -> Iterator[None]:
    """Raise `DiskFull` with these sentences in place of the error of a full disk.

    Parameters
    ----------
    message
        One sentence that names the cause.
    hint
        The next step.

    Yields
    ------
    None
        Nothing.
    """
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise DiskFull(message, hint) from error


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether `error` or its cause means that the disk or the quota is used up.

    Parameters
    ----------
    error
        An error; those that it stems from are looked at, too.

    Returns
    -------
    bool
        False for None.
    """
    # A limit on the size of a file is no different from a full disk.
    codes = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
    while error is not None:
        if isinstance(error, OSError) and (
            error.errno in codes or getattr(error, "winerror", None) in (39, 112)
        ):
            return True
        # GDAL reports it only in the message.
        if any(words in str(error) for words in ("No space left on device", "File too large")):
            return True
        error = error.__cause__ or error.__context__
    return False


def why_no_torch(error: BaseException) -> str | None:
    """Return why ``import torch`` failed.

    Parameters
    ----------
    error
        Of any class: `OSError` for a library that is missing on Windows, for instance. Too little memory
        and Ctrl-C are no reason of torch's.

    Returns
    -------
    str or None
        The reason; None where the error is not that of the import.
    """
    if isinstance(error, MemoryError) or not isinstance(error, Exception):
        return None
    if isinstance(error, ModuleNotFoundError) and error.name == "torch":
        return "it is not installed"
    step = error.__traceback__
    while step is not None:
        frame, step = step.tb_frame, step.tb_next
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "torch":
            return " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return None


def did_you_mean(
    name: str, known: Collection[str], otherwise: str = "There are", *, most: int = 1
) -> str:
    """Return the hint for a name that is not `known`.

    Up to `most` similar ones, else all of them.

    Parameters
    ----------
    name
        The name that was given.
    known
        All names that there are.
    otherwise
        What comes before all names.
    most
        How many similar names are given.

    Returns
    -------
    str
        One sentence.
    """
    import difflib  # only where something is wrong already

    near = difflib.get_close_matches(name, known, most, 0.6 if most == 1 else 0.5)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return f"{otherwise}: {', '.join(known) or 'none'}."
