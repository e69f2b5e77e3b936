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
from qtpy.QtWidgets import QApplication, QDialogButtonBox, QLabel, QLineEdit
from safetensors.torch import save_file
from tests.support import scaling_networks

import napari_restore as nr
from napari_restore import api
from napari_restore.engine import Progress
from napari_restore.plugin.method.model_files_dialog import ProposalDialog, TrustDialog
from napari_restore.plugin.state.request import TargetChoice

pytestmark = [pytest.mark.viewer, pytest.mark.binding]

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
    qtbot.waitUntil(lambda: isinstance(panel.files.dialog, kind))
    return panel.files.dialog


def press(dialog: Any, text: str) -> None:
    """Press a button of a dialog."""
    (button,) = (b for b in dialog.findChild(QDialogButtonBox).buttons() if b.text() == text)
    button.click()


@pytest.fixture
def shown() -> list[str]:
    reported: list[str] = []
    notification_manager.notification_ready.connect(lambda one: reported.append(one.message))
    return reported


@pytest.mark.slow
def test_dropped_weights_are_proposed_confirmed_and_run_in_the_child(
    panel: Any, qtbot: Any, weights: Path, finished_run: Any
):
    panel.viewer.add_image(np.full((64, 64, 3), 90, np.uint8), name="photo")
    assert drop(panel, weights)
    dialog = asked(panel, qtbot, ProposalDialog)
    assert not weights.with_suffix(".json").exists()
    assert not dialog.task.isVisible()
    (title,) = (e for e in dialog.findChildren(QLineEdit) if "title" in e.toolTip())
    title.setText("My haze")
    press(dialog, "Add")
    assert json.loads(weights.with_suffix(".json").read_text()) == {
        "model": "haze-unet",
        "title": "My haze",
    }
    assert panel.state.method.model == str(weights)
    assert panel.models.combo.currentText().endswith("My haze")
    panel.target.choose(TargetChoice.WHOLE)
    record = finished_run().record
    assert len(record["model"]["weights_sha256"]) == 64


@pytest.mark.nightly
def test_weights_that_serve_several_tasks_are_asked_for_theirs(
    panel: Any, qtbot: Any, tmp_path: Path
):
    path = tmp_path / "rain.pth"
    torch.save(nr.load_model("hint-small", weights="random:1").state_dict(), path)
    panel.viewer.add_image(np.full((64, 64, 3), 90, np.uint8), name="photo")
    assert drop(panel, path)
    dialog = asked(panel, qtbot, ProposalDialog)
    assert dialog.task.isVisible() and dialog.task.currentData() == "other"
    dialog.task.setCurrentIndex(dialog.task.findData("derain"))
    press(dialog, "Add")
    assert json.loads(path.with_suffix(".json").read_text()) == {
        "model": "hint-small",
        "title": "rain",
        "task": "derain",
    }
    assert nr.load_model(path).card.task == "derain"
    assert panel.state.method.model == str(path)
    assert panel.models.task.currentText() == "Remove rain"


@pytest.mark.slow
def test_the_dialog_shows_what_was_found(panel: Any, qtbot: Any, weights: Path):
    panel.files.add_file(str(weights))
    dialog = asked(panel, qtbot, ProposalDialog)
    reported = " ".join(label.text() for label in dialog.findChildren(type(panel.summary)))
    for words in ("mine.safetensors", "HazeUNet", "3: red, green, blue", "48 px", "KiB"):
        assert words in reported
    press(dialog, "Cancel")
    assert panel.files.dialog is None
    assert not weights.with_suffix(".json").exists()
    assert panel.models.combo.findData(str(weights)) == -1


@pytest.mark.slow
def test_what_an_own_network_takes_is_asked_for(panel: Any, qtbot: Any, tmp_path: Path):
    path = tmp_path / "own.py"
    path.write_text("from torch import nn\n\ndef make():\n    return nn.Conv2d(3, 3, 1)\n")
    panel.files.add_file(str(path))
    press(asked(panel, qtbot, TrustDialog), "Run it")
    dialog = asked(panel, qtbot, ProposalDialog)
    assert dialog.values.isVisible()
    dialog.values.setCurrentText("−1 to 1")
    dialog.order.setCurrentText("Blue, green, red")
    dialog.mean.setText("0.5, 0.4 0.3")
    dialog.std.setText("wide")
    press(dialog, "Add")
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["value_range"] == [-1, 1]
    assert card["roles"] == ["blue", "green", "red"]
    assert card["mean"] == [0.5, 0.4, 0.3]
    assert "std" not in card
    assert panel.state.method.model == f"{path}:make"
    assert nr.load_model(f"{path}:make", trust=True).card.value_range == (-1, 1)


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_still_allows_known_networks(
    panel: Any, qtbot: Any, weights: Path, shown: list[str], monkeypatch: pytest.MonkeyPatch
):
    panel.viewer.add_image(np.full((64, 64, 3), 90, np.uint8), name="photo")
    panel.files.add_file(str(weights))
    dialog = asked(panel, qtbot, ProposalDialog)

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", refuse)
        press(dialog, "Add")
    assert (panel.state.method.model, panel.state.method.weights) == ("haze-unet", str(weights))
    assert "cannot be written beside" in shown[-1]
    assert panel.state.request().load().card.id == "haze-unet"


