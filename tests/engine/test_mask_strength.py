"""Masks and feathered edges: what their values mean, where they lie, however they are cut."""

import json

import numpy as np
import pytest

import napari_restore as nr
from napari_restore import errors
from napari_restore.engine import Region
from napari_restore.engine.masks import mask_strength as mask_module
from napari_restore.engine.masks.mask_strength import (
    Feathered,
    PolygonMask,
    RasterMask,
    RegionMask,
    pieces_of,
)
from napari_restore.engine.masks.open_mask import open_mask

SIZE = (300, 400)
POLYGON = [[(50.0, 40.0), (350.0, 60.0), (300.0, 280.0), (90.0, 250.0), (50.0, 40.0)]]
WHOLE = Region(0, 0, *SIZE)
PLACE = (2.0, 0.0, 500_000.0, 0.0, -2.0, 4_000_000.0)


def smooth():
    rng = np.random.default_rng(0)
    return nr.open_image(rng.random(SIZE).astype(np.float32))


def weights():
    return [
        RegionMask([Region(10, 20, 200, 300), Region(150, 250, 300, 400)]),
        PolygonMask([POLYGON], *SIZE),
        Feathered(PolygonMask([POLYGON], *SIZE), 24, SIZE),
        Feathered(RegionMask([Region(0, 0, 300, 400)]), 9, SIZE),
        Feathered(RasterMask(smooth(), smooth()), 31, SIZE),
        Feathered(RasterMask(smooth(), smooth()), 400, SIZE),
    ]


@pytest.mark.parametrize("weight", weights(), ids=lambda w: type(w).__name__)
def test_a_box_equals_the_cut_of_the_whole(weight, monkeypatch):
    whole = weight.read(WHOLE)
    assert 0 < whole.max() <= 1
    for box in (Region(0, 0, 64, 64), Region(37, 101, 203, 390), Region(299, 399, 300, 400)):
        np.testing.assert_array_equal(weight.read(box), whole[box.slices])
    monkeypatch.setattr(mask_module, "_FADED_AT_ONCE", 5000)
    np.testing.assert_array_equal(weight.read(WHOLE), whole)


def test_feather_fades_inside_only_and_reaches_one():
    sharp = RegionMask([Region(100, 100, 200, 300)])
    soft = Feathered(sharp, 20, SIZE).read(WHOLE)
    hard = sharp.read(WHOLE)
    assert (soft[hard == 0] == 0).all()
    assert soft[150, 200] == 1
    edge = soft[150, 100:125]
    assert (np.diff(edge) >= 0).all()
    assert 0 < edge[3] < edge[10] < 1
    assert edge[20] > 0.99


def test_the_fade_is_that_of_two_box_means():
    weight = RasterMask(smooth(), smooth())
    sharp = weight.read(WHOLE).astype(np.float64)
    mean = np.pad(sharp, 8, mode="edge")
    for radius in (4, 4):
        side = 2 * radius + 1
        windows = np.lib.stride_tricks.sliding_window_view(mean, (side, side))
        mean = windows.mean(axis=(2, 3))
    expected = np.clip(2 * mean - 1, 0, 1) * sharp
    np.testing.assert_allclose(Feathered(weight, 8, SIZE).read(WHOLE), expected, atol=1e-6)


def test_the_images_border_is_no_edge_of_the_mask():
    soft = Feathered(RegionMask([WHOLE]), 20, SIZE)
    assert (soft.read(WHOLE) == 1).all()


@pytest.mark.slow
def test_a_wide_fade_takes_memory_for_a_piece_not_for_the_box():
    import tracemalloc

    size = (2000, 6000)
    weight = Feathered(RegionMask([Region(100, 100, 1900, 5900)]), 400, size)
    box = Region(0, 0, 512, 6000)
    tracemalloc.start()
    weight.read(box)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 80e6


def test_polygon_bounds_hold_all_of_it():
    weight = PolygonMask([POLYGON], *SIZE)
    whole = weight.read(WHOLE)
    inside = weight.read(weight.bounds)
    assert whole.sum() == inside.sum() > 0


def test_pieces_cover_a_box_once():
    seen = np.zeros(SIZE, int)
    for piece in pieces_of(Region(3, 5, 299, 377), 100, 4000):
        assert piece.pixels <= 4000
        seen[piece.slices] += 1
    assert (seen[3:299, 5:377] == 1).all()
    assert seen.sum() == 296 * 372


