"""A map that was saved opens where it was, as it was: in napari, and by rasterio's own reading."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from napari.components import ViewerModel
from napari.layers import Layer
from PIL import Image
from tests.explain._attention import attention_of, maps_of
from tests.explain._models import scene
from tests.explain.test_layers import strided

import napari_restore as nr
from napari_restore import Region
from napari_restore.errors import BadParameter, UnreadableImage
from napari_restore.explain import OverviewShares
from napari_restore.explain.attention.attribution_rank import AttributionMap
from napari_restore.plugin.attention.layers import AttentionLayers
from napari_restore.plugin.attribution.layers import AttributionLayers, picture_of
from napari_restore.plugin.layers.placing import fit_to, plane_of
from napari_restore.plugin.layers.reader import get_reader, read

SIZE = 160, 2304
BOX = Region(104, 120, 112, 136)
PLACE = Affine(2, 0, 500_000, 0, -2, 40_000)
KINDS: dict[str, dict[str, Any]] = {
    "integrated gradients": {"method": "ig", "baseline": "zero", "steps": 3},
    "occlusion": {"method": "occlusion", "arguments": {"side": 8}},
    "layer activation": {"method": "captum:LayerActivation", "layer": "coarse.0"},
}


def looked(image: Any, *maps: Any) -> Any:
    """The look at one query that has these maps, with the record of a run."""
    found = attention_of(image, *maps)
    found.record["input"]["fingerprint"] = image.fingerprint
    found.record["attention"]["queries"] = [each.query.to_dict() for each in found.queries]
    return found


@pytest.fixture
def viewer(monkeypatch: pytest.MonkeyPatch, qapp: Any) -> ViewerModel:
    """A viewer that readers take for the current one."""
    made = ViewerModel()
    monkeypatch.setattr("napari.current_viewer", lambda: made)
    return made


def opened_in(viewer: ViewerModel, path: Path) -> list[Any]:
    """The layers of a file, as napari makes them of what the reader returns; the topmost first."""
    reader = get_reader(path)
    assert reader is not None
    layers = [Layer.create(*given) for given in reader(path)]
    viewer.layers.extend(layers)
    return layers[::-1]


@pytest.fixture(params=["photo", "scene on a map"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An image of two levels."""
    pixels = np.round(255 * scene(*SIZE)).astype(np.uint8)
    if request.param == "photo":
        Image.fromarray(pixels).save(tmp_path / "photo.png")
        return tmp_path / "photo.png"
    profile = {"driver": "GTiff", "height": SIZE[0], "width": SIZE[1], "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32636", "transform": PLACE, "photometric": "RGB"}
    with rasterio.open(tmp_path / "scene.tif", "w", **profile, **place, tiled=True) as file:
        file.write(pixels.transpose(2, 0, 1))
        file.build_overviews([2])
    return tmp_path / "scene.tif"


def expected_transform(image: Any, y: int, x: int, step: int) -> Affine:
    """The transform of a raster whose first pixel begins at (y, x) of the image, `step` pixels each."""
    base = Affine(1, 0, 0, 0, -1, 0) if image.transform is None else PLACE
    return base * Affine.translation(x, y) * Affine.scale(step)


