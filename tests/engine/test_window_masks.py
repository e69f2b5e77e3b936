"""Masks as a window keeps them: gradients, coarse rasters in pixels, files in the cache."""

import json

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

import napari_restore as nr
from napari_restore import api
from napari_restore.engine import Region
from napari_restore.engine.masks.open_mask import GradientMask, open_mask
from napari_restore.errors import BadMask, InputError
from napari_restore.images import cache_entries, clear_cache, persistent_mask

HEIGHT, WIDTH = 40, 60
WHOLE = Region(0, 0, HEIGHT, WIDTH)
NORTH = Affine(2, 0, 500_000, 0, -2, 5_600_000)
TURNED = NORTH @ Affine.rotation(30)


def placed(tmp_path, transform, crs="EPSG:32633"):
    path = tmp_path / "image.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=HEIGHT,
        width=WIDTH,
        count=1,
        dtype="uint8",
        crs=crs,
        transform=transform,
    ) as dataset:
        dataset.write(np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(1, HEIGHT, WIDTH))
    return nr.open_image(path)


def unplaced():
    return nr.open_image(np.ones((HEIGHT, WIDTH), np.uint8))


@pytest.fixture(params=["no place", "north up", "turned", "no system"])
def image(request, tmp_path):
    if request.param == "no place":
        return unplaced()
    transform = TURNED if request.param == "turned" else NORTH
    return placed(tmp_path, transform, None if request.param == "no system" else "EPSG:32633")


def test_a_gradient_grows_from_its_first_end_to_its_last():
    weight = GradientMask((10, 0), (30, 0), (HEIGHT, WIDTH))
    row = weight.read(WHOLE)[7]
    assert row[:10].max() == 0 and row[30:].min() == 1
    np.testing.assert_allclose(row[10:30], (np.arange(20) + 0.5) / 20, atol=1e-6)
    assert weight.bounds == Region(0, 10, HEIGHT, WIDTH)
    box = Region(3, 5, 9, 40)
    np.testing.assert_array_equal(weight.read(box), weight.read(WHOLE)[box.slices])


def test_a_slanting_gradient_reaches_no_further_than_its_bounds():
    weight = GradientMask((50, 30), (58, 38), (HEIGHT, WIDTH))
    outside = weight.read(WHOLE)
    outside[weight.bounds.slices] = 0
    assert outside.max() == 0
    assert weight.bounds.pixels < WHOLE.pixels


@pytest.mark.parametrize(("start", "end"), [((5, 5), (5, 5)), ((70, 0), (90, 0))])
def test_a_gradient_that_means_nothing_is_refused(start, end):
    with pytest.raises(BadMask):
        GradientMask(start, end, (HEIGHT, WIDTH))


def test_a_kept_gradient_is_read_back_in_place(image):
    path = api.mask_of_line(image, (10, 4), (30, 20))
    expected = GradientMask((10, 4), (30, 20), (HEIGHT, WIDTH)).read(WHOLE)
    np.testing.assert_allclose(open_mask(path, image).read(WHOLE), expected, atol=1e-6)


def test_kept_polygons_are_read_back_in_place(image):
    rings = [[(5, 6), (25, 6), (25, 20), (5, 20)]], [[(40, 30), (55, 30), (40, 38)]]
    weight = open_mask(api.mask_of_polygons(image, rings), image).read(WHOLE)
    assert weight[6:20, 5:25].all() and weight[31, 41] == 1
    assert weight.sum() == 14 * 20 + weight[30:38, 40:55].sum()


def test_named_systems_are_short_where_they_can_be(tmp_path):
    image = placed(tmp_path, NORTH)
    content = json.loads(api.mask_of_line(image, (0, 0), (9, 9)).read_text("utf-8"))
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"


PLACES = {
    "own grid": (1, 0, 0, 0, 1, 0),
    "coarse": (4, 0, 0, 0, 4, 0),
    "moved": (1, 0, 7, 0, 1, -3),
    "turned": (2, -1, 12, 1, 2, 3),
}


