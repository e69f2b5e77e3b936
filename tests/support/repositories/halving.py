"""Networks of scale 1/2, which make half a pixel more of an odd side, or less."""

import torch
from torch import nn


class Strided(nn.Module):
    """Strided with padding, as most encoders: an odd side gives one pixel more."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 3, 5, padding=2)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


class Pooled(nn.Module):
    """Pooled: the last of an odd number of pixels counts for the convolution before it only."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 3, 5, padding=2)

    def forward(self, x):
        return self.second(nn.functional.avg_pool2d(torch.relu(self.first(x)), 2))


class Blocks(nn.Module):
    """Takes images of multiples of 8 only."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 12, 8, 8), nn.Conv2d(3, 3, 3, 2, 1)

    def forward(self, x):
        return nn.functional.pixel_shuffle(
            self.first(x)[:, :12].repeat(1, 4, 1, 1), 4
        ) + self.second(x)
