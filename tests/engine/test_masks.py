"""Whole runs with a mask, a faded edge, a strength, and pixels that do not count."""

import json

import numpy as np
import pytest

import napari_restore as nr
from napari_restore.engine import Region, compute_context
from napari_restore.engine.masks.open_mask import open_mask

from ._whole import whole

HEIGHT, WIDTH = 300, 420
BOX = Region(60, 80, 250, 330)
DTYPES = ("uint8", "int16", "uint16", "float64")


def pixels_of(dtype):
    """A hazy scene in the range of `dtype`."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / HEIGHT
    clear = np.kron(rng.random((HEIGHT // 10, WIDTH // 10, 3)), np.ones((10, 10, 1)))
    t = (0.6 + 0.25 * np.cos(5 * y + 3 * x))[..., None]
    hazy = clear * t + np.array([0.85, 0.88, 0.92]) * (1 - t)
    top = 1 if dtype == "float64" else {"uint8": 255, "int16": 9000, "uint16": 60000}[dtype]
    scaled = hazy * top
    return scaled if dtype == "float64" else np.rint(scaled).astype(dtype)


@pytest.fixture(params=DTYPES)
def image(request):
    return nr.open_image(pixels_of(request.param), bands="red=1,green=2,blue=3")


@pytest.fixture
def restored(run):
    """The pixels of such a run."""
    return lambda image, **options: run(image, **options).read(whole(image))


@pytest.fixture
def geojson(tmp_path):
    """BOX as a polygon in pixels."""
    path = tmp_path / "mask.geojson"
    y0, x0, y1, x1 = BOX
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}), encoding="utf-8")
    return path


def raster(path, values):
    import rasterio
    from rasterio.transform import Affine

    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=values.shape[0],
        width=values.shape[1],
        count=1,
        dtype=values.dtype,
        transform=Affine(2, 0, 100, 0, -2, 900),
    ) as dataset:
        dataset.write(values, 1)
    return path


@pytest.mark.slow
def test_outside_the_mask_stands_the_source_and_inside_the_unmasked_run(
    restored, image, geojson, tmp_path
):
    source, full = image.read(whole(image)), restored(image)
    assert (full != source).mean() > 0.5
    expected = source.copy()
    expected[BOX.slices] = full[BOX.slices]
    np.testing.assert_array_equal(restored(image, mask=geojson), expected)
    values = np.zeros((HEIGHT, WIDTH), np.uint16)
    values[BOX.slices] = 1
    np.testing.assert_array_equal(
        restored(image, mask=raster(tmp_path / "m.tif", values)), expected
    )


@pytest.mark.ids("slow", "int16")
def test_a_mask_beyond_the_region_leaves_the_rest_as_it_was(run, image, geojson):
    region = Region(100, 128, 256, 300)
    masked = run(image, mask=geojson, region=region).read(whole(image))
    expected = image.read(whole(image))
    both = region.intersect(BOX).slices
    expected[both] = run(image).read(whole(image))[both]
    np.testing.assert_array_equal(masked, expected)


@pytest.mark.slow
def test_half_the_strength_is_half_the_way(run, restored, image):
    source, full = image.read(whole(image)).astype(np.float64), restored(image)
    result = run(image, strength=0.5)
    half = result.read(whole(image))
    middle = (source + full) / 2
    within = 1e-6 if image.dtype.kind == "f" else 0.5
    assert np.abs(half - middle).max() <= within
    box = Region(33, 41, 170, 250)
    np.testing.assert_array_equal(result.read(box), half[box.slices])


@pytest.mark.slow
def test_a_mask_of_128_is_half_the_way(restored, tmp_path):
    image = nr.open_image(pixels_of("uint16"), bands="red=1,green=2,blue=3")
    source, full = image.read(whole(image)).astype(np.float64), restored(image)
    mask = raster(tmp_path / "m.tif", np.full((HEIGHT, WIDTH), 128, np.uint8))
    blended = source + (full - source) * (128 / 255)
    assert np.abs(restored(image, mask=mask) - blended).max() <= 0.51


def test_no_strength_is_the_source(restored, image):
    np.testing.assert_array_equal(restored(image, strength=0), image.read(whole(image)))


@pytest.mark.ids("slow", "float64", "uint16")
def test_a_faded_edge_lies_between_source_and_result(run, restored, image, geojson):
    source, full = image.read(whole(image)), restored(image)
    result = run(image, mask=geojson, feather=40)
    soft = result.read(whole(image))
    weight = open_mask(geojson, image, 40).read(whole(image))
    assert ((weight > 0) & (weight < 1)).mean() > 0.1
    np.testing.assert_array_equal(soft[weight == 0], source[weight == 0])
    np.testing.assert_array_equal(soft[weight == 1], full[weight == 1])
    exact = source + (full.astype(np.float64) - source) * weight[..., None]
    assert np.abs(soft - exact).max() <= (1e-6 if image.dtype.kind == "f" else 0.51)
    for box in (Region(50, 70, 90, 400), Region(0, 0, 300, 90)):
        np.testing.assert_array_equal(result.read(box), soft[box.slices])


@pytest.mark.ids("slow", "float64")
def test_what_is_written_is_what_is_read(run, image, geojson, tmp_path):
    result = run(image, mask=geojson, feather=25, strength=0.7)
    soft = result.read(whole(image))
    path = result.save(tmp_path / "out.tif")
    np.testing.assert_array_equal(nr.open_image(path).read(whole(image)), soft)


def test_excluded_pixels_stay_and_are_not_counted(run, image, geojson):
    source = image.read(whole(image))
    result = run(image, exclude=geojson)
    some = result.read(whole(image))
    np.testing.assert_array_equal(some[BOX.slices], source[BOX.slices])
    assert (some != source).mean() > 0.2
    left = HEIGHT * WIDTH - BOX.pixels
    exclusion = open_mask(geojson, image)
    assert compute_context(image, exclude=exclusion).valid_pixels == left
    share = result.record["measured"]["quality_shares"]["excluded"]
    assert share == pytest.approx(BOX.pixels / (HEIGHT * WIDTH))


@pytest.mark.slow
def test_what_is_excluded_cannot_matter(restored, geojson):
    """Other values there, the same result elsewhere."""
    pixels = pixels_of("uint16")
    other = pixels.copy()
    other[BOX.slices] = 65535
    results = [
        restored(nr.open_image(p, bands="red=1,green=2,blue=3"), exclude=geojson)
        for p in (pixels, other)
    ]
    results[1][BOX.slices] = results[0][BOX.slices]
    np.testing.assert_array_equal(*results)


@pytest.mark.slow
def test_a_hole_in_one_band_does_not_reach_its_neighbours(restored, tmp_path):
    """float32 with nodata -9999 in the first band only: not valid, so nothing of it spreads."""
    import rasterio

    pixels = (pixels_of("float64") * 0.9).astype(np.float32)
    filled = pixels.copy()
    pixels[100:140, 100:160, 0] = -9999
    filled[100:140, 100:160] = -9999
    results = []
    for name, values in (("one.tif", pixels), ("all.tif", filled)):
        profile = {"driver": "GTiff", "count": 3, "dtype": "float32", "nodata": -9999}
        with rasterio.open(
            tmp_path / name,
            "w",
            height=HEIGHT,
            width=WIDTH,
            photometric="RGB",
            transform=rasterio.transform.Affine(2, 0, 100, 0, -2, 900),
            **profile,
        ) as dataset:
            dataset.write(values.transpose(2, 0, 1))
        image = nr.open_image(tmp_path / name)
        assert not image.read_valid(whole(image))[100:140, 100:160].any()
        results.append(restored(image))
    one, everywhere = results
    np.testing.assert_array_equal(one[100:140, 100:160], pixels[100:140, 100:160])
    one[100:140, 100:160] = everywhere[100:140, 100:160]
    np.testing.assert_array_equal(one, everywhere)
