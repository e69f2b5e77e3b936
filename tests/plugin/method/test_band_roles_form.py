"""Bands that the image does not tell are asked for, and travel with the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from qtpy.QtWidgets import QLabel

import napari_restore as nr
from napari_restore.api import missing_roles, task_of
from napari_restore.errors import BadParameter, UnknownBands
from napari_restore.models import card_of
from napari_restore.plugin.results.variant_text import line_of
from napari_restore.plugin.state.request import TargetChoice


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Four bands of which nothing is known but the name of the last."""
    path = tmp_path / "scene.tif"
    pixels = np.random.default_rng(0).integers(500, 9000, (4, 300, 300), np.uint16)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=300,
        height=300,
        count=4,
        dtype="uint16",
        crs="EPSG:32636",
        transform=rasterio.Affine(10, 0, 500000, 0, -10, 4500000),
    ) as file:
        file.write(pixels)
        file.set_band_description(4, "NIR")
        file.set_band_description(1, "Band A")
    return path


def test_missing_roles_are_those_that_can_be_named(scene: Path):
    image = nr.open_image(scene)
    assert missing_roles(image, card_of("dcp")) == ()
    assert missing_roles(image, card_of("hot")) == ("blue", "red")
    assert missing_roles(nr.open_image(image, bands="blue=1"), card_of("hot")) == ("red",)
    with pytest.raises(UnknownBands, match="has no blue and red"):
        full = nr.open_image(np.zeros((9, 9, 3), np.uint8), bands="nir=1,swir=2,pan=3")
        missing_roles(full, card_of("hot"))


def test_an_open_image_takes_roles_and_travels_with_them(scene: Path):
    image = nr.open_image(scene, bands="green=2")
    named = nr.open_image(image, bands="blue=1,red=3")
    assert named.roles == ("blue", "green", "red", "nir")
    assert image.roles == (None, "green", None, "nir")
    assert named.data_bands == (0, 1, 2, 3)
    again = type(named).from_spec(named.spec)
    assert again.roles == named.roles
    part = image.with_bands([2, 3]).with_roles("red=1")
    assert type(part).from_spec(part.spec).roles == part.roles == ("red", "nir")
    np.testing.assert_array_equal(named.read((0, 0, 9, 9)), image.read((0, 0, 9, 9)))
    with pytest.raises(BadParameter, match="Band 5"):
        image.with_roles("red=5")


def choose_role(panel: Any, band: int, role: str) -> None:
    """Choose as a click would."""
    box = panel.bands.role_of(band)
    box.setCurrentIndex(box.findData(role))
    box.activated.emit(box.currentIndex())


@pytest.mark.viewer
@pytest.mark.slow
def test_kind_wavelength_zero_and_white_reach_the_command(panel: Any, scene: Path):
    panel.viewer.open(scene, plugin="napari-restore")
    panel.models.choose("dcp")
    panel.target.choose(TargetChoice.WHOLE)
    choose_role(panel, 1, "class")
    assert panel.bands.table.item(0, 3).text() == "auxiliary"
    panel.bands.table.item(1, 2).setText("480")
    assert panel.bands.table.item(1, 3).text() == "light"
    panel.bands.zero.setText("250")
    panel.bands.white.setText("9500")
    panel.bands.white.editingFinished.emit()
    panel.bands.others.setCurrentIndex(panel.bands.others.findData("copy"))
    panel.bands.others.activated.emit(0)
    assert "Zero 250 (as given)" in panel.bands.sets.text()
    plan = panel.state.request().plan()
    assert plan.image.described.kinds == ("auxiliary", "light", "unknown", "light")
    assert plan.image.wavelengths == (None, 480, None, None)
    command = nr.api.command_of(plan, "out.tif")
    assert "--bands class=1,unknown=2@480" in command
    assert "--black 250.0 --white 9500.0" in command and "--other-bands copy" in command
    again = nr.open_image(scene, bands="class=1,unknown=2@480")
    options = {"other_bands": "copy", "black": 250.0, "white": 9500.0, "pyramid": True}
    assert nr.plan(again, "dcp", **options).key == plan.key


