"""The examples of docs/api.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import rasterio
from rasterio.windows import Window

from napari_restore.sample import SAMPLE

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"


def small(path: Path) -> None:
    """A georeferenced corner of the sample, (192, 256, 3) uint8."""
    with rasterio.open(SAMPLE) as source:
        window = Window(900, 700, 256, 192)
        profile = {**source.profile, "width": 256, "height": 192}
        profile["transform"] = source.window_transform(window)
        with rasterio.open(path, "w", **profile) as target:
            target.write(source.read(window=window))


@pytest.mark.slow
def test_the_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_napari_viewer: Any
) -> None:
    small(tmp_path / "scene.tif")
    monkeypatch.chdir(tmp_path)
    # It closes what the page leaves open.
    monkeypatch.setattr("napari.Viewer", make_napari_viewer)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) > 5
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    # As a cell of a notebook is run again, here with other weights.
    (own,) = [block for block in blocks if "module = nn.Conv2d" in block]
    first = names["own"]
    exec(compile(own, str(PAGE), "exec"), names)
    assert names["own"].store.path != first.store.path
    assert (tmp_path / "clear.tif").is_file() and (tmp_path / "map.tif").is_file()
