from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.layers import Image as ImageLayer
from points import patience
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QProgressDialog

import napari_restore as nr
from napari_restore import Region
from napari_restore.errors import BadOutput, Cancelled
from napari_restore.plugin import write_layer
from napari_restore.plugin.tasks import waiting_dialog
from napari_restore.questions import Adjustment


@pytest.fixture
def attributes(sample: Path, planned: Any) -> dict[str, Any]:
    """A finished layer's, over a part of the sample."""
    result = nr.start(planned(sample, Region(100, 200, 400, 700))).result()
    return {"name": "x", "metadata": {"napari_restore_result": result}}


def test_the_saved_file_is_the_region_of_the_source(
    attributes: dict[str, Any], sample: Path, tmp_path: Path
):
    target = tmp_path / "Ergebnis größer.tif"
    assert write_layer(str(target), None, attributes) == [str(target)]
    written, source = nr.open_image(target), nr.open_image(sample)
    np.testing.assert_array_equal(written.read((0, 0, 300, 500)), source.read((100, 200, 400, 700)))
    assert written.transform == source.georeference.shifted(200, 100).transform


def test_the_source_is_never_replaced(attributes: dict[str, Any], sample: Path):
    before = sample.read_bytes()
    with pytest.raises(BadOutput):
        write_layer(str(sample), None, attributes)
    assert sample.read_bytes() == before


def test_an_unfinished_result_is_refused_with_the_next_step(tmp_path: Path):
    metadata = {"napari_restore_source": "an id"}
    with pytest.raises(BadOutput, match="Run it to its end"):
        write_layer(str(tmp_path / "a.tif"), np.zeros((3, 3)), {"name": "x", "metadata": metadata})
    assert list(tmp_path.iterdir()) == []


def test_other_layers_are_saved_as_without_us(tmp_path: Path):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    target = str(tmp_path / "a.tif")
    assert write_layer(target, *ImageLayer(pixels).as_layer_data_tuple()[:2]) == [target]
    np.testing.assert_array_equal(tifffile.imread(target), pixels)


def test_other_layers_as_zarr_are_refused(tmp_path: Path):
    with pytest.raises(BadOutput, match=r"as \.zarr"):
        write_layer(str(tmp_path / "a.zarr"), np.zeros((3, 3)), {"name": "x", "metadata": {}})


@pytest.mark.slow
def test_an_adjustment_is_saved_as_it_is_shown(sample: Path, planned: Any, tmp_path: Path):
    made = nr.plan(sample, "dcp", region=Region(0, 0, 200, 300), device="cpu")
    result = nr.start(made).result().with_adjustment(Adjustment(strength=0.6))
    target = tmp_path / "a.png"
    write_layer(str(target), None, {"name": "x", "metadata": {"napari_restore_result": result}})
    written = nr.open_image(target).read((0, 0, 200, 300))
    np.testing.assert_array_equal(written, result.read((0, 0, 200, 300)))


@pytest.mark.viewer
def test_a_long_save_shows_a_dialog_that_can_cancel(
    attributes: dict[str, Any],
    qtbot: Any,
    qapp: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    result = attributes["metadata"]["napari_restore_result"]
    monkeypatch.setattr(waiting_dialog, "PATIENCE", 0)
    seen = threading.Event()
    ticked = []

    def slow(path: Path, *, progress: Any, cancelled: Any, **options: Any) -> Path:
        progress(1, 10)
        assert seen.wait(patience())
        while not cancelled():
            pass
        raise Cancelled("stopped")

    def click() -> None:
        dialog = qapp.activeModalWidget()
        if not isinstance(dialog, QProgressDialog):
            return
        ticked.append(dialog.maximum())
        if dialog.maximum() == 10:
            seen.set()
            timer.stop()
            dialog.canceled.emit()

    monkeypatch.setattr(result, "save", slow)
    timer = QTimer()
    timer.timeout.connect(click)
    timer.start(20)
    with pytest.raises(Cancelled, match=r"a\.tif was not written"):
        write_layer(str(tmp_path / "a.tif"), None, attributes)
    assert ticked[-1] == 10
    assert qapp.activeModalWidget() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.viewer
def test_an_error_of_the_thread_is_the_writers(
    attributes: dict[str, Any], qtbot: Any, tmp_path: Path
):
    with pytest.raises(BadOutput, match="does not exist"):
        write_layer(str(tmp_path / "no" / "a.tif"), None, attributes)