# -- what values mean ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "value", "strength"),
    [
        ("uint8", 128, 128 / 255),
        ("uint8", 255, 1),
        ("uint8", 1, 1),
        ("uint16", 1, 1),
        ("int16", 1, 1),
        ("int32", 1, 1),
        ("uint16", 65535, 1),
        ("uint16", 255, 255 / 65535),
        ("int16", 32767, 1),
        ("float32", 0.25, 0.25),
        ("float32", 7, 1),
        ("float64", -1, 0),
        ("float32", np.nan, 0),
        ("bool", True, 1),
    ],
)
def test_strength_of_a_value(dtype, value, strength):
    pixels = np.zeros(SIZE, dtype)
    pixels[20:40, 30:50] = value
    mask = nr.open_image(pixels)
    read = RasterMask(mask, mask).read(WHOLE)
    assert read[0, 0] == 0
    np.testing.assert_allclose(read[30, 40], strength, rtol=1e-6)


def test_the_largest_value_is_looked_up_once(monkeypatch):
    looked = []
    monkeypatch.setattr(mask_module, "_codes", {})
    mask = nr.open_image(np.ones(SIZE, np.uint8))
    read = mask.read
    monkeypatch.setattr(mask, "read", lambda box: looked.append(box) or read(box))
    for _ in range(3):
        RasterMask(mask, mask)
    assert len(looked) == 1


# -- where a mask lies ------------------------------------------------------------------


@pytest.fixture
def write(tmp_path):
    import rasterio
    from rasterio.transform import Affine

    def write(name, pixels, transform=None, crs="EPSG:32631", **profile):
        path = tmp_path / name
        placed = {} if transform is None else {"transform": Affine(*transform), "crs": crs}
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=pixels.shape[0],
            width=pixels.shape[1],
            count=1,
            dtype=pixels.dtype,
            **placed,
            **profile,
        ) as dataset:
            dataset.write(pixels, 1)
        return path

    return write


@pytest.fixture
def image(write):
    return nr.open_image(write("image.tif", np.zeros(SIZE, np.uint8), PLACE))


def blob(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.random((height, width)) > 0.5).astype(np.uint8)


def test_a_mask_of_a_part_is_placed_by_its_georeference(write, image):
    values = blob(120, 150)
    a, b, c, d, e, f = PLACE
    path = write("part.tif", values, (a, b, c + 2 * 70, d, e, f - 2 * 33))
    weight = open_mask(path, image)
    expected = np.zeros(SIZE, np.float32)
    expected[33:153, 70:220] = values
    np.testing.assert_array_equal(weight.read(WHOLE), expected)
    box = Region(20, 60, 90, 200)
    np.testing.assert_array_equal(weight.read(box), expected[box.slices])
    assert weight.bounds.intersect(Region(33, 70, 153, 220)) == Region(33, 70, 153, 220)


def test_a_coarser_mask_covers_the_pixels_below_it(write, image):
    values = blob(75, 100)
    path = write("coarse.tif", values, (8.0, 0.0, PLACE[2], 0.0, -8.0, PLACE[5]))
    np.testing.assert_array_equal(
        open_mask(path, image).read(WHOLE), np.kron(values, np.ones((4, 4)))
    )


def test_a_mask_of_the_same_size_elsewhere_is_moved(write, image):
    values = blob(*SIZE)
    a, b, c, d, e, f = PLACE
    path = write("moved.tif", values, (a, b, c + 2 * 10, d, e, f))
    read = open_mask(path, image).read(WHOLE)
    np.testing.assert_array_equal(read[:, 10:], values[:, :-10])
    assert (read[:, :10] == 0).all()
    assert open_mask(path, image).digest != open_mask(path, nr.open_image(path)).digest


