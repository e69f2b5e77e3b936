"""Results that need levels the source does not have: the window never waits for their pixels."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Image as ImageLayer

import napari_restore as nr
from napari_restore import Region, api
from napari_restore.plugin.layers.growth import Growth
from napari_restore.plugin.layers.result_layer import ResultLayer
from napari_restore.questions import Adjustment

BOUND = 2**22
"""Pixels of the source that the window may wait for."""
PLAIN = Adjustment()
HALF = Adjustment(strength=0.5)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """3000 × 3100 pixels on a map, tiled, without overviews."""
    import rasterio

    path = tmp_path / "scene.tif"
    y, x = np.mgrid[:3000, :3100]
    pixels = np.stack([y % 251, x % 241, (y + x) % 239]).astype(np.uint8)
    place = {"crs": "EPSG:32633", "transform": rasterio.transform.from_origin(5e5, 5e6, 0.5, 0.5)}
    size = {"height": 3000, "width": 3100, "count": 3, "dtype": "uint8"}
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "photometric": "rgb"}
    with rasterio.open(path, "w", driver="GTiff", **size, **tiles, **place) as file:
        file.write(pixels)
    return path


@pytest.fixture
def mask(scene: Path) -> str:
    """Most of the scene, drawn."""
    ring = [(9, 9), (3000, 9), (3000, 2900), (9, 2900), (9, 9)]
    return str(api.mask_of_polygons(scene, [[ring]]))


@pytest.fixture
def counted(scene: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pixels of the file for which the window waited."""
    reader = type(api.open_image(scene).reader)
    found: list[int] = []
    before = reader.read_chunk

    def counting(self: Any, level: int, row: int, column: int) -> Any:
        pixels = before(self, level, row, column)
        # napari reads on dask's threads and waits for them; these it does not wait for.
        if not threading.current_thread().name.startswith(("pyramid", "overviews")):
            found.append(pixels.shape[0] * pixels.shape[1])
        return pixels

    monkeypatch.setattr(reader, "read_chunk", counting)
    return found


@pytest.fixture
def kept(scene: Path, counted: list[int]) -> Any:
    """Makes a result of the scene that lies in the cache, opened as a later window does."""

    def kept(adjustment: Adjustment = PLAIN, **options: Any) -> Any:
        options |= adjustment.to_dict()
        planned = api.plan(scene, "identity", pyramid=True, device="cpu", tile=1024, **options)
        result = api.start(planned).result()
        task = api.task_of(result.plan)
        api.keep_result(result.store.path, task, "earlier", "Unchanged", result.record)
        (found,) = api.kept_results(scene)
        again = api.result_of_kept(found, scene)
        counted.clear()
        return again

    return kept


def source_of(result: Any) -> ImageLayer:
    return ImageLayer(np.zeros((*result.image.shape[:2], 3), np.uint8), rgb=True)


def earlier(result: Any) -> ResultLayer:
    """The layer of an earlier result, made as the panel does."""
    shown = ResultLayer(result, source_of(result), "earlier")
    shown.mark_all([Region(*line["region"]) for line in result.store.journal])
    shown.finish(result)
    return shown


def look_at(shown: ResultLayer) -> list[np.ndarray]:
    return [np.asarray(level) for level in shown.layer.data]


def check(shown: ResultLayer) -> None:
    """Every level shows what `Result.read` gives."""
    for level, pixels in enumerate(look_at(shown)):
        opaque = pixels[..., 3] == 255
        assert opaque.mean() > 0.9
        read = shown.result.read_landed((0, 0, *pixels.shape[:2]), level)
        np.testing.assert_array_equal(pixels[opaque][:, :3], read[opaque])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["adjusted", pytest.param("masked", marks=pytest.mark.slow)])
@pytest.mark.ids("nightly", "adjusted", "masked")
def test_an_earlier_result_is_clear_until_levels_are_made_beside(
    kept: Any, mask: str, counted: list[int], qtbot: Any, how: str
):
    result = kept(HALF) if how == "adjusted" else kept(mask=mask)
    assert not result.is_affordable(3)
    shown = earlier(result)
    assert sum(counted) <= BOUND
    drawn = []
    shown.layer.events.set_data.connect(lambda event: drawn.append(True))
    assert not np.asarray(shown.layer.data[-1]).any()
    qtbot.waitUntil(lambda: bool(drawn))
    assert sum(counted) <= BOUND
    assert result.is_affordable(3)
    check(shown)


@pytest.mark.nightly
def test_levels_that_lie_in_the_cache_are_used_at_once(kept: Any, scene: Path, counted: list[int]):
    nr.open_image(scene).build_pyramid()
    shown = earlier(kept(HALF))
    assert (np.asarray(shown.layer.data[-1])[..., 3] == 255).all()
    assert counted == []
    check(shown)


@pytest.mark.slow
@pytest.mark.nightly
def test_another_adjustment_follows_and_the_window_does_not_wait(
    kept: Any, counted: list[int], qtbot: Any
):
    shown = earlier(kept())
    assert counted == []
    check(shown)
    before = np.array(shown.layer.data[-1])
    shown.adjust(Adjustment(strength=1.5))
    assert sum(counted) <= BOUND
    # What was shown stays until what is meant can be shown.
    np.testing.assert_array_equal(np.asarray(shown.layer.data[-1]), before)
    qtbot.waitUntil(lambda: shown.result.is_affordable(3))
    qtbot.waitUntil(lambda: shown._overview is None)
    assert sum(counted) <= BOUND
    check(shown)


@pytest.mark.slow
def test_after_a_failure_the_next_adjustment_tries_again(
    kept: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
):
    result = kept(HALF)
    started: list[Growth] = []
    monkeypatch.setattr(Growth, "start", lambda growth: started.append(growth))
    shown = earlier(result)
    assert len(started) == 1
    started[0]._on_chunk(True)
    qtbot.waitUntil(lambda: shown._overview is None)
    assert not np.asarray(shown.layer.data[-1]).any()
    shown.adjust(Adjustment(strength=0.25))
    assert len(started) == 2


@pytest.mark.slow
@pytest.mark.nightly
def test_tiles_of_a_masked_run_come_without_waiting(
    kept: Any, mask: str, counted: list[int], qtbot: Any
):
    result = kept(mask=mask)
    shown = ResultLayer(result, source_of(result), "result")
    for line in result.store.journal:
        shown.mark(Region(*line["region"]))
    shown.fill()
    assert sum(counted) <= BOUND
    qtbot.waitUntil(lambda: shown._overview is None)
    assert sum(counted) <= BOUND
    check(shown)
