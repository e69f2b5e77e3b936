"""A local mixture of convolutional experts: every cell is routed to a few of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_restore.models._pointwise import Pointwise
from napari_restore.models.inf_dehaze._config import InfDehazeConfig
from napari_restore.models.inf_dehaze._gradient import learns
from napari_restore.models.inf_dehaze._ibssa import chunks

BALANCE = 0.01
"""λ, the weight of the balance loss."""
_EPSILON = 1e-8


class Expert(nn.Module):
    """1 × 1 convolution, GELU, k × k convolution, GELU, 1 × 1 convolution; no biases.

    Maps are (1, C, H, W). The middle convolution is depthwise unless `dense`;
    `double_gelu` applies GELU once more after it.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        kernel: int,
        *,
        dense: bool = False,
        double_gelu: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = Pointwise(width, hidden, bias=False)
        self.conv2 = nn.Conv2d(
            hidden,
            hidden,
            kernel,
            padding=kernel // 2,
            groups=1 if dense else hidden,
            bias=False,
        )
        self.conv3 = Pointwise(hidden, width, bias=False)
        self.double_gelu = double_gelu

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(functional.gelu(self.conv1(x)))
        x = functional.gelu(x)
        if self.double_gelu:
            x = functional.gelu(x)
        return self.conv3(x)  # type: ignore[no-any-return]


class LMMoE(nn.Module):
    """Σ αᵢ Eᵢ(X) over the `top_k` experts of each cell, plus a shared expert.

    α is the softmax of a 1 × 1 convolution of X − `centre`, worked out in float32, kept for the
    best `top_k` and scaled to sum to 1. The centre removes what all cells have in common, which
    would select the same experts everywhere. A cell of the output depends on the cells at most
    `halo` away, beyond the map on zeros; so a cut-out equals the whole, `halo` cells from where it
    was cut. Experts without a cell are not computed. Source: Inf-Dehaze.
    """

    def __init__(self, config: InfDehazeConfig) -> None:
        super().__init__()
        width = config.widths[-1]
        self.hidden = width * config.expert_ratio
        self.top_k = config.top_k
        self.shared_weight = config.shared_weight
        self.halo = max(*config.experts, config.shared_kernel) // 2
        self.gate = Pointwise(width, len(config.experts))
        self.experts = nn.ModuleList(
            Expert(width, self.hidden, kernel, double_gelu=config.double_gelu)
            for kernel in config.experts
        )
        self.shared = Expert(width, self.hidden, config.shared_kernel, dense=config.shared_dense)
        self._balance: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A tensor that is still part of a graph can be neither copied nor saved.
        return {**self.__dict__, "_balance": None}

    def forward(
        self, x: Tensor, centre: Tensor | None = None, chosen: Tensor | None = None
    ) -> Tensor:
        """Return (H, W, C) → (H, W, C) in the dtype of the weights; `centre` (C,) is for the gate.

        `chosen` (H, W, k): the experts of each cell, where they are chosen already.
        """
        probabilities, weights, experts = self._route(x, centre, chosen)
        if self.training:
            # Assigned: checkpointing computes it a second time.
            loss = balance_loss(probabilities, experts) if torch.is_grad_enabled() else None
            self._balance = loss
        # Channels-last, the order in which the cells lie already.
        x = x.to(self.gate.weight.dtype).permute(2, 0, 1)[None]
        shares = torch.zeros_like(probabilities).scatter(1, experts, weights).to(x.dtype)
        del probabilities, weights, experts
        is_used = (shares != 0).any(3).any(2)[0].tolist()
        keep = learns(x, self)
        mixed = self.shared(x) * self.shared_weight
        for index, expert in enumerate(self.experts):
            if not is_used[index]:
                continue
            share = shares[:, index : index + 1]
            if keep:
                mixed = mixed + share * expert(x)
            else:
                mixed.addcmul_(expert(x), share)
        out: Tensor = mixed[0].permute(1, 2, 0)
        return out

    def routing(self, x: Tensor, centre: Tensor | None = None) -> Tensor:
        """Return the experts (H, W, k) of each cell of (H, W, C), in increasing order."""
        return self._route(x, centre)[2][0].permute(1, 2, 0).sort(-1).values

    def shares(self, x: Tensor, centre: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the gate's probability of every expert for a cell (C,), and its share, (N,) each.

        Shares sum to 1; that of an expert that is not chosen is 0.
        """
        probabilities, weights, experts = self._route(x[None, None], centre)
        of_cell = torch.zeros_like(probabilities).scatter(1, experts, weights)
        return probabilities[0, :, 0, 0], of_cell[0, :, 0, 0]

    def _route(
        self, x: Tensor, centre: Tensor | None, chosen: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return probabilities (1, N, H, W) in float32, and the best experts.

        Those are weights and experts (1, k, H, W).
        """
        # Half precision, autocast's too, would choose other experts.
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = self.gate.weight.flatten(1).float(), self.gate.bias
            assert bias is not None
            bias = bias.float()
            if centre is not None:
                bias = bias - weight @ centre.float()
            logits = functional.linear(x.float(), weight, bias)
        probabilities = logits.permute(2, 0, 1)[None].softmax(1)
        if chosen is None:
            best, experts = probabilities.topk(self.top_k, dim=1)
        else:
            experts = chosen.permute(2, 0, 1)[None].long()
            best = probabilities.gather(1, experts)
        return probabilities, best / (best.sum(1, keepdim=True) + _EPSILON), experts

    def balance(self) -> Tensor:
        """Return the balance loss, a scalar, of the last map in training.

        It is 0 without one, and after it was returned.
        """
        last, self._balance = self._balance, None
        return self.gate.weight.new_zeros(()) if last is None else last

    def peak_bytes(self, cells: int, size: int) -> int:
        """Return the peak bytes beside a map of `cells` cells, `size` of them per value."""
        width, experts = self.gate.in_channels, len(self.experts)
        inside = max(2 * self.hidden, self.hidden + width)
        return cells * ((width + inside + experts) * size)


def channel_means(x: Tensor) -> Tensor:
    """Return (C,) float32 means of the tokens (L, C), summed in float64."""
    total = x.new_zeros(x.shape[1], dtype=torch.float64)
    # In chunks, as a sum in another dtype copies its input.
    for rows in chunks(x):
        total = total + x[rows].sum(0, dtype=torch.float64)
    return (total / len(x)).float()


def balance_loss(probabilities: Tensor, experts: Tensor) -> Tensor:
    """Return λ · N · Σ fᵢ Pᵢ: λ when all experts are used equally, more when some are preferred.

    `probabilities` (1, N, H, W), `experts` (1, k, H, W): fᵢ is the share of routing that fell on
    expert i, Pᵢ its mean probability.
    """
    count = probabilities.shape[1]
    chosen = torch.bincount(experts.flatten(), minlength=count) / experts.numel()
    return BALANCE * count * (chosen * probabilities.mean(dim=(0, 2, 3))).sum()
