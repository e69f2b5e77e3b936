"""The Fuse tab in the real panel, with its child process."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.utils.notifications import notification_manager
from PIL import Image
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent

import napari_restore as nr
from napari_restore.commands import main
from napari_restore.plugin.tasks.notices import with_labels

pytestmark = pytest.mark.viewer


def names(viewer: Any) -> list[str]:
    return [layer.name for layer in viewer.layers]


@pytest.mark.slow
def test_a_folder_is_fused_live_and_exported(
    panel: Any, tab: Any, fused: Any, qtbot: Any, photos: Path, tmp_path: Path
) -> None:
    variant = fused(lambda: tab.add([str(photos)]))
    assert [tab.group.itemText(n) for n in range(2)] == [
        "a0.jpg … a2.jpg · 3 frames",
        "b0.jpg … b2.jpg · 3 frames",
    ]
    assert panel.state.layer.name == "Bracket a1"
    assert panel.state.method.model == "mertens"
    assert panel.bar.live.isChecked() and panel.bar.isVisibleTo(panel)
    texts = [tab.frames.texts[n].text().splitlines()[:2] for n in range(3)]
    assert texts == [["a0.jpg", "−2.0 EV"], ["a1.jpg", "0 EV"], ["a2.jpg", "+2.0 EV"]]
    paths = [photos / f"a{number}.jpg" for number in range(3)]
    assert np.array_equal(variant.result.read(variant.result.region), np.asarray(nr.fuse(paths)))
    # A slider fuses again.
    variant = fused(lambda: setattr(tab.parameters.rows["contrast"], "value", 0.0))
    assert panel.state.parameters == {"contrast": 0.0}
    # Run, then the command of Export: the same file.
    panel.bar.set_live(False)
    reported: list[Any] = []
    panel.ended.connect(lambda *outcome: reported.append(outcome))
    panel.bar.button.click()
    qtbot.waitUntil(lambda: bool(reported))
    assert reported[0][0] == "done", reported
    export = next(s for s in panel.sections if s.TITLE == "Export")
    export.format.setCurrentIndex(export.format.findText("TIFF"))
    export.bit_depth.setCurrentIndex(export.bit_depth.findData(16))
    result = panel.state.current.result
    saved = result.save(tmp_path / "window.tif", **export.options())
    words = shlex.split(export.command())[1:]
    words[words.index("-o") + 1] = str(tmp_path / "command.tif")
    assert main(words) == 0
    assert (tmp_path / "command.tif").read_bytes() == saved.read_bytes()
    sixteen = nr.open_image(saved).read(result.region)
    assert np.array_equal(sixteen, result.read_16(result.region))
    assert (sixteen % 257 != 0).mean() > 0.5
    with Image.open(saved) as written:
        assert written.getexif().get_ifd(0x8769)[0x829A] == pytest.approx(0.01)


@pytest.mark.slow
def test_the_tab_starts_the_child_process_before_there_are_frames(panel: Any, qtbot: Any) -> None:
    assert panel.runs.worker.process is None
    panel.tabs.choose("Fuse")
    qtbot.waitUntil(lambda: panel.runs.worker.process is not None)


@pytest.mark.slow
def test_a_picture_of_light_is_tone_mapped_as_its_command_does(
    panel: Any, tab: Any, fused: Any, tmp_path: Path
) -> None:
    light = np.random.default_rng(1).uniform(0.5, 1, (60, 80, 3)).astype(np.float32)
    light *= 2 ** np.linspace(-6, 6, 80, dtype=np.float32)[:, None]
    tifffile.imwrite(tmp_path / "light.tif", light, photometric="rgb")
    variant = fused(lambda: tab.add([str(tmp_path / "light.tif")]))
    assert "exposures of it" in tab.message.text()
    assert variant.result.array.dtype == np.uint16
    variant = fused(tab.frames.references[0].click)
    export = next(s for s in panel.sections if s.TITLE == "Export")
    words = shlex.split(export.command())[1:]
    assert "--ev" in words
    words[words.index("-o") + 1] = str(tmp_path / "command.tif")
    assert main(words) == 0
    written = tifffile.imread(tmp_path / "command.tif")
    assert np.array_equal(variant.result.read(variant.result.region), written)


@pytest.mark.slow
def test_light_is_shown_by_a_curve_and_written_as_floats(
    panel: Any, tab: Any, fused: Any, photos: Path, tmp_path: Path
) -> None:
    fused(lambda: tab.add([str(photos / f"a{number}.jpg") for number in range(3)]))
    combo = panel.models.combo
    variant = fused(lambda: combo.setCurrentIndex(combo.findData("radiance")))
    result = variant.result
    assert result.array.dtype == np.float32
    light = result.read(result.region)
    (finest, *_) = variant.layer.data if variant.layer.multiscale else [variant.layer.data]
    shown = np.asarray(finest)[..., :3]
    assert shown.dtype == np.uint8
    expected = result.image.profile.light.shown(light)
    y0, x0, y1, x1 = result.region
    top, left = y0 - variant.shown.box.y0, x0 - variant.shown.box.x0
    there = shown[top : top + y1 - y0, left : left + x1 - x0]
    assert np.array_equal(there, expected)
    export = next(s for s in panel.sections if s.TITLE == "Export")
    words = shlex.split(export.command())[1:]
    words[words.index("-o") + 1] = str(tmp_path / "command.tif")
    assert main(words) == 0
    assert np.array_equal(tifffile.imread(tmp_path / "command.tif"), light)


@pytest.mark.slow
def test_frames_are_left_out_and_another_is_the_reference(
    panel: Any, tab: Any, fused: Any, qtbot: Any, photos: Path
) -> None:
    # No folder: these are one bracket.
    fused(lambda: tab.add([str(photos / f"a{number}.jpg") for number in (2, 0, 1)]))
    layer = panel.state.layer
    first = panel.state.current
    variant = fused(tab.frames.ticks[2].click)
    # The frames that are left: the layer is the same, its live result is another.
    assert panel.state.layer is layer and variant is not first
    assert [frame.name for frame in variant.result.image.frames] == ["a0", "a1"]
    assert tab.frames.texts[2].text().endswith("not used")
    # What the command tells of the bracket stays in the tab.
    notes = tab.controller.chosen.bracket.image.notes
    assert notes and all(with_labels(note) in tab.message.text() for note in notes)
    assert "in place" in tab.frames.texts[0].text()
    with qtbot.waitSignal(tab.controller.busy_changed, check_params_cb=lambda busy: not busy):
        tab.align.click()
    assert "place" not in tab.frames.texts[0].text()
    variant = fused(tab.frames.references[0].click)
    assert panel.state.layer is not layer and panel.state.layer.name == "Bracket a0"
    assert not tab.frames.ticks[0].isEnabled()
    others = variant.result.image.companions
    assert others.reference == 0 and others.exposures == pytest.approx((0, 2))
    # The one before had a live result only.
    assert "Bracket a1" not in [each.name for each in panel.viewer.layers if each.visible]
    assert [panel.models.combo.itemData(n) for n in range(2)] == ["mertens", "radiance"]
    panel.viewer.add_image(np.full((40, 50, 3), 90, np.uint8), name="photo")
    assert panel.state.method.model != "mertens"


@pytest.mark.slow
@pytest.mark.binding
def test_a_run_waits_for_the_frames_of_another_reference(
    panel: Any, tab: Any, fused: Any, qtbot: Any, photos: Path
) -> None:
    fused(lambda: tab.add([str(photos / f"a{number}.jpg") for number in (2, 0, 1)]))
    panel.bar.set_live(False)
    ended: list[Any] = []
    panel.ended.connect(lambda *outcome: ended.append(outcome))
    before = panel.state.layer
    tab.frames.references[0].click()
    panel.bar.button.click()
    assert panel.bar.button.text() == "Run" and "aligned" in panel.bar.message.text()
    qtbot.waitUntil(lambda: bool(ended))
    assert ended.pop()[0] == "done"
    bracket = panel.state.layer
    assert bracket is not before and bracket.name == "Bracket a0"
    assert panel.state.current.source is bracket
    assert panel.state.current.result.image.companions.reference == 0
    # Nor is a photo restored that is chosen meanwhile, or anything where the frames are cleared.
    tab.frames.ticks[1].click()
    panel.bar.button.click()
    panel.viewer.add_image(np.full((40, 50, 3), 90, np.uint8), name="photo")
    with qtbot.waitSignal(tab.controller.busy_changed, check_params_cb=lambda busy: not busy):
        pass
    assert panel.state.layer.name == "photo" and not ended and not panel.state.running
    panel.viewer.layers.selection.active = bracket
    qtbot.waitUntil(lambda: panel.state.layer is bracket)
    tab.frames.ticks[1].click()
    panel.bar.button.click()
    assert panel.bar.button.text() == "Run"
    tab.controller.forget()
    qtbot.wait(300)
    assert panel.state.layer is bracket and not ended and not panel.state.running


@pytest.mark.slow
@pytest.mark.nightly
def test_weights_and_frames_are_layers(
    panel: Any, tab: Any, fused: Any, qtbot: Any, photos: Path
) -> None:
    viewer = panel.viewer
    fused(lambda: tab.add([str(photos)]))
    tab.show_weights.click()
    weights = [f"Weight: a{number}" for number in range(3)]
    qtbot.waitUntil(lambda: [x for x in names(viewer) if x.startswith("Weight")] == weights)
    shares = [np.asarray(viewer.layers[name].data) for name in weights]
    assert np.allclose(np.sum(shares, axis=0), 1)
    extents = [viewer.layers[name].extent.world for name in (*weights, "Bracket a1")]
    assert all(np.allclose(extent, extents[0]) for extent in extents)
    tab.parameters.rows["exposure"].value = 4.0
    qtbot.waitUntil(lambda: not np.allclose(viewer.layers[weights[0]].data, shares[0]))
    tab.show_weights.click()
    assert not any(name.startswith("Weight") for name in names(viewer))
    tab.frames.shows[0].click()
    shown = viewer.layers["Frame: a0"]
    assert panel.image.findData(shown) < 0
    assert np.array_equal(
        np.asarray(shown.data), nr.open_image(photos / "a0.jpg").read((0, 0, 150, 170))
    )
    # Any frame is the left side of Compare.
    compare = next(s for s in panel.sections if s.TITLE == "Compare")
    compare.other.setCurrentIndex(compare.other.findText("Frame: a0"))
    compare.swipe.click()
    qtbot.waitUntil(lambda: "Swipe: left side" in names(viewer))
    covered = np.asarray(viewer.layers["Swipe: left side"].data)
    np.testing.assert_array_equal(covered[:, 10, :3], np.asarray(shown.data)[:, 10])
    viewer.layers.remove(shown)
    assert compare.other.findText("Frame: a0") < 0
    assert not tab.frames.shows[0].isChecked()
    # Another group: its layer, its frames.
    variant = fused(lambda: tab.group.setCurrentIndex(1))
    assert variant.source.name == "Bracket b1"
    panel.image.setCurrentIndex(panel.image.findData(viewer.layers["Bracket a1"]))
    assert tab.group.currentIndex() == 0
    tab.clear.click()
    assert tab.group.count() == 0 and not tab.hint.isHidden()


@pytest.mark.slow
@pytest.mark.nightly
def test_workers_of_a_cluster_fuse(
    panel: Any, tab: Any, fused: Any, finished_run: Any, qtbot: Any, photos: Path
) -> None:
    distributed = pytest.importorskip("distributed")
    fused(lambda: tab.add([str(photos)]))
    panel.bar.set_live(False)
    # Of scope local, and nothing of it is in the store of the live result.
    panel.models.choose("radiance")
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        dashboard_address=":0",
        protocol="tcp",
    ) as own:
        panel.runs.clusters.connect_to(f"insecure+{own.scheduler_address}")
        qtbot.waitUntil(lambda: panel.state.cluster is not None)
        result = finished_run().result
        panel.runs.clusters.disconnect_now()
    assert len(result.record["measured"]["workers"]) == 1
    expected = nr.restore(panel.state.layer.metadata["napari_restore"], "radiance")
    np.testing.assert_array_equal(result.read(result.region), np.asarray(expected))


@pytest.mark.slow
def test_what_cannot_be_fused_is_said(panel: Any, tab: Any, qtbot: Any, photos: Path) -> None:
    with qtbot.waitSignal(tab.controller.failed):
        tab.add([str(photos / "a0.jpg")])
    assert "one frame" in tab.message.text()
    Image.new("RGB", (20, 30)).save(photos / "odd.png")
    with qtbot.waitSignal(tab.controller.failed):
        tab.add([str(photos / name) for name in ("a0.jpg", "a1.jpg", "odd.png")])
    assert "odd has 20 × 30 pixels" in tab.message.text()
    empty = photos / "empty"
    empty.mkdir()
    with qtbot.waitSignal(tab.controller.failed):
        tab.add([str(empty)])
    assert "no image in" in tab.message.text()
    before = list(tab.controller.groups)
    tab.add_layers.click()
    assert notification_manager.records[-1].message.startswith("No image is selected.")
    assert tab.controller.groups == before and names(panel.viewer) == []


@pytest.mark.slow
def test_layers_and_dropped_folders_are_frames(
    panel: Any, tab: Any, fused: Any, qtbot: Any, photos: Path
) -> None:
    viewer = panel.viewer
    for number in range(3):
        viewer.open(photos / f"a{number}.jpg", plugin="napari-restore")
    viewer.layers.select_all()
    variant = fused(tab.add_layers.click)
    assert variant.source.name == "Bracket a1"
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(photos)), QUrl("https://example.org/a.jpg")])
    actions, button = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton
    event = QDropEvent(QPointF(1, 1), actions, data, button, Qt.KeyboardModifier.NoModifier)
    with qtbot.waitSignal(tab.controller.groups_changed):
        tab.dropEvent(event)
    assert event.isAccepted()
    qtbot.waitUntil(lambda: tab.group.count() == 3 and not tab.controller.is_busy)


@pytest.mark.slow
@pytest.mark.parametrize("at_run", [False, True])
@pytest.mark.ids("nightly", "False")
def test_frames_that_change_on_disk_are_read_again(
    panel: Any, tab: Any, fused: Any, qtbot: Any, photos: Path, at_run: bool
) -> None:
    first = fused(lambda: tab.add([str(photos)]))
    region = first.shown.result.region
    before = np.asarray(first.shown.result.read(region))
    layer = panel.state.layer
    path, moved = photos / "a2.jpg", (photos / "a2.jpg").stat().st_mtime_ns + 10**9
    with Image.open(path) as photo:
        pixels, exif = np.asarray(photo), photo.getexif()

    def darken() -> None:
        Image.fromarray(pixels // 2).save(path, exif=exif, quality=95)
        os.utime(path, ns=(moved, moved))
        if at_run:
            # Before the window has heard of it.
            panel.bar.set_live(False)
            panel.bar.button.click()
            assert panel.runs.running is None
            panel.bar.set_live(True)

    told: list[str] = []
    ready = notification_manager.notification_ready
    keep = ready.connect(lambda one: told.append(one.message))
    now = fused(darken)
    ready.disconnect(keep)
    assert any("being read again" in text for text in told) == at_run
    assert any("frames have changed" in text for text in told)
    assert panel.state.layer is layer and names(panel.viewer).count("Bracket a1") == 1
    paths = [photos / f"a{number}.jpg" for number in range(3)]
    found = np.asarray(now.shown.result.read(region))
    np.testing.assert_array_equal(found, np.asarray(nr.fuse(paths)))
    assert (found != before).any()


@pytest.mark.slow
def test_a_bracket_that_is_removed_while_it_is_read_again_stays_away(
    panel: Any, tab: Any, fused: Any, qtbot: Any, photos: Path
) -> None:
    fused(lambda: tab.add([str(photos)]))
    path, viewer = photos / "a2.jpg", panel.viewer
    moved = path.stat().st_mtime_ns + 10**9
    with Image.open(path) as photo:
        Image.fromarray(np.asarray(photo) // 2).save(path, exif=photo.getexif(), quality=95)
    os.utime(path, ns=(moved, moved))
    qtbot.waitUntil(lambda: tab.controller.is_busy)
    viewer.layers.remove(panel.state.layer)
    assert not tab.controller.is_busy
    # Added again it is opened anew.
    now = fused(lambda: tab.add([str(photos)]))
    region = now.shown.result.region
    paths = [photos / f"a{number}.jpg" for number in range(3)]
    np.testing.assert_array_equal(
        np.asarray(now.shown.result.read(region)), np.asarray(nr.fuse(paths))
    )
