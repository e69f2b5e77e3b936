"""The result that every command returns."""

from __future__ import annotations

from typing import Any, NamedTuple


class CommandResult(NamedTuple):
    """Result of a command."""

    data: Any
    """JSON-able data for `--json`."""
    text: str
    """Text for stdout, unless empty."""
    exit_code: int = 0
    wrote_files: bool = False
    """Whether the output is in files, and `text` only lists them."""
