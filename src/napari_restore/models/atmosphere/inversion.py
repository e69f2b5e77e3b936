"""Inversion of the scattering model, pixel by pixel."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from napari_restore.models.classical.base import soft_gate

THICKEST = 2.2
"""Largest optical depth: gradients grow as 1/t."""
CURVE = 2.2
"""Exponent of the power that approximates the display curve: a power treats all exposures alike,
which the curve itself (followed to 0.01) does not."""
DARKEST = 1e-3
"""Value, where the picture's mean is 0.45, below which no powers are computed: their slope at 0
has no bound."""
RATIOS = tuple(550.0 / wavelength for wavelength in (650.0, 550.0, 450.0))


def optical_depth(
    x: Tensor, offset: Tensor, slope: Tensor, statistics: Mapping[str, Tensor]
) -> Tensor:
    """Return (N, 1, h, w) at 550 nm."""
    luminance = (x[:, :1] + x[:, 1:2]).add_(x[:, 2:3]).mul_(statistics["brightness"] / 3)
    logit = torch.addcmul(offset, slope, luminance.clamp_(0, 2).sub_(0.5))
    return sigmoid(logit) * (THICKEST * statistics["presence"])


def sigmoid(x: Tensor) -> Tensor:
    """Return 1 / (1 + exp(−x)); may overwrite `x` where no gradient needs it."""
    if x.requires_grad:
        # exp of more would be infinite, and its gradient NaN.
        return 1 / (1 + torch.exp(-x.clamp(min=-80)))
    # The last pixels of a tensor, and of each thread's share, are computed by other code in
    # torch.sigmoid than the rest, and may differ in the last bit. Those of exp do not.
    return x.neg_().exp_().add_(1).reciprocal_()


def inverted(
    x: Tensor, depth: Tensor, airlight: Tensor, statistics: Mapping[str, Tensor], deadband: float
) -> tuple[Tensor, Tensor]:
    """Return J of x = J·t + A·(1 − t), and t (N, 1, h, w) at 550 nm.

    J is x, bit for bit, where 1 − t is within the deadband. Light adds up in the power `CURVE` **
    (1 − display) of the values: 1 for haze made of display values, `CURVE` for linear light.
    """
    curve = CURVE ** (1 - statistics["display"])
    least = DARKEST / statistics["brightness"]
    transmission = torch.exp(-depth)
    gate = soft_gate(1 - transmission, deadband)
    ratios = torch.tensor(RATIOS, dtype=x.dtype, device=x.device)[:, None, None]
    # Memory traffic takes the time: hence in place, wherever no gradient needs the old values. pow,
    # expm1 and where take 5 to 30 times as long as exp and log.
    gain = (depth * gate * ratios ** statistics["exponent"]).exp_()
    value = torch.maximum(x, least)
    light = torch.log(value).mul_(curve).exp_()
    veil = torch.maximum(airlight, least) ** curve
    moved = torch.maximum(torch.addcmul(veil, gain, light - veil), least**curve)
    changed = moved.log_().div_(curve).exp_() - value
    return torch.addcmul(x, changed, torch.sign(gate)), transmission
