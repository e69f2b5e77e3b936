"""Bad input: exit 2, one sentence, nothing written."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from napari_restore import api
from napari_restore.commands import main
from napari_restore.errors import UnreadableImage

from ._scenes import hazy, picture, read, write_tiff


def bad_files(folder: Path) -> dict[str, Path]:
    paths = {
        "missing": folder / "missing.tif",
        "empty": folder / "empty.tif",
        "text": folder / "text.tif",
        "folder": folder / "folder",
        "truncated.tif": folder / "truncated.tif",
        "truncated.jpg": folder / "truncated.jpg",
        "truncated.png": folder / "truncated.png",
    }
    paths["empty"].write_bytes(b"")
    paths["text"].write_text("this is no image\n" * 100)
    paths["folder"].mkdir()
    whole = write_tiff(folder / "whole.tif", hazy())
    paths["truncated.tif"].write_bytes(whole.read_bytes()[:9000])
    whole.unlink()
    paths["truncated.jpg"].write_bytes(picture("RGB", "JPEG")[:700])
    paths["truncated.png"].write_bytes(picture("RGB", "PNG")[:3000])
    return paths


@pytest.mark.parametrize(
    "kind",
    ["missing", "empty", "text", "folder", "truncated.tif", "truncated.jpg", "truncated.png"],
)
def test_unreadable_images(cli, tmp_path, kind):
    path = bad_files(tmp_path)[kind]
    run = cli("restore", path, "-o", tmp_path / "out.tif", "--model", "dcp")
    assert run.code == 2, run.err
    assert path.name in run.err
    assert "Traceback" not in run.err
    assert not (tmp_path / "out.tif").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--srcwin", "0", "0", "0", "10"], "region"),
        (["--srcwin", "5000", "0", "10", "10"], "outside"),
        (["--model", "dpc"], "dcp"),
        (["--set", "omga=1"], "omega"),
        (["--set", "omega=7"], "omega"),
        (["--set", "omega=much"], "omega"),
        (["--model", "inf-dehaze-fast"], "weights"),
        (["--memory", "lots"], "lots"),
        (["--device", "abacus"], "abacus"),
        (["--mask", "missing.tif"], "missing.tif"),
        (["--context", "missing.npz"], "missing.npz"),
    ],
)
def test_wrong_options(cli, scene, tmp_path, words, said):
    out = tmp_path / "out.tif"
    words = words if "--model" in words else ["--model", "dcp", *words]
    run = cli("restore", scene, "-o", out, *words)
    assert run.code == 2, run.err
    assert said in run.err
    assert run.err.startswith("napari-restore: ") and "Traceback" not in run.err
    assert not out.exists()


def test_errors_are_json_too(cli, tmp_path):
    run = cli("info", tmp_path / "missing.tif", "--json")
    assert run.code == 2
    assert run.json["error"]["type"] == "UnreadableImage"
    assert run.json["error"]["exit_code"] == 2


def test_missing_roles_are_asked_for(cli, tmp_path):
    source = write_tiff(tmp_path / "s.tif", hazy(bands=4), photometric="MINISBLACK")
    run = cli("restore", source, "-o", tmp_path / "out.tif", "--model", "hot")
    assert run.code == 2
    assert "--bands blue=N,red=N, counted from 1" in run.err
    assert not (tmp_path / "out.tif").exists()


def test_too_few_bands_for_the_model(cli, tmp_path):
    gray = write_tiff(tmp_path / "gray.tif", hazy(bands=1))
    run = cli("restore", gray, "-o", tmp_path / "out.tif", "--model", "hot")
    assert run.code == 2
    assert "has only 1 band" in run.err
    assert not (tmp_path / "out.tif").exists()


def test_roles_can_be_told(cli, tmp_path):
    source = write_tiff(tmp_path / "s.tif", hazy(bands=4, dtype="uint16"), photometric="MINISBLACK")
    words = ["restore", source, "-o", tmp_path / "out.tif", "--model", "hot"]
    assert cli(*words).code == 2
    run = cli(*words, "--bands", "blue=1,green=2,red=3,nir=4")
    assert run.code == 0, run.err
    wrong = cli(*words, "--bands", "blue=9", "--overwrite")
    assert wrong.code == 2 and "9" in wrong.err


def test_a_mask_of_another_size_without_a_place(cli, scene, tmp_path):
    Picture.new("L", (10, 10), 255).save(tmp_path / "mask.png")
    words = ["restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp"]
    run = cli(*words, "--mask", tmp_path / "mask.png")
    assert run.code == 2 and "mask" in run.err


def test_outputs_that_may_not_be(cli, scene, tmp_path):
    content = scene.read_bytes()
    existing = tmp_path / "existing.tif"
    existing.write_bytes(b"precious")
    for out in (scene, existing, tmp_path / "out.xyz", tmp_path / "no" / "folder.tif"):
        run = cli("restore", scene, "-o", out, "--model", "dcp")
        assert run.code == 2, (out, run.err)
    assert cli("restore", scene, "-o", scene, "--model", "dcp", "--overwrite").code == 2
    assert scene.read_bytes() == content
    assert existing.read_bytes() == b"precious"
    assert cli("restore", scene, "-o", existing, "--model", "dcp", "--overwrite").code == 0
    assert read(existing).shape == (3, 160, 200)


@pytest.fixture
def no_run(monkeypatch):
    """Running anything fails the test."""

    def start(*_: object, **__: object) -> None:
        pytest.fail("the run was started")

    monkeypatch.setattr(api, "start", start)


@pytest.mark.usefixtures("no_run")
@pytest.mark.parametrize(
    ("kind", "name", "words", "said"),
    [
        ("uint8", "o.tif", ["--compress", "brotli"], "brotli"),
        ("uint16", "o.tif", ["--compress", "jpeg"], "JPEG"),
        ("uint8", "o.tif", ["--bit-depth", "32"], "bit-depth"),
        ("uint8", "o.tif", ["--bit-depth", "16"], "bit depth"),
        ("uint8", "o.jpg", ["--quality", "900"], "900"),
        ("uint16", "o.jpg", [], "uint16"),
        ("bands", "o.jpg", [], "4 bands"),
        ("uint8", "o.xyz", [], "suffix"),
        ("uint8", "o.tif", ["--maps", "file"], "not a folder"),
        ("uint8", "o.tif", ["--record", "missing/r.json"], "missing"),
        ("uint8", "o.tif", ["--record", "file"], "exists"),
        ("uint8", "o.tif", ["--record", "{source}", "--overwrite"], "input"),
        ("uint8", "o.tif", ["--record", "o.tif"], "twice"),
        ("uint8", "o.tif", ["--feather", "5"], "--mask"),
        ("uint8", "mask.tif", ["--mask", "mask.tif", "--overwrite"], "input"),
        ("uint8", "o.tif", ["--mask", "mask.tif", "--record", "mask.tif", "--overwrite"], "input"),
        ("uint8", "change.tif", ["--maps", "."], "twice"),
    ],
)
def test_outputs_that_cannot_be_are_known_before_the_run(
    cli, tmp_path, monkeypatch, kind, name, words, said
):
    monkeypatch.chdir(tmp_path)
    Path("file").write_bytes(b"precious")
    write_tiff(Path("mask.tif"), np.full((1, 160, 200), 255, "uint8"))
    dtype, bands = ("uint8", 4) if kind == "bands" else (kind, 3)
    source = write_tiff(Path("source.tif"), hazy(bands=bands, dtype=dtype))
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    words = [word.format(source=source) for word in words]
    run = cli("restore", source, "-o", name, "--model", "identity", *words)
    assert run.code == 2 and said in run.err
    assert "Traceback" not in run.err
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.skipif(
    os.name == "nt" or getattr(os, "geteuid", lambda: 0)() == 0, reason="root may write anywhere"
)
def test_a_folder_that_may_not_be_written(cli, scene, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    assert cli("restore", scene, "-o", locked / "o.tif", "--model", "dcp").code == 2


def test_view_checks_its_paths(cli, tmp_path):
    assert cli("view", tmp_path / "missing.tif").code == 2


def test_view_hands_addresses_on_as_they_are(monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(subprocess, "call", lambda argv, **_: called.append(argv) or 0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scene.tif").touch()
    assert main(["view", "scene.tif", "https://example.org/scene.tif?signature=x"]) == 0
    words = [str(tmp_path / "scene.tif"), "https://example.org/scene.tif?signature=x"]
    assert called[0][3:5] == words


@pytest.mark.parametrize(
    "words",
    [
        ("info", ""),
        ("restore", "", "-o", "o.tif", "--model", "dcp"),
        ("restore", "s.tif", "-o", "", "--model", "dcp"),
        ("restore", "s.tif", "-o", "o.tif", "--model", ""),
        ("restore", "s.tif", "-o", "o.tif", "--model", "dcp", "--mask", ""),
        ("restore", "s.tif", "-o", "o.tif", "--model", "haze-unet", "--weights", ""),
        ("attribute", "s.tif", "--model", "dcp", "--boxes", "", "-o", "o.csv"),
        ("rerun", ""),
        ("inspect", ""),
    ],
)
def test_an_empty_name_is_called_so(cli, words):
    run = cli(*words)
    assert run.code == 2 and "it is empty" in run.err
    with pytest.raises(UnreadableImage, match="'' is no name of a file"):
        api.open_image("")