def assert_same(one: Any, other: Any) -> None:
    """Two layers have one place, the same pixels and the same colours."""
    np.testing.assert_allclose(plane_of(one), plane_of(other), atol=1e-6)
    assert one.units == other.units
    pixels = np.asarray(other.data)
    np.testing.assert_allclose(np.asarray(one.data), pixels, atol=1e-6 * np.abs(pixels).max())
    np.testing.assert_allclose(one.contrast_limits, other.contrast_limits, rtol=1e-6)
    shades = np.linspace(0, 1, 9)
    np.testing.assert_array_equal(one.colormap.map(shades), other.colormap.map(shades))


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.ids(
    "nightly",
    "photo-occlusion-0",
    "photo-occlusion-1",
    "photo-integrated gradients-1",
    "photo-layer activation-0",
    "scene on a map-occlusion-0",
    "scene on a map-integrated gradients-0",
    "scene on a map-layer activation-1",
)
def test_an_attribution_goes_back(
    viewer: ViewerModel, path: Path, tmp_path: Path, kind: str, level: int
) -> None:
    (source,) = opened_in(viewer, path)
    image, model = nr.open_image(path), strided()
    options: dict[str, Any] = {"level": level, "device": "cpu", "progress": False, **KINDS[kind]}
    found = nr.attribute(image, model, BOX, **options)
    step, has_overview = 1 << level, kind == "integrated gradients"
    if has_overview:
        height, width = (side // step // 4 for side in SIZE)
        shares = np.random.default_rng(1).normal(size=(height, width, 3)).astype(np.float32)
        found = replace(found, overview=OverviewShares(found.limit * shares, 4, (0, 0)))
    found.save(tmp_path / "m.tif")
    found.save(tmp_path / "m.npz")
    shown = AttributionLayers(viewer, source, "1", step)
    shown.finish(picture_of(found), found.record, "map", 0.5)
    assert shown.map is not None
    names = ["sum"] if kind == "layer activation" else ["sum", "red", "green", "blue"]
    for name in ("m.tif", "m.npz"):
        opened = opened_in(viewer, tmp_path / name)
        assert_same(opened[0], shown.map)
        assert [layer.visible for layer in opened[:4]] == [True, False, False, False][: len(opened)]
        bands = [layer.name.rpartition("· ")[2] for layer in opened]
        if name == "m.tif":
            assert bands == names
            for number, layer in enumerate(opened[1:]):
                np.testing.assert_allclose(layer.data, found.map[..., number], rtol=1e-6)
        elif has_overview:
            assert_same(opened[4], shown.overview)
    with rasterio.open(tmp_path / "m.tif") as file:
        y, x = (step * edge for edge in found.region[:2])
        assert file.transform.almost_equals(expected_transform(image, y, x, step), 1e-6)
        assert list(file.descriptions) == names
        np.testing.assert_allclose(file.read(1), found.map.sum(axis=2), rtol=1e-5, atol=1e-12)
    if has_overview:
        (top, *others) = opened_in(viewer, tmp_path / "m_overview.tif")
        assert_same(top, shown.overview)
        # One scale: the same colours end at the same value.
        assert top.contrast_limits == shown.map.contrast_limits and len(others) == 3
        with rasterio.open(tmp_path / "m_overview.tif") as file:
            assert file.transform.almost_equals(expected_transform(image, 0, 0, 4 * step), 1e-6)
            total = file.read(1).sum(dtype=float)
        assert found.overview is not None
        assert total == pytest.approx(found.overview.values.sum(dtype=float), rel=1e-3, abs=1e-9)
        with pytest.raises(BadParameter, match="overview of a map"):
            AttributionMap.of(tmp_path / "m_overview.tif", image)


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("kind", ["window", "channel"])
@pytest.mark.ids(
    "nightly",
    "photo-window-0",
    "photo-channel-1",
    "scene on a map-window-1",
    "scene on a map-channel-0",
)
def test_heads_go_back(
    viewer: ViewerModel, path: Path, tmp_path: Path, kind: str, level: int
) -> None:
    (source,) = opened_in(viewer, path)
    image = nr.open_image(path).level_view(level)
    weights = [[0.75, 0.25], [-0.4 if kind == "channel" else 0.4, 0.6]]
    cells = [[[10, 15], [11, 13]], [[8, 12], [10, 14]]]
    maps = maps_of(weights, cells, (9, 13), (image.height, image.width), kind=kind)
    found = looked(image, maps)
    scale, stride = 1 << level, maps.stride
    for name in ("h.tif", "h.npz"):
        found.save(tmp_path / name)
        opened = opened_in(viewer, tmp_path / name)
        assert [layer.name.rpartition("· ")[2] for layer in opened] == ["head 1", "head 2"]
        assert [layer.visible for layer in opened] == [True, False]
        for head, layer in zip(("1", "2"), opened, strict=True):
            corner = plane_of(source) @ [
                scale * stride * maps.region.y0 - 0.5,
                scale * stride * maps.region.x0 - 0.5,
                1,
            ]
            np.testing.assert_allclose(plane_of(layer) @ [-0.5, -0.5, 1], corner, atol=1e-6)
            if level == 0:
                pinned = AttentionLayers(viewer).pin(source, maps, head, found.queries[0])
                assert_same(layer, pinned)
    with rasterio.open(tmp_path / "h.tif") as file:
        y, x = (scale * stride * edge for edge in maps.region[:2])
        place = expected_transform(nr.open_image(path), y, x, scale * stride)
        assert file.transform.almost_equals(place, 1e-6)
        assert file.descriptions == ("head 1", "head 2") and np.isnan(file.nodata)


def test_arrays_of_attention_are_plain(tmp_path: Path) -> None:
    maps = maps_of([[0.75, 0.25], [0.4, 0.6]], [[[1, 2], [2, 2]]] * 2, (1, 2))
    looked(nr.open_image(np.zeros((64, 64, 3), np.uint8)), maps).save(tmp_path / "h.npz")
    with np.load(tmp_path / "h.npz", allow_pickle=False) as arrays:
        assert arrays["0/a.1/heads"].tolist() == ["1", "2"] and arrays["0/a.1/stride"] == 4
        np.testing.assert_allclose(arrays["0/a.1/sum"], 1)
        assert arrays["0/a.1/entropy"].shape == (2,) and arrays["0/a.1/entropy"].dtype == float
        assert arrays["axes.weights"].tolist() == ["head", "candidate"]
        assert arrays["0/a.1/weights"].ndim == arrays["axes.weights"].size


def test_without_its_image_a_map_lies_in_pixels(viewer: ViewerModel, tmp_path: Path) -> None:
    maps = maps_of([[0.75, 0.25]], [[[10, 15], [11, 13]]], (9, 13), (80, 96))
    looked(nr.open_image(np.zeros((80, 96, 3), np.uint8)), maps).save(tmp_path / "h.tif")
    (layer,) = opened_in(viewer, tmp_path / "h.tif")
    corner = [4 * edge - 0.5 for edge in maps.region[:2]]
    np.testing.assert_allclose((plane_of(layer) @ [-0.5, -0.5, 1])[:2], corner)


def test_a_photo_is_fitted_beside_a_layer_of_more_axes(viewer: ViewerModel) -> None:
    photo = viewer.add_image(np.zeros((100, 120)))
    viewer.canvas.size = (400, 600)
    fit_to(viewer, photo)
    zoom, centre = viewer.scene.camera.zoom, viewer.scene.camera.center[-2:]
    viewer.add_image(np.zeros((4, 50, 60)))
    viewer.canvas.size = (800, 1200)
    assert viewer.scene.camera.zoom == pytest.approx(2 * zoom)
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], centre)


