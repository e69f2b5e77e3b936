"""Black and white: the values of an image for no light and full light, and their origin."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from napari_restore.errors import BadParameter, Message, option
from napari_restore.images._base import ImageBase
from napari_restore.images.values.presets import Sensor
from napari_restore.images.values.radiometry import Radiometry

WHITE_PERCENTILE = 99.9
Percentile = Callable[[float], float]


def resolve_radiometry(
    image: ImageBase,
    *,
    percentile: Percentile | None = None,
    black: float | Sequence[float] | None = None,
    white: float | None = None,
) -> Radiometry:
    """Return black and white of `image`, and how they were determined.

    `percentile` gives the value below which that many percent of the image's data bands lie; needed
    where `needs_percentile` is true. Raises `BadParameter`.
    """
    preset = image.preset
    blacks, black_reason = _black(image, black, preset, percentile)
    top, white_reason = _white(image, white, preset, percentile)
    highest = float(blacks[list(image.data_bands)].max()) if image.data_bands else 0.0
    if top <= highest:
        if white is not None or black is not None:
            raise BadParameter(
                f"White ({top:g}) must lie above black ({highest:g}).",
                f"Check {option('black')} and {option('white')}.",
            )
        # No value is above black: an empty or dark scene, where any white will do.
        top, white_reason = highest + 1.0, "nothing in the image lies above black"
    return Radiometry(blacks, top, black_reason, white_reason, image.working_space)


def needs_percentile(
    image: ImageBase, white: float | None = None, black: float | Sequence[float] | None = None
) -> bool:
    """Return whether `resolve_radiometry` needs the values of the whole image."""
    preset = image.preset
    if black is None and image.known_range is None and _may_be_scaled(image, preset):
        return True
    if white is not None:
        return False
    return (preset is None or preset.white is None) and _known_white(image) is None


def zeros_of(
    image: ImageBase, black: float | None, percentile: Percentile
) -> tuple[npt.NDArray[np.float64], bool]:
    """Return the value of no light of each band, and whether it is the one of a known product."""
    # The percentile is asked for only where floats may be scaled already.
    zeros, _ = _black(image, black, image.preset, percentile)
    return zeros, _preset_zeros(image, image.preset, percentile)[1] is not None


def note_of_zero(image: ImageBase, black: float | None) -> Message | None:
    """Return the note of a zero that the image's names decide, where the user named none."""
    preset = image.preset
    if black is not None or image.sensor is not None or preset is None or zeros_by_scale(image):
        return None
    if _preset_zeros(image, preset, None)[1] is None:
        return None
    integers = "" if image.dtype.kind != "f" else " where values reach it"
    return Message(
        f"Zero is {preset.black:.0f}{integers}, as its names say ({preset.reason}); use "
        f"{option('black', 0)} if it was subtracted already."
    )


def zeros_by_scale(image: ImageBase) -> dict[int, float]:
    """Return the zeros of the bands that have a scale or an offset, by number."""
    # One without may be of another kind beside those with them.
    pairs = zip(image.profile.scales, image.profile.offsets, strict=True)
    return {n: (0.0 - o) / s if s else 0.0 for n, (s, o) in enumerate(pairs) if (s, o) != (1, 0)}


def dispute_of_zeros(image: ImageBase) -> list[str]:
    """Return the note of a file's scale and offset that have another zero than its sensor."""
    preset = image.preset
    own, light = zeros_by_scale(image), _reflectances(image)
    zeros = {round(own[band], 1) for band in light if band in own}
    if preset is None or not preset.reason or not zeros or image.dtype.kind == "f":
        return []
    if zeros == {round(preset.black, 1)}:
        return []
    found = ", ".join(f"{zero:g}" for zero in sorted(zeros))
    return [
        f"Its zero is DN {found} by scale and offset, not DN {preset.black:g} ({preset.reason})."
    ]


