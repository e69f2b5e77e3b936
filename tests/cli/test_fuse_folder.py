"""`fuse` of a folder of brackets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from tests.images.brackets.photos import shoot, two_brackets

import napari_restore as nr
from napari_restore import api


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two brackets of three frames, and a photo of none."""
    folder = two_brackets(tmp_path)
    shoot(folder, "c.jpg", 300, 0)
    return folder


@pytest.mark.slow
def test_each_bracket_becomes_one_file(cli: Any, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "fused"
    run = cli("fuse", photos, "-o", out, "--name", "{stem}_fused.png", "--align", "off", "--json")
    assert run.code == 0, run.err
    assert sorted(path.name for path in out.glob("*.png")) == ["a1_fused.png", "b1_fused.png"]
    assert "c.jpg belongs to no bracket and is left out" in run.err
    assert run.json["done"] == 2
    same = nr.fuse([photos / f"b{n}.jpg" for n in range(3)], align="off", progress=False)
    assert np.array_equal(np.asarray(Pillow.open(out / "b1_fused.png")), np.asarray(same))
    again = cli("fuse", photos, "-o", out, "--name", "{stem}_fused.png", "--align", "off", "--json")
    assert again.json["skipped"] == 2
    summary = json.loads((out / "restore_summary.json").read_text())
    assert set(summary["images"]) == {"a1_fused.png", "b1_fused.png"}


def test_a_folder_is_fused_into_itself(cli: Any, photos: Path) -> None:
    for done in ("done", "skipped"):
        run = cli("fuse", photos, "-o", f"{photos}/", "--align", "off", "--json")
        assert run.code == 0, run.err
        assert run.json[done] == 2
    assert len(list(photos.glob("*_fused.jpg"))) == 2


def test_a_damaged_frame_does_not_stop_the_others(cli: Any, photos: Path, tmp_path: Path) -> None:
    damaged = photos / "a2.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    run = cli("fuse", photos, "-o", tmp_path / "fused", "--align", "off", "--json")
    assert run.code == 2
    assert [entry["status"] for entry in run.json["images"]] == ["failed", "done"]
    assert "a2.jpg" in run.json["images"][0]["error"]["message"]
    assert (tmp_path / "fused" / "b1_fused.jpg").is_file()


@pytest.mark.slow
def test_a_frame_that_changes_meanwhile_ends_its_bracket_alone(
    cli: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, path = api.open_bracket, photos / "a2.jpg"

    def changing(frames: Any, **options: Any) -> Any:
        bracket = opened(frames, **options)
        if bracket.name == "a1":
            with Pillow.open(path) as photo:
                darker, exif = Pillow.fromarray(np.asarray(photo) // 2), photo.getexif()
            darker.save(path, exif=exif)
        return bracket

    arguments = ("fuse", photos, "-o", tmp_path / "fused", "--align", "off", "--json")
    with monkeypatch.context() as patched:
        patched.setattr(api, "open_bracket", changing)
        run = cli(*arguments)
    assert run.code == 2
    assert [entry["status"] for entry in run.json["images"]] == ["failed", "done"]
    assert "a2 has changed" in run.json["images"][0]["error"]["message"]
    again = cli(*arguments)
    assert again.code == 0 and (again.json["done"], again.json["skipped"]) == (1, 1)
    result = nr.fuse([photos / f"a{n}.jpg" for n in range(3)], align="off", progress=False)
    same = result.save(tmp_path / "same.jpg")
    found = np.asarray(Pillow.open(tmp_path / "fused" / "a1_fused.jpg"))
    assert np.array_equal(found, np.asarray(Pillow.open(same)))


def test_a_file_takes_the_only_bracket_of_a_folder(cli: Any, photos: Path, tmp_path: Path) -> None:
    for path in photos.glob("b*.jpg"):
        path.unlink()
    record = tmp_path / "fused.json"
    words = ("-o", tmp_path / "fused.png", "--align", "off", "--record", record)
    run = cli("fuse", photos, *words)
    assert run.code == 0, run.err
    written = json.loads(record.read_text())
    assert [Path(frame["path"]).name for frame in written["frames"]] == [
        f"a{n}.jpg" for n in range(3)
    ]
    assert "c.jpg belongs to no bracket and is left out." in written["notes"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "one.tif"], "There are 2 brackets, but"),
        (["-o", "out/", "--ev", "0", "1", "2"], "--ev is for one bracket"),
        (["-o", "out/", "--reference", "a1.jpg"], "--reference is for one bracket"),
    ],
)
def test_what_suits_one_bracket_only_is_said(
    cli: Any, photos: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    words[1] = f"{tmp_path}/{words[1]}"
    run = cli("fuse", photos, *words)
    assert run.code == 2
    assert said in run.err
    assert not Path(words[1]).exists()


def test_photos_of_no_bracket_are_said(cli: Any, photos: Path, tmp_path: Path) -> None:
    two = (photos / "a0.jpg", photos / "b1.jpg")
    run = cli("fuse", *two, "-o", f"{tmp_path}/out/", "--align", "off")
    # Two photos may be one bracket, whatever their times.
    assert run.code == 0, run.err
    run = cli("fuse", photos / "a0.jpg", "-o", f"{tmp_path}/other/")
    assert run.code == 2
    assert "show no bracket" in run.err
