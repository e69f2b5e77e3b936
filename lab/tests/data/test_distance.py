"""Distances of files: what is known, how they lie, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_restore.errors import InputError
from napari_restore_lab.data import filled, read_distance


def written(folder: Path, values: np.ndarray) -> Path:
    tifffile.imwrite(folder / "d.tif", values)
    return folder / "d.tif"


def ramp(height: int = 40, width: int = 60) -> np.ndarray:
    return np.linspace(1, 9, width, dtype=np.float32)[None].repeat(height, axis=0)


@pytest.mark.parametrize("bad", [np.inf, np.nan, -np.inf, 0, -3])
@pytest.mark.parametrize("kind", ["rgbd_depth", "rgbd_disparity"])
def test_what_is_not_known_takes_a_value_near_it(tmp_path, bad, kind):
    values = ramp()
    values[10:14, 20:24] = bad
    found = read_distance(written(tmp_path, values), kind, (40, 60))
    assert np.isfinite(found).all() and found.min() > 0 and found.max() <= 1
    whole = read_distance(written(tmp_path, ramp()), kind, (40, 60))
    assert np.abs(found - whole).max() < 0.15
    assert (found == whole)[:, 30:].all()


def test_holes_are_filled_from_their_blocks():
    values = np.zeros((5, 7), np.float32)
    values[0, 0], values[4, 6] = 2, 8
    out = filled(values, values > 0)
    assert out[0, 0] == out[1, 1] == out[3, 3] == 2
    assert out[4, 6] == 8 and (out > 0).all()
    assert (filled(values + 1, values < 9) == values + 1).all()


@pytest.mark.parametrize("shape", [(40, 60, 3), (2, 40, 60)])
def test_several_bands_are_refused(tmp_path, shape):
    tifffile.imwrite(tmp_path / "d.tif", np.ones(shape, np.uint8), photometric="minisblack")
    with pytest.raises(InputError, match=r"d\.tif contains no distances: its shape"):
        read_distance(tmp_path / "d.tif", "rgbd_depth", (40, 60))


def test_a_photo_is_no_file_of_distances(tmp_path):
    Image.new("RGB", (60, 40)).save(tmp_path / "d.png")
    with pytest.raises(InputError, match=r"d\.png contains no distances: its shape"):
        read_distance(tmp_path / "d.png", "rgbd_depth", (40, 60))


@pytest.mark.parametrize("name", ["d.tif", "d.png", "no.tif"])
def test_a_broken_file_is_named(tmp_path, name):
    (tmp_path / "d.tif").write_bytes(b"II*\0nothing")
    (tmp_path / "d.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=f"{name} cannot be read"):
        read_distance(tmp_path / name, "rgbd_depth", (40, 60))


def test_another_shape_is_refused_and_rounding_is_none(tmp_path):
    path = written(tmp_path, ramp(400, 603))
    assert read_distance(path, "rgbd_depth", (20, 30)).shape == (20, 30)
    for shape in ((400, 620), (603, 400), (20, 33)):
        with pytest.raises(InputError, match="have the shape of their picture"):
            read_distance(path, "rgbd_depth", shape)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_distances_are_turned_as_the_picture_is(tmp_path, orientation):
    stored = ramp() + np.linspace(0, 3, 40, dtype=np.float32)[:, None]
    path = written(tmp_path, stored)
    found = read_distance(path, "rgbd_depth", (60, 40), orientation)
    turn = {
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }[orientation]
    upright = np.asarray(Image.fromarray(stored).transpose(turn))
    assert np.allclose(found, np.minimum(1, upright / np.percentile(stored, 99)), atol=1e-5)
    # Such as lie upright already stay.
    assert np.allclose(read_distance(path, "rgbd_depth", (40, 60), orientation)[0, 0], found.min())
