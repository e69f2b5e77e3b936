"""Shares of segments, against captum called with a mask of features on the whole image."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.transform
import rasterio.warp
import torch
from tests.explain._models import HALO, Pointwise, Small, scene, wrapped
from torch import Tensor, nn

import napari_restore as nr
from napari_restore import Region
from napari_restore.engine import Note
from napari_restore.errors import BadOutput, BadParameter, BudgetTooSmall, UnreadableImage
from napari_restore.explain import attribute

BOX = Region(40, 60, 56, 84)
SIZE = (128, 160)


def blocks(side: int = 32, first: int = 1) -> np.ndarray[Any, Any]:
    """(128, 160) int32: squares with numbers that are neither dense nor in order."""
    y, x = np.indices(SIZE) // side
    numbers: np.ndarray[Any, Any] = (first + 7 * ((x * 13 + y * 5) % 32)).astype(np.int32)
    return numbers


def ask(module: nn.Module, segments: Any, pixels: Any = None, **options: Any) -> Any:
    image = nr.open_image(scene() if pixels is None else pixels)
    options = {"device": "cpu", "segments": segments, "baseline": "zero", **options}
    return attribute(image, wrapped(module, HALO), options.pop("box", BOX), **options)


def by_label(found: Any) -> dict[int, float]:
    return {row["label"]: row["share"] for row in found.segments}


def literal(
    method: str, labels: Any, pixels: Any, baseline: Any = 0.0, **arguments: Any
) -> dict[int, float]:
    """Return captum's shares of segments of the whole image."""
    attributor = getattr(pytest.importorskip("captum.attr"), method)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    known, features = np.unique(labels, return_inverse=True)
    mask = torch.from_numpy(features.reshape(labels.shape))[None, None].expand_as(x).contiguous()
    at, module = (..., *BOX.slices), Small()

    def change(images: Tensor) -> Tensor:
        # What the model adds, with the input it is given.
        return (module(images) - images)[at].mean((1, 2, 3))

    torch.manual_seed(0)
    np.random.seed(0)
    shares = attributor(change).attribute(x, baseline, feature_mask=mask, **arguments)
    values = shares[0, 0].detach().numpy()
    return {int(n): float(values[labels == n].mean()) for n in known}


def near(found: dict[int, float], expected: dict[int, float]) -> bool:
    most = max(map(abs, expected.values()))
    return all(abs(found[n] - expected[n]) <= 1e-5 * most for n in found)


@pytest.mark.parametrize("method", [None, "captum:FeatureAblation"])
def test_ablation_of_segments_is_that_of_captum(method: str | None) -> None:
    pixels, labels = scene(), blocks()
    notes: list[str] = []
    found = ask(
        Small(),
        labels,
        pixels,
        method=method,
        emit=lambda event: notes.append(event.text) if isinstance(event, Note) else None,
    )
    expected = literal("FeatureAblation", labels, pixels)
    assert set(by_label(found)) == set(expected) and len(expected) == 20
    assert near(by_label(found), expected)
    reported = found.record["attribution"]
    assert reported["method"] == (method or "occlusion")
    assert reported["segments"]["count"] == 20 and reported["segments"]["evaluations"] == 21
    assert sum(row["pixels"] for row in found.segments) == 128 * 160
    assert any(note.startswith("21 evaluations of D, about") for note in notes)
    # The map holds the same, spread evenly.
    inside = labels == found.segments[3]["label"]
    assert found.map[inside].sum(dtype=float) == pytest.approx(found.segments[3]["share"], rel=1e-4)
    assert np.ptp(found.map[inside]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("ShapleyValueSampling", {"n_samples": 2}),
        ("KernelShap", {"n_samples": 20}),
    ],
)
@pytest.mark.ids("nightly", "ShapleyValueSampling-arguments0")
def test_values_of_games_are_those_of_captum(method: str, arguments: dict[str, Any]) -> None:
    pixels, labels = scene(), blocks(80)
    found = ask(Small(), labels, pixels, method=f"captum:{method}", arguments=arguments)
    assert near(by_label(found), literal(method, labels, pixels, **arguments))
    reported = found.record["attribution"]["completeness"]
    assert reported["reached"] and reported["sum"] == pytest.approx(
        sum(by_label(found).values()), rel=1e-4
    )


