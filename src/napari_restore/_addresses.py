"""Addresses: which text is one, and how it is kept, without signatures and passwords."""

from __future__ import annotations

import re

_SECRETS = re.compile(
    r"((?:https?|s3|gs|az)://)(?:[^\s/\"'@]*@)?([^\s\"'?\\]*)(?:\?[^\s\"'\\]*)?", re.IGNORECASE
)


_ADDRESS = re.compile(r"(https?|s3|gs|az|abfs?)://", re.IGNORECASE)


def is_remote(text: str) -> bool:
    """Return whether `text` is the address of a file elsewhere, of the web or in a bucket."""
    return _ADDRESS.match(text) is not None


def without_queries(text: str) -> str:
    """Return `text` with all addresses without query, user and password."""
    return _SECRETS.sub(r"\1\2", text)
