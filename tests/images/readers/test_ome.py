"""OME-TIFF and zarr: axes, levels, channels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_restore.errors import StackOfPlanes, UnreadableImage
from napari_restore.images import open_image

Noise = Callable[..., np.ndarray]


def write_ome_tiff(
    path: Path, data: np.ndarray, axes: str, levels: int = 1, **options: object
) -> None:
    import tifffile

    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(data, subifds=levels - 1, metadata={"axes": axes, **options}, tile=(64, 64))
        for step in range(1, levels):
            part = data[..., :: 2**step, :: 2**step]
            writer.write(part, subfiletype=1, tile=(64, 64))


def test_channels_first_with_levels(tmp_path: Path, noise: Noise) -> None:
    pixels = noise(300, 400, 3, np.uint16)
    path = tmp_path / "cells.ome.tif"
    channels = {"Name": ["red", "NIR", "x"], "EmissionWavelength": [650, 850, 540]}
    write_ome_tiff(path, pixels.transpose(2, 0, 1), "CYX", 2, Channel=channels)
    image = open_image(path)
    assert image.profile.driver == "OME-TIFF"
    assert image.shape == (300, 400, 3)
    assert image.level_shapes == ((300, 400), (150, 200))
    assert image.descriptions == ("red", "NIR", "x")
    assert image.wavelengths == (650, 850, 540)
    assert image.roles == ("red", "nir", "green")
    np.testing.assert_array_equal(image.read((10, 60, 200, 399)), pixels[10:200, 60:399])
    np.testing.assert_array_equal(image.read((0, 0, 150, 200), 1), pixels[::2, ::2])


def test_samples_are_colours(tmp_path: Path, noise: Noise) -> None:
    import tifffile

    pixels = noise(100, 120, 3, np.uint8)
    path = tmp_path / "rgb.tif"
    tifffile.imwrite(path, pixels, ome=True, photometric="rgb", tile=(64, 64))
    image = open_image(path)
    assert image.profile.driver == "OME-TIFF"
    assert image.roles == ("red", "green", "blue")
    np.testing.assert_array_equal(image.read((0, 0, 100, 120)), pixels)


@pytest.mark.parametrize(
    ("photometric", "extra", "roles"),
    [
        ("rgb", "unassalpha", ("red", "green", "blue", "alpha")),
        ("rgb", "unspecified", ("red", "green", "blue", None)),
        ("minisblack", None, (None, None, None)),
    ],
)
def test_samples_are_what_the_tags_say(
    tmp_path: Path, noise: Noise, photometric: str, extra: str | None, roles: tuple[str | None, ...]
) -> None:
    import tifffile

    pixels = noise(100, 120, len(roles), np.uint8)
    path = tmp_path / "samples.ome.tif"
    how = {"photometric": photometric, "planarconfig": "contig", "metadata": {"axes": "YXS"}}
    tifffile.imwrite(path, pixels, ome=True, extrasamples=extra and [extra], tile=(64, 64), **how)
    image = open_image(path)
    assert image.profile.driver == "OME-TIFF"
    assert image.roles == roles
    assert image.may_be_invalid == ("alpha" in roles)
    np.testing.assert_array_equal(image.read((0, 0, 100, 120)), pixels)


def test_of_a_series_a_plane_is_chosen(tmp_path: Path, noise: Noise) -> None:
    pixels = noise(80, 90, 5, np.float32)
    path = tmp_path / "series.ome.tif"
    write_ome_tiff(path, pixels.transpose(2, 0, 1), "ZYX")
    with pytest.raises(StackOfPlanes, match="5 planes"):
        open_image(path)
    for plane in (0, 3):
        image = open_image(path, plane=plane)
        assert image.shape == (80, 90, 1)
        np.testing.assert_array_equal(image.read((0, 0, 80, 90))[..., 0], pixels[..., plane])


def test_truncated_ome_tiff(tmp_path: Path, noise: Noise) -> None:
    path = tmp_path / "cut.ome.tif"
    write_ome_tiff(path, noise(300, 300, 1, np.uint8)[..., 0], "YX")
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(UnreadableImage, match="truncated"):
        open_image(path)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path: Path, noise: Noise, version: str) -> None:
    import zarr

    pixels = noise(200, 260, 2, np.uint16)
    path = tmp_path / "scene.ome.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    for name, step in (("full", 1), ("half", 2)):
        data = pixels[::step, ::step].transpose(2, 0, 1)[None]
        array = group.create_array(name, shape=data.shape, chunks=(1, 1, 64, 64), dtype="uint16")
        array[:] = data
    described = {
        "multiscales": [
            {
                "axes": [{"name": n} for n in "tcyx"],
                "datasets": [{"path": "full"}, {"path": "half"}],
            }
        ],
        "omero": {"channels": [{"label": "Blue"}, {"label": "something"}]},
    }
    group.attrs.update(described if version == "0.4" else {"ome": described})
    image = open_image(path)
    assert image.shape == (200, 260, 2)
    assert image.level_shapes == ((200, 260), (100, 130))
    assert image.roles == ("blue", None)
    np.testing.assert_array_equal(image.read((3, 5, 199, 260)), pixels[3:199, 5:260])
    np.testing.assert_array_equal(image.read((0, 0, 100, 130), 1), pixels[::2, ::2])
    assert image.fingerprint == open_image(path).fingerprint


@pytest.mark.parametrize("shape", [(90, 80), (90, 80, 3), (3, 90, 80)])
def test_plain_zarr_array(tmp_path: Path, shape: tuple[int, ...]) -> None:
    import zarr

    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    path = tmp_path / "plain.zarr"
    array = zarr.create_array(str(path), shape=shape, chunks=(3, 40, 40)[-len(shape) :], dtype="f4")
    array[:] = data
    expected = (
        data[..., None] if len(shape) == 2 else data if shape[2] == 3 else np.moveaxis(data, 0, 2)
    )
    image = open_image(path)
    np.testing.assert_array_equal(image.read((0, 0, 90, 80)), expected)


def test_transformations_of_all_levels_come_after_those_of_one(tmp_path: Path) -> None:
    """OME-NGFF 0.4 and 0.5, "multiscales" metadata: both lists of transformations apply."""
    import zarr

    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    group.create_array("0", shape=(2, 30, 40), dtype="u2", chunks=(1, 30, 40))
    axes = [{"name": "z", "type": "space", "unit": "micrometer"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    own = [
        {"type": "scale", "scale": [3, 0.5, 0.25]},
        {"type": "translation", "translation": [0, 10, 20]},
    ]
    common = [
        {"type": "scale", "scale": [2, 2, 4]},
        {"type": "translation", "translation": [7, 1, 2]},
    ]
    multiscale = {
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": own}],
        "coordinateTransformations": common,
    }
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    image = open_image(tmp_path / "a.zarr", plane=1)
    assert image.profile.grid is not None
    assert image.profile.grid.size == (1.0, 1.0)
    assert image.profile.grid.origin == (21.0, 82.0)
    assert image.planes.axes[0].step == 6.0


@pytest.mark.parametrize(
    ("common", "known"),
    [
        (None, True),
        ([{"type": "translation", "translation": [0, float("nan"), 0]}], False),
        ([{"type": "scale", "scale": [2, 2]}], False),
        ([{"type": "scale", "path": "factors"}], False),
    ],
)
def test_transformations_that_make_no_sense_give_no_size(
    tmp_path: Path, common: Any, known: bool
) -> None:
    import zarr

    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("0", shape=(1, 30, 40), dtype="u2", chunks=(1, 30, 40))
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    own = [{"type": "scale", "scale": [3, 0.5, 0.25]}]
    datasets = [{"path": "0", "coordinateTransformations": own}]
    multiscale = {"axes": axes, "datasets": datasets, "coordinateTransformations": common}
    group.attrs["multiscales"] = [{"version": "0.4"} | multiscale]
    grid = open_image(tmp_path / "a.zarr").profile.grid
    assert (grid is not None and grid.size == (0.5, 0.25)) is known


def test_group_without_an_image_names_its_parts(tmp_path: Path) -> None:
    import zarr

    group = zarr.open_group(str(tmp_path / "two.zarr"), mode="w")
    for name in ("a", "b"):
        group.create_array(name, shape=(4, 4), dtype="u1")
    with pytest.raises(UnreadableImage, match="no multiscale image") as caught:
        open_image(tmp_path / "two.zarr")
    assert "a, b" in caught.value.hint
