"""What the package says of options, with the labels of the window."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QAbstractButton, QLabel

import napari_restore
from napari_restore.errors import BadParameter, Message, option
from napari_restore.plugin.results.earlier_results_view import EarlierRow
from napari_restore.plugin.state.request import TargetChoice
from napari_restore.plugin.tasks import notices
from napari_restore.plugin.tasks.notices import (
    LABELS,
    done_text,
    error_text,
    show_note,
    show_problem,
)

MANIFEST = Path(napari_restore.__file__).with_name("napari.yaml")


def texts_of(panel: Any) -> set[str]:
    widgets = [*panel.findChildren(QLabel), *panel.findChildren(QAbstractButton)]
    return {widget.text().strip(" …▸▾") for widget in widgets}


@pytest.mark.slow
@pytest.mark.viewer
def test_every_label_is_that_of_a_control(panel: Any, qtbot: Any) -> None:
    class Kept:
        title, used, complete, finished = "whole", 0.0, True, 1.0

    earlier = EarlierRow(Kept())  # type: ignore[arg-type]
    qtbot.addWidget(earlier)
    texts = texts_of(panel) | texts_of(earlier) | {"Preferences"}
    texts |= set(re.findall(r"title: (.*)", MANIFEST.read_text(encoding="utf-8")))
    for label in LABELS.values():
        control, _, place = label.replace(" {}", "").partition(" (")
        assert control.removeprefix("the form below ") in texts, label
        assert place.rstrip(")") in texts | {""}, label


@pytest.mark.viewer
@pytest.mark.slow
def test_an_error_names_controls(panel: Any, qtbot: Any, colours: np.ndarray) -> None:
    panel.viewer.add_image(colours, name="photo")
    panel.models.combo.setCurrentIndex(panel.models.combo.findData("dcp"))
    panel.target.choose(TargetChoice.WHOLE)
    with qtbot.waitSignal(panel.plans.planned):
        panel.memory.setValue(0.01)
    said = panel.bar.plan_line.text()
    assert re.search(r"Use Memory \d+MiB or more, or a smaller Tile \(Advanced\)\.$", said)


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        (f"Use {option('device', 'cpu')}.", "Use Device cpu (Advanced)."),
        (
            f"Give another {option('scratch')} folder.",
            "Give another Cache folder (Preferences).",
        ),
        (f"Use {option('arguments', {'n': 2})}.", "Use Settings n=2."),
        (f"Use {option('fresh', True)}.", "Use Delete (Results)."),
        (f"Raise {option('device_memory')}.", "Raise device memory."),
    ],
)
def test_an_option_is_called_as_its_control(hint: str, said: str) -> None:
    assert error_text(BadParameter("No.", hint)) == f"No. {said}"


@pytest.mark.slow
@pytest.mark.viewer
@pytest.mark.binding
def test_a_note_is_seen_whole_until_another_image_is_shown(
    make_napari_viewer_proxy: Any, qtbot: Any
) -> None:
    make_napari_viewer_proxy(show=True)
    long = "The image has 3 bands and the method takes 4. " * 3 + "Choose another method."

    def message(said: str) -> QLabel:
        (found,) = (each.message for each in notices._notes() if each.message.text() == said)
        return found

    def is_whole(said: str) -> bool:
        label, same = message(said), QLabel(said, wordWrap=True)
        same.setFont(label.font())
        # napari's style has margins.
        return label.height() >= same.heightForWidth(label.width() - 4) + 2

    show_note(long, "lake")
    qtbot.waitUntil(lambda: is_whole(f"lake: {long}"))
    assert message(f"lake: {long}").window().isVisible()
    # Layers with more controls, say, take of the canvas while the note grows.
    note = notices._notes()[0]
    note.geom_anim.setCurrentTime(0)
    note.geom_anim.start()
    window = note.window()
    window.resize(window.width() - 90, window.height() - 50)
    qtbot.waitUntil(lambda: note.geom_anim.state() == note.geom_anim.State.Stopped)
    assert note.parent().rect().contains(note.geometry())
    qtbot.waitUntil(lambda: is_whole(f"lake: {long}"))
    # Words of many lengths: some end just where a line does.
    for count in range(9, 30):
        words = " ".join(["pixels", "became", "white (red)", "2", "a"][n % 5] for n in range(count))
        show_note(words, "lake")
        qtbot.waitUntil(lambda words=words: is_whole(f"lake: {words}"))
        notices._notes()[-1].close()
    show_problem(BadParameter("No.", long))
    qtbot.waitUntil(lambda: is_whole(f"No. {long}"))
    qtbot.waitUntil(lambda: notices._notes()[-1].opacity.opacity() == 1)
    notices.close_notes("lake")
    assert len(notices._notes()) == 2
    notices.close_notes("hill")
    assert [each.message.text() for each in notices._notes()] == [f"No. {long}"]


@pytest.mark.slow
def test_a_note_names_controls(make_napari_viewer_proxy: Any) -> None:
    make_napari_viewer_proxy()
    shown: list[str] = []
    notification_manager.notification_ready.connect(lambda told: shown.append(told.message))
    show_note(Message(f"It is Landsat 8: {option('sensor', 'landsat8')} sets zero."))
    assert shown == ["It is Landsat 8: Sensor landsat8 sets zero."]


def test_what_a_run_took_is_the_time_since_the_click_with_its_parts() -> None:
    text = done_text(18.7, planning=9.1, computing=3.6)
    assert text == "Done in 19 s: planning 9.1 s, loading and drawing 6.0 s, computing 3.6 s."
    assert done_text(2.5, computing=2.5) == "Done in 2.5 s: computing 2.5 s."
