"""What sources say otherwise is told once by every command, and what the user says comes first."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import rasterio
from PIL import Image

from ._scenes import hazy, write_tiff

LANDSAT = "LC08_L2SP_193026_20220705_20220722_02_T1.tif"
SENTINEL = "S2A_MSIL2A_20230101T101010_N0509_R022_T32TPS.tif"


def bands(folder: Path) -> Path:
    path = write_tiff(folder / "scene.tif", hazy(40, 50, 4, "uint16"))
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("Blue", "Green", "Red", "x")
    return path


def colours(folder: Path) -> Path:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = 1
    adobe = bytes(imagecodecs.cms_profile("adobergb"))
    pixels = np.ascontiguousarray(np.moveaxis(hazy(40, 50), 0, -1))
    Image.fromarray(pixels).save(folder / "photo.jpg", exif=exif, icc_profile=adobe)
    return folder / "photo.jpg"


def sensor(folder: Path) -> Path:
    path = write_tiff(folder / LANDSAT, hazy(40, 50, 4, "uint16"))
    with rasterio.open(path, "r+") as file:
        file.update_tags(SPACECRAFT_ID="LANDSAT_9")
    return path


def zero(folder: Path) -> Path:
    path = write_tiff(folder / SENTINEL, hazy(40, 50, 4, "uint16"))
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.0001,) * 4, (0.0,) * 4
    return path


def light(folder: Path) -> Path:
    import OpenEXR

    pixels = np.random.default_rng(0).random((3, 40, 50), np.float32)
    wide = (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290)
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "chromaticities": wide}
    OpenEXR.File(header, dict(zip("RGB", pixels, strict=True))).write(str(folder / "light.exr"))
    return folder / "light.exr"


FACTS: dict[str, tuple[Callable[[Path], Path], tuple[str, ...], str]] = {
    # How it is written, what the user says, and the note.
    "bands": (bands, (), "Bands 1, 3 are blue, red by name, not red, blue by colour interpretation."),
    "bands, user": (bands, ("--bands", "red=1,blue=3"), "are red, blue by user, not blue, red by name."),
    "colours": (colours, (), "(compatible) by colour profile, not sRGB by EXIF colour space."),
    "sensor": (sensor, (), "sensor is Landsat 8 OLI/TIRS by name, not Landsat 9 OLI-2/TIRS-2 by tags."),
    "sensor, user": (sensor, ("--sensor", "landsat9"), "Landsat 9 OLI-2/TIRS-2 by user, not Landsat 8"),
    "zero": (zero, (), "Its zero is DN 0 by scale and offset, not DN 1000"),
    "light": (light, (), "Its primaries are not those of sRGB"),
}  # fmt: skip
Ask = Callable[..., Any]


def restored(cli: Ask, path: Path, words: tuple[str, ...], *more: object) -> tuple[str, list[str]]:
    """Restore a file; return what the command writes, and the notes of its record."""
    record = path.parent / "record.json"
    out = path.parent / "out.tif"
    run = cli("restore", path, "-o", out, "--model", "identity", "--record", record, *words, *more)
    assert run.code == 0, run.err
    return run.err, json.loads(record.read_text())["notes"]


def info(cli: Ask, path: Path, words: tuple[str, ...]) -> tuple[str, list[str]]:
    notes = cli("info", path, *words, "--json").json["notes"]
    return cli("info", path, *words).out, notes


def planned(cli: Ask, path: Path, words: tuple[str, ...]) -> tuple[str, list[str] | None]:
    return cli("plan", path, "--model", "identity", *words).out, None


def folder(cli: Ask, path: Path, words: tuple[str, ...]) -> tuple[str, list[str]]:
    home = path.parent
    (home / "in").mkdir()
    shutil.copy(path, home / "in")
    run = cli("restore", home / "in", "-o", home / "all", "--model", "identity",
              "--record", home / "{stem}.json", *words)  # fmt: skip
    assert run.code == 0, run.err
    return run.err, json.loads((home / f"{path.stem}.json").read_text())["notes"]


def rerun(cli: Ask, path: Path, words: tuple[str, ...]) -> tuple[str, list[str]]:
    restored(cli, path, words)
    run = cli("rerun", path.parent / "record.json", "-o", path.parent / "again.tif", "--json")
    return run.err, run.json["notes"]


DOORS = {"info": info, "plan": planned, "restore": restored, "folder": folder, "rerun": rerun}


def check(told: tuple[str, list[str] | None], note: str) -> None:
    text, notes = told
    assert text.count(note) == 1, text
    assert notes is None or sum(note in each for each in notes) == 1


@pytest.mark.ids("slow", *(f"{fact}-rerun" for fact in FACTS if fact != "colours"))
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("fact", FACTS)
def test_a_command_tells_once_what_is_said_otherwise(
    cli: Ask, tmp_path: Path, fact: str, door: str
) -> None:
    write, words, note = FACTS[fact]
    check(DOORS[door](cli, write(tmp_path), words), note)


@pytest.mark.slow
@pytest.mark.parametrize("fact", ["bands, user", "colours"])
def test_a_cluster_tells_it(cli: Ask, tmp_path: Path, fact: str) -> None:
    distributed = pytest.importorskip("distributed")
    write, words, note = FACTS[fact]
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", protocol="tcp"
    ) as cluster:
        address = f"insecure+{cluster.scheduler_address}"
        check(restored(cli, write(tmp_path), words, "--cluster", address), note)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("attribute", "--model", "haze-unet", "--box", 10, 10, 8, 8, "--steps", 2),
        ("attend", "--model", "hint-small-denoise", "--query", 10, 10),
    ],
    ids=["attribute", "attend"],
)
def test_an_explanation_tells_it(cli: Ask, tmp_path: Path, command: tuple[object, ...]) -> None:
    write, _, note = FACTS["colours"]
    name, *words = command
    out = tmp_path / ("map.tif" if name == "attribute" else "heads.npz")
    record = tmp_path / "record.json"
    run = cli(name, write(tmp_path), *words, "-o", out, "--record", record)
    assert run.code == 0, run.err
    check((run.err, json.loads(record.read_text())["notes"]), note)


@pytest.mark.slow
def test_a_table_of_boxes_tells_it_once(cli: Ask, tmp_path: Path) -> None:
    write, _, note = FACTS["colours"]
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("x,y,width,height\n5,5,8,8\n20,20,8,8\n")
    words = ("--model", "dcp", "--boxes", boxes, "--steps", 2, "-o", tmp_path / "t.csv")
    run = cli("attribute", write(tmp_path), *words)
    assert run.code == 0, run.err
    check((run.err, None), note)
