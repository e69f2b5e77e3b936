"""Band combinations, indices and spectra of image and result, in the window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from napari_mouse import Mouse
from rasterio.transform import from_origin

from napari_restore.plugin.layers.layer_order import SOURCE
from napari_restore.plugin.spectral.spectral_section import SpectralSection
from napari_restore.plugin.state.request import TargetChoice
from napari_restore.questions import Adjustment

pytestmark = pytest.mark.viewer
NAMES = ("SR_B2", "SR_B3", "SR_B4", "SR_B5", "QA_PIXEL")
SIDE = 96


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """A hazy Landsat stack: blue, green, red, near infrared, bits; a corner without data."""
    random = np.random.default_rng(3)
    ground = random.uniform(0.02, 0.1, (3, SIDE, SIDE)) + 0.08
    nir = random.uniform(0.3, 0.5, (1, SIDE, SIDE))
    pixels = np.rint((np.concatenate([ground, nir]) + 0.2) / 2.75e-5).astype(np.uint16)
    pixels = np.concatenate([pixels, np.full((1, SIDE, SIDE), 21824, np.uint16)])
    pixels[:, :10, :10] = 0
    path = tmp_path / "LC08_L2SP_107035_20200101_20200823_02_T1_stack.tif"
    profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 5, "dtype": "uint16"}
    place = from_origin(300000, 4000000, 30, 30)
    with rasterio.open(path, "w", nodata=0, crs="EPSG:32654", transform=place, **profile) as file:
        file.write(pixels)
        for number, name in enumerate(NAMES, start=1):
            file.set_band_description(number, name)
    return path


def section(panel: Any) -> Any:
    return next(each for each in panel.sections if each.TITLE == SpectralSection.TITLE)


def choose(combo: Any, title: str) -> None:
    combo.setCurrentIndex(combo.findText(title))
    combo.activated.emit(combo.currentIndex())


def shown_by_name(panel: Any) -> dict[str, Any]:
    return {str(layer.name).split(":")[0]: layer for layer in panel.viewer.layers}


@pytest.fixture
def run_on(panel: Any, finished_run: Any) -> Any:
    """A function that opens a file and restores all of it."""

    def run(path: Path) -> Any:
        panel.viewer.open(path, plugin="napari-restore")
        panel.models.choose("dcp")
        panel.target.choose(TargetChoice.WHOLE)
        return finished_run()

    return run


@pytest.mark.slow
def test_a_combination_is_shown_by_image_and_results(panel: Any, run_on: Any, stack: Path):
    variant = run_on(stack)
    # Another image stays as it is.
    other = panel.viewer.add_image(np.zeros((20, 20, 3), np.uint8), name="photo")
    panel.viewer.layers.selection.active = variant.source
    found = section(panel).combination
    titles = [found.itemText(number) for number in range(found.count())]
    assert titles == ["Natural colour", "False colour infrared"]
    choose(found, "False colour infrared")
    image, result = variant.source.metadata["napari_restore"], variant.result
    whole = (0, 0, SIDE, SIDE)
    for layer, pixels in (
        (variant.source, image.read(whole)),
        (variant.layer, result.read(whole)),
    ):
        shown = np.asarray(layer.data[0] if layer.multiscale else layer.data)
        np.testing.assert_array_equal(shown[..., :3], pixels[..., [3, 2, 1]])
    assert not np.asarray(other.data).any()
    # It holds for what comes, and can be taken back.
    variant.adjust(Adjustment(strength=0.5))
    shown = np.asarray(variant.layer.data)
    np.testing.assert_array_equal(shown[..., :3], variant.result.read(whole)[..., [3, 2, 1]])
    choose(found, "Natural colour")
    shown = np.asarray(variant.source.data)
    np.testing.assert_array_equal(shown[..., :3], image.read(whole)[..., [2, 1, 0]])


@pytest.mark.slow
def test_bands_without_blue_get_a_layer_in_colour(panel: Any):
    pixels = np.random.default_rng(0).integers(0, 4000, (30, 40, 4), np.uint16)
    panel.viewer.add_image(np.zeros((20, 20, 3), np.uint8), name="photo")
    import napari_restore as nr
    from napari_restore.plugin.layers.reader import layer_of

    image = nr.open_image(pixels, bands="green=1,red=2,nir=3")
    data, arguments, _ = layer_of(image, panel.viewer)
    bands = panel.viewer.add_image(data, **{**arguments, "name": "scene"})
    panel.viewer.layers.selection.active = bands
    found = section(panel).combination
    assert found.currentText() == "Band by band"
    choose(found, "False colour infrared")
    made = panel.state.layer
    assert made is not bands and made.rgb and not bands.visible
    np.testing.assert_array_equal(np.asarray(made.data), pixels[..., [2, 1, 0]])
    assert SOURCE not in made.metadata and found.currentText() == "False colour infrared"


@pytest.mark.slow
def test_an_index_before_after_and_its_warning(panel: Any, run_on: Any, stack: Path, qtbot: Any):
    variant = run_on(stack)
    index = section(panel).index
    assert index.expression.currentText() == "NDVI"
    assert "of reflectance; nir is band 4, SR_B5" in index.about.text()
    for part in ("before", "after", "difference"):
        index.buttons[part].click()
        qtbot.waitUntil(lambda part=part: f"NDVI {part}" in shown_by_name(panel))
    qtbot.waitUntil(lambda: bool(index.warning.text()))
    shown = shown_by_name(panel)
    before, after, difference = (
        np.asarray(shown[f"NDVI {part}"].data) for part in ("before", "after", "difference")
    )
    np.testing.assert_allclose(difference, after - before, atol=1e-6)
    assert np.isnan(before[:10, :10]).all() and np.isfinite(before[10:]).all()
    pixels = variant.source.metadata["napari_restore"].read((0, 0, SIDE, SIDE)) * 2.75e-5 - 0.2
    expected = (pixels[..., 3] - pixels[..., 2]) / (pixels[..., 3] + pixels[..., 2])
    np.testing.assert_allclose(before[10:], expected[10:], atol=1e-3)
    share = (np.abs(difference[np.isfinite(difference)]) > 0.01).mean()
    assert share > 0.1
    assert (
        f"NDVI differs by more than 0.01 in {share:.1%}".replace("%", " %") in index.warning.text()
    )
    index.threshold.setValue(2.0)
    assert index.warning.text().startswith("No valid pixel of NDVI differs by more than 2")
    index.threshold.setValue(0.01)
    variant.adjust(Adjustment(strength=0.0))
    qtbot.waitUntil(lambda: index.warning.text().startswith("No valid pixel"))
    # Gone with the result and the source.
    panel.viewer.layers.remove(variant.layer)
    assert [x for x in panel.viewer.layers if "NDVI" in str(x.name)] == [shown["NDVI before"]]
    panel.viewer.layers.remove(variant.source)
    assert not [x for x in panel.viewer.layers if "NDVI" in str(x.name)]


def test_an_expression_that_is_wrong_says_so(panel: Any, stack: Path):
    panel.viewer.open(stack, plugin="napari-restore")
    index = section(panel).index
    for text in ("nir / nope", "__import__('os')"):
        index.expression.setEditText(text)
        index.expression.lineEdit().editingFinished.emit()
        assert not index.buttons["before"].isEnabled()
    assert "no such function" in index.about.text()
    index.expression.setEditText("nir / red")
    index.expression.lineEdit().editingFinished.emit()
    assert index.buttons["before"].isEnabled() and not index.buttons["after"].isEnabled()


@pytest.mark.slow
def test_the_spectrum_follows_the_cursor_and_holds(
    panel: Any, run_on: Any, stack: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch
):
    variant = run_on(stack)
    view = section(panel).spectrum
    moves = variant.source.data_to_world
    # Folded, nothing is read.
    panel.viewer.cursor.position = moves((40, 50))
    assert view.plot.spectrum is None
    monkeypatch.setattr(view, "isVisible", lambda: True)

    def read(row: int, column: int) -> Any:
        panel.viewer.cursor.position = moves((row, column))
        qtbot.waitUntil(lambda: view.plot.spectrum is not None and view.plot.spectrum.row == row)
        return view.plot.spectrum

    shown = read(41, 50)
    assert shown.is_reflectance and shown.is_wavelength
    assert shown.places == (482, 561, 655, 865) and shown.names == NAMES[:4]
    box = (41, 50, 42, 51)
    image = variant.source.metadata["napari_restore"]
    for line, pixel in ((shown.before, image.read(box)), (shown.after, variant.result.read(box))):
        np.testing.assert_allclose(line, pixel[0, 0, :4] * 2.75e-5 - 0.2, atol=1e-9)
    assert np.isnan(read(3, 4).before).all()
    read(60, 60)
    Mouse(moves((60, 60)), modifiers=("Shift",)).drive(panel.viewer)
    assert view.is_held
    panel.viewer.cursor.position = moves((10, 20))
    assert view.plot.spectrum.row == 60
    view.plot.grab()
