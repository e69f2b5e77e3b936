"""Pixels along nodata that statistics leave out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import napari_restore as nr
from napari_restore.images.values.validity import KERNEL, REACH, STAGGER, clear_of_edges, widened


def test_widened_reaches_as_far_as_its_radius() -> None:
    mask = np.zeros((40, 50), bool)
    mask[20, 7] = mask[39, 49] = True
    for radius in (1, 3, 16):
        expected = np.zeros_like(mask)
        expected[max(0, 20 - radius) : 21 + radius, max(0, 7 - radius) : 8 + radius] = True
        expected[39 - radius :, 49 - radius :] = True
        assert_array_equal(widened(mask, radius), expected)


def test_what_resampling_may_have_touched_is_left_out() -> None:
    valid = np.zeros((60, 60), bool)
    valid[:, 20:] = True
    expected = np.zeros_like(valid)
    expected[:, 20 + KERNEL :] = True
    assert_array_equal(clear_of_edges(valid, None), expected)


def test_bands_that_end_apart_are_left_out_and_dark_bands_are_not() -> None:
    valid = np.zeros((80, 120), bool)
    valid[:, 20:] = True
    lacking = np.zeros_like(valid)
    lacking[:, 20:28] = True
    lacking[30:40, 70:90] = True
    found = clear_of_edges(valid, lacking)
    assert not found[:, : 28 + KERNEL].any()
    assert found[:, 28 + KERNEL :].all(), "a pond far from nodata has a band of 0 in earnest"


def test_a_scene_without_one_of_its_bands_counts() -> None:
    valid = np.zeros((40, 40), bool)
    valid[:, 10:] = True
    assert_array_equal(clear_of_edges(valid, valid), clear_of_edges(valid, None))


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_one_that_counts_is_near_every_valid_pixel(share: float) -> None:
    rng = np.random.default_rng(7)
    valid = rng.random((90, 110)) > share
    lacking = rng.random(valid.shape) > 0.5
    found = clear_of_edges(valid, valid & lacking)
    assert not (found & ~valid).any()
    assert not (valid & ~widened(found, REACH)).any()


def test_a_box_gives_what_the_whole_image_gives(make_tiff: Any) -> None:
    rng = np.random.default_rng(3)
    pixels = rng.integers(1, 900, (150, 170, 3)).astype(np.uint16)
    pixels[:, :30] = pixels[100:, 120:] = 0
    pixels[:, 30 : 30 + STAGGER // 2, 0] = 0
    pixels[rng.random(pixels.shape) > 0.995] = 0
    image = nr.open_image(make_tiff(pixels, nodata=0))
    whole = image.read_representative((0, 0, 150, 170))
    assert 0.3 < whole.mean() < 0.8
    for y0, x0 in ((0, 0), (31, 17), (90, 100)):
        box = (y0, x0, y0 + 53, x0 + 61)
        assert_array_equal(image.read_representative(box), whole[y0 : y0 + 53, x0 : x0 + 61])
