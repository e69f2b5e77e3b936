"""What training makes small: differences over the pixels that are valid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from napari_restore.errors import BadParameter
from napari_restore.metrics import SSIM_K1, SSIM_K2, SSIM_SIGMA, SSIM_WINDOW
from napari_restore.models import RestorationModel, cut, pad_to_multiple
from napari_restore.models.inf_dehaze import DEEPEST

THINNEST = 1e-3
"""Transmission below which an optical depth tells nothing more."""


class Clear(Protocol):
    """The pictures to come near to, and where they are valid."""

    @property
    def clear(self) -> Tensor: ...
    @property
    def valid(self) -> Tensor: ...


class Pairs(Clear, Protocol):
    """What an objective sees of a batch; see `napari_restore.training.data.Batch`."""

    @property
    def hazy(self) -> Tensor: ...
    @property
    def depth(self) -> Tensor: ...
    @property
    def airlight(self) -> Tensor: ...
    @property
    def is_clear(self) -> Tensor: ...


MIN_AIRLIGHT_DISTANCE = 0.1
"""Distance in display values from which on a pixel tells how deep the haze before it is."""
SMALL = 4e-4
"""Squared error (34 dB) below which a picture is no longer made better."""

Losses = dict[str, Tensor]


@dataclass(frozen=True)
class Objective:
    """Named losses of a model on a batch, and how much each counts by default."""

    weights: Mapping[str, float]
    compute: Callable[[RestorationModel, Pairs, bool, Set[str]], Losses]
    """(model, batch, whether the network runs in bfloat16, which are wanted) → scalars by name."""

    def weighted(self, given: Mapping[str, float]) -> dict[str, float]:
        """All weights with `given` over the defaults; raises `BadParameter`."""
        for name, weight in given.items():
            if name not in self.weights:
                raise BadParameter(
                    f"[loss] has no key {name!r}.", f"This model has: {', '.join(self.weights)}."
                )
            if not weight >= 0:
                raise BadParameter(f"[loss] {name} = {weight} is below 0.", "Write 0 for none.")
        return {**self.weights, **given}


def objective_of(model_id: str) -> Objective:
    """The objective that belongs to a model."""
    return OBJECTIVES.get(model_id, DEFAULT)


def masked_l1(a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
    """Mean |a − b| of (N, C, H, W) where `valid` (N, 1 or C, H, W) is true; 0 if nowhere."""
    count = valid.expand_as(a).sum()
    # Not times the mask: what is not valid may be NaN.
    mean: Tensor = (a - b).abs().where(valid, 0.0).sum() / count.clamp(min=1)
    return mean


def log_error(a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
    """Mean over images of log10(mean (a − b)² + `SMALL`): −PSNR / 10, which is what is scored.

    A picture under thin haze counts as much as one under thick haze, whose errors are a
    hundred times as large.
    """
    count = valid.sum((1, 2, 3)).clamp(min=1) * a.shape[1]
    error = (a - b).square().where(valid, 0.0).sum((1, 2, 3)) / count
    return torch.log10(error + SMALL).mean()


def ssim(a: Tensor, b: Tensor, valid: Tensor | None = None) -> Tensor:
    """Structural similarity of (N, C, H, W) float32 in 0 … 1, differentiable.

    As `napari_restore.metrics.ssim` with a range of 1: Gaussian windows of 11 × 11 that
    lie inside, those with a pixel that is not `valid` (N, 1, H, W) left out. The mean is
    over all windows of the batch that count; 1 where there are none.
    """
    if min(a.shape[2:]) < SSIM_WINDOW:
        return a.new_ones(())
    if valid is not None:
        a, b = a.where(valid, 0.0), b.where(valid, 0.0)
    means = _blurred(torch.stack([a, b, a * a + b * b, a * b]))
    mean_a, mean_b, square, shared = means.unbind()
    product = mean_a * mean_b
    squares = mean_a * mean_a + mean_b * mean_b
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    similar = (2 * product + c1) * (2 * (shared - product) + c2)
    similar = similar / ((squares + c1) * (square - squares + c2))
    if valid is None or bool(valid.all()):
        return similar.mean()
    whole = functional.max_pool2d((~valid).float(), SSIM_WINDOW, stride=1) == 0
    count = whole.sum() * a.shape[1]
    if not count:
        return a.new_ones(())
    mean: Tensor = similar.where(whole, 0.0).sum() / count
    return mean


def _blurred(maps: Tensor) -> Tensor:
    """(…, H, W) under the Gaussian, where the window lies inside: (…, H − 10, W − 10).

    As products with banded matrices: with a processor's gradients 4 times as fast as sums
    of shifted maps and 16 times as fast as convolutions (crops of 256 pixels, measured).
    """
    rows, columns = _band(maps.shape[-2], maps), _band(maps.shape[-1], maps)
    return rows @ (maps @ columns.T)


def _band(length: int, like: Tensor) -> Tensor:
    """(length − 10, length): the Gaussian's weights, in each row one place further."""
    offsets = torch.arange(SSIM_WINDOW, dtype=torch.float64) - SSIM_WINDOW // 2
    weights = torch.exp(-0.5 * (offsets / SSIM_SIGMA) ** 2)
    weights = weights / weights.sum()
    band = torch.zeros(length - SSIM_WINDOW + 1, length, dtype=torch.float64)
    for offset, weight in enumerate(weights.tolist()):
        band.diagonal(offset).fill_(weight)
    return band.to(like)


