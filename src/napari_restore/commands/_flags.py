"""Messages with the names of the command line: ``--tile 1024``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_restore.errors import Message, Option

FLAGS = {
    "arguments": "--argument",
    "exposures": "--ev",
    "models": "--model",
    "output": "-o",
    "baselines": "--no-baselines",
    "parameters": "--set",
    "path": "-o",
    "planes": "--plane",
    "save_context()": "--context first",
    "trust": "--yes",
    "write_record()": "--record",
}
"""Option in Python → the flag, where they differ in more than dashes."""


def with_flags(data: Any) -> Any:
    """Return `data`, a message or JSON with messages in it, with the flags of the command line."""
    if isinstance(data, Message):
        return data.naming(flag)
    if isinstance(data, Mapping):
        return {key: with_flags(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [with_flags(value) for value in data]
    return data


def flag(option: Option) -> str:
    """Return an option as a user types it."""
    name = FLAGS.get(option.name) or f"--{option.name.replace('_', '-')}"
    values = " or ".join(_text(value) for value in option.values if not isinstance(value, bool))
    return f"{name} {values}".rstrip()


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{key}={each}" for key, each in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
