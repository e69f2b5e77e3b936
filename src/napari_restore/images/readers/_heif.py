"""Reader of HEIF photos through pi-heif (libheif without encoders), where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.errors import UnreadableImage
from napari_restore.images.files.exif import upright_exif
from napari_restore.images.files.exif_directories import EXIF_HEADER
from napari_restore.images.files.xmp import sidecar_xmp, upright_xmp
from napari_restore.images.readers._whole import Picture, WholeReader
from napari_restore.images.values.working_space import (
    FOR_HDR,
    HDR_CURVES,
    PROFILE,
    profile_of_code_points,
    settled_colours,
)

COLOURS = {
    1: ("gray",),
    2: ("gray", "alpha"),
    3: ("red", "green", "blue"),
    4: ("red", "green", "blue", "alpha"),
}


class HeifReader(WholeReader):
    """A photo (H, W, 1 … 4) uint8, or uint16 of 10 and 12 bits, upright; decoded once, as a whole."""

    KIND = "a HEIF photo"
    REPAIR = "Copy it again, update pi-heif, or save the photo as JPEG."

    def _header(self) -> Picture:
        photo = _opened(self.path)
        width, height = (int(length) for length in photo.size)
        mode, _, bits = str(photo.mode).partition(";")
        is_deep = bool(bits) and int(bits) > 8
        colours = COLOURS[{"L": 1, "I": 1, "LA": 2, "RGB": 3}.get(mode, 4)]
        info = photo.info
        if len(photo) > 1:
            self.notes.append(f"It contains {len(photo)} pictures: the main one is used.")
        nclx = info.get("nclx_profile")
        nclx = nclx if isinstance(nclx, dict) else {}
        primaries, curve = (
            nclx.get(name, 2) for name in ("color_primaries", "transfer_characteristics")
        )
        icc, notes = coded_colours(info.get("icc_profile"), primaries, curve, len(colours))
        self.notes += notes
        about = {
            "driver": "HEIF",
            "icc": icc,
            # The decoder turns the picture by the file's own boxes; the tag is only a copy of them.
            "exif": upright_exif(whole_exif(info.get("exif"))),
            "xmp": sidecar_xmp(self.path) or upright_xmp(info.get("xmp") or None),
            "is_display": True,
        }
        return Picture(height, width, np.uint16 if is_deep else np.uint8, colours, about)

    def _decode(self) -> npt.NDArray[Any]:
        # A copy: what it gives is in memory of its own, which goes with it.
        return np.array(_opened(self.path))


def whole_exif(exif: bytes | None) -> bytes | None:
    """Return EXIF with the header that it has in other files, which some decoders leave out."""
    return EXIF_HEADER + exif.removeprefix(EXIF_HEADER) if exif else None


def coded_colours(
    icc: bytes | None, primaries: int, curve: int, bands: int
) -> tuple[bytes | None, list[str]]:
    """Return the profile of a photo that has one, or code points (ITU-T H.273), and notes."""
    named = profile_of_code_points(primaries, curve, bands)
    icc, disputes = settled_colours(((PROFILE, icc), ("nclx", named)), bands)
    return icc, [*([FOR_HDR] if curve in HDR_CURVES else []), *disputes]


def _opened(path: Path) -> Any:
    """Return pi-heif's main picture of a file, not decoded yet."""
    try:
        import pi_heif
    except ImportError as error:
        raise UnreadableImage(
            f"{path.name} is a HEIF photo, and pi-heif is not installed.",
            'Install it: pip install "napari-restore[heif]", or save the photo as JPEG.',
        ) from error
    # Deeper pictures as 16 bits over the full range.
    return pi_heif.open_heif(path, convert_hdr_to_8bit=False)
