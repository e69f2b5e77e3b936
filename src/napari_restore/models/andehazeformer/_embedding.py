"""Tokens from pixels, and what decides which of them a cache keeps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pixel_unshuffle

from napari_restore.models.andehazeformer._config import BANDS, PLANES, AnDehazeConfig
from napari_restore.models.andehazeformer._sphere import SphereLinear, unit

LIFT = 3.0
"""Constant beside a patch's embedding: unit length alone would erase brightness and contrast,
which are what shows haze."""


class Embedding(nn.Module):
    """h = Norm(W_l Norm([W_e p; 3])) of patches p; in the twin without Norm.

    A patch holds the planes of the view in `stride`² pixels, and the darkest value of each band:
    linear layers hardly learn a minimum, and the darkest pixels show haze best (He et al. 2011).
    """

    def __init__(self, config: AnDehazeConfig) -> None:
        super().__init__()
        self.stride, self.normalised = config.stride, config.normalised
        inputs, width, free = PLANES * config.stride**2 + BANDS, config.width, not config.normalised
        # A column is the embedding of one pixel.
        self.patch = SphereLinear(inputs, width, columns=True, free=free)
        self.lift = SphereLinear(width + 1, width, free=free)

    def forward(self, planes: Tensor) -> Tensor:
        """Return tokens (N, H / stride, W / stride, C) of planes (N, 7, H, W)."""
        patches = pixel_unshuffle(planes, self.stride)
        cells = torch.unflatten(pixel_unshuffle(planes[:, :BANDS], self.stride), 1, (BANDS, -1))
        patches = torch.cat([patches, cells.amin(2)], 1).permute(0, 2, 3, 1)
        embedded = self.patch(patches)
        lifted = torch.cat([embedded, embedded.new_full((*embedded.shape[:3], 1), LIFT)], -1)
        out: Tensor = self.lift(unit(lifted) if self.normalised else lifted)
        return unit(out) if self.normalised else out


def filled(x: Tensor, valid: Tensor, side: int) -> Tensor:
    """Return images (N, C, H, W) whose invalid pixels have the mean of the valid ones around them.

    That of their cell of `side`² pixels, 0 if it has none. `valid` (N, 1, H, W) bool.
    """
    if bool(valid.all()):
        return x
    known = valid.to(x.dtype)
    mean = avg_pool2d(x.where(valid, 0.0), side) / avg_pool2d(known, side).clamp(min=1e-6)
    return x.where(valid, mean.repeat_interleave(side, 2).repeat_interleave(side, 3))


@torch.no_grad()
def ranks_of(view: Tensor, valid: Tensor, footprint: int) -> Tensor:
    """Return (N, 3, H / footprint, W / footprint) float32 of a view (N, 7 …, H, W).

    For each candidate of the cache its mean transmission, its contrast (the standard deviation of
    luminance), and its valid share; over valid pixels, 0 where there is none.
    """
    # Sums in float64, rounded to float32: the same bits however the image is tiled.
    known = valid.double()
    luminance = view[:, :BANDS].double().mean(1, keepdim=True)
    transmission = view[:, 2 * BANDS : PLANES].double()
    planes = torch.cat([known, transmission * known, luminance * known], 1)
    share, haze, light = torch.split(avg_pool2d(planes, footprint), 1, 1)
    some = share.clamp(min=1e-9)
    mean = (light / some).repeat_interleave(footprint, 2).repeat_interleave(footprint, 3)
    square = avg_pool2d((luminance - mean).square() * known, footprint) / some
    return torch.cat([haze / some, square.sqrt(), share], 1).float()
