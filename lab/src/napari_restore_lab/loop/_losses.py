"""Training losses over valid pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from napari_restore.extension import (
    DEEPEST,
    SSIM_K1,
    SSIM_K2,
    SSIM_SIGMA,
    SSIM_WINDOW,
    THICKEST,
    BadParameter,
    RestorationModel,
    cut,
    pad_to_multiple,
)

THINNEST = 1e-3
"""Lower limit of transmission in the loss of optical depth."""
OPAQUE = 2.8
"""Optical depth beyond which 8 bits no longer show what lies behind: it is no target."""
TINTED = math.log(2)
"""Optical depth from which the loss of colour counts …"""
PATCH = 4
"""… and the side of its patches, in pixels that are evaluated."""


class Clear(Protocol):
    """Target images and their validity."""

    @property
    def clear(self) -> Tensor: ...
    @property
    def valid(self) -> Tensor: ...


class PairBatch(Clear, Protocol):
    """The fields of a batch used by objectives; see `napari_restore_lab.data.Batch`."""

    @property
    def hazy(self) -> Tensor: ...
    @property
    def depth(self) -> Tensor: ...
    @property
    def airlight(self) -> Tensor: ...


MIN_AIRLIGHT_DISTANCE = 0.1
"""Smallest difference to the airlight, in display values, at which the optical depth is defined."""
SMALL = 4e-4
"""Squared error (34 dB) below which `log_error` saturates."""
SMALL_OF_BRACKETS = 1e-5
"""The same (50 dB) for brackets: one frame may show all but what it clips."""

Losses = dict[str, Tensor]


@dataclass(frozen=True)
class LossTerms:
    """Named losses of a model on a batch, and their default weights."""

    weights: Mapping[str, float]
    compute: Callable[[RestorationModel, PairBatch, bool, Set[str]], Losses]
    """(model, batch, whether the network runs in bfloat16, requested losses) → scalars by name."""

    def weighted(self, overrides: Mapping[str, float]) -> dict[str, float]:
        """Return the default weights updated by `overrides`; raises `BadParameter`."""
        for name, weight in overrides.items():
            if name not in self.weights:
                raise BadParameter(
                    f"[loss] has no key {name!r}.", f"This model has: {', '.join(self.weights)}."
                )
            if not weight >= 0:
                raise BadParameter(f"[loss] {name} = {weight} is below 0.", "Write 0 for none.")
        return {**self.weights, **overrides}


def objective_of(model_id: str) -> LossTerms:
    """Return the objective of a model."""
    return OBJECTIVES.get(model_id, DEFAULT)


def masked_l1(a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
    """Return the mean |a − b| of (N, C, H, W) where `valid` (N, 1 or C, H, W) is true; 0 if nowhere."""
    count = valid.expand_as(a).sum()
    # `where`, not a product: invalid pixels may be NaN.
    mean: Tensor = (a - b).abs().where(valid, 0.0).sum() / count.clamp(min=1)
    return mean


def log_error(a: Tensor, b: Tensor, valid: Tensor, small: float = SMALL) -> Tensor:
    """Return the mean over images of log10(mean (a − b)² + `small`), i.e. −PSNR / 10.

    Images under thin haze count as much as those under thick haze, whose errors are a hundred
    times larger.
    """
    count = valid.sum((1, 2, 3)).clamp(min=1) * a.shape[1]
    error = (a - b).square().where(valid, 0.0).sum((1, 2, 3)) / count
    return torch.log10(error + small).mean()


def ssim(a: Tensor, b: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the structural similarity of (N, C, H, W) float32 in 0 … 1, differentiable.

    As `napari_restore.metrics.ssim` with a range of 1: Gaussian windows of 11 × 11 that
    lie inside, without those with an invalid pixel (`valid` (N, 1, H, W)). The mean is
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


def spectral_l1(a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
    """Return the mean |Re| and |Im| of the orthonormal 2-D FFT of a − b, (N, C, H, W).

    Orthonormal, so that it does not grow with the crop: published recipes weigh the plain FFT,
    whose values are larger by the root of the number of pixels.
    """
    difference = (a - b).where(valid, 0.0)
    waves = torch.fft.rfft2(difference, norm="ortho")
    return torch.view_as_real(waves).abs().mean()


def _blurred(maps: Tensor) -> Tensor:
    """Convolve (…, H, W) with the Gaussian without padding: (…, H − 10, W − 10).

    As products with banded matrices: on CPUs, with gradients, 4 times as fast as sums
    of shifted maps and 16 times as fast as convolutions (crops of 256 pixels, measured).
    """
    rows, columns = _band(maps.shape[-2], maps), _band(maps.shape[-1], maps)
    return rows @ (maps @ columns.T)


def _band(length: int, like: Tensor) -> Tensor:
    """Return the banded matrix of the Gaussian, (length − 10, length)."""
    offsets = torch.arange(SSIM_WINDOW, dtype=torch.float64) - SSIM_WINDOW // 2
    weights = torch.exp(-0.5 * (offsets / SSIM_SIGMA) ** 2)
    weights = weights / weights.sum()
    band = torch.zeros(length - SSIM_WINDOW + 1, length, dtype=torch.float64)
    for offset, weight in enumerate(weights.tolist()):
        band.diagonal(offset).fill_(weight)
    return band.to(like)


def _picture(
    model: RestorationModel, y: Tensor, batch: Clear, wanted: Set[str], small: float = SMALL
) -> Losses:
    """Return the losses of the restored image against the clear one."""
    y = y.float()
    losses = {}
    if "l1" in wanted:
        losses["l1"] = masked_l1(y, batch.clear, batch.valid)
    if "log_error" in wanted:
        losses["log_error"] = log_error(y, batch.clear, batch.valid, small)
    if "ssim" in wanted:
        losses["ssim"] = 1 - ssim(y, batch.clear, batch.valid)
    if "fft" in wanted:
        losses["fft"] = spectral_l1(y, batch.clear, batch.valid)
    network: Any = getattr(model, "auxiliary_loss", None)
    # Always called, as it frees what the forward pass stored for it.
    extra = None if network is None else network()
    if extra is not None and "auxiliary" in wanted:
        losses["auxiliary"] = extra.float()
    return losses


def _default(
    model: RestorationModel, batch: PairBatch, bf16: bool, wanted: Set[str], small: float = SMALL
) -> Losses:
    with _precision(batch, bf16):
        y = model(batch.hazy, None, batch.valid)
    return _picture(model, y, batch, wanted, small)


def _atmosphere(model: RestorationModel, batch: PairBatch, bf16: bool, wanted: Set[str]) -> Losses:
    """Return the losses on every third row and column, and SSIM on a window.

    Haze varies slowly, so a ninth of the pixels suffices, in half of the time.
    """
    network: Any = model
    with _precision(batch, bf16):
        statistics = network.observe(batch.hazy, batch.valid)
        rows, columns = (slice(start, None, 3) for start in torch.randint(3, (2,)).tolist())
        y, maps = network.invert(batch.hazy, statistics, rows, columns)
    part = _Part(batch, rows, columns)
    losses = _picture(model, y, part, wanted - {"ssim"})
    if "ssim" in wanted:
        window = [_window(side) for side in batch.hazy.shape[2:]]
        with _precision(batch, bf16):
            y, _ = network.invert(batch.hazy, statistics, *window)
        losses |= _picture(model, y, _Part(batch, *window), {"ssim"})
    if "depth" in wanted:
        depth = -maps["transmission"].float().clamp(min=THINNEST).log()
        losses["depth"] = masked_l1(depth, part.depth.clamp(max=THICKEST), part.known)
    if "airlight" in wanted:
        losses["airlight"] = _airlight_error(batch, statistics["airlight"].float()[..., 0, 0])
    if "colour" in wanted:
        losses["colour"] = _colour_error(y.float(), part)
    return losses


def _smooth_and_tiles(
    model: RestorationModel, batch: PairBatch, bf16: bool, wanted: Set[str]
) -> Losses:
    """Return the losses of a staged dehazing network: its smooth maps, and a quarter of the tiles.

    Decoding takes half of a step; the smooth maps are evaluated on every third row and column.
    """
    network: Any = model
    whole = pad_to_multiple(batch.hazy, network.tile)
    rows, columns = (slice(int(torch.randint(3, ())), side, 3) for side in batch.hazy.shape[2:])
    inside = _tiles(batch.valid, network.tile)
    # A tile without valid pixels would have zero error.
    some = inside.flatten(1).any(1)
    some = (some if some.any() else ~some).nonzero()[:, 0]
    chosen = some[torch.randperm(len(some))[: -(-len(inside) // 4)]]
    with _precision(batch, bf16):
        y, depth, airlight, tiles = small_outputs(network, whole, rows, columns, chosen)
    smooth = _Part(batch, rows, columns)
    losses = _picture(model, y, smooth, wanted - {"ssim"})
    drawn = _Drawn(_tiles(batch.clear, network.tile)[chosen], inside[chosen])
    for name, value in _picture(model, tiles, drawn, wanted - {"auxiliary"}).items():
        # The mean of both; SSIM is available for tiles only.
        losses[name] = (losses.get(name, value) + value) / 2
    if "depth" in wanted:
        target, known = depth_in_display(smooth)
        losses["depth"] = masked_l1(depth.float(), target, known)
    if "airlight" in wanted:
        difference = (airlight.float() - batch.airlight[..., None, None]).abs()
        # Weighted by haze: the airlight of thin haze is hardly visible.
        share = 1 - torch.exp(-smooth.depth)
        losses["airlight"] = (difference * share).where(smooth.valid, 0.0).mean()
    return losses


def small_outputs(
    network: Any, x: Tensor, rows: slice, columns: slice, chosen: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the small outputs of an Inf-Dehaze with the head "haze", of images of whole tiles.

    From the smooth maps of `x` (N, 3, H, W) alone: `rows` and `columns` restored, with optical depth
    and airlight. And the tiles that are `chosen`, counted row by row and image by image, restored
    with all.
    """
    view = network.view(x)
    encoded = network.encode_images(view)
    smooth = network.unveiled(view, encoded.grids, None, rows, columns)
    residuals = tuple(residual[chosen] for residual in encoded.residuals)
    parts = (part[chosen] for part in (encoded.tokens, encoded.encoded))
    return *smooth, network.decode(*parts, residuals, encoded.tiles[chosen])


