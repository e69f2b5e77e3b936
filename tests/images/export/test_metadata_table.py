"""The table of docs/formats/metadata.md: what exiftool finds in files made of photos."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

import napari_restore as nr
from napari_restore.images import ExportOptions, Pixels, open_image, write_image
from napari_restore.images.values.working_space import srgb_profile

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("exiftool") is None, reason="no exiftool"),
]
PAGE = Path(__file__).resolve().parents[3] / "docs" / "formats" / "metadata.md"
MARKS = ("<!-- what exiftool finds -->\n", "<!-- end -->")

GROUPS: dict[str, dict[str, str]] = {
    "texts of EXIF, in UTF-8": {
        "IFD0:Artist": "Jörg Ö",
        "IFD0:Copyright": "© 2026 Jörg",
        "IFD0:ImageDescription": "Half Dome – Ü",
        "ExifIFD:UserComment": "Grüße von hier",
        "ExifIFD:LensModel": "Ö 35 mm",
    },
    "title, comment, keywords of Windows": {
        "IFD0:XPTitle": "Titel ü",
        "IFD0:XPComment": "Kommentar ß",
        "IFD0:XPKeywords": "Berg;Föhn",
        "IFD0:Rating": "4",
    },
    "exposure, time": {
        "ExifIFD:ExposureTime": "1/100",
        "ExifIFD:FNumber": "4",
        "ExifIFD:ISO": "200",
        "ExifIFD:DateTimeOriginal": "2026:06:01 12:00:00",
        "ExifIFD:OffsetTimeOriginal": "+02:00",
    },
    "place (GPS)": {"GPS:GPSLatitude": "46.5", "GPS:GPSLatitudeRef": "N"},
    "rating, keywords, title of XMP": {
        "XMP-xmp:Rating": "4",
        "XMP-dc:Subject": "Föhn",
        "XMP-dc:Title": "Titel Ä",
    },
    "IPTC": {"IPTC:Keywords": "Föhn", "IPTC:Caption-Abstract": "Überschrift"},
    "colour profile": {},
    "comment of a JPEG (COM)": {"File:Comment": "Grüße, von COM"},
}
ICC = "ICC_Profile:ProfileDescription"
SAME = {"PNG:Comment": "File:Comment"}
"""Names of one field in other formats."""


def tags_of(path: Path) -> dict[str, Any]:
    command = ["exiftool", "-j", "-G1", "-charset", "iptc=UTF8", str(path)]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (tags,) = json.loads(found)
    return {SAME.get(name, name): text for name, text in tags.items()}


def add_tags(path: Path, *, groups: dict[str, dict[str, str]] = GROUPS) -> None:
    options = [f"-{name}={text}" for group in groups.values() for name, text in group.items()]
    command = ["exiftool", "-q", "-overwrite_original", "-charset", "iptc=UTF8"]
    subprocess.run([*command, "-IPTC:CodedCharacterSet=UTF8", *options, str(path)], check=True)


def jpeg(path: Path, light: float = 1.0) -> Path:
    y, x = np.mgrid[:60, :80]
    pixels = np.stack([x * 3, y * 4, x + y], axis=2) * light
    Pillow.fromarray(pixels.astype(np.uint8)).save(path, quality=95, icc_profile=srgb_profile())
    add_tags(path)
    return path


def written(source: Path, target: Path, **options: Any) -> Path:
    image = open_image(source)
    pixels = Pixels((0, 0, image.height, image.width), image.read)
    return write_image(target, pixels, like=image, options=ExportOptions(**options))


def kept(before: dict[str, Any], path: Path) -> list[str]:
    """A word for each of `GROUPS`."""
    after, words = tags_of(path), []
    assert not [name for name in after if name.endswith((":Error", ":Warning"))]
    for name, group in GROUPS.items():
        names = group or ([ICC] if name == "colour profile" else [])
        same = [after.get(tag) == before[tag] for tag in names]
        words.append("yes" if all(same) else "some" if any(same) else "–")
    return words


def raw_with_sidecar(tmp_path: Path, write_dng: Callable[..., None]) -> Path:
    path = tmp_path / "raw.dng"
    y, x = np.mgrid[:96, :128]
    write_dng(path, np.dstack([0.2 + x / 400, 0.3 + y / 400, 0.4 + 0 * x]))
    in_xmp, of_jpeg = "rating, keywords, title of XMP", "comment of a JPEG (COM)"
    groups = {name: group for name, group in GROUPS.items() if name not in (in_xmp, of_jpeg)}
    add_tags(path, groups=groups)
    sidecar = path.with_suffix(".xmp")
    options = [f"-{name}={text}" for name, text in GROUPS[in_xmp].items()]
    subprocess.run(["exiftool", "-q", *options, str(sidecar)], check=True)
    return path


def test_the_table_is_what_exiftool_finds(tmp_path: Path, write_dng: Callable[..., None]) -> None:
    photo = jpeg(tmp_path / "photo.jpg")
    known = tags_of(photo)
    columns = {}
    for name in (".jpg", ".png", ".webp", ".tif"):
        columns[f"`{name}`"] = kept(known, written(photo, tmp_path / f"out{name}"))
        # … and from there on: what was read back is what was written.
        again = kept(known, written(tmp_path / f"out{name}", tmp_path / f"again{name}.jpg"))
        assert again == columns[f"`{name}`"]
    columns["COG"] = kept(known, written(photo, tmp_path / "cog.tif", cog=True))
    again = kept(known, written(tmp_path / "cog.tif", tmp_path / "cog.jpg"))
    assert again == columns["COG"]
    raw = raw_with_sidecar(tmp_path, write_dng)
    columns["RAW to `.jpg`"] = kept(known, written(raw, tmp_path / "raw.jpg"))
    assert kept(known, written(raw, tmp_path / "raw.tif")) == columns["RAW to `.jpg`"]
    frames = [jpeg(tmp_path / f"{n}.jpg", 0.5 + n / 4) for n in range(3)]
    fused = nr.fuse(frames, exposures=[-1, 0, 1], align="off").save(tmp_path / "fused.jpg")
    columns["`fuse` to `.jpg`"] = kept(known, fused)
    lines = [["of a photo", *columns], ["---"] * (len(columns) + 1)]
    lines += [
        [name, *row] for name, row in zip(GROUPS, zip(*columns.values(), strict=True), strict=True)
    ]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    page = PAGE.read_text(encoding="utf-8")
    start, end = (page.find(mark) for mark in MARKS)
    assert page[start + len(MARKS[0]) : end] == table, (
        f"docs/formats/metadata.md should have\n\n{table}"
    )