@pytest.mark.viewer
@pytest.mark.slow
def test_no_button_says_what_names_do_not(panel: Any, tmp_path: Path):
    path = tmp_path / "scene.tif"
    pixels = np.random.default_rng(0).integers(500, 9000, (4, 64, 64), np.uint16)
    with rasterio.open(
        path, "w", driver="GTiff", width=64, height=64, count=4, dtype="uint16"
    ) as f:
        f.write(pixels)
        for number in range(1, 5):
            f.set_band_description(number, f"B{number}")
    panel.viewer.open(path, plugin="napari-restore")
    panel.models.choose("hot")
    assert panel.bands.isVisibleTo(panel)
    assert not panel.bands.orders.buttons[1, 2, 3].isVisibleTo(panel)


def said(panel: Any) -> str:
    """All texts that are to be seen."""
    return "\n".join(each.text() for each in panel.findChildren(QLabel) if each.isVisibleTo(panel))


@pytest.mark.viewer
@pytest.mark.nightly
def test_missing_roles_are_shown_and_reach_the_run(panel: Any, scene: Path, finished_run: Any):
    panel.viewer.open(scene, plugin="napari-restore")
    (layer,) = panel.viewer.layers
    limits = tuple(layer.contrast_limits)
    panel.target.choose(TargetChoice.WHOLE)
    assert panel.bands.isVisibleTo(panel) and "the image does not tell" not in said(panel)
    panel.models.choose("hot")
    assert "which bands are blue and red; the image does not tell" in said(panel)
    titles = [panel.bands.table.item(row, 0).text() for row in range(4)]
    assert titles == ["1 Band A", "2", "3", "4 NIR"]
    kinds = [panel.bands.table.item(row, 3).text() for row in range(4)]
    assert kinds == ["unknown", "unknown", "unknown", "light"]
    panel.bar.button.click()
    assert panel.runs.running is None
    assert "Choose them under Image" in panel.bar.plan_line.text()

    choose_role(panel, 1, "blue")
    assert "which bands are red" in str(panel.bands.problem())
    # A band shows one light only.
    choose_role(panel, 1, "red")
    assert panel.state.named.bands == "red=1"
    choose_role(panel, 3, "blue")
    assert panel.state.named.bands == "red=1,blue=3" and panel.bands.problem() is None
    assert "the image does not tell" not in said(panel)
    # Two bands are swapped by choosing one of them.
    choose_role(panel, 1, "blue")
    assert panel.state.named.bands == "red=3,blue=1"
    request = panel.state.request()
    assert request.image.roles == ("blue", None, "red", "nir")
    assert request.plan().bands[:2] == (0, 2)
    assert layer.metadata["napari_restore"].roles == (None, None, None, "nir")
    assert tuple(layer.contrast_limits) == limits

    record = finished_run().record
    assert record["model"]["id"] == "hot"
    task = task_of(panel.state.current.request.plan())
    assert task is not None
    assert task["image"]["bands"] == "red=3,blue=1"


@pytest.mark.slow
@pytest.mark.viewer
def test_roles_belong_to_their_layer(panel: Any, scene: Path):
    panel.viewer.open(scene, plugin="napari-restore")
    panel.viewer.add_image(np.zeros((60, 60, 3), np.uint8), name="photo")
    panel.models.choose("htm")
    assert not panel.bands.isVisibleTo(panel)
    panel.viewer.layers.selection.active = panel.viewer.layers[0]
    choose_role(panel, 2, "blue")
    assert panel.state.named.bands == "blue=2"
    panel.viewer.layers.selection.active = panel.viewer.layers["photo"]
    assert panel.state.named.bands is None
    assert not panel.bands.isVisibleTo(panel)
    panel.viewer.layers.selection.active = panel.viewer.layers[0]
    assert panel.state.named.bands == "blue=2"
    assert panel.bands.role_of(2).currentData() == "blue"


@pytest.mark.viewer
@pytest.mark.slow
def test_three_bands_are_named_by_one_click_or_by_their_sensor(panel: Any, tmp_path: Path):
    pixels = np.random.default_rng(0).integers(500, 9000, (7, 64, 64), np.uint16)
    path = tmp_path / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=64, height=64, count=7, dtype="uint16"
    ) as file:
        file.write(pixels)
    panel.viewer.open(path, plugin="napari-restore")
    assert "is recommended, but must know which bands are red, green and blue" in said(panel)
    panel.models.combo.setCurrentIndex(0)
    assert "is recommended, but" not in said(panel)
    panel.bands.orders.buttons[1, 2, 3].click()
    assert panel.state.request().image.roles[:3] == ("red", "green", "blue")
    landsat = panel.bands.sensor.findText("Landsat 8 OLI/TIRS")
    panel.bands.sensor.setCurrentIndex(landsat)
    panel.bands.sensor.activated.emit(landsat)
    assert panel.state.request().image.roles[1:4] == ("blue", "green", "red")
    assert panel.bands.role_of(4).currentData() == "red"


