"""Makes sheets of pictures for a blind judgement, and counts what the judges said.

    python scripts/panel.py sheets SHEETS KEY --version NAME=COMMAND … PICTURE …
    python scripts/panel.py count KEY ANSWERS …

Each picture is a row of a sheet, each version a column, in an order that differs from row to row and that
only KEY/key.csv has. COMMAND has IN and OUT for the files; an empty one is the picture itself. So a
version can be another program, or another checkout:

    --version untouched= --version "now=napari-restore restore IN -o OUT --model atmosphere"

ANSWERS are CSV files, one of each judge: ``row,column,verdict,chosen,why`` with keep, perhaps or no as the
verdict, and yes where the column is the one that the judge would take. Prints Markdown.
"""

from __future__ import annotations

import argparse
import csv
import random
import shlex
import subprocess
from collections import Counter
from pathlib import Path

from pictures import reduced
from PIL import Image, ImageDraw

SIDE = 640
"""Pixels of the longer side of each picture …"""
BAR = 22
"""… and of the line of text above it."""
ROWS = 3
"""Rows of a sheet."""
VERDICTS = ("keep", "perhaps", "no")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tasks = parser.add_subparsers(required=True)
    sheets = tasks.add_parser("sheets")
    sheets.add_argument("sheets", type=Path)
    sheets.add_argument("key", type=Path, help="a folder that the judges do not see")
    sheets.add_argument("pictures", type=Path, nargs="+")
    sheets.add_argument("--version", action="append", required=True, metavar="NAME=COMMAND")
    sheets.add_argument("--seed", type=int, default=0)
    sheets.set_defaults(run=make)
    count = tasks.add_parser("count")
    count.add_argument("key", type=Path)
    count.add_argument("answers", type=Path, nargs="+")
    count.set_defaults(run=print_counts)
    given = parser.parse_args()
    given.run(given)


def make(given: argparse.Namespace) -> None:
    """Save sheets and key; results that KEY has are taken from there."""
    versions = dict(each.split("=", 1) for each in given.version)
    order = random.Random(given.seed)
    given.sheets.mkdir(parents=True, exist_ok=True)
    pictures = order.sample(given.pictures, len(given.pictures))
    lines, rows = [("row", "column", "picture", "version")], []
    for number, picture in enumerate(pictures, 1):
        names = order.sample(list(versions), len(versions))
        files = [result(picture, name, versions[name], given.key) for name in names]
        rows.append(row_of(number, [reduced(file, SIDE) for file in files]))
        lines += [(str(number), "ABCDEFGH"[n], str(picture), name) for n, name in enumerate(names)]
        print(picture, flush=True)
    with (given.key / "key.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        size = max(row.width for row in part), sum(row.height for row in part)
        sheet, top = Image.new("RGB", size, "white"), 0
        for row in part:
            sheet.paste(row, (0, top))
            top += row.height
        sheet.save(given.sheets / f"sheet{start // ROWS + 1:02d}.png")


def result(picture: Path, name: str, command: str, key: Path) -> Path:
    """Return the file of a version of a picture, made unless it is there."""
    if not command:
        return picture
    out = key / name / f"{'-'.join(picture.with_suffix('').parts[-2:])}.png"
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        files = {"IN": str(picture), "OUT": str(out)}
        subprocess.run([files.get(word, word) for word in shlex.split(command)], check=True)
    return out


def row_of(number: int, pictures: list[Image.Image]) -> Image.Image:
    """Return the pictures side by side, with the row's number and the columns' letters above them."""
    row = Image.new("RGB", (SIDE * len(pictures), BAR + pictures[0].height + 4), "white")
    for n, picture in enumerate(pictures):
        row.paste(picture, (SIDE * n, BAR))
        text = f"row {number}, {'ABCDEFGH'[n]}"
        ImageDraw.Draw(row).text((SIDE * n + 4, 2), text, fill="black", font_size=16)
    return row


def print_counts(given: argparse.Namespace) -> None:
    """Print shares of verdicts by version, and why results were not kept."""
    key = {(e["row"], e["column"]): e for e in table(given.key / "key.csv")}
    answers = [(key[e["row"], e["column"].strip()], e) for f in given.answers for e in table(f)]
    print("| version | keep | perhaps | no | chosen |\n| --- | ---: | ---: | ---: | ---: |")
    for name in sorted({e["version"] for e, _ in answers}):
        own = [answer for entry, answer in answers if entry["version"] == name]
        said = Counter(answer["verdict"].strip() for answer in own)
        shares = [f"{said[word] / len(own):.0%}" for word in VERDICTS]
        chosen = sum(answer["chosen"].strip() == "yes" for answer in own)
        print(f"| {name} | {' | '.join(shares)} | {chosen} of {len(own)} |")
    print()
    for entry, answer in sorted(answers, key=lambda pair: (pair[0]["version"], pair[0]["picture"])):
        if answer["verdict"].strip() != "keep" and answer["why"]:
            picture = "/".join(Path(entry["picture"]).parts[-2:])
            print(f"- {entry['version']}, {picture}: {answer['verdict']}, {answer['why']}")


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


if __name__ == "__main__":
    main()