def _scattering(model: RestorationModel, batch: PairBatch, bf16: bool, wanted: Set[str]) -> Losses:
    """Return the losses of a network that also estimates transmission and airlight.

    "scattering" is the error of the clear image that these two alone give.
    """
    with _precision(batch, bf16):
        y, maps = model.forward_with_maps(batch.hazy, None, batch.valid)
    losses = _picture(model, y, batch, wanted)
    transmission, airlight = maps["transmission"].float(), maps["airlight"].float()
    if "scattering" in wanted:
        inverted = airlight + (batch.hazy - airlight) / transmission.clamp(min=THINNEST)
        losses["scattering"] = masked_l1(inverted, batch.clear, batch.valid)
    if "depth" in wanted:
        depth = -transmission.clamp(min=THINNEST).log()
        losses["depth"] = masked_l1(depth, batch.depth, batch.valid)
    if "airlight" in wanted:
        losses["airlight"] = _airlight_error(batch, airlight[..., 0, 0])
    return losses


def _airlight_error(batch: PairBatch, airlight: Tensor) -> Tensor:
    """Return the mean error of `airlight` (N, 3), weighted by haze: in thin haze it hardly shows."""
    haze_share = (1 - torch.exp(-batch.depth)).where(batch.valid, 0.0).mean((1, 2, 3))
    return ((airlight - batch.airlight).abs().mean(1) * haze_share).mean()


