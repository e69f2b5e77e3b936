"""Several layers and whole folders, through the real panel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager

from napari_restore import Region
from napari_restore.plugin.areas.drawing_controller import Tool
from napari_restore.plugin.runs.batch_section import BatchSection, folder_arguments
from napari_restore.plugin.state.request import NamedBands, TargetChoice
from napari_restore.plugin.state.state import NAMED_AS

pytestmark = pytest.mark.viewer
CORNERS = np.array([(0, 0), (0, 1), (1, 1), (1, 0)], float)


@pytest.fixture
def batch(panel: Any) -> BatchSection:
    return next(x for x in panel.sections if isinstance(x, BatchSection))


def choose(panel: Any, model: str) -> None:
    panel.models.combo.setCurrentIndex(panel.models.combo.findData(model))


def add(panel: Any, pixels: np.ndarray, **how: Any) -> Any:
    return panel.viewer.add_image(pixels, **how)


def write_tiff(path: Path, pixels: np.ndarray) -> None:
    import rasterio
    from rasterio.transform import from_origin

    height, width, bands = pixels.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=bands,
        dtype=pixels.dtype,
        crs="EPSG:32633",
        transform=from_origin(500_000, 40_000, 2, 2),
        photometric="RGB",
    ) as dataset:
        dataset.write(pixels.transpose(2, 0, 1))


def settle(batch: BatchSection, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: batch.queue is None and batch.folder is None)


def queued_beside_another(panel: Any, batch: Any, colours: np.ndarray) -> tuple[Any, Any, Any]:
    """A layer and a request for a run of its own, and the two layers that were queued just now."""
    other = add(panel, np.tile(colours, (2, 2, 1)), name="other")
    choose(panel, "dcp")
    panel.target.choose(TargetChoice.WHOLE)
    request = panel.state.request()
    choose(panel, "identity")
    layers = [add(panel, colours[:200, :200], name=name) for name in "ab"]
    panel.viewer.layers.selection = set(layers)
    batch.layers.click()
    return other, request, layers


@pytest.mark.slow
def test_two_selected_images_are_needed(panel: Any, batch: Any, colours: np.ndarray):
    assert not batch.layers.isEnabled()
    layers = [add(panel, colours[:90, :80], name=name) for name in "ab"]
    panel.viewer.layers.selection = set(layers[:1])
    assert not batch.layers.isEnabled() and "Select two" in batch.layers.text()
    panel.viewer.layers.selection = set(layers)
    assert batch.layers.isEnabled() and "2 selected" in batch.layers.text()
    panel.viewer.layers.remove(layers[1])
    assert not batch.layers.isEnabled()


@pytest.mark.slow
def test_selected_layers_are_restored_one_after_another(
    panel: Any, batch: Any, qtbot: Any, colours: np.ndarray
):
    layers = [add(panel, colours[:300, : 200 + 50 * n], name=f"photo {n}") for n in range(3)]
    choose(panel, "identity")
    panel.target.choose(TargetChoice.WHOLE)
    panel.viewer.layers.selection = {layers[0], layers[2]}
    batch.layers.click()
    assert not batch.cancel.isHidden() and not batch.layers.isEnabled()
    settle(batch, qtbot)
    assert [v.source for v in panel.state.variants] == [layers[0], layers[2]]
    for variant in panel.state.variants:
        assert variant.record["status"] == "done"
        np.testing.assert_array_equal(np.asarray(variant.result.array), variant.source.data)
        assert variant.name == f"Unchanged (whole image) – {variant.source.name}"
    assert batch.message.text() == "2 of 2 images restored."
    assert batch.cancel.isHidden()


@pytest.mark.nightly
def test_areas_are_those_that_lie_over_each_image(
    panel: Any, batch: Any, qtbot: Any, colours: np.ndarray
):
    left = add(panel, colours[:300, :200], name="left")
    right = add(panel, colours[:300, :200], name="right", translate=(0, 150))
    panel.image.setCurrentIndex(panel.image.findData(left))
    choose(panel, "identity")
    panel.target.choose(TargetChoice.DRAWN)
    panel.target.tools[Tool.RECTANGLE].click()
    areas = panel.viewer.layers["Areas to restore"]
    areas.add_rectangles(CORNERS * (100, 100) + (50, 100) - 0.5)
    qtbot.waitUntil(lambda: panel.state.area is not None)
    panel.viewer.layers.selection = {left, right}
    batch.layers.click()
    settle(batch, qtbot)
    found = {v.source.name: v.request.area.targets for v in panel.state.variants}
    assert found == {
        "left": (Region(50, 100, 150, 200),),
        "right": (Region(50, 0, 150, 50),),
    }


@pytest.mark.nightly
def test_failures_are_listed_at_the_end_and_stop_nothing(
    panel: Any, batch: Any, qtbot: Any, colours: np.ndarray
):
    infrared = add(panel, colours[:200, :200, 0], name="infrared")
    infrared.metadata[NAMED_AS] = NamedBands("nir=1")
    photo = add(panel, colours[:200, :200], name="photo")
    choose(panel, "hot")
    panel.target.choose(TargetChoice.WHOLE)
    panel.viewer.layers.selection = {infrared, photo}
    panel.image.setCurrentIndex(panel.image.findData(photo))
    panel.viewer.layers.selection = {infrared, photo}
    choose(panel, "htm")
    batch.layers.click()
    settle(batch, qtbot)
    message = batch.message.text().splitlines()
    assert message[0] == "1 of 2 images restored."
    assert len(message) == 2 and message[1].startswith("infrared: ")
    assert [v.source for v in panel.state.variants] == [photo]


@pytest.mark.slow
def test_cancel_stops_the_rest(panel: Any, batch: Any, qtbot: Any, colours: np.ndarray):
    layers = [add(panel, np.tile(colours, (2, 2, 1)), name=name) for name in "ab"]
    choose(panel, "dcp")
    panel.target.choose(TargetChoice.WHOLE)
    panel.advanced.tile.setValue(128)
    panel.viewer.layers.selection = set(layers)
    batch.layers.click()
    qtbot.waitUntil(lambda: panel.runs.running is not None)
    batch.cancel.click()
    settle(batch, qtbot)
    qtbot.waitUntil(lambda: panel.runs.running is None)
    assert batch.message.text().startswith("Cancelled. 0 of 2")
    assert {v.source for v in panel.state.variants} <= {layers[0]}


@pytest.mark.slow
@pytest.mark.parametrize("status", ["done", pytest.param("cancelled", marks=pytest.mark.slow)])
@pytest.mark.ids("nightly", "done")
def test_the_end_of_another_run_is_not_the_queues(
    panel: Any, batch: Any, qtbot: Any, colours: np.ndarray, status: str
):
    other, request, layers = queued_beside_another(panel, batch, colours)
    # The first layer's turn has come, its area is being found; another run is quicker.
    panel.runs.start(request, other, "Other", "again")
    if status == "cancelled":
        panel.runs.cancel()
    settle(batch, qtbot)
    assert batch.message.text() == "2 of 2 images restored."
    sources = [v.source for v in panel.state.variants if v.title != "Other"]
    assert sources == layers


@pytest.mark.slow
def test_stopping_the_queue_leaves_another_run_alone(
    panel: Any, batch: Any, qtbot: Any, colours: np.ndarray
):
    layers = [add(panel, colours[:200, :200], name=name) for name in "ab"]
    choose(panel, "identity")
    panel.target.choose(TargetChoice.WHOLE)
    request = panel.state.request()
    panel.viewer.layers.selection = set(layers)
    batch.layers.click()
    ended: list[Any] = []
    panel.ended.connect(lambda status, outcome: ended.append(status))
    panel.runs.start(request, layers[0], "Other", "again")
    batch.cancel.click()
    assert batch.queue is None and batch.message.text().startswith("Cancelled. 0 of 2")
    qtbot.waitUntil(lambda: bool(ended))
    assert ended == ["done"]


@pytest.mark.nightly
def test_layers_wait_for_what_is_excluded(panel: Any, batch: Any, qtbot: Any, colours: np.ndarray):
    layers = [add(panel, colours[:300, :300], name=name) for name in "ab"]
    choose(panel, "identity")
    panel.target.choose(TargetChoice.WHOLE)
    border = np.zeros((300, 300), np.uint8)
    border[:20] = 1
    panel.exclude.choose(panel.viewer.add_labels(border, name="border"))
    panel.viewer.layers.selection = set(layers)
    batch.layers.click()
    assert batch.queue is None and "excluded" in batch.message.text()
    qtbot.waitUntil(lambda: batch.queue is not None)
    settle(batch, qtbot)
    assert [str(v.request.options.reading.exclude)[-4:] for v in panel.state.variants] == [
        ".tif",
        ".tif",
    ]


@pytest.mark.slow
def test_layers_do_not_start_without_what_is_excluded(
    panel: Any, batch: Any, qtbot: Any, colours: np.ndarray
):
    layers = [add(panel, colours[:300, :300], name=name) for name in "ab"]
    choose(panel, "identity")
    panel.target.choose(TargetChoice.WHOLE)
    panel.exclude.choose(panel.viewer.add_labels(np.zeros((300, 300), np.uint8), name="empty"))
    panel.viewer.layers.selection = set(layers)
    batch.layers.click()
    assert panel.state.exclusion.pending
    qtbot.waitUntil(lambda: not panel.state.exclusion.pending)
    assert batch.queue is None and not panel.state.running
    assert batch.message.text().startswith("Nothing is excluded: ")
    panel.exclude.choose(None)
    assert batch.queue is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "place", [pytest.param(0, id="first"), pytest.param(2, id="last", marks=pytest.mark.slow)]
)
@pytest.mark.ids("nightly", "last")
def test_a_layer_removed_in_its_run_stops_no_other(
    panel: Any, batch: Any, qtbot: Any, colours: np.ndarray, place: int
):
    layers = [add(panel, colours[:200, :200], name=name) for name in "abc"]
    removed = layers[place]
    removed.data = np.tile(colours, (2, 2, 1))
    choose(panel, "dcp")
    panel.target.choose(TargetChoice.WHOLE)
    panel.advanced.tile.setValue(256)
    panel.viewer.layers.selection = set(layers)
    batch.layers.click()
    qtbot.waitUntil(lambda: panel.runs.running is not None and panel.runs.running.source is removed)
    panel.viewer.layers.remove(removed)
    settle(batch, qtbot)
    message = batch.message.text().splitlines()
    assert message[0] == "2 of 3 images restored."
    assert message[1:] == [f"{removed.name}: {removed.name} was removed. Open it again."]
    done = [v.source for v in panel.state.variants if v.source is not removed]
    assert done == [layer for layer in layers if layer is not removed]


@pytest.mark.slow
def test_cancel_counts_even_if_the_layer_goes_too(
    panel: Any, batch: Any, qtbot: Any, colours: np.ndarray
):
    layers = [add(panel, np.tile(colours, (2, 2, 1)), name=name) for name in "ab"]
    choose(panel, "dcp")
    panel.target.choose(TargetChoice.WHOLE)
    panel.advanced.tile.setValue(128)
    panel.viewer.layers.selection = set(layers)
    batch.layers.click()
    qtbot.waitUntil(lambda: panel.runs.running is not None)
    batch.cancel.click()
    panel.viewer.layers.remove(layers[0])
    settle(batch, qtbot)
    assert batch.message.text().startswith("Cancelled. 0 of 2")


@pytest.mark.slow
def test_a_layer_removed_before_its_turn_is_reported(
    panel: Any, batch: Any, qtbot: Any, colours: np.ndarray
):
    other, request, layers = queued_beside_another(panel, batch, colours)
    panel.runs.start(request, other, "Other", "again")
    # Its area is known, but the other run is still under way.
    qtbot.waitUntil(lambda: batch.queue._next is not None)
    assert panel.runs.running is not None
    panel.viewer.layers.remove(layers[0])
    settle(batch, qtbot)
    assert batch.message.text().splitlines() == [
        "1 of 2 images restored.",
        "a: a was removed. Open it again.",
    ]
    # Below what scrolls, too.
    assert panel.bar.message.text() == batch.message.text()
    assert [v.source for v in panel.state.variants if v.title != "Other"] == layers[1:]


@pytest.fixture
def folder(tmp_path: Path, colours: np.ndarray) -> Path:
    """Two images and one that is none."""
    source = tmp_path / "hazy"
    source.mkdir()
    write_tiff(source / "a.tif", colours[:200, :300])
    write_tiff(source / "c.tif", colours[200:400, :300])
    (source / "b.tif").write_bytes(b"II*\0nothing")
    return source


@pytest.mark.slow
@pytest.mark.nightly
def test_a_folder_is_restored_as_the_command_does(
    panel: Any, batch: Any, qtbot: Any, folder: Path, tmp_path: Path
):
    from napari_restore.commands import main

    choose(panel, "dcp")
    panel.parameters.rows["omega"].value = 0.6
    batch.source.setText(str(folder))
    assert not batch.start_folder.isEnabled()
    batch.target.setText(str(tmp_path / "window"))
    batch.start_folder.click()
    assert not batch.progress.isHidden() and not batch.start_folder.isEnabled()
    seen: list[str] = []
    batch.folder.image_started.connect(lambda name, n, of: seen.append(f"{n}/{of} {name}"))
    settle(batch, qtbot)
    assert seen == ["1/3 a.tif", "2/3 b.tif", "3/3 c.tif"]
    message = batch.message.text().splitlines()
    assert message[0] == f"2 of 3 images restored in {tmp_path / 'window'}."
    assert len(message) == 2 and message[1].startswith("b.tif: ")
    assert panel.bar.message.text() == batch.message.text()
    words = ["restore", str(folder), "-o", str(tmp_path / "command"), "--model", "dcp"]
    main([*words, "--set", "omega=0.6"])
    for name in ("a_clear.tif", "c_clear.tif"):
        mine, its = (tmp_path / where / name for where in ("window", "command"))
        assert mine.read_bytes() == its.read_bytes()


@pytest.mark.slow
def test_a_folder_can_be_cancelled(
    panel: Any, batch: Any, qtbot: Any, folder: Path, tmp_path: Path
):
    choose(panel, "dcp")
    batch.source.setText(str(folder))
    batch.target.setText(str(tmp_path / "out"))
    batch.start_folder.click()
    qtbot.waitUntil(lambda: panel.runs.worker.process is not None)
    child = panel.runs.worker.process
    batch.cancel.click()
    settle(batch, qtbot)
    assert batch.message.text().startswith("Cancelled.")
    assert batch.start_folder.isEnabled()
    # It stopped by itself, and is there for the next run.
    assert child.poll() is None


def test_closing_the_panel_ends_the_child(
    panel: Any, batch: Any, qtbot: Any, folder: Path, tmp_path: Path
):
    batch.source.setText(str(folder))
    batch.target.setText(str(tmp_path / "out"))
    batch.start_folder.click()
    run = batch.folder
    qtbot.waitUntil(lambda: panel.runs.worker.process is not None)
    child = panel.runs.worker.process
    panel.close()
    qtbot.waitUntil(lambda: child.poll() is not None)
    qtbot.waitUntil(lambda: run.is_over)


@pytest.mark.slow
def test_a_folder_is_restored_in_the_child_of_all_runs(
    panel: Any, batch: Any, qtbot: Any, folder: Path, tmp_path: Path
):
    add(panel, np.zeros((90, 80, 3), np.uint8), name="photo")
    choose(panel, "identity")
    panel.target.choose(TargetChoice.WHOLE)
    qtbot.waitUntil(lambda: panel.runs.worker.process is not None)
    child = panel.runs.worker.process
    batch.source.setText(str(folder))
    batch.target.setText(str(tmp_path / "out"))
    batch.start_folder.click()
    assert panel.state.running
    shown: list[str] = []
    notification_manager.notification_ready.connect(lambda message: shown.append(message.message))
    panel.runs.run()
    assert panel.runs.running is None and "A run is going on" in shown[0]
    settle(batch, qtbot)
    assert not panel.state.running
    # One child does both: libraries and memory are there once.
    assert panel.runs.worker.process is child and child.poll() is None


@pytest.mark.slow
def test_a_folder_waits_for_what_is_excluded(
    panel: Any, batch: Any, qtbot: Any, folder: Path, tmp_path: Path, colours: np.ndarray
):
    add(panel, colours[:200, :300], name="photo")
    choose(panel, "identity")
    panel.exclude.choose(panel.viewer.add_labels(np.ones((200, 300), np.uint8), name="border"))
    batch.source.setText(str(folder))
    batch.target.setText(str(tmp_path / "out"))
    batch.start_folder.click()
    assert batch.folder is None and "excluded" in batch.message.text()
    qtbot.waitUntil(lambda: batch.folder is not None)
    assert panel.state.options.reading.exclude in batch.folder.arguments
    batch.cancel.click()
    settle(batch, qtbot)


@pytest.mark.slow
def test_a_folder_that_cannot_be_restored_is_explained(
    panel: Any, batch: Any, qtbot: Any, tmp_path: Path
):
    (tmp_path / "empty").mkdir()
    batch.source.setText(str(tmp_path / "empty"))
    batch.target.setText(str(tmp_path / "out"))
    batch.start_folder.click()
    settle(batch, qtbot)
    assert batch.message.text().startswith(f"There is no image in {tmp_path / 'empty'}.")
    assert not panel.state.running and not (tmp_path / "out").exists()


def test_a_missing_folder_is_explained(panel: Any, batch: Any, tmp_path: Path):
    shown: list[str] = []
    notification_manager.notification_ready.connect(lambda message: shown.append(message.message))
    batch.source.setText(str(tmp_path / "nowhere"))
    batch.target.setText(str(tmp_path))
    batch.start_folder.click()
    assert batch.folder is None
    assert len(shown) == 1 and "is no folder. Choose" in shown[0]


def test_the_arguments_carry_the_settings(panel: Any, folder: Path):
    state = panel.state
    choose(panel, "dcp")
    state.memory_gib = 1.5
    state.set_options(tile=512, exclude="clouds.geojson")
    words = folder_arguments(state, str(folder), str(folder / "out"))
    line = " ".join(words)
    assert line.startswith(f"restore {folder} -o ")
    assert "--model dcp" in line and "--tile 512" in line and f"--memory {3 * 2**29}" in line
    assert "clouds.geojson" in line
