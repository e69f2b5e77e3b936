"""OME-Zarr at an address: the chunks that are needed, and one sentence where a server fails."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import zarr
from range_server import RangeServer

import napari_restore as nr
from napari_restore.commands import main
from napari_restore.errors import OutsideFolder, SourceChanged, UnreadableImage
from napari_restore.images import open_image
from napari_restore.images.files import remote

CHUNK = 3 * 256**2
"""Bytes of a chunk; they are random, and as long compressed."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a.ome.zarr in version 3, sharded, and b.ome.zarr in version 2."""
    folder = tmp_path_factory.mktemp("zarr")
    pixels = np.random.default_rng(0).integers(1, 200, (3, 1000, 1400), np.uint8)
    scales = [{"axes": [{"name": n} for n in "cyx"], "datasets": [{"path": "0"}, {"path": "1"}]}]
    for name, version in (("a", 3), ("b", 2)):
        group = zarr.open_group(folder / f"{name}.ome.zarr", mode="w", zarr_format=version)
        for level in range(2):
            part = pixels[:, :: 2**level, :: 2**level]
            more: dict[str, Any] = {"shards": (3, 512, 512)} if (name, level) == ("a", 0) else {}
            array = group.create_array(
                str(level), shape=part.shape, chunks=(3, 256, 256), dtype="uint8", **more
            )
            array[:] = part
        about = {"multiscales": scales}
        group.attrs.update(about if version == 2 else {"ome": about})
    return folder


@pytest.fixture
def server(bucket_server: RangeServer, written: Path) -> RangeServer:
    shutil.copytree(written, bucket_server.folder / "scenes")
    return bucket_server


def here(server: RangeServer, name: str = "a") -> nr.Image:
    return nr.open_image(server.folder / "scenes" / f"{name}.ome.zarr")


def address(server: RangeServer, start: str, name: str = "a") -> str:
    return f"{server.address if start == 'http' else f'{start}:/'}/scenes/{name}.ome.zarr"


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("start", ["s3", "gs", "http"])
def test_pixels_are_those_of_the_folder_and_few_bytes_are_sent(
    server: RangeServer, start: str, name: str
) -> None:
    local, there = here(server, name), nr.open_image(address(server, start, name))
    assert there.level_shapes == local.level_shapes
    box = nr.Region(300, 500, 600, 800)
    server.sent = 0
    server.asked.clear()
    np.testing.assert_array_equal(there.read(box), local.read(box))
    # Rows 1 and 2, columns 1 to 3; of shards an index each, too.
    assert server.sent <= 1.3 * 6 * CHUNK
    assert len(server.asked) == (12 if name == "a" else 6)
    np.testing.assert_array_equal(there.read(box), local.read(box))
    assert len(server.asked) == (12 if name == "a" else 6)
    server.sent = 0
    np.testing.assert_array_equal(
        there.read(nr.Region(0, 0, 200, 200), 1), local.read(nr.Region(0, 0, 200, 200), 1)
    )
    assert server.sent <= 1.3 * CHUNK


def test_chunks_of_a_box_are_fetched_at_once(server: RangeServer) -> None:
    there = nr.open_image(address(server, "s3", "b"))
    server.together = 6
    assert there.read(nr.Region(300, 500, 600, 800)).any()


@pytest.mark.nightly
def test_a_restored_region_equals_that_of_the_folder(server: RangeServer, tmp_path: Path) -> None:
    outputs = []
    for source in (str(server.folder / "scenes/a.ome.zarr"), address(server, "s3")):
        output, record = tmp_path / f"{len(outputs)}.tif", tmp_path / f"{len(outputs)}.json"
        words = ["restore", source, "-o", str(output), "--model", "dcp", "--record", str(record)]
        assert main([*words, "--srcwin", "100", "100", "400", "300"]) == 0
        outputs.append(rasterio.open(output).read())
    np.testing.assert_array_equal(*outputs)
    record = json.loads((tmp_path / "1.json").read_text("utf-8"))
    assert record["input"]["path"] == "s3://scenes/a.ome.zarr"


