"""A small staged network whose bottleneck really mixes all tiles."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_restore.models import BottleneckModel, Map, ModelCard, Routing, Tick

CARD = ModelCard(
    id="toy-staged",
    title="Toy",
    summary="For tests.",
    scope="swept",
    bands=3,
    precisions=("float32", "bfloat16", "float16"),
)
LAYERS = 2


class ToyStaged(BottleneckModel):
    """Strided convolutions, full attention over the tokens, transposed convolutions."""

    tile = 128
    stride = 32
    width = 8
    layers = LAYERS
    residuals = (Map("residual0", 4, 4), Map("residual1", 6, 8))

    def __init__(self, pause: float = 0.0) -> None:
        super().__init__(CARD)
        generator = torch.Generator().manual_seed(0)
        self.fine = nn.Conv2d(3, 4, 4, stride=4)
        self.middle = nn.Conv2d(4, 6, 2, stride=2)
        self.coarse = nn.Conv2d(6, 8, 4, stride=4)
        self.mix = nn.ModuleList(nn.Linear(8, 8) for _ in range(LAYERS))
        self.up = nn.ConvTranspose2d(16, 6, 4, stride=4)
        self.finer = nn.ConvTranspose2d(12, 4, 2, stride=2)
        self.out = nn.ConvTranspose2d(8, 3, 4, stride=4)
        for parameter in self.parameters():
            spread = 0.5 / max(1, parameter[0].numel()) ** 0.5
            parameter.data = torch.randn(parameter.shape, generator=generator) * spread
        self.pause = pause
        self.eval().requires_grad_(False)

    def encode(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        fine = self.encode_first(x)
        middle = torch.tanh(self.middle(fine))
        return torch.tanh(self.coarse(middle)), (fine, middle)

    def encode_first(self, x: Tensor) -> Tensor:
        return torch.tanh(self.fine(x))

    def place_tokens(self, grid: Tensor) -> Tensor:
        rows = torch.linspace(0, 1, grid.shape[0])[:, None, None]
        return grid + rows.to(grid)

    def bottleneck_layer(
        self,
        index: int,
        grid: Tensor,
        tick: Tick | None = None,
        routing: Routing | None = None,
    ) -> Tensor:
        if tick is not None:
            tick(0.5)
        tokens = self.mix[index](grid).float().flatten(0, 1)
        weights = torch.softmax(tokens @ tokens.T, dim=1)
        return grid + (weights @ tokens).reshape(grid.shape)

    def bottleneck_bytes(self, height: int, width: int) -> int:
        tokens = height * width
        return 4 * (6 * tokens * self.width + 2 * tokens**2)

    def bottleneck_operations(self, index: int, height: int, width: int) -> float:
        return 2.0 * self.width * (height * width) ** 2

    def decode(
        self, tokens: Tensor, encoded: Tensor, residuals: tuple[Tensor, ...], x: Tensor
    ) -> Tensor:
        fine, middle = residuals
        y = torch.tanh(self.up(torch.cat([tokens.to(encoded), encoded], 1)))
        y = torch.tanh(self.finer(torch.cat([y, middle.to(y)], 1)))
        return x + 0.3 * self.out(torch.cat([y, fine.to(y)], 1))
