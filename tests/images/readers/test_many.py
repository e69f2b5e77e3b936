"""Several files as one image, and arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from napari_restore.errors import UnreadableImage
from napari_restore.images import Image, Pixels, open_image, write_image
from napari_restore.images.readers.mosaic import MosaicReader

MakeTiff = Callable[..., Path]
Noise = Callable[..., np.ndarray]


def placed(column: int, row: int) -> Affine:
    return Affine(10, 0, 400000 + 10 * column, 0, -10, 5000000 - 10 * row)


def test_stack_of_single_bands(make_tiff: MakeTiff, noise: Noise) -> None:
    pixels = noise(300, 200, 3, np.uint16)
    names = [f"LC08_L1TP_107035_20150502_B{n}.TIF" for n in (4, 3, 2)]
    paths = [make_tiff(pixels[..., [i]], name) for i, name in enumerate(names)]
    image = open_image(paths, stack=True, sensor="landsat8")
    assert image.shape == (300, 200, 3)
    assert image.roles == ("red", "green", "blue")
    assert image.descriptions == ("B4", "B3", "B2")
    np.testing.assert_array_equal(image.read((5, 5, 290, 190)), pixels[5:290, 5:190])
    again = type(image).from_spec(image.spec)
    assert again.fingerprint == image.fingerprint
    assert again.roles == image.roles


def test_stack_is_valid_where_all_are(make_tiff: MakeTiff) -> None:
    one, two = np.ones((4, 4, 1), np.uint16), np.ones((4, 4, 1), np.uint16)
    one[0, 0], two[1, 1] = 0, 0
    paths = [make_tiff(p, f"{i}.tif", nodata=0) for i, p in enumerate((one, two))]
    valid = open_image(paths, stack=True).read_valid((0, 0, 4, 4))
    assert valid.sum() == 14


def test_stack_of_unequal_sizes(make_tiff: MakeTiff, noise: Noise) -> None:
    paths = [make_tiff(noise(8, n, 1, np.uint8), f"{n}.tif") for n in (8, 4)]
    with pytest.raises(UnreadableImage, match="4 × 8 pixels"):
        open_image(paths, stack=True)


def test_mosaic_equals_the_whole(make_tiff: MakeTiff, noise: Noise) -> None:
    pixels = noise(400, 700, 3, np.uint8)
    parts = {"a": (0, 0, 250, 300), "b": (0, 300, 250, 700), "c": (250, 0, 400, 700)}
    paths = [
        make_tiff(pixels[y0:y1, x0:x1], f"{name}.tif", transform=placed(x0, y0))
        for name, (y0, x0, y1, x1) in parts.items()
    ]
    image = open_image(paths[::-1])
    assert image.shape == pixels.shape
    assert not image.may_be_invalid
    assert image.transform == (10, 0, 400000, 0, -10, 5000000)
    np.testing.assert_array_equal(image.read((0, 0, 400, 700)), pixels)
    np.testing.assert_array_equal(image.read((240, 290, 260, 310)), pixels[240:260, 290:310])


def test_mosaic_with_gap_overlap_and_nodata(make_tiff: MakeTiff) -> None:
    left, right = np.full((4, 4, 1), 1, np.uint8), np.full((4, 4, 1), 2, np.uint8)
    left[0, 3] = 9
    left[1, 3] = 9
    paths = [
        make_tiff(left, "l.tif", transform=placed(0, 0), nodata=9),
        make_tiff(right, "r.tif", transform=placed(3, 1), nodata=9),
    ]
    image = open_image(paths)
    pixels, valid = image.read((0, 0, 5, 7))[..., 0], image.read_valid((0, 0, 5, 7))
    assert pixels[2, 3] == 1
    assert pixels[1, 3] == 2
    assert (pixels[0, 3], valid[0, 3]) == (9, False)
    assert (pixels[0, 5], valid[0, 5]) == (9, False)
    assert valid.sum() == 16 + 16 - 3 - 1


@pytest.mark.parametrize(
    ("marks", "column", "masks"),
    [
        ((None, None), 4, "none"),
        ((None, None), 3, "none"),  # they overlap, and leave no gap
        ((None, None), 6, "mask"),
        ((None, 0), 4, "mask"),
        ((0, None), 4, "mask"),
        ((9, 0), 4, "mask"),
        ((0, 0), 6, "nodata"),
    ],
)
def test_the_file_of_a_mosaic_says_what_is_invalid(
    make_tiff: MakeTiff, tmp_path: Path, marks: Any, column: int, masks: str
) -> None:
    pixels = np.full((4, 4, 1), 9, np.uint8)
    pixels[1, 2] = 0
    paths = [
        make_tiff(pixels, f"{at}.tif", transform=placed(column * at, 0), nodata=mark)
        for at, mark in enumerate(marks)
    ]
    image = open_image(paths)
    box = (0, 0, 4, column + 4)
    written = open_image(write_image(tmp_path / "joined.tif", Pixels(box, image.read), like=image))
    assert written.profile.masks == image.profile.masks == masks
    np.testing.assert_array_equal(written.read(box), image.read(box))
    np.testing.assert_array_equal(written.read_valid(box), image.read_valid(box))


def test_a_gap_between_files_with_alpha_and_nodata_is_transparent(
    make_tiff: MakeTiff, tmp_path: Path
) -> None:
    pixels = np.full((4, 4, 4), 200, np.uint8)
    paths = [
        make_tiff(
            pixels,
            f"{at}.tif",
            transform=placed(6 * at, 0),
            nodata=7,
            photometric="RGB",
            alpha="YES",
        )
        for at in (0, 1)
    ]
    image, box = open_image(paths), (0, 0, 4, 10)
    write_image(tmp_path / "joined.tif", Pixels(box, image.read), like=image)
    with rasterio.open(tmp_path / "joined.tif") as file:
        assert set(file.read(4)[:, 4:6].flat) == {0}
        assert set(file.read(1)[:, 4:6].flat) == {7}


def test_a_mosaic_keeps_the_masks_of_bands(make_tiff: MakeTiff, tmp_path: Path) -> None:
    pixels = np.full((4, 4, 2), 9, np.uint8)
    pixels[1, :, 0] = 0
    paths = []
    for at, band in [(at, band) for at in (0, 1) for band in (0, 1)]:
        name, mark = f"{at}{band}.tif", None if band else 0
        paths.append(make_tiff(pixels[..., [band]], name, transform=placed(5 * at, 0), nodata=mark))
    stacks = [open_image(paths[:2], stack=True), open_image(paths[2:], stack=True)]
    joined = Image(MosaicReader(stacks))
    write_image(tmp_path / "joined.tif", Pixels((0, 0, 4, 9), joined.read), like=joined)
    expected = np.ones((4, 9, 2), bool)
    expected[:, 4], expected[1, :, 0] = False, False
    with rasterio.open(tmp_path / "joined.tif") as file:
        np.testing.assert_array_equal(file.read_masks().transpose(1, 2, 0) > 0, expected)


SENTINEL = {
    baseline: f"S2A_MSIL2A_20220301T013701_{baseline}_R031_T54SUE_20220301T040452.tif"
    for baseline in ("N0301", "N0400")
}


@pytest.mark.parametrize(
    ("names", "descriptions", "scales", "cause"),
    [
        ("ab", ("red", "blue"), (1, 1), "colours"),
        ("ab", ("red", "red"), (1, 2), "scales"),
        ("ab", (None, "alpha"), (1, 1), "alpha"),
        (tuple(SENTINEL.values()), ("B4", "B4"), (1, 1), "zeros"),
        ("ab", ("red", None), (1, 1), None),
    ],
)
def test_what_files_of_a_mosaic_say_of_their_bands(
    make_tiff: MakeTiff, names: Any, descriptions: Any, scales: Any, cause: str | None
) -> None:
    """The joined image is described as the first file, which must be true of the others."""
    paths = []
    for at, name in enumerate(names):
        paths.append(make_tiff(np.ones((4, 4, 2), np.uint16), name, transform=placed(4 * at, 0)))
        with rasterio.open(paths[-1], "r+") as file:
            file.set_band_description(1, descriptions[at] or "")
            if descriptions[at] == "alpha":
                file.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
            file.scales = [scales[at]] * 2
    if cause is None:
        assert open_image(paths).roles[0] == "red"
        return
    with pytest.raises(UnreadableImage, match=f"have other {cause} than"):
        open_image(paths)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"crs": "EPSG:32634"}, "coordinate system"),
        ({"transform": Affine(20, 0, 400000, 0, -20, 5000000)}, "pixel size"),
        ({"transform": Affine(10, 0, 400005, 0, -10, 5000000)}, "between the pixels"),
        ({"crs": None, "transform": None}, "no place"),
    ],
)
def test_what_is_no_mosaic(make_tiff: MakeTiff, options: dict[str, Any], cause: str) -> None:
    pixels = np.ones((8, 8, 1), np.uint8)
    with pytest.raises(UnreadableImage, match=cause):
        open_image([make_tiff(pixels, "a.tif"), make_tiff(pixels, "b.tif", **options)])


def test_numpy_is_not_copied_on_opening_nor_frozen(noise: Noise) -> None:
    pixels = noise(600, 700, 3, np.uint8)
    image = open_image(pixels)
    window = image.read((100, 100, 600, 650))
    np.testing.assert_array_equal(window, pixels[100:600, 100:650])
    window[:] = 0
    pixels[0, 0] = 77
    assert image.read((0, 0, 1, 1)).ravel().tolist() == [77, 77, 77]
    assert image.spec is None
    assert image.path is None


def test_two_dimensions_are_one_band(noise: Noise) -> None:
    assert open_image(noise(20, 30, 1, np.float32)[..., 0]).shape == (20, 30, 1)


def test_dask_is_computed_once_per_chunk(noise: Noise) -> None:
    import dask.array as da

    pixels, computed = noise(600, 600, 2, np.uint16), []

    def note(block: np.ndarray) -> np.ndarray:
        if block.size:
            computed.append(block.shape)
        return block

    lazy = da.from_array(pixels, (300, 300, 2)).map_blocks(note, dtype=np.uint16, meta=pixels[:0])
    image = open_image(lazy)
    assert not computed
    for _ in range(2):
        np.testing.assert_array_equal(image.read((10, 10, 20, 590)), pixels[10:20, 10:590])
    assert len(computed) == 2


def test_a_list_is_levels(noise: Noise) -> None:
    full = noise(64, 80, 3, np.uint8)
    image = open_image([full, full[::2, ::2]])
    assert image.level_shapes == ((64, 80), (32, 40))
    np.testing.assert_array_equal(image.read((0, 0, 32, 40), 1), full[::2, ::2])
    np.testing.assert_array_equal(image.levels[1].compute(), full[::2, ::2])
    with pytest.raises(UnreadableImage, match="shrink"):
        open_image([full[::2, ::2], full])


def test_float_arrays_know_what_is_not_finite() -> None:
    pixels = np.zeros((3, 3, 2), np.float64)
    pixels[1, 1, 0] = np.nan
    assert open_image(pixels).read_valid((0, 0, 3, 3)).sum() == 8


def test_labelled_arrays_by_duck_typing() -> None:
    class Labelled:
        """As much of xarray.DataArray as is used."""

        def __init__(self, data: np.ndarray, dims: tuple[str, ...]) -> None:
            self.data, self.dims, self.shape, self.dtype = data, dims, data.shape, data.dtype
            self.attrs = {"_FillValue": 5, "long_name": ["Red", "NIR"]}

        def transpose(self, *order: str) -> Labelled:
            axes = [self.dims.index(d) for d in order]
            return Labelled(self.data.transpose(axes), order)

    data = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    image = open_image(Labelled(data, ("band", "y", "x")))
    assert image.shape == (3, 4, 2)
    assert image.roles == ("red", "nir")
    assert image.nodata == 5
    np.testing.assert_array_equal(image.read((0, 0, 3, 4)), data.transpose(1, 2, 0))


def test_fingerprints_follow_content_not_names(make_tiff: MakeTiff, noise: Noise) -> None:
    pixels = noise(20, 20, 1, np.uint8)
    first, second = make_tiff(pixels, "a.tif"), make_tiff(pixels, "b.tif")
    assert open_image(first).fingerprint == open_image(second).fingerprint
    pixels[19, 19] ^= 1
    assert open_image(make_tiff(pixels, "c.tif")).fingerprint != open_image(first).fingerprint
    assert open_image(pixels).fingerprint == open_image(pixels.copy()).fingerprint
    assert open_image(pixels).fingerprint != open_image(pixels[:, :10]).fingerprint


def test_a_file_that_is_gone_before_its_first_use_is_named(make_tiff: MakeTiff) -> None:
    path = make_tiff(np.ones((8, 8, 1), np.uint8), "gone.tif")
    image = open_image(path)
    path.unlink()
    with pytest.raises(UnreadableImage, match="gone can no longer be read: No such file"):
        _ = image.fingerprint