@pytest.mark.parametrize("start", ["s3", "http"])
@pytest.mark.parametrize(
    "path",
    [
        *("../b.ome.zarr/0", "0/../../b.ome.zarr/0", "%2e%2e/b.ome.zarr/0", "/../b.ome.zarr/0"),
        *("s3://scenes/b.ome.zarr/0", "HTTP", "..\\b.ome.zarr\\0"),
    ],
)
def test_metadata_that_points_elsewhere(server: RangeServer, path: str, start: str) -> None:
    file = server.folder / "scenes" / "a.ome.zarr" / "zarr.json"
    about = json.loads(file.read_text("utf-8"))
    about.pop("consolidated_metadata", None)
    elsewhere = f"{server.address}/scenes/b.ome.zarr/0" if path == "HTTP" else path
    about["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = elsewhere
    file.write_text(json.dumps(about), "utf-8")
    with pytest.raises(UnreadableImage):
        nr.open_image(address(server, start))
    assert all(name.startswith("scenes/a.ome.zarr/") and ".." not in name for name in server.asked)


def test_an_address_in_a_file_is_not_followed(server: RangeServer) -> None:
    for start in ("s3", "http"):
        with pytest.raises(OutsideFolder, match="is an address"):
            open_image(address(server, start))
    assert server.requests == 0


@pytest.mark.parametrize("start", ["s3", "http"])
def test_a_server_that_fails_now_and_then(
    server: RangeServer, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    monkeypatch.setattr(remote, "PAUSE", 0.05)
    server.codes = [500, 503]
    there, local = nr.open_image(address(server, start, "b")), here(server, "b")
    server.codes, server.breaks, server.hangs = [502], 1, 1
    box = nr.Region(300, 500, 600, 800)
    np.testing.assert_array_equal(there.read(box), local.read(box))


@pytest.mark.parametrize("start", ["s3", "http"])
@pytest.mark.parametrize("name", ["a", pytest.param("b", marks=pytest.mark.slow)])
@pytest.mark.ids("nightly", "b-s3", "b-http")
def test_a_server_that_fails_while_pixels_are_read(
    server: RangeServer, short_patience: None, start: str, name: str
) -> None:
    there = nr.open_image(address(server, start, name))
    box = nr.Region(0, 0, 100, 100)
    for code, message in ((403, r"may not be read \(HTTP 403\)"), (500, r"fails \(HTTP 500\)")):
        server.codes = [code] * 99
        with pytest.raises(UnreadableImage, match=message):
            there.read(box)
    server.codes, server.breaks = [], 99
    with pytest.raises(UnreadableImage, match="does not answer"):
        there.read(box)
    server.breaks, server.hangs = 0, 99
    with pytest.raises(UnreadableImage, match="does not answer"):
        there.read(box)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([403] * 99, r"may not be read \(HTTP 403\)"),
        ([500] * 99, r"fails \(HTTP 500\)"),
        ([404] * 99, "There is no zarr at"),
    ],
)
@pytest.mark.parametrize("start", ["s3", "http"])
def test_refusals(server: RangeServer, codes: list[int], message: str, start: str) -> None:
    server.codes = codes
    with pytest.raises(UnreadableImage, match=message):
        nr.open_image(address(server, start))


def test_a_bucket_that_refuses_what_it_does_not_have(server: RangeServer) -> None:
    server.absent = 403
    there, local = nr.open_image(address(server, "s3", "b")), here(server, "b")
    box = nr.Region(0, 0, 100, 100)
    np.testing.assert_array_equal(there.read(box), local.read(box))
    (server.folder / "scenes" / "b.ome.zarr" / "0" / "0.1.1").unlink()
    with pytest.raises(UnreadableImage, match="may not be read"):
        there.read(nr.Region(300, 300, 400, 400))


def test_a_server_without_ranges_sends_whole_chunks_only(server: RangeServer) -> None:
    server.ranges = False
    box = nr.Region(0, 0, 100, 100)
    whole = nr.open_image(address(server, "http", "b"))
    np.testing.assert_array_equal(whole.read(box), here(server, "b").read(box))
    with pytest.raises(UnreadableImage, match="sends whole files only"):
        nr.open_image(address(server, "http", "a")).read(box)


@pytest.mark.slow
def test_a_chunk_longer_than_its_pixels_is_not_fetched(server: RangeServer) -> None:
    there = nr.open_image(address(server, "s3", "b"))
    (server.folder / "scenes" / "b.ome.zarr" / "0" / "0.0.0").write_bytes(bytes(300 * 2**20))
    server.sent = 0
    with pytest.raises(UnreadableImage, match="more than a chunk can have"):
        there.read(nr.Region(0, 0, 100, 100))


def test_a_signed_address_and_one_without_the_library(
    server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnreadableImage, match="holds for one file") as caught:
        nr.open_image(f"{address(server, 'http')}?token=secret")
    assert "secret" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(UnreadableImage, match=r"pip install \"napari-restore\[buckets\]\""):
        nr.open_image(address(server, "http"))


@pytest.mark.parametrize("name", ["a", "b"])
def test_an_image_that_changes_during_a_run(server: RangeServer, tmp_path: Path, name: str) -> None:
    image = nr.open_image(address(server, "s3", name))
    plan = nr.plan(image, "identity", scratch=tmp_path)
    server.tag = '"2"'
    with pytest.raises(SourceChanged):
        nr.start(plan).result()
