"""Every option that changes pixels is set in the window, and comes back by command, task and record."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from tests.cli.test_line import plan_of_line

from napari_restore import Region, api
from napari_restore.plugin.state.request import Area
from napari_restore.questions import Computing, Reading, options_of

CHANGING = [
    name for name, each in options_of(Reading, Computing).items() if each.changes == "pixels"
]


def choose(box: Any, data: Any) -> None:
    """Choose as a click would."""
    box.choose(data)
    box.activated.emit(box.currentIndex())


def write_value(edit: Any, text: str) -> None:
    edit.setText(text)
    edit.editingFinished.emit()


def choose_context(panel: Any, path: Path) -> None:
    panel.advanced._offer_context(str(path))
    choose(panel.advanced.context, str(path))


def choose_of_mask(panel: Any, mask: Path, line: str, text: str) -> None:
    panel.exclude.choose(mask)
    write_value(getattr(panel.exclude.choice, line), text)


SETTERS: dict[str, tuple[Callable[[Any, Path], object], Any]] = {
    "exclude": (lambda panel, folder: panel.exclude.choose(folder / "mask.tif"), "mask.tif"),
    "exclude_values": (
        lambda panel, folder: choose_of_mask(panel, folder / "mask.tif", "values", "255"),
        "255",
    ),
    "exclude_bits": (
        lambda panel, folder: choose_of_mask(panel, folder / "mask.tif", "bits", "7"),
        "7",
    ),
    "exclude_where": (
        lambda panel, folder: choose_of_mask(
            panel, folder / "areas.geojson", "where", "kind = 'cloud'"
        ),
        "kind = 'cloud'",
    ),
    "extent": (lambda panel, _: choose(panel.advanced.extent, "region"), "region"),
    "context": (lambda panel, folder: choose_context(panel, folder / "context.npz"), "context.npz"),
    "other_bands": (lambda panel, _: choose(panel.bands.others, "copy"), "copy"),
    "black": (lambda panel, _: write_value(panel.bands.zero, "250.5"), 250.5),
    "white": (lambda panel, _: write_value(panel.bands.white, "9500"), 9500.0),
    "tile": (lambda panel, _: panel.advanced.tile.setValue(128), 128),
    "precision": (lambda panel, _: choose(panel.advanced.precision, "bfloat16"), "bfloat16"),
    "residual_dtype": (
        lambda panel, _: choose(panel.advanced.residual_dtype, "float16"),
        "float16",
    ),
}
"""How a user sets each, and the value, or the name of its file."""


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Five bands with names, masks beside them, and statistics of the whole."""
    path = tmp_path / "scene.tif"
    values = np.random.default_rng(0).integers(300, 9000, (5, 96, 96), np.uint16)
    about: dict[str, Any] = {
        "driver": "GTiff", "width": 96, "height": 96, "crs": "EPSG:32636",
        "transform": rasterio.Affine(30, 0, 500000, 0, -30, 4500000),
    }  # fmt: skip
    with rasterio.open(path, "w", count=5, dtype="uint16", **about) as file:
        file.write(values)
        for number, name in enumerate(("blue", "green", "red", "nir", "swir"), start=1):
            file.set_band_description(number, name)
    with rasterio.open(tmp_path / "mask.tif", "w", count=1, dtype="uint8", **about) as file:
        file.write(np.pad(np.full((20, 20), 255, np.uint8), 38)[None])
    corners = [[500300, 4499700], [501500, 4499700], [501500, 4498500], [500300, 4499700]]
    areas = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": "EPSG:32636"}},
        "features": [
            {
                "type": "Feature",
                "properties": {"kind": "cloud"},
                "geometry": {"type": "Polygon", "coordinates": [corners]},
            }
        ],
    }
    (tmp_path / "areas.geojson").write_text(json.dumps(areas), "utf-8")
    api.save_context([path], tmp_path / "context.npz")
    return path


def test_no_option_is_forgotten() -> None:
    assert set(SETTERS) == set(CHANGING)


@pytest.mark.slow
@pytest.mark.viewer
@pytest.mark.parametrize("name", CHANGING)
@pytest.mark.ids(
    "nightly",
    "exclude",
    "exclude_values",
    "exclude_bits",
    "white",
    "extent",
    "residual_dtype",
    "precision",
)
def test_what_is_set_in_the_window_comes_back(name: str, panel: Any, scene: Path) -> None:
    panel.viewer.open(scene, plugin="napari-restore")
    # A method for which it means something: one of passes over the whole, and of other precisions.
    is_network = name in ("extent", "residual_dtype", "precision")
    panel.models.choose("hint-small-denoise" if is_network else "dcp")
    setter, value = SETTERS[name]
    setter(panel, scene.parent)
    reading, computing = panel.state.options.reading, panel.state.options.computing
    held = getattr(reading, name, None) or getattr(computing, name, None)
    assert held == value or Path(str(held)).name == value
    area = Area((Region(0, 0, 64, 64),))
    plan = panel.state.request(area).plan(device="cpu")
    line = api.command_of(plan, "out.tif", device="cpu")
    again = plan_of_line(line, pyramid=True)
    task = json.loads(json.dumps(api.portable_task(api.task_of(plan))))
    for other in (again, api.plan_of(task)):
        own = getattr(other.reading, name, None) or getattr(other.computing, name, None)
        assert own == value or Path(str(own)).name == value
        assert other.key == plan.key
