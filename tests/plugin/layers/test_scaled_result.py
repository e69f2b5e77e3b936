"""The layer of a result of another size lies over its source, pixel edge on pixel edge."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.scaling_networks import enlarging, shrinking

import napari_restore as nr
from napari_restore import Region
from napari_restore.plugin.layers.result_layer import ResultLayer
from napari_restore.plugin.results.variant_text import area_of

PIXELS = np.random.default_rng(0).integers(1, 250, (60, 90, 3), np.uint8)


@pytest.mark.parametrize(
    ("module", "scale"), [(enlarging(2), 2), (enlarging(3), 3), (shrinking(2), "1/2")]
)
@pytest.mark.ids("slow", "module2-1/2")
def test_it_covers_its_part_of_the_source(module: object, scale: int | str, tmp_path: Path) -> None:
    from napari.layers import Image

    card = {"bands": 3, "halo": 3, "scale": scale, "multiple_of": 2}
    model = nr.load_model(module, card=card)
    part = Region(12, 20, 48, 80)
    result = nr.restore(PIXELS, model, region=part, scratch=tmp_path, progress=False)
    source = Image(PIXELS, rgb=True, scale=(2.0, 2.0), translate=(100.0, 7.0))
    shown = ResultLayer(result, source, "result")
    layer, ratio = shown.layer, float(Fraction(scale))
    y0, x0, y1, x1 = shown.box
    # Edges of pixels lie half a pixel before their middles.
    for own, corner in (((0, 0), (y0, x0)), ((y1 - y0, x1 - x0), (y1, x1))):
        place = layer.data_to_world(np.array(own) - 0.5)
        expected = source.data_to_world(np.array(corner) / ratio - 0.5)
        np.testing.assert_allclose(place, expected, atol=1e-6)
    assert area_of(result.plan) == "60 × 36 at 20, 12"
    assert shown.region == Region(*(round(edge * ratio) for edge in part))


@pytest.mark.parametrize(
    ("module", "scale"), [(torch.nn.Identity(), 1), (enlarging(2), 2), (shrinking(2), "1/2")]
)
def test_that_of_a_level_covers_the_image_as_well(
    module: object, scale: int | str, tmp_path: Path
) -> None:
    from napari.layers import Image

    image = nr.open_image([PIXELS[:56, :88], PIXELS[:28, :44], PIXELS[:14, :22]])
    model = nr.load_model(module, card={"bands": 3, "halo": 3, "scale": scale})
    view = image.level_view(2)
    result = nr.restore(view, model, region=Region(4, 6, 10, 20), scratch=tmp_path, progress=False)
    source = Image(PIXELS[:56, :88], rgb=True, scale=(2.0, 2.0), translate=(100.0, 7.0))
    shown = ResultLayer(result, source, "draft", scale=4)
    # Four pixels of the source along a side of one of the level, and edges meet.
    ratio, (y0, x0, y1, x1) = 4 / float(Fraction(scale)), shown.box
    for own, corner in (((0, 0), (y0, x0)), ((y1 - y0, x1 - x0), (y1, x1))):
        place = shown.layer.data_to_world(np.array(own) - 0.5)
        expected = source.data_to_world(np.array(corner) * ratio - 0.5)
        np.testing.assert_allclose(place, expected, atol=1e-6)


def test_all_of_it_is_the_whole_image_without_the_last_pixels(tmp_path: Path) -> None:
    model = nr.load_model(shrinking(2), card={"bands": 3, "halo": 3, "scale": "1/2"})
    result = nr.restore(PIXELS[:59, :87], model, scratch=tmp_path, progress=False)
    assert area_of(result.plan) == "whole image"
