"""HINT: attention among channels with heads of several sizes, which look at each other."""

import torch
from torch import nn

from .arch_util import Downsample, GatedFeedForward, LayerNorm2d, Upsample, conv


class HierarchicalAttention(nn.Module):
    sizes = (1, 3)

    def __init__(self, width):
        super().__init__()
        self.qkv, self.out = conv(width, 3 * width, 1), conv(width, width, 1)
        self.gate = nn.Linear(width, width)

    def forward(self, x):
        b, c, h, w = x.shape
        parts = [c * size // sum(self.sizes) for size in self.sizes]
        found = []
        for each in self.qkv(x).flatten(2).reshape(b, 3, c, h * w).split(parts, 2):
            q, k, v = each.unbind(1)
            q, k = (nn.functional.normalize(one, dim=-1) for one in (q, k))
            found.append((q @ k.transpose(-2, -1)).softmax(-1) @ v)
        y = torch.cat(found, 1)
        gate = self.gate(y.mean(-1)).sigmoid()[..., None]
        return self.out((y * gate).reshape(b, c, h, w))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = LayerNorm2d(width), LayerNorm2d(width)
        self.attn, self.ffn = HierarchicalAttention(width), GatedFeedForward(width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class HINT(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.first, self.last = conv(3, width), conv(width, 3)
        self.blocks = nn.ModuleList(Block(width << n) for n in (0, 1, 2, 3))
        self.downs = nn.ModuleList(Downsample(width << n) for n in (0, 1, 2))
        self.ups = nn.ModuleList(Upsample(width << n) for n in (3, 2, 1))

    def forward(self, x):
        y, skips = self.first(x), []
        for block, down in zip(self.blocks, self.downs, strict=False):
            skips.append(block(y))
            y = down(skips[-1])
        y = self.blocks[-1](y)
        for up in self.ups:
            y = up(y) + skips.pop()
        return x + self.last(y)