def check_kept_strengths(image, place, dtype, full):
    rng = np.random.default_rng(1)
    size = (HEIGHT // 4, WIDTH // 4) if place[0] == 4 else (HEIGHT, WIDTH)
    strengths = rng.random(size)
    strengths = strengths.astype(dtype) if dtype == "float64" else (strengths > 0.5).astype(dtype)
    if not full:
        strengths[5:] = 0
    weight = open_mask(api.mask_of_array(image, strengths, place), image).read(WHOLE)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    columns, rows = ~Affine(*place) * (x, y)
    rows, columns = np.floor(rows).astype(int), np.floor(columns).astype(int)
    inside = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])
    expected = np.zeros((HEIGHT, WIDTH))
    expected[inside] = strengths[rows[inside], columns[inside]]
    np.testing.assert_allclose(weight, expected, atol=1e-6)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_kept_strengths_are_read_back_in_place(image, place):
    check_kept_strengths(image, place, "float64", full=False)


@pytest.mark.parametrize("dtype", ["uint8", "float64", "bool"])
@pytest.mark.parametrize("full", [True, False])
def test_kept_strengths_of_every_type_are_read_back(tmp_path, dtype, full):
    image = placed(tmp_path, TURNED)
    check_kept_strengths(image, PLACES["turned"], dtype, full)


def test_strengths_of_lazy_arrays_are_the_same(image):
    import dask.array as da

    strengths = np.zeros((HEIGHT, WIDTH), np.float32)
    strengths[3:9, 5:50] = 0.25
    place = (1, 0, 0, 0, 1, 0)
    lazily = api.mask_of_array(image, da.from_array(strengths, chunks=7), place)
    one, other = (
        open_mask(path, image).read(WHOLE)
        for path in (lazily, api.mask_of_array(image, strengths, place))
    )
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one, strengths)


def test_nothing_painted_is_refused(image):
    with pytest.raises(BadMask, match="painted"):
        api.mask_of_array(image, np.zeros((HEIGHT, WIDTH), bool), (1, 0, 0, 0, 1, 0))
    assert list(cache_entries()) == []


def test_a_mask_is_kept_once_and_not_removed_while_this_process_lives(image):
    strengths = np.eye(HEIGHT, WIDTH)
    first = api.mask_of_array(image, strengths, (1, 0, 0, 0, 1, 0))
    written = first.stat().st_mtime_ns
    assert api.mask_of_array(image, strengths, (1, 0, 0, 0, 1, 0)) == first
    assert first.stat().st_mtime_ns == written
    (entry,) = cache_entries()
    assert entry.kind == "masks" and entry.complete and entry.in_use
    clear_cache()
    assert first.is_file()


def test_a_mask_on_a_map_is_not_taken_for_pixels(tmp_path):
    path = tmp_path / "mask.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=9,
        width=9,
        count=1,
        dtype="uint8",
        crs="EPSG:32633",
        transform=NORTH,
    ) as dataset:
        dataset.write(np.ones((1, 9, 9), np.uint8))
    with pytest.raises(BadMask, match="9 × 9"):
        open_mask(path, unplaced())


