"""Haze optimised transform with dark-object subtraction per haze level."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_restore.models._card import ModelCard
from napari_restore.models._context import Context
from napari_restore.models._model import Statistics, ToModel
from napari_restore.models.classical.base import (
    ClassicalModel,
    airlight_of,
    clear_level,
    monotone,
    soft_gate,
)

BLUE, RED = 0, 1
"""Channels of x; further bands follow."""
SAMPLED_SIDE = 1024
"""The overview is thinned to at most this many samples a side."""
WINDOW = 16
"""Side in samples of the windows in which the clear line's slope is estimated."""
LEVELS = 32
ENTRIES = 4096
FEWEST = 64
"""Samples below which a haze level's dark objects are not used."""
ROUNDING = 1e-6
"""Range of HOT, as a share of the brightest value, up to which it is rounding: a grey image's."""


class HazeOptimizedTransform(ClassicalModel):
    """Subtraction from each band of what its dark objects gain with rising haze.

    Over clear land blue and red lie on a line; haze lifts blue more, so the distance to that line,
    HOT = B·sin θ − R·cos θ, measures haze. Y. Zhang, B. Guindon, J. Cihlar, "An image transform to
    characterize and compensate for spatial variations in thin cloud contamination of Landsat
    images", Remote Sensing of Environment 82, 2002. The slope is the median of the windows in which
    blue and red agree best. A band is corrected by no more than haze can add to it. All tables come
    from the overview; a pixel's result then depends on that pixel alone.

    Statistics: ``line`` (4,) sin θ, cos θ, clear HOT, entries per HOT; ``offsets`` (C, ENTRIES),
    what is subtracted per band, in model range.
    """

    def __init__(self, card: ModelCard) -> None:
        super().__init__(card)
        self.strength = float(card.values["strength"])
        self.amount = float(card.values["amount"])
        self.deadband = float(card.values["deadband"])

    def prepare(self, context: Context, to_model: ToModel, bands: tuple[int, ...]) -> Statistics:
        step = -(-max(context.overview.shape[:2]) // SAMPLED_SIDE)
        samples = to_model(context.overview[::step, ::step])[..., list(bands)]
        slope = clear_line_slope(samples[..., BLUE], samples[..., RED])
        angle = float(np.arctan(slope))
        sine, cosine = np.sin(angle), np.cos(angle)
        pixels = samples[np.isfinite(samples).all(axis=2)]
        hot = pixels[:, BLUE] * sine - pixels[:, RED] * cosine
        clear, top = clear_level(hot), float(np.percentile(hot, 99.5)) if hot.size else 0.0
        scale = (ENTRIES - 1) / (top - clear) if top > clear else 0.0
        airlight = torch.from_numpy(airlight_of(context, to_model, bands))
        offsets = torch.from_numpy(dark_object_offsets(pixels, hot, clear, top)) * self.strength
        offsets = scattered(offsets, airlight)
        haze = (offsets / airlight[:, None]).amax(0)
        line = torch.tensor([sine, cosine, clear, scale], dtype=torch.float32)
        return {"line": line, "offsets": offsets * soft_gate(haze, self.deadband)}

    def restore(
        self, x: Tensor, statistics: Statistics, valid: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        sine, cosine, clear, scale = statistics["line"].unbind()
        hot = x[:, BLUE] * sine - x[:, RED] * cosine
        # An index of 32 bits would become one of 64 for every band, beside it and unseen.
        entry = hot.sub_(clear).mul_(scale).clamp_(0, ENTRIES - 1).to(torch.int64)
        tables = statistics["offsets"].to(x.dtype) * self.amount
        offsets = torch.stack([table[entry] for table in tables], 1)
        return x - offsets, {"haze": offsets[:, BLUE : BLUE + 1]}


def make(card: ModelCard) -> HazeOptimizedTransform:
    """Return the model of a card with its values filled in."""
    return HazeOptimizedTransform(card)


def clear_line_slope(blue: npt.NDArray[np.float64], red: npt.NDArray[np.float64]) -> float:
    """Return the slope of red over blue where the two agree best; 1 if they agree nowhere."""
    # Within a small window haze is even and keeps blue and red on a line, so hazy windows show the
    # slope too. Windows touching invalid samples are left out.
    b, r = _windows(blue), _windows(red)
    keep = np.isfinite(b).all(axis=1) & np.isfinite(r).all(axis=1)
    b, r = b[keep], r[keep]
    if b.size == 0:
        return 1.0
    b = b - b.mean(axis=1, keepdims=True)
    r = r - r.mean(axis=1, keepdims=True)
    bb, rr, br = (b * b).mean(axis=1), (r * r).mean(axis=1), (b * r).mean(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        agreement = br * br / (bb * rr)
    usable = (br > 0) & (bb > 1e-8) & (rr > 1e-8) & (agreement > 0.5)
    if not usable.any():
        return 1.0
    best = usable & (agreement >= np.quantile(agreement[usable], 0.8))
    # The geometric mean of both regressions: neither band is free of noise.
    return float(np.clip(np.median(np.sqrt(rr[best] / bb[best])), 0.3, 3.0))


def dark_object_offsets(
    pixels: npt.NDArray[np.float64], hot: npt.NDArray[np.float64], clear: float, top: float
) -> npt.NDArray[np.float32]:
    """Return (C, ENTRIES): rise of each band's dark objects from the clear level to `top`."""
    bands = pixels.shape[1]
    offsets = np.zeros((bands, ENTRIES), np.float32)
    if (hot <= clear).sum() < FEWEST or top - clear <= ROUNDING * np.abs(pixels).max():
        return offsets
    edges = np.linspace(clear, top, LEVELS + 1)
    # Closed above: of an image that is mostly grey no pixel lies below the clear level.
    level = np.digitize(hot, edges, right=True)
    base = np.percentile(pixels[level == 0], 1, axis=0)
    centres, rises = [clear], [np.zeros(bands)]
    for k in range(1, LEVELS + 1):
        members = pixels[level == k]
        if len(members) >= FEWEST:
            centres.append((edges[k - 1] + edges[k]) / 2)
            rises.append(np.percentile(members, 1, axis=0) - base)
    grid = np.linspace(clear, top, ENTRIES)
    for band, rise in enumerate(np.array(rises).T):
        offsets[band] = np.interp(grid, centres, np.maximum(monotone(rise), 0))
    return offsets


def scattered(offsets: Tensor, airlight: Tensor) -> Tensor:
    """Return (C, ENTRIES) offsets limited to what haze adds: of its airlight (C,), most to blue."""
    # The ground differs between haze levels too: roofs and soil among plants have a higher HOT, and
    # in near infrared their dark objects rise by more than haze could add.
    return torch.minimum(offsets, offsets[BLUE] * (airlight / airlight[BLUE])[:, None])


def _windows(band: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return (windows, WINDOW²) from (h, w); rests at the edges are left out."""
    side = min(WINDOW, *band.shape)
    rows, columns = band.shape[0] // side, band.shape[1] // side
    cut = band[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return cut.swapaxes(1, 2).reshape(-1, side * side)
