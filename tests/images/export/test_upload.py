"""Outputs in buckets: whole or not there, and the local result where they cannot be sent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from range_server import RangeServer

import napari_restore as nr
from napari_restore.commands import main


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.tif"
    pixels = np.random.default_rng(0).integers(1, 200, (3, 300, 600), np.uint8)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=300,
        width=600,
        count=3,
        dtype="uint8",
        photometric="RGB",
    ) as file:
        file.write(pixels)
    return path


@pytest.fixture
def server(bucket_server: RangeServer) -> RangeServer:
    (bucket_server.folder / "scenes").mkdir()
    return bucket_server


def restore(source: Path, output: str | Path, *more: str) -> int:
    return main(["restore", str(source), "-o", str(output), "--model", "identity", *more])


def test_a_geotiff_is_that_of_a_local_output(
    source: Path, server: RangeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "record.json"
    words = ("--cog", "--scratch", str(tmp_path / "scratch"))
    assert restore(source, tmp_path / "out.tif", "--cog") == 0
    assert restore(source, "s3://scenes/a/out.tif", *words, "--record", str(record)) == 0
    there = server.folder / "scenes" / "a" / "out.tif"
    assert there.read_bytes() == (tmp_path / "out.tif").read_bytes()
    assert "wrote s3://scenes/a/out.tif" in capsys.readouterr().out
    assert json.loads(record.read_text("utf-8"))["output"]["path"] == "s3://scenes/a/out.tif"
    assert not list((tmp_path / "scratch" / "uploads").rglob("*.tif"))


def test_the_metadata_of_an_ome_zarr_comes_last(source: Path, server: RangeServer) -> None:
    assert restore(source, "s3://scenes/out.ome.zarr") == 0
    assert server.written[-1] == "scenes/out.ome.zarr/zarr.json"
    assert server.written.count("scenes/out.ome.zarr/zarr.json") == 1
    whole = nr.Region(0, 0, 300, 600)
    expected = nr.open_image(source).read(whole)
    np.testing.assert_array_equal(nr.open_image("s3://scenes/out.ome.zarr").read(whole), expected)


def test_masks_by_band_go_with_their_file(server: RangeServer, tmp_path: Path) -> None:
    paths = []
    for nodata in (3, 5):
        paths.append(str(tmp_path / f"{nodata}.tif"))
        profile = {"width": 40, "height": 30, "count": 1, "dtype": "int16", "nodata": nodata}
        with rasterio.open(paths[-1], "w", driver="GTiff", **profile) as file:
            file.write(np.arange(1200, dtype=np.int16).reshape(1, 30, 40) % 7)
    words = ["--stack", "--model", "identity"]
    for output in (str(tmp_path / "out.tif"), "s3://scenes/out.tif"):
        assert main(["restore", *paths, "-o", output, *words]) == 0
    for name in ("out.tif", "out.tif.msk"):
        there = server.folder / "scenes" / name
        assert there.read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.parametrize("name", ["out.tif", "out.ome.zarr"])
def test_what_exists_is_not_replaced(
    source: Path, server: RangeServer, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restore(source, f"s3://scenes/{name}") == 0
    stale = server.folder / "scenes" / name / "0" / "c" / "9"
    if name.endswith("zarr"):
        stale.parent.mkdir(parents=True, exist_ok=True)
        stale.write_bytes(b"of an earlier image")
    server.written.clear()
    assert restore(source, f"s3://scenes/{name}") == 2
    assert f"s3://scenes/{name} exists already. Choose another name, or --overwrite" in (
        capsys.readouterr().err
    )
    assert not server.written
    assert restore(source, f"s3://scenes/{name}", "--overwrite") == 0
    assert server.written[0] == f"scenes/{name}" + "/zarr.json" * name.endswith("zarr")
    assert not stale.exists()


@pytest.mark.parametrize("name", ["out.tif", "out.ome.zarr"])
def test_a_failed_upload_keeps_the_result(
    source: Path,
    server: RangeServer,
    tmp_path: Path,
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.writable = False
    scratch = ("--scratch", str(tmp_path / "scratch"))
    assert restore(source, f"s3://scenes/{name}", *scratch) == 2
    (kept,) = (tmp_path / "scratch" / "uploads").glob(f"*/{name}")
    error = capsys.readouterr().err
    assert f"could not be sent to s3://scenes/{name} and is in {kept}: " in error
    assert "(HTTP 403)" in error
    whole = nr.Region(0, 0, 300, 600)
    np.testing.assert_array_equal(
        nr.open_image(kept).read(whole), nr.open_image(source).read(whole)
    )
    server.writable = True
    assert restore(source, f"s3://scenes/{name}", *scratch) == 0
    assert not kept.exists()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("https://example.org/out.tif", "https://example.org/out.tif cannot be written to"),
        ("s3://scenes", "s3://scenes names no object of a bucket"),
        ("s3://scenes/out.xyz", "out.xyz has no suffix of a format"),
        ("s3://scenes/in.tif", "s3://scenes/in.tif is an input"),
    ],
)
def test_outputs_that_cannot_be_sent(
    source: Path,
    server: RangeServer,
    output: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    named = "s3://scenes/in.tif" if "in.tif" in output else str(source)
    assert main(["restore", named, "-o", output, "--model", "identity"]) == 2
    assert message in capsys.readouterr().err
    assert server.requests == 0


def test_several_images_need_a_folder(
    source: Path, server: RangeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = source.parent / "folder"
    folder.mkdir()
    source.rename(folder / "a.tif")
    for paths in ([str(folder)], [str(folder / "a.tif")] * 2):
        words = ["restore", *paths, "-o", "s3://scenes/out.tif", "--model", "identity"]
        assert main(words) == 2
        assert "Several images cannot be sent" in capsys.readouterr().err


def test_no_permission_is_found_before_the_run(
    source: Path, server: RangeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.key = "AKIDOWNER"
    assert restore(source, "s3://scenes/out.tif") == 2
    assert "s3://scenes/out.tif may not be read (HTTP 403)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["out.tif", "out.ome.zarr"])
def test_no_such_bucket_is_found_before_the_run(
    source: Path, server: RangeServer, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restore(source, f"s3://nobucket/{name}") == 2
    error = capsys.readouterr().err
    assert "There is no s3://nobucket. Make it first" in error
    assert not server.written


def test_a_fused_bracket_is_sent(
    source: Path, server: RangeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fuse", str(source), str(source), "--model", "radiance", "--ev", "0", "1"]
    words += ["--align", "off", "-o"]
    assert main([*words, str(tmp_path / "out.tif")]) == 0
    assert main([*words, "s3://scenes/out.tif"]) == 0, capsys.readouterr().err
    there = server.folder / "scenes" / "out.tif"
    assert there.read_bytes() == (tmp_path / "out.tif").read_bytes()


def test_what_cannot_be_sent_says_so(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["attribute", str(source), "--box", "1", "1", "9", "9", "--model", "identity"]
    assert main([*words, "-o", "s3://scenes/map.tif"]) == 2
    assert "map.tif is to be written to an address" in capsys.readouterr().err
