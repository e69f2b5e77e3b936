"""Nothing half written, nothing lost, and what cannot be written is said early."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from napari_restore.errors import BadOutput, Cancelled, DiskFull
from napari_restore.images import ExportOptions, Pixels, check_output, open_image, write_image
from napari_restore.images.export import _geotiff
from napari_restore.images.export.write import name_beside, remove_leftovers


@pytest.fixture
def image(tmp_path: Path) -> Any:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "in.tif"
    pixels = np.random.default_rng(2).integers(1, 255, (3, 620, 530), dtype=np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", count=3, height=620, width=530, dtype="uint8"
    ) as dataset:
        dataset.write(pixels)
    return open_image(path)


def write(image: Any, path: Path, read: Any = None, **more: Any) -> Path:
    box = (0, 0, image.height, image.width)
    return write_image(path, Pixels(box, read or image.read), like=image, **more)


def test_cancel_leaves_nothing(tmp_path: Path, image: Any) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for cog in (False, True):
        asked = iter([False, True, True, True])
        with pytest.raises(Cancelled):
            write(image, out / "x.tif", cancelled=asked.__next__, options=ExportOptions(cog=cog))
        assert list(out.iterdir()) == []


@pytest.mark.filterwarnings("error::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("name", ["a.tif", "cog.tif", "rows.tif", "a.png", "a.jpg"])
def test_no_place_on_a_map_is_no_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "rows.tif":
        # As if rows were too long to be held: GDAL makes the overviews then.
        monkeypatch.setattr("napari_restore.images.export._geotiff.BLOCK_BYTES", 0)
    pixels = np.random.default_rng(2).integers(1, 255, (620, 530, 3), dtype=np.uint8)
    options = ExportOptions(cog=name == "cog.tif")
    out = write(open_image(pixels), tmp_path / name, options=options)
    assert open_image(out).georeference is None


def test_error_leaves_the_old_file(tmp_path: Path, image: Any) -> None:
    out = tmp_path / "out.tif"
    out.write_bytes(b"precious")

    def fail(box: Any) -> np.ndarray:
        if box[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return image.read(box)

    with pytest.raises(DiskFull):
        write(image, out, read=fail, options=ExportOptions(overwrite=True))
    assert out.read_bytes() == b"precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out.tif"]


@pytest.mark.parametrize("suffix", [".tif", ".png", ".zarr"])
def test_full_disk_is_noticed_while_writing(
    tmp_path: Path, image: Any, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr("napari_restore.images.export._job.free_bytes", lambda path: 0)
    with pytest.raises(DiskFull, match="No space"):
        write(image, tmp_path / f"out{suffix}")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("damage", ["cut", "altered"])
def test_a_file_damaged_on_its_way_is_not_taken(
    tmp_path: Path, image: Any, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    own = _geotiff.write

    def damaging(job: Any, path: Path) -> None:
        own(job, path)
        if damage == "cut":
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])
        else:
            with rasterio.open(path, "r+") as d:
                d.write(np.zeros((3, 620, 530), np.uint8))

    monkeypatch.setattr(_geotiff, "write", damaging)
    with pytest.raises(BadOutput):
        write(image, tmp_path / "out.tif")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_overwriting_drops_stale_sidecars(tmp_path: Path, image: Any) -> None:
    out = tmp_path / "out.tif"
    write(image, out)
    for end in (".aux.xml", ".ovr"):
        (tmp_path / f"out.tif{end}").write_text("of the old file")
    with pytest.raises(BadOutput, match="exists"):
        write(image, out)
    write(image, out, options=ExportOptions(overwrite=True))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out.tif"]
    with rasterio.open(out) as written, rasterio.open(image.path) as source:
        np.testing.assert_array_equal(written.read(), source.read())


def test_check_output(tmp_path: Path, image: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    check_output(tmp_path / "new.tif")
    with pytest.raises(BadOutput, match="input itself"):
        check_output(image.path, [image.path], overwrite=True)
    with pytest.raises(BadOutput, match="input itself"):
        write(
            image, tmp_path / "in" / ".." / "in" / "in.tif", options=ExportOptions(overwrite=True)
        )
    with pytest.raises(BadOutput, match="exists already"):
        check_output(image.path)
    with pytest.raises(BadOutput, match="does not exist"):
        check_output(tmp_path / "no" / "x.tif")
    with pytest.raises(BadOutput, match="suffix"):
        check_output(tmp_path / "x.docx")
    with pytest.raises(BadOutput, match="a folder"):
        (tmp_path / "x.tif").mkdir()
        check_output(tmp_path / "x.tif", overwrite=True)
    with pytest.raises(BadOutput, match="a folder"):
        (tmp_path / "photos.zarr").mkdir()
        check_output(tmp_path / "photos.zarr", overwrite=True)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(BadOutput, match="may not be written"):
        check_output(tmp_path / "new.tif")


def test_what_a_format_cannot_hold_is_said_early(tmp_path: Path, image: Any) -> None:
    check_output(tmp_path / "x.png", like=image, dtype="uint16")
    with pytest.raises(BadOutput, match="5 bands"):
        check_output(tmp_path / "x.png", like=image, shape=(9, 9, 5))
    with pytest.raises(BadOutput, match="4 bands"):
        check_output(tmp_path / "x.jpg", like=image, shape=(9, 9, 4))
    with pytest.raises(BadOutput, match="float32"):
        check_output(tmp_path / "x.jpg", like=image, dtype="float32")
    with pytest.raises(BadOutput, match="65500"):
        check_output(tmp_path / "x.jpg", like=image, shape=(9, 70000, 3))
    with pytest.raises(BadOutput, match="compression"):
        ExportOptions(compress="rar")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("x.png", {"quality": 80}, "quality=80 is for .jpg, .webp and .tif, and x.png is PNG"),
        ("x.zarr", {"quality": 80}, "x.zarr is OME-Zarr"),
        ("x.tif", {"quality": 80}, "quality=80 is for JPEG compression"),
        ("x.webp", {"subsampling": "4:2:0"}, "is for .jpg, and x.webp is WebP"),
        ("x.tif", {"subsampling": "4:2:0", "compress": "jpeg"}, "is for .jpg"),
        ("x.jpg", {"compress": "lzw"}, "x.jpg is JPEG"),
        ("x.zarr", {"compress": "lzw"}, "compressed by zstd"),
        ("x.png", {"cog": True}, "cog=True is for .tif"),
        ("x.png", {"level": 9}, "level=9"),
        ("x.tif", {"level": 9, "compress": "lzw"}, 'compress="lzw" has no level=9'),
        ("x.zarr", {"profile": "sRGB"}, "x.zarr is OME-Zarr"),
    ],
)
def test_options_of_another_format_are_refused(
    tmp_path: Path, image: Any, name: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadOutput, match=re.escape(words)):
        check_output(tmp_path / name, like=image, options=ExportOptions(**options))
    with pytest.raises(BadOutput, match=re.escape(words)):
        write_image(
            tmp_path / name,
            Pixels((0, 0, image.height, image.width), image.read),
            like=image,
            options=ExportOptions(**options),
        )
    assert not (tmp_path / name).exists()


def test_options_that_a_format_has_are_taken(tmp_path: Path, image: Any) -> None:
    for name, options in {
        "x.tif": {"quality": 80, "compress": "jpeg"},
        "y.tif": {"level": 9, "compress": "zstd", "cog": True},
        "x.webp": {"quality": 80},
        "x.zarr": {"compress": "none"},
        "x.png": {"compress": "deflate", "overviews": False},
    }.items():
        check_output(tmp_path / name, like=image, options=ExportOptions(**options))


def test_counts_of_a_satellite_are_not_squeezed_into_8_bit(tmp_path: Path, data_dir: Path) -> None:
    satellite = open_image(data_dir / "geotiff" / "landsat8_tokyo_b432_uint16.tif")
    with pytest.raises(BadOutput, match="uint16"):
        check_output(tmp_path / "x.jpg", like=satellite)
    with pytest.raises(BadOutput, match="bit depth"):
        check_output(tmp_path / "x.tif", like=satellite, options=ExportOptions(bit_depth=8))


@pytest.fixture
def ended() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_what_a_killed_process_left_goes_with_the_next_write(
    tmp_path: Path, image: Any, ended: int
) -> None:
    out = tmp_path / "grüße [1].tif"
    own = name_beside(out, "part").name
    dead = own.replace(f"-{os.getpid()}-", f"-{ended}-")
    stem = dead.removesuffix(".tif")
    for name in (dead, f"{stem}.level1.tif", f"{stem}.plain.tif", f"{dead}.aux.xml"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / f"{stem}.zarr").mkdir()
    others = [own, dead.replace("grüße", "other"), ".grüße [1]-mine.part.tif"]
    for name in others:
        (tmp_path / name).write_bytes(b"not to be touched")
    write(image, out)
    assert {p.name for p in tmp_path.iterdir()} == {"in", out.name, *others}


def test_an_old_result_is_kept_while_it_is_the_only_one(tmp_path: Path, ended: int) -> None:
    out = tmp_path / "a.zarr"
    old = tmp_path / name_beside(out, "old").name.replace(f"-{os.getpid()}-", f"-{ended}-")
    old.mkdir()
    remove_leftovers(out)
    assert old.is_dir()
    out.mkdir()
    remove_leftovers(out)
    assert not old.exists()
