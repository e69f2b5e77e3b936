"""Photos with a colour profile of their own: sRGB on the screen, their own values everywhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import rasterio
import tifffile
from napari.layers import Image as ImageLayer

import napari_restore as nr
from napari_restore import Region
from napari_restore.plugin.layers.display import Display
from napari_restore.plugin.layers.reader import layer_of
from napari_restore.plugin.layers.result_layer import ResultLayer

ADOBE = bytes(imagecodecs.cms_profile("adobergb"))


def seen(stored: np.ndarray) -> np.ndarray:
    """By LittleCMS, without a table, at 16 bit."""
    wide = imagecodecs.cms_transform(
        stored.astype(np.uint16) * 257,
        ADOBE,
        imagecodecs.cms_profile("srgb"),
        colorspace="rgb",
        outcolorspace="rgb",
        outdtype=np.uint16,
        flags=0x0100,
    )
    return wide / 257


@pytest.fixture
def colours() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (700, 1100, 3), dtype=np.uint8)


@pytest.fixture
def photo(tmp_path: Path, colours: np.ndarray) -> Any:
    path = tmp_path / "wide.tif"
    tifffile.imwrite(path, colours, photometric="rgb", iccprofile=ADOBE, tile=(256, 256))
    return nr.open_image(path)


def layer(image: Any) -> ImageLayer:
    data, arguments, _ = layer_of(image)
    return ImageLayer(data, **arguments)


def finest(shown: ImageLayer) -> Any:
    return shown.data[0] if shown.multiscale else shown.data


def test_the_screen_gets_srgb_and_the_image_keeps_its_values(photo: Any, colours: np.ndarray):
    shown = np.asarray(finest(layer(photo)))
    assert np.abs(shown - seen(colours)).max() <= 1
    assert np.abs(shown.astype(int) - colours).max() > 20
    np.testing.assert_array_equal(photo.read((0, 0, 700, 1100)), colours)


def test_chunks_are_converted_one_by_one(photo: Any, monkeypatch: pytest.MonkeyPatch):
    data = finest(layer(photo))
    asked = []
    read = photo.read

    def watched(box: Any, level: int = 0) -> Any:
        asked.append(box)
        return read(box, level)

    monkeypatch.setattr(photo, "read", watched)
    np.asarray(data[:100, :100])
    assert asked == [(0, 0, 256, 256)]


def test_a_photo_in_srgb_is_shown_as_it_is(colours: np.ndarray):
    plain = nr.open_image(colours, bands="red,green,blue")
    shown = layer(plain)
    np.testing.assert_array_equal(np.asarray(finest(shown)), colours)
    assert tuple(shown.contrast_limits) == (0, 255)


@pytest.mark.slow
def test_a_deep_photo_comes_in_srgb_at_its_own_depth(tmp_path: Path, colours: np.ndarray):
    path = tmp_path / "deep.tif"
    deep = colours.astype(np.uint16) * 257
    tifffile.imwrite(path, deep, photometric="rgb", iccprofile=ADOBE)
    image = nr.open_image(path)
    assert image.working_space is not None
    shown = layer(image)
    assert Display.of_image(image) is Display.COLOUR
    assert shown.rgb and shown.data[0].dtype == np.uint16
    assert np.abs(np.asarray(finest(shown)) / 257 - seen(colours)).max() <= 1
    # It uses its range, so nothing is spread.
    assert tuple(shown.contrast_limits) == (0, 65535)


@pytest.mark.parametrize(
    ("dtype", "roles", "bands"),
    [
        ("uint16", "blue=1,green=2,red=3,nir=4", (2, 1, 0)),
        ("int16", "nir=1,red=2,green=3,blue=4", (1, 2, 3)),
        ("float32", None, (0, 1, 2)),
        ("float64", "red=1,green=2,blue=3,alpha=4", (0, 1, 2, 3)),
    ],
)
@pytest.mark.ids("slow", "float64-red=1,green=2,blue=3,alpha=4-bands3")
def test_colours_are_found_among_the_bands(dtype: str, roles: str | None, bands: tuple[int, ...]):
    count = 3 if roles is None else 4
    pixels = np.random.default_rng(4).uniform(100, 3000, (700, 600, count)).astype(dtype)
    image = nr.open_image(pixels, bands=roles)
    shown = layer(image)
    assert shown.rgb
    np.testing.assert_array_equal(np.asarray(finest(shown)), pixels[..., list(bands)])
    low, high = shown.contrast_limits
    assert 90 < low < 200 and 2900 < high <= 3001
    plan = nr.plan(image, "identity", pyramid=True, device="cpu")
    result = nr.start(plan).result()
    made = ResultLayer(result, shown, "after")
    before = np.asarray(finest(made.layer))
    assert not before[..., 3].any()
    made.mark_all([Region(*line["region"]) for line in result.store.journal])
    after = np.asarray(finest(made.layer))
    assert after.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(after[..., :3], pixels[..., list(bands[:3])])
    assert tuple(made.layer.contrast_limits) == (low, high)


@pytest.mark.parametrize("roles", [None, "nir=1,red=2,green=3,swir=4"])
def test_bands_that_are_no_colours_are_stepped_through(roles: str | None):
    # Four bands that nobody has named are red, green, blue and alpha.
    bands = 5 if roles is None else 4
    pixels = np.random.default_rng(4).integers(0, 4000, (90, 70, bands)).astype(np.uint16)
    image = nr.open_image(pixels, bands=roles)
    assert Display.of_image(image) is Display.BANDS
    np.testing.assert_array_equal(np.asarray(finest(layer(image))), pixels.transpose(2, 0, 1))


def test_before_and_after_are_shown_alike(photo: Any, planned: Any, colours: np.ndarray):
    source = layer(photo)
    region = Region(100, 200, 612, 712)
    result = nr.start(planned(photo, region)).result()
    shown = ResultLayer(result, source, "after")
    shown.mark_all([Region(*line["region"]) for line in result.store.journal])
    after = np.asarray(finest(shown.layer))[..., :3]
    inner = region.shift(-shown.box.y0, -shown.box.x0)
    before = np.asarray(finest(source))[region.slices]
    np.testing.assert_array_equal(after[inner.slices], before)
    np.testing.assert_array_equal(result.read(region), colours[region.slices])
    if shown.layer.multiscale:
        assert (np.asarray(shown.layer.data[-1])[..., 3] == 255).any()


def test_alpha_is_left_alone(tmp_path: Path, colours: np.ndarray):
    alpha = np.arange(700 * 1100, dtype=np.uint64).reshape(700, 1100, 1) % 256
    path = tmp_path / "alpha.tif"
    tifffile.imwrite(
        path,
        np.dstack([colours, alpha.astype(np.uint8)]),
        photometric="rgb",
        extrasamples=["unassalpha"],
        iccprofile=ADOBE,
    )
    shown = np.asarray(finest(layer(nr.open_image(path))))
    np.testing.assert_array_equal(shown[..., 3:], alpha)
    assert np.abs(shown[..., :3] - seen(colours)).max() <= 1


@pytest.mark.parametrize(
    ("dtype", "nodata", "bands"),
    [("int16", -9999, 3), ("float32", -9999.0, 3), ("uint16", 65535, 3), ("uint16", 0, 4)],
)
def test_what_is_no_value_does_not_widen_the_contrast(
    tmp_path: Path, dtype: str, nodata: float, bands: int
):
    pixels = np.random.default_rng(5).uniform(1000, 3000, (bands, 700, 600)).astype(dtype)
    pixels[:, :, :200] = nodata
    path = tmp_path / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=700, width=600, count=bands, dtype=dtype, nodata=nodata,
        crs="EPSG:32633", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6),
    ) as target:  # fmt: skip
        target.write(pixels)
    image = nr.open_image(path)
    source = layer(image)
    before = tuple(source.contrast_limits)
    result = nr.start(nr.plan(image, "identity", pyramid=True, device="cpu")).result()
    made = ResultLayer(result, source, "after")
    made.mark_all([Region(*line["region"]) for line in result.store.journal])
    made.refresh()
    assert tuple(made.layer.contrast_limits) == tuple(source.contrast_limits) == before
