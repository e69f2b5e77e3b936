"""A photo freed of haze has the same exposure live, after a run, in a file; nobody has adjusted it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_restore.plugin.results.adjust_section import AdjustSection
from napari_restore.plugin.runs.batch_section import _command
from napari_restore.plugin.state.request import TargetChoice
from napari_restore.questions import Adjustment

pytestmark = [pytest.mark.viewer, pytest.mark.slow]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """320 × 400 pixels of objects behind haze."""
    rng = np.random.default_rng(6)
    blocks = np.kron(rng.random((16, 20, 3)) ** 2, np.ones((20, 20, 1)))
    t = np.linspace(0.35, 0.8, 320)[:, None, None]
    seen = blocks * 0.7 * t + np.array([0.78, 0.82, 0.88]) * (1 - t)
    path = tmp_path / "photo.png"
    Image.fromarray(np.rint(255 * seen).astype(np.uint8)).save(path)
    return path


def shown(variant: Any) -> np.ndarray:
    layer = variant.layer
    return np.asarray(layer.data[0] if layer.multiscale else layer.data)[..., :3]


def rested(panel: Any, qtbot: Any, change: Any) -> None:
    """Make a change and wait until the live result has caught up."""
    with qtbot.waitSignal(panel.runs.live.updated):
        change()


@pytest.mark.binding
@pytest.mark.nightly
def test_live_run_and_command_are_exposed_alike(
    panel: Any, qtbot: Any, photo: Path, tmp_path: Path
) -> None:
    from napari_restore import api

    viewer, state = panel.viewer, panel.state
    viewer.open(photo, plugin="napari-restore")
    panel.models.choose("atmosphere")
    panel.target.choose(TargetChoice.WHOLE)
    viewer.scene.camera.zoom *= 3
    rested(panel, qtbot, panel.bar.live.click)
    (live,) = state.variants
    ev = live.adjustment.exposure
    assert ev > 0.1 and not live.is_adjusted and live.look == Adjustment()
    assert live.result.region.shape < (320, 400)
    y0, x0, y1, x1 = live.result.region
    in_view = shown(live)[y0:y1, x0:x1].copy()
    rested(panel, qtbot, panel.bar.button.click)
    (run,) = state.variants
    assert run.adjustment.exposure == run.record["adjustment"]["exposure"] == ev
    assert not run.is_adjusted and not run.can_undo
    np.testing.assert_array_equal(shown(run), np.asarray(run.result))
    np.testing.assert_array_equal(shown(run)[y0:y1, x0:x1], in_view)
    line = api.command_of(run.result.plan, tmp_path / "command.png")
    assert f"--adjust exposure={ev}" in line
    command = [sys.executable, "-m", *line.replace("napari-restore", "napari_restore", 1).split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "command.png")), np.asarray(run.result)
    )


def test_reset_goes_back_to_it_and_a_set_one_goes_on(
    panel: Any, qtbot: Any, photo: Path, finished_run: Any
) -> None:
    section = panel.findChild(AdjustSection)
    headings: list[str] = []
    section.heading_changed.connect(headings.append)
    panel.viewer.open(photo, plugin="napari-restore")
    panel.models.choose("atmosphere")
    panel.target.choose(TargetChoice.WHOLE)
    first = finished_run()
    usual = first.adjustment
    before = shown(first).copy()
    assert section.exposure.value() == pytest.approx(usual.exposure) and usual.exposure > 0.1
    assert headings[-1] == "Adjust" and not section.reset_button.isEnabled()
    assert not {"--adjust"} & set(_command(panel.state, Path("in"), Path("out")))
    section.exposure.setValue(0)
    qtbot.waitUntil(lambda: first.adjustment == Adjustment(exposure=0.0))
    assert headings[-1].startswith("Adjust · adjusted") and section.reset_button.isEnabled()
    np.testing.assert_array_equal(shown(first), first.result.store.read(first.result.region))
    assert "exposure=0.0" in _command(panel.state, Path("in"), Path("out"))
    # The next run takes what was set, and Auto as Reset gives the usual one back.
    panel.parameters.set_value("amount", 0.7)
    second = finished_run()
    assert second is not first and second.adjustment == Adjustment(exposure=0.0)
    section.auto_button.click()
    qtbot.waitUntil(lambda: not second.is_adjusted)
    assert 0 < second.adjustment.exposure < usual.exposure
    # What nobody has set is another one for another method.
    panel.models.choose("dcp")
    third = finished_run()
    assert third.adjustment == Adjustment() and not third.can_undo
    panel.state.current = first
    section.reset_button.click()
    assert first.adjustment == usual and not first.is_adjusted
    assert headings[-1] == "Adjust"
    np.testing.assert_array_equal(shown(first), before)
