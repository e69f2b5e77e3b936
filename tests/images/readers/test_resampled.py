"""Images on a grid with other pixels: values, validity, position, levels."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasterio.transform import Affine, GCPTransformer, RPCTransformer

from napari_restore.images import Image, open_image

PIXELS = np.random.default_rng(0).integers(1, 250, (37, 53, 2), np.uint8)
HALF, THIRD = Fraction(1, 2), Fraction(1, 3)
POINTS = ((3.0, 4.0), (30.5, 12.25), (10.0, 36.0))
"""(column, row) in pixels of the file."""


def read(image: Image, level: int = 0) -> np.ndarray:
    height, width = image.level_shapes[level]
    return image.read((0, 0, height, width), level)


@pytest.mark.parametrize("times", [2, 3, 4])
def test_pixels_are_repeated(times: int) -> None:
    image = open_image(PIXELS).resampled(Fraction(times))
    np.testing.assert_array_equal(
        read(image), np.kron(PIXELS, np.ones((times, times, 1), np.uint8))
    )
    y0, x0, y1, x1 = 7, 5, 64, 31
    np.testing.assert_array_equal(image.read((y0, x0, y1, x1)), read(image)[y0:y1, x0:x1])
    assert open_image(PIXELS).fingerprint != image.fingerprint


@pytest.mark.parametrize("ratio", [HALF, THIRD])
def test_frames_are_the_pixels_of_a_block(ratio: Fraction) -> None:
    side = ratio.denominator
    image = open_image(PIXELS).resampled(ratio, phases=True)
    height, width = (-(-length // side) for length in PIXELS.shape[:2])
    assert (image.height, image.width, len(image.frames)) == (height, width, side**2)
    # In place of those beyond the end is the last.
    more = [
        (0, times * side - length)
        for times, length in zip((height, width), PIXELS.shape, strict=False)
    ]
    whole = np.pad(PIXELS, (*more, (0, 0)), mode="edge")
    blocks = whole.reshape(height, side, width, side, 2).transpose(1, 3, 0, 2, 4)
    for frame, expected in zip(
        image.frames, blocks.reshape(side**2, height, width, 2), strict=True
    ):
        np.testing.assert_array_equal(read(frame), expected)
    # The one in the middle is the image.
    np.testing.assert_array_equal(read(image), whole[side // 2 :: side, side // 2 :: side])
    assert len({frame.fingerprint for frame in image.frames}) == side**2
    # Only for a model of this scale: no bracket.
    assert len(open_image(PIXELS).resampled(ratio).frames) == 1


def test_it_is_made_once_and_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    written(path, transform=Affine(2, 0, 100, 0, -2, 900))
    image = open_image(path)
    twice = image.resampled(Fraction(2))
    assert image.resampled(Fraction(2)) is twice and twice.given is image
    assert image.resampled(Fraction(1)) is image and image.given is image
    assert twice.spec is not None
    again = Image.from_spec(twice.spec)
    np.testing.assert_array_equal(read(again), read(twice))
    assert (again.fingerprint, again.transform) == (twice.fingerprint, twice.transform)
    part = twice.with_bands([1])
    np.testing.assert_array_equal(read(part), read(twice)[..., 1:])


def written(path: Path, **profile: object) -> None:
    with rasterio.open(
        path, "w", driver="GTiff", width=53, height=37, count=2, dtype="uint8", **profile
    ) as file:
        file.write(np.moveaxis(PIXELS, 2, 0))


def test_what_is_not_valid_is_not_valid_there(tmp_path: Path) -> None:
    pixels = PIXELS.copy()
    pixels[5:9, 20:30] = 0
    path = tmp_path / "x.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=53, height=37, count=2, dtype="uint8", nodata=0
    ) as file:
        file.write(np.moveaxis(pixels, 2, 0))
    image = open_image(path)
    valid = image.read_valid((0, 0, 37, 53))
    assert not valid.all()
    twice, half = image.resampled(Fraction(2)), image.resampled(HALF)
    np.testing.assert_array_equal(
        twice.read_valid((0, 0, 74, 106)), np.kron(valid, np.ones((2, 2), bool))
    )
    last = np.pad(valid, ((0, 1), (0, 1)), mode="edge")
    np.testing.assert_array_equal(half.read_valid((0, 0, 19, 27)), last[1::2, 1::2])
    assert (twice.nodata, half.nodata) == (0, 0)


@pytest.mark.parametrize("ratio", [Fraction(2), Fraction(3), HALF, THIRD])
def test_a_transform_is_divided(ratio: Fraction, tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    transform = Affine(300.0379266750948, 0.25, 101985.0, -0.5, -300.041782729805, 2826915.0)
    written(path, transform=transform, crs="EPSG:32618")
    found = open_image(path).resampled(ratio).transform
    assert found is not None
    times, parts = ratio.numerator, ratio.denominator
    wanted = [value * parts / times for value in transform[:6]]
    wanted[2], wanted[5] = transform.c, transform.f
    assert found == tuple(wanted)


@pytest.mark.parametrize("ratio", [Fraction(4), HALF])
def test_control_points_stay_where_they_are(ratio: Fraction, tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    gcps = [
        GroundControlPoint(row=y, col=x, x=500000 + 2 * x + 0.1 * y, y=4e6 - 2.1 * y)
        for y, x in ((0, 0), (0, 53), (37, 0), (37, 53), (10.5, 20.25))
    ]
    written(path, gcps=gcps, crs="EPSG:32618")
    place = open_image(path).resampled(ratio).georeference
    assert place is not None
    moved = [GroundControlPoint(row=p.row, col=p.column, x=p.x, y=p.y) for p in place.gcps]
    with GCPTransformer(gcps) as before, GCPTransformer(moved) as after:
        for x, y in POINTS:
            there = before.xy(y, x, offset="ul")
            here = after.xy(y * float(ratio), x * float(ratio), offset="ul")
            assert here == pytest.approx(there, abs=1e-6)


@pytest.mark.parametrize("ratio", [Fraction(2), THIRD])
def test_rational_polynomials_show_the_same_places(ratio: Fraction, tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    numbers = [0.0] * 20
    rpc = RPC(
        height_off=100.0,
        height_scale=500.0,
        lat_off=45.0,
        lat_scale=0.01,
        long_off=8.0,
        long_scale=0.02,
        line_off=18.5,
        line_scale=19.0,
        samp_off=26.0,
        samp_scale=27.0,
        line_num_coeff=[0.0, 0.02, -1.0, 0.01, *numbers[4:]],
        line_den_coeff=[1.0, *numbers[1:]],
        samp_num_coeff=[0.0, 1.0, 0.03, 0.02, *numbers[4:]],
        samp_den_coeff=[1.0, *numbers[1:]],
    )
    written(path, rpcs=rpc)
    place = open_image(path).resampled(ratio).georeference
    assert place is not None and place.rpcs is not None
    with rasterio.open(path) as file:
        before = file.rpcs
    other = tmp_path / "other.tif"
    with rasterio.open(
        other, "w", driver="GTiff", width=53, height=37, count=1, dtype="uint8"
    ) as file:
        file.update_tags(ns="RPC", **{k: str(v) for k, v in place.rpcs.items()})
    with rasterio.open(other) as file:
        after = file.rpcs
    # Of GDAL, which counts from the corner of the first pixel.
    with RPCTransformer(before) as one, RPCTransformer(after) as two:
        for x, y in ((8.003, 45.002), (7.99, 44.995)):
            row, column = one.rowcol(x, y, zs=100, op=float)
            found = two.rowcol(x, y, zs=100, op=float)
            assert found == pytest.approx((row * float(ratio), column * float(ratio)), abs=1e-6)


def test_levels_are_those_of_the_file() -> None:
    y, x = np.mgrid[:1300, :2100]
    pixels = np.dstack([y % 251, x % 241]).astype(np.uint8)
    image = open_image(pixels).build_pyramid()
    twice = image.resampled(Fraction(2))
    assert twice.level_shapes[:3] == ((2600, 4200), (1300, 2100), (650, 1050))
    np.testing.assert_array_equal(read(twice, 1), pixels)
    # Means, as halving the repeated pixels gives them.
    np.testing.assert_array_equal(read(twice, 2), image.read((0, 0, 650, 1050), 1))
