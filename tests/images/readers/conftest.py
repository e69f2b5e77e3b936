"""A server of buckets, for the readers of addresses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from range_server import RangeServer

from napari_restore.images.files import _buckets, _remote

SETTINGS = ("AWS_", "GOOGLE_", "GS_", "CPL_GS_", "AZURE_", "STORAGE_EMULATOR")


@pytest.fixture
def bucket_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    """A server whose buckets are the folders of "web", as the environment describes, without keys.

    To Azure they are those of "web/account".
    """
    pytest.importorskip("obstore")
    monkeypatch.setattr(_remote, "PAUSE", 0.01)
    monkeypatch.setattr(_buckets, "_MAKER", tmp_path / "nothing")
    for name in filter(lambda name: name.startswith(SETTINGS), list(os.environ)):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "web").mkdir(exist_ok=True)
    with RangeServer(tmp_path / "web") as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.address)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.address)
        monkeypatch.setenv(
            "AZURE_STORAGE_CONNECTION_STRING",
            f"AccountName=account;AccountKey=c2VjcmV0;BlobEndpoint={running.address}/account",
        )
        yield running