def test_strengths_beyond_the_image_are_cut_off(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_RESTORE_CACHE", str(tmp_path))
    image = nr.open_image(np.zeros((600, 700, 3), np.uint8))
    strengths = np.zeros((1300, 900), np.uint8)
    strengths[0, 0] = strengths[500:, 600:] = 1
    path = api.mask_of_array(image, strengths, (1, 0, 0, 0, 1, 0))
    mask = nr.open_image(path)
    assert (mask.height, mask.width) == (600, 700)
    np.testing.assert_array_equal(mask.read((0, 0, 600, 700))[..., 0], strengths[:600, :700])


POLYGONS = {
    "one": ([[(5.25, 6), (25, 6), (25, 20.5), (5, 20)]],),
    "a hole": ([[(5, 6), (45, 6), (45, 30), (5, 30)], [(10, 10), (20, 10), (20, 20)]],),
    "two": ([[(5, 6), (25, 6), (25, 20)]], [[(40, 30), (55, 30), (40, 38)]]),
}


@pytest.mark.parametrize("polygons", POLYGONS.values(), ids=POLYGONS)
def test_drawn_areas_as_text_are_those_of_the_file(image, polygons):
    path = api.mask_of_polygons(image, polygons)
    text = persistent_mask(str(path))
    assert text.startswith("POLYGON ((" if len(polygons) == 1 else "MULTIPOLYGON (((")
    expected, found = open_mask(path, image), open_mask(text, image)
    assert expected.digest == found.digest and expected.bounds == found.bounds
    np.testing.assert_array_equal(expected.read(WHOLE), found.read(WHOLE))


def test_so_is_a_gradient(image):
    path = api.mask_of_line(image, (10.5, 4), (30, 20))
    text = persistent_mask(str(path))
    assert text.startswith("LINESTRING (")
    expected, found = open_mask(path, image).read(WHOLE), open_mask(text, image).read(WHOLE)
    np.testing.assert_array_equal(expected, found)


def test_text_may_name_a_system_and_may_be_geojson(tmp_path):
    image = placed(tmp_path, NORTH)
    own = "POLYGON ((500010 5599990, 500050 5599990, 500050 5599950, 500010 5599990))"
    expected = open_mask(own, image).read(WHOLE)
    assert 0 < expected.mean() < 1
    ring = [[500010, 5599990], [500050, 5599990], [500050, 5599950], [500010, 5599990]]
    crs = {"type": "name", "properties": {"name": "EPSG:32633"}}
    data = {"type": "Polygon", "coordinates": [ring], "crs": crs}
    for text in (f"SRID=32633;{own}", own.lower(), json.dumps(data)):
        np.testing.assert_array_equal(open_mask(text, image).read(WHOLE), expected)


@pytest.mark.parametrize(
    "text",
    [
        "POLYGON ()",
        "POLYGON ((0 0, 9 9",
        "POLYGON ((0 0, 9 x, 9 9, 0 0))",
        "POLYGON ((0 0, 9 9))",
        "POLYGON (0 0, 9 0, 9 9, 0 0)",
        "LINESTRING (0 0, 5 5, 9 9)",
        '{"type": "Polygon"',
        '{"type": "Point", "coordinates": [1, 2]}',
        "SRID=999999;POLYGON ((0 0, 9 0, 9 9, 0 0))",
    ],
)
def test_text_that_is_no_area_is_a_sentence(tmp_path, text):
    with pytest.raises(InputError):
        open_mask(text, placed(tmp_path, NORTH))


def test_areas_with_many_corners_and_painted_ones_stay_while_a_command_needs_them(masks_released):
    image = unplaced()
    angles = np.linspace(0, 6.2, 400)
    ring = [(30 + 20 * np.cos(a), 20 + 15 * np.sin(a)) for a in angles]
    paths = [
        api.mask_of_polygons(image, [[ring]]),
        api.mask_of_array(image, np.eye(9), (1, 0, 0, 0, 1, 0)),
    ]
    idle = api.mask_of_polygons(image, [[[(1, 1), (9, 1), (9, 9)]]])
    for path in paths:
        assert persistent_mask(str(path)) == str(path)
    masks_released()
    clear_cache()
    assert not idle.exists() and all(path.is_file() for path in paths)
    assert sorted(entry.needed for entry in cache_entries()) == [True, True]
    clear_cache(needed=True)
    assert cache_entries() == []


def test_a_file_of_the_users_own_is_named_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.geojson").write_text("{}")
    assert persistent_mask("own.geojson") == str(tmp_path / "own.geojson")
