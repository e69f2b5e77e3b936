"""Conversion from a file's values to a model's range and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.images.values.depth import STEP, in_16_bits
from napari_restore.images.values.validity import beside_nodata, is_nodata
from napari_restore.images.values.working_space import WorkingSpace

STRIP_BYTES = 1 << 20
"""Bytes of float32 numbers that are processed at a time."""
MOST_BLACK = 8
"""Most by which black lies beyond the range, in ranges, for float32 to give a model's input exactly
back in 16 bits."""


@dataclass(frozen=True)
class Radiometry:
    """The linear map ``(value - black) / (white - black)`` and its exact inverse.

    Values beyond white or below black are kept, never clipped. `black` is the physical zero, one
    per band; `white` one number, so that colours keep their proportions. For a photo with a colour
    profile of its own `colour` is applied in addition, wherever a model takes red, green and blue
    together.
    """

    black: npt.NDArray[np.float64]
    white: float
    black_reason: str
    white_reason: str
    colour: WorkingSpace | None = None

    @cached_property
    def span(self) -> npt.NDArray[np.float64]:
        """(C,) source units per model unit."""
        return self.white - self.black

    def in_16_bits(self) -> Radiometry:
        """Return the same map for `in_16_bits` of its values."""
        colour = None if self.colour is None else replace(self.colour, full=STEP * self.colour.full)
        return replace(self, black=STEP * self.black, white=STEP * self.white, colour=colour)

    def to_model(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return (..., C) source values, all bands, in model range."""
        converted = values.astype(np.float64)
        if self.colour is not None:
            rgb = list(self.colour.bands)
            planes = np.moveaxis(converted[..., rgb], -1, 0)
            converted[..., rgb] = np.moveaxis(self.colour.to_working(planes), 0, -1)
        return (converted - self.black) / self.span

    def to_model_tile(
        self,
        values: npt.NDArray[Any],
        bands: Sequence[int],
        out: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return (h, w, C) source values, all bands, as the (h, w, c) of `bands` in model range.

        Equal to `to_model` rounded to float32. Lies band by band in memory, as networks take it: in
        `out` (c, h, w) if that is given.
        """
        chosen = list(bands)
        black, span = self.black[chosen], self.span[chosen]
        if out is None:
            out = np.empty((len(chosen), *values.shape[:-1]), np.float32)
        positions = None if self.colour is None else self.colour.positions(chosen)
        # Colours that were converted are divided while they are in the processor's cache.
        step = len(values) if positions is None else _strip_rows(values)
        work = np.float32 if _float32_suffices(values.dtype, black, span) else np.float64
        for top in range(0, len(values), max(1, step)):
            rows = np.s_[top : top + step]
            planes = [values[rows, ..., band] for band in chosen]
            if self.colour is not None and positions is not None:
                colours = np.stack([planes[position] for position in positions])
                for position, plane in zip(positions, self.colour.to_working(colours), strict=True):
                    planes[position] = plane
            for plane, to, least, units in zip(planes, out[:, rows], black, span, strict=True):
                # In one pass, unless black is subtracted: numpy converts what is in the cache.
                if least:
                    plane = np.subtract(plane, work(least), dtype=work)
                if units == 1:
                    to[...] = plane
                else:
                    np.divide(plane, work(units), out=to, dtype=work, casting="same_kind")
        return np.moveaxis(out, 0, -1)

    def apply_change(
        self,
        source: npt.NDArray[Any],
        change: npt.NDArray[np.float32],
        bands: Sequence[int],
        nodata: float | None = None,
        seen: npt.NDArray[np.float32] | None = None,
        *,
        in_16: bool = False,
    ) -> npt.NDArray[Any]:
        """Return ``source + change * (white - black)`` in the source's dtype, (h, w, c).

        `source` are source values of the model's `bands`, numbers in the image; `change` is model output
        minus model input, in model range. Integers are rounded half to even and clamped to their range.
        Where `change` is exactly 0, or not finite, it is the source bit for bit. No pixel that was
        something else is written as `nodata`: the next representable value on the side of the exact
        result is taken.

        `seen` (h, w, at least the colours) are `source` in model range, of bands in the same order, if
        that is at hand: their colours are not converted again. It changes no value.

        With `in_16`, for a source of uint8 without nodata, the same in uint16, 65535 for 255: the sum
        is rounded to 1/257 of the source's steps. `in_8_bits` of that is what it is without.
        """
        span = self.span[list(bands)]
        positions = None if self.colour is None else self.colour.positions(bands)
        # In the memory layout of the source, most often band by band.
        result = np.empty_like(source, np.uint16 if in_16 else source.dtype)
        # A strip stays in the processor's cache from the first step to the last.
        step = _strip_rows(source)
        for top in range(0, len(source), step):
            rows = np.s_[top : top + step]
            part = change[rows]
            if not part.any():
                result[rows] = in_16_bits(source[rows]) if in_16 else source[rows]
                continue
            if positions is not None:
                known = None if seen is None else seen[rows]
                part = self._stored_change(source[rows], part, bands, positions, known)
            _apply_strip(source[rows], part, span, nodata, result[rows])
        return result

    def _stored_change(
        self,
        source: npt.NDArray[Any],
        change: npt.NDArray[np.float32],
        bands: Sequence[int],
        positions: list[int],
        seen: npt.NDArray[np.float32] | None,
    ) -> npt.NDArray[np.float32]:
        """Return `change` with that of red, green and blue in the file's own colours."""
        assert self.colour is not None
        with np.errstate(over="ignore", invalid="ignore"):
            finite = np.isfinite(change.sum())
        if not finite:
            change = np.where(np.isfinite(change), change, np.float32(0))
        colours = [bands[position] for position in positions]
        units, black = (each[colours].astype(np.float32) for each in (self.span, self.black))
        # Plane by plane in memory.
        step = np.stack([change[..., position] for position in positions])
        step *= units[:, None, None]
        working = None
        if seen is not None and (np.abs(black) <= MOST_BLACK * self.colour.full).all():
            working = np.stack([seen[..., position] for position in positions])
            working *= units[:, None, None]
            working += black[:, None, None]
        stored = np.stack([source[..., position] for position in positions])
        found = self.colour.stored_change(stored, step, working)
        changed = np.empty_like(change) if len(positions) == change.shape[2] else change.copy()
        for plane, position, unit in zip(found, positions, units, strict=True):
            np.divide(plane, unit, out=changed[..., position])
        return changed


def _strip_rows(values: npt.NDArray[Any]) -> int:
    """Return of how many rows of (h, w, c) `values` a strip is."""
    return max(1, STRIP_BYTES // max(1, 4 * values[:1].size))


def _apply_strip(
    source: npt.NDArray[Any],
    change: npt.NDArray[np.float32],
    span: npt.NDArray[np.float64],
    nodata: float | None,
    result: npt.NDArray[Any],
) -> None:
    """Apply the change to a few rows, as `Radiometry.apply_change`, into `result`.

    A `result` of uint16 for a source of uint8 is in 16 bits.
    """
    dtype = source.dtype
    # 24 bits hold every 8- and 16-bit integer and the half between two of them.
    work = np.dtype(np.float32 if _is_small(dtype) else np.float64)
    units, exact = span.astype(work), np.empty_like(source, work)
    with np.errstate(over="ignore", invalid="ignore"):
        _each_band(np.multiply, change, units, exact)
        # A sum is finite only if all are; if it overflows, the exact check costs time only.
        finite = np.isfinite(exact.sum())
    if not finite:
        change = np.where(np.isfinite(change), change, np.float32(0))
        with np.errstate(over="ignore"):
            _each_band(np.multiply, change, units, exact)
    if dtype.kind == "f":
        still = exact == 0
        exact += source
        limits = np.finfo(dtype)
        result[...] = np.clip(exact, limits.min, limits.max, out=exact)
        # Adding 0 would lose the sign of -0 and the payload of a NaN.
        np.copyto(result, source, where=still)
    else:
        exact += source
        if result.dtype != dtype:
            exact *= STEP
        whole = np.iinfo(result.dtype)
        np.rint(exact, out=exact)
        np.clip(exact, whole.min, whole.max, out=exact)
        np.copyto(result, exact, casting="unsafe")
    if nodata is not None and (value := _as_value(nodata, dtype)) is not None:
        hit = is_nodata(result, value)
        if hit.any() and (hit := hit & ~is_nodata(source, value)).any():
            at = np.unravel_index(np.flatnonzero(hit), hit.shape)
            moved = np.multiply(change[at], units[at[2]], dtype=work)
            moved += source[at]
            result[at] = _beside(nodata, moved, source[at], dtype)


def _each_band(
    function: np.ufunc,
    values: npt.NDArray[Any],
    numbers: npt.NDArray[Any],
    out: npt.NDArray[Any],
) -> None:
    """Compute ``out = function(values, numbers)`` for (h, w, c) and one number per band.

    Three times faster than broadcasting over a last axis of a few items, also where a model's
    output lies band by band in memory.
    """
    interleaved = values.strides[-1] == values.itemsize
    if interleaved and (numbers == numbers[0]).all():
        function(values, numbers[0], out=out)
        return
    for band, number in enumerate(numbers):
        function(values[..., band], number, out=out[..., band])


def _as_value(number: float, dtype: np.dtype[Any]) -> Any:
    """Return `number` as a scalar of `dtype`; None if none of its finite values equals it."""
    if not np.isfinite(number):
        return None
    if dtype.kind == "f":
        return dtype.type(number)
    limits = np.iinfo(dtype)
    is_exact = number == int(number) and limits.min <= number <= limits.max
    return dtype.type(int(number)) if is_exact else None


def _is_small(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iu" and dtype.itemsize <= 2


def _float32_suffices(
    dtype: np.dtype[Any], black: npt.NDArray[np.float64], span: npt.NDArray[np.float64]
) -> bool:
    """Return whether float32 gives the float64 result rounded once.

    A quotient of two float32 numbers is the same either way (Figueroa, "When is double rounding
    innocuous?", 1995); their difference must be exact as well.
    """
    exact = bool((span.astype(np.float32) == span).all())
    if _is_small(dtype):
        return exact and bool((black == np.rint(black)).all() and (np.abs(black) < 2**20).all())
    return exact and dtype.kind == "f" and dtype.itemsize <= 4 and not black.any()


def _beside(
    nodata: float,
    exact: npt.NDArray[Any],
    source: npt.NDArray[Any],
    dtype: np.dtype[Any],
) -> npt.NDArray[Any]:
    """Return the values next to `nodata`, on the side of `exact`, or of `source` if equal."""
    side = np.where(exact == nodata, source.astype(np.float64), exact) >= nodata
    down, up = beside_nodata(nodata, dtype)
    beside: npt.NDArray[Any] = np.where(side, up, down).astype(dtype)
    return beside