def depth_in_display(batch: PairBatch) -> tuple[Tensor, Tensor]:
    """Return optical depth (N, 3, H, W) in display values, and where it is defined.

    Haze added in linear light has a larger depth in dark display values.
    """
    airlight = batch.airlight[..., None, None]
    known = ((airlight - batch.clear).abs() > MIN_AIRLIGHT_DISTANCE) & batch.valid
    share = (airlight - batch.hazy) / (airlight - batch.clear)
    return -share.where(known, 1.0).clamp(math.exp(-DEEPEST), 1).log(), known


def _colour_error(y: Tensor, part: _Part) -> Tensor:
    """Return the mean difference of colour, less brightness, of patches under thick haze.

    There a small error of the airlight is a strong tint, also where nothing else can be seen.
    """

    def tint(values: Tensor) -> Tensor:
        colour = values - values.mean(1, keepdim=True)
        return functional.avg_pool2d(colour.where(part.known, 0.0), PATCH)

    thick = functional.avg_pool2d(((part.depth > TINTED) & part.known).float(), PATCH)
    difference = (tint(y.clamp(-0.5, 1.5)) - tint(part.clear)).abs().mean(1, keepdim=True)
    return (difference * thick).sum() / thick.sum().clamp(min=1)


class _Part:
    """A subset of rows and columns of a batch; `valid` are those whose clear image can be seen."""

    def __init__(self, batch: PairBatch, rows: slice, columns: slice) -> None:
        def cut(values: Tensor) -> Tensor:
            return values[..., rows, columns]

        self.hazy, self.clear = cut(batch.hazy), cut(batch.clear)
        self.depth, self.known = cut(batch.depth), cut(batch.valid)
        self.valid = self.known & (self.depth <= OPAQUE)
        self.airlight = batch.airlight


