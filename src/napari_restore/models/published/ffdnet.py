"""FFDNet, a denoiser on a quarter of the pixels that is given the noise level.

Zhang, Zuo, Zhang: FFDNet: toward a fast and flexible solution for CNN-based image denoising, IEEE
Transactions on Image Processing 27, 2018, arXiv:1710.04026. The authors' code and weights (KAIR)
are under the MIT licence; this file was written from the paper and the names and shapes of the
weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_shuffle, pixel_unshuffle

from napari_restore.models._weights import other_network
from napari_restore.models.published.dncnn import kernels_of


class FFDNet(nn.Module):
    """Denoises (N, bands, H, W) in [0, 1] of a noise level (N, 1, 1, 1) in the same units."""

    step = 1

    def __init__(self, bands: int = 3, width: int = 96, layers: int = 12) -> None:
        super().__init__()
        self.bands = bands
        parts: list[nn.Module] = [nn.Conv2d(4 * bands + 1, width, 3, padding=1), nn.ReLU()]
        for _ in range(layers - 2):
            parts += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        self.model = nn.Sequential(*parts, nn.Conv2d(width, 4 * bands, 3, padding=1))

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        quarters = pixel_unshuffle(pad(x, (0, width % 2, 0, height % 2), "replicate"), 2)
        count, _, rows, columns = quarters.shape
        seen = torch.cat((quarters, level.expand(count, 1, rows, columns)), dim=1)
        return pixel_shuffle(self.model(seen), 2)[..., :height, :width]


def sizes_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `FFDNet` for these weights; raises `BadModel`."""
    kernels = [state[name].shape for name in kernels_of(state)]
    bands, rest = divmod(kernels[-1][0], 4)
    if rest or kernels[0][1] != 4 * bands + 1:
        raise other_network(
            "FFDNet", f"they take {kernels[0][1]} channels and give {kernels[-1][0]}"
        )
    return {"bands": bands, "width": kernels[0][0], "layers": len(kernels)}
