"""Images in buckets: the same pixels, few bytes, and no secret in what is written."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from range_server import RangeServer

import napari_restore as nr
from napari_restore.commands import main
from napari_restore.errors import OutsideFolder, SourceChanged, UnreadableImage
from napari_restore.images import open_image
from napari_restore.images.files.buckets import access_to

pytest.importorskip("obstore")

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI"


@pytest.fixture
def folder(random_cog: Path, tmp_path: Path) -> Path:
    """The bucket "scenes", and the same as a container of the account "account"."""
    bucket = tmp_path / "web" / "scenes" / "2026"
    bucket.mkdir(parents=True)
    (tmp_path / "web" / "account").mkdir()
    (tmp_path / "web" / "account" / "scenes").symlink_to(bucket.parent)
    shutil.copy(random_cog, bucket / "a scene.tif")
    return tmp_path / "web"


@pytest.fixture
def server(folder: Path, bucket_server: RangeServer) -> RangeServer:
    return bucket_server


def set_keys(monkeypatch: pytest.MonkeyPatch, key: str = KEY) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
@pytest.mark.ids("slow", "az")
def test_pixels_are_those_of_the_file_and_few_bytes_are_sent(
    folder: Path, server: RangeServer, scheme: str
) -> None:
    here = nr.open_image(folder / "scenes" / "2026" / "a scene.tif")
    there = nr.open_image(f"{scheme}://scenes/2026/a scene.tif")
    box = nr.Region(300, 500, 600, 800)
    server.sent = 0
    np.testing.assert_array_equal(there.read(box), here.read(box))
    # Rows 1 and 2, columns 1 to 3 of 256 pixels; random bytes are as long compressed.
    assert 0 < server.sent <= 1.3 * 2 * 3 * 3 * 256**2
    assert there.level_shapes == here.level_shapes
    assert set(server.asked) == {f"{'account/' * (scheme == 'az')}scenes/2026/a scene.tif"}


@pytest.mark.slow
def test_keys_of_a_profile_and_no_secret_in_what_is_written(
    folder: Path, server: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = KEY
    (tmp_path / ".aws").mkdir()
    text = f"[work]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
    (tmp_path / ".aws" / "credentials").write_text(text, "utf-8")
    monkeypatch.setenv("AWS_PROFILE", "work")
    outputs = []
    for source in (str(folder / "scenes/2026/a scene.tif"), "s3://scenes/2026/a scene.tif"):
        output = tmp_path / f"{len(outputs)}.tif"
        record = tmp_path / f"{len(outputs)}.json"
        words = ["restore", source, "-o", str(output), "--model", "dcp", "--record", str(record)]
        assert main([*words, "--srcwin", "100", "100", "400", "300"]) == 0
        outputs.append(output)
    alone, remote = (rasterio.open(path).read() for path in outputs)
    np.testing.assert_array_equal(alone, remote)
    written = outputs[1].read_bytes() + (tmp_path / "1.json").read_bytes()
    assert KEY.encode() not in written and SECRET.encode() not in written
    record = json.loads((tmp_path / "1.json").read_text("utf-8"))
    assert record["input"]["path"] == "s3://scenes/2026/a scene.tif"


@pytest.mark.slow
def test_no_permission(
    server: RangeServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.key = KEY
    set_keys(monkeypatch, "AKIDOTHER")
    words = ["restore", "s3://scenes/2026/a scene.tif", "-o", str(tmp_path / "o.tif")]
    assert main([*words, "--model", "identity"]) == 2
    error = capsys.readouterr().err
    assert "s3://scenes/2026/a scene.tif may not be read (HTTP 403)" in error
    assert "AKIDOTHER" not in error and SECRET not in error
    assert len(server.asked) == 1


@pytest.mark.parametrize("name", ["nobucket/a.tif", "scenes/nothing.tif"])
def test_no_such_bucket_or_object(server: RangeServer, name: str) -> None:
    with pytest.raises(UnreadableImage, match=rf"There is no file s3://{name}"):
        nr.open_image(f"s3://{name}")


@pytest.mark.parametrize("address", ["s3://", "s3://scenes", "s3:///a.tif", "gs://a/b.tif?x=1"])
@pytest.mark.slow
def test_addresses_without_an_object(server: RangeServer, address: str) -> None:
    with pytest.raises(UnreadableImage, match="names no object of a bucket"):
        nr.open_image(address)
    assert server.requests == 0


@pytest.mark.slow
def test_a_server_that_fails(
    folder: Path, server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.codes = [500, 503]
    there = nr.open_image("s3://scenes/2026/a scene.tif")
    server.codes = [502]
    box = nr.Region(0, 0, 200, 200)
    here = nr.open_image(folder / "scenes" / "2026" / "a scene.tif")
    np.testing.assert_array_equal(there.read(box), here.read(box))
    server.codes = [403] * 99
    with pytest.raises(UnreadableImage, match=r"a scene\.tif cannot be read"):
        there.read(nr.Region(600, 600, 1000, 1000))
    server.codes = [500] * 99
    with pytest.raises(UnreadableImage, match=r"fails \(HTTP 500\)"):
        nr.open_image("s3://scenes/2026/a scene.tif")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(UnreadableImage, match="does not answer"):
        nr.open_image("s3://scenes/2026/a scene.tif")


@pytest.mark.slow
def test_answers_that_end_early(folder: Path, server: RangeServer) -> None:
    server.breaks = 1
    there = nr.open_image("s3://scenes/2026/a scene.tif")
    here = nr.open_image(folder / "scenes" / "2026" / "a scene.tif")
    server.breaks = 1
    box = nr.Region(0, 0, 200, 200)
    np.testing.assert_array_equal(there.read(box), here.read(box))
    server.breaks = 99
    with pytest.raises(UnreadableImage, match=r"a scene\.tif cannot be read"):
        there.read(nr.Region(300, 300, 400, 400))
    with pytest.raises(UnreadableImage, match="does not answer"):
        nr.open_image("s3://scenes/2026/a scene.tif")


@pytest.mark.slow
@pytest.mark.parametrize("start", ["s3", "http"])
@pytest.mark.ids("nightly", "s3", "http")
def test_answers_that_stall(
    folder: Path, server: RangeServer, short_patience: None, start: str
) -> None:
    address = "s3://scenes/2026/a scene.tif"
    if start == "http":
        address = f"{server.address}/scenes/2026/a%20scene.tif"
    there = nr.open_image(address)
    here = nr.open_image(folder / "scenes" / "2026" / "a scene.tif")
    server.hangs = 1
    box = nr.Region(800, 800, 1000, 1000)
    np.testing.assert_array_equal(there.read(box), here.read(box))
    server.hangs = 99
    with pytest.raises(UnreadableImage, match=r"a scene\.tif cannot be read"):
        there.read(nr.Region(300, 300, 400, 400))
    with pytest.raises(UnreadableImage, match="does not answer"):
        nr.open_image(address)


def test_a_bucket_in_a_file_is_not_followed(server: RangeServer) -> None:
    with pytest.raises(OutsideFolder, match="is an address"):
        open_image("s3://scenes/2026/a scene.tif")
    assert server.requests == 0


@pytest.mark.nightly
def test_an_object_that_changes_during_a_run(server: RangeServer, tmp_path: Path) -> None:
    image = nr.open_image("s3://scenes/2026/a scene.tif")
    plan = nr.plan(image, "identity", scratch=tmp_path)
    server.tag = '"2"'
    with pytest.raises(SourceChanged):
        nr.start(plan).result()


@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_an_object_that_was_replaced_is_read_anew(
    folder: Path, server: RangeServer, scheme: str
) -> None:
    start = "s3:/" if scheme == "s3" else server.address
    path, box = folder / "scenes" / "b.tif", nr.Region(0, 0, 300, 300)
    pixels = np.zeros((3, 300, 300), np.uint8)
    for value in (1, 2):
        with rasterio.open(
            path, "w", driver="GTiff", height=300, width=300, count=3, dtype="uint8"
        ) as file:
            file.write(pixels + np.uint8(value))
        server.tag = f'"{value}"'
        assert (nr.open_image(f"{start}/scenes/b.tif").read(box) == value).all()


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(UnreadableImage, match=r"pip install \"napari-restore\[buckets\]"):
        nr.open_image("s3://scenes/a.tif")


# -- what the environment says ---------------------------------------------------------


def test_without_keys_nothing_is_signed(server: RangeServer) -> None:
    assert access_to("s3").gdal["AWS_NO_SIGN_REQUEST"] == "YES"
    assert access_to("gs").store["skip_signature"]


@pytest.mark.slow
def test_keys_that_another_program_hands_out(
    server: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text("[profile work]\nregion = eu-west-1\nsso_session = x\n", "utf-8")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "work")
    with pytest.raises(UnreadableImage, match="profile work gets its keys by sso_session"):
        access_to("s3")
    set_keys(monkeypatch)
    assert access_to("s3").store["region"] == "eu-west-1"


@pytest.mark.slow
def test_a_damaged_file_of_keys_is_not_quoted(server: RangeServer, tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(f"{SECRET}\n", "utf-8")
    with pytest.raises(UnreadableImage) as caught:
        access_to("s3")
    assert SECRET not in str(caught.value) and caught.value.__suppress_context__


@pytest.mark.slow
def test_an_endpoint_without_a_scheme(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_S3_ENDPOINT", "minio:9000")
    assert access_to("s3").store["endpoint"] == "https://minio:9000"
    monkeypatch.setenv("AWS_HTTPS", "NO")
    access = access_to("s3")
    assert access.store["endpoint"] == "http://minio:9000"
    assert access.gdal["AWS_S3_ENDPOINT"] == "minio:9000"


def test_access_shows_no_key(server: RangeServer) -> None:
    assert "c2VjcmV0" not in repr(access_to("az"))


@pytest.mark.slow
def test_azure_needs_an_account(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    with pytest.raises(UnreadableImage, match="in which account"):
        access_to("az")
