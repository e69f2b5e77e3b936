from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import rasterio
import tifffile
from napari.components import ViewerModel
from napari.layers import Layer
from napari.utils.notifications import notification_manager
from PIL import Image
from range_server import RangeServer

import napari_restore as nr
from napari_restore.errors import UnreadableImage
from napari_restore.plugin import show_bands
from napari_restore.plugin.layers.placing import ORIGIN, origin_of
from napari_restore.plugin.layers.reader import get_reader, layer_of, read


@pytest.mark.parametrize(
    ("path", "is_ours"),
    [
        ("https://example.org/scene.tif", True),
        ("http://example.org/scene.TIFF?signature=a.png", True),
        ("https://example.org/download?id=3", True),
        ("s3://bucket/scene.tif", True),
        ("https://example.org/scene.ome.zarr/", True),
        ("gs://bucket/scene.ZARR/0", True),
        ("https://example.org/photo.png", False),
        ("ftp://example.org/scene.tif", False),
    ],
)
def test_addresses_of_images_are_ours(path: str, is_ours: bool):
    assert (get_reader(path) is not None) == is_ours


@pytest.mark.slow
@pytest.mark.viewer
def test_a_window_opens_an_address(panel: Any, sample: Path):
    with RangeServer(sample.parent) as server:
        panel.viewer.open(f"{server.address}/{sample.name}?signature=x", plugin="napari-restore")
        (layer,) = panel.viewer.layers
        expected = nr.open_image(sample).read((100, 200, 110, 210))
        np.testing.assert_array_equal(np.asarray(layer.data[0][100:110, 200:210]), expected)
        assert "signature" not in layer.name


@pytest.mark.viewer
@pytest.mark.parametrize("suffix", ["tif", "gif", "png", "webp", "mpo", "ome.tif"])
@pytest.mark.slow
@pytest.mark.ids("nightly", "gif", "png", "webp", "ome.tif", "mpo")
def test_a_window_tells_of_pictures_that_are_not_read(panel: Any, tmp_path: Path, suffix: str):
    path = tmp_path / f"several.{suffix}"
    pages = np.random.default_rng(0).integers(0, 255, (3, 40, 50), np.uint8)
    if suffix == "ome.tif":
        tifffile.imwrite(path, pages, metadata={"axes": "ZYX"})
    else:
        first, *others = map(Image.fromarray, pages)
        first.save(path, save_all=True, append_images=others)
    known = len(notification_manager.records)
    panel.viewer.open(path, plugin="napari-restore")
    (note,) = [record.message for record in notification_manager.records[known:]]
    assert note.startswith(path.name.removesuffix(f".{suffix}")) and "3" in note and "first" in note
    known += 1
    Image.fromarray(pages[0]).save(tmp_path / "one.png")
    panel.viewer.open(tmp_path / "one.png", plugin="napari-restore")
    assert len(notification_manager.records) == known


