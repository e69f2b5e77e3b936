"""A run that is run again, and a live result that is run, leave one layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_restore.engine import TileDone
from napari_restore.plugin.runs.layer_run import LayerRun
from napari_restore.plugin.state.request import TargetChoice
from napari_restore.questions import Adjustment

pytestmark = [pytest.mark.viewer, pytest.mark.slow]


@pytest.mark.nightly
def test_cancel_then_run_leaves_one_layer(
    panel: Any, qtbot: Any, colours: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    send = LayerRun.send

    def stop_at_a_tile(run: LayerRun, item: Any) -> None:
        send(run, item)
        if isinstance(item[1], TileDone) and not item[0].is_draft and run.job is not None:
            run.stop.set()
            run.job.cancel()

    panel.viewer.add_image(colours, name="photo")
    panel.models.choose("dcp")
    panel.target.choose(TargetChoice.WHOLE)
    panel.advanced.tile.setValue(256)
    ended: list[Any] = []
    panel.ended.connect(lambda *outcome: ended.append(outcome[0]))
    with monkeypatch.context() as patched:
        patched.setattr(LayerRun, "send", stop_at_a_tile)
        panel.bar.button.click()
        qtbot.waitUntil(lambda: bool(ended))
        assert panel.bar.message.text() == (
            "Cancelled. Run again to go on from the finished tiles."
        )
        omega = panel.parameters.rows["omega"]
        panel.bar.button.click()
        usual, omega.value = omega.value, 0.5
        qtbot.waitUntil(lambda: len(ended) == 2)
        assert "Run again" not in panel.bar.message.text()
        assert panel.state.current.name in panel.bar.message.text()
        omega.value = usual
    assert ended == ["cancelled", "cancelled"]
    ended.pop()
    (half,) = panel.state.variants
    name = half.name
    panel.bar.button.click()
    qtbot.waitUntil(lambda: len(ended) == 2)
    (whole,) = panel.state.variants
    assert ended[1] == "done" and whole is not half and whole.result is not None
    assert [str(layer.name) for layer in panel.viewer.layers] == ["photo", name]
    # One that is whole stays beside that of other settings, and is shown again for its own.
    assert any("became black" in note for note in whole.record["notes"])
    omega.value = 0.5
    panel.bar.button.click()
    qtbot.waitUntil(lambda: len(ended) == 3)
    _, other = panel.state.variants
    whole.layer.visible = False
    omega.value = usual
    panel.bar.button.click()
    qtbot.waitUntil(lambda: len(ended) == 4)
    assert panel.state.variants == (whole, other)
    assert panel.state.current is whole and whole.layer.visible
    assert list(panel.viewer.layers)[-1] is whole.layer
    assert whole.name in panel.bar.message.text()


def rested(panel: Any, qtbot: Any, change: Any) -> None:
    """Make a change and wait until the live result has caught up."""
    with qtbot.waitSignal(panel.runs.live.updated):
        change()


@pytest.mark.binding
def test_a_run_takes_the_live_result_over(panel: Any, qtbot: Any, colours: np.ndarray):
    viewer, state = panel.viewer, panel.state
    source = viewer.add_image(colours, name="photo")
    panel.models.choose("dcp")
    panel.target.choose(TargetChoice.WHOLE)
    viewer.scene.camera.zoom *= 4
    rested(panel, qtbot, panel.bar.live.click)
    (live,) = state.variants
    assert live.result.region.shape < colours.shape[:2]
    live.adjust(Adjustment(strength=0.5))
    live.adjust(Adjustment(strength=0.5, exposure=0.5))
    viewer.layers.selection.active = source
    rested(panel, qtbot, panel.bar.button.click)
    (run,) = state.variants
    assert state.current is run is not live
    assert run.result.region.shape == colours.shape[:2]
    names = ["photo", "Dark channel prior (whole image) – photo"]
    assert [layer.name for layer in viewer.layers] == names
    layer = viewer.layers[1]
    assert run.layer is layer and viewer.layers.selection.active is layer
    assert layer.metadata["napari_restore_result"] is run.result
    shown = layer.data[0] if layer.multiscale else layer.data
    np.testing.assert_array_equal(np.asarray(shown)[..., :3], np.asarray(run.result))
    run.undo()
    assert run.adjustment == Adjustment(strength=0.5)
    # What is true is there already, wherever one looks; other settings look alike.
    rested(panel, qtbot, lambda: setattr(viewer.scene.camera, "zoom", viewer.scene.camera.zoom / 4))
    assert [layer.name for layer in viewer.layers] == names
    omega = panel.parameters.rows["omega"]
    usual = omega.value
    rested(panel, qtbot, lambda: setattr(omega, "value", 0.5))
    assert [layer.name for layer in viewer.layers] == [*names, "Live: Dark channel prior – photo"]
    assert state.current.adjustment == run.adjustment
    rested(panel, qtbot, lambda: setattr(omega, "value", usual))
    assert [layer.name for layer in viewer.layers] == names
    assert state.variants == (run,) and state.current is run
