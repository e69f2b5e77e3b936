"""Initial weights of a network to be trained."""

from __future__ import annotations

from torch import Tensor, nn

from napari_restore.models.inf_dehaze._sfca import SpatialFrequencyAttention


def start(weight: Tensor, bias: Tensor | None, fan_in: int, gain: float = 1.0) -> None:
    """Initialise normal weights that keep a signal's size (LeCun et al. 1998), no bias.

    `fan_in` is the number of values in each sum; `gain` 2 compensates for an activation (He et al.
    2015).
    """
    nn.init.normal_(weight, std=(gain / fan_in) ** 0.5)
    if bias is not None:
        nn.init.zeros_(bias)


def initialise(network: nn.Module) -> None:
    """Initialise every linear layer and convolution of `network` by `start`.

    Other parameters (bias tables, scales) are initialised by their module; attention to frequencies
    changes nothing at first.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            start(module.weight, module.bias, module.in_features)
        elif isinstance(module, nn.Conv2d):
            start(module.weight, module.bias, module.weight[0].numel(), gain=2.0)
    for module in network.modules():
        if isinstance(module, SpatialFrequencyAttention):
            nn.init.zeros_(module.restore.weight)
