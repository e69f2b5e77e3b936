"""Boxes, polygons and gradients across 180 degrees select what lies there, never the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from rasterio.features import rasterize
from rasterio.transform import Affine, from_origin

from napari_restore.errors import BadMask
from napari_restore.images import Image, open_image, rasterise, read_gradient, read_polygons

SIZE = (40, 100)
PACIFIC = from_origin(140, 20, 0.6, 1)  # 140 … 200
GLOBE = from_origin(-180, 20, 3.6, 1)
EAST = from_origin(0, 20, 3.6, 1)  # 0 … 360
Placed = Callable[..., Image]


@pytest.fixture
def placed(make_tiff: Callable[..., Path]) -> Placed:
    def placed(transform: Affine, crs: str = "EPSG:4326") -> Image:
        path = make_tiff(np.zeros((*SIZE, 1), np.uint8), transform=transform, crs=crs)
        return open_image(path)

    return placed


def drawn(text: str | Path, image: Image) -> npt.NDArray[Any]:
    return rasterise(read_polygons(text, image), (0, 0, *SIZE))


def box(
    west: float, east: float, north: float = 10, south: float = -10
) -> list[tuple[float, float]]:
    return [(west, north), (east, north), (east, south), (west, south), (west, north)]


def wkt(*boxes: list[tuple[float, float]]) -> str:
    rings = (", ".join(f"{x} {y}" for x, y in ring) for ring in boxes)
    return f"MULTIPOLYGON ({', '.join(f'(({ring}))' for ring in rings)})"


def geojson(*boxes: list[tuple[float, float]]) -> str:
    return json.dumps({"type": "MultiPolygon", "coordinates": [[ring] for ring in boxes]})


def wanted(transform: Affine, *boxes: list[tuple[float, float]]) -> npt.NDArray[Any]:
    """Return GDAL's own raster of boxes in the image's longitudes."""
    shapes = [{"type": "Polygon", "coordinates": [ring]} for ring in boxes]
    return rasterize(shapes, out_shape=SIZE, transform=transform)


ACROSS = [
    pytest.param(wkt(box(170, 190)), id="beyond 180"),
    pytest.param("SRID=4326;" + wkt(box(170, 190)), id="of a system"),
    pytest.param("SRID=4326;" + wkt(box(-190, -170)), id="beyond -180"),
    pytest.param(geojson(box(170, 180), box(-180, -170)), id="two parts"),
    pytest.param(geojson(box(170, -170)), id="not cut"),
    pytest.param("SRID=4326;" + wkt(box(170, -170)), id="not cut, of a system"),
    pytest.param(
        f"SRID=3832;{wkt(box(2226389.8, 4452779.6, 1111475.1, -1111475.1))}", id="Pacific"
    ),
]


@pytest.mark.parametrize("text", ACROSS)
@pytest.mark.parametrize("transform", [PACIFIC, GLOBE, EAST], ids=["pacific", "globe", "east"])
def test_an_area_across_the_antimeridian(placed: Placed, text: str, transform: Affine) -> None:
    boxes = [box(west, west + 20) for west in (170, -190)]
    found = drawn(text, placed(transform))
    assert abs(found.astype(int) - wanted(transform, *boxes)).sum() <= 20  # rounding of Pacific
    assert found.any()


def test_the_same_in_a_system_of_the_pacific(placed: Placed) -> None:
    # 140 E to 160 W in EPSG:3832, 0.6 degrees a pixel.
    step = 66791.69
    image = placed(Affine(step, 0, -1113194.9, 0, -step, 1335833.9), "EPSG:3832")
    found = [drawn(text, image) for text in (geojson(box(170, 180), box(-180, -170)),
             geojson(box(170, -170)), "SRID=4326;" + wkt(box(170, 190)))]  # fmt: skip
    columns = np.flatnonzero(found[0].any(axis=0))
    assert (columns[0], columns[-1]) == (50, 82)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_an_area_on_the_other_side(placed: Placed) -> None:
    text = "SRID=4326;" + wkt(box(-175, -165))
    np.testing.assert_array_equal(drawn(text, placed(PACIFIC)), wanted(PACIFIC, box(185, 195)))
    np.testing.assert_array_equal(drawn(text, placed(EAST)), wanted(EAST, box(185, 195)))
    np.testing.assert_array_equal(drawn(text, placed(GLOBE)), wanted(GLOBE, box(-175, -165)))


def test_holes_go_with_their_area(placed: Placed) -> None:
    polygon = {"type": "Polygon", "coordinates": [box(170, -170), box(-179, -175, 5, -5)]}
    whole, hole = wanted(PACIFIC, box(170, 190)), wanted(PACIFIC, box(181, 185, 5, -5))
    np.testing.assert_array_equal(drawn(json.dumps(polygon), placed(PACIFIC)), whole - hole)


@pytest.mark.parametrize("ring", [box(-180, 180), box(-100, 70), box(0, 179)])
def test_wide_areas_stay_as_they_are(placed: Placed, ring: list[tuple[float, float]]) -> None:
    np.testing.assert_array_equal(drawn(geojson(ring), placed(GLOBE)), wanted(GLOBE, ring))


def test_wide_areas_of_another_system_and_drawn_ones(placed: Placed) -> None:
    # 340 degrees, and no complement of it: the line between two points tells the way.
    mercator = wkt(box(-18924313.4, 18924313.4, 1118889.97, -1118889.97))
    ring = box(-170, 170)
    for text in (f"SRID=3857;{mercator}", wkt(ring)):
        np.testing.assert_array_equal(drawn(text, placed(GLOBE)), wanted(GLOBE, ring))


@pytest.mark.parametrize("side", [179.5, 179.9])
def test_round_the_globe_or_across_is_asked(placed: Placed, side: float) -> None:
    with pytest.raises(BadMask, match="round the globe, or across"):
        drawn(geojson(box(-side, side)), placed(GLOBE))
    # A little less is across; all of it is all.
    assert not drawn(geojson(box(-179.4, 179.4)), placed(GLOBE))[:, 5:-5].any()


EDGE = 20037508.342789244
MERCATORS = {
    "web": ("EPSG:3857", 0.0),
    "Pacific": ("EPSG:3832", 150.0),
    "sphere of the Pacific": ("EPSG:3994", 100.0),
}


@pytest.mark.parametrize(("crs", "middle"), MERCATORS.values(), ids=MERCATORS)
@pytest.mark.parametrize("west", [-200.0, -170.0, -95.0, -40.0, 10.0, 95.0, 170.0])
def test_maps_of_the_globe_end_at_their_own_meridian(
    placed: Placed, crs: str, middle: float, west: float
) -> None:
    from rasterio.warp import transform

    half = transform("OGC:CRS84", crs, [middle + 90], [0])[0][0] * 2
    image = placed(Affine(half / 50, 0, -half, 0, -half / 50, half / 2.5), crs)
    lines = (np.arange(100) + 0.5) * 3.6 - 180 + middle
    inside = ((lines - west) % 360) < 30
    pacific = (
        f"SRID=3832;{wkt(box((west - 150) / 180 * EDGE, (west - 120) / 180 * EDGE, 1e6, -1e6))}"
    )
    texts = ["SRID=4326;" + wkt(box(west, west + 30))]
    # Beyond its own end a system has no places.
    texts += [pacific] if -30 <= west <= 300 else []
    for text in texts:
        np.testing.assert_array_equal(drawn(text, image)[20], inside)


def test_a_gradient_across(placed: Placed) -> None:
    line = json.dumps({"type": "LineString", "coordinates": [[175, 0], [-175, 0]]})
    ends = read_gradient(line, placed(PACIFIC))
    assert ends is not None
    np.testing.assert_allclose(ends, [(35 / 0.6, 20), (45 / 0.6, 20)])


@pytest.mark.parametrize(
    ("transform", "window", "columns"),
    [
        (PACIFIC, (170, 10, 188, -10), [(50, 80)]),
        (PACIFIC, (170, 10, -172, -10), [(50, 80)]),
        (PACIFIC, (-178, 10, -172, -10), [(70, 80)]),
        (EAST, (-90, 10, -72, -10), [(75, 80)]),
        (EAST, (-18, 10, 18, -10), [(0, 5), (95, 100)]),
        (GLOBE, (162, 10, -162, -10), [(0, 5), (95, 100)]),
        (GLOBE, (180, 10, 198, -10), [(0, 5)]),
        (GLOBE, (-162, 10, 162, -10), [(5, 95)]),
        (GLOBE, (18, 10, -18, -10), [(45, 55)]),
        (GLOBE, (-180, 10, 180, -10), [(0, 100)]),
    ],
)
def test_windows(
    placed: Placed,
    transform: Affine,
    window: tuple[float, ...],
    columns: list[tuple[int, int]],
) -> None:
    place = placed(transform).georeference
    assert place is not None
    assert sorted(place.boxes(window, SIZE)) == [(10, x0, 30, x1) for x0, x1 in columns]


def test_eastings_never_turn(placed: Placed) -> None:
    image = placed(from_origin(500, 20, 1, 1), "EPSG:32601")
    assert image.georeference is not None
    assert image.georeference.boxes((140, 10, 150, -10), SIZE) == [(10, -360, 30, -350)]


def test_half_of_the_globe_is_no_way_across_the_antimeridian(placed: Placed) -> None:
    half = box(-90, 90)
    assert np.array_equal(drawn(geojson(half), placed(GLOBE)), wanted(GLOBE, half))
