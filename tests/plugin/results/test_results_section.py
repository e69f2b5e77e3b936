"""The list of results in the real panel: names, settings, A/B, deletion, and what is kept."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Layer
from PIL import Image as Picture

from napari_restore import api
from napari_restore.plugin.layers.layer_order import LIVE
from napari_restore.plugin.results.earlier_results_view import record_of
from napari_restore.plugin.results.results_section import RecordView, ResultsSection
from napari_restore.plugin.results.variant_text import target_of_mask
from napari_restore.plugin.state.request import TargetChoice
from napari_restore.questions import Adjustment

pytestmark = pytest.mark.viewer


def section(panel: Any) -> ResultsSection:
    (found,) = [one for one in panel.sections if isinstance(one, ResultsSection)]
    return found


def choose(panel: Any, model: str) -> None:
    panel.models.choose(model)
    assert panel.state.method.model == model


def earlier_of(panel: Any, qtbot: Any) -> list[Any]:
    """What a new search of the cache finds."""
    results = section(panel)
    with qtbot.waitSignal(results.earlier.found) as reported:
        results._search_cache()
    return reported.args[0]


@pytest.fixture
def photo(panel: Any, sample: Path) -> Any:
    """The sample, of which a small rectangle in view is restored."""
    panel.viewer.open(sample, plugin="napari-restore")
    panel.viewer.scene.camera.zoom *= 8
    return panel.viewer.layers[0]


@pytest.fixture
def two(panel: Any, photo: Any, finished_run: Any) -> Any:
    """Two results of one area that differ in one parameter."""
    choose(panel, "hot")
    first = finished_run()
    choose(panel, "dcp")
    panel.parameters.set_value("omega", 0.5)
    return first, finished_run()


@pytest.mark.slow
@pytest.mark.nightly
def test_every_result_has_a_row_with_its_differences(panel: Any, photo: Any, finished_run: Any):
    results = section(panel)
    choose(panel, "dcp")
    first = finished_run()
    assert " at " in results.rows[first].settings.text()
    panel.parameters.set_value("omega", 0.5)
    second = finished_run()
    assert list(results.rows) == [first, second]
    assert results.list.currentItem().data(256) is second
    assert results.rows[second].settings.text() == "share removed 0.5"
    assert results.rows[first].settings.text() == "share removed 0.85"
    second.adjust(Adjustment(strength=0.7))
    assert results.rows[second].settings.text() == "share removed 0.5 · strength 70%"
    assert "patch radius" in results.rows[second].settings.toolTip()


@pytest.mark.slow
@pytest.mark.nightly
def test_a_row_omits_settings_that_only_another_method_has(panel: Any, two: Any):
    rows = section(panel).rows
    assert "share removed 0.5 · patch radius 31" in rows[two[1]].settings.text()
    assert rows[two[0]].settings.text().endswith(" · share removed 1")
    assert not any("none" in rows[variant].settings.text() for variant in two)


@pytest.mark.slow
def test_a_row_chooses_its_result_and_two_are_shown_in_turn(panel: Any, two: Any):
    results, (first, second) = section(panel), two
    results.list.setCurrentRow(0)
    assert panel.state.current is first
    assert panel.viewer.layers.selection.active is first.layer
    name = results.rows[first].name
    name.setText("weniger Dunst")
    name.editingFinished.emit()
    assert first.layer.name == "weniger Dunst"
    second.layer.name = "mehr"
    assert results.rows[second].name.text() == "mehr"
    assert results.other.currentText() == "mehr"
    # One alone, and two in turn.
    results.list.setCurrentRow(1)
    results.only.click()
    assert (first.layer.visible, second.layer.visible) == (False, True)
    results.toggle.click()
    assert (first.layer.visible, second.layer.visible) == (True, False)
    results.toggle.click()
    assert (first.layer.visible, second.layer.visible) == (False, True)


@pytest.mark.slow
@pytest.mark.nightly
def test_the_settings_of_a_result_come_back_in_panel_and_state(
    panel: Any, photo: Any, finished_run: Any
):
    choose(panel, "dcp")
    panel.parameters.set_value("omega", 0.6)
    panel.memory.setValue(2.5)
    panel.target.choose(TargetChoice.WHOLE)
    panel.advanced.tile.setValue(256)
    panel.state.set_options(maps=True)
    first = finished_run()
    choose(panel, "hot")
    panel.state.set_options(maps=False)
    panel.memory.setValue(0)
    panel.advanced.tile.setValue(0)
    panel.target.choose(TargetChoice.VISIBLE)
    section(panel).use.click()
    assert panel.state.request() == first.request
    assert panel.models.model() == "dcp"
    assert panel.parameters.values() == {"omega": 0.6}
    assert panel.memory.value() == 2.5
    assert panel.target.target() is TargetChoice.WHOLE
    assert panel.advanced.tile.value() == 256
    assert panel.state.options.storing.maps is True


@pytest.mark.nightly
def test_deleting_asks_and_frees_the_disk(
    panel: Any, qtbot: Any, two: Any, monkeypatch: pytest.MonkeyPatch
):
    results, (first, second) = section(panel), two
    store = second.result.store.path
    assert store.is_dir() and store != first.result.store.path
    monkeypatch.setattr(results, "confirmed", lambda question: False)
    results.delete.click()
    assert second.layer in panel.viewer.layers
    monkeypatch.setattr(results, "confirmed", lambda question: True)
    with qtbot.waitSignal(results.freed) as reported:
        results.delete.click()
    assert reported.args == [True]
    assert second.layer not in panel.viewer.layers
    assert panel.state.variants == (first,)
    assert not store.exists()
    assert first.result.store.path.is_dir()


@pytest.mark.nightly
def test_a_store_that_another_result_shows_stays(
    panel: Any, qtbot: Any, photo: Any, monkeypatch: pytest.MonkeyPatch, finished_run: Any
):
    choose(panel, "identity")
    first = finished_run()
    panel.target.choose(TargetChoice.WHOLE)
    second = finished_run()
    store = first.result.store.path
    assert second.result.store.path == store
    # Whatever else goes from the cache, what a layer shows stays.
    api.clear_cache()
    assert store.is_dir()
    results = section(panel)
    monkeypatch.setattr(results, "confirmed", lambda question: True)
    for left in (1, 0):
        with qtbot.waitSignal(results.freed) as reported:
            results.delete.click()
        assert reported.args == [left == 0]
        assert len(panel.state.variants) == left
        assert store.exists() == bool(left)
        if left:
            assert panel.state.current.result.read(first.result.region).any()


@pytest.mark.slow
def test_what_is_being_saved_or_made_is_not_deleted(
    panel: Any, qtbot: Any, two: Any, monkeypatch: pytest.MonkeyPatch
):
    results, (_, second) = section(panel), two
    monkeypatch.setattr(results, "confirmed", lambda question: pytest.fail("asked"))
    second.saving = True
    results.delete.click()
    assert second.layer in panel.viewer.layers


@pytest.mark.slow
def test_a_removed_layer_is_offered_again_and_shown_as_it_was(
    panel: Any, qtbot: Any, photo: Any, finished_run: Any
):
    choose(panel, "dcp")
    first = finished_run()
    first.layer.name = "der erste"
    first.adjust(Adjustment(strength=0.4, protect_shadows=0.5))
    results = section(panel)
    results._store_changed()
    before = [np.asarray(level) for level in first.layer.data]
    assert earlier_of(panel, qtbot) == []
    with qtbot.waitSignal(results.earlier.found):
        panel.viewer.layers.remove(first.layer)
    (row,) = results.earlier.rows
    assert row.kept.title == "der erste" and row.kept.complete
    row.open.click()
    qtbot.waitUntil(lambda: bool(panel.state.variants))
    (again,) = panel.state.variants
    assert again.name == "der erste"
    assert again.record["model"] == first.record["model"]
    assert again.adjustment == first.adjustment
    for level, known in zip(again.layer.data, before, strict=True):
        np.testing.assert_array_equal(np.asarray(level), known)
    assert panel.viewer.layers.index(again.layer) == panel.viewer.layers.index(photo) + 1
    assert again.request.parameters == first.request.parameters


@pytest.mark.slow
def test_a_layer_that_is_put_back_is_the_result_again(panel: Any, photo: Any, finished_run: Any):
    choose(panel, "dcp")
    first = finished_run()
    panel.viewer.layers.remove(first.layer)
    assert panel.state.variants == () and panel.state.current is None
    panel.viewer.layers.append(first.layer)
    assert panel.state.variants == (first,) and list(section(panel).rows) == [first]
    assert panel.state.current is first
    # As napari's Duplicate Layer does.
    panel.viewer.layers.append(Layer.create(*deepcopy(first.layer.as_layer_data_tuple())))
    assert panel.state.variants == (first,)


@pytest.mark.slow
def test_an_unfinished_run_is_offered_and_resumed(panel: Any, qtbot: Any, sample: Path):
    panel.viewer.open(sample, plugin="napari-restore")
    choose(panel, "dcp")
    panel.target.choose(TargetChoice.WHOLE)
    panel.advanced.tile.setValue(256)
    panel.bar.button.click()
    qtbot.waitUntil(lambda: bool(panel.state.variants))
    outcome = []
    panel.ended.connect(lambda *arguments: outcome.append(arguments))
    panel.bar.button.click()
    qtbot.waitUntil(lambda: bool(outcome))
    assert outcome[0][0] == "cancelled"
    results = section(panel)
    (variant,) = panel.state.variants
    with qtbot.waitSignal(results.earlier.found):
        panel.viewer.layers.remove(variant.layer)
    (row,) = results.earlier.rows
    assert not row.kept.complete and 0 < row.kept.finished < 1
    # It is told outside of the folded section, too.
    assert panel.bar.unfinished.text().startswith("An unfinished run of this image")
    assert not panel.bar.unfinished.parentWidget().isHidden()
    outcome.clear()
    row.open.click()
    qtbot.waitUntil(lambda: bool(outcome))
    status, record, *_ = outcome[0]
    assert status == "done"
    assert record["measured"]["tiles_resumed"] >= 1
    assert record["targets"][0]["region"] == [0, 0, 2048, 3072]


@pytest.mark.slow
def test_the_record_is_whole_and_its_run_shows_it_again(
    panel: Any, qtbot: Any, photo: Any, finished_run: Any
):
    choose(panel, "identity")
    first = finished_run()
    record = record_of(first)
    assert record["task"] == api.task_of(first.result.plan)
    assert record["command"].startswith("napari-restore restore ")
    results = section(panel)
    results.record.click()
    (view,) = results.findChildren(RecordView)
    assert view.record == record
    outcome, gone = [], []
    panel.ended.connect(lambda *arguments: outcome.append(arguments))
    view.destroyed.connect(lambda: gone.append(True))
    view.again.click()
    qtbot.waitUntil(lambda: bool(gone and outcome))
    assert outcome[0][0] == "done"
    assert panel.state.current is first
    assert panel.state.variants == (first,)


@pytest.mark.nightly
def test_a_live_result_is_stored_once_it_is_ordinary(panel: Any, photo: Any, finished_run: Any):
    choose(panel, "identity")
    first = finished_run()
    store, results = first.result.store.path, section(panel)
    assert len(list(store.glob("result-*.json"))) == 1
    first.layer.name = LIVE + first.layer.name
    for note in store.glob("result-*.json"):
        note.unlink()
    results._store(again=True)
    assert list(store.glob("result-*.json")) == []
    first.layer.name = first.layer.name.removeprefix(LIVE)
    assert len(list(store.glob("result-*.json"))) == 1


@pytest.mark.slow
@pytest.mark.nightly
def test_an_earlier_result_is_deleted_from_the_cache(
    panel: Any, qtbot: Any, photo: Any, sample: Path, monkeypatch: pytest.MonkeyPatch
):
    made = api.start(api.plan(sample, "identity", region=api.Region(0, 0, 200, 300), pyramid=True))
    result = made.result()
    api.keep_result(
        result.store.path, api.task_of(result.plan), "von gestern", "Unchanged", result.record
    )
    result.store.close()
    (kept,) = earlier_of(panel, qtbot)
    assert (kept.title, kept.complete, kept.finished) == ("von gestern", True, 1.0)
    results = section(panel)
    monkeypatch.setattr(results, "confirmed", lambda question: True)
    with qtbot.waitSignal(results.freed) as reported:
        results.earlier.rows[0].delete.click()
    assert reported.args == [True]
    assert not result.store.path.exists()
    assert earlier_of(panel, qtbot) == []


@pytest.mark.slow
def test_results_of_another_image_are_not_offered(
    panel: Any, qtbot: Any, photo: Any, data_dir: Path
):
    other = next((data_dir / "natural_clean").glob("*.jpg"))
    result = api.start(api.plan(other, "identity", region=api.Region(0, 0, 64, 64))).result()
    api.keep_result(result.store.path, api.task_of(result.plan), "anderes", "Unchanged")
    assert earlier_of(panel, qtbot) == []


@pytest.mark.parametrize(
    ("mask", "target"),
    [
        ("/cache/masks/1/gradient.geojson", TargetChoice.GRADIENT),
        ("C:/mine/fields.geojson", TargetChoice.DRAWN),
        ("/cache/masks/1/painted.tif", TargetChoice.PAINTED),
    ],
)
def test_the_target_of_a_mask_follows_from_its_file(mask: str, target: TargetChoice):
    assert target_of_mask(mask) is target


@pytest.mark.slow
def test_a_file_that_was_written_anew_is_restored_beside_its_earlier_result(
    panel: Any, finished_run: Any, tmp_path: Path
) -> None:
    path = tmp_path / "scene.png"
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 255, (200, 260, 3), np.uint8) for _ in range(2))
    Picture.fromarray(first).save(path)
    panel.viewer.open(path, plugin="napari-restore")
    choose(panel, "dcp")
    before = finished_run()
    kept = before.result.read(before.result.region)
    Picture.fromarray(second).save(path)
    # The layer reads its file again.
    after = finished_run()
    assert after.result.store.path != before.result.store.path
    assert not np.array_equal(after.result.read(after.result.region), kept)
    np.testing.assert_array_equal(before.result.read(before.result.region), kept)
