"""Measurement of what a module's pixels depend on: a halo, the grid of its tiles, or all pixels."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from napari_restore._format import format_size
from napari_restore.engine.machine.device import cores
from napari_restore.engine.machine.device_memory import TensorCount
from napari_restore.engine.machine.failures import is_out_of_memory
from napari_restore.engine.machine.threads import on_new_thread
from napari_restore.errors import BadModel
from napari_restore.models import RestorationModel, sloped

SECONDS = 8.0
"""Seconds of computing after which a network counts as one of the whole image …"""
PASSES = 100
"""… or as many passes over a small image, where these take longer."""
_LENGTHS = (192, 384, 768)
"""Lengths in pixels of the images tried, until one is longer than what a pixel depends on …"""
_ACROSS = (96, 160, 256)
"""… and their other side, which that does not change: the first that a module takes."""
_PERIODS = (64, 96, 80, 112, 72)
"""Shifts tried: multiples of 1 to 10, 12, 14, 16, 18, 20, 24, 28, 32, 36, 40, 48, 56, 64 … pixels."""
_LONG = 2100
"""Length of the images that must be computed as shorter ones are, where there is time for that."""
_FEWEST = 32
"""Least rows and columns that must agree after a shift."""
_SLOPE = 0.25
"""Slope given to what saturates or rounds: seven layers in a row still show a difference in float32."""
_UNCOUNTED = {torch.float32: 2, torch.float64: 6}
"""Bytes per byte of tensors, for what libraries take besides: in float64 they unfold an image."""
_ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-10}
"""Largest differences by rounding, relative to the largest value."""
_aten = torch.ops.aten
_SATURATING = {
    *(_aten.relu, _aten.relu_, _aten.hardtanh, _aten.hardtanh_, _aten.threshold, _aten.threshold_),
    *(_aten.clamp, _aten.clamp_, _aten.clamp_min, _aten.clamp_min_, _aten.clamp_max),
    *(_aten.clamp_max_, _aten.hardsigmoid, _aten.hardsigmoid_),
    *(_aten.round, _aten.round_, _aten.floor, _aten.floor_, _aten.ceil, _aten.ceil_),
    *(_aten.trunc, _aten.trunc_, _aten.sign, _aten.sign_),
    *(_aten.hardswish, _aten.hardswish_, _aten.softshrink, _aten.hardshrink),
}
"""A choice by a mask, as in `where` or x * (x > 0), is not seen: tiles are compared in a run."""
_LIMITING = {
    **dict.fromkeys((_aten.maximum.default, _aten.fmax.default, _aten.max.other), _aten.minimum),
    **dict.fromkeys((_aten.minimum.default, _aten.fmin.default, _aten.min.other), _aten.maximum),
}
"""What takes one of two tensors, which may be a limit, and what takes the other one."""
Report = Callable[[int, int], None]
_FAILURES = (RuntimeError, ValueError, IndexError, TypeError, AssertionError)


@dataclass(frozen=True)
class Dependence:
    """What the pixels of a module depend on."""

    halo: int
    step: int
    """Tiles must begin at multiples of this many pixels, counted from the image's origin."""
    whole: str = ""
    """Why the module must be given the whole image; empty: tiles with their halo will do."""
    multiples_only: bool = False
    """Whether tiles will do only in images whose sides are multiples of `step`."""
    limited: bool = False
    """Whether more memory or time would have shown more."""


def dependence(model: RestorationModel, memory: int, progress: Report | None = None) -> Dependence:
    """Measure what the pixels of a local `model` depend on, in up to `memory` bytes.

    Long images are compared with others at all of their pixels: first with such that are black and
    white in turn at one end, or all black or white but for the other, so that means, extremes,
    quantiles and counts change; then with the same without some rows or columns. What saturates is given a slope, as it
    would hide differences. That no difference is left but rounding is confirmed in float64, where
    the module can be computed so. `progress` is called with the seconds of computing so far and the
    most that it takes. Raises `BadModel` for a module whose results differ from call to call.
    """
    return on_new_thread(lambda: _Trial(model, memory, progress).found(), "dependence")


class _NoRoom(Exception):
    """The measurement would take more memory or time than allowed."""


