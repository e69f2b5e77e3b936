"""The process behind `napari-restore view`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from napari_restore.sample import SAMPLE

pytestmark = pytest.mark.binding

START = """
import sys
import napari.__main__
from napari_restore.plugin import _start

_start.NEEDED = ()
napari.__main__.main = lambda: print(*sys.argv[1:], sep="\\n")
_start.main()
"""
"""All of it but the heavy imports, and napari's own part."""


@pytest.mark.nightly
def test_it_hands_its_arguments_to_napari_and_qt_warns_of_none():
    words = [str(SAMPLE), "--plugin", "napari-restore", "--with", "napari-restore", "Restore"]
    done = subprocess.run(
        [sys.executable, "-c", START, *words],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
    )
    assert done.stdout.splitlines() == words
    assert "plugin" not in done.stderr.lower(), done.stderr