def test_shares_of_a_path_are_summed_over_segments() -> None:
    labels = blocks()
    found = ask(Small(), labels, method="ig", steps=6)
    for row in found.segments:
        inside = labels == row["label"]
        assert row["share"] == pytest.approx(found.map[inside].sum(dtype=float), abs=1e-9)
    total = found.record["attribution"]["completeness"]["sum"]
    assert sum(by_label(found).values()) == pytest.approx(total, rel=1e-6)


def test_what_is_in_no_segment_stays_and_has_no_share() -> None:
    pixels = scene()
    pixels[44:48, 62:70] = np.nan
    labels = np.zeros(SIZE, np.uint8)
    labels[30:70, 50:70], labels[0:4, 0:4] = 9, 4
    found = ask(Pointwise(lambda x: 2 * x), labels, pixels, objective="sum")
    expected = 2 * np.nansum(pixels[40:56, 60:70], dtype=float)
    assert by_label(found) == pytest.approx({4: 0.0, 9: expected}, rel=1e-5, abs=1e-3)
    (small, large) = found.segments
    assert small == {"label": 4, "pixels": 16, "share": small["share"], "x": 2.0, "y": 2.0}
    assert large["pixels"] == 40 * 20 - 32
    assert not found.map[100:, 100:].any()


def test_superpixels_are_those_of_scikit_image() -> None:
    segmentation = pytest.importorskip("skimage.segmentation")
    pixels = scene()
    found = ask(Small(), "slic:12", pixels)
    labels = segmentation.slic(np.clip(pixels, 0, 1), 12, start_label=1, channel_axis=-1)
    assert found.region == (0, 0, *SIZE)
    counts = {row["label"]: row["pixels"] for row in found.segments}
    assert counts == {n: int((labels == n).sum()) for n in np.unique(labels)}


@pytest.mark.parametrize(
    ("box", "is_smaller"), [(Region(40, 60, 44, 64), True), (Region(10, 10, 110, 110), False)]
)
def test_superpixels_that_are_larger_than_the_box_are_noted(box: Region, is_smaller: bool) -> None:
    pytest.importorskip("skimage")
    notes: list[str] = []
    found = ask(
        Small(),
        "slic:12",
        box=box,
        method="ig",
        steps=2,
        emit=lambda event: notes.append(event.text) if isinstance(event, Note) else None,
    )
    each = 128 * 160 // len(found.segments)
    noted = [note for note in notes if "superpixel has about" in note]
    assert (each > box.pixels) == bool(noted) == is_smaller
    if noted:
        assert f"has about {each}, the box 16." in noted[0] and 'segments="slic:5120"' in noted[0]


