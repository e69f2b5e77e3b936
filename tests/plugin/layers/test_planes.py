"""A stack in the window: a slider chooses the plane that is shown and restored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.utils.notifications import notification_manager

import napari_restore as nr
from napari_restore import api
from napari_restore.plugin.runs.batch_section import BatchSection
from napari_restore.plugin.state.request import TargetChoice
from napari_restore.plugin.state.state import image_of

pytestmark = pytest.mark.viewer
COUNT = 3


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    pixels = rng.integers(60, 200, (COUNT, 90, 80, 3), np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", pixels, photometric="rgb")
    return tmp_path / "stack.tif"


def opened(panel: Any, path: Path) -> Any:
    panel.viewer.open(path, plugin="napari-restore")
    (layer,) = panel.viewer.layers
    return layer


def show(panel: Any, qtbot: Any, number: int) -> None:
    with qtbot.waitSignal(panel.disk.reread):
        panel.form.plane.slider.setValue(number)


@pytest.mark.slow
def test_the_plane_that_is_shown_is_restored(
    panel: Any, stack: Path, qtbot: Any, finished_run: Any, tmp_path: Path
):
    layer = opened(panel, stack)
    assert any("3 planes" in record.message for record in notification_manager.records)
    chooser = panel.form.plane
    assert not chooser.isHidden() and "Plane 0 of 0 to 2 (page 0)" in chooser.text.text()
    pixels = tifffile.imread(stack)
    panel.models.choose("dcp")
    panel.target.choose(TargetChoice.WHOLE)
    show(panel, qtbot, 2)
    assert "(page 2)" in chooser.text.text() and chooser.slider.value() == 2
    np.testing.assert_array_equal(np.asarray(layer.data), pixels[2])
    assert image_of(layer).plane == 2 and layer in panel.viewer.layers
    variant = finished_run()
    alone = nr.restore(nr.open_image(stack, plane=2), "dcp", progress=False)
    assert np.array_equal(np.asarray(variant.result), np.asarray(alone))
    assert "--plane 2" in api.command_of(variant.result.plan, tmp_path / "out.tif")
    # A result lies over the plane that it was made of, and no other.
    show(panel, qtbot, 0)
    assert not variant.layer.visible
    show(panel, qtbot, 2)
    assert variant.layer.visible


def test_other_images_have_no_slider(panel: Any):
    panel.viewer.add_image(np.zeros((40, 40), np.uint8))
    assert panel.form.plane.isHidden()
    batch = next(x for x in panel.sections if isinstance(x, BatchSection))
    assert batch.planes.isHidden()


@pytest.mark.slow
def test_all_planes_are_restored_as_by_the_command(
    panel: Any, stack: Path, qtbot: Any, tmp_path: Path
):
    from napari_restore.commands import main

    opened(panel, stack)
    panel.models.choose("dcp")
    batch = next(x for x in panel.sections if isinstance(x, BatchSection))
    assert not batch.planes.isHidden()
    batch.restore_planes(str(tmp_path / "window.tif"))
    qtbot.waitUntil(lambda: batch.folder is None and not panel.state.running)
    assert batch.message.text().startswith("3 of 3 images restored"), batch.message.text()
    words = ["restore", str(stack), "-o", str(tmp_path / "command.tif"), "--model", "dcp"]
    assert main([*words, "--plane", "all"]) == 0
    ours, its = (tifffile.imread(tmp_path / f"{name}.tif") for name in ("window", "command"))
    assert np.array_equal(ours, its) and ours.shape == (COUNT, 90, 80, 3)