@pytest.mark.viewer
def test_a_window_tells_of_sources_that_disagree(panel: Any, tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    adobe, exif = bytes(imagecodecs.cms_profile("adobergb")), Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = 1
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", exif=exif, icc_profile=adobe)
    how = {"driver": "GTiff", "height": 40, "width": 50, "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(3, 0, 5e5, 0, -3, 5e6)}
    with rasterio.open(tmp_path / "scene.tif", "w", **how, **place, photometric="RGB") as file:
        file.write(pixels.transpose(2, 0, 1))
        file.descriptions = ("Blue", "Green", "Red")
    known = len(notification_manager.records)
    for name in ("photo.jpg", "scene.tif"):
        panel.viewer.open(tmp_path / name, plugin="napari-restore")
    told = [record.message for record in notification_manager.records[known:]]
    for note in (
        "photo: Its colours are Adobe RGB (compatible) by colour profile, not sRGB by EXIF colour space.",
        "scene: Bands 1, 3 are blue, red by name, not red, blue by colour interpretation.",
    ):
        assert told.count(note) == 1


@pytest.mark.slow
@pytest.mark.viewer
def test_an_address_that_cannot_be_read_gives_one_sentence(panel: Any, tmp_path: Path):
    with RangeServer(tmp_path) as server:
        address = f"{server.address}/scene.tif"
        panel.viewer.open(f"{address}?signature=x", plugin="napari-restore")
    assert not panel.viewer.layers
    note = notification_manager.records[-1].message
    assert address in note
    assert "signature" not in note


def test_the_sample_lies_on_the_map_in_colour(sample: Path):
    (data,) = read(sample)
    viewer = ViewerModel()
    layer = viewer.add_layer(Layer.create(*data))
    image = layer.metadata["napari_restore"]
    assert layer.rgb
    assert [tuple(s) for s in layer.level_shapes] == list(image.level_shapes)
    a, _, c, _, e, f = image.transform
    # The centre of the last pixel of the first row.
    x = c + (image.width - 0.5) * a
    y = f + 0.5 * e
    world = np.add(layer.data_to_world((0, image.width - 1)), layer.metadata[ORIGIN])
    np.testing.assert_allclose(world, (y, x), rtol=0, atol=1e-6)
    assert [str(u) for u in layer.units] == ["meter", "meter"]
    np.testing.assert_array_equal(
        np.asarray(layer.data[0][100:110, 200:210]), image.read((100, 200, 110, 210))
    )


@pytest.fixture
def placed(tmp_path: Path) -> Any:
    """A function that opens 100 × 100 pixels of a size in metres, their corner there in UTM."""

    def placed(pixel: float, x: float, y: float) -> Any:
        import rasterio
        from rasterio.transform import Affine

        path = tmp_path / f"{pixel}-{x}-{y}.tif"
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=100,
            height=100,
            count=1,
            dtype="uint8",
            crs="EPSG:32633",
            transform=Affine(pixel, 0, x, 0, -pixel, y),
        ) as dataset:
            dataset.write(np.ones((1, 100, 100), np.uint8))
        return nr.open_image(path)

    return placed


def test_the_first_map_decides_where_the_world_begins(placed: Any):
    fine, other = placed(0.1, 512_345, 5_400_123), placed(0.1, 513_000, 5_400_500)
    viewer = ViewerModel()
    assert origin_of(viewer, placed(30, 512_345, 5_400_123)) == (0, 0)
    first = viewer.add_layer(Layer.create(*layer_of(fine, viewer)))
    second = viewer.add_layer(Layer.create(*layer_of(other, viewer)))
    assert first.metadata[ORIGIN] == second.metadata[ORIGIN] == (5_400_000, 512_000)
    np.testing.assert_allclose(
        np.subtract(second.data_to_world((0, 0)), first.data_to_world((0, 0))), (377, 655)
    )
    # As far as a graphics card can tell them, places are right to an eighth of a pixel.
    corner = np.array(first.data_to_world((99, 99)))
    assert np.abs(corner.astype(np.float32) - corner).max() < 0.1 / 8


@pytest.mark.parametrize("name", ["notes.txt", "missing.tif", "folder"])
def test_what_is_not_ours_is_refused_at_once(tmp_path: Path, name: str):
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder").mkdir()
    assert get_reader(str(tmp_path / name)) is None


def test_nothing_to_read_is_refused():
    assert get_reader([]) is None


def test_a_zarr_folder_is_ours(tmp_path: Path):
    folder = tmp_path / "Größe 1"
    folder.mkdir()
    (folder / "zarr.json").write_text("{}")
    assert get_reader(folder) is read


def test_without_a_window_an_error_is_raised(tmp_path: Path):
    path = tmp_path / "text.tif"
    path.write_text("no image")
    with pytest.raises(UnreadableImage):
        read(path)


def test_many_bands_are_stepped_through_with_true_values():
    pixels = np.random.default_rng(0).integers(200, 3000, (60, 80, 5), np.uint16)
    data, arguments, kind = layer_of(nr.open_image(pixels))
    layer = Layer.create(data, arguments, kind)
    assert not layer.rgb
    assert layer.data.shape == (5, 60, 80)
    np.testing.assert_array_equal(np.asarray(layer.data), pixels.transpose(2, 0, 1))
    low, high = layer.contrast_limits
    assert (low, high) == tuple(np.percentile(pixels, (0.5, 99.5)))


def test_one_band_is_a_plane():
    pixels = np.random.default_rng(0).normal(size=(60, 80)).astype(np.float32)
    pixels[0, 0] = np.nan
    layer = Layer.create(*layer_of(nr.open_image(pixels)))
    assert layer.data.shape == (60, 80)
    assert np.isfinite(layer.contrast_limits).all()


def test_the_camera_points_north_for_a_map_and_stays_for_a_photo(sample: Path):
    viewer = ViewerModel()
    layer_of(nr.open_image(np.zeros((8, 8, 3), np.uint8)), viewer)
    assert viewer.scene.camera.orientation2d == ("down", "right")
    layer_of(nr.open_image(sample), viewer)
    assert viewer.scene.camera.orientation2d == ("up", "right")


@pytest.mark.slow
@pytest.mark.viewer
def test_a_colour_image_can_be_shown_band_by_band(panel: Any):
    viewer = panel.viewer
    pixels = np.random.default_rng(2).integers(0, 4000, (80, 90, 4)).astype(np.uint16)
    data, arguments, _ = layer_of(nr.open_image(pixels, bands="blue=1,green=2,red=3,nir=4"), viewer)
    viewer.add_image(
        data, **{**arguments, "name": "scene"}, scale=(2, 2), translate=(100, 50), units=("m", "m")
    )
    scene = viewer.layers["scene"]
    assert scene.rgb
    show_bands(viewer)
    bands = viewer.layers["scene (bands)"]
    np.testing.assert_allclose(bands.data_to_world((1, 10, 20))[1:], scene.data_to_world((10, 20)))
    assert panel.state.layer is scene
    np.testing.assert_array_equal(np.asarray(bands.data), pixels.transpose(2, 0, 1))
    viewer.layers.remove(scene)
    # There is nothing more to show of that one.
    show_bands(viewer)
    assert list(viewer.layers) == [bands]