def test_a_raster_on_the_grid_is_repeated_from_its_record(tmp_path: Path) -> None:
    from napari_restore import api
    from napari_restore.errors import SourceChanged
    from napari_restore.records import write_record

    path, picture = tmp_path / "segments.tif", tmp_path / "scene.tif"
    shape = {"height": 128, "width": 160, "driver": "GTiff"}
    with rasterio.open(path, "w", count=1, dtype="int32", **shape) as file:
        file.write(blocks(), 1)
    with rasterio.open(picture, "w", count=3, dtype="float32", **shape) as file:
        file.write(scene().transpose(2, 0, 1))
    found = nr.attribute(picture, "dcp", BOX, segments=path, white=1.0, device="cpu")
    found.save(tmp_path / "shares.csv")
    with open(tmp_path / "shares.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {int(row["label"]): float(row["share"]) for row in rows} == by_label(found)
    magnitudes = [abs(float(row["share"])) for row in rows]
    assert magnitudes == sorted(magnitudes, reverse=True)
    record = write_record(tmp_path / "map.json", found.record)
    again = api.repeat_attribution(record, device="cpu")
    assert again.segments == found.segments
    with rasterio.open(path, "r+") as file:
        file.write(np.ones(SIZE, np.int32), 1)
    with pytest.raises(SourceChanged, match=r"segments\.tif"):
        api.repeat_attribution(record, device="cpu")
    with pytest.raises(BadOutput, match="one map without segments"):
        api.check_map("other.csv")


def test_nodata_of_a_raster_is_no_segment(tmp_path: Path) -> None:
    path, labels = tmp_path / "segments.tif", blocks()
    shape = {"height": 128, "width": 160, "driver": "GTiff", "nodata": -9999}
    with rasterio.open(path, "w", count=1, dtype="int32", **shape) as file:
        file.write(np.where(labels == labels[45, 70], -9999, labels), 1)
    expected = np.where(labels == labels[45, 70], 0, labels)
    assert ask(Small(), path).segments == ask(Small(), expected).segments


@pytest.mark.parametrize("creation", [{"NBITS": 6}, {"photometric": "palette"}])
def test_numbers_of_a_raster_are_no_grey_values(tmp_path: Path, creation: dict[str, Any]) -> None:
    path, labels = tmp_path / "segments.tif", np.clip(blocks(), 0, 63)
    shape = {"height": 128, "width": 160, "driver": "GTiff", "dtype": "uint8"}
    with rasterio.open(path, "w", count=1, **shape, **creation) as file:
        file.write(labels.astype(np.uint8), 1)
        if "NBITS" not in creation:
            file.write_colormap(1, {n: (4 * n, 255 - n, 9, 255) for n in range(64)})
    assert ask(Small(), path).segments == ask(Small(), labels).segments


def placed(path: Path, values: Any, corner: tuple[float, float], step: float, crs: str) -> Path:
    """A GeoTIFF of `values` whose first corner lies at `corner`, (x, y)."""
    bands = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    made = rasterio.transform.from_origin(*corner, step, step)
    shape = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2]}
    with rasterio.open(
        path, "w", driver="GTiff", dtype=bands.dtype, transform=made, crs=crs, **shape
    ) as file:
        file.write(bands)
    return path


@pytest.mark.slow
def test_a_raster_is_placed_by_its_georeference(tmp_path: Path) -> None:
    utm, x, y = "EPSG:32633", 500_000.0, 5_000_000.0
    picture = placed(tmp_path / "scene.tif", scene(), (x, y), 2.0, utm)
    labels, large = blocks(), np.full((200, 260), 77, np.int32)
    large[40:168, 70:230] = labels
    by_size = np.roll(labels, (8, 12), (0, 1))
    by_size[:8], by_size[:, :12] = 0, 0
    given = {
        "larger": (placed(tmp_path / "a.tif", large, (x - 140, y + 80), 2.0, utm), labels),
        "moved": (placed(tmp_path / "b.tif", labels, (x + 24, y - 16), 2.0, utm), by_size),
        "finer": (
            placed(
                tmp_path / "c.tif", np.kron(labels, np.ones((2, 2), np.int32)), (x, y), 1.0, utm
            ),
            labels,
        ),
    }
    asked = {"white": 1.0, "device": "cpu", "method": "ig", "steps": 3, "baseline": "zero"}
    for name, (path, expected) in given.items():
        one = nr.attribute(picture, wrapped(Small(), HALO), BOX, segments=path, **asked)
        other = nr.attribute(picture, wrapped(Small(), HALO), BOX, segments=expected, **asked)
        assert one.segments == other.segments, name
    elsewhere = placed(tmp_path / "d.tif", labels, (x + 9000, y), 2.0, utm)
    with pytest.raises(BadParameter, match=r"d\.tif lies outside the image"):
        nr.attribute(picture, wrapped(Small(), HALO), BOX, segments=elsewhere, **asked)


def test_a_raster_of_another_system_is_placed_as_a_mask_is(tmp_path: Path) -> None:
    degrees = "EPSG:4326"
    picture = placed(tmp_path / "scene.tif", scene(), (500_000, 5_000_000), 10.0, "EPSG:32633")
    # Two halves, apart at the meridian of 160 * 10 / 2 metres.
    (lon, lon_middle), _ = rasterio.warp.transform(
        "EPSG:32633", degrees, [499_000, 500_800], [5_000_000, 4_999_360]
    )
    step = (lon_middle - lon) / 50
    halves = np.repeat([[5, 9]], 200, 0).repeat([50, 200], 1).astype(np.int32)
    path = placed(tmp_path / "halves.tif", halves, (lon, 45.2), step, degrees)
    found = nr.attribute(
        picture, wrapped(Small(), HALO), BOX, segments=path, white=1.0, device="cpu", method="ig",
        steps=3, baseline="zero",
    )  # fmt: skip
    y0, x0, y1, _ = found.region
    rows = {row["label"]: row for row in found.segments}
    assert set(rows) == {5, 9}
    edge = x0 + rows[5]["pixels"] / (y1 - y0)
    assert edge == pytest.approx(80, abs=1.5)


