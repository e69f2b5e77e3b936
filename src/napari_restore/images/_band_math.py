"""Expressions over the bands of an image, as NDVI: read without `eval`, computed in reflectance.

Terms are those of the field: Rouse et al. 1974 (NDVI), McFeeters 1996 (NDWI), Gao 1996 (NDMI), Key and
Benson 2006 (NBR), Huete 1988 (SAVI), Huete et al. 2002 (EVI).
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.errors import BadParameter, escape_controls
from napari_restore.images._base import ImageBase
from napari_restore.images._black_white import zeros_of
from napari_restore.images.values.validity import is_nodata

Array = npt.NDArray[Any]

INDICES: Mapping[str, str] = {
    "NDVI": "(nir - red) / (nir + red)",
    "NDWI": "(green - nir) / (green + nir)",
    "NDMI": "(nir - swir1) / (nir + swir1)",
    "NBR": "(nir - swir2) / (nir + swir2)",
    "SAVI": "1.5 * (nir - red) / (nir + red + 0.5)",
    "EVI": "2.5 * (nir - red) / (nir + 6 * red - 7.5 * blue + 1)",
}
"""Expression by name."""
LONGEST = 500
"""Characters of an expression."""
_OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
_FUNCTIONS: Mapping[str, tuple[Callable[..., Any], int]] = {
    "abs": (np.abs, 1),
    "sqrt": (np.sqrt, 1),
    "log": (np.log, 1),
    "exp": (np.exp, 1),
    "min": (np.minimum, 2),
    "max": (np.maximum, 2),
}
"""By name: the function and the number of its arguments."""
HINT = (
    'Write names or roles of bands ("b1" is the first), numbers, + - * / **, and abs, sqrt, log, exp, '
    f"min, max; or one of {', '.join(INDICES)}."
)
_SWIR = {"swir1": (1550, 1750), "swir2": (2080, 2350)}
"""Ranges in nm of the two that indices mean."""


@dataclass(frozen=True)
class BandValues:
    """What the numbers of an image mean: ``(number − zero) × scale``, per band."""

    zeros: tuple[float, ...]
    scales: tuple[float, ...]
    is_reflectance: tuple[bool, ...]
    """Where not, it is the number less its zero, or what the file's scale and offset make of it."""

    @classmethod
    def of(cls, image: ImageBase, black: float | None = None) -> BandValues:
        """Return the meaning of the numbers of `image`; `black` is the zero that the user named.

        Reads a coarse level where floats may be scaled already.
        """
        zeros, is_product = zeros_of(image, black, lambda percent: _percentile(image, percent))
        profile, preset = image.profile, image.preset
        own = profile.scales or (1.0,) * image.bands
        per_unit = None if preset is None else preset.per_unit
        is_known = per_unit is not None and is_product
        # Floats that begin at 0 are reflectance already.
        if image.dtype.kind == "f" and not zeros.any():
            is_known = False
        light = [
            kind == "light" and role != "thermal"
            for kind, role in zip(image.described.kinds, image.roles, strict=True)
        ]
        scales = [
            s if s not in (0, 1) else (per_unit or 1.0) if is_known and lit else 1.0
            for s, lit in zip(own, light, strict=True)
        ]
        known = [is_known and lit and s in (0, 1) for s, lit in zip(own, light, strict=True)]
        if profile.is_reflectance:
            scaled = image.dtype.kind == "f" or any(s not in (0, 1) for s in own)
            known = [k or (scaled and lit) for k, lit in zip(known, light, strict=True)]
        shifted = [
            z if lit or s not in (0, 1) else 0.0
            for z, lit, s in zip(zeros, light, own, strict=True)
        ]
        return cls(tuple(map(float, shifted)), tuple(map(float, scales)), tuple(known))

    def convert(self, pixels: Array, bands: Sequence[int]) -> list[npt.NDArray[np.float64]]:
        """Return the values (h, w) of each of `bands` of pixels (h, w, C)."""
        return [
            (pixels[..., band].astype(np.float64) - self.zeros[band]) * self.scales[band]
            for band in bands
        ]


