"""Many photos: exported into one folder, and edited alike."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tifffile
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_restore.commands import main
from napari_restore.errors import BadOutput
from napari_restore.plugin.results.save_dialog import SaveTask
from napari_restore.plugin.state.request import TargetChoice
from napari_restore.questions import Adjustment

pytestmark = [pytest.mark.viewer, pytest.mark.binding]


def section(panel: Any, title: str) -> Any:
    return next(each for each in panel.sections if each.TITLE == title)


@pytest.fixture
def results(panel: Any, tmp_path: Path, qtbot: Any) -> list[Any]:
    """A result of each of three photos, one of them of 16 bits; the last one is the current one."""
    random = np.random.default_rng(2)
    for number in range(2):
        pixels = random.integers(40, 200, (40, 60, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / f"p{number}.png")
    deep = random.integers(9000, 50000, (40, 60, 3), np.uint16)
    tifffile.imwrite(tmp_path / "p2.tif", deep, photometric="rgb")
    for name in ("p0.png", "p1.png", "p2.tif"):
        panel.viewer.open(tmp_path / name, plugin="napari-restore")
    panel.models.choose("dcp")
    panel.target.choose(TargetChoice.WHOLE)
    panel.viewer.layers.select_all()
    batch = section(panel, "Several images")
    batch.restore_layers()
    qtbot.waitUntil(lambda: not batch.is_busy)
    assert "3 of 3" in batch.message.text()
    return list(panel.state.variants)


@pytest.mark.slow
def test_all_results_are_exported_with_the_settings_that_are_shown(
    panel: Any, results: list[Any], tmp_path: Path, qtbot: Any
) -> None:
    export, folder = section(panel, "Export"), tmp_path / "out"
    folder.mkdir()
    assert not export.export_all.isHidden() and export.export_all.isEnabled()
    (folder / "p1_clear.jpg").write_text("in the way")
    results[0].adjust(Adjustment(strength=0.5))
    panel.state.current = results[0]
    export.format.choose(next(form for form in export._formats if form.title == "JPEG"))
    export.quality.setValue(70)
    export.longer_side.setValue(32)
    said: list[str] = []
    export.progress.valueChanged.connect(lambda _: said.append(export.message.text()))
    with qtbot.waitSignal(export.ended) as reported:
        export.save_all(folder)
    assert reported.args == ["done", folder]
    first, *problems = export.message.text().splitlines()
    assert (first, problems) == (f"3 of 3 results saved in {folder}.", [])
    assert "1 of 3: Writing p0_clear.jpg …" in said
    names = ["p0_clear.jpg", "p1_clear_2.jpg", "p2_clear.jpg"]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "p1_clear.jpg"])
    for number, (variant, name) in enumerate(zip(results, names, strict=True)):
        panel.state.current = variant
        words = shlex.split(export.command())[1:]
        alone = tmp_path / f"alone{number}.jpg"
        words[words.index("-o") + 1] = str(alone)
        assert main(words) == 0
        assert alone.read_bytes() == (folder / name).read_bytes()


@pytest.mark.slow
def test_what_cannot_be_exported_is_listed_and_cancel_keeps_what_is_written(
    panel: Any, results: list[Any], tmp_path: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    export, folder = section(panel, "Export"), tmp_path / "out"
    folder.mkdir()
    work = SaveTask.work

    def failing(task: SaveTask) -> Any:
        if task.path.name.startswith("p0"):
            raise BadOutput("There is no room.", "Choose another folder.")
        return work(task)

    monkeypatch.setattr(SaveTask, "work", failing)
    with qtbot.waitSignal(export.ended):
        export.save_all(folder)
    first, *problems = export.message.text().splitlines()
    assert first == f"2 of 3 results saved in {folder}."
    assert problems == [f"{results[0].name}: There is no room. Choose another folder."]

    def stopped(task: SaveTask) -> Any:
        if task.path.name.startswith("p2"):
            task.stop.set()
        return work(task)

    monkeypatch.setattr(SaveTask, "work", stopped)
    with qtbot.waitSignal(export.ended) as reported:
        export.save_all(folder)
    assert reported.args[0] == "cancelled"
    assert export.message.text() == f"Cancelled. 2 of 3 results saved in {folder}."
    assert export.export_all.isEnabled() and export.progress.isHidden()


@pytest.mark.slow
def test_edits_are_set_alike_in_what_is_selected(
    panel: Any, results: list[Any], qtbot: Any
) -> None:
    first, second, third = results
    adjust, tone = section(panel, "Adjust"), section(panel, "Tone and colour")
    photos = panel.form.photos.list
    second.adjust(Adjustment(saturation=20, strength=0.9))
    panel.state.current = third
    panel.viewer.layers.selection.active = third.layer
    assert adjust.same_button.isHidden()
    third.adjust(Adjustment(strength=0.4, shadows=30))
    # Control and a click among the thumbnails.
    for number, key in enumerate(
        (Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ControlModifier)
    ):
        middle = photos.visualItemRect(photos.item(number)).center()
        QTest.mouseClick(photos.viewport(), Qt.MouseButton.LeftButton, key, middle)
    layers = panel.viewer.layers
    assert set(layers.selection) == {first.source, second.source}
    panel.state.current = third
    assert adjust.same_button.text() == "Same for 2 selected"
    told: list[str] = []
    ready = notification_manager.notification_ready
    keep = ready.connect(lambda one: told.append(one.message))
    adjust.same_button.click()
    ready.disconnect(keep)
    assert told == ["Adjust: 2 of 2 set alike."]
    assert first.adjustment == Adjustment(strength=0.4)
    assert second.adjustment == Adjustment(saturation=20, strength=0.4)
    layers.selection.active = first.layer
    panel.state.current = third
    assert tone.same_button.text() == "Same for 1 selected"
    tone.same_button.click()
    assert first.adjustment == third.adjustment
    assert second.adjustment.shadows == 0
    first.undo()
    assert first.adjustment == Adjustment(strength=0.4)
