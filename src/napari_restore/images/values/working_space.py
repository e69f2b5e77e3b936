"""Photos with a colour profile of their own: models take sRGB, files keep their colours.

Values go through the ICC profile at 16 bit: curves and a matrix in one pass, tables by LittleCMS
(imagecodecs). Only the change of a model is converted back, as the difference of two conversions:
what the model leaves unchanged stays bit for bit, and colours outside sRGB are changed like their
nearest neighbour within, never clipped to it.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.images._display_curve import light_of_srgb
from napari_restore.images._profile import Profile
from napari_restore.images.values.depth import in_16_bits
from napari_restore.images.values.facts import OpeningNote, resolve
from napari_restore.images.values.presets import COLOURS

FULL = 65535
_STRIP = 1 << 15
"""Pixels whose values stay in the processor's cache from the first step to the last."""
_CURVES = ("rTRC", "gTRC", "bTRC")
_COLOURS = ("rXYZ", "gXYZ", "bXYZ")
_PARAMETERS = (1, 3, 4, 5, 7)
"""Numbers of a parametric curve, by its type."""

Plane = npt.NDArray[np.float32]
Curve = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MatrixProfile:
    """Curves from values to light, and the matrix from light to XYZ of D50."""

    curves: npt.NDArray[np.float64]
    """(3, 65536): the light of each value."""
    matrix: npt.NDArray[np.float64]
    """(3, 3): columns are red, green and blue."""


