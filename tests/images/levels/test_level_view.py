"""A level of an image as an image: same pixels, place, bands and validity, and it travels."""

import pickle

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from napari_restore.engine import Region, compute_context, make_plan
from napari_restore.engine.masks.open_mask import open_mask
from napari_restore.engine.statistics.context import context_key, find_context
from napari_restore.errors import BadParameter
from napari_restore.images import Image, halve, open_image
from napari_restore.models import load


@pytest.fixture
def scene(tmp_path):
    """1301 × 2603 pixels in 4 bands on a map, nodata 7, without overviews."""
    path = tmp_path / "scene.tif"
    pixels = np.random.default_rng(1).integers(8, 250, (4, 1301, 2603)).astype(np.uint8)
    pixels[:, :40, :500] = 7
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=1301,
        width=2603,
        count=4,
        dtype="uint8",
        nodata=7,
        crs="EPSG:32633",
        transform=from_origin(500000, 5000000, 0.5, 0.5),
        tiled=True,
        blockxsize=256,
        blockysize=256,
    ) as file:
        file.write(pixels)
    return path


def halved(image, times):
    pixels = image.read((0, 0, *image.level_shapes[0]))
    valid = image.read_valid((0, 0, *image.level_shapes[0]))
    for _ in range(times):
        pixels, valid = halve(pixels, valid, fill=image.nodata, nodata=image.nodata)
    return pixels, valid


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("level", [1, 2])
def test_its_pixels_are_those_of_the_level(scene, own_cache, built, level):
    image = open_image(scene)
    if built:
        image.build_pyramid()
    view = image.level_view(level)
    pixels, valid = halved(image, level)
    whole = (0, 0, *pixels.shape[:2])
    assert view.shape == pixels.shape
    np.testing.assert_array_equal(view.read(whole), pixels)
    np.testing.assert_array_equal(view.read_valid(whole), valid)
    inner = (13, 101, 200, 457)
    np.testing.assert_array_equal(view.read(inner), pixels[13:200, 101:457])


def test_it_travels_by_its_spec(scene, own_cache):
    image = open_image(scene, bands="nir=4,red=3")
    for view in (
        image.level_view(2),
        image.level_view(1).with_bands([3, 0]),
        image.with_bands([3, 0]).level_view(1),
    ):
        again = pickle.loads(pickle.dumps(view))
        assert again.spec == view.spec
        assert again.fingerprint == view.fingerprint == again.reader.fingerprint()
        assert again.roles == view.roles
        assert again.scale == view.scale
        box = (100, 200, 300, 400)
        np.testing.assert_array_equal(again.read(box), view.read(box))
    assert image.level_view(1).with_bands([3, 0]).roles == ("nir", None)


def test_levels_and_selections_are_contents_of_their_own(scene, own_cache):
    image = open_image(scene)
    views = [image, image.level_view(1), image.level_view(2), image.level_view(1).with_bands([0])]
    assert len({view.fingerprint for view in views}) == 4


def test_its_place_stays(scene, own_cache):
    image = open_image(scene)
    view = image.level_view(2)
    assert view.transform == (2.0, 0.0, 500000.0, 0.0, -2.0, 5000000.0)
    assert view.crs == image.crs
    assert view.scale == 4


def test_roles_said_later_are_those_of_the_whole_too(scene, own_cache):
    view = open_image(scene).level_view(1).with_roles({"nir": 1})
    assert view.roles[0] == "nir"
    assert view.full.roles[0] == "nir"


def test_a_level_there_is_not_is_refused(scene, own_cache):
    image = open_image(scene)
    assert image.level_view(0) is image
    with pytest.raises(BadParameter, match="no level 9"):
        image.level_view(9)


def test_a_finished_pyramid_is_used_and_none_is_begun(scene, own_cache):
    view = open_image(scene).level_view(2)
    view.read((0, 0, 50, 50))
    assert view.full.pyramid is None
    assert not list(own_cache.glob("pyramids/*"))
    open_image(scene).build_pyramid()
    view = open_image(scene).level_view(2)
    view.read((0, 0, 50, 50))
    assert view.full.has_landed((0, 0, 50, 50), 2)


def test_its_statistics_are_those_of_the_whole_image(scene, own_cache):
    image = open_image(scene, bands="red=1,green=2,blue=3")
    view = image.level_view(2)
    assert context_key(view) == context_key(image)
    made = compute_context(view)
    assert (made.height, made.width) == (image.height, image.width)
    found = find_context(image)
    np.testing.assert_array_equal(found.histograms, made.histograms)


@pytest.mark.parametrize("extent", ["overview", "sample"])
def test_drafts_have_statistics_of_their_own_that_are_not_kept(scene, own_cache, extent):
    image = open_image(scene, bands="red=1,green=2,blue=3")
    rough = compute_context(image, extent=extent)
    assert (rough.height, rough.width) == (image.height, image.width)
    assert find_context(image) is None
    assert not list(own_cache.glob("contexts/*"))
    whole = compute_context(image)
    assert 0 < rough.valid_pixels <= whole.valid_pixels
    assert rough.percentile(50) == pytest.approx(whole.percentile(50), abs=5)
    keys = {
        make_plan(image, load("dcp"), extent=used, region=(0, 0, 300, 300)).key
        for used in ("image", extent)
    }
    assert len(keys) == 2


def test_a_mask_of_the_image_fits_its_levels(scene, tmp_path, own_cache):
    image = open_image(scene)
    mask = tmp_path / "mask.tif"
    values = np.zeros((1, 1301, 2603), np.uint8)
    values[0, 400:800, 1200:1600] = 1
    place = {"crs": "EPSG:32633", "transform": from_origin(500000, 5000000, 0.5, 0.5)}
    size = {"height": 1301, "width": 2603, "count": 1, "dtype": "uint8"}
    with rasterio.open(mask, "w", driver="GTiff", **size, **place) as file:
        file.write(values)
    weight = open_mask(mask, image.level_view(2))
    assert weight.read(Region(100, 300, 200, 400)).all()
    assert not weight.read(Region(0, 0, 99, 299)).any()


def test_an_array_has_levels_too():
    pixels = np.random.default_rng(2).random((2100, 900, 3), np.float32)
    view = open_image(pixels).level_view(1)
    assert isinstance(view, Image)
    assert view.spec is None
    np.testing.assert_array_equal(view.read((0, 0, *view.shape[:2])), halve(pixels)[0])
