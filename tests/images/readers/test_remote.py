"""Images at an address: the bytes that are needed, and one sentence where a server fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from range_server import RangeServer

import napari_restore as nr
from napari_restore import images
from napari_restore.commands import main
from napari_restore.engine import compute_context
from napari_restore.errors import OutsideFolder, SourceChanged, UnreadableImage


@pytest.fixture
def scene(random_cog: Path, tmp_path: Path) -> Path:
    (tmp_path / "web").mkdir()
    return Path(shutil.copy(random_cog, tmp_path / "web" / "scene.tif"))


@pytest.fixture
def server(scene: Path, short_pauses: None) -> Iterator[RangeServer]:
    with RangeServer(scene.parent) as running:
        yield running


@pytest.mark.slow
def test_pixels_are_those_of_the_file_and_few_bytes_are_sent(
    scene: Path, server: RangeServer
) -> None:
    here, there = nr.open_image(scene), nr.open_image(f"{server.address}/scene.tif")
    box = nr.Region(300, 500, 600, 800)
    server.sent = 0
    np.testing.assert_array_equal(there.read(box), here.read(box))
    # Rows 1 and 2, columns 1 to 3 of 256 pixels; random bytes are as long compressed.
    assert server.sent <= 1.3 * 2 * 3 * 3 * 256**2
    assert there.level_shapes == here.level_shapes
    level = len(there.level_shapes) - 1
    whole = nr.Region(0, 0, *there.level_shapes[level])
    np.testing.assert_array_equal(there.read(whole, level), here.read(whole, level))


@pytest.mark.slow
def test_a_pass_over_the_image_takes_few_requests(scene: Path, server: RangeServer) -> None:
    address = f"{server.address}/scene.tif"
    plan = nr.plan(address, model="dcp", region=nr.Region(300, 500, 600, 800))
    (note,) = [note for note in plan.notes if "server" in note]
    assert f"{scene.stat().st_size / 2**20:.1f} MiB" in note and "extent" in note
    there = nr.open_image(address)
    server.requests = 0
    found = compute_context(there)
    # A row of its 6 × 5 tiles is read together.
    assert server.requests <= 5 + 2
    here = compute_context(nr.open_image(scene))
    np.testing.assert_array_equal(found.overview, here.overview)
    np.testing.assert_array_equal(found.histograms, here.histograms)


def test_a_picture_asks_for_several_chunks_at_once(scene: Path, server: RangeServer) -> None:
    here, there = nr.open_image(scene), nr.open_image(f"{server.address}/scene.tif")
    assert here.levels[0].chunks[0][0] == 256
    assert there.levels[0].chunks[0][0] == there.levels[0].chunks[1][0] == 512
    server.sent = 0
    part = np.asarray(there.levels[0][300:500, 800:1000])
    np.testing.assert_array_equal(part, here.read(nr.Region(300, 800, 500, 1000)))
    # dask reads all of a task: four chunks.
    assert server.sent <= 1.3 * 4 * 3 * 256**2


@pytest.mark.nightly
def test_a_restored_region_equals_that_of_the_file(
    scene: Path, server: RangeServer, tmp_path: Path
) -> None:
    outputs = []
    for source in (str(scene), f"{server.address}/scene.tif?token=secret"):
        output = tmp_path / f"{len(outputs)}.tif"
        record = tmp_path / f"{len(outputs)}.json"
        words = ["restore", source, "-o", str(output), "--model", "dcp", "--record", str(record)]
        assert main([*words, "--srcwin", "100", "100", "400", "300"]) == 0
        outputs.append(output)
    alone, remote = (rasterio.open(path).read() for path in outputs)
    np.testing.assert_array_equal(alone, remote)
    assert b"secret" not in outputs[1].read_bytes()
    text = (tmp_path / "1.json").read_text("utf-8")
    assert "secret" not in text
    assert json.loads(text)["input"]["path"] == f"{server.address}/scene.tif"


@pytest.mark.slow
def test_a_record_with_an_address_needs_consent(
    server: RangeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, again = tmp_path / "record.json", tmp_path / "again.tif"
    source = f"{server.address}/scene.tif"
    words = ["restore", source, "-o", str(tmp_path / "o.tif"), "--model", "identity"]
    assert main([*words, "--record", str(record)]) == 0
    server.requests = 0
    assert main(["rerun", str(record), "-o", str(again)]) == 2
    assert server.requests == 0
    assert "is an address" in capsys.readouterr().err
    assert main(["rerun", str(record), "-o", str(again), "--allow-outside"]) == 0


def test_an_address_in_a_file_is_not_followed(server: RangeServer) -> None:
    with pytest.raises(OutsideFolder, match="is an address"):
        images.open_image(f"{server.address}/scene.tif")
    assert server.requests == 0


def test_a_server_that_fails_now_and_then(scene: Path, server: RangeServer) -> None:
    server.codes = [500, 503]
    there = nr.open_image(f"{server.address}/scene.tif")
    server.codes = [502]
    box = nr.Region(0, 0, 200, 200)
    np.testing.assert_array_equal(there.read(box), nr.open_image(scene).read(box))


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([403], r"may not be read \(HTTP 403\)"),
        ([404], r"There is no file .*scene\.tif \(HTTP 404\)"),
        ([500] * 9, r"fails \(HTTP 500\)"),
    ],
)
def test_refusals(server: RangeServer, codes: list[int], message: str) -> None:
    server.codes = codes
    with pytest.raises(UnreadableImage, match=message):
        nr.open_image(f"{server.address}/scene.tif?token=secret")


def test_a_server_that_breaks_off_while_pixels_are_read(server: RangeServer) -> None:
    there = nr.open_image(f"{server.address}/scene.tif?token=secret")
    server.codes = [403] * 99
    with pytest.raises(UnreadableImage) as caught:
        there.read(nr.Region(600, 600, 1000, 1000))
    assert "secret" not in str(caught.value)


def test_a_server_without_ranges(server: RangeServer) -> None:
    server.ranges = False
    with pytest.raises(UnreadableImage, match="sends whole files only"):
        nr.open_image(f"{server.address}/scene.tif")


def test_no_server() -> None:
    with pytest.raises(UnreadableImage, match=r"127\.0\.0\.1:9 does not answer"):
        nr.open_image("http://127.0.0.1:9/scene.tif")


def test_other_formats(server: RangeServer) -> None:
    (server.folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(UnreadableImage, match="no GeoTIFF and no JPEG 2000"):
        nr.open_image(f"{server.address}/a.png")


def test_a_file_that_names_another_one(
    scene: Path, server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rasterio.open(scene, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(scene.parent.parent / "plain.tif"))
    with pytest.raises(UnreadableImage, match="takes pixels from another file"):
        nr.open_image(f"{server.address}/scene.tif")


def test_a_file_that_changes_during_a_run(server: RangeServer, tmp_path: Path) -> None:
    image = nr.open_image(f"{server.address}/scene.tif")
    plan = nr.plan(image, "identity", scratch=tmp_path)
    server.tag = '"2"'
    with pytest.raises(SourceChanged):
        nr.start(plan).result()