def _picture(model: RestorationModel, y: Tensor, batch: Clear, wanted: Set[str]) -> Losses:
    """How far the restored picture is from the clear one."""
    y = y.float()
    found = {}
    if "l1" in wanted:
        found["l1"] = masked_l1(y, batch.clear, batch.valid)
    if "log_error" in wanted:
        found["log_error"] = log_error(y, batch.clear, batch.valid)
    if "ssim" in wanted:
        found["ssim"] = 1 - ssim(y, batch.clear, batch.valid)
    own: Any = getattr(model, "auxiliary_loss", None)
    # Asked for in any case: it drops what it has kept of the call.
    extra = None if own is None else own()
    if extra is not None and "auxiliary" in wanted:
        found["auxiliary"] = extra.float()
    return found


def _default(model: RestorationModel, batch: Pairs, bf16: bool, wanted: Set[str]) -> Losses:
    with _precision(batch, bf16):
        y = model(batch.hazy, None, batch.valid)
    return _picture(model, y, batch, wanted)


def _atmosphere(model: RestorationModel, batch: Pairs, bf16: bool, wanted: Set[str]) -> Losses:
    """Of every third row and column, and of a window where neighbours count.

    Haze varies slowly, so a ninth of the pixels tells as much, in half of the time.
    """
    own: Any = model
    with _precision(batch, bf16):
        statistics = own.observe(batch.hazy, batch.valid)
        rows, columns = (slice(start, None, 3) for start in torch.randint(3, (2,)).tolist())
        y, maps = own.invert(batch.hazy, statistics, rows, columns)
    part = _Part(batch, rows, columns)
    found = _picture(model, y, part, wanted - {"ssim"})
    if "ssim" in wanted:
        window = [_window(side) for side in batch.hazy.shape[2:]]
        with _precision(batch, bf16):
            y, _ = own.invert(batch.hazy, statistics, *window)
        found |= _picture(model, y, _Part(batch, *window), {"ssim"})
    if "depth" in wanted:
        depth = -maps["transmission"].float().clamp(min=THINNEST).log()
        found["depth"] = masked_l1(depth, part.depth, part.valid)
    if "airlight" in wanted:
        # The thinner the haze, the less its colour shows.
        there = (1 - torch.exp(-batch.depth)).where(batch.valid, 0.0).mean((1, 2, 3))
        apart = (statistics["airlight"].float()[..., 0, 0] - batch.airlight).abs().mean(1)
        found["airlight"] = (apart * there).mean()
    return found


