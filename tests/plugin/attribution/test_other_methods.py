"""Methods that go along no path, with their settings, and the check of a map, in a real window."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_restore import Region, api
from napari_restore.errors import BadParameter

pytestmark = pytest.mark.viewer
BOX = Region(100, 120, 116, 136)


@pytest.fixture
def form(tab: Any, qtbot: Any) -> Any:
    """The tab's form, once all methods are offered; the box is put."""
    qtbot.waitUntil(lambda: bool(tab.form._offers))
    tab.target.add_box(BOX)
    return tab.form


def choose(form: Any, method: str) -> None:
    at = form.method.findData(method)
    assert at >= 0, method
    form.method.setCurrentIndex(at)


@pytest.mark.slow
def test_captums_methods_are_offered_with_their_settings(form: Any) -> None:
    pytest.importorskip("captum.attr")
    offers = {each.name: each for each in api.method_list()}
    assert {"captum:Saliency", "captum:Occlusion", "smoothgrad"} < offers.keys()
    assert "captum:FeaturePermutation" not in offers
    for name, each in offers.items():
        choose(form, name)
        assert form.settings.text() == each.settings and not form.settings.isHidden()
        assert form.baseline.isEnabled() == each.takes_baseline
        # What stands there can be read again: nothing is left to guess.
        assert form.method_settings().arguments == api.arguments_in(each.settings)
    choose(form, "ig")
    assert form.settings.isHidden() and form.method_settings().arguments == {}
    count = form.method.count()
    form.offer(list(offers.values()))
    assert form.method.count() == count


@pytest.mark.nightly
def test_routing_is_offered_where_the_model_routes(tab: Any, form: Any, panel: Any) -> None:
    asked: list[Any] = []
    title = form._form.labelForField(form.routing)
    assert form.routing.isHidden() and title.isHidden()
    panel.models.choose("inf-dehaze-small")
    assert panel.state.method.model == "inf-dehaze-small"
    assert not form.routing.isHidden() and not title.isHidden()
    asked.append(tab.request().question["routing"])
    form.routing.setCurrentIndex(form.routing.findData("recomputed"))
    asked.append(tab.request().question["routing"])
    # A method without a path always recomputes it.
    choose(form, "smoothgrad")
    assert form.routing.isHidden()
    asked.append(tab.request().question["routing"])
    choose(form, "ig")
    panel.models.choose("dcp")
    assert form.routing.isHidden()
    asked.append(tab.request().question["routing"])
    assert asked == [None, "recomputed", None, None]


@pytest.mark.nightly
def test_captum_gets_the_settings_of_the_form(
    tab: Any, form: Any, finished_attribution: Any
) -> None:
    pytest.importorskip("captum.attr")
    choose(form, "captum:Occlusion")
    form.settings.setText("sliding_window_shapes=(3,40,40) strides=40")
    form.baseline.setCurrentIndex(form.baseline.findData("zero"))
    reported = finished_attribution().record
    assert reported["attribution"]["method"] == "captum:Occlusion"
    assert reported["attribution"]["arguments"]["sliding_window_shapes"] == (3, 40, 40)
    assert reported["attribution"]["baseline"] == "zeros"
    assert reported["task"]["question"]["arguments"]["strides"] == 40
    assert "captum:Occlusion" in tab.results.measures.text()


@pytest.mark.slow
def test_a_wrong_setting_is_reported(tab: Any, form: Any, finished_attribution: Any) -> None:
    pytest.importorskip("captum.attr")
    choose(form, "captum:Occlusion")
    form.settings.setText("sliding_window_shapes=900")
    assert "does not fit the image" in str(finished_attribution("failed"))
    assert "does not fit the image" in tab.bar.message.text()
    form.settings.setText("size=3")
    assert "no argument 'size'" in str(finished_attribution("failed"))
    for text in ("sixteen", "sliding_window_shapes=", "=3", "n=3 side= seed=0"):
        form.settings.setText(text)
        with pytest.raises(BadParameter, match="not a setting of the form name=value"):
            tab.request()


def test_without_captum_ours_are_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "captum" else there(name, *more),
    )
    names = [each.name for each in api.method_list()]
    assert names[:2] == ["smoothgrad", "occlusion"]
    assert not any(name.startswith("captum:") for name in names)


@pytest.mark.slow
@pytest.mark.nightly
def test_a_check_is_requested_and_drawn(tab: Any, form: Any, finished_attribution: Any) -> None:
    choose(form, "smoothgrad")
    assert not form.baseline.isEnabled()
    form.settings.setText("n=2")
    form.check.setChecked(True)
    # It is checked from a baseline, though it is made without.
    assert form.baseline.isEnabled()
    checked = finished_attribution().record["attribution"]["checks"]["insertion-deletion"]
    curves = tab.results.curves
    assert not curves.isHidden() and "from the image, blurred" in tab.results.measures.text()
    for name in ("insertion", "deletion"):
        areas = [float(line.split()[-1]) for line in curves.legend(name)]
        reported = [checked[name][f"{key}area"] for key in ("", "nearest_", "random_")]
        np.testing.assert_allclose(areas, reported, atol=5e-4)
    picture = curves.grab().toImage()
    colours = {
        picture.pixelColor(x, y).name()
        for x in range(picture.width())
        for y in range(picture.height())
    }
    assert {"#56b4e9", "#e6781e", "#8c8c8c"} <= colours
    form.check.setChecked(False)
    choose(form, "ig")
    finished_attribution()
    assert curves.isHidden()


@pytest.mark.nightly
def test_a_check_takes_the_context_as_a_constant(form: Any) -> None:
    form.check.setChecked(True)
    assert form.method_settings().check == "insertion-deletion"
    form.context_gradient.setCurrentIndex(form.context_gradient.findData("through"))
    assert not form.check.isEnabled() and form.method_settings().check is None


@pytest.mark.slow
def test_an_undefined_check_has_no_plot(tab: Any) -> None:
    nothing = dict.fromkeys(["curve", "area"])
    tab.results.curves.show_check({"insertion": nothing, "deletion": nothing})
    assert tab.results.curves.isHidden()
    curve = {"curve": [0.0, 1.0], "area": 0.5, "nearest_area": 0.4, "random_area": 0.5}
    tab.results.curves.show_check({"insertion": curve, "deletion": curve, "at": [0, 1]})
    assert not tab.results.curves.isHidden() and not tab.results.curves.grab().isNull()


@pytest.fixture
def held_at_progress(points: Any) -> Any:
    """Child processes that are held when they tell of progress: asked for before the window starts one."""
    points.hold("Progress sent")
    return points


@pytest.mark.slow
@pytest.mark.nightly
def test_a_child_that_ends_is_one_sentence_and_the_next_question_has_another(
    held_at_progress: Any, tab: Any, form: Any, panel: Any, qtbot: Any, finished_attribution: Any
) -> None:
    choose(form, "smoothgrad")
    form.settings.setText("n=2")
    reported: list[Any] = []
    tab.ended.connect(lambda *outcome: reported.append(outcome))
    tab.bar.button.click()
    qtbot.waitUntil(lambda: bool(held_at_progress.held("Progress sent")))
    panel.runs.worker.kill()
    held_at_progress.go("Progress sent")
    qtbot.waitUntil(lambda: bool(reported))
    assert reported[0][0] == "failed"
    assert "ended unexpectedly" in tab.bar.message.text()
    assert "lower the budget" in tab.bar.message.text()
    finished_attribution()
