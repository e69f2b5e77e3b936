"""Fixtures of the command line's tests."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from napari_restore.commands import main

from ._scenes import Run, hazy, write_tiff


@pytest.fixture(autouse=True)
def costs_are_known(known_costs: None) -> None:
    """What a model costs is not the point of these tests."""


@pytest.fixture
def cli(capsys):
    """Calls the command line in this process."""

    def call(*words: object) -> Run:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Run(code, captured.out, captured.err)

    return call


@pytest.fixture
def ctrl_c_at(monkeypatch):
    """A function that presses Ctrl-C whenever a text is written to stderr: of `--progress json`, an event."""

    def ctrl_c_at(text: str) -> None:
        write = sys.stderr.write

        def watched(line: str) -> int:
            written = write(line)
            if text in line:
                signal.raise_signal(signal.SIGINT)
            return written

        monkeypatch.setattr(sys.stderr, "write", watched)

    return ctrl_c_at


@pytest.fixture
def scene(tmp_path) -> Path:
    return write_tiff(tmp_path / "größe a.tif", hazy())
