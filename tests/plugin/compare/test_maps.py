from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

import napari_restore as nr
from napari_restore import Region
from napari_restore.plugin.compare.maps_view import (
    CATEGORIES,
    SideMap,
    available,
    categories,
    legend,
    percent,
)
from napari_restore.questions import Adjustment

LABELS = {category.name: category.label for category in CATEGORIES}
REGION = Region(101, 131, 640, 833)


def level(layer: Any, number: int) -> np.ndarray:
    return np.asarray(layer.data[number] if layer.multiscale else layer.data)


@pytest.mark.slow
def test_change_is_the_difference_of_what_is_shown(make_variant: Any, hazy: np.ndarray):
    viewer = ViewerModel()
    variant = make_variant(viewer, hazy, region=REGION)
    layer = SideMap(variant, "change").build().layer()
    viewer.add_layer(layer)
    box = variant.shown.box
    restored = level(variant.layer, 0)[..., :3].astype(float)
    expected = (restored - hazy[box.slices]).mean(2)
    inside = REGION.shift(-box.y0, -box.x0)
    found = level(layer, 0)
    np.testing.assert_allclose(found[inside.slices], expected[inside.slices], atol=1e-4)
    assert np.isfinite(found).sum() == REGION.pixels
    corner = layer.data_to_world((inside.y0, inside.x0))
    np.testing.assert_array_equal(corner, (REGION.y0, REGION.x0))
    # The coarse level tells the same, of the means it is made of.
    assert len(layer.data) > 1
    coarse = level(layer, 1)
    mean = expected[:538, :702].reshape(269, 2, 351, 2).mean((1, 3))
    rows, columns = slice(60, 250), slice(70, 340)
    np.testing.assert_allclose(coarse[rows, columns], mean[rows, columns], atol=1.0)


def test_quality_of_pixels_shows_what_changed(make_variant: Any):
    viewer = ViewerModel()
    pixels = np.full((300, 300, 3), 120, np.uint8)
    pixels[:, :150] = np.random.default_rng(1).integers(60, 220, (300, 150, 3))
    variant = make_variant(viewer, pixels, "identity")
    kept = SideMap(variant, "quality").build()
    labels = level(kept.layer(), 0)
    assert (labels == LABELS["unchanged"]).all()
    assert available(variant) == ("change", "quality")


@pytest.mark.parametrize("name", ["transmission", "quality"])
@pytest.mark.slow
@pytest.mark.ids("nightly", "transmission")
def test_stored_maps_are_those_the_command_writes(
    make_variant: Any, hazy: np.ndarray, tmp_path: Any, name: str
):
    viewer = ViewerModel()
    variant = make_variant(viewer, hazy, region=REGION, maps=True)
    assert available(variant) == ("change", "transmission", "quality")
    layer = SideMap(variant, name).build().layer()
    viewer.add_layer(layer)
    box = variant.shown.box
    found = level(layer, 0)[REGION.shift(-box.y0, -box.x0).slices]
    variant.result.save_maps(tmp_path)
    import tifffile

    written = tifffile.imread(tmp_path / f"{name}.tif")
    if name == "quality":
        written = categories(written)
        outside = 0
    else:
        outside = np.nan
        assert 0 < np.nanmin(found) < np.nanmax(found) <= 1
    np.testing.assert_array_equal(found, written)
    np.testing.assert_array_equal(level(layer, 0)[0, 0], outside)
    # Coarse levels take one pixel of several.
    last = len(layer.data) - 1
    coarse = level(layer, last)
    half = 1 << (last - 1)
    np.testing.assert_array_equal(
        coarse[60, 80:200],
        level(layer, 0)[60 * 2 * half + half, 80 * 2 * half + half :: 2 * half][:120],
    )


@pytest.mark.slow
def test_maps_follow_how_the_result_is_adjusted(make_variant: Any, hazy: np.ndarray):
    variant = make_variant(ViewerModel(), hazy, maps=True)
    change, quality = (SideMap(variant, name).build() for name in ("change", "quality"))
    layers = change.layer(), quality.layer()
    before = [level(layer, 0).copy() for layer in layers]
    coarse = level(layers[0], -1)
    coarse_before = coarse.copy()
    variant.adjust(Adjustment(strength=0.0))
    change.build()
    quality.build()
    assert np.nanmax(np.abs(before[0])) > 10
    assert np.nanmax(np.abs(level(layers[0], 0))) == 0
    assert (level(layers[1], 0) == LABELS["unchanged"]).all()
    assert (before[1] != LABELS["unchanged"]).mean() > 0.5
    # napari keeps the coarsest array: it is filled in place.
    assert level(layers[0], -1) is coarse
    assert np.nanmax(np.abs(coarse)) == 0 < np.nanmax(np.abs(coarse_before))


