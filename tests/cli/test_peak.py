"""The peak that is told counts what writing takes, too."""

from __future__ import annotations

import numpy as np
import pytest

from napari_restore import explain
from napari_restore.engine.results.result import Result
from napari_restore.explain.attribution import attribution

TAKEN = 300 << 20


@pytest.fixture
def hungry():
    """Lets a function take `TAKEN` bytes more, which stay until the test ends."""
    held = []

    def wrap(monkeypatch, module, name):
        function = getattr(module, name)

        def call(*given, **named):
            held.append(np.ones(TAKEN, np.uint8))
            return function(*given, **named)

        monkeypatch.setattr(module, name, call)

    yield wrap
    held.clear()


@pytest.mark.slow
@pytest.mark.parametrize(("module", "name"), [(attribution, "write_map"), (explain, "draw")])
@pytest.mark.ids("nightly", "napari_restore.explain.attribution.attribution-write_map")
def test_a_map_and_its_figure(module, name, hungry, cli, scene, tmp_path, monkeypatch):
    hungry(monkeypatch, module, name)
    words = ["attribute", scene, "--model", "dcp", "--box", 20, 20, 8, 8, "--method", "ig"]
    words += ["--steps", 2, "--baseline", "zero", "-o", tmp_path / "map.tif", "--json"]
    run = cli(*words, "--figure", tmp_path / "map.png")
    assert run.code == 0
    measured = run.json["measured"]
    assert measured["peak_ram_bytes"] > measured["idle_ram_bytes"] + 0.9 * TAKEN


@pytest.mark.slow
def test_side_maps(hungry, cli, scene, tmp_path, monkeypatch):
    hungry(monkeypatch, Result, "read_map")
    words = ["restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp", "--json"]
    run = cli(*words, "--maps", tmp_path / "maps")
    assert run.code == 0
    measured = run.json["measured"]
    assert measured["peak_ram_bytes"] > measured["idle_ram_bytes"] + 0.9 * TAKEN
