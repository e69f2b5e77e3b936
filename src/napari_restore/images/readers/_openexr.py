"""Reader of OpenEXR pictures: linear light as half or single floats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.errors import UnreadableImage
from napari_restore.images.files.claims import ARITHMETIC_RATIO, check_bands, check_ratio
from napari_restore.images.readers._whole import Picture, WholeReader
from napari_restore.images.values.facts import OpeningNote
from napari_restore.images.values.working_space import profile_of_light

COLOURS = {"R": "red", "G": "green", "B": "blue", "A": "alpha", "Y": "gray"}


class OpenExrReader(WholeReader):
    """The channels of the first part as (H, W, C) float32; decoded once, as a whole.

    Channels R, G, B, A, or Y and A, in this order where the part has them, else all of them by
    name. The data window is the picture. Needs the package OpenEXR (extra ``exr``).
    """

    KIND = "an OpenEXR picture"

    def _header(self) -> Picture:
        parts = _parts(self.path, header_only=True)
        header, name = parts[0].header, self.path.name
        if "deep" in str(header.get("type", "")):
            raise UnreadableImage(
                f"{name} holds deep pixels, with several values each.",
                "Flatten it in the program that rendered it.",
            )
        self._names = _chosen(name, {each.name: each for each in header["channels"]})
        bands = len(self._names)
        check_bands(name, bands)
        (x0, y0), (x1, y1) = (tuple(int(v) for v in corner) for corner in header["dataWindow"])
        height, width = y1 - y0 + 1, x1 - x0 + 1
        # The discrete cosine transform of DWAA and DWAB shrinks a plain picture as far.
        claimed, what = 4 * height * width * bands, f"{height} × {width} pixels"
        check_ratio(name, claimed, self.path.stat().st_size, ARITHMETIC_RATIO, what)
        colours = tuple(COLOURS.get(name, "undefined") for name in self._names)
        own = header.get("chromaticities") if "red" in colours else None
        icc, notes = (None, []) if own is None else profile_of_light(np.ravel(own))
        self.notes += notes
        if len(parts) > 1:
            self.notes.append(OpeningNote(f"The first of its {len(parts)} parts is read."))
        return Picture(height, width, np.float32, colours, {"driver": "OpenEXR", "icc": icc})

    def _decode(self) -> npt.NDArray[np.float32]:
        channels = _parts(self.path, header_only=False)[0].channels
        height, width = self.levels[0][:2]
        pixels = np.empty((height, width, self.bands), np.float32)
        for band, name in enumerate(self._names):
            plane = channels[name].pixels if name in channels else None
            if plane is None or plane.shape != (height, width):
                raise ValueError(f"its channel {name} is incomplete")
            pixels[..., band] = plane
        return pixels


def _parts(path: Path, *, header_only: bool) -> list[Any]:
    """Return the parts of a file, one at least."""
    try:
        import OpenEXR
    except ImportError as error:
        raise UnreadableImage(
            f"{path.name} is an OpenEXR picture, and the package OpenEXR is not installed.",
            'Install it: pip install "napari-restore[exr]", or save the picture as float TIFF.',
        ) from error
    # One array per channel: else RGB of half and A of float would be distinguished by shape.
    file = OpenEXR.File(str(path), separate_channels=True, header_only=header_only)
    try:
        parts = list(file.parts)
        for channel in [each for part in parts for each in part.header["channels"]]:
            str(channel.name)  # one that is no UTF-8 fails only here
    except UnicodeDecodeError:
        raise ValueError("a channel's name is no UTF-8") from None
    if not parts:
        # Where pixels are missing the library leaves the part out.
        raise ValueError("its pixels are incomplete")
    return parts


def _chosen(path: str, channels: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the channels that are the bands; raises `UnreadableImage`, `ValueError`."""
    for names in (("R", "G", "B"), ("Y",)):
        if all(name in channels for name in names):
            chosen = (*names, *(["A"] if "A" in channels else []))
            break
    else:
        chosen = tuple(channels)
    if not chosen:
        raise ValueError("it has no channels")
    if any(channels[name].xSampling != 1 or channels[name].ySampling != 1 for name in chosen):
        raise UnreadableImage(
            f"{path} has channels of fewer pixels than others.",
            "Save it with all channels in full size.",
        )
    return chosen
