"""Masks of products and clipped outputs through the command line, its copy, records and reruns."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import rasterio

import napari_restore as nr
from napari_restore import api

from ._scenes import hazy

AREA = "POLYGON ((500306 5299691, 501521 5299637, 501206 5298638, 500306 5299691))"


def stack(path: Path) -> Path:
    """Write Landsat bands with their QA_PIXEL: a cloud from row 8 to 20, column 5 to 30."""
    light = hazy()[:, :64, :64].astype(np.uint16) * 60 + 7300
    qa = np.full((64, 64), 21824, np.uint16)
    qa[8:20, 5:30] = 22280
    pixels = np.concatenate([light, qa[None]])
    place = rasterio.transform.from_origin(500000, 5300000, 30, 30)
    about = {"count": 4, "height": 64, "width": 64, "dtype": "uint16", "transform": place}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32632", **about) as new:
        new.write(pixels)
        for number, name in enumerate(("SR_B4", "SR_B3", "SR_B2", "QA_PIXEL"), 1):
            new.set_band_description(number, name)
    return path


def test_a_band_of_bits_through_every_door(cli, tmp_path: Path):
    source, out = stack(tmp_path / "stack.tif"), tmp_path / "a.tif"
    words = ["--model", "dcp", "--exclude", ":QA_PIXEL", "--exclude-bits", "cloud,shadow"]
    run = cli("restore", source, "-o", out, *words, "--record", tmp_path / "a.json")
    assert run.code == 0, run.err
    before, after = (nr.open_image(path).read((0, 0, 64, 64)) for path in (source, out))
    changed = (before != after).any(axis=2)
    assert changed.any() and not changed[8:20, 5:30].any()
    result = nr.restore(source, "dcp", exclude=":QA_PIXEL", exclude_bits=["cloud", "shadow"])
    np.testing.assert_array_equal(np.asarray(result), after)
    line = shlex.split(api.command_of(result.plan, tmp_path / "b.tif"))
    assert "--exclude-bits" in line and ":QA_PIXEL" in line
    assert cli(*line[1:]).code == 0
    assert cli("rerun", tmp_path / "a.json", "-o", tmp_path / "c.tif").code == 0
    for name in ("b.tif", "c.tif"):
        np.testing.assert_array_equal(nr.open_image(tmp_path / name).read((0, 0, 64, 64)), after)
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["task"]["options"]["exclude_bits"] == "cloud,shadow"


def test_a_file_by_its_band_is_found_again(cli, tmp_path: Path, monkeypatch):
    source, masks = stack(tmp_path / "stack.tif"), np.zeros((2, 64, 64), np.uint8)
    masks[1, 5:20, 5:20] = 1
    with rasterio.open(source) as like:
        about = {**like.profile, "count": 2, "dtype": "uint8"}
    with rasterio.open(tmp_path / "m.tif", "w", **about) as new:
        new.write(masks)
    monkeypatch.chdir(tmp_path)
    plan = nr.plan(source, "dcp", exclude="m.tif:2")
    line = shlex.split(api.command_of(plan, tmp_path / "a.tif"))
    assert line[line.index("--exclude") + 1] == f"{tmp_path / 'm.tif'}:2"
    run = cli("restore", source, "-o", "m.tif", "--overwrite", *line[line.index("--model") :])
    assert run.code == 2 and "m.tif is an input" in run.err
    run = cli("restore", source, "-o", "a.tif", "--model", "dcp", "--exclude", "m.tif")
    assert run.code == 2 and "--exclude m.tif:1" in run.err


@pytest.mark.slow
def test_a_clip_is_recorded_and_repeated(cli, tmp_path: Path):
    source, out = stack(tmp_path / "stack.tif"), tmp_path / "a.tif"
    words = ["--model", "dcp", "--mask", AREA, "--clip", "mask"]
    run = cli("restore", source, "-o", out, *words, "--record", tmp_path / "a.json")
    assert run.code == 0, run.err
    result = nr.restore(source, "dcp", mask=AREA)
    saved = result.save(tmp_path / "b.tif", clip="mask")
    line = shlex.split(api.command_of(result.plan, tmp_path / "c.tif", clip="mask"))
    assert cli(*line[1:]).code == 0
    assert cli("rerun", tmp_path / "a.json", "-o", tmp_path / "d.tif").code == 0
    pixels = []
    for path in (out, saved, tmp_path / "c.tif", tmp_path / "d.tif"):
        with rasterio.open(path) as file:
            assert file.shape == (35, 41)
            pixels.append(np.concatenate([file.read(), file.dataset_mask()[None]]))
    assert all(np.array_equal(pixels[0], other) for other in pixels[1:])
    run = cli("restore", source, "-o", tmp_path / "e.tif", "--model", "dcp", "--clip", "box")
    assert run.code == 2 and "no area to clip to" in run.err and not (tmp_path / "e.tif").exists()


def test_a_window_outside_speaks_of_the_map(cli, tmp_path: Path):
    source = stack(tmp_path / "stack.tif")
    words = ["--model", "dcp", "--projwin", "0", "10", "10", "0"]
    run = cli("restore", source, "-o", tmp_path / "a.tif", *words)
    assert run.code == 2 and "500000 5300000 501920 5298080" in run.err
    assert "width" not in run.err