def _smooth_and_tiles(
    model: RestorationModel, batch: Pairs, bf16: bool, wanted: Set[str]
) -> Losses:
    """Of a staged network that takes haze off: its smooth maps, and a quarter of the tiles.

    Decoding is half of a step; the smooth maps of every third row and column tell as much.
    """
    own: Any = model
    whole = pad_to_multiple(batch.hazy, own.tile)
    rows, columns = (slice(int(torch.randint(3, ())), side, 3) for side in batch.hazy.shape[2:])
    inside = _tiles(batch.valid, own.tile)
    # A tile without a valid pixel would count as one without an error.
    some = inside.flatten(1).any(1)
    some = (some if some.any() else ~some).nonzero()[:, 0]
    chosen = some[torch.randperm(len(some))[: -(-len(inside) // 4)]]
    with _precision(batch, bf16):
        y, depth, airlight, tiles = own.smooth_and_tiles(whole, rows, columns, chosen)
    smooth = _Part(batch, rows, columns)
    found = _picture(model, y, smooth, wanted - {"ssim"})
    drawn = _Drawn(_tiles(batch.clear, own.tile)[chosen], inside[chosen])
    for name, value in _picture(model, tiles, drawn, wanted - {"auxiliary"}).items():
        # The mean of both; neighbours, which SSIM is about, are there in tiles only.
        found[name] = (found.get(name, value) + value) / 2
    if "depth" in wanted:
        target, known = depth_in_display(smooth)
        found["depth"] = masked_l1(depth.float(), target, known)
    if "airlight" in wanted:
        apart = (airlight.float() - batch.airlight[..., None, None]).abs()
        # The thinner the haze, the less its colour shows.
        share = 1 - torch.exp(-smooth.depth)
        found["airlight"] = (apart * share).where(smooth.valid, 0.0).mean()
    return found


def depth_in_display(batch: Pairs) -> tuple[Tensor, Tensor]:
    """Optical depth (N, 3, H, W) between clear and hazy display values; where it can be told.

    Haze that was added in linear light is deeper in the dark, seen in display values.
    """
    airlight = batch.airlight[..., None, None]
    known = ((airlight - batch.clear).abs() > MIN_AIRLIGHT_DISTANCE) & batch.valid
    share = (airlight - batch.hazy) / (airlight - batch.clear)
    return -share.where(known, 1.0).clamp(math.exp(-DEEPEST), 1).log(), known


class _Part:
    """Some rows and columns of a batch."""

    def __init__(self, batch: Pairs, rows: slice, columns: slice) -> None:
        def cut(values: Tensor) -> Tensor:
            return values[..., rows, columns]

        self.hazy, self.clear = cut(batch.hazy), cut(batch.clear)
        self.depth, self.valid = cut(batch.depth), cut(batch.valid)
        self.airlight, self.is_clear = batch.airlight, batch.is_clear


class _Drawn(NamedTuple):
    """The clear pictures of some tiles (M, 3, T, T), and where they are valid."""

    clear: Tensor
    valid: Tensor


def _tiles(values: Tensor, side: int) -> Tensor:
    """Tiles of pictures (N, C, H, W), row by row and picture by picture: (M, C, side, side).

    Beyond a picture they are zero, or false.
    """
    height, width = values.shape[2:]
    whole = functional.pad(values, (0, -width % side, 0, -height % side))
    return torch.cat([cut(picture, side) for picture in whole])


def _window(side: int) -> slice:
    """A random third of `side` pixels."""
    start = int(torch.randint(side - side // 3 + 1, (1,)))
    return slice(start, start + side // 3)


def _precision(batch: Pairs, bf16: bool) -> torch.autocast:
    return torch.autocast(batch.hazy.device.type, torch.bfloat16, enabled=bf16)


DEFAULT = Objective({"l1": 1.0, "log_error": 0.0, "ssim": 0.2, "auxiliary": 0.01}, _default)
OBJECTIVES = {
    "atmosphere": Objective(
        {"l1": 1.0, "log_error": 0.0, "ssim": 0.05, "depth": 0.3, "airlight": 0.3}, _atmosphere
    ),
    "inf-dehaze-small": Objective(
        {**DEFAULT.weights, "depth": 0.1, "airlight": 0.1}, _smooth_and_tiles
    ),
}
"""Objectives other than the default, by model id."""
