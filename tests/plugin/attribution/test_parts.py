"""Layers of a network and segments of an image in place of pixels, in a real window."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_restore import Region
from napari_restore.plugin.attribution.attribution_task import AttributionTask
from napari_restore.plugin.layers.placing import plane_of

pytestmark = pytest.mark.viewer
BOX = Region(100, 120, 116, 136)


def choose(combo: Any, data: str) -> None:
    at = combo.findData(data)
    assert at >= 0, data
    combo.setCurrentIndex(at)


@pytest.mark.slow
def test_superpixels_are_asked_for_with_their_number(tab: Any) -> None:
    form = tab.form
    tab.target.add_box(BOX)
    assert tab.request().settings.segments is None and form.superpixels.isHidden()
    assert not form.baseline.isEnabled()
    choose(form.segments, "slic")
    form.superpixels.setValue(25)
    assert not form.superpixels.isHidden()
    # Automatic is then occlusion, which has a baseline.
    choose(form.baseline, "zero")
    settings = tab.request().settings
    assert (settings.segments, settings.method, settings.baseline) == ("slic:25", None, "zero")


@pytest.mark.slow
def test_settings_of_patches_are_not_those_of_segments(tab: Any, qtbot: Any) -> None:
    form = tab.form
    tab.target.add_box(BOX)
    choose(form.method, "occlusion")
    # Its settings are known once all methods are listed.
    qtbot.waitUntil(lambda: tab.request().settings.arguments == {"side": 16, "stride": None})
    choose(form.segments, "slic")
    assert tab.request().settings.arguments == {}


@pytest.mark.slow
def test_labels_of_a_layer_have_one_share_each(tab: Any, finished_attribution: Any) -> None:
    form, viewer = tab.form, tab.viewer
    tab.target.add_box(BOX)
    # Half as fine as the picture, and beginning at its 20th row.
    labels = np.zeros((120, 200), np.int64)
    labels[30:50, 40:60], labels[30:50, 60:90], labels[0:5, 0:5] = 3, 70000, 9
    coarse = np.array([[2, 0, 20.5], [0, 2, 0.5], [0, 0, 1]])
    place = plane_of(tab.state.layer) @ coarse
    units = tab.state.layer.units[-2:]
    layer = viewer.add_labels(labels, name="my regions", affine=place, units=units)
    assert form.segments.itemText(form.segments.count() - 1) == "my regions"
    choose(form.segments, str(layer.unique_id))
    found = finished_attribution()
    entry = found.record["attribution"]
    assert entry["method"] == "occlusion" and entry["segments"]["count"] == len(found.segments)
    for row in found.segments:
        rows, columns = np.nonzero(labels == row["label"])
        # The map's region cuts off nothing of these.
        top, left = 20 + 2 * rows.min(), 2 * columns.min()
        inside = Region(top, left, 20 + 2 * rows.max() + 2, 2 * columns.max() + 2)
        inside = inside.intersect(found.region)
        assert row["pixels"] == inside.pixels
        part = found.read(inside).sum(dtype=float)
        assert part == pytest.approx(row["share"], rel=1e-4, abs=1e-9)
    assert {3, 70000} <= {row["label"] for row in found.segments}
    assert "segments" in tab.results.measures.text()
    viewer.layers.remove(layer)
    assert form.segments.currentData() is None and form.labels is None


@pytest.mark.slow
def test_a_layer_is_named_and_a_wrong_name_is_answered(
    tab: Any, panel: Any, qtbot: Any, finished_attribution: Any
) -> None:
    pytest.importorskip("captum.attr")
    qtbot.waitUntil(lambda: tab.form.method.findData("captum:LayerGradCam") >= 0)
    panel.models.choose("haze-unet")
    tab.target.add_box(BOX)
    assert tab.form.layer.isHidden()
    choose(tab.form.method, "captum:LayerGradCam")
    assert not tab.form.layer.isHidden() and not tab.form.segments.isEnabled()
    tab.form.layer.setText("nowhere")
    assert "It has atmosphere, stem" in str(finished_attribution("failed"))
    tab.form.layer.setText(" decode2 ")
    found = finished_attribution()
    assert found.record["attribution"]["layer"]["name"] == "decode2"
    assert "decode2 (Sequential)" in tab.results.measures.text()
    assert found.map.shape[2] == 1 and found.map.any()
    np.testing.assert_array_equal(tab.results.current.layers.map.data, found.map[..., 0])


@pytest.mark.parametrize(("model", "name"), [("dcp", "2 dcp"), ("/a/way/net.py:x2", "2 net.py:x2")])
def test_layers_of_a_file_have_its_name_and_not_the_way_to_it(model: str, name: str) -> None:
    request: Any = SimpleNamespace(run=SimpleNamespace(model=model), scale=1)
    nothing: Any = None
    task = AttributionTask(ViewerModel(), nothing, request, 2, nothing, nothing)
    assert task.layers.name == name