def _reflectances(image: ImageBase) -> list[int]:
    """Return the bands that may have the zero of a product: not classes, bits or temperatures."""
    bands = enumerate(zip(image.described.kinds, image.roles, strict=True))
    return [n for n, (kind, role) in bands if kind != "auxiliary" and role != "thermal"]


def _may_be_scaled(image: ImageBase, preset: Sensor | None) -> bool:
    """Return whether values may be reflectance already, and not the integers of `preset`."""
    return preset is not None and bool(preset.black) and image.dtype.kind == "f"


def _black(
    image: ImageBase,
    given: float | Sequence[float] | None,
    preset: Sensor | None,
    percentile: Percentile | None,
) -> tuple[npt.NDArray[np.float64], str]:
    count = image.bands
    if given is not None:
        values = np.atleast_1d(np.asarray(given, np.float64))
        if values.size not in (1, count):
            raise BadParameter(
                f"Black has {values.size} values for {count} bands.", "Give one, or one per band."
            )
        return np.broadcast_to(values, (count,)).copy(), "as given"
    zeros, reason = _preset_zeros(image, preset, percentile)
    if own := zeros_by_scale(image):
        zeros[list(own)] = list(own.values())
        return zeros, "the file's scale and offset"
    if reason is not None:
        return zeros, reason
    if image.dtype.kind == "f":
        return np.zeros(count), "zero of a float image"
    return np.zeros(count), "physical zero of integers"


def _preset_zeros(
    image: ImageBase, preset: Sensor | None, percentile: Percentile | None
) -> tuple[npt.NDArray[np.float64], str | None]:
    """Return the zero of each band by `preset`, and the reason; None where it is not in force."""
    zeros = np.zeros(image.bands)
    if preset is None or not preset.reason:
        return zeros, None
    # Values that never reach it are scaled already, or another product of the sensor.
    reason = preset.reason
    if _may_be_scaled(image, preset):
        reason += "; floats below it are scaled, and have 0"
        if image.known_range is not None:
            top = image.known_range[1]
        else:
            top = np.inf if percentile is None else percentile(100)
    else:
        top = np.inf if image.dtype.kind == "f" else float(np.iinfo(image.dtype).max)
    if top <= preset.black or image.other_than_light is not None:
        return zeros, None
    found = zeros.copy()
    for band in _reflectances(image):
        found[band] = preset.zero(image.descriptions[band] or image.name)
    return found, reason if found.any() or not preset.black else None


def _white(
    image: ImageBase, given: float | None, preset: Sensor | None, percentile: Percentile | None
) -> tuple[float, str]:
    if given is not None:
        return float(given), "as given"
    if preset is not None and preset.white is not None:
        return preset.white, preset.reason
    if (known := _known_white(image)) is not None:
        return known
    if percentile is None:
        raise BadParameter(
            "The image's white is not known before its values have been seen.",
            f"Give it with {option('white')}, or a percentile function.",
        )
    if image.dtype.kind == "f" and 0 <= percentile(0) and percentile(100) <= 1:
        return 1.0, "floats within 0 … 1"
    return float(percentile(WHITE_PERCENTILE)), f"{WHITE_PERCENTILE} percentile of the image"


def _known_white(image: ImageBase) -> tuple[float, str] | None:
    """Return white where it follows from the kind of file."""
    profile = image.profile
    if profile.light is not None:
        return 1.0, "white of the reference"
    if profile.bits == 1:
        return 1.0, "one bit per pixel"
    if profile.bits and (image.dtype == np.uint8 or image.georeference is None):
        return 2.0**profile.bits - 1, f"full range of {profile.bits} bit"
    if image.dtype == np.uint8:
        return 255.0, "full range of 8 bit"
    if image.dtype == np.uint16 and profile.is_display:
        return 65535.0, "full range of a 16-bit photo"
    if image.dtype.kind == "f" and image.known_range is not None:
        low, high = image.known_range
        if 0 <= low and high <= 1:
            return 1.0, "floats within 0 … 1"
    return None
