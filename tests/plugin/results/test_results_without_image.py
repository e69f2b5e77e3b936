"""Results whose image has left the viewer: still shown, still the user's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_restore import api
from napari_restore.plugin.results.results_section import RecordView

pytestmark = pytest.mark.viewer


def section(panel: Any, title: str) -> Any:
    return next(one for one in panel.sections if one.TITLE == title)


@pytest.fixture
def photo(panel: Any, sample: Path) -> Any:
    """The sample, of which a small rectangle in view is restored."""
    panel.viewer.open(sample, plugin="napari-restore")
    panel.viewer.scene.camera.zoom *= 8
    return panel.viewer.layers[0]


@pytest.mark.slow
def test_without_its_image_a_result_is_still_there_to_save_and_delete(
    panel: Any,
    qtbot: Any,
    photo: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    finished_run: Any,
):
    panel.models.choose("identity")
    variant = finished_run()
    results, store = section(panel, "Results"), variant.result.store.path
    other = panel.viewer.add_image(np.ones((40, 50), np.uint8), name="other")
    panel.viewer.layers.remove(photo)
    assert panel.state.layer is other
    assert panel.state.variants == (variant,) and panel.state.current is variant
    assert f"{photo.name} was removed" in results.rows[variant].settings.text()
    # What needs the image is not offered, or says so.
    compare = section(panel, "Compare")
    assert not compare.swipe.isEnabled() and "removed" in compare.hint.text()
    results.run_requested.connect(lambda *_: pytest.fail("run"))
    results.record.click()
    results.findChild(RecordView).again.click()
    panel.models.choose("dcp")
    results.use.click()
    assert (panel.state.method.model, panel.state.layer) == ("identity", other)
    # Its pixels are, as before.
    export = section(panel, "Export")
    path = tmp_path / "out.tif"
    monkeypatch.setattr(export, "ask_path", lambda proposed: path)
    with qtbot.waitSignal(export.ended) as reported:
        export.export.click()
    assert reported.args[0] == "done"
    written = api.open_image(path)
    region, box = variant.result.region, variant.shown.box
    inside = region.shift(-box.y0, -box.x0).slices
    np.testing.assert_array_equal(
        written.read((0, 0, *region.shape)), np.asarray(variant.layer.data[0])[inside][..., :3]
    )
    monkeypatch.setattr(results, "confirmed", lambda question: True)
    with qtbot.waitSignal(results.freed) as reported:
        results.delete.click()
    assert reported.args == [True]
    assert not store.exists() and panel.state.variants == ()


@pytest.mark.nightly
def test_an_image_that_comes_back_has_its_results(panel: Any, photo: Any, finished_run: Any):
    panel.models.choose("identity")
    variant = finished_run()
    results, layers = section(panel, "Results"), panel.viewer.layers
    compare = section(panel, "Compare")
    compare.swipe.click()
    assert compare.swipe.isChecked()
    layers.remove(photo)
    assert not compare.swipe.isChecked()
    layers.insert(0, photo)
    assert compare.swipe.isEnabled()
    assert "removed" not in results.rows[variant].settings.text()


@pytest.mark.slow
def test_a_live_result_goes_with_its_image(panel: Any, qtbot: Any, photo: Any):
    panel.models.choose("identity")
    with qtbot.waitSignal(panel.runs.live.updated):
        panel.bar.live.click()
    (variant,) = panel.state.variants
    assert variant.name == f"Live: Unchanged – {photo.name}"
    panel.viewer.layers.remove(photo)
    qtbot.waitUntil(lambda: panel.state.variants == ())