@pytest.mark.slow
def test_segments_of_true_pixels_fit_an_overview() -> None:
    pixels, coarse = scene(2048, 2560), np.kron(blocks(16), np.ones((2, 2), np.int32))
    labels, box = np.kron(coarse, np.ones((8, 8), np.int32)), Region(*(8 * side for side in BOX))
    found = nr.attribute(
        pixels, wrapped(Small(), HALO), box, level=3, segments=labels, baseline="zero", device="cpu"
    )
    inside = coarse[found.region.slices]
    counts = {row["label"]: row["pixels"] for row in found.segments}
    assert counts == {int(n): int((inside == n).sum()) for n in np.unique(inside)}


@pytest.mark.parametrize(
    ("segments", "reported"),
    [
        ("slic:many", "no number of superpixels"),
        ("slic:0", "no number of superpixels"),
        (np.ones((5, 5), np.int32), "160 × 128"),
        (np.ones((128, 160, 2), np.int32), "3 axes"),
        (np.ones(SIZE, np.float32), "whole numbers, not float32"),
        (-np.ones(SIZE, np.int32), "from 0"),
        (np.zeros(SIZE, np.int32), "No segment lies"),
        ("nowhere.npy", "cannot be read"),
        ("nowhere.tif", "There is no file"),
    ],
)
def test_what_are_no_segments_is_said(segments: Any, reported: str) -> None:
    with pytest.raises((BadParameter, UnreadableImage), match=reported):
        ask(Small(), segments)


@pytest.mark.parametrize(
    ("method", "argument"),
    [("occlusion", "side"), ("occlusion", "stride"), ("captum:FeatureAblation", "feature_mask")],
)
def test_patches_have_no_part_in_segments(method: str, argument: str) -> None:
    if method.startswith("captum:"):
        pytest.importorskip("captum.attr")
    found = ask(Small(), blocks(), method=method)
    assert argument not in found.record["attribution"]["arguments"]
    with pytest.raises(BadParameter, match=f"segments in place of patches, of which {argument} is"):
        ask(Small(), blocks(), method=method, arguments={argument: 8})


def test_a_raster_in_the_cache_stays_for_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_restore import api

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    picture = tmp_path / "scene.tif"
    with rasterio.open(
        picture, "w", height=128, width=160, driver="GTiff", count=3, dtype="float32"
    ) as file:
        file.write(scene().transpose(2, 0, 1))
    raster = api.mask_of_array(picture, blocks(), (1, 0, 0, 0, 1, 0))
    record = nr.attribute(picture, "dcp", BOX, segments=raster, white=1.0, device="cpu").record
    assert record["task"]["question"]["segments"] == str(raster)
    (entry,) = (each for each in api.cache_entries() if each.path == raster.parent)
    assert entry.needed


def test_a_layer_has_no_segments() -> None:
    with pytest.raises(BadParameter, match=r"Leave segments= or layer= out"):
        ask(Small(), blocks(), layer="body.1", baseline=None)


@pytest.mark.measured
def test_superpixels_that_do_not_fit_are_refused() -> None:
    pytest.importorskip("skimage")
    with pytest.raises(BudgetTooSmall, match="Superpixels of"):
        ask(
            Pointwise(lambda x: x),
            "slic:9",
            scene(900, 900),
            box=Region(0, 0, 880, 880),
            memory="190MiB",
            method="ig",
            steps=1,
        )


def test_a_table_takes_none() -> None:
    with pytest.raises(BadParameter, match="a table of their own"):
        nr.attribute_table([scene()], ["dcp"], [BOX], segments="slic:9")
