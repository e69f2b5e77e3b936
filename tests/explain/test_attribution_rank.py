"""Heads and an attribution rank cells alike where they say the same of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from tests.explain._attention import SITE, LooksRight, maps_of

import napari_restore as nr
from napari_restore.engine import Region
from napari_restore.errors import BadParameter, InputError
from napari_restore.explain.attention.attribution_rank import RANK, AttributionMap, rank_correlation
from napari_restore.explain.attention.head_maps import QueryMaps
from napari_restore.explain.attention.queries import Query
from napari_restore.explain.attribution.opened_maps import IMAGE_TAG, REGION_TAG

SIZE = 64, 80
REGION = Region(6, 9, 54, 77)


def scene(folder: Path, seed: int = 0) -> Any:
    path = folder / f"scene{seed}.png"
    pixels = np.random.default_rng(seed).integers(0, 255, (*SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return nr.open_image(path)


def written(folder: Path, values: Any, **tags: str) -> Path:
    """A raster of two bands, the sum and another one that does not count."""
    path = folder / "map.tif"
    height, width = values.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 2, "dtype": "float32"}
    with rasterio.open(path, "w", **profile) as file:
        file.write(np.stack([values, 100 + values]).astype(np.float32))
        file.update_tags(**tags)
    return path


def a_map(folder: Path, image: Any, region: Region = REGION) -> tuple[AttributionMap, Any]:
    """A map of `image` and its values over the whole of it."""
    whole = np.zeros(SIZE)
    values = np.random.default_rng(1).normal(size=region.shape).astype(np.float32)
    whole[region.slices] = np.abs(values)
    tags = {REGION_TAG: " ".join(map(str, region)), IMAGE_TAG: image.fingerprint}
    return AttributionMap.of(written(folder, values, **tags), image), whole


@pytest.mark.parametrize("stride", [4, 16, 7])
@pytest.mark.parametrize("at_once", [1, 1 << 22])
def test_cells_have_the_sum_of_their_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stride: int, at_once: int
) -> None:
    monkeypatch.setattr("napari_restore.explain.attention.attribution_rank.PIXELS_AT_ONCE", at_once)
    found, whole = a_map(tmp_path, scene(tmp_path))
    rows, columns = (-(-edge // stride) for edge in SIZE)
    for cells in (Region(0, 0, rows, columns), Region(1, 1, 3, 2)):
        sums = found.cell_sums(cells, stride)
        for y, x in np.ndindex(*cells.shape):
            top, left = stride * (cells.y0 + y), stride * (cells.x0 + x)
            expected = whole[top : top + stride, left : left + stride].sum()
            assert sums[y, x] == pytest.approx(expected, abs=1e-4)


def test_the_correlation_is_that_of_ranks() -> None:
    rng = np.random.default_rng(0)
    weights, sums = rng.random(50), rng.random(50)
    assert rank_correlation(weights, np.exp(weights)) == pytest.approx(1)
    assert rank_correlation(weights, -(weights**3)) == pytest.approx(-1)
    # Without equal values: 1 − 6 Σ d² / (n³ − n), Spearman 1904.
    ranks = [np.argsort(np.argsort(values)) for values in (weights, sums)]
    expected = 1 - 6 * ((ranks[0] - ranks[1]) ** 2).sum() / (50**3 - 50)
    assert rank_correlation(weights, sums) == pytest.approx(expected)
    # Equal ones have their mean rank: 1.5, 1.5, 3, 4 and 1, 2, 3.5, 3.5.
    tied = rank_correlation(np.array([1.0, 1, 2, 3]), np.array([1.0, 2, 3, 3]))
    assert tied == pytest.approx(np.corrcoef([1.5, 1.5, 3, 4], [1, 2, 3.5, 3.5])[0, 1])


def test_equal_weights_have_no_rank() -> None:
    rising = np.arange(64.0)
    rounded = np.float32(1 / 64) * (1 + 1e-7 * np.random.default_rng(0).normal(size=64))
    assert rank_correlation(rounded, rising) is None
    assert rank_correlation(rising, np.zeros(64)) is None
    assert rank_correlation(rising[:2], rising[:2]) is None
    assert rank_correlation(rounded * (1 + rising / 1e3), rising) == pytest.approx(1)


def test_a_head_is_compared_over_its_candidates(tmp_path: Path) -> None:
    found, whole = a_map(tmp_path, scene(tmp_path))
    # Rows 4 to 7 and columns 2 to 9; a cell of padding counts as little as others elsewhere.
    cells = [[y, x] for y in range(4, 8) for x in range(2, 10)] + [[16, 3]]
    sums = np.array([whole[4 * y : 4 * y + 4, 4 * x : 4 * x + 4].sum() for y, x in cells])
    order = np.argsort(np.argsort(sums)) + 1.0
    weights = [order, 1 / order, np.ones(len(cells))]
    maps = maps_of([list(each / each.sum()) for each in weights], [cells] * 3, (5, 5), SIZE)
    heads = [{"head": head, "entropy": 0.5} for head in "123"]
    answer = QueryMaps(Query.point(21, 21), {"a.1": maps}, {"a.1": heads})
    like, unlike, equal = found.with_ranks(answer).measures["a.1"]
    assert like[RANK] == pytest.approx(1) and unlike[RANK] == pytest.approx(-1)
    assert equal[RANK] is None and like["entropy"] == 0.5


def test_maps_that_are_refused(tmp_path: Path) -> None:
    image = scene(tmp_path)
    values = np.ones(REGION.shape)
    region = " ".join(map(str, REGION))
    good = {REGION_TAG: region, IMAGE_TAG: image.fingerprint}
    cases: list[tuple[dict[str, str], Any, str]] = [
        ({}, image, "no map that attribute wrote"),
        ({REGION_TAG: "1 2 3", IMAGE_TAG: image.fingerprint}, image, "no map that attribute wrote"),
        (good, scene(tmp_path, 1), "map of another image than scene1"),
        ({**good, REGION_TAG: "0 0 9 9"}, image, "map of another image"),
    ]
    for tags, asked, message in cases:
        with pytest.raises(BadParameter, match=message) as caught:
            AttributionMap.of(written(tmp_path, values, **tags), asked)
        assert caught.value.hint
    with pytest.raises(InputError):
        AttributionMap.of(tmp_path / "none.tif", image)


def attended(image: Any, path: Path, *queries: Any, **options: Any) -> Any:
    return nr.attend(
        image, LooksRight(), queries, attribution=path, device="cpu", progress=False, **options
    )


@pytest.mark.nightly
def test_the_map_that_attribute_wrote_is_taken(tmp_path: Path) -> None:
    image = scene(tmp_path)
    attribution = nr.attribute(
        image, "atmosphere", Region(24, 24, 40, 40), steps=2, device="cpu", progress=False
    )
    path = attribution.save(tmp_path / "map.tif")
    found = attended(image, path, (30, 30))
    right, every = found.queries[0].measures[SITE.name]
    # One head looks at one cell, the other at all alike.
    assert right[RANK] is None and every[RANK] is None
    header = found.save(tmp_path / "a.csv").read_text().splitlines()[0]
    assert "attribution_rank" in header.split(",")
    copy = attribution.save(tmp_path / "map.zarr")
    assert AttributionMap.of(copy, image).region == attribution.region
    for queries, options in (([(1, 1), (2, 2)], {}), ([], {"sample": 4})):
        with pytest.raises(BadParameter, match="there are several queries"):
            attended(image, path, *queries, **options)


def test_a_map_elsewhere_is_refused(tmp_path: Path) -> None:
    image = scene(tmp_path)
    found, _ = a_map(tmp_path, image, Region(40, 40, 60, 60))
    cells = [[[0, x] for x in range(4)]]
    answer = QueryMaps(Query.point(1, 1), {"a.1": maps_of([[0.25] * 4], cells, (0, 0), SIZE)}, {})
    with pytest.raises(BadParameter, match=r"covers no cell that x 1, y 1 could look at"):
        found.with_ranks(answer)
