"""What every command returns."""

from __future__ import annotations

from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What a command says in the end."""

    data: Any
    """For `--json`: anything JSON can hold."""
    text: str
    """For people; printed on stdout unless empty."""
    exit_code: int = 0
    wrote_files: bool = False
    """Whether what was asked for lies in files, and `text` only tells of them."""
