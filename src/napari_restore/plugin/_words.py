"""What the panel says of an image and of a finished run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_restore._format import format_seconds

if TYPE_CHECKING:
    from napari_restore.images import Image


def describe(image: Image) -> str:
    """An image's size, bands, depth and map in one line."""
    bands = f"{image.bands} band{'s' if image.bands > 1 else ''}"
    parts = [f"{image.width} × {image.height}", bands, str(image.dtype)]
    if image.crs:
        # WKT begins with the system's name in quotes.
        parts.append(image.crs.split('"')[1])
    return " · ".join(parts)


def run_summary(record: dict[str, Any]) -> str:
    """What a finished run took, in one line."""
    measured = record["measured"]
    if measured["tiles_done"] == 0 and measured["tiles_resumed"]:
        return "All tiles had been restored before. Compare, adjust and export it above."
    done = f"Done in {format_seconds(measured['seconds'], tenths=True)}"
    speed = f"{measured['megapixels_per_second']:.1f}"
    if speed != "0.0":
        done += f", {speed} MP/s"
    return f"{done}. Compare, adjust and export it above."
