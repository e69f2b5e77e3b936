"""Reader of HEIF photos through pi-heif (libheif without encoders), where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from napari_restore.errors import UnreadableImage
from napari_restore.images._profile import Profile
from napari_restore.images.files.exif import upright_exif
from napari_restore.images.files.exif_directories import EXIF_HEADER
from napari_restore.images.files.xmp import sidecar_xmp, upright_xmp
from napari_restore.images.readers._whole import WholeReader
from napari_restore.images.values.working_space import (
    FOR_HDR,
    HDR_CURVES,
    PROFILE,
    profile_of_code_points,
    settled_colours,
)

BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs mif1 mif2 msf1".split())
"""Kinds of file (ISO/IEC 23008-12) that HEIF photos name as their own."""
COLOURS = {
    1: ("gray",),
    2: ("gray", "alpha"),
    3: ("red", "green", "blue"),
    4: ("red", "green", "blue", "alpha"),
}


class HeifReader(WholeReader):
    """A photo (H, W, 1 … 4) uint8, or uint16 of 10 and 12 bits, upright; decoded once, as a whole."""

    PRIORITY: ClassVar[int] = 30
    random_access = False

    @classmethod
    def supports(cls, path: Path, head: bytes) -> bool:
        return head[4:8] == b"ftyp" and head[8:12] in BRANDS

    def __init__(self, path: Path, head: bytes = b"") -> None:
        super().__init__(path)
        photo = _opened(path)
        width, height = (int(length) for length in photo.size)
        mode, _, bits = str(photo.mode).partition(";")
        is_deep = bool(bits) and int(bits) > 8
        self.bands = {"L": 1, "I": 1, "LA": 2, "RGB": 3}.get(mode, 4)
        self.dtype = np.dtype(np.uint16 if is_deep else np.uint8)
        self._take_size(height, width)
        info = photo.info
        # Some versions leave out the header that EXIF has in other files.
        exif = EXIF_HEADER + (info.get("exif") or b"").removeprefix(EXIF_HEADER)
        if len(photo) > 1:
            self.notes.append(f"It contains {len(photo)} pictures: the main one is used.")
        colours = COLOURS[self.bands]
        said = info.get("nclx_profile")
        said = said if isinstance(said, dict) else {}
        curve = said.get("transfer_characteristics", 2)
        named = profile_of_code_points(said.get("color_primaries", 2), curve, self.bands)
        if curve in HDR_CURVES:
            self.notes.append(FOR_HDR)
        self.may_be_invalid = "alpha" in colours
        profiles = (PROFILE, info.get("icc_profile")), ("nclx", named)
        icc, disputes = settled_colours(profiles, self.bands)
        self.notes += disputes
        self.profile = Profile(
            driver="HEIF",
            colorinterp=colours,
            masks="alpha" if self.may_be_invalid else "none",
            icc=icc,
            # The decoder turns the picture by the file's own boxes; the tag is only a copy of them.
            exif=upright_exif(exif if info.get("exif") else None),
            xmp=sidecar_xmp(path) or upright_xmp(info.get("xmp") or None),
            is_display=True,
        )

    def _decode(self) -> npt.NDArray[Any]:
        try:
            photo = _opened(self.path)
            # A copy: what it gives is in memory of its own, which goes with it.
            pixels = np.array(photo)
        except Exception as error:  # the decoder's own
            raise _unreadable(self.path, error) from error
        expected = (*self.levels[0][:2], self.bands)
        if pixels.ndim == 2:
            pixels = pixels[..., None]
        if pixels.shape != expected or pixels.dtype != self.dtype:
            problem = f"it has {pixels.dtype} {pixels.shape}, not {self.dtype} {expected}"
            raise _unreadable(self.path, problem)
        return pixels


def _opened(path: Path) -> Any:
    """Return pi-heif's main picture of a file, not decoded yet; raises `UnreadableImage`."""
    try:
        import pi_heif
    except ImportError as error:
        raise UnreadableImage(
            f"{path.name} is a HEIF photo, and pi-heif is not installed.",
            'Install it: pip install "napari-restore[heif]", or save the photo as JPEG.',
        ) from error
    try:
        # Deeper pictures as 16 bits over the full range.
        return pi_heif.open_heif(path, convert_hdr_to_8bit=False)
    except Exception as error:  # its own, and those of damaged metadata
        raise _unreadable(path, error) from error


def _unreadable(path: Path, problem: object) -> UnreadableImage:
    lines = str(problem).strip().splitlines() or [type(problem).__name__]
    return UnreadableImage(
        f"{path.name} cannot be read as a HEIF photo: {lines[0].rstrip('.')}.",
        "Copy it again, update pi-heif, or save the photo as JPEG.",
    )
