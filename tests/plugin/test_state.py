"""What the panel remembers must not outlive what it was made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image as ImageLayer

from napari_restore import Region
from napari_restore.api import stamp_of
from napari_restore.plugin._state import RestoreState, image_of
from napari_restore.plugin.areas._targets import Area, NotReady


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
    assert image_of(layer, "red=3,green=2,blue=1").roles == ("blue", "green", "red")
    layer.data = np.full((40, 50, 3), 7, np.uint8)
    named = image_of(layer, "red=3,green=2,blue=1")
    assert (named.read((0, 0, 40, 50)) == 7).all()


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
    state = RestoreState(layer=layer, area=area, exclude_pending=True)
    state.set_options(exclude="before.tif")
    with pytest.raises(NotReady, match="excluded"):
        state.request()
    state.exclude_pending = False
    assert state.request().options.reading.exclude == "before.tif"
