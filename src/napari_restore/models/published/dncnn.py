"""DnCNN, a plain stack of convolutions that estimates the noise.

Zhang, Zuo, Chen, Meng, Zhang: Beyond a Gaussian denoiser: residual learning of deep CNN for image
denoising, IEEE Transactions on Image Processing 26, 2017, arXiv:1608.03981. The authors' code and
weights (KAIR) are under the MIT licence; this file was written from the paper and the names and
shapes of the weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from napari_restore.models._weights import other_network


class DnCNN(nn.Module):
    """Subtracts the noise that `model` sees in (N, bands, H, W) in [0, 1].

    A layer is a convolution of 3 × 3, batch normalisation where `normalised` says so, and ReLU; in
    most released weights the normalisation is part of the convolution.
    """

    step = 1

    def __init__(
        self,
        bands: int = 3,
        width: int = 64,
        layers: int = 20,
        normalised: bool = False,
        bias: bool = True,
        epsilon: float = 1e-4,
    ) -> None:
        super().__init__()
        self.bands = bands
        parts: list[nn.Module] = [nn.Conv2d(bands, width, 3, padding=1), nn.ReLU()]
        for _ in range(layers - 2):
            parts.append(nn.Conv2d(width, width, 3, padding=1, bias=bias))
            if normalised:
                parts.append(nn.BatchNorm2d(width, eps=epsilon))
            parts.append(nn.ReLU())
        self.model = nn.Sequential(*parts, nn.Conv2d(width, bands, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        noise: Tensor = self.model(x)
        return x - noise


def renamed(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return `state` under the names of KAIR: another implementation calls the stack `dncnn`.

    Its first and last layer have no bias, which is a bias of zero.
    """
    if not all(name.startswith("dncnn.") for name in state):
        return dict(state)
    found = {f"model.{name.removeprefix('dncnn.')}": each for name, each in state.items()}
    kernels = kernels_of(found)
    for name in {*kernels[:1], *kernels[-1:]}:
        bias = name.removesuffix("weight") + "bias"
        found.setdefault(bias, found[name].new_zeros(len(found[name])))
    return found


def kernels_of(state: Mapping[str, Any]) -> list[str]:
    """Return the names of the convolutions of a stack ``model.NUMBER``, in its order."""
    names = (name for name, each in state.items() if each.ndim == 4)
    found = {
        int(m[1]): name for name in names if (m := re.fullmatch(r"model\.(\d+)\.weight", name))
    }
    # A file may be in the order of the alphabet.
    return [found[number] for number in sorted(found)]


def sizes_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `DnCNN` for these weights; raises `BadModel`."""
    kernels = kernels_of(state)
    shapes = [state[name].shape for name in kernels]
    if any(shape[2:] != (3, 3) for shape in shapes) or len(shapes) < 3:
        sides = " × ".join(str(side) for side in shapes[0][2:]) if shapes else "no"
        raise other_network(
            "DnCNN", f"they are {len(shapes)} convolutions of {sides}, not 3 or more of 3 × 3"
        )
    if shapes[0][1] != shapes[-1][0]:
        raise other_network("DnCNN", f"they take {shapes[0][1]} bands and give {shapes[-1][0]}")
    normalised = any(name.endswith("running_mean") for name in state)
    inner = kernels[1].removesuffix("weight")
    return {
        "bands": shapes[0][1],
        "width": shapes[0][0],
        "layers": len(shapes),
        "normalised": normalised,
        "bias": f"{inner}bias" in state,
        # KAIR's layers have biases and this epsilon, others neither.
        "epsilon": 1e-4 if f"{inner}bias" in state else 1e-5,
    }