@pytest.fixture
def six_bands(tmp_path: Path) -> Path:
    """A map whose band k has values about k · 1000, of which nothing else is known."""
    path = tmp_path / "six.tif"
    pixels = np.random.default_rng(0).integers(0, 500, (6, 300, 300), np.uint16)
    pixels += np.arange(1, 7, dtype=np.uint16)[:, None, None] * 1000
    place = rasterio.Affine(30, 0, 500000, 0, -30, 4500000)
    options = {"dtype": "uint16", "crs": "EPSG:32636", "transform": place}
    with rasterio.open(
        path, "w", driver="GTiff", width=300, height=300, count=6, **options
    ) as file:
        file.write(pixels)
    return path


def bands_shown(layer: Any) -> list[int]:
    """Numbers of the bands of `six_bands` that a colour layer shows as red, green and blue."""
    pixels = layer.data[0] if layer.multiscale else layer.data
    return [int(value) // 1000 for value in np.asarray(pixels)[5, 5, :3]]


@pytest.mark.nightly
@pytest.mark.viewer
def test_bands_that_have_been_named_are_shown_in_colour(
    panel: Any, six_bands: Path, finished_run: Any
):
    viewer = panel.viewer
    viewer.open(six_bands, plugin="napari-restore")
    (grey,) = viewer.layers
    viewer.scene.camera.zoom *= 3
    zoom = viewer.scene.camera.zoom
    assert not grey.rgb
    panel.models.combo.setCurrentIndex(0)
    panel.bands.orders.buttons[1, 2, 3].click()
    (layer,) = viewer.layers
    assert layer.rgb and layer.name == "six" and panel.state.layer is layer
    assert viewer.layers.selection.active is layer and viewer.scene.camera.zoom == zoom
    assert bands_shown(layer) == [1, 2, 3]
    np.testing.assert_allclose(layer.extent.world, grey.extent.world[:, 1:])
    # The answer can still be corrected, and the view follows.
    assert panel.bands.isVisibleTo(panel)
    choose_role(panel, 3, "red")
    assert [panel.bands.role_of(n).currentData() for n in (1, 2, 3)] == ["blue", "green", "red"]
    (layer,) = viewer.layers
    assert bands_shown(layer) == [3, 2, 1]
    panel.models.choose("identity")
    panel.target.choose(TargetChoice.WHOLE)
    result = finished_run()
    assert result.layer.rgb and bands_shown(result.layer) == [3, 2, 1]
    assert panel.state.request().image.roles[:3] == ("blue", "green", "red")


@pytest.mark.slow
@pytest.mark.viewer
def test_results_keep_the_image_they_were_made_of(panel: Any, six_bands: Path, finished_run: Any):
    viewer = panel.viewer
    viewer.open(six_bands, plugin="napari-restore")
    (grey,) = viewer.layers
    panel.models.choose("identity")
    panel.target.choose(TargetChoice.WHOLE)
    result = finished_run()
    panel.models.choose("atmosphere-aerial")
    panel.bands.orders.buttons[1, 2, 3].click()
    assert result.source is grey and grey in viewer.layers and not grey.visible
    assert panel.state.layer.rgb and panel.state.layer.name == "six (colour)"
    assert [x for x in viewer.layers if x.visible][-1] is panel.state.layer


def colours_of(button: Any) -> list[int]:
    """Red, green and blue in the middle of a button's picture."""
    picture = button.icon().pixmap(60, 60).toImage()
    found = picture.pixelColor(picture.width() // 2, picture.height() // 2)
    return [found.red(), found.green(), found.blue()]


@pytest.mark.binding
@pytest.mark.viewer
def test_orders_of_bands_are_offered_as_pictures_and_named_by_results(
    panel: Any, qtbot: Any, tmp_path: Path, finished_run: Any
):
    path = tmp_path / "four.tif"
    values = np.array([60, 120, 180, 240], np.uint8)
    pixels = np.broadcast_to(values[:, None, None], (4, 48, 64)).copy()
    pixels[:, ::7] += 9
    profile = {"count": 4, "height": 48, "width": 64, "dtype": "uint8", "photometric": "MINISBLACK"}
    with rasterio.open(path, "w", driver="GTiff", **profile) as file:
        file.write(pixels)
    panel.viewer.open(path, plugin="napari-restore")
    panel.models.choose("hot")
    orders = panel.bands.orders.buttons
    assert all(button.isVisibleTo(panel) for button in orders.values())
    qtbot.waitUntil(lambda: not any(button.icon().isNull() for button in orders.values()))
    for order, button in orders.items():
        assert not button.isChecked() and button.text() == ", ".join(map(str, order))
        np.testing.assert_allclose(colours_of(button), values[np.array(order) - 1], atol=10)
    orders[3, 2, 1].click()
    assert panel.state.request().image.roles[:3] == ("blue", "green", "red")
    assert [order for order, each in orders.items() if each.isChecked()] == [(3, 2, 1)]
    panel.target.choose(TargetChoice.WHOLE)
    first = finished_run()
    assert first.name.endswith(f"{first.source.name}, bands 3, 2, 1")
    # Another answer: each result and its line say of which it is.
    orders[4, 3, 2].click()
    second = finished_run()
    assert second.name.endswith("bands 4, 3, 2") and first.name.endswith("bands 3, 2, 1")
    assert "bands 3, 2, 1" in line_of(first, [first, second])
    assert "bands 4, 3, 2" in line_of(second, [first, second])


@pytest.mark.viewer
# Landsat 4 TM has bands without names here, too: it only says which sensor to choose.
@pytest.mark.parametrize("name", ["three.tif", "landsat_4band_2010.tif"])
def test_three_bands_have_two_orders(panel: Any, tmp_path: Path, name: str):
    path = tmp_path / name
    place = rasterio.Affine(30, 0, 500000, 0, -30, 4500000)
    profile = {"count": 3, "height": 48, "width": 64, "dtype": "uint16", "transform": place}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32636", **profile) as file:
        file.write(np.random.default_rng(0).integers(1, 999, (3, 48, 64), np.uint16))
    panel.viewer.open(path, plugin="napari-restore")
    panel.models.choose("hot")
    shown = [order for order, each in panel.bands.orders.buttons.items() if each.isVisibleTo(panel)]
    assert shown == [(1, 2, 3), (3, 2, 1)]


@pytest.mark.viewer
@pytest.mark.parametrize("count", [4, 7])
def test_a_sensor_is_to_be_chosen_where_it_has_as_many_bands(
    panel: Any, tmp_path: Path, count: int
):
    """Landsat 4 TM has an order of 6 and one of 7 bands."""
    path = tmp_path / "landsat_4band_2010.tif"
    place = rasterio.Affine(30, 0, 500000, 0, -30, 4500000)
    profile = {"count": count, "height": 48, "width": 64, "dtype": "uint8", "transform": place}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32636", **profile) as file:
        file.write(np.random.default_rng(0).integers(1, 250, (count, 48, 64), np.uint8))
    panel.viewer.open(path, plugin="napari-restore")
    panel.models.choose("hot")
    assert panel.bands.sets.text().startswith("Landsat 4 TM – from the name of the file.")
    assert ("choose the sensor here" in panel.bands.sets.text()) == (count == 7)
    offered = [panel.bands.sensor.itemText(i) for i in range(panel.bands.sensor.count())]
    assert ("Landsat 4 TM" in offered) == (count == 7)


@pytest.mark.viewer
def test_bands_named_for_one_image_are_asked_of_no_other(panel: Any, tmp_path: Path):
    place = rasterio.Affine(30, 0, 500000, 0, -30, 4500000)
    for count in (4, 3):
        profile = {"count": count, "height": 48, "width": 64, "dtype": "uint8", "transform": place}
        path = tmp_path / f"{count}.tif"
        with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32636", **profile) as file:
            file.write(np.random.default_rng(0).integers(1, 250, (count, 48, 64), np.uint8))
        panel.viewer.open(path, plugin="napari-restore")
        panel.models.choose("dcp")
        if count == 4:
            box = panel.bands.role_of(4)
            box.setCurrentIndex(box.findText("nir"))
            box.activated.emit(box.currentIndex())
            assert panel.state.named.bands == "nir=4"
    four, three = panel.viewer.layers
    assert panel.state.layer is three and panel.state.named.bands is None
    for layer in (four, three):
        panel.form.choose_image(layer)
        panel.image.activated.emit(panel.image.currentIndex())
        assert panel.state.layer is layer
    panel.viewer.layers.remove(three)
    assert panel.state.layer is four and panel.state.named.bands == "nir=4"
