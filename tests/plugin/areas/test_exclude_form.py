"""Masks of products in the panel: bands, names, values and bits reach options, command and run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import napari_restore as nr
from napari_restore.plugin.results.export_section import ExportSection

pytestmark = pytest.mark.viewer
PLACE = rasterio.transform.from_origin(500000, 5300000, 30, 30)


def write(path: Path, bands: np.ndarray, *names: str) -> Path:
    count, height, width = bands.shape
    about = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    with rasterio.open(
        path, "w", driver="GTiff", crs="EPSG:32632", transform=PLACE, **about
    ) as new:
        new.write(bands)
        for number, name in enumerate(names, 1):
            new.set_band_description(number, name)
    return path


def stack(path: Path) -> Path:
    rng = np.random.default_rng(0)
    light = rng.integers(8000, 20000, (3, 64, 64)).astype(np.uint16)
    qa = np.full((1, 64, 64), 21824, np.uint16)
    qa[:, 8:20, 5:30] = 22280
    return write(path, np.concatenate([light, qa]), "SR_B4", "SR_B3", "SR_B2", "QA_PIXEL")


def reading(panel: Any) -> Any:
    return panel.state.options.reading


@pytest.mark.slow
@pytest.mark.nightly
def test_a_band_of_the_image_by_names(panel: Any, qtbot: Any, tmp_path: Path):
    panel.viewer.open(stack(tmp_path / "stack.tif"), plugin="napari-restore")
    exclude = panel.exclude
    texts = [exclude.combo.itemText(n) for n in range(exclude.combo.count())]
    exclude.combo.setCurrentIndex(texts.index("Band QA_PIXEL of the image"))
    exclude.combo.activated.emit(exclude.combo.currentIndex())
    assert reading(panel).exclude == ":QA_PIXEL"
    form = exclude.choice
    qtbot.waitUntil(lambda: "cloud" in form.names)
    assert form.product.text() == "Landsat Collection 2 QA_PIXEL"
    form.names["cloud"].click()
    form.names["shadow"].click()
    assert reading(panel).exclude_bits == "cloud,shadow"
    panel.state.set_options(exclude_bits="cloud,5")
    assert not form.names["shadow"].isChecked() and form.bits.text() == "5"
    panel.exclude.choose(None)
    assert reading(panel).exclude_bits is None and form.isHidden()


@pytest.mark.slow
def test_a_file_with_bands_and_one_of_values(panel: Any, qtbot: Any, tmp_path: Path):
    panel.viewer.open(stack(tmp_path / "stack.tif"), plugin="napari-restore")
    udm2 = write(tmp_path / "a_udm2.tif", np.zeros((8, 64, 64), np.uint8))
    panel.exclude.choose(udm2)
    form = panel.exclude.choice
    qtbot.waitUntil(lambda: "heavy_haze" in form.names)
    form.part.setCurrentIndex(6)
    form.part.activated.emit(6)
    qtbot.waitUntil(lambda: reading(panel).exclude == f"{udm2}:6")
    qtbot.waitUntil(lambda: form.part.currentData() == "6")
    form.values.setText("1")
    form.values.editingFinished.emit()
    assert reading(panel).exclude_values == "1"
    shapes = tmp_path / "a.geojson"
    shapes.write_text('{"type": "FeatureCollection", "features": []}')
    panel.exclude.choose(shapes)
    qtbot.waitUntil(lambda: not form.where.isHidden() and form.values.isHidden())
    assert reading(panel).exclude_values is None


@pytest.mark.slow
def test_the_run_and_its_command_have_the_choice(
    panel: Any, qtbot: Any, tmp_path: Path, finished_run: Any
):
    source = stack(tmp_path / "stack.tif")
    panel.viewer.open(source, plugin="napari-restore")
    panel.models.combo.setCurrentIndex(panel.models.combo.findData("dcp"))
    panel.exclude.choose(Path(":QA_PIXEL"))
    qtbot.waitUntil(lambda: "cloud" in panel.exclude.choice.names)
    panel.exclude.choice.names["cloud"].click()
    variant = finished_run()
    pixels = nr.open_image(source).read((0, 0, 64, 64))
    changed = (np.asarray(variant.result) != pixels).any(axis=2)
    assert changed.any() and not changed[8:20, 5:30].any()
    (export,) = [one for one in panel.sections if isinstance(one, ExportSection)]
    assert not export.form.isRowVisible(export.clip)
    command = export.command()
    assert ":QA_PIXEL" in command and "--exclude-bits cloud" in command
