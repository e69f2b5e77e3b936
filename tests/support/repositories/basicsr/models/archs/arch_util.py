"""What several of the networks have."""

import torch
from torch import nn


class LayerNorm2d(nn.Module):
    """A norm over the channels of each pixel."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def conv(inputs, outputs, side=3, **options):
    return nn.Conv2d(inputs, outputs, side, padding=side // 2, **options)


class Downsample(nn.Sequential):
    def __init__(self, width):
        super().__init__(conv(width, width // 2), nn.PixelUnshuffle(2))


class Upsample(nn.Sequential):
    def __init__(self, width):
        super().__init__(conv(width, 2 * width), nn.PixelShuffle(2))


class ChannelAttention(nn.Module):
    """Attention among channels, over all pixels."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Sequential(conv(width, 3 * width, 1), conv(3 * width, 3 * width))
        self.out = conv(width, width, 1)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.qkv(x).reshape(b, 3, self.heads, c // self.heads, h * w).unbind(1)
        q, k = (nn.functional.normalize(each, dim=-1) for each in (q, k))
        weights = (q @ k.transpose(-2, -1) * self.temperature).softmax(-1)
        return self.out((weights @ v).reshape(b, c, h, w))


class GatedFeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = nn.Sequential(conv(width, 4 * width, 1), conv(4 * width, 4 * width))
        self.out = conv(2 * width, width, 1)

    def forward(self, x):
        a, b = self.inner(x).chunk(2, 1)
        return self.out(nn.functional.gelu(a) * b)
