"""A file that changes under an open layer is read again, and what is run is of the new one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.plugin.method.test_sensor import choose_sensor, write_scene

from napari_restore.plugin.state.state import image_of, unnamed_image

pytestmark = pytest.mark.viewer


def write(path: Path, light: int, mode: str = "RGB") -> np.ndarray:
    """Write a photo of one colour; a new time also where the clock is coarse."""
    pixels = np.full((60, 90, 3) if mode == "RGB" else (60, 90), light, np.uint8)
    before = path.stat().st_mtime_ns if path.exists() else 0
    Image.fromarray(pixels).save(path)
    if before:
        os.utime(path, ns=(before + 10**9, before + 10**9))
    return pixels


def shown(layer: Any) -> np.ndarray:
    return np.asarray(layer.data[0] if layer.multiscale else layer.data)


@pytest.mark.slow
def test_a_file_written_anew_is_shown_and_restored(
    panel: Any, tmp_path: Path, qtbot: Any, finished_run: Any
):
    path = tmp_path / "photo.png"
    write(path, 40)
    panel.viewer.open(path, plugin="napari-restore")
    (layer,) = panel.viewer.layers
    panel.models.choose("identity")
    assert shown(layer).max() == 40
    with qtbot.waitSignal(panel.disk.reread):
        write(path, 90)
    np.testing.assert_array_equal(shown(layer), np.full((60, 90, 3), 90))
    # At once, before the window has heard of it.
    write(path, 130)
    result = finished_run().result
    assert np.asarray(result.read(result.region)).min() == 130
    assert shown(layer).max() == 130
    # A file that is gone is not another one: what is shown stays.
    path.unlink()
    panel.disk.look()
    assert shown(layer).max() == 130
    # It is still watched.
    with qtbot.waitSignal(panel.disk.reread):
        write(path, 170)
    assert shown(layer).max() == 170


@pytest.mark.slow
def test_a_layer_that_cannot_show_the_new_file_is_replaced(panel: Any, tmp_path: Path, qtbot: Any):
    path = tmp_path / "photo.png"
    write(path, 40)
    panel.viewer.open(path, plugin="napari-restore")
    with qtbot.waitSignal(panel.disk.reread):
        write(path, 90, "L")
    (layer,) = panel.viewer.layers
    assert layer.name == "photo" and not layer.rgb and shown(layer).max() == 90
    assert panel.state.layer is layer
    path.write_bytes(path.read_bytes()[:50])
    panel.bar.button.click()
    # Half a file is no image: nothing is run, least of all the one before.
    assert panel.runs.running is None


@pytest.mark.slow
def test_bands_and_sensor_stay_named(panel: Any, tmp_path: Path, qtbot: Any):
    path = write_scene(tmp_path / "scene.tif", None)
    panel.viewer.open(path, plugin="napari-restore")
    for model in ("identity", "hot"):
        panel.models.choose(model)
    choose_sensor(panel, "Landsat 8 OLI/TIRS")
    layer = panel.state.layer
    assert layer.rgb
    before = path.stat().st_mtime_ns
    with qtbot.waitSignal(panel.disk.reread):
        write_scene(path, None, low=9000)
        os.utime(path, ns=(before + 10**9, before + 10**9))
    image = panel.state.request().image
    assert image.sensor == "landsat8" and image.roles[1:4] == ("blue", "green", "red")
    assert image.read((0, 0, 9, 9))[..., 0].min() >= 9000
    assert unnamed_image(layer).read((0, 0, 9, 9))[..., 0].min() >= 9000
    assert image_of(layer).roles[3] == "red"