class _Drawn(NamedTuple):
    """Clear images of tiles (M, 3, T, T), and their validity."""

    clear: Tensor
    valid: Tensor


def _tiles(values: Tensor, side: int) -> Tensor:
    """Split images (N, C, H, W) into tiles (M, C, side, side), row by row, image by image.

    Tiles are padded with zeros or false.
    """
    height, width = values.shape[2:]
    whole = functional.pad(values, (0, -width % side, 0, -height % side))
    return torch.cat([cut(picture, side) for picture in whole])


def _window(side: int) -> slice:
    """Return a random third of `side` pixels."""
    start = int(torch.randint(side - side // 3 + 1, (1,)))
    return slice(start, start + side // 3)


def _precision(batch: PairBatch, bf16: bool) -> torch.autocast:
    return torch.autocast(batch.hazy.device.type, torch.bfloat16, enabled=bf16)


DEFAULT = LossTerms(
    {"l1": 1.0, "log_error": 0.0, "ssim": 0.2, "fft": 0.0, "auxiliary": 0.01}, _default
)
HINT = LossTerms({"l1": 1.0, "log_error": 0.0, "ssim": 0.0, "fft": 1.0}, _default)
BRACKETS = LossTerms(
    {"l1": 1.0, "log_error": 0.0, "ssim": 0.1, "fft": 0.0},
    partial(_default, small=SMALL_OF_BRACKETS),
)
OBJECTIVES = {
    "atmosphere": LossTerms(
        {"l1": 1.0, "log_error": 0.0, "ssim": 0.05, "depth": 0.3, "airlight": 0.3, "colour": 0.0},
        _atmosphere,
    ),
    "andehazeformer-small": LossTerms(
        {
            "l1": 1.0,
            "log_error": 0.0,
            "ssim": 0.2,
            "scattering": 0.2,
            "depth": 0.1,
            "airlight": 0.1,
        },
        _scattering,
    ),
    "hint": HINT,
    "hint-small": HINT,
    "ipl": BRACKETS,
    "ipl-small": BRACKETS,
    "inf-dehaze-small": LossTerms(
        {**DEFAULT.weights, "depth": 0.1, "airlight": 0.1}, _smooth_and_tiles
    ),
}
"""Objectives other than the default, by model id."""
