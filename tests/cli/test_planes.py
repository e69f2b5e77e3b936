"""Stacks: files with several pages, depths or times."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

import napari_restore as nr
from napari_restore import api
from napari_restore.errors import BadParameter, StackOfPlanes

from ._scenes import Run, hazy

COUNT = 3


def planes(count: int = COUNT) -> np.ndarray:
    """Return (n, H, W, 3) uint8."""
    return np.stack([np.moveaxis(hazy(64, 80, seed=number), 0, 2) for number in range(count)])


def write_zarr(path: Path, pixels: np.ndarray, axes: str) -> Path:
    group = zarr.open_group(str(path), mode="w", zarr_format=3)
    chunks = (1,) * (pixels.ndim - 2) + pixels.shape[-2:]
    group.create_array("0", shape=pixels.shape, chunks=chunks, dtype=pixels.dtype)[:] = pixels
    scale = [{"type": "scale", "scale": [2.0] + [1.0] * (pixels.ndim - 1)}]
    described = {
        "axes": [{"name": name} for name in axes],
        "datasets": [{"path": "0", "coordinateTransformations": scale}],
    }
    group.attrs.update({"ome": {"version": "0.5", "multiscales": [described]}})
    return path


def stack(tmp_path: Path, kind: str) -> Path:
    """Write a stack of `COUNT` planes, and of two times for the kind with channels."""
    pixels = planes()
    path = tmp_path / f"{kind}.tif"
    grey = pixels[..., 0]
    if kind == "pages":
        tifffile.imwrite(path, pixels, photometric="rgb", metadata=None)
    elif kind == "shaped":
        tifffile.imwrite(path, pixels, photometric="rgb", compression="deflate")
    elif kind == "imagej":
        unit = {"axes": "ZYX", "unit": "um", "spacing": 2.0}
        tifffile.imwrite(path, grey, imagej=True, resolution=(2, 2), metadata=unit)
    elif kind == "ome":
        named = {"axes": "ZYX", "PhysicalSizeZ": 2.0, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        tifffile.imwrite(path, grey, ome=True, photometric="minisblack", metadata=named)
    elif kind == "channels":
        both = np.stack([np.stack([grey, 255 - grey])] * 2)
        tifffile.imwrite(path, both, ome=True, photometric="minisblack", metadata={"axes": "TCZYX"})
    elif kind == "zarr":
        return write_zarr(tmp_path / "zarr.zarr", np.moveaxis(pixels, 3, 1), "tcyx")
    return path


KINDS = ("pages", "shaped", "imagej", "ome", "channels", "zarr")


@pytest.mark.parametrize("kind", KINDS)
def test_a_stack_is_never_cut_to_its_first_plane(cli, tmp_path, kind):
    path = stack(tmp_path, kind)
    with pytest.raises(StackOfPlanes, match="planes"):
        nr.open_image(path)
    run = cli("restore", path, "-o", tmp_path / "out.tif", "--model", "identity")
    assert run.code == 2
    assert "--plane all" in run.err
    assert not (tmp_path / "out.tif").exists()
    assert "this is plane 0" in cli("info", path).out


@pytest.mark.parametrize("kind", KINDS)
def test_any_plane_is_an_image_of_its_own(tmp_path, kind):
    path = stack(tmp_path, kind)
    count = 2 * COUNT if kind == "channels" else COUNT
    images = [nr.open_image(path, plane=number) for number in range(count)]
    assert len({image.fingerprint for image in images}) == count
    source = planes()
    for number, image in enumerate(images):
        assert image.planes.count == count
        expected = source[number % COUNT]
        if kind == "channels":
            expected = np.dstack([expected[..., 0], 255 - expected[..., 0]])
        elif kind in ("imagej", "ome"):
            expected = expected[..., :1]
        assert np.array_equal(image.read((0, 0, *expected.shape[:2])), expected)
        again = type(image).from_spec(image.spec)
        assert (again.plane, again.fingerprint) == (number, image.fingerprint)
    with pytest.raises(BadParameter, match=f"no plane {count}"):
        nr.open_image(path, plane=count)


# A store does not know how pages of a file were grouped.
STORED = ("pages", "imagej", "channels", "zarr")


@pytest.mark.parametrize(
    ("kind", "suffix"), [*((k, ".tif") for k in KINDS), *((k, ".zarr") for k in STORED)]
)
@pytest.mark.ids("slow", "channels-.tif")
def test_all_planes_keep_axes_and_equal_single_runs(cli, tmp_path, kind, suffix):
    path, out = stack(tmp_path, kind), tmp_path / f"out{suffix}"
    model = "identity" if kind == "channels" else "dcp"
    if kind in ("imagej", "ome"):
        model = "identity"
    named = ["--bands", "red=1,green=2,blue=3"] if kind == "zarr" else []
    run = cli("restore", path, "-o", out, "--model", model, "--plane", "all", *named)
    assert run.code == 0, run.err
    assert [p.name for p in tmp_path.iterdir() if "planes" in p.name] == []
    number = 1
    alone = tmp_path / f"alone{suffix}"
    assert cli("restore", path, "-o", alone, "--model", model, "--plane", number, *named).code == 0
    source, whole = nr.open_image(path, plane=0), nr.open_image(out, plane=number)
    box = (0, 0, whole.height, whole.width)
    assert np.array_equal(whole.read(box), nr.open_image(alone).read(box))
    assert whole.planes.shape == source.planes.shape
    if suffix == ".tif" and path.suffix == ".tif":
        with tifffile.TiffFile(path) as before, tifffile.TiffFile(out) as after:
            assert len(after.series) == 1
            assert after.series[0].axes == before.series[0].axes
            assert after.series[0].shape == before.series[0].shape
            assert len(after.pages) == len(before.pages)
            if kind == "ome":
                assert 'PhysicalSizeZ="2.0"' in after.ome_metadata
    if suffix == ".zarr":
        (multiscale,) = zarr.open_group(str(out)).attrs["ome"]["multiscales"]
        names = "".join(axis["name"][0] for axis in multiscale["axes"])
        letters = {"pages": "pcyx", "shaped": "pcyx", "zarr": "tcyx", "channels": "tczyx"}
        assert names == letters.get(kind, "zyx")
        scale = multiscale["datasets"][0]["coordinateTransformations"][0]["scale"]
        assert scale[0] == (2.0 if kind in ("imagej", "ome", "zarr") else 1.0)


def test_pages_claim_no_more_than_there_are(cli, tmp_path):
    path, out = stack(tmp_path, "ome"), tmp_path / "out.tif"
    assert cli("restore", path, "-o", out, "--model", "identity", "--plane", "1:3").code == 0
    with tifffile.TiffFile(out) as file:
        assert file.series[0].shape == (2, *planes().shape[1:3])
        assert np.array_equal(file.asarray(), planes()[1:3, ..., 0])
    assert (
        cli("restore", path, "-o", tmp_path / "one.tif", "--model", "identity", "--plane", 2).code
        == 0
    )
    with tifffile.TiffFile(tmp_path / "one.tif") as file:
        assert len(file.pages) == 1 and 'SizeZ="1"' in file.ome_metadata


def test_a_cancelled_run_goes_on_with_the_planes_that_are_left(cli, tmp_path, ctrl_c_at):
    path, out = stack(tmp_path, "shaped"), tmp_path / "out.tif"
    words = ("restore", path, "-o", out, "--model", "dcp", "--plane", "all")
    ctrl_c_at(f'"number": {COUNT}')
    assert cli(*words, "--progress", "json").code == 3
    assert not out.exists()
    run = cli(*words, "--json")
    assert run.code == 0
    assert [each["status"] for each in run.json["images"]] == ["skipped", "skipped", "done"]
    assert nr.open_image(out, plane=0).planes.count == COUNT


def test_statistics_are_of_each_plane_or_of_the_first(cli, tmp_path):
    pixels = planes(2)
    pixels[1] = np.clip(pixels[1].astype(int) - 60, 0, 255)
    path = tmp_path / "two.tif"
    tifffile.imwrite(path, pixels, photometric="rgb")
    for name, more in (("own", ()), ("first", ("--context", "first"))):
        out = tmp_path / f"{name}.tif"
        run = cli("restore", path, "-o", out, "--model", "dcp", "--plane", "all", *more)
        assert run.code == 0, run.err
    one = nr.restore(nr.open_image(path, plane=1), "dcp", progress=False)
    assert np.array_equal(tifffile.imread(tmp_path / "own.tif")[1], np.asarray(one))
    assert not np.array_equal(tifffile.imread(tmp_path / "first.tif")[1], np.asarray(one))


def uneven(tmp_path: Path) -> Path:
    path = tmp_path / "uneven.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(planes()[0], photometric="rgb")
        file.write(planes()[1][:40], photometric="rgb")
    return path


def test_pages_of_different_size_are_no_stack(cli, tmp_path):
    path = uneven(tmp_path)
    run = cli("restore", path, "-o", tmp_path / "a.tif", "--model", "dcp", "--plane", "all")
    assert run.code == 2
    assert "Plane 1 of uneven is of another size" in run.err and "--plane 1" in run.err
    assert cli("restore", path, "-o", tmp_path / "a.tif", "--model", "dcp", "--plane", 1).code == 0
    assert nr.open_image(tmp_path / "a.tif").height == 40


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--plane", "2:9"), "names no planes"),
        (("--plane", "x"), "whole number"),
        (("--plane", "all", "--record", "r.json"), "writes no record"),
        (("--plane", "all", "--cog"), "one picture"),
        (("--plane", "9"), "no plane 9"),
    ],
)
def test_what_planes_cannot_have_is_said(cli, tmp_path, words, told):
    path = stack(tmp_path, "shaped")
    run: Run = cli("restore", path, "-o", tmp_path / "out.tif", "--model", "identity", *words)
    assert (run.code, told in run.err) == (2, True), run.err
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_other_files_have_one_plane(cli, tmp_path, scene):
    for words, told in ((("--plane", "1"), "one plane"), (("--plane", "all"), "one plane")):
        run = cli("restore", scene, "-o", tmp_path / "o.tif", "--model", "identity", *words)
        assert (run.code, told in run.err) == (2, True), run.err
    run = cli("restore", stack(tmp_path, "shaped"), "-o", tmp_path / "o.png", "--model", "identity",
              "--plane", "all")  # fmt: skip
    assert run.code == 2 and ".tif or .zarr" in run.err


def test_planes_of_several_files_are_told_apart(tmp_path):
    paths = [tmp_path / f"{name}.tif" for name in "ab"]
    for path in paths:
        tifffile.imwrite(path, planes()[..., 0], photometric="minisblack")
    one, other = (nr.open_image(paths, stack=True, plane=number) for number in (0, 1))
    assert one.fingerprint != other.fingerprint
    assert np.array_equal(other.read((0, 0, 64, 80))[..., 1], planes()[1, ..., 0])
    again = type(other).from_spec(other.spec)
    assert again.fingerprint == other.fingerprint


def test_the_record_of_a_plane_repeats_it(cli, tmp_path):
    path, record = stack(tmp_path, "shaped"), tmp_path / "r.json"
    words = ("restore", path, "-o", tmp_path / "a.tif", "--model", "dcp", "--plane", 2)
    assert cli(*words, "--record", record).code == 0
    assert json.loads(record.read_text())["task"]["image"]["plane"] == 2
    assert cli("rerun", record, "-o", tmp_path / "b.tif").code == 0
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), tifffile.imread(tmp_path / "b.tif"))
    planned = nr.plan(nr.open_image(path, plane=2), "dcp")
    assert "--plane 2" in api.command_of(planned, tmp_path / "c.tif")