@pytest.mark.slow
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
    assert panel.state.method.model == f"{path}:make"
    assert panel.state.method.trust
    panel.viewer.add_image(np.full((64, 64, 3), 90, np.uint8), name="photo")
    assert panel.state.request().load()(torch.ones(1, 3, 8, 8)).mean() == 0.5
    panel.models.choose("identity")
    assert not panel.state.method.trust


@pytest.mark.slow
def test_refusals_are_one_sentence(panel: Any, qtbot: Any, tmp_path: Path, shown: list[str]):
    path = tmp_path / "other.safetensors"
    save_file({"stem.weight": torch.ones(2, 3, 1, 1)}, path)
    drop(panel, path)
    qtbot.waitUntil(lambda: bool(shown))
    assert "of no network known here" in shown[0]
    assert panel.bar.message.text() == ""
    empty = tmp_path / "empty.py"
    empty.write_text("x = 1\n")
    drop(panel, empty)
    assert "no function that could make a model" in shown[1]
    assert panel.files.dialog is None


def test_measuring_is_told_and_an_error_is_logged_where_it_was(
    panel: Any, qtbot: Any, weights: Path, shown: list[str], monkeypatch: Any, caplog: Any
):
    def inspect(source: str, *, trust: bool, emit: Any) -> Any:
        emit(Progress(2, 8))
        raise RuntimeError("dictionary changed size during iteration")

    monkeypatch.setattr(api, "inspect_model", inspect)
    messages: list[str] = []
    panel.files.message.connect(messages.append)
    drop(panel, weights)
    qtbot.waitUntil(lambda: bool(shown))
    assert messages[1:] == ["Measuring the method: 2 s of at most 8 s …", ""]
    assert "cannot be used: dictionary changed size" in shown[0]
    (logged,) = (one for one in caplog.records if one.exc_info)
    assert weights.name in logged.message


@pytest.mark.slow
def test_an_image_is_opened_and_is_no_model_file(panel: Any, qtbot: Any, sample: Path):
    assert drop(panel, sample)
    qtbot.waitUntil(lambda: len(panel.viewer.layers) == 1)
    assert panel.files.dialog is None


@pytest.mark.slow
def test_closing_the_panel_closes_the_dialog(panel: Any, qtbot: Any, weights: Path):
    panel.files.add_file(str(weights))
    asked(panel, qtbot, ProposalDialog)
    panel.close()
    assert panel.files.dialog is None


class Blur(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.near = torch.nn.Conv2d(3, 3, 5, padding=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.2 * self.near(x)


class Everywhere(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean((2, 3), keepdim=True)


def exported(path: Path, module: torch.nn.Module, side: int, free: bool) -> Path:
    """`module` as a program of images of `side` × `side` pixels, or of any size."""
    sizes = {2: torch.export.Dim("h", min=8), 3: torch.export.Dim("w", min=8)}
    shapes = (sizes,) if free else None
    program = torch.export.export(
        module, (torch.rand(1, 3, side, side),), dynamic_shapes=shapes, strict=False
    )
    torch.export.save(program, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("free", [True, False], ids=["any size", "256"])
@pytest.mark.ids("nightly", "any size")
def test_a_dropped_program_is_measured_confirmed_and_run(
    panel: Any, qtbot: Any, tmp_path: Path, finished_run: Any, free: bool
):
    path = exported(tmp_path / "mine.pt2", Blur(), 256, free)
    photo = np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)
    panel.viewer.add_image(photo, name="photo")
    assert drop(panel, path)
    press(asked(panel, qtbot, TrustDialog), "Run it")
    press(asked(panel, qtbot, ProposalDialog), "Add")
    assert json.loads(path.with_suffix(".json").read_text())["bands"] == 3
    assert panel.state.method.model == str(path) and panel.state.method.trust
    panel.target.choose(TargetChoice.WHOLE)
    result = finished_run().result
    assert result.record["status"] == "done"
    with torch.inference_mode():
        y = Blur()(torch.from_numpy(photo).permute(2, 0, 1)[None] / 255)
    expected = (y[0].permute(1, 2, 0) * 255).round().clamp(0, 255).numpy()
    # At the image's edge a window sees the image reflected.
    inner = (slice(4, -4), slice(4, -4))
    assert np.abs(expected - photo)[inner].mean() > 1
    assert np.abs(result.read(result.region) - expected)[inner].max() <= 1


@pytest.mark.slow
def test_a_dropped_program_that_needs_its_whole_image_is_one_sentence(
    panel: Any, qtbot: Any, tmp_path: Path, shown: list[str]
):
    drop(panel, exported(tmp_path / "all.pt2", Everywhere(), 256, free=False))
    press(asked(panel, qtbot, TrustDialog), "Run it")
    qtbot.waitUntil(lambda: bool(shown))
    assert "takes images of 256 × 256 pixels only" in shown[0]
    assert panel.files.dialog is None


@pytest.mark.slow
def test_the_scale_of_its_results_is_shown(tmp_path: Path, qtbot: Any) -> None:
    code = Path(scaling_networks.__file__).read_text("utf-8")
    (tmp_path / "net.py").write_text(f"{code}\n\ndef make():\n    return enlarging(2)\n", "utf-8")
    dialog = ProposalDialog(api.inspect_model(f"{tmp_path / 'net.py'}:make", trust=True))
    qtbot.addWidget(dialog)
    assert "× 2 along a side (measured)" in [label.text() for label in dialog.findChildren(QLabel)]
