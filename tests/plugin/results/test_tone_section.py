"""Tone and colour in the window: sliders, picker, curve and histogram, without a run."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari_mouse import Mouse
from PIL import Image as Picture
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QSlider

import napari_restore as nr
from napari_restore import api
from napari_restore.commands import main
from napari_restore.errors import BadParameter
from napari_restore.plugin.results._histogram_view import BINS, Histogram, HistogramView
from napari_restore.plugin.results.adjust_section import AdjustSection
from napari_restore.plugin.results.tone_section import ToneSection
from napari_restore.plugin.state.request import ChosenMethod, TargetChoice
from napari_restore.plugin.state.state import RestoreState
from napari_restore.plugin.widgets.folding import Folded
from napari_restore.questions import Adjustment

pytestmark = pytest.mark.binding

# -- the histogram and its curve ------------------------------------------------------------


def test_it_counts_colours_and_marks_what_is_clipped():
    pixels = np.full((10, 20, 4), 128, np.uint8)
    pixels[..., 3] = 255
    pixels[0, :, 0] = 255
    pixels[1, :10, 2] = 0
    pixels[2, :, 3] = 0
    found = Histogram.of(pixels, 255)
    assert found.counts.shape == (3, BINS) and (found.counts.sum(axis=1) == 180).all()
    assert (found.counts[0, BINS - 1], found.counts[2, 0]) == (20, 10)
    assert (found.black, found.white) == (10 / 180, 20 / 180)
    # What is not finished is NaN in a layer of grey.
    grey = np.array([[0.5, np.nan], [1, 0]], np.float32)
    found = Histogram.of(grey, 1)
    assert found.counts.sum() == 3 and found.black == found.white == pytest.approx(1 / 3)
    assert Histogram.of(np.zeros((3, 4, 4), np.uint8), 255).black == 0
    assert Histogram.of(np.full((3, 4, 4), np.nan, np.float32), 1).counts.sum() == 0


@pytest.fixture
def view(qtbot: Any) -> HistogramView:
    made = HistogramView()
    qtbot.addWidget(made)
    made.resize(300, made.height())
    made.show()
    return made


def at(view: HistogramView, *point: float) -> QPoint:
    return view.place_of((point[0], point[1])).toPoint()


def test_points_are_added_dragged_and_taken_away_by_the_mouse(view: HistogramView, qtbot: Any):
    told: list[str | None] = []
    view.curve_changed.connect(told.append)
    assert view.curve is None
    qtbot.mousePress(view, Qt.MouseButton.LeftButton, pos=at(view, 0.3, 0.5))
    qtbot.mouseMove(view, at(view, 0.4, 0.25))
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=at(view, 0.4, 0.25))
    (_, (x, y), _) = nr.questions.curve_points(told[-1] or "")
    assert (x, y) == pytest.approx((0.4, 0.25), abs=0.01)
    # No point passes its neighbour.
    qtbot.mousePress(view, Qt.MouseButton.LeftButton, pos=at(view, 0.4, 0.25))
    qtbot.mouseMove(view, at(view, 1.2, 0.25))
    qtbot.mouseRelease(view, Qt.MouseButton.LeftButton, pos=at(view, 1.2, 0.25))
    (_, (x, _), _) = nr.questions.curve_points(view.curve or "")
    assert 0.9 < x < 1
    qtbot.mouseDClick(view, Qt.MouseButton.LeftButton, pos=at(view, x, 0.25))
    assert view.curve is None and told[-1] is None


def test_the_keyboard_does_the_same(view: HistogramView, qtbot: Any):
    view.show_curve("0,0:0.5,0.5:1,0.9")
    for key in (Qt.Key.Key_PageUp, Qt.Key.Key_PageUp, Qt.Key.Key_Up, Qt.Key.Key_Left):
        qtbot.keyClick(view, key)
    assert view.curve == "0,0:0.49,0.51:1,0.9"
    qtbot.keyClick(view, Qt.Key.Key_Delete)
    assert view.curve == "0,0:1,0.9"
    qtbot.keyClick(view, Qt.Key.Key_PageDown)
    qtbot.keyClick(view, Qt.Key.Key_Delete)
    assert view.curve is None
    assert "Page Up" in view.accessibleDescription()


def test_only_its_keys_move_points_and_take_them_away(view: HistogramView, qtbot: Any):
    view.show_curve("0,0:0.5,0.5:1,0.9")
    told: list[str | None] = []
    view.curve_changed.connect(told.append)
    for key in (Qt.Key.Key_Left, Qt.Key.Key_Up, Qt.Key.Key_Delete):
        # No point is chosen yet.
        qtbot.keyClick(view, key)
    qtbot.keyClick(view, Qt.Key.Key_PageDown)
    qtbot.keyClick(view, Qt.Key.Key_PageDown)
    for key in (Qt.Key.Key_A, Qt.Key.Key_Home, Qt.Key.Key_Space):
        qtbot.keyClick(view, key)
    assert told == [] and view.curve == "0,0:0.5,0.5:1,0.9"
    qtbot.keyClick(view, Qt.Key.Key_Right)
    qtbot.keyClick(view, Qt.Key.Key_Down)
    assert told[-1] == view.curve == "0,0:0.51,0.49:1,0.9"
    qtbot.keyClick(view, Qt.Key.Key_Backspace)
    assert told[-1] == view.curve == "0,0:1,0.9"


def test_a_point_stays_between_its_neighbours_and_in_the_box(view: HistogramView, qtbot: Any):
    view.show_curve("0,0:0.5,0.01:0.55,0.99:1,1")
    for _ in range(2):
        qtbot.keyClick(view, Qt.Key.Key_PageUp)
    for _ in range(5):
        qtbot.keyClick(view, Qt.Key.Key_Right)
        qtbot.keyClick(view, Qt.Key.Key_Down)
    assert view.curve == "0,0:0.53,0:0.55,0.99:1,1"
    qtbot.keyClick(view, Qt.Key.Key_PageUp)
    for _ in range(5):
        qtbot.keyClick(view, Qt.Key.Key_Left)
        qtbot.keyClick(view, Qt.Key.Key_Up)
    assert view.curve == "0,0:0.53,0:0.55,1:1,1"


@pytest.fixture
def alone(qtbot: Any) -> ToneSection:
    """The section without a window, all of whose controls can be used."""
    made = ToneSection(ViewerModel(), RestoreState())
    qtbot.addWidget(made)
    for each in (made.temperature, *made.sliders.values()):
        each.setEnabled(True)
    return made


def test_temperature_is_even_in_mired_and_warmer_to_the_right(alone: ToneSection):
    slider = alone.temperature
    told: list[float] = []
    slider.valueChanged.connect(told.append)
    assert slider.value() == 6500 and slider.slider.value() == 0
    for place, kelvin in ((-100, 2000), (100, 25_000), (-50, 3059), (0, 6500)):
        slider.slider.setValue(place)
        assert slider.value() == told[-1] == kelvin
    slider.setValue(3059)
    assert slider.slider.value() == -50


def test_numbers_keep_their_digits_and_steps_are_whole(alone: ToneSection, qtbot: Any):
    slider = alone.sliders["tint"]
    told: list[float] = []
    slider.valueChanged.connect(told.append)
    slider.box.selectAll()
    qtbot.keyClicks(slider.box, "12.345")
    qtbot.keyClick(slider.box, Qt.Key.Key_Enter)
    assert told == [12.345] and slider.value() == 12.345
    assert (slider.box.text(), slider.slider.value()) == ("12.345", 12)
    slider.slider.setValue(13)
    assert told[-1] == 13 and slider.box.text() == "13"
    kelvin = alone.temperature
    kelvin.setValue(5432.5)
    assert kelvin.box.text() == "5432.5 K"


# -- the section ------------------------------------------------------------------------------


@pytest.fixture
def tone(panel: Any) -> ToneSection:
    """The section of a panel."""
    return next(section for section in panel.sections if isinstance(section, ToneSection))


def unfold(section: Any) -> None:
    part = section
    while not isinstance(part, Folded):
        part = part.parentWidget()
    part.open()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """(150, 200, 3) with colours, and something yellowish that should be grey."""
    rng = np.random.default_rng(3)
    pixels = np.kron(rng.integers(40, 220, (15, 20, 3), np.uint8), np.ones((10, 10, 1), np.uint8))
    pixels[40:110, 60:140] = (150, 140, 100)
    path = tmp_path / "photo.png"
    Picture.fromarray(pixels).save(path)
    return path


@pytest.fixture
def variant(panel: Any, photo: Path, finished_run: Any) -> Any:
    """A finished result of `identity` on the whole photo."""
    panel.viewer.open(photo, plugin="napari-restore")
    panel.target.choose(TargetChoice.WHOLE)
    panel.state.method = ChosenMethod("identity")
    return finished_run()


@pytest.mark.nightly
@pytest.mark.viewer
def test_the_file_the_copied_command_and_the_screen_agree_and_nothing_runs(
    panel: Any, tone: ToneSection, variant: Any, qtbot: Any, tmp_path: Path, monkeypatch: Any
):
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a model would run")

    unfold(tone)
    before = np.array(variant.layer.data)
    with monkeypatch.context() as patch:
        patch.setattr(nr, "start", refuse)
        patch.setattr(nr, "plan", refuse)
        tone.temperature.slider.setValue(20)
        for number, slider in enumerate(tone.sliders.values()):
            slider.setValue(15 + 5 * number)
        tone.histogram.show_curve("0,0:0.25,0.2:1,1")
        tone.histogram.curve_changed.emit(tone.histogram.curve)
        qtbot.waitUntil(lambda: variant.adjustment == tone.chosen)
    wanted = variant.adjustment
    assert wanted.curve == "0,0:0.25,0.2:1,1" and wanted.local_contrast == 35
    assert wanted.temperature == tone.temperature.value() > 6500
    shown = np.array(variant.layer.data)[..., :3]
    assert (shown != before[..., :3]).any()
    written = variant.result.save(tmp_path / "window.png")
    np.testing.assert_array_equal(np.asarray(Picture.open(written)), shown)
    command = shlex.split(api.command_of(variant.result.plan, tmp_path / "command.png"))
    assert main(command[1:]) == 0
    np.testing.assert_array_equal(np.asarray(Picture.open(tmp_path / "command.png")), shown)
    assert variant.record["adjustment"] == wanted.to_dict()
    # Adjust has fields of its own, and leaves these.
    adjust = next(s for s in panel.sections if isinstance(s, AdjustSection))
    adjust.exposure.setValue(0.5)
    qtbot.waitUntil(lambda: variant.adjustment.ev == 0.5)
    assert variant.adjustment == replace(wanted, exposure=0.5)
    assert variant.adjustment.saturation == wanted.saturation
    tone.reset_button.click()
    assert variant.adjustment == Adjustment(exposure=0.5)
    tone.undo_button.click()
    assert variant.adjustment.curve == wanted.curve == tone.histogram.curve


@pytest.mark.slow
@pytest.mark.viewer
def test_a_double_click_sets_a_slider_back(tone: ToneSection, variant: Any, qtbot: Any):
    unfold(tone)
    tone.temperature.setValue(4000)
    tone.sliders["saturation"].setValue(30)
    qtbot.waitUntil(lambda: variant.adjustment.saturation == 30)
    (inner,) = tone.sliders["saturation"].findChildren(QSlider)
    for widget in (inner, tone.temperature.slider):
        qtbot.mouseDClick(widget, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: variant.adjustment.is_neutral)


@pytest.mark.slow
@pytest.mark.viewer
def test_what_is_not_touched_keeps_its_digits(
    panel: Any, tone: ToneSection, variant: Any, qtbot: Any
):
    adjust = next(s for s in panel.sections if isinstance(s, AdjustSection))
    given = Adjustment(strength=0.3333, tint=4.25, saturation=12.345, temperature=5432.1)
    variant.adjust(given)
    tone.sliders["shadows"].slider.setValue(20)
    qtbot.waitUntil(lambda: variant.adjustment.shadows == 20)
    adjust.exposure.setValue(0.5)
    qtbot.waitUntil(lambda: variant.adjustment.ev == 0.5)
    assert variant.adjustment == replace(given, shadows=20, exposure=0.5)
    tone.reset_button.click()
    assert variant.adjustment == Adjustment(strength=0.3333, exposure=0.5)


@pytest.mark.nightly
@pytest.mark.viewer
def test_escape_leaves_the_picker_and_puts_the_cursor_back(
    panel: Any, tone: ToneSection, variant: Any, qtbot: Any
):
    viewer = panel.viewer
    panel.window().show()
    unfold(tone)
    areas = viewer.add_shapes(name="areas")
    areas.mode = "add_rectangle"
    panel.state.current = variant
    drag_callbacks = list(viewer.mouse_drag_callbacks)
    tone.picker.click()
    assert viewer.cursor.style == "cross" and not viewer.scene.camera.mouse_pan
    # A tool of napari would draw at the same click.
    assert viewer.layers.selection.active is variant.layer
    qtbot.keyClick(tone.picker, Qt.Key.Key_Escape)
    assert not tone.picker.isChecked() and drag_callbacks == list(viewer.mouse_drag_callbacks)
    assert viewer.cursor.style != "cross" and viewer.scene.camera.mouse_pan
    assert viewer.keymap.get("Escape") is None


@pytest.mark.slow
@pytest.mark.viewer
def test_what_is_clicked_becomes_grey_and_the_histogram_follows(
    panel: Any, tone: ToneSection, variant: Any, qtbot: Any
):
    panel.window().show()
    qtbot.waitUntil(lambda: not panel.bar.button.visibleRegion().isEmpty())
    # What is folded makes no histogram.
    assert tone.histogram.histogram is None
    unfold(tone)
    qtbot.waitUntil(lambda: tone.histogram.histogram is not None)
    before = tone.histogram.histogram
    assert before is not None and before.counts.sum() > 0
    tone.picker.click()
    Mouse(variant.layer.data_to_world((75, 100))).drive(panel.viewer)
    qtbot.waitUntil(lambda: variant.adjustment.temperature < 6500)
    qtbot.waitUntil(lambda: variant.adjustment == tone.chosen)
    assert not tone.picker.isChecked()
    assert np.ptp(np.array(variant.layer.data)[75, 100, :3]) <= 2
    qtbot.waitUntil(
        lambda: bool((tone.histogram.histogram.counts != before.counts).any())  # type: ignore[union-attr]
    )


@pytest.mark.slow
@pytest.mark.viewer
def test_it_says_why_it_can_do_nothing(
    panel: Any, tone: ToneSection, sample: Path, finished_run: Any
):
    assert "no result" in tone.about.text()
    assert not tone.temperature.isEnabled() and not tone.histogram.isEnabled()
    grey = np.random.default_rng(1).integers(1, 250, (60, 80), np.uint8)
    panel.viewer.add_image(grey, name="grey")
    panel.target.choose(TargetChoice.WHOLE)
    panel.state.method = ChosenMethod("identity")
    variant = finished_run()
    assert "red, green and blue" in tone.about.text()
    assert tone.sliders["shadows"].isEnabled() and not tone.sliders["saturation"].isEnabled()
    assert not tone.temperature.isEnabled() and not tone.picker.isEnabled()
    variant.adjust(Adjustment(shadows=20))
    assert tone.sliders["shadows"].value() == 20
    # Said in the same way.
    image = nr.open_image(sample)
    with pytest.raises(BadParameter, match="measurements"):
        Adjustment(shadows=20).check(image.name, image.roles, is_photo=image.is_photo)