def _percentile(image: ImageBase, percent: float) -> float:
    """Return a percentile of the coarsest level that can be read at once."""
    level = max(n for n in range(len(image.level_shapes)) if n == 0 or image.is_built(n))
    box = (0, 0, *image.level_shapes[level])
    values = image.read(box, level)[image.read_valid(box, level)][:, list(image.data_bands)]
    finite = values[np.isfinite(values)]
    return float(np.percentile(finite, percent)) if finite.size else 0.0


class BandMath:
    """An expression over the bands of an image, or of a result on it; computes on arrays."""

    def __init__(self, image: ImageBase, expression: str, black: float | None = None) -> None:
        """Read `expression`; `black` is the zero that the user named. Raises `BadParameter`."""
        text = " ".join(expression.split())
        known = next((name for name in INDICES if name.lower() == text.lower()), None)
        self.name = known or text
        """What layers are called by."""
        self.formula = text if known is None else INDICES[known]
        self._tree = _parsed(self.formula)
        names = _names_in(self._tree)
        self.bands = {name: band_of(image, name) for name in dict.fromkeys(names)}
        """Number of the band, from 0, by its name in the expression."""
        if not names:
            raise BadParameter(f"The expression {text!r} names no band.", HINT)
        self._values = BandValues.of(image, black)
        self._nodata = image.nodata
        self.is_reflectance = all(self._values.is_reflectance[n] for n in self.bands.values())
        """Whether it is computed of reflectance, and not of the file's numbers."""

    def describe(self, image: ImageBase) -> str:
        """Return the formula and which bands it is of, in one line."""
        used = [
            f"{name} is band {number + 1}"
            + (f", {escape_controls(label)}" if (label := image.descriptions[number]) else "")
            for name, number in self.bands.items()
        ]
        of = "reflectance" if self.is_reflectance else "the numbers of the file less their zero"
        return f"{self.formula} of {of}; {'; '.join(used)}"

    def compute(self, pixels: Array, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """Return (h, w) of pixels (h, w, C); NaN where not `valid` (h, w), nodata or not finite."""
        numbers = list(self.bands.values())
        values = dict(zip(self.bands, self._values.convert(pixels, numbers), strict=True))
        with np.errstate(all="ignore"):
            found = np.broadcast_to(_computed(self._tree, values), valid.shape)
            made = np.asarray(found, np.float32).copy()
        there = valid & np.isfinite(made)
        if self._nodata is not None:
            for number in numbers:
                there &= ~is_nodata(pixels[..., number], self._nodata)
        made[~there] = np.nan
        return made


def _parsed(text: str) -> ast.expr:
    """Return the tree of an expression in which only what is allowed occurs."""
    try:
        if len(text) > LONGEST:
            raise ValueError
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise BadParameter(f"The expression {text[:80]!r} is not understood.", HINT) from None
    _check(tree, text)
    return tree


def _check(node: ast.expr, text: str) -> None:
    """Raise `BadParameter` for what is no arithmetic of bands and numbers."""
    parts: list[ast.expr] = []
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        parts = [node.left, node.right]
    elif isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        parts = [node.operand]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        if node.func.id not in _FUNCTIONS or len(node.args) != _FUNCTIONS[node.func.id][1]:
            raise BadParameter(f"There is no such function: {ast.unparse(node)[:80]}.", HINT)
        parts = node.args
    elif not (_is_band(node) or type(getattr(node, "value", None)) in (int, float)):
        raise BadParameter(f"{ast.unparse(node)[:80]!r} in {text[:80]!r} is not understood.", HINT)
    for part in parts:
        _check(part, text)


def _is_band(node: ast.AST) -> bool:
    """Return whether a node names a band: a name, or text in quotes."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    return isinstance(node, ast.Name) and node.id not in _FUNCTIONS


def _names_in(tree: ast.expr) -> list[str]:
    return [_name_of(node) for node in ast.walk(tree) if _is_band(node)]


def _name_of(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else str(node.value)  # type: ignore[attr-defined]


def _computed(node: ast.expr, values: Mapping[str, Array]) -> Any:
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](
            _computed(node.left, values), _computed(node.right, values)
        )
    if isinstance(node, ast.UnaryOp):
        return _OPERATORS[type(node.op)](_computed(node.operand, values))
    if isinstance(node, ast.Call):
        assert isinstance(node.func, ast.Name)
        return _FUNCTIONS[node.func.id][0](*(_computed(each, values) for each in node.args))
    # numpy's: a power of two Python integers may have any size.
    return values[_name_of(node)] if _is_band(node) else np.float64(node.value)  # type: ignore[attr-defined]


def band_of(image: ImageBase, name: str) -> int:
    """Return the number, from 0, of the band that `name` means; raises `BadParameter`.

    That is, in this order: the band of that name, without what follows its first word; the first band
    of that role; the band that the file counts so, "b4" for "SR_B4" and "B04", or, where it counts
    none, the fourth; "swir1" and "swir2" by wavelength, and other roles with a number in the order of
    wavelengths.
    """
    wanted = name.strip().lower()
    labels = [(text or "").strip().lower() for text in image.descriptions]
    shorts = [re.split(r"[ ,(:]", text)[0] for text in labels]
    for known in (labels, shorts, list(image.roles)):
        if wanted and wanted in known:
            return known.index(wanted)
    match = re.fullmatch(_NUMBERED, wanted)
    found = _of_role(image, wanted) if match is None else _counted(match[1], shorts)
    if found is None:
        raise BadParameter(
            f"{image.name} has no band {name[:80]!r}.", f"Its bands are {_listed(image)}."
        )
    return found


_NUMBERED = r"b(?:and[ _]?)?0*(\d+a?)"


def _counted(number: str, labels: Sequence[str]) -> int | None:
    """Return the band that is counted as `number`, "4" of "b4"."""
    counted = [re.search(rf"(?:^|_){_NUMBERED}$", text) for text in labels]
    for band, found in enumerate(counted):
        if found is not None and found[1] == number:
            return band
    # "b4" is not the fourth of bands that are called B2, B3, B4.
    is_free = not any(counted) and number.isdigit()
    return int(number) - 1 if is_free and 1 <= int(number) <= len(labels) else None


def _of_role(image: ImageBase, wanted: str) -> int | None:
    """Return the band of a role with a number, "swir1"."""
    match = re.fullmatch(r"([a-z]+)(\d)", wanted)
    if match is None:
        return None
    same = [n for n, role in enumerate(image.roles) if role == match[1]]
    waves = [image.wavelengths[n] or 0.0 for n in same]
    if wanted in _SWIR and any(waves):
        low, high = _SWIR[wanted]
        return next((n for n, w in zip(same, waves, strict=True) if low <= w <= high), None)
    ordered = [n for _, n in sorted(zip(waves, same, strict=True))]
    place = int(match[2]) - 1
    return ordered[place] if 0 <= place < len(ordered) else None


def _listed(image: ImageBase) -> str:
    """Return the names and roles of the first bands."""
    most = 16
    named = [
        escape_controls((text or "")[:40]) or role or f"b{number}"
        for number, (text, role) in enumerate(
            zip(image.descriptions, image.roles, strict=True), start=1
        )
    ]
    roles = dict.fromkeys(role for role in image.roles if role and role not in named)
    more = f" and {len(named) - most} more" if len(named) > most else ""
    with_roles = f" (roles {', '.join(roles)})" if roles else ""
    return f"{', '.join(named[:most])}{more}{with_roles}"


COMBINATIONS: Mapping[str, tuple[str, str, str]] = {
    "Natural colour": ("red", "green", "blue"),
    "False colour infrared": ("nir", "red", "green"),
    "Short-wave infrared": ("swir2", "nir", "red"),
    "Agriculture": ("swir1", "nir", "blue"),
    "Geology": ("swir2", "swir1", "blue"),
    "Vegetation, red edge": ("nir", "rededge", "red"),
}
"""What red, green and blue of the screen show, by the usual names."""


def combinations(image: ImageBase) -> dict[str, tuple[int, ...]]:
    """Return the band numbers, from 0, of the combinations whose bands the image has."""
    found = {title: _bands_named(image, names) for title, names in COMBINATIONS.items()}
    return {title: bands for title, bands in found.items() if bands}


def indices(image: ImageBase) -> list[str]:
    """Return the names of the indices whose bands the image has."""
    return [name for name, text in INDICES.items() if _bands_named(image, _names_in(_parsed(text)))]


def _bands_named(image: ImageBase, names: Sequence[str]) -> tuple[int, ...]:
    """Return the bands that names mean; none where the image lacks one of them."""
    try:
        return tuple(band_of(image, name) for name in names)
    except BadParameter:
        return ()
