"""Which methods are offered for an image, in which order, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout, QLabel, QWidget

import napari_restore as nr
from napari_restore.api import models
from napari_restore.models import card_of
from napari_restore.plugin.method.model_chooser import (
    MARK,
    ModelChoice,
    ModelChooser,
    offered_models,
)

pytestmark = pytest.mark.viewer


@pytest.fixture
def chooser(qtbot: Any) -> Iterator[ModelChooser]:
    """A chooser in a form, as the panel has it."""
    window = QWidget()
    made = ModelChooser(window)
    made.add_rows(QFormLayout(window))
    qtbot.addWidget(window)
    window.show()
    yield made
    window.close()


def summary(chooser: ModelChooser) -> QLabel:
    """What is said of the chosen model, whose text can be copied."""
    copied = Qt.TextInteractionFlag.TextSelectableByMouse
    labels = chooser.window().findChildren(QLabel)
    (found,) = (each for each in labels if each.textInteractionFlags() == copied)
    return found


def keys(chooser: ModelChooser) -> list[str]:
    return [chooser.combo.itemData(n) for n in range(chooser.combo.count())]


def test_weights_that_are_missing_leave_a_model_out(chooser: ModelChooser):
    assert "inf-dehaze-fast" in {card.id for card in models()}
    chooser.offer(offered_models(), "aerial")
    assert "inf-dehaze-fast" not in keys(chooser)
    chooser.add(ModelChoice(card_of("inf-dehaze-fast"), "inf-dehaze-fast", weights="/tmp/mine.pth"))
    assert chooser.model() == "/tmp/mine.pth"
    assert chooser.choice() == ModelChoice(
        card_of("inf-dehaze-fast"), "inf-dehaze-fast", "/tmp/mine.pth"
    )
    chooser.offer(offered_models(), "natural")
    assert "/tmp/mine.pth" in keys(chooser)


def test_shipped_weights_are_not_requested(chooser: ModelChooser, registered: dict[str, Any]):
    registered["inf-dehaze-fast"] = replace(
        registered["inf-dehaze-fast"], shipped="inf-dehaze-fast.safetensors"
    )
    chooser.offer(offered_models(), "aerial")
    chooser.choose("inf-dehaze-fast")
    assert chooser.choice() == ModelChoice(
        card_of("inf-dehaze-fast"), "inf-dehaze-fast", weights=None
    )


def test_the_task_is_shown_only_when_there_are_several(chooser: ModelChooser):
    cards = [card_of("dcp"), card_of("identity")]
    chooser.offer(cards, "aerial")
    assert not chooser.task.isVisible()
    bright = replace(card_of("identity"), id="bright", task="lowlight", title="Bright")
    chooser.offer([*cards, bright], "aerial")
    assert chooser.task.isVisible() and chooser.scene.isVisible()
    # Where no method applies nothing is said of any.
    chooser.show_rows(False)
    assert not any(each.isVisible() for each in (chooser.task, chooser.scene, summary(chooser)))
    chooser.show_rows(True)
    assert "bright" not in keys(chooser)
    chooser.task.setCurrentIndex(chooser.task.findData("lowlight"))
    # What belongs to no task belongs to all.
    assert keys(chooser) == ["bright", "identity"]


def test_a_file_of_ones_own_is_shown_with_the_task_of_its_card(chooser: ModelChooser):
    """Of no listed task it is none that removes haze, which stood there before."""
    bright = replace(card_of("identity"), id="bright", task="lowlight", title="Bright")
    chooser.offer([card_of("dcp"), bright], "aerial")
    assert (chooser.model(), chooser.task.currentData()) == ("dcp", "dehaze")
    own = replace(card_of("identity"), id="mine", title="Mine")
    for task, shown in (("other", "Not listed here"), ("derain", "Remove rain")):
        chooser.add(ModelChoice(replace(own, task=task), "mine.py:make"))
        assert (chooser.model(), chooser.task.currentText()) == ("mine.py:make", shown)
    chooser.choose("dcp")
    assert (chooser.model(), chooser.task.currentData()) == ("dcp", "dehaze")


def test_a_model_of_another_task_is_chosen_with_its_task(chooser: ModelChooser):
    chooser.offer([card_of("dcp"), replace(card_of("identity"), task="lowlight")], "aerial")
    assert chooser.model() == "dcp"
    chooser.choose("identity")
    assert (chooser.model(), chooser.task.currentData()) == ("identity", "lowlight")
    chooser.choose("unknown")
    assert chooser.model() == "identity"


def test_the_scene_orders_and_marks(chooser: ModelChooser):
    first = replace(card_of("identity"), id="photos", task="dehaze", recommended_for=("natural",))
    prior = replace(card_of("dcp"), recommended_for=("aerial", "natural"))
    cards = [card_of("hot"), prior, first]
    chooser.offer(cards, "aerial")
    assert chooser.scene.currentText() == "Aerial or satellite image"
    assert keys(chooser) == ["dcp", "hot", "photos"]
    assert chooser.combo.itemText(0) == f"{MARK}Dark channel prior"
    chooser.scene.setCurrentIndex(chooser.scene.findData("natural"))
    assert keys(chooser) == ["dcp", "photos", "hot"]
    assert [chooser.combo.itemText(n)[: len(MARK)] == MARK for n in range(3)] == [True, True, False]


def test_the_users_scene_stays_until_another_kind_of_image_comes(chooser: ModelChooser):
    chooser.offer(offered_models(), "natural")
    chooser.scene.setCurrentIndex(chooser.scene.findData("aerial"))
    chooser.offer(offered_models(), "natural")
    assert chooser.scene.currentData() == "aerial"
    chooser.offer(offered_models(), "aerial")
    chooser.offer(offered_models(), "natural")
    assert chooser.scene.currentData() == "natural"


def test_the_summary_names_purpose_and_validation(chooser: ModelChooser):
    chooser.offer(offered_models(), "aerial")
    reported = summary(chooser).text()
    card = card_of("atmosphere-aerial")
    assert reported.startswith(f"{MARK}Recommended. {card.summary}\nTested on synthetic haze only")
    assert "dB" not in reported
    assert card.validated_on in summary(chooser).toolTip()
    chooser.choose("identity")
    assert "Validated" not in summary(chooser).text()


def test_what_cannot_run_is_shown_but_not_chosen(chooser: ModelChooser):
    infrared = nr.open_image(np.zeros((64, 64), np.uint8), bands="nir=1")
    chooser.offer(offered_models(), "aerial")
    chooser.choose("hot")
    chooser.offer(offered_models(), "aerial", infrared)
    assert chooser.model() == "dcp"
    place = chooser.combo.findData("hot")
    assert not chooser.combo.model().item(place).isEnabled()
    reason = chooser.combo.itemData(place, Qt.ItemDataRole.ToolTipRole)
    assert "needs the bands blue, red" in reason
    unknown = nr.open_image(np.zeros((64, 64, 5), np.uint16))
    chooser.offer(offered_models(), "aerial", unknown)
    assert chooser.combo.model().item(chooser.combo.findData("hot")).isEnabled()


def test_a_model_without_roles_is_chosen_where_bands_are_unknown(chooser: ModelChooser):
    unknown = nr.open_image(np.zeros((64, 64, 5), np.uint16))
    chooser.offer(offered_models(), "aerial", unknown)
    assert chooser.model() == "dcp"
    assert keys(chooser)[0] == "atmosphere-aerial"
    chooser.choose("atmosphere-aerial")
    chooser.offer(offered_models(), "aerial", unknown)
    assert chooser.model() == "atmosphere-aerial"


def test_a_choice_stays_with_the_next_image(chooser: ModelChooser, qtbot: Any):
    chooser.offer(offered_models(), "aerial")
    with qtbot.waitSignal(chooser.changed) as reported:
        chooser.choose("htm")
    assert reported.args == ["htm"]
    chooser.offer(offered_models(), "natural")
    assert chooser.model() == "htm"


def test_a_method_made_for_another_scene_is_marked(chooser: ModelChooser):
    chooser.offer(offered_models(), "natural")
    for name in ("hot", "htm"):
        chooser.choose(name)
        assert summary(chooser).text().startswith("Made for another scene (aerial or satellite")
        assert "white skies brown" in summary(chooser).toolTip()
    chooser.choose("dcp")
    assert "another scene" not in summary(chooser).text()
    chooser.offer(offered_models(), "aerial")
    chooser.choose("htm")
    assert "another scene" not in summary(chooser).text()