def test_a_mask_of_another_coordinate_system_is_brought_over(write, image):
    from rasterio.warp import Resampling, reproject, transform_bounds

    a, _, c, _, e, f = PLACE
    west, south, east, north = transform_bounds(
        "EPSG:32631", "EPSG:4326", c, f + e * 300, c + a * 400, f
    )
    step = 1e-5
    height, width = int((north - south) / step), int((east - west) / step)
    values = np.kron(blob(height // 20 + 1, width // 20 + 1), np.ones((20, 20), np.uint8))
    place = (step, 0.0, west, 0.0, -step, north)
    path = write("geographic.tif", values, place, "EPSG:4326")
    expected = np.zeros(SIZE, np.uint8)
    from rasterio.transform import Affine

    reproject(
        values,
        expected,
        src_transform=Affine(*place),
        src_crs="EPSG:4326",
        dst_transform=Affine(*PLACE),
        dst_crs="EPSG:32631",
        resampling=Resampling.nearest,
    )
    read = open_mask(path, image).read(WHOLE)
    # GDAL's warp is approximate at the edges of its blocks.
    assert (read == expected).mean() > 0.99
    box = Region(37, 101, 203, 390)
    np.testing.assert_array_equal(open_mask(path, image).read(box), read[box.slices])


def test_nodata_of_a_mask_is_no_strength(write, image):
    values = blob(*SIZE)
    values[:50] = 255
    path = write("holes.tif", values, PLACE, nodata=255)
    read = open_mask(path, image).read(WHOLE)
    assert (read[:50] == 0).all()
    np.testing.assert_array_equal(read[50:], values[50:])


def test_another_size_without_a_place_is_refused(write, image):
    with pytest.raises(errors.BadMask, match="150 × 120"):
        RasterMask(nr.open_image(blob(120, 150)), image)


def test_a_mask_beside_the_image_is_refused(write, image):
    path = write("far.tif", blob(*SIZE), (2.0, 0.0, 900_000.0, 0.0, -2.0, 4_000_000.0))
    with pytest.raises(errors.BadMask, match="outside"):
        open_mask(path, image)


def test_polygons_come_from_geojson(tmp_path, image):
    path = tmp_path / "mask.geojson"
    a, _, c, _, e, f = PLACE
    ring = [[c + a * x, f + e * y] for x, y in POLYGON[0]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    crs = {"type": "name", "properties": {"name": "EPSG:32631"}}
    path.write_text(json.dumps({**geometry, "crs": crs}), encoding="utf-8")
    np.testing.assert_array_equal(
        open_mask(path, image).read(WHOLE), PolygonMask([POLYGON], *SIZE).read(WHOLE)
    )


# -- longitudes ---------------------------------------------------------------------------

GLOBES = {"west": -180.0, "east": 0.0, "far": -360.0}
PACIFIC = (0.6, 0.0, 140.0, 0.0, -0.6, 30.0)
"""100 columns from 140 to 200 degrees."""


@pytest.mark.parametrize("west", GLOBES.values(), ids=GLOBES)
def test_a_mask_of_the_globe_on_an_image_across_the_antimeridian(write, west):
    values = blob(60, 600)
    globe = write("globe.tif", values, (0.6, 0, west, 0, -0.6, 30), "EPSG:4326")
    image = nr.open_image(write("pacific.tif", np.zeros((60, 100), np.uint8), PACIFIC, "EPSG:4326"))
    columns = np.floor((140 + 0.6 * (np.arange(100) + 0.5) - west) % 360 / 0.6).astype(int)
    read = open_mask(globe, image).read(Region(0, 0, 60, 100))
    np.testing.assert_array_equal(read, values[:, columns])


@pytest.mark.parametrize("west", GLOBES.values(), ids=GLOBES)
def test_a_mask_across_the_antimeridian_on_an_image_of_the_globe(write, west):
    values = blob(60, 100)
    mask = write("pacific.tif", values, PACIFIC, "EPSG:4326")
    pixels = np.zeros((60, 600), np.uint8)
    image = nr.open_image(write("globe.tif", pixels, (0.6, 0, west, 0, -0.6, 30), "EPSG:4326"))
    columns = np.floor((140 + 0.6 * (np.arange(100) + 0.5) - west) % 360 / 0.6).astype(int)
    expected = np.zeros((60, 600), np.float32)
    expected[:, columns] = values
    strength = open_mask(mask, image)
    np.testing.assert_array_equal(strength.read(Region(0, 0, 60, 600)), expected)


def test_a_mask_in_a_system_of_the_pacific_covers_its_place_in_degrees(write):
    # 170 to 190 degrees in EPSG:3832, whose centre is at 150.
    step = 222638.98
    mask = write(
        "mask.tif", np.ones((5, 10), np.uint8), (step, 0, 2226389.8, 0, -step, 0), "EPSG:3832"
    )
    image = nr.open_image(write("pacific.tif", np.zeros((60, 100), np.uint8), PACIFIC, "EPSG:4326"))
    strength = open_mask(mask, image)
    covered = np.flatnonzero(strength.read(Region(0, 0, 60, 100)).any(axis=0))
    assert (covered[0], covered[-1]) == (50, 82)
    assert strength.bounds.x0 < 51
    assert strength.bounds.x1 > 82


def test_bounds_reach_two_pixels_beyond_a_mask_between_the_pixels(write, image):
    a, b, c, d, e, f = PLACE
    path = write("part.tif", blob(120, 150), (a, b, c + 2 * 70.5, d, e, f - 2 * 33.5))
    assert open_mask(path, image).bounds == Region(31, 68, 156, 223)