class MatrixTransform:
    """Conversion of 8 or 16 bits from one profile to the 16 bits of another."""

    def __init__(self, source: MatrixProfile, target: MatrixProfile) -> None:
        self._light = source.curves.astype(np.float32)
        self._light8 = np.ascontiguousarray(self._light[:, :: FULL // 255])
        matrix = FULL**2 * np.linalg.inv(target.matrix) @ source.matrix
        self._matrix = matrix.astype(np.float32)
        # By the square root of light, dark values are as fine as in any usual curve.
        light = np.linspace(0, 1, FULL + 1) ** 2
        values = np.linspace(0, FULL, FULL + 1)
        self._values = np.stack(
            [np.rint(np.interp(light, curve, values)) for curve in target.curves]
        ).astype(np.uint16)

    def __call__(self, values: npt.NDArray[np.uint8 | np.uint16]) -> npt.NDArray[np.uint16]:
        """Return planes (3, n) of values of the source in the target."""
        out = np.empty(values.shape, np.uint16)
        tables = self._light8 if values.dtype == np.uint8 else self._light
        for left in range(0, values.shape[1], _STRIP):
            part = np.s_[left : left + _STRIP]
            light = [
                np.take(table, plane[part], mode="clip")
                for table, plane in zip(tables, values, strict=True)
            ]
            for plane, row, table in zip(out, self._matrix, self._values, strict=True):
                np.take(table, _root(light, row), out=plane[part], mode="clip")
        return out


def _root(light: list[Plane], row: Plane) -> npt.NDArray[np.int32]:
    """Return the square root of a sum of light, rounded; `row` is scaled for 0 … 65535."""
    total = light[0] * row[0]
    total += light[1] * row[1]
    total += light[2] * row[2]
    # To look for them is quicker than to raise all.
    if total.min() < 0:
        np.maximum(total, 0, out=total)
    np.sqrt(total, out=total)
    total += np.float32(0.5)
    # Quicker than 64 bits, which `take` makes of it by itself.
    rounded: npt.NDArray[np.int32] = total.astype(np.int32)
    return rounded


def matrix_profile(icc: bytes) -> MatrixProfile | None:
    """Return the curves and the matrix of an ICC profile; None where it has others, or none."""
    try:
        if icc[16:24] != b"RGB XYZ ":
            return None
        tags = {name: icc[start : start + size] for name, (start, size) in tag_spans(icc).items()}
        if not {*_CURVES, *_COLOURS} <= tags.keys() or "A2B0" in tags or "B2A0" in tags:
            return None
        colours = [_fixed(tags[name], 8, 3) for name in _COLOURS]
        curves = np.stack([_curve(tags[name]) for name in _CURVES])
        matrix = np.array(colours).T
        np.linalg.inv(matrix)
    except (struct.error, ValueError, IndexError, np.linalg.LinAlgError):
        return None
    rises = (np.diff(curves, axis=1) >= 0).all() and np.isfinite(curves).all()
    return MatrixProfile(curves, matrix) if rises else None


def light_matrix(icc: bytes | None) -> npt.NDArray[np.float32] | None:
    """Return (3, 3) from the linear light of a profile to that of sRGB; None where that is the same."""
    own, srgb = (matrix_profile(each) for each in (icc or b"", srgb_profile()))
    if own is None or srgb is None:
        return None
    matrix = np.linalg.inv(srgb.matrix) @ own.matrix
    return None if np.allclose(matrix, np.eye(3), atol=2e-3) else matrix.astype(np.float32)


def is_linear(icc: bytes | None) -> bool:
    """Return whether the values of a profile are light, and not for a screen; so they are without one."""
    own = matrix_profile(icc or b"")
    return own is None or bool(np.abs(own.curves - np.linspace(0, 1, FULL + 1)).max() <= TOLERANCE)


def tag_spans(icc: bytes) -> dict[str, tuple[int, int]]:
    """Return where each tag of an ICC profile begins, and its bytes; raises `struct.error`."""
    (count,) = struct.unpack_from(">I", icc, 128)
    found = [struct.unpack_from(">4sII", icc, 132 + 12 * n) for n in range(min(count, 256))]
    return {name.decode("latin-1"): (start, size) for name, start, size in found}


def _fixed(tag: bytes, start: int, count: int) -> npt.NDArray[np.float64]:
    """Return numbers of 32 bits, 16 of them after the point."""
    return np.array(struct.unpack_from(f">{count}i", tag, start)) / 65536


def _curve(tag: bytes) -> Curve:
    """Return the light (65536,) of all values, by a tag "curv" or "para"."""
    x: Curve = np.linspace(0, 1, FULL + 1)
    if tag[:4] == b"para":
        (kind,) = struct.unpack_from(">H", tag, 8)
        g, a, b, c, d, e, f = (*_fixed(tag, 12, _PARAMETERS[kind]), *[0.0] * 7)[:7]
        if kind == 0:
            power: Curve = x**g
            return power
        # Types 1 and 2 are 0 or c where a x + b would be negative.
        split = d if kind > 2 else -b / a
        above, below = {1: (0, 0), 2: (c, c), 3: (0, c * x), 4: (e, c * x + f)}[kind]
        curve: Curve = np.where(x >= split, np.maximum(a * x + b, 0) ** g + above, below)
        return curve
    if tag[:4] != b"curv":
        raise ValueError("no curve")
    (count,) = struct.unpack_from(">I", tag, 8)
    if count < 2:
        plain: Curve = x ** float(struct.unpack_from(">H", tag, 12)[0] / 256 if count else 1)
        return plain
    table = np.frombuffer(tag, ">u2", count, 12) / FULL
    return np.interp(x, np.linspace(0, 1, count), table)


TOLERANCE = 2 / 255
"""Profiles this close to sRGB everywhere count as sRGB."""
_OTHER = 12 / 255
"""Profiles that are nowhere further apart are no two opinions: a power of 2.2 for the curve of sRGB."""
_PHOTO_FORMATS = ("JPEG", "PNG", "WEBP")
_SRGB_CHROMATICITIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
"""x and y of white, red, green and blue of sRGB."""
_NO_TABLE = 0x0100
"""cmsFLAGS_NOOPTIMIZE. With LittleCMS's table of 33³ colours, three times faster, dark values
are off by up to 5 % of the range [measured], exactly where haze matters."""
_AGREES = 1 / 255
"""Difference from LittleCMS, whose inverse of a table of a curve has 4096 steps."""


@dataclass(frozen=True)
class WorkingSpace:
    """Conversion between a file's own colours and sRGB."""

    icc: bytes
    bands: tuple[int, ...]
    """Numbers of red, green and blue in the image."""
    full: int
    """Largest value of the image's dtype."""

    def positions(self, bands: Sequence[int]) -> list[int] | None:
        """Return the positions of red, green and blue among `bands`; None unless all three exist."""
        chosen = list(bands)
        if not set(self.bands) <= set(chosen):
            return None
        return [chosen.index(band) for band in self.bands]

    def to_working(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return (3, ...) red, green, blue of the file, as sRGB on the same scale 0 … `full`."""
        return self._scaled(converted(self._known(stored), self.icc, None))

    def to_display(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return (h, w, 3 + extra) values of the file in sRGB, for display only."""
        shown, bands = stored.copy(), list(self.bands)
        if shown.size:
            # 8 bit with LittleCMS's optimisation: ten times faster, and within a level for usual
            # profiles. At 16 bit that is a table, and off by up to 19 of 255 levels [measured].
            flags = 0 if stored.dtype == np.uint8 else _NO_TABLE
            shown[..., bands] = _by_littlecms(stored[..., bands], self.icc, srgb_profile(), flags)
        return shown

    def stored_change(
        self,
        stored: npt.NDArray[Any],
        change: npt.NDArray[np.float32],
        working: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return the change (3, h, w) of the file's values for a `change` (3, h, w) of the sRGB values.

        No change stays exactly 0. `working` are the sRGB values of `stored`, less than half a step of 16
        bits off, if they are at hand; it is overwritten.
        """
        shape, known = stored.shape, self._known(stored).reshape(3, -1)
        step, scale = change.reshape(3, -1), np.float32(FULL / self.full)
        if working is None:
            before = converted(known, self.icc, None)
        else:
            before = _rounded(np.multiply(working, scale, out=working)).reshape(3, -1)
        after = step * scale
        after += before
        # Differences of 16 bits are exact in 24.
        origin = known.astype(np.float32)
        if known.dtype == np.uint8:
            origin *= np.float32(FULL // 255)
        # A conversion there and back is the identity, except for colours outside sRGB.
        # 0 − 1 is the largest number as well.
        (beyond,) = np.nonzero(_any_of(before - np.uint16(1) >= FULL - 1))
        if beyond.size:
            nearest = converted(before.take(beyond, axis=1), None, self.icc)
            for plane, values in zip(origin, nearest, strict=True):
                plane[beyond] = values
        difference = converted(_rounded(after), None, self.icc).astype(np.float32)
        difference -= origin
        moved = _any_of(step != 0)
        if not moved.all():
            difference *= moved
        return self._scaled(difference).reshape(shape)

    def _known(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return values of 8 bits as they are, and others as 16."""
        is_known = stored.dtype == np.uint8 and self.full == 255
        return stored if is_known else self._as16(stored)

    def _as16(self, values: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
        if values.dtype == np.uint16 and self.full == FULL:
            return values
        if values.dtype == np.uint8:
            return in_16_bits(values)
        wide = np.clip(values * (FULL / self.full), 0, FULL)
        return np.rint(wide).astype(np.uint16)

    def _scaled(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        scaled: npt.NDArray[np.float32] = values.astype(np.float32, copy=False)
        scaled *= np.float32(self.full / FULL)
        return scaled


def working_space_of(
    profile: Profile, roles: Sequence[str | None], dtype: np.dtype[Any]
) -> tuple[WorkingSpace | None, str | None]:
    """Return the working space of a picture, None for sRGB or no usable profile, and the note on it."""
    if profile.driver == "RAW" or dtype not in (np.uint8, np.uint16):
        return None, None
    if not all(name in roles for name in COLOURS):
        return None, None
    if profile.icc is None:
        taken = profile.is_display or profile.driver in _PHOTO_FORMATS
        return None, "It has no colour profile and is taken as sRGB." if taken else None
    if not profile.is_display:
        return None, None
    try:
        if is_srgb(profile.icc):
            return None, None
        name = _name_of(profile.icc)
    except Exception:  # whatever LittleCMS makes of a broken profile
        return None, "Its colour profile cannot be used; it is carried, and taken as sRGB."
    space = WorkingSpace(
        profile.icc, tuple(roles.index(name) for name in COLOURS), int(np.iinfo(dtype).max)
    )
    return space, f"Its colours are {name}: models see them as sRGB, the output keeps {name}."


def converted(
    values: npt.NDArray[np.uint8 | np.uint16], source: bytes | None, target: bytes | None
) -> npt.NDArray[np.uint16]:
    """Return planes (3, ...) of 8 or 16 bits at 16 bit in another profile; None is sRGB."""
    if not values.size:
        return values.astype(np.uint16)
    transform = _transform(source or srgb_profile(), target or srgb_profile())
    if transform is not None:
        return transform(values.reshape(3, -1)).reshape(values.shape)
    return _by_tables(values, source or srgb_profile(), target or srgb_profile())


@lru_cache(maxsize=16)
def _transform(source: bytes, target: bytes) -> MatrixTransform | None:
    """Return the fast conversion of two profiles; None where LittleCMS has other values."""
    profiles = matrix_profile(source), matrix_profile(target)
    if profiles[0] is None or profiles[1] is None:
        return None
    transform = MatrixTransform(profiles[0], profiles[1])
    steps = np.linspace(0, 1, 9) ** 2 * FULL
    colours = np.stack(np.meshgrid(steps, steps, steps)).reshape(3, -1).astype(np.uint16)
    difference = transform(colours).astype(np.int64) - _by_tables(colours, source, target)
    return transform if np.abs(difference).max() <= _AGREES * FULL else None


def _by_tables(
    values: npt.NDArray[np.uint8 | np.uint16], source: bytes, target: bytes
) -> npt.NDArray[np.uint16]:
    """Return planes (3, ...) at 16 bit, converted by LittleCMS."""
    wide = values if values.dtype == np.uint16 else in_16_bits(values)
    result = _by_littlecms(wide.reshape(3, -1).T[None], source, target, _NO_TABLE)
    return np.ascontiguousarray(result[0].T).reshape(values.shape)


def _by_littlecms(
    colours: npt.NDArray[Any], source: bytes, target: bytes, flags: int
) -> npt.NDArray[Any]:
    """Return pixels (h, w, 3) in another profile, with the bits that they have."""
    import imagecodecs

    return imagecodecs.cms_transform(
        np.ascontiguousarray(colours),
        source,
        target,
        colorspace="rgb",
        outcolorspace="rgb",
        outdtype=colours.dtype,
        flags=flags,
    )


def _rounded(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Return `values` in 16 bits, halves up; they are overwritten."""
    np.clip(values, 0, FULL, out=values)
    values += np.float32(0.5)
    return values.astype(np.uint16)


def _any_of(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return (...) whether any of (3, ...) is true."""
    found: npt.NDArray[np.bool_] = flags[0] | flags[1] | flags[2]
    return found


@cache
def srgb_profile(bands: int = 3) -> bytes:
    """Return the ICC profile of sRGB, for 1 band that of grey with the same curve."""
    if bands == 1:
        curve = light_of_srgb(np.linspace(0, 1, 1024, dtype=np.float32))
        return _made("gray", transferfunction=curve)
    return _made("srgb")


NAMED_PROFILES = ("sRGB", "adobe-rgb", "display-p3")
"""Of colours that a file can be written in, by name."""
_P3 = (*_SRGB_CHROMATICITIES[:2], 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
"""x and y of white and primaries of Display P3; its curve is that of sRGB."""
_CHROMATICITIES_OF = {
    1: _SRGB_CHROMATICITIES,
    9: (*_SRGB_CHROMATICITIES[:2], 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    12: _P3,
}
"""x and y of white, red, green and blue by the number of primaries in ITU-T H.273."""
_EXPONENTS = {4: 2.2, 5: 2.8, 8: 1.0}
"""From values to light, by the number of a curve there that is a power."""
_LIKE_SRGB = (1, 6, 13, 14, 15)
"""Numbers of the curve of sRGB, and of those of video, which screens show as that."""
HDR_CURVES = (16, 18)
"""Numbers of PQ and hybrid log-gamma."""
PROFILE = "colour profile"
"""The name of an embedded ICC profile among the sources of colours."""
FOR_HDR = "Its values are said to be for an HDR screen (PQ or HLG); that is not taken into account."


@cache
def named_profile(name: str) -> bytes:
    """Return the ICC profile of one of `NAMED_PROFILES`."""
    if name == "sRGB":
        return srgb_profile()
    if name == "adobe-rgb":
        return _made("adobergb")
    return _with_primaries(_P3, "Display P3")


def _with_primaries(chromaticities: tuple[float, ...], name: str) -> bytes:
    """Return the ICC profile of sRGB with other primaries, see `_CHROMATICITIES_OF`."""
    other = _of_power(chromaticities, 2.2)
    made, sources = bytearray(srgb_profile()), tag_spans(other)
    tags = tag_spans(bytes(made))
    for tag in ("rXYZ", "gXYZ", "bXYZ"):
        (start, size), (source, _) = tags[tag], sources[tag]
        made[start : start + size] = other[source : source + size]
    # One text in UTF-16: its bytes, and where they begin.
    start, text = tags["desc"][0], name.encode("utf-16-be")
    (begin,) = struct.unpack_from(">I", made, start + 24)
    struct.pack_into(">I", made, start + 20, len(text))
    made[start + begin : start + begin + len(text)] = text
    return bytes(made)


@cache
def profile_of_code_points(primaries: int, curve: int, bands: int) -> bytes | None:
    """Return the ICC profile of colours named by numbers (ITU-T H.273; "cICP", "nclx"); None: 2, unspecified."""
    chromaticities, srgb = _CHROMATICITIES_OF.get(primaries), srgb_profile(1 if bands < 3 else 3)
    if chromaticities is None:
        return None
    if exponent := _EXPONENTS.get(curve):
        return profile_of_gamma((1 / exponent, *chromaticities), bands) or srgb
    if curve not in _LIKE_SRGB:
        return None
    if bands < 3 or primaries == 1:
        return srgb
    name = "Display P3" if chromaticities is _P3 else "BT.2020, curve of sRGB"
    return _with_primaries(chromaticities, name)


def usable_profile(icc: bytes) -> bool:
    """Return whether colours can be converted to an ICC profile: one of red, green and blue."""
    if icc[16:20] != b"RGB " or len(icc) < 132:
        return False
    try:
        converted(np.zeros((3, 1), np.uint8), None, icc)
    except Exception:  # whatever LittleCMS makes of a broken profile
        return False
    return True


@cache
def profile_of_gamma(gamma: tuple[float, ...], bands: int) -> bytes | None:
    """Return the ICC profile of what a PNG says in its stead, see `PhotoTags.gamma`.

    None where it is that of sRGB, nearly the power of 1/2.2, or makes no sense.
    """
    exponent, *chromaticities = gamma
    is_usual = abs(exponent - 1 / 2.2) < 0.01
    is_srgb = not chromaticities or np.allclose(chromaticities, _SRGB_CHROMATICITIES, atol=0.002)
    if not 0.1 < exponent < 10 or (is_usual and (is_srgb or bands < 3)):
        return None
    try:
        if bands < 3:
            curve = np.linspace(0, 1, 1024, dtype=np.float32) ** np.float32(1 / exponent)
            return _made("gray", transferfunction=curve)
        return _of_power(chromaticities or _SRGB_CHROMATICITIES, 1 / exponent)
    except (ValueError, RuntimeError):  # no colours can have such chromaticities
        return None


def profile_of_light(chromaticities: Iterable[float]) -> tuple[bytes | None, list[str]]:
    """Return the ICC profile of light by x and y of its red, green, blue and white, and notes.

    None for those of sRGB, and for what no colours can have.
    """
    try:
        xy = [float(each) for each in chromaticities]
        icc = profile_of_gamma((1.0, *xy[6:], *xy[:6]), 3)
    except ValueError:  # no eight numbers
        icc = None
    if icc is None or matrix_profile(icc) is None:
        return None, ["Its primaries are none of light, and are taken as those of sRGB."]
    if light_matrix(icc) is None:
        return None, []
    return icc, ["Its primaries are not those of sRGB: only fusion converts its light to these."]


def _of_power(chromaticities: Sequence[float], exponent: float) -> bytes:
    """Return the ICC profile of values whose power is light, of primaries as in `_CHROMATICITIES_OF`."""
    white, *primaries = np.reshape(chromaticities, (4, 2)).tolist()
    wanted = [value for xy in primaries for value in (*xy, 1.0)]
    return _made("rgb", whitepoint=[*white, 1.0], primaries=wanted, gamma=exponent)


def _made(kind: str, **wanted: Any) -> bytes:
    """Return LittleCMS's profile, the same at any time: its header has the date at which it was made."""
    import imagecodecs

    profile = bytes(imagecodecs.cms_profile(kind, **wanted))
    return profile[:24] + bytes((7, 208, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0)) + profile[36:]


@cache
def is_srgb(icc: bytes) -> bool:
    """Return whether the colours of a profile are those of sRGB."""
    return _is_within(icc, srgb_profile(), TOLERANCE)


def _is_within(icc: bytes, other: bytes, tolerance: float) -> bool:
    """Return whether the colours of two profiles are nowhere further apart, 1 being full."""
    steps = np.linspace(0, FULL, 9).astype(np.uint16)
    colours = np.stack(np.meshgrid(steps, steps, steps)).reshape(3, -1)
    in_srgb, others = (converted(colours, each, None).astype(np.int64) for each in (icc, other))
    return bool(np.abs(in_srgb - others).max() <= tolerance * FULL)


def settled_colours(
    sources: Iterable[tuple[str, bytes | None]], bands: int
) -> tuple[bytes | None, list[str]]:
    """Return the profile of the first of `sources` that has one, and notes on those that differ.

    None where that is sRGB, or none has any. A profile of red, green and blue is none of a grey picture.
    """
    notes: list[str] = []
    known = []
    for source, icc in sources:
        if icc is not None and bands < 3 and icc[16:20] == b"RGB ":
            text = f"It is grey, and its {source} is of red, green and blue: it is left out."
            notes.append(OpeningNote(text))
        elif icc is not None:
            known.append((source, icc))
    first = resolve(known)
    if first.value is None:
        return None, notes
    for source, other in first.others:
        with contextlib.suppress(Exception):  # whatever LittleCMS makes of a broken profile
            if bands >= 3 and not _is_within(first.value, other, _OTHER):
                own, its = (_name_of(icc) for icc in (first.value, other))
                text = f"Its colours are {own} by {first.source}, not {its} by {source}."
                notes.append(OpeningNote(text))
    # What else names sRGB leaves the file without a profile, as it is.
    is_plain = first.source != PROFILE and first.value == srgb_profile(1 if bands < 3 else 3)
    return None if is_plain else first.value, notes


def _name_of(icc: bytes) -> str:
    import io

    from PIL import ImageCms

    text = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc)))
    text = " ".join(text.split())
    # LittleCMS's names of what it made.
    return "its own" if text in ("", "RGB built-in") else text.removesuffix(" built-in")
