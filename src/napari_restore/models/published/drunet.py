"""DRUNet, a residual U-Net that denoises at a given level.

Zhang, Li, Zuo, Zhang, Van Gool, Timofte: Plug-and-play image restoration with deep denoiser prior,
IEEE Transactions on Pattern Analysis and Machine Intelligence 44, 2022, arXiv:2008.13751. The
authors' code and weights (KAIR, DPIR) are under the MIT licence; this file was written from the
paper and the names and shapes of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from napari_restore.models._weights import layers_in, other_network

_LEVELS = 3


class ResidualConvolutions(nn.Module):
    """Adds two convolutions of 3 × 3 of (N, width, H, W) to it."""

    def __init__(self, width: int, bias: bool) -> None:
        super().__init__()
        first, second = (nn.Conv2d(width, width, 3, padding=1, bias=bias) for _ in range(2))
        self.res = nn.Sequential(first, nn.ReLU(), second)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.res(x)
        return x + added


class DRUNet(nn.Module):
    """Denoises (N, inputs, H, W) in [0, 1]; sides are multiples of 8.

    The last of `inputs` is the noise level at each pixel, in the same units, where there is one more
    than `bands`.
    """

    step = 2**_LEVELS

    def __init__(
        self,
        inputs: int = 4,
        bands: int = 3,
        widths: Sequence[int] = (64, 128, 256, 512),
        blocks: int = 4,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.bands, self.inputs = bands, inputs
        self.m_head = nn.Conv2d(inputs, widths[0], 3, padding=1, bias=bias)
        for level in range(_LEVELS):
            width, wider = widths[level : level + 2]
            halved = nn.Conv2d(width, wider, 2, stride=2, bias=bias)
            doubled = nn.ConvTranspose2d(wider, width, 2, stride=2, bias=bias)
            down = nn.Sequential(
                *(ResidualConvolutions(width, bias) for _ in range(blocks)), halved
            )
            up = nn.Sequential(doubled, *(ResidualConvolutions(width, bias) for _ in range(blocks)))
            self.add_module(f"m_down{level + 1}", down)
            self.add_module(f"m_up{level + 1}", up)
        self.m_body = nn.Sequential(
            *(ResidualConvolutions(widths[-1], bias) for _ in range(blocks))
        )
        self.m_tail = nn.Conv2d(widths[0], bands, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.m_head(x)]
        for level in range(_LEVELS):
            maps.append(self.get_submodule(f"m_down{level + 1}")(maps[-1]))
        y = self.m_body(maps[-1])
        for level in reversed(range(_LEVELS)):
            y = self.get_submodule(f"m_up{level + 1}")(y + maps[level + 1])
        restored: Tensor = self.m_tail(y + maps[0])
        return restored


def sizes_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `DRUNet` for these weights; raises `BadModel`."""
    blocks = layers_in(state, "m_body")
    inputs, bands = state["m_head.weight"].shape[1], state["m_tail.weight"].shape[0]
    if inputs not in (bands, bands + 1):
        raise other_network("DRUNet", f"they take {inputs} bands and give {bands}")
    halved = [state[f"m_down{level + 1}.{blocks}.weight"] for level in range(_LEVELS)]
    if any(each.shape[2:] != (2, 2) for each in halved):
        raise other_network("DRUNet", "it halves by convolutions of 2 × 2")
    return {
        "inputs": inputs,
        "bands": bands,
        "widths": (state["m_head.weight"].shape[0], *(each.shape[0] for each in halved)),
        "blocks": blocks,
        "bias": "m_head.bias" in state,
    }