class _Sloped(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Gives functions that saturate a slope beyond their ends."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise torch loads its compiler to leave this out of it.
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        if func in _LIMITING:
            result = func(*args, **kwargs)
            if not result.is_floating_point():
                return result
            slope = _LIMITING[func](*args, **kwargs).sub_(result).mul_(_SLOPE)
            # A limit may be infinite.
            return result.add_(slope.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0))
        if func.overloadpacket not in _SATURATING or not args[0].is_floating_point():
            return func(*args, **kwargs)
        before = args[0].clone()
        result = func(*args, **kwargs)
        return result.add_(before.sub_(result), alpha=_SLOPE)


class _Trial:
    """One measurement of a model."""

    def __init__(
        self, model: RestorationModel, memory: int, progress: Report | None = None
    ) -> None:
        self.model, self.memory, self.progress = model, memory, progress
        self.id, self.multiple = model.card.id, model.card.size_step
        self.bands = model.card.planes_tried
        weights = [*model.parameters(), *model.buffers()]
        self.device = weights[0].device if weights else torch.device("cpu")
        self.sloped, self.across, self.least = False, _ACROSS[0], model.card.min_size
        self.limit, self.began, self.reported = SECONDS, time.thread_time(), 0
        self.costs: dict[torch.dtype, tuple[float, float]] = {}
        """Seconds and bytes per pixel of the last call."""
        self._bars: dict[tuple[object, ...], tuple[Tensor, Tensor]] = {}

    def found(self) -> Dependence:
        """Return the result."""
        # Threads would wait for each other longer than such small images take.
        torch.set_num_threads(1)
        hidden, reach = 0, None
        try:
            self._begin()
            for length in _LENGTHS:
                reach = self._reach(length)
                if reach is not None:
                    return self._on_grid(reach)
                hidden = length
        except _NoRoom as limit:
            if not hidden or reach is not None:
                why = f"measuring what its pixels depend on needs {limit}"
                return replace(self._whole(why), limited=True)
        except _FAILURES as error:
            if is_out_of_memory(error):
                raise
            first = str(error).strip().partition("\n")[0]
            return self._whole(f"it fails on some images that could be tiles: {first}")
        return self._whole(_far(hidden // 2))

    def _whole(self, why: str) -> Dependence:
        return Dependence(0, self.multiple, why)

    def _begin(self) -> None:
        """Find what a call costs, and whether slopes can be given; raise `BadModel` if calls differ."""
        for self.across in _ACROSS:
            x = self.bar(2, _LENGTHS[0])
            began = time.thread_time()
            try:
                y = self(x)
                break
            except _FAILURES:
                if self.across == _ACROSS[-1]:
                    raise
        seconds = time.thread_time() - began
        if seconds > 1:
            torch.set_num_threads(cores())
        self.limit = max(SECONDS, PASSES * seconds)
        if self.differs(self(x), y).any():
            raise BadModel(
                f"Model {self.id} gives another result each time for the same image.",
                "It adds noise, drops values or counts its calls: switch that off in its code.",
            )
        self.sloped = True
        try:
            self.sloped = bool(torch.isfinite(self(x)).all())
        except _FAILURES:
            self.sloped = False

    # -- calls -------------------------------------------------------------------

    def __call__(self, x: Tensor) -> Tensor:
        """Return the output for `x` (1, C, h, w) in the type of `x`."""
        pixels = x.shape[-2] * x.shape[-1]
        model = self.model if x.dtype == torch.float32 else self.exact
        seconds, size = self.costs.get(x.dtype, (0.0, 0.0))
        if size * pixels > self.memory:
            raise _NoRoom(f"more than {format_size(self.memory)}")
        began, count = time.thread_time(), TensorCount()
        if self.progress is not None and int(began - self.began) > self.reported:
            self.reported = int(began - self.began)
            self.progress(self.reported, int(self.limit))
        limit = self.limit if x.dtype == torch.float32 else self.limit / 2
        if began - self.began + seconds * pixels > limit:
            raise _NoRoom(f"more than {self.limit:.0f} s")
        assert model is not None
        with torch.inference_mode(), count.mode():
            x = x.to(self.device, copy=True)
            if self.sloped:
                with _Sloped(), sloped(_SLOPE):  # type: ignore[no-untyped-call]
                    y: Tensor = model(x)
            else:
                y = model(x)
        seconds = time.thread_time() - began
        self.costs[x.dtype] = seconds / pixels, _UNCOUNTED[x.dtype] * count.peak / pixels
        return y

    @cached_property
    def exact(self) -> RestorationModel | None:
        """A copy of the model in float64; None where it fails, or rounds to less."""
        if 16 * sum(p.numel() for p in self.model.parameters()) > self.memory:
            return None
        x = self.bar(2, _LENGTHS[0]).to(self.device)
        try:
            with torch.inference_mode():
                model = copy.deepcopy(self.model).double()
                y = model(x.double())
                moved = model(x.double() + 1e-9)
                same = not (y - self.model(x.clone())).abs().max() > 1e-3 * y.abs().max()
        except Exception:  # whatever code of others makes of another type
            return None
        # A module that rounds to float32 itself does not see so little.
        return model if same and not torch.equal(moved, y) else None

    def differs(self, y: Tensor, other: Tensor) -> Tensor:
        """Return where (1, C, h, w) two outputs differ by more than rounding."""
        most = _ROUNDING[y.dtype] * (float(other.nan_to_num().abs().max()) or 1.0)
        return ((y - other).abs() > most) | (y.isnan() != other.isnan())

    def bar(self, axis: int, length: int, odd: bool = False) -> Tensor:
        """Return (1, C, h, w) noise of all sizes in [0.05, 0.95], `length` along `axis` or as the module takes it."""
        k = self.multiple
        sides = [-(-max(side, self.least) // k) * k for side in (self.across, length)]
        # Sides that are `odd` are multiples of nothing else.
        if odd:
            sides = [side + more * k for side, more in zip(sides, (3, 5), strict=True)]
        width, height = sides if axis == 2 else sides[::-1]
        generator = torch.Generator().manual_seed(0)
        x = torch.zeros(1, self.bands, height, width)
        for size in (1, 1, 4, 16, 64):
            shape = -(-height // size), -(-width // size)
            noise = torch.rand(1, self.bands, *shape, generator=generator)
            noise = noise.repeat_interleave(size, 2).repeat_interleave(size, 3)
            x += 0.2 * noise[..., :height, :width]
        light = torch.linspace(0.6, 1.4, width)
        return ((x - 0.5) * 1.5 + 0.5).mul(light).clamp(0.05, 0.95)

    # -- measurements ------------------------------------------------------------

    def _reach(self, length: int, step: int = 1) -> int | None:
        """Return how far other values at an end, from a multiple of `step`, are seen; None: beyond this `length`."""
        worst = 0
        for axis in (2, 3):
            x = self.bar(axis, length)
            y = self(x)
            length = x.shape[axis]
            edge = -(-(length // 4) // step) * step
            for low, high in ((0, edge), ((length - edge) // step * step, length)):
                moved = self(_with_noise(x, axis, low, high))
                most = 4 * (length - (high - low)) // 5
                found = _furthest(moved != y, axis, low, high)
                if found > most:
                    # Running sums and Fourier transforms carry rounding far.
                    found = _furthest(self.differs(moved, y), axis, low, high)
                if found > most:
                    return None
                worst = max(worst, found)
        return worst

    def _reach_of_plain(self, reach: int, step: int) -> int | None:
        """Return how far black or white around, from a multiple of `step`, is seen, ≥ `reach`; None: everywhere."""
        kept = -(-(reach + _FEWEST) // step) * step
        for axis, ends in ((2, (True, False)), (3, (False, True))):
            length = -(-max(_LENGTHS[0], 3 * kept) // step) * step
            x = self.bar(axis, length)
            y = self(x)
            for value, first in zip((0.0, 1.0), ends, strict=True):
                low, high = (0, length - kept) if first else (kept, length)
                changed = x.clone()
                changed.narrow(axis, low, high - low).fill_(value)
                result = self(changed)
                found = _furthest(self.differs(result, y), axis, low, high)
                if found > kept - _FEWEST // 2:
                    return None
                reach = max(reach, found)
                # An image without any detail may be left alone.
                other = (high, length) if first else (0, low)
                plain = self.differs(self(torch.full_like(x, value)), result)
                if _furthest(plain, axis, *other) > (high - low) // 2:
                    return None
        return reach

    def _is_other_when_long(self, found: Dependence) -> bool:
        """Return whether a long image is computed in another way than a part of it."""
        halo, step = found.halo, found.step
        try:
            for axis in (2, 3):
                x = self.bar(axis, -(-_LONG // step) * step)
                side = -(-max(_LENGTHS[0], self.least, 2 * halo + _FEWEST) // step) * step
                at = x.shape[axis] // 2 // step * step
                part = self(x.narrow(axis, at, side))
                differs = self.differs(part, self(x).narrow(axis, at, side))
                if differs.narrow(axis, halo, side - 2 * halo).any():
                    return True
        except _NoRoom:
            pass
        return False

    def _on_grid(self, reach: int) -> Dependence:
        """Return the smallest grid on which tiles agree with the whole."""
        k = self.multiple
        tried = dict.fromkeys([k, *(k * max(1, period // k) for period in _PERIODS)])
        for odd in (True, False):
            for period in tried:
                step = self._smallest(reach, period, odd)
                if step is None:
                    continue
                halo = reach
                if step > 1:
                    longer = max(_LENGTHS[0], 2 * reach + 4 * step)
                    halo = max(halo, self._reach(longer, step) or 0)
                halo = max(halo, self._cut_reach(reach, step, step, odd))
                plain = self._reach_of_plain(halo, step)
                if plain is None:
                    return self._whole(_far(halo))
                result = Dependence(-(-plain // step) * step, step, multiples_only=not odd)
                if self._is_other_when_long(result):
                    return self._whole("it computes large images in another way")
                return result
        return self._whole("its pixels depend on their position in the image")

    def _smallest(self, reach: int, period: int, odd: bool) -> int | None:
        """Return the least divisor of `period` on which tiles agree; None if there is none."""
        if self._cut_reach(reach, period, period, odd) > reach + period:
            return None
        # A difference that is not rounding may still be as small.
        for confirming in (False, True):
            step = period
            for prime in (2, 2, 2, 2, 2, 2, 3, 3, 5, 7):
                less = step // prime
                if step % (prime * self.multiple) or not self._begins(reach, period, less, odd):
                    continue
                if not confirming or self._confirmed(reach, less, odd):
                    step = less
            if self._confirmed(reach, step, odd):
                return step
        return None

    def _begins(self, reach: int, most: int, step: int, odd: bool) -> bool:
        """Return whether what begins `step` pixels later is the same beyond the reach."""
        return self._cut_reach(reach, most, step, odd, ends=False) <= reach + step

    def _confirmed(self, reach: int, step: int, odd: bool) -> bool:
        """Return whether no more than rounding is left in float64, where that can be computed."""
        try:
            if self.exact is not None:
                kind = torch.float64
                return self._cut_reach(reach, step, step, odd, kind=kind) <= reach + step
        except _NoRoom:
            pass
        return True

    def _cut_reach(
        self,
        reach: int,
        most: int,
        step: int,
        odd: bool,
        *,
        ends: bool = True,
        kind: torch.dtype = torch.float32,
    ) -> int:
        """Return how far from an end pixels change that is cut off at a multiple of `step`.

        The images are long enough for steps of up to `most`. Without `ends`, only first rows and
        columns are cut off, not the last ones.
        """
        worst = 0
        for axis in (2, 3):
            least = max(self.across, self.least, reach + most + _FEWEST)
            x, y = self._whole_bar(axis, least + most, most, odd, kind)
            length = x.shape[axis]
            left = (length - 1) // step * step
            for low, high in ((step, length), (0, left)) if ends else ((step, length),):
                part = self(x.narrow(axis, low, high - low))
                differs = self.differs(part, y.narrow(axis, low, high - low))
                cut = (-1, 0) if low else (left, left + 1)
                worst = max(worst, _furthest(differs, axis, *cut))
                if worst > reach + step:
                    return worst
        return worst

    def _whole_bar(
        self, axis: int, length: int, multiple: int, odd: bool, kind: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Return an image and its output; the last ones are kept."""
        key = axis, length, multiple, odd, kind
        if key not in self._bars:
            if len(self._bars) > 3:
                self._bars.clear()
            x = self.bar(axis, -(-length // multiple) * multiple, odd).to(kind)
            self._bars[key] = x, self(x)
        return self._bars[key]


def _with_noise(x: Tensor, axis: int, low: int, high: int) -> Tensor:
    """Return `x` with black and white pixels from `low` to `high`: all statistics are others."""
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    changed = x.clone()
    changed.narrow(axis, low, high - low).copy_(noise.to(x).narrow(axis, low, high - low))
    return changed


def _far(pixels: int) -> str:
    return f"its pixels depend on others more than {pixels} pixels away"


def _furthest(touched: Tensor, axis: int, low: int, high: int) -> int:
    """Return the largest distance along `axis` of a touched pixel (1, C, h, w) from [low, high)."""
    at = touched.any(1).any(4 - axis)[0].nonzero().flatten()
    return int(torch.maximum(low - at, at - (high - 1)).clamp(min=0).max()) if len(at) else 0
