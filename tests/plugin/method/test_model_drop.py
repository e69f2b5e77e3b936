"""A model file dropped onto the panel: looked at, shown, confirmed, run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication, QDialogButtonBox
from safetensors.torch import save_file

import napari_restore as nr
from napari_restore.plugin.areas._targets import Target
from napari_restore.plugin.method._model_drop import ProposalDialog, TrustDialog

pytestmark = pytest.mark.viewer
LIMIT_MS = 60_000

OWN = """
import pathlib
import torch

class Darker(torch.nn.Module):
    def forward(self, x):
        return x * 0.5

def helper_of_nothing():
    return None

def make():
    pathlib.Path(__file__).with_suffix(".ran").touch()
    return Darker()
"""


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of haze-unet without a card."""
    path = tmp_path / "mine.safetensors"
    save_file(nr.load_model("haze-unet", weights="random:3").state_dict(), path)
    return path


def drop(panel: Any, *paths: Path) -> bool:
    """Drop files onto the panel as the window system would; whether they were taken."""
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    left, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(QPoint(5, 5), Qt.DropAction.CopyAction, mime, left, none)
    enter.setAccepted(False)
    QApplication.sendEvent(panel, enter)
    if not enter.isAccepted():
        return False
    event = QDropEvent(QPointF(5, 5), Qt.DropAction.CopyAction, mime, left, none)
    QApplication.sendEvent(panel, event)
    return event.isAccepted()


def asked(panel: Any, qtbot: Any, kind: type) -> Any:
    """Wait for the question of that kind."""
    qtbot.waitUntil(lambda: isinstance(panel.files.dialog, kind), timeout=LIMIT_MS)
    return panel.files.dialog


def press(dialog: Any, text: str) -> None:
    """Press a button of a dialog."""
    (button,) = (b for b in dialog.findChild(QDialogButtonBox).buttons() if b.text() == text)
    button.click()


@pytest.fixture
def shown() -> list[str]:
    told: list[str] = []
    notification_manager.notification_ready.connect(lambda one: told.append(one.message))
    return told


def test_dropped_weights_are_proposed_confirmed_and_run_in_the_child(
    panel: Any, qtbot: Any, weights: Path, finished_run: Any
):
    panel.viewer.add_image(np.full((64, 64, 3), 90, np.uint8), name="photo")
    assert drop(panel, weights)
    dialog = asked(panel, qtbot, ProposalDialog)
    assert not weights.with_suffix(".json").exists()
    dialog._title.setText("My haze")
    press(dialog, "Add")
    assert json.loads(weights.with_suffix(".json").read_text()) == {
        "model": "haze-unet",
        "title": "My haze",
    }
    assert panel.state.model == str(weights)
    assert panel.models.combo.currentText().endswith("My haze")
    panel.target.choose(Target.WHOLE)
    record = finished_run().record
    assert len(record["model"]["weights_sha256"]) == 64


def test_the_dialog_shows_what_was_found(panel: Any, qtbot: Any, weights: Path):
    panel.files.take(str(weights))
    dialog = asked(panel, qtbot, ProposalDialog)
    told = " ".join(label.text() for label in dialog.findChildren(type(panel.facts)))
    for words in ("mine.safetensors", "HazeUNet", "3: red, green, blue", "48 px", "KiB"):
        assert words in told
    press(dialog, "Cancel")
    assert panel.files.dialog is None
    assert not weights.with_suffix(".json").exists()
    assert panel.models.combo.findData(str(weights)) == -1


def test_a_folder_that_cannot_be_written_still_allows_known_networks(
    panel: Any, qtbot: Any, weights: Path, shown: list[str], monkeypatch: pytest.MonkeyPatch
):
    panel.viewer.add_image(np.full((64, 64, 3), 90, np.uint8), name="photo")
    panel.files.take(str(weights))
    dialog = asked(panel, qtbot, ProposalDialog)

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", refuse)
        press(dialog, "Add")
    assert (panel.state.model, panel.state.weights) == ("haze-unet", str(weights))
    assert "cannot be written beside" in shown[-1]
    assert panel.state.request().load().card.id == "haze-unet"


def test_python_runs_only_after_a_yes(panel: Any, qtbot: Any, tmp_path: Path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    ran = path.with_suffix(".ran")
    drop(panel, path)
    dialog = asked(panel, qtbot, TrustDialog)
    assert dialog.factory.itemText(0) == "make"
    press(dialog, "No")
    assert panel.files.dialog is None
    drop(panel, path)
    dialog = asked(panel, qtbot, TrustDialog)
    assert not ran.exists()
    press(dialog, "Run it")
    dialog = asked(panel, qtbot, ProposalDialog)
    assert ran.exists()
    press(dialog, "Add")
    assert panel.state.model == f"{path}:make"
    assert panel.state.trust
    panel.viewer.add_image(np.full((64, 64, 3), 90, np.uint8), name="photo")
    assert panel.state.request().load()(torch.ones(1, 3, 8, 8)).mean() == 0.5
    panel.models.choose("identity")
    assert not panel.state.trust


def test_refusals_are_one_sentence(panel: Any, qtbot: Any, tmp_path: Path, shown: list[str]):
    path = tmp_path / "other.safetensors"
    save_file({"stem.weight": torch.ones(2, 3, 1, 1)}, path)
    drop(panel, path)
    qtbot.waitUntil(lambda: bool(shown), timeout=LIMIT_MS)
    assert "fits none of the networks known here" in shown[0]
    assert panel.bar.message.text() == ""
    empty = tmp_path / "empty.py"
    empty.write_text("x = 1\n")
    drop(panel, empty)
    assert "no function that could make a model" in shown[1]
    assert panel.files.dialog is None


def test_other_files_are_left_to_napari(panel: Any, sample: Path):
    assert not drop(panel, sample)
    assert panel.files.dialog is None


def test_closing_the_panel_closes_the_question(panel: Any, qtbot: Any, weights: Path):
    panel.files.take(str(weights))
    asked(panel, qtbot, ProposalDialog)
    panel.close()
    assert panel.files.dialog is None
