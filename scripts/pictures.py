"""Makes docs/lab/pictures.md and its pictures: real photographs, results, and those of another program.

    python scripts/pictures.py ../shared/data [NAME …]

docs/lab/pictures.toml lists the photographs, the options of ``napari-restore`` and what was thought of the
results when they were looked at. The other program is the one that a photographer would otherwise
use: darktable (haze removal and non-local means, with its defaults) or enfuse; without it that
picture stays as it is in docs/images/pictures. NAME: only these.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

DOCS = Path(__file__).resolve().parent.parent / "docs"
FOLDER = DOCS / "images" / "pictures"
SIDE = 360
"""Pixels of the longer side of each picture …"""
GAP = 4
"""… and between them."""
PARAMETERS = {
    "hazeremoval": (1, "0000003f0000803e"),
    "nlmeans": (2, "00000040000048420000003f0000803f"),
}
"""Version and default values of modules of darktable 4.2."""
SIDECAR = """<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:darktable="http://darktable.sf.net/" darktable:xmp_version="5"
 darktable:auto_presets_applied="1" darktable:history_end="1" darktable:iop_order_version="2">
<darktable:history><rdf:Seq><rdf:li darktable:num="0" darktable:operation="{0}" darktable:enabled="1"
 darktable:modversion="{1}" darktable:params="{2}" darktable:multi_priority="0"/></rdf:Seq></darktable:history>
</rdf:Description></rdf:RDF></x:xmpmeta>
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    listed = tomllib.loads((DOCS / "lab" / "pictures.toml").read_text(encoding="utf-8"))
    FOLDER.mkdir(exist_ok=True)
    for group in listed["group"]:
        for entry in group["picture"]:
            if not given.names or entry["name"] in given.names:
                with tempfile.TemporaryDirectory() as folder:
                    make({**group, **entry}, given.data, Path(folder))
    (DOCS / "lab" / "pictures.md").write_text(page(listed), encoding="utf-8")


def make(entry: dict[str, Any], data: Path, folder: Path) -> None:
    """Save before, after and the other program's result side by side."""
    files = [data / name for name in entry["files"]]
    if "noise" in entry:
        files = [noisy(files[0], entry, folder / "noisy.png")]
    ours = folder / "ours.png"
    command = [sys.executable, "-m", "napari_restore", entry["command"], *map(str, files)]
    subprocess.run([*command, *entry["options"], "-o", str(ours)], check=True)
    shown = [reduced(files[len(files) // 2]), reduced(ours)]
    other = folder / "other.tif"
    if beside(entry["beside"], files, other):
        shown.append(reduced(other))
    width = sum(p.width + GAP for p in shown) - GAP
    row = Image.new("RGB", (width, max(p.height for p in shown)), "white")
    left = 0
    for picture in shown:
        row.paste(picture, (left, 0))
        left += picture.width + GAP
    row.save(FOLDER / f"{entry['name']}.jpg", quality=82)
    print(entry["name"], flush=True)


def beside(program: str, files: list[Path], out: Path) -> bool:
    """Run the other program; False if it is not installed."""
    command: list[str | Path]
    if program == "enfuse":
        prefix = out.with_name("aligned")
        align = ["align_image_stack", "-a", prefix, *files]
        command = ["enfuse", "-o", out, *(f"{prefix}{n:04d}.tif" for n in range(len(files)))]
    else:
        sidecar = out.with_name("other.xmp")
        sidecar.write_text(SIDECAR.format(program, *PARAMETERS[program]), encoding="utf-8")
        align = []
        command = ["darktable-cli", files[0], sidecar, out, "--core", "--library", ":memory:"]
        command += ["--configdir", out.with_name("configuration")]
    try:
        for each in filter(None, (align, command)):
            subprocess.run(
                list(map(str, each)),
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
    except FileNotFoundError:
        return False
    return True


def noisy(file: Path, entry: dict[str, Any], out: Path) -> Path:
    """Save what a camera makes of a part of a photograph, as benchmarks/camera_noise.py has it.

    `noise` of the entry is the ISO, `crop` the part as (x, y, width, height), all of them even.
    """
    sys.path.insert(0, str(DOCS.parent / "benchmarks"))
    from camera_noise import BODIES, developed

    with Image.open(file) as picture:
        x, y, width, height = entry["crop"]
        clear = np.asarray(picture.convert("RGB").crop((x, y, x + width, y + height)))
    pixels = developed(clear / 255, next(iter(BODIES.values())), entry["noise"], 1)
    Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(out)
    return out


def reduced(file: Path, side: int = SIDE) -> Image.Image:
    """Return the picture with at most `side` pixels on its longer side."""
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture


def page(listed: dict[str, Any]) -> str:
    """Return the page."""
    lines = [f"# {listed['title']}\n", listed["text"]]
    verdicts = [e["keep"] for group in listed["group"] for e in group["picture"]]
    counts = ", ".join(f"{verdicts.count(word)} {word}" for word in ("keep", "perhaps", "no"))
    lines.append(f"Of {len(verdicts)}: {counts}.\n")
    for group in listed["group"]:
        lines += [f"## {group['title']}\n", group["text"]]
        for entry in group["picture"]:
            options = " ".join(
                [
                    entry.get("command", group.get("command", "")),
                    *entry.get("options", group.get("options", [])),
                ]
            )
            lines.append(f"**{entry['keep']}** – {entry['text']} `{options}` ({entry['source']})\n")
            lines.append(f"![{entry['text']}](../images/pictures/{entry['name']}.jpg)\n")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