@pytest.mark.nightly
def test_unfinished_results_have_no_stored_maps(make_variant: Any, hazy: np.ndarray):
    variant = make_variant(ViewerModel(), hazy, maps=True, finished=False, tile=128)
    assert available(variant) == ("change", "quality")
    layer = SideMap(variant, "change").build().layer()
    made = np.isfinite(level(layer, 0))
    assert 0 < made.sum() <= 256**2
    more = Region(256, 256, 384, 384)
    assert not made[more.slices].any()
    variant.shown.mark(more)
    assert np.isfinite(level(layer, 0))[more.slices].all()


def test_later_categories_hide_earlier_ones():
    bits = np.array([[0, 1, 8, 2 | 8, 4 | 8, 16 | 1, 32 | 1]], np.uint8)
    names = [
        "",
        "unchanged",
        "low_transmission",
        "clipped_low",
        "clipped_high",
        "excluded",
        "nodata",
    ]
    assert categories(bits).tolist() == [[LABELS.get(name, 0) for name in names]]


def test_the_bits_are_those_of_the_engine():
    from napari_restore.engine.results.quality import QUALITY

    assert {category.name: category.bit for category in CATEGORIES} == QUALITY


def test_shares_come_from_the_record():
    shares = {"unchanged": 0.123, "clipped_low": 0.00001, "clipped_high": 0.0, "nodata": None}
    text = legend({"measured": {"quality_shares": shares}})
    words = text.replace("\N{NO-BREAK SPACE}", " ")
    assert "unchanged 12.3 %" in words
    assert "now black &lt; 0.1 %" in words
    assert "now white 0.0 %" in words
    assert "no data" not in words

    assert "airlight" not in words

    seen = {"airlight": [1.2, 0.5, 0.0], "other": 3}
    text = legend({"measured": {}, "context": seen}).replace("\N{NO-BREAK SPACE}", " ")
    assert "#ff8000" in text and "colour of the haze: 120, 50, 0 % of white" in text
    assert "#404040" in legend({"measured": {}, "context": {"airlight": [0.2, 0.3]}})

    assert percent(1) == "100.0\N{NO-BREAK SPACE}%"


def test_quality_of_pixels_shows_nodata_and_exclusion(make_variant: Any, tmp_path: Any):
    import rasterio

    rng = np.random.default_rng(1)
    pixels = rng.integers(60, 220, (300, 320, 3)).astype(np.uint8)
    pixels[:120, :90] = 0
    path = tmp_path / "holes.tif"
    made = {"driver": "GTiff", "width": 320, "height": 300, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", **made, nodata=0, photometric="RGB") as file:
        file.write(pixels.transpose(2, 0, 1))
    variant = make_variant(ViewerModel(), path, "identity")
    labels = level(SideMap(variant, "quality").build().layer(), 0)
    assert (labels[:120, :90] == LABELS["nodata"]).all()
    assert (labels[130:] == LABELS["unchanged"]).all()


@pytest.mark.slow
def test_quality_of_pixels_is_that_which_a_run_keeps(make_variant: Any, tmp_path: Any):
    import rasterio

    # Nodata is 0, so that black pixels are written as 1.
    rng = np.random.default_rng(1)
    pixels = (rng.integers(0, 130, (300, 320, 3)) + 60).astype(np.uint8)
    pixels[:120, :90] = 0
    path = tmp_path / "hazy.tif"
    made = {"driver": "GTiff", "width": 320, "height": 300, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", **made, nodata=0, photometric="RGB") as file:
        file.write(pixels.transpose(2, 0, 1))
    model = nr.load_model("dcp", parameters={"amount": 2.0})
    found, kept = (
        level(SideMap(variant, "quality").build().layer(), 0)
        for variant in (make_variant(ViewerModel(), path, model, maps=m) for m in (False, True))
    )
    assert (kept == LABELS["clipped_low"]).sum() > 1000
    reliable = kept != LABELS["low_transmission"]
    np.testing.assert_array_equal(found[reliable], kept[reliable])


@pytest.mark.parametrize("kept", [False, True])
def test_what_lies_beside_the_areas_is_not_called_unchanged(make_variant: Any, kept: bool):
    pixels = np.full((300, 300, 3), 90, np.uint8)
    areas = [Region(0, 0, 40, 300), Region(200, 0, 240, 300)]
    variant = make_variant(ViewerModel(), pixels, "identity", region=areas, maps=kept)
    labels = level(SideMap(variant, "quality").build().layer(), 0)
    inside = np.zeros(labels.shape, bool)
    inside[:40] = inside[200:240] = True
    assert (labels[inside] == LABELS["unchanged"]).all() and not labels[~inside].any()
    assert variant.record["measured"]["quality_shares"]["unchanged"] == 1
