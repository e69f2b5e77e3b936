"""What the panel remembers must not outlive what it was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from napari.layers import Image as ImageLayer
from rasterio.transform import from_origin

import napari_restore as nr
from napari_restore import Region
from napari_restore.api import stamp_of
from napari_restore.errors import UnreadableImage
from napari_restore.plugin.state.request import Area, Exclusion, NamedBands, NotReady
from napari_restore.plugin.state.state import RestoreState, image_of, named_image


def test_an_array_put_in_the_place_of_another_is_another_image():
    layer = ImageLayer(np.zeros((40, 50, 3), np.uint8), name="photo")
    first = image_of(layer)
    assert image_of(layer) is first
    layer.data = np.full((30, 20, 3), 7, np.uint8)
    second = image_of(layer)
    assert (second.height, second.width) == (30, 20)
    assert (second.read((0, 0, 30, 20)) == 7).all()


def test_named_bands_follow_the_array():
    layer = ImageLayer(np.zeros((40, 50, 3), np.uint8), name="photo")
    assert named_image(layer, NamedBands("red=3,green=2,blue=1")).roles == ("blue", "green", "red")
    layer.data = np.full((40, 50, 3), 7, np.uint8)
    named = named_image(layer, NamedBands("red=3,green=2,blue=1"))
    assert (named.read((0, 0, 40, 50)) == 7).all()


def test_named_bands_decide_what_is_valid_as_on_the_command_line(tmp_path: Path):
    """A border of nodata stays one where a band that is no light has values in it."""
    pixels = np.full((4, 40, 50), 9, np.uint16)
    pixels[:3, :, :10] = 0
    path = tmp_path / "scene.tif"
    place = {"crs": "EPSG:32633", "transform": from_origin(0, 0, 1, 1)}
    with rasterio.open(path, "w", "GTiff", 50, 40, 4, dtype="uint16", nodata=0, **place) as file:
        file.write(pixels)
    bands = "red=1,green=2,blue=3,class=4"
    layer = ImageLayer(
        np.zeros((40, 50, 3), np.uint8), metadata={"napari_restore": nr.open_image(path)}
    )
    named = RestoreState(layer=layer, named=NamedBands(bands)).named_image(layer)
    whole = (0, 0, 40, 50)
    expected = nr.open_image(path, bands=bands).read_valid(whole)
    assert not expected[:, :10].any() and expected[:, 10:].all()
    np.testing.assert_array_equal(named.read_valid(whole), expected)


def test_a_changed_file_or_card_has_another_stamp(tmp_path: Path):
    weights, card = tmp_path / "w.safetensors", tmp_path / "w.json"
    weights.write_bytes(b"one")
    before = stamp_of("haze-unet", str(weights), None)
    assert stamp_of("haze-unet", str(weights), None) == before
    card.write_text("{}")
    with_card = stamp_of("haze-unet", str(weights), None)
    weights.write_bytes(b"three")
    assert len({before, with_card, stamp_of("haze-unet", str(weights), None)}) == 3


def test_there_is_no_request_while_the_excluded_pixels_are_unknown():
    layer = ImageLayer(np.zeros((40, 50, 3), np.uint8), name="photo")
    area = Area((Region(0, 0, 40, 50),))
    state = RestoreState(layer=layer, area=area, exclusion=Exclusion(pending=True))
    state.set_options(exclude="before.tif")
    with pytest.raises(NotReady, match="excluded"):
        state.request()
    state.exclusion = Exclusion()
    assert state.request().options.reading.exclude == "before.tif"


def test_an_array_of_several_planes_is_split_first():
    layer = ImageLayer(np.zeros((5, 40, 50), np.uint8), name="stack")
    with pytest.raises(UnreadableImage, match=r"stack has 3 axes.*Split Stack"):
        image_of(layer)
    assert image_of(ImageLayer(layer.data[2])).shape == (40, 50, 1)
