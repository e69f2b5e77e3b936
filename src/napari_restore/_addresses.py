"""Addresses in text that is kept: without signatures and passwords."""

from __future__ import annotations

import re

_SECRETS = re.compile(
    r"((?:https?|s3|gs|az)://)(?:[^\s/\"'@]*@)?([^\s\"'?\\]*)(?:\?[^\s\"'\\]*)?", re.IGNORECASE
)


def without_queries(text: str) -> str:
    """Return `text` with all addresses without query, user and password."""
    return _SECRETS.sub(r"\1\2", text)