def damaged(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    with np.load(path) as file:
        arrays = dict(file)
    change(arrays)
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.update(record=np.array("{}")),
        lambda arrays: arrays.update(record=np.array("no JSON")),
        lambda arrays: arrays.update(record=np.array("[" * 100_000)),
        lambda arrays: arrays.update(
            record=np.array(re.sub(r'"stride": \d+', '"stride": 0', str(arrays["record"])))
        ),
        lambda arrays: arrays.update({"0/a.1/cells": np.array([[[0, 0], [1 << 40, 1 << 40]]])}),
        lambda arrays: arrays.update({"0/a.1/cells": np.zeros((1, 2), int)}),
        lambda arrays: arrays.update({"0/a.1/weights": np.array(["a", "b"])}),
    ],
)
def test_a_damaged_file_of_arrays_is_a_sentence(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    maps = maps_of([[0.75, 0.25]], [[[1, 2], [2, 2]]], (1, 2))
    path = tmp_path / "h.npz"
    looked(nr.open_image(np.zeros((64, 64, 3), np.uint8)), maps).save(path)
    damaged(path, change)
    with pytest.raises(UnreadableImage, match="holds no map"):
        read(path)
    path.write_bytes(path.read_bytes()[:200])
    assert get_reader(path) is read
    with pytest.raises(UnreadableImage, match="holds no map"):
        read(path)


def test_arrays_of_others_are_left_to_others(tmp_path: Path) -> None:
    np.savez(tmp_path / "theirs.npz", a=np.zeros(3))
    assert get_reader(tmp_path / "theirs.npz") is None
