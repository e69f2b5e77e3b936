"""Models that map the whole image, on the command line: files that join, shared statistics, maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from ._scenes import hazy, read, write_tiff

MODEL = f"{Path(__file__).parents[1] / 'engine' / '_position_dependent_model.py'}:Placed"
WORDS = ("--model", MODEL, "--yes", "--tile", "128", "--device", "cpu")


@pytest.fixture
def halves(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A mosaic whose brightness falls from left to right, and its two halves on one map."""
    mosaic = hazy(height=160, width=400).astype(np.int16)
    mosaic += np.linspace(-50, 30, 400).astype(np.int16)
    mosaic = np.clip(mosaic, 1, 255).astype(np.uint8)
    whole = write_tiff(tmp_path / "mosaic.tif", mosaic)
    with rasterio.open(whole) as file:
        right_place = file.transform * rasterio.Affine.translation(152, 0)
    left = write_tiff(tmp_path / "left.tif", mosaic[:, :, :152])
    right = write_tiff(tmp_path / "right.tif", mosaic[:, :, 152:], transform=right_place)
    return whole, left, right


@pytest.mark.slow
def test_files_that_join_are_restored_as_one_image(cli, tmp_path, halves):
    whole, left, right = halves
    run = cli("restore", whole, "-o", tmp_path / "m.tif", *WORDS)
    assert run.code == 0, run.err
    run = cli("restore", left, right, "-o", tmp_path / "joined.tif", *WORDS)
    assert run.code == 0, run.err
    expected = read(tmp_path / "m.tif")
    np.testing.assert_array_equal(read(tmp_path / "joined.tif"), expected)
    # Alone it has another map: the test above could fail.
    run = cli("restore", right, "-o", tmp_path / "alone.tif", *WORDS)
    assert run.code == 0, run.err
    assert (read(tmp_path / "alone.tif") != expected[:, :, 152:]).any()


@pytest.mark.parametrize("how", ["first", "file"])
def test_statistics_of_other_images_are_refused_before_anything_is_written(cli, tmp_path, how):
    paths = [write_tiff(tmp_path / f"{n}.tif", hazy(seed=n), crs=None) for n in (1, 2)]
    given = how
    if how == "file":
        given = tmp_path / "context.npz"
        given.write_bytes(b"never read")
    before = sorted(tmp_path.iterdir())
    run = cli("restore", *paths, "-o", tmp_path / "out", *WORDS, "--context", given)
    assert run.code == 2
    assert "maps the image itself" in run.err and "Leave --context out" in run.err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_maps_are_written(cli, tmp_path, halves):
    whole, _, _ = halves
    words = ["restore", whole, "-o", tmp_path / "m.tif", *WORDS, "--maps", tmp_path / "maps"]
    assert cli(*words).code == 0
    transmission = read(tmp_path / "maps" / "transmission.tif")
    assert transmission.shape == (1, 160, 400) and 0.01 < transmission.std()
    assert (read(tmp_path / "maps" / "airlight.tif") == 0.75).all()


def test_models_say_where_weights_come_from(cli):
    rows = {
        row.lstrip("* ").split()[0]: row.split()
        for row in cli("models").out.split("\n\n")[0].splitlines()[1:]
    }
    assert "yours" in rows["inf-dehaze-fast"]
    assert "shipped" in rows["atmosphere"]
    assert not {"yours", "shipped"} & set(rows["dcp"])
    assert cli("models", "inf-dehaze-fast", "--json").json["weights"] == "yours"
