from __future__ import annotations

import threading
from collections.abc import Iterator
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
from napari_restore.plugin import RestorePanel, write_layer
from napari_restore.plugin.results import save_dialog as _save_dialog
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


@pytest.fixture
def found_first(make_napari_viewer: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A window, its plugins in an order: `request.param` is the one whose writers npe2 asks last."""
    from npe2 import PluginManager

    viewer, manager = make_napari_viewer(), PluginManager.instance()
    before = list(manager._contrib._writers)
    manager._contrib._writers.sort(key=lambda each: each[-1].plugin_name == request.param)
    yield viewer
    manager._contrib._writers[:] = before


@pytest.mark.viewer
@pytest.mark.parametrize("found_first", ["napari-restore", "napari"], indirect=True)
@pytest.mark.slow
@pytest.mark.ids("nightly", "napari")
def test_the_first_file_type_of_the_dialog_saves_a_result(
    found_first: Any, attributes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from napari.settings import get_settings

    RestorePanel(found_first)
    levels = [np.zeros((300, 500, 3), np.uint8), np.zeros((150, 250, 3), np.uint8)]
    layer = ImageLayer(levels, name="x", metadata=attributes["metadata"])
    found_first.add_layer(layer)
    offered = []

    def choose(*_: Any, filter: str, **__: Any) -> tuple[str, str]:
        offered.extend(filter.split(";;"))
        return str(tmp_path / "dialog.tif"), offered[0]

    monkeypatch.setattr("qtpy.QtWidgets.QFileDialog.getSaveFileName", choose)
    found_first.window._qt_viewer._save_layers_dialog(selected=True)
    found_first.layers.save(str(tmp_path / "script.tif"), selected=True)
    result = attributes["metadata"]["napari_restore_result"]
    expected = result.save(tmp_path / "expected.tif").read_bytes()
    for name in ("dialog.tif", "script.tif"):
        assert (tmp_path / name).read_bytes() == expected
    assert offered[0].startswith("Restore Restored image") and len(offered) > 1
    # napari's own are there as before, by its settings, too.
    assert not get_settings().plugins.disabled_plugins
    plain = ImageLayer(np.zeros((3, 4), np.uint8))
    assert found_first.layers.__class__([plain]).save(str(tmp_path / "plain.bmp"))


def test_other_layers_go_to_the_plugin_that_writes_them(tmp_path: Path):
    from npe2 import DynamicPlugin

    attributes = {"name": "x", "metadata": {}}
    with DynamicPlugin("of-others") as others:
        saved = []

        @others.contribute.writer(layer_types=["image"], filename_extensions=[".zarr"])
        def write(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
            saved.append(path)
            return [path]

        @others.contribute.writer(layer_types=["image*", "labels*"], filename_extensions=[".webp"])
        def write_all(path: str, layers: list[Any]) -> list[str]:
            ((data, given, kind),) = layers
            saved.append((data.shape, given, kind))
            return [path]

        @others.contribute.writer(layer_types=["image+"], filename_extensions=[".ome.tif"])
        def write_ome(path: str, layers: list[Any]) -> list[str]:
            saved.append("OME")
            return [path]

        for name in ("a.zarr", "a.webp", "a.ome.TIF"):
            target = str(tmp_path / name)
            assert write_layer(target, np.zeros((3, 3)), attributes) == [target]
        assert saved == [str(tmp_path / "a.zarr"), ((3, 3), attributes, "image"), "OME"]


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
    monkeypatch.setattr(_save_dialog, "PATIENCE_MS", 0)
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
