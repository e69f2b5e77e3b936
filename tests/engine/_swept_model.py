"""A small network whose pixels depend on two Gram matrices over the whole image."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from napari_restore.models import (
    RESTORED,
    Counts,
    Map,
    ModelCard,
    Statistics,
    Sums,
    Sweep,
    SweepInput,
    SweptModel,
    cell_weights,
)

CARD = ModelCard(
    id="toy-swept",
    title="Toy",
    summary="For tests.",
    scope="swept",
    bands=3,
    multiple_of=4,
    min_size=4,
    maps=("transmission",),
)
FINE, COARSE = 4, 8
"""Channels of the maps at stride 1 and 4."""


class Attention(nn.Module):
    """Channel attention: which channels mix follows from all pixels, the rest from 3 × 3 of them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.Conv2d(COARSE, 3 * COARSE, 1)
        self.near = nn.Conv2d(3 * COARSE, 3 * COARSE, 3, padding=1, groups=3 * COARSE)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return q, k and v, (N, COARSE, h, w) each."""
        q, k, v = torch.tanh(self.near(self.norm(x))).chunk(3, dim=1)
        return q, k, v

    def forward(self, x: Tensor, mixed: Tensor) -> Tensor:
        v = self.features(x)[2]
        return x + torch.einsum("ncd,ndhw->nchw", mixed.to(v), v)


class ToySwept(SweptModel):
    """Four sweeps: fine features, coarse ones, a block of attention, and pixels."""

    def __init__(self, floats: str = "float32") -> None:
        super().__init__(CARD)
        generator = torch.Generator().manual_seed(0)
        self.fine = nn.Conv2d(3, FINE, 3, padding=1)
        self.down = nn.Conv2d(FINE, COARSE, 4, stride=4)
        self.blocks = nn.ModuleList([Attention(), Attention()])
        self.up = nn.ConvTranspose2d(COARSE, FINE, 4, stride=4)
        self.out = nn.Conv2d(2 * FINE, 3, 3, padding=1)
        for parameter in self.parameters():
            spread = 1 / max(1, parameter[0].numel()) ** 0.5
            parameter.data = torch.randn(parameter.shape, generator=generator) * spread
        self.floats = floats
        self.to(getattr(torch, floats)).eval().requires_grad_(False)

    def view(self, x: Tensor, statistics: Statistics | None = None) -> Tensor:
        return x.to(self.out.weight.dtype)

    def steps(self) -> tuple[Sweep, ...]:
        def a(name: str, channels: int, stride: int) -> Map:
            return Map(name, channels, stride, None if self.floats == "float32" else self.floats)

        return (
            Sweep("fine", "Fine features", self._fine, writes=(a("fine", FINE, 1),), halo=4),
            Sweep(
                "coarse",
                "Coarse features",
                self._coarse,
                reads=("fine",),
                writes=(a("coarse", COARSE, 4),),
                halo=4,
                sees_image=False,
                counts=self._counts(0),
            ),
            Sweep(
                "block",
                "Attention",
                self._block,
                reads=("coarse",),
                writes=(a("related", COARSE, 4),),
                halo=8,
                sees_image=False,
                counts=self._counts(1),
            ),
            Sweep(
                "restore",
                "Restoring",
                self._restore,
                reads=("fine", "related"),
                writes=(Map(RESTORED, 3), Map("transmission", 1)),
                halo=8,
            ),
        )

    def _counts(self, index: int) -> Counts:
        def finalize(sums: Sums, statistics: Statistics) -> Statistics:
            norms = sums["squares"].sqrt().clamp_min(1e-12)
            cosines = sums["products"] / norms[:, 0, :, None] / norms[:, 1, None, :]
            mixed = torch.softmax(4 * cosines, dim=2)
            # As a cache that layers hand on: what is counted follows from what was before.
            earlier = statistics.get("mixed0")
            return {f"mixed{index}": mixed if earlier is None else 0.5 * (mixed + earlier)}

        return Counts(
            features=(Map("q", COARSE, 4), Map("k", COARSE, 4)),
            shapes={"products": (COARSE, COARSE), "squares": (2, COARSE)},
            count=_gram,
            statistics=(f"mixed{index}",),
            finalize=finalize,
        )

    def _counted(self, given: SweepInput, index: int, x: Tensor) -> Mapping[str, Tensor]:
        if not given.wants("q", "k"):
            return {}
        q, k, _ = self.blocks[index].features(x)
        return {"q": q, "k": k}

    def _fine(self, given: SweepInput) -> Mapping[str, Tensor]:
        assert given.view is not None
        return {"fine": torch.tanh(self.fine(given.view))}

    def _coarse(self, given: SweepInput) -> Mapping[str, Tensor]:
        x = torch.tanh(self.down(given.maps["fine"]))
        return {"coarse": x, **self._counted(given, 0, x)}

    def _block(self, given: SweepInput) -> Mapping[str, Tensor]:
        x = self.blocks[0](given.maps["coarse"], given.statistics["mixed0"])
        return {"related": x, **self._counted(given, 1, x)}

    def _restore(self, given: SweepInput) -> Mapping[str, Tensor]:
        assert given.view is not None
        x = self.blocks[1](given.maps["related"], given.statistics["mixed1"])
        features = torch.cat([torch.tanh(self.up(x)), given.maps["fine"]], dim=1)
        y = given.view[:, :3] + 0.3 * torch.tanh(self.out(features))
        return {RESTORED: y, "transmission": torch.sigmoid(y.mean(dim=1, keepdim=True))}


def _gram(features: Mapping[str, Tensor], valid: Tensor | None) -> Sums:
    """Return the products of all pairs of channels of q and k, and the squares of each."""
    q, k = (features[name].to(torch.float64) for name in ("q", "k"))
    weights = cell_weights(valid, q)
    products = torch.einsum("nchw,ndhw->ncd", weights * q, k)
    squares = [(weights * one**2).sum(dim=(2, 3)) for one in (q, k)]
    return {"products": products, "squares": torch.stack(squares, dim=1)}


class Chain(SweptModel):
    """As many blocks at full size as `LENGTH`, each scaled by the mean of the one before."""

    LENGTH = 5

    def __init__(self) -> None:
        super().__init__(CARD)
        generator = torch.Generator().manual_seed(1)
        weights = torch.randn(self.LENGTH, 3, 3, 3, 3, generator=generator) / 5
        self.weights = nn.Parameter(weights, requires_grad=False)

    def steps(self) -> tuple[Sweep, ...]:
        def block(number: int) -> Sweep:
            def run(given: SweepInput) -> Mapping[str, Tensor]:
                x = given.view if number == 0 else given.maps[f"x{number - 1}"]
                assert x is not None
                if number:
                    x = x / (0.1 + given.statistics[f"mean{number - 1}"][..., None, None].to(x))
                x = torch.sigmoid(nn.functional.conv2d(x, self.weights[number], padding=1))
                return {f"x{number}": x, "counted": x}

            def count(features: Mapping[str, Tensor], valid: Tensor | None) -> Sums:
                x = features["counted"].double()
                weights = cell_weights(valid, x)
                return {"sum": (weights * x).sum((2, 3)), "weight": weights.sum((2, 3))}

            counts = Counts(
                (Map("counted", 3),),
                {"sum": (3,), "weight": (1,)},
                count,
                (f"mean{number}",),
                lambda sums, known: {f"mean{number}": sums["sum"] / sums["weight"].clamp_min(1)},
            )
            reads = (f"x{number - 1}",) if number else ()
            sees = number == 0
            written = (Map(f"x{number}", 3),)
            name = f"block{number}"
            return Sweep(name, f"Block {number}", run, reads, written, 4, sees, counts)

        def last(given: SweepInput) -> Mapping[str, Tensor]:
            assert given.view is not None
            last = given.maps[f"x{self.LENGTH - 1}"]
            y = given.view + last + given.maps["x1"]
            return {RESTORED: y, "transmission": last[:, :1]}

        reads = ("x1", f"x{self.LENGTH - 1}")
        written = (Map(RESTORED, 3), Map("transmission", 1))
        return (
            *(block(number) for number in range(self.LENGTH)),
            Sweep("restore", "Restoring", last, reads, written),
        )
