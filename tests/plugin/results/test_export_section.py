"""What is saved is what is shown, from the panel and by the copied command, byte for byte."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from napari.utils.notifications import notification_manager
from PIL import Image as Picture
from qtpy.QtWidgets import QApplication
from tests.support import scaling_networks

import napari_restore as nr
from napari_restore.commands import main
from napari_restore.errors import Cancelled
from napari_restore.images import cache_dir
from napari_restore.plugin.method.model_chooser import ModelChoice
from napari_restore.plugin.results.earlier_results_view import record_of
from napari_restore.plugin.results.export_section import FORMATS, ExportSection
from napari_restore.plugin.state.request import TargetChoice
from napari_restore.questions import Adjustment

pytestmark = pytest.mark.viewer


@pytest.fixture
def section(panel: Any) -> ExportSection:
    (found,) = [one for one in panel.sections if isinstance(one, ExportSection)]
    return found


@pytest.fixture
def result(panel: Any, sample: Path, finished_run: Any) -> Any:
    """A small part of the sample, restored."""
    panel.viewer.open(sample, plugin="napari-restore")
    panel.viewer.scene.camera.zoom *= 8
    panel.models.choose("dcp")
    return finished_run()


def exported(
    section: ExportSection, qtbot: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, Any]:
    """Click Export, choose `path`, wait for the end."""
    monkeypatch.setattr(section, "ask_path", lambda proposed: path)
    with qtbot.waitSignal(section.ended) as reported:
        section.export.click()
    return reported.args[0], reported.args[1]


def format_named(section: ExportSection, title: str) -> None:
    section.format.setCurrentIndex(section.format.findText(title))


def pixels(path: Path) -> np.ndarray:
    image = nr.open_image(path)
    return image.read((0, 0, image.height, image.width))


def error_text(line: str, output: Path) -> list[str]:
    """The words of a copied line as a shell sees them, but writing to `output`."""
    program, *words = shlex.split(line)
    assert program == "napari-restore"
    words[words.index("-o") + 1] = str(output)
    return words


@pytest.mark.slow
@pytest.mark.nightly
def test_a_result_of_another_size_keeps_its_place(
    panel: Any,
    section: ExportSection,
    qtbot: Any,
    sample: Path,
    tmp_path: Path,
    finished_run: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = Path(scaling_networks.__file__).read_text("utf-8")
    (tmp_path / "net.py").write_text(f"{code}\n\ndef make():\n    return enlarging(4)\n", "utf-8")
    name = f"{tmp_path / 'net.py'}:make"
    part = tmp_path / "part.tif"
    with rasterio.open(sample) as file:
        window = rasterio.windows.Window(130, 70, 240, 180)
        about = {**file.profile, "width": 240, "height": 180, "tiled": False}
        about["transform"] = file.window_transform(window)
        with rasterio.open(part, "w", **about) as cut:
            cut.write(file.read(window=window))
    panel.viewer.open(part, plugin="napari-restore")
    panel.models.add(ModelChoice(nr.load_model(name, trust=True).card, name, trust=True))
    panel.target.choose(TargetChoice.WHOLE)
    finished_run()
    format_named(section, "GeoTIFF")
    status, saved = exported(section, qtbot, tmp_path / "four.tif", monkeypatch)
    assert status == "done", saved
    with rasterio.open(tmp_path / "four.tif") as four, rasterio.open(part) as one:
        assert (four.width, four.height) == (4 * one.width, 4 * one.height)
        assert four.transform == one.transform * one.transform.scale(0.25)
        assert (four.crs, four.bounds, four.nodata) == (one.crs, one.bounds, one.nodata)
        whole = nr.restore(part, nr.load_model(name, trust=True), progress=False)
        expected = np.moveaxis(np.asarray(whole), 2, 0)
        np.testing.assert_array_equal(four.read()[: len(expected)], expected)


@pytest.mark.nightly
def test_the_copied_command_writes_the_same_bytes_as_the_panel(
    panel: Any,
    section: ExportSection,
    qtbot: Any,
    sample: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    finished_run: Any,
):
    panel.viewer.open(sample, plugin="napari-restore")
    source = panel.viewer.layers[0]
    panel.models.choose("dcp")
    panel.parameters.set_value("omega", 0.9)
    panel.target.choose(TargetChoice.DRAWN)
    panel.target.tools[next(iter(panel.target.tools))].click()
    shapes = panel.viewer.layers["Areas to restore"]
    corners = np.array([(300, 400), (320, 900), (760, 830), (610, 380)], float)
    ring = np.array([shapes.world_to_data(source.data_to_world(corner)) for corner in corners])
    shapes.add([ring], shape_type="polygon")
    panel.target.feather.setValue(24)
    qtbot.waitUntil(lambda: panel.state.area is not None)
    variant = finished_run()
    variant.adjust(Adjustment(strength=0.7, protect_shadows=0.3))
    assert variant.result.plan.target.mask is not None and variant.result.plan.target.feather == 24

    first = tmp_path / "from the panel.tif"
    assert exported(section, qtbot, first, monkeypatch) == ("done", first)
    section.copy.click()
    line = QApplication.clipboard().text()
    for words in (
        "--mask",
        "--feather 24",
        "--strength 0.7",
        "--adjust protect-shadows=0.3",
        "omega=0.9",
    ):
        assert words in line
    assert "--memory" not in line
    # Nothing in the command hangs on the cache, and so with the record.
    cache = str(cache_dir())
    assert "--mask 'POLYGON ((" in line and cache not in line
    task = record_of(variant)["task"]
    assert task["options"]["mask"] in line and cache not in json.dumps(task)
    shutil.rmtree(Path(cache, "masks"))
    second = tmp_path / "from the terminal.tif"
    command = [sys.executable, "-m", "napari_restore", *error_text(line, second)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ours, theirs = pixels(first), pixels(second)
    assert ours.tobytes() == theirs.tobytes()
    region = variant.result.region
    np.testing.assert_array_equal(ours, variant.result.read(region))
    # Something was restored, and only within the drawn area.
    changed = (ours != pixels(sample)).any(axis=2)
    assert changed[450:550, 500:700].mean() > 0.9
    assert not changed[:250].any() and not changed[:, 1000:].any()


@pytest.mark.slow
@pytest.mark.nightly
def test_every_format_is_written_as_the_command_does(
    section: ExportSection,
    qtbot: Any,
    result: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    result.adjust(Adjustment(strength=0.7, protect_shadows=0.3))
    for number, form in enumerate(FORMATS):
        format_named(section, form.title)
        assert section.format.currentData() is form
        if "quality" in form.options and "compress" not in form.options:
            section.quality.setValue(70)
        if "compress" in form.options:
            section.compress.setCurrentIndex(section.compress.findData("zstd"))
        line = section.command()
        assert "--strength 0.7" in line and "--adjust protect-shadows=0.3" in line
        first, second = (tmp_path / f"{name}{number}{form.suffix}" for name in "ab")
        assert exported(section, qtbot, first, monkeypatch) == ("done", first)
        assert str(first) in section.message.text() and "KiB" in section.message.text()
        assert main(error_text(line, second)) == 0
        np.testing.assert_array_equal(pixels(first), pixels(second))
        if form.suffix not in (".jpg", ".webp"):
            np.testing.assert_array_equal(pixels(first), result.result.read(result.result.region))


@pytest.mark.slow
def test_only_options_that_the_format_has_are_shown_and_used(section: ExportSection, result: Any):
    shown = {}
    for form in FORMATS:
        format_named(section, form.title)
        section.quality.setValue(50)
        rows = {"compress": section.compress, "quality": section.quality,
                "bit_depth": section.bit_depth}  # fmt: skip
        shown[form.title] = {name for name, row in rows.items() if section.form.isRowVisible(row)}
    assert shown == {
        "GeoTIFF": {"compress", "bit_depth"},
        "Cloud-optimised GeoTIFF": {"compress", "bit_depth"},
        "OME-Zarr": set(),
        "PNG": {"bit_depth"},
        "JPEG": {"quality", "bit_depth"},
        "WebP": {"quality", "bit_depth"},
    }
    assert section.options() == {"quality": 50}
    format_named(section, "GeoTIFF")
    assert section.options() == {}
    section.compress.setCurrentIndex(section.compress.findData("jpeg"))
    assert section.options() == {"compress": "jpeg", "quality": 50}
    assert section.form.isRowVisible(section.quality)
    format_named(section, "Cloud-optimised GeoTIFF")
    assert section.options()["cog"] is True


@pytest.mark.slow
@pytest.mark.nightly
def test_the_format_of_the_source_is_proposed_beside_it(
    section: ExportSection, result: Any, sample: Path
):
    assert section.format.currentData().suffix == ".tif"
    proposed = section.proposed_path(result.result)
    assert proposed.parent == sample.parent and not proposed.exists()
    assert proposed.name == "hazy_town_synthetic_clear.tif"


@pytest.mark.slow
def test_a_cancelled_export_leaves_nothing(
    section: ExportSection,
    qtbot: Any,
    result: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    going = threading.Event()

    def slow(path: Path, *, progress: Any, cancelled: Any, **options: Any) -> Path:
        progress(3, 10)
        going.set()
        while not cancelled():
            pass
        raise Cancelled("stopped")

    monkeypatch.setattr(result.result, "save", slow)
    monkeypatch.setattr(section, "ask_path", lambda proposed: tmp_path / "a.tif")
    section.export.click()
    assert not section.export.isEnabled() and result.saving
    qtbot.waitUntil(lambda: going.is_set() and section.progress.value() == 3)
    assert "left" in section.progress.format()
    with qtbot.waitSignal(section.ended) as reported:
        section.cancel.click()
    assert reported.args == ["cancelled", None]
    assert section.export.isEnabled() and not result.saving
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_panel_that_is_closed_stops_its_export(
    panel: Any,
    section: ExportSection,
    qtbot: Any,
    result: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    going, stopped = threading.Event(), threading.Event()

    def slow(path: Path, *, progress: Any, cancelled: Any, **options: Any) -> Path:
        going.set()
        while not cancelled():
            pass
        stopped.set()
        raise Cancelled("stopped")

    monkeypatch.setattr(result.result, "save", slow)
    section.save(result, tmp_path / "a.tif")
    qtbot.waitUntil(going.is_set)
    panel.close()
    qtbot.waitUntil(stopped.is_set)
    assert section.saving is None and not result.saving


@pytest.mark.nightly
def test_what_cannot_be_written_is_reported_with_the_next_step(
    section: ExportSection,
    qtbot: Any,
    result: Any,
    sample: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    reported = []
    notification_manager.notification_ready.connect(lambda shown: reported.append(shown.message))
    before = sample.read_bytes()
    status, error = exported(section, qtbot, sample, monkeypatch)
    assert status == "failed" and sample.read_bytes() == before
    assert "Choose another name" in section.message.text()
    assert reported == [str(error)]
    status, _ = exported(section, qtbot, tmp_path / "no" / "a.tif", monkeypatch)
    assert status == "failed"
    assert "does not exist" in section.message.text()


def test_without_a_finished_result_nothing_can_be_saved(section: ExportSection):
    assert not section.export.isEnabled()
    assert not section.copy.isEnabled()
    assert "Run" in section.what.text()


@pytest.mark.slow
def test_a_layer_that_lies_in_no_file_has_no_command(
    panel: Any, section: ExportSection, qtbot: Any, colours: np.ndarray, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, finished_run: Any,
):  # fmt: skip
    panel.viewer.add_image(colours, name="photo")
    panel.models.choose("identity")
    panel.target.choose(TargetChoice.WHOLE)
    finished_run()
    QApplication.clipboard().setText("before")
    section.copy.click()
    assert QApplication.clipboard().text() == "before"
    assert "files" in section.message.text()
    path = tmp_path / "a.png"
    assert exported(section, qtbot, path, monkeypatch) == ("done", path)
    np.testing.assert_array_equal(pixels(path), colours)


@pytest.mark.binding
def test_the_copied_command_ends_where_one_exported_last(
    panel: Any,
    section: ExportSection,
    qtbot: Any,
    colours: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    finished_run: Any,
):
    def output() -> Path:
        section.copy.click()
        words = shlex.split(QApplication.clipboard().text())
        return Path(words[words.index("-o") + 1])

    Picture.fromarray(colours).save(tmp_path / "photo.png")
    panel.viewer.open(tmp_path / "photo.png", plugin="napari-restore")
    panel.models.choose("identity")
    panel.target.choose(TargetChoice.WHOLE)
    first = finished_run()
    assert output() == tmp_path / "photo_clear.png"
    assert section.message.text() == "Copied: paste it into a terminal."
    path = tmp_path / "elsewhere" / "mine.tiff"
    path.parent.mkdir()
    format_named(section, "TIFF")
    assert exported(section, qtbot, path, monkeypatch) == ("done", path)
    assert output() == path
    assert "mine.tiff exists, and the command says how" in section.message.text()
    format_named(section, "JPEG")
    assert output() == path.with_suffix(".jpg") and "exists" not in section.message.text()
    # Another result is not what lies there: it gets a name of its own beside it.
    panel.models.choose("dcp")
    second = finished_run()
    assert second is not first and output() == path.parent / "photo_clear.jpg"


@pytest.mark.slow
@pytest.mark.nightly
def test_a_part_says_so_and_leads_to_the_whole(
    panel: Any,
    section: ExportSection,
    result: Any,
    qtbot: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    save_as: Callable[[Path | None], list[str]],
):
    height, width = result.result.region.shape
    image = result.result.like
    part = f"a part, {width} × {height} of {image.width} × {image.height} pixels"
    assert (height, width) != (image.height, image.width)
    assert part in section.what.text() and not section.whole.isHidden()
    # The question before the dialog has its test in test_small_screen.
    monkeypatch.setattr(ExportSection, "_takes_part", lambda *_: True)
    titles = save_as(None)
    section.export.click()
    assert titles == [f"Export {part}"]
    status, path = exported(section, qtbot, tmp_path / "part.tif", monkeypatch)
    assert status == "done" and part in section.message.text()
    told = []
    notification_manager.notification_ready.connect(lambda shown: told.append(shown.message))
    # As with the file type "Restored image": without it npe2 takes the writer that was found first.
    menu = str(tmp_path / "menu.tif")
    (saved,) = panel.viewer.layers.save(menu, selected=True, plugin="napari-restore")
    assert Path(saved).read_bytes() == path.read_bytes()
    assert any(part in message and "Area Whole image" in message for message in told)

    reported: list[Any] = []
    panel.ended.connect(lambda *outcome: reported.append(outcome))
    section.whole.click()
    qtbot.waitUntil(lambda: bool(reported))
    whole = panel.state.current.result
    assert whole.region.shape == (image.height, image.width)
    assert whole.plan.model.spec == result.result.plan.model.spec
    assert section.whole.isHidden() and "a part" not in section.what.text()


@pytest.mark.slow
def test_the_extent_of_drawn_areas(
    panel: Any, section: ExportSection, finished_run: Any, tmp_path: Path
):
    panel.viewer.add_image(np.full((80, 90, 3), 90, np.uint8), name="photo")
    panel.target.choose(TargetChoice.DRAWN)
    corners = np.array([(9.5, 9.5), (9.5, 50.5), (40.5, 9.5)])
    panel.viewer.add_shapes([corners], shape_type="polygon", name="Areas to restore")
    variant = finished_run()
    assert section.form.isRowVisible(section.clip) and "clip" not in section.options()
    section.clip.setCurrentIndex(section.clip.findData("mask"))
    assert section.options()["clip"] == "mask"
    with rasterio.open(variant.result.save(tmp_path / "a.tif", **section.options())) as file:
        assert file.shape[0] < 40 and not file.dataset_mask().all()


@pytest.mark.slow
def test_photos_have_options_of_their_own_and_the_command_has_them(
    panel: Any, section: ExportSection, qtbot: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, finished_run: Any,
):  # fmt: skip
    source = tmp_path / "photo.jpg"
    tones = np.random.default_rng(5).integers(30, 220, (6, 8, 3), np.uint8)
    Picture.fromarray(np.kron(tones, np.ones((20, 20, 1), np.uint8))).save(source, quality=95)
    panel.viewer.open(source, plugin="napari-restore")
    panel.models.choose("identity")
    panel.target.choose(TargetChoice.WHOLE)
    finished_run()
    assert section.format.currentText() == "JPEG" and section.options() == {}
    assert not section.more.isHidden() and section.more.text() == "More"
    section.profile.choose("adobe-rgb")
    section.longer_side.setValue(64)
    section.sharpen.setChecked(True)
    section.subsampling.choose("4:2:0")
    assert section.more.text() != "More"
    line = section.command()
    words = ("--profile adobe-rgb", "--resize 64", "--sharpen", "--subsampling 4:2:0")
    assert all(word in line for word in words)
    first, second = tmp_path / "window.jpg", tmp_path / "command.jpg"
    assert exported(section, qtbot, first, monkeypatch) == ("done", first)
    assert main(error_text(line, second)) == 0
    with Picture.open(first) as one, Picture.open(second) as other:
        assert one.size == (64, 48) and one.info["icc_profile"] == other.info["icc_profile"]
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    # A name of another format than the chosen one.
    status, _ = exported(section, qtbot, tmp_path / "other.png", monkeypatch)
    assert status == "failed" and not (tmp_path / "other.png").exists()
    text = "Subsampling 4:2:0 (Export) is for .jpg, and other.png is PNG."
    assert section.message.text().startswith(text)
    # Other formats do not have all of them, and maps have none.
    format_named(section, "PNG")
    assert section.options() == {"profile": "adobe-rgb", "resize": 64, "sharpen": True}
    assert not section.more_form.isRowVisible(section.subsampling)
    format_named(section, "OME-Zarr")
    assert section.options() == {} and section.more.isHidden()
