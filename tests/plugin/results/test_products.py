"""What the window makes of satellites' files is what the command makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.maps.products import PRODUCTS, Product
from tests.maps.test_products import MODELS, command, small_ground

from napari_restore.plugin.results.export_section import ExportSection
from napari_restore.plugin.state.request import TargetChoice


@pytest.mark.slow
@pytest.mark.viewer
@pytest.mark.parametrize(
    ("product", "model"),
    [(each, MODELS[n % len(MODELS)]) for n, each in enumerate(PRODUCTS)],
    ids=lambda each: getattr(each, "id", each),
)
@pytest.mark.ids(
    "nightly",
    "hls-l30-htm",
    "hls-s30-atmosphere-aerial",
    "l5-ee-sr-dcp",
    "l5-l1-stack-dcp",
    "l5-l2-stack-hot",
    "l7-ee-toa-float-hot",
    "l8-ee-sr-atmosphere-aerial",
    "l8-ee-sr-scaled-htm",
    "l8-l2-stack-hot",
    "l8-l2-stack-qa-htm",
    "l9-l2-stack-atmosphere-aerial",
    "naip-dcp",
    "planet-4-hot",
    "planet-8-htm",
    "s2-ee-sr-hot",
    "s2-ee-tci-htm",
    "s2-float-dcp",
    "s2-l1c-new-dcp",
    "s2-l1c-old-atmosphere-aerial",
    "s2-l2a-new-20m-atmosphere-aerial",
    "s2-l2a-old-10m-hot",
    "s2-l2a-unnamed-dcp",
    "rgb-scaled-hot",
    "l7-l2-stack-htm",
    "modis-dcp",
    "l8-l1-stack-dcp",
    "s2-tags-atmosphere-aerial",
    "planet-4-udm2-atmosphere-aerial",
    "s2-l2a-new-10m-htm",
)
def test_the_window_writes_what_the_command_writes(
    product: Product,
    model: str,
    panel: Any,
    finished_run: Any,
    qtbot: Any,
    tmp_path: Path,
) -> None:
    path = product.write(tmp_path, small_ground())
    panel.viewer.open(path, plugin="napari-restore")
    # A method that is offered first is not chosen, and changes with what is known of the image.
    for each in ("identity", model):
        panel.models.choose(each)
    if product.sensor is not None:
        panel.bands.sensor.choose(product.sensor)
        panel.bands.sensor.activated.emit(panel.bands.sensor.currentIndex())
        assert panel.state.named.sensor == product.sensor
    panel.target.choose(TargetChoice.WHOLE)
    variant = finished_run()
    export = next(section for section in panel.sections if isinstance(section, ExportSection))
    ours, theirs = tmp_path / "window.tif", tmp_path / "command.tif"
    with qtbot.waitSignal(export.ended):
        export.save(variant, ours)
    command(product, tmp_path, model, theirs)
    assert ours.read_bytes() == theirs.read_bytes()
