"""What holds of any mask: transposed it is read transposed, and a level samples middles of pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

import napari_restore as nr
from napari_restore.engine import Region
from napari_restore.engine.masks.mask_level import mask_at_level
from napari_restore.engine.masks.mask_strength import (
    Feathered,
    MaskStrength,
    PolygonMask,
    RasterMask,
    RegionMask,
    Within,
)
from napari_restore.engine.masks.open_mask import GradientMask

HEIGHT, WIDTH = 23, 37
QUICK = settings(derandomize=True, max_examples=25)
PLACES = st.tuples(st.integers(0, 160), st.integers(0, 100)).map(
    # Never on the middle of a pixel, where a polygon has it on one side only.
    lambda place: (place[0] / 4 + 1 / 16, place[1] / 4 + 1 / 16)
)


def turned(region: Region) -> Region:
    return Region(region.x0, region.y0, region.x1, region.y1)


def masks(points: Any, box: Region, size: tuple[int, int]) -> Any:
    """All kinds of mask of an image of `size`, from the same places."""
    values = np.add.outer(np.arange(HEIGHT) * 7, np.arange(WIDTH) * 5) % 64 / np.float32(64)
    values = values if size[0] == HEIGHT else values.T
    regions, polygon = RegionMask([box]), PolygonMask([[[*points, points[0]]]], *size)
    image = nr.open_image(np.ascontiguousarray(values))
    yield regions
    yield polygon
    yield Within(polygon, regions)
    yield Feathered(regions, 5, size)
    yield RasterMask(image, image)


@st.composite
def boxes(draw: Any) -> Region:
    y0, x0 = draw(st.integers(0, HEIGHT - 1)), draw(st.integers(0, WIDTH - 1))
    return Region(y0, x0, draw(st.integers(y0 + 1, HEIGHT)), draw(st.integers(x0 + 1, WIDTH)))


@QUICK
@given(st.tuples(PLACES, PLACES, PLACES), boxes(), boxes())
def test_a_transposed_mask_is_read_transposed(
    points: tuple[tuple[float, float], ...], box: Region, read: Region
) -> None:
    (x, y), *others = points
    (ax, ay), (bx, by) = ((a - x, b - y) for a, b in others)
    assume(
        ax * by != ay * bx and min(y, y + ay, y + by) < HEIGHT and min(x, x + ax, x + bx) < WIDTH
    )
    swapped = [(y, x) for x, y in points]
    one = masks(points, box, (HEIGHT, WIDTH))
    other = masks(swapped, turned(box), (WIDTH, HEIGHT))
    for mask, across in zip(one, other, strict=True):
        np.testing.assert_allclose(mask.read(read), across.read(turned(read)).T, atol=1e-6)
        assert turned(mask.bounds) == across.bounds


@QUICK
@given(PLACES, PLACES)
def test_a_gradient_has_the_strength_of_the_middle_of_each_pixel(
    start: tuple[float, float], end: tuple[float, float]
) -> None:
    (ax, ay), (bx, by) = start, end
    length = (bx - ax) ** 2 + (by - ay) ** 2
    expected = np.array(
        [
            [
                ((x + 0.5 - ax) * (bx - ax) + (y + 0.5 - ay) * (by - ay)) / length
                for x in range(WIDTH)
            ]
            for y in range(HEIGHT)
        ]
        if length
        else np.zeros((HEIGHT, WIDTH))
    ).clip(0, 1)
    if not expected.any():
        return
    got = GradientMask(start, end, (HEIGHT, WIDTH)).read(Region(0, 0, HEIGHT, WIDTH))
    np.testing.assert_allclose(got, expected, atol=1e-6)


def at_level(mask: MaskStrength, level: int, size: tuple[int, int]) -> Any:
    """The whole of a level: its sides are those of the image, halved and rounded up."""
    height, width = size
    for _ in range(level):
        height, width = (height + 1) // 2, (width + 1) // 2
    return mask_at_level(mask, level, size).read(Region(0, 0, height, width))


@pytest.mark.parametrize("level", [1, 2, 3])
def test_all_of_an_image_is_all_of_its_levels(level: int) -> None:
    """A fade is none at the border of the image, which is that of the level, too."""
    for side in range(1, 10):
        whole = RegionMask([Region(0, 0, side, 9)])
        assert (at_level(whole, level, (side, 9)) == 1).all()
        assert (at_level(Feathered(whole, 24, (side, 9)), level, (side, 9)) == 1).all()
        half = at_level(
            Feathered(RegionMask([Region(0, 4, side, 9)]), 8, (side, 9)), level, (side, 9)
        )
        assert (half == half[:1]).all()


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_raster_is_sampled_at_the_middle_of_each_pixel_of_a_level(level: int) -> None:
    step = 2**level
    for height in range(1, 10):
        values = np.arange(1, height * 7 + 1, dtype=np.float32).reshape(height, 7) / 100
        image = nr.open_image(values)
        rows = [min(y + step // 2, height - 1) for y in range(0, height, step)]
        columns = [min(x + step // 2, 6) for x in range(0, 7, step)]
        expected = values[np.ix_(rows, columns)]
        assert np.array_equal(at_level(RasterMask(image, image), level, (height, 7)), expected)
