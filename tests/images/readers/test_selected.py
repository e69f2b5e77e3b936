"""Some bands of an image as an image of their own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_restore.errors import BadParameter
from napari_restore.images import Image, open_image


@pytest.fixture
def holed(tmp_path: Path) -> Path:
    """Striped int16, 4 bands, with a hole in the third."""
    import rasterio
    from rasterio.transform import Affine

    rng = np.random.default_rng(1)
    pixels = rng.integers(1, 9000, (700, 600, 4)).astype(np.int16)
    pixels[100:140, 50:90, 2] = -9999
    path = tmp_path / "holed.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=700,
        width=600,
        count=4,
        dtype="int16",
        nodata=-9999,
        interleave="pixel",
        transform=Affine(2, 0, 100, 0, -2, 900),
    ) as dataset:
        dataset.write(pixels.transpose(2, 0, 1))
    return path


@pytest.mark.parametrize("streamed", [False, True])
def test_pixels_and_validity_are_those_of_the_file(
    holed: Path, streamed: bool, streamed_above: Callable[[int], None]
) -> None:
    if streamed:
        streamed_above(1000)
    image = open_image(holed)
    assert image.reader.random_access != streamed
    part = image.with_bands((3, 0))
    for box in ((0, 0, 700, 600), (90, 40, 150, 100)):
        np.testing.assert_array_equal(part.read(box), image.read(box)[..., [3, 0]])
        np.testing.assert_array_equal(part.read_valid(box), image.read_valid(box))
    assert not part.read_valid((100, 50, 140, 90)).any()
    part.build_pyramid()
    assert part.levels[-1].compute().shape[2] == 2


def test_arrays_can_be_selected_from() -> None:
    pixels = np.random.default_rng(0).random((30, 40, 3))
    image = open_image(pixels)
    part = image.with_bands([2])
    assert part.path is None
    assert part.spec is None
    assert part.known_range == image.known_range
    assert part.fingerprint != image.fingerprint
    np.testing.assert_array_equal(part.read((0, 0, 30, 40)), pixels[..., [2]])


def test_bands_of_a_mosaic_are_opened_again(holed: Path, tmp_path: Path) -> None:
    import rasterio

    beside = tmp_path / "beside.tif"
    beside.write_bytes(holed.read_bytes())
    with rasterio.open(beside, "r+") as dataset:
        dataset.transform = rasterio.transform.Affine(2, 0, 100 + 2 * 600, 0, -2, 900)
    mosaic = open_image([holed, beside]).with_bands((0, 1))
    assert (mosaic.height, mosaic.width) == (700, 1200)
    assert mosaic.spec is not None
    again = Image.from_spec(mosaic.spec)
    box = (0, 590, 20, 610)
    np.testing.assert_array_equal(again.read(box), mosaic.read(box))


@pytest.mark.parametrize("numbers", [(), (4,), (-1,)])
def test_bands_there_are_not(holed: Path, numbers: tuple[int, ...]) -> None:
    with pytest.raises(BadParameter):
        open_image(holed).with_bands(numbers)
