"""Attribution targets of a table, and CSV files of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_restore.engine import Region
from napari_restore.errors import InputError
from napari_restore.explain.attribution.files import Cells, csv_rows
from napari_restore.explain.attribution.target import Polygon, polygon_of

SIDES = ("x", "y", "width", "height")
"""Required columns of a table of boxes, in level-0 pixels."""


@dataclass(frozen=True)
class TableTarget:
    """An attribution target: a box or a polygon of one image, or of every one."""

    name: str
    box: Region | None
    polygon: tuple[tuple[float, float], ...] | None = None
    """Vertices (y, x), instead of a box."""
    image: str | None = None
    """Image file; None for every image given."""

    @property
    def bounds(self) -> Region:
        """The box, or the smallest that contains the polygon."""
        if self.box is not None:
            return self.box
        assert self.polygon is not None, "a target is a box or a polygon"
        return Polygon(self.polygon).box

    def to_dict(self) -> dict[str, Any]:
        """Return all but the image as JSON."""
        box = None if self.box is None else list(self.box)
        polygon = None if self.polygon is None else [list(vertex) for vertex in self.polygon]
        return {"name": self.name, "box": box, "polygon": polygon}


def targets_of(
    boxes: str | os.PathLike[str] | Sequence[Any] | None, polygon: Sequence[Sequence[float]] | None
) -> list[TableTarget]:
    """Return the targets of a CSV file, of boxes, or of one polygon; raises `InputError`, `BadParameter`."""
    if (boxes is None) == (polygon is None):
        raise InputError("A table needs boxes or a polygon.", "Give one of the two.")
    if polygon is not None:
        return [TableTarget("1", None, polygon_of(polygon).vertices)]
    if isinstance(boxes, (str, os.PathLike)):
        return read_targets(Path(boxes))
    targets = [
        box
        if isinstance(box, TableTarget)
        else TableTarget(str(number), Region(*(int(v) for v in box)))
        for number, box in enumerate(boxes or (), 1)
    ]
    if not targets:
        raise InputError("No box is given.", "Give at least one.")
    return targets


def read_targets(path: Path) -> list[TableTarget]:
    """Read the boxes of a CSV file, columns `SIDES` and perhaps name and image; raises `InputError` with the line."""
    # Paths of images are relative to the folder of the table.
    rows = csv_rows(path, SIDES, "name and image")
    return [_target(path, line, row, number) for number, (line, row) in enumerate(rows, 1)]


def _target(path: Path, line: int, row: Cells, number: int) -> TableTarget:
    try:
        x, y, width, height = (int(row[column]) for column in SIDES)
    except ValueError:
        raise InputError(
            f"Line {line} of {path} is not a box: {', '.join(row[column] for column in SIDES)}.",
            "Write x, y, width and height as whole numbers of pixels.",
        ) from None
    image = None
    if "image" in row:
        file = path.parent / row["image"]
        if not row["image"] or not file.exists():
            raise InputError(
                f"Line {line} of {path} names an image that does not exist: {row['image']!r}.",
                "Paths are relative to the folder of the table.",
            )
        image = str(file)
    box = Region.from_xywh(x, y, width, height)
    return TableTarget(row.get("name") or str(number), box, None, image)
