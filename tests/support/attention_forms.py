"""Plain networks with attention in the forms that published code has, written from the papers.

Each layer passes its weights through `attn_drop`, as timm and the code of Swin do, where a hook sees them.
This file is also given as FILE.py:factory.
"""

import torch
from torch import nn
from torch.nn import functional

WIDTH, HEADS = 16, 2


class WindowAttention(nn.Module):
    """Attention of tokens (windows, side², C) with a bias for each offset (Liu et al., ICCV 2021, 3.2)."""

    def __init__(self, width, side, heads):
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.randn((2 * side - 1) ** 2, heads))
        at = torch.stack(torch.meshgrid(*[torch.arange(side)] * 2, indexing="ij")).flatten(1)
        apart = at[:, :, None] - at[:, None] + side - 1
        self.register_buffer("relative_position_index", apart[0] * (2 * side - 1) + apart[1])
        self.qkv = nn.Linear(width, 3 * width)
        self.softmax, self.attn_drop = nn.Softmax(dim=-1), nn.Dropout(0.1)
        self.proj = nn.Linear(width, width)

    def forward(self, x, mask=None):
        count, tokens, width = x.shape
        parts = self.qkv(x).reshape(count, tokens, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        attn = (q * self.scale) @ k.transpose(-2, -1)
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        attn = attn + bias.view(tokens, tokens, -1).permute(2, 0, 1).contiguous().unsqueeze(0)
        if mask is not None:
            windows = mask.shape[0]
            attn = attn.view(count // windows, windows, self.heads, tokens, tokens)
            attn = attn + mask.unsqueeze(1).unsqueeze(0)
            attn = attn.view(-1, self.heads, tokens, tokens)
        attn = self.attn_drop(self.softmax(attn))
        return self.proj((attn @ v).transpose(1, 2).reshape(count, tokens, width))


class SwinBlock(nn.Module):
    """A block of maps (N, H, W, C). It grows them to whole windows before it moves these, or after."""

    def __init__(self, width, side, shift, heads, moved_first=False):
        super().__init__()
        self.side, self.shift, self.moved_first = side, shift, moved_first
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = WindowAttention(width, side, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def laid(self, x, value=0.0):
        """Return the windows (windows, side², C) of a map; where it is grown they have `value`."""
        down, along = -x.shape[1] % self.side, -x.shape[2] % self.side
        if self.moved_first:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        x = functional.pad(x, (0, 0, 0, along, 0, down), value=value)
        if self.shift and not self.moved_first:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        n, high, wide, width = x.shape
        x = x.view(n, high // self.side, self.side, wide // self.side, self.side, width)
        return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, self.side**2, width)

    def forward(self, x):
        n, height, width, channels = x.shape
        high, wide = (-(-length // self.side) * self.side for length in (height, width))
        seen = self.attn(self.laid(self.norm1(x)), self.mask(high, wide) if self.shift else None)
        seen = seen.view(n, high // self.side, wide // self.side, self.side, self.side, channels)
        seen = seen.permute(0, 1, 3, 2, 4, 5).contiguous().view(n, high, wide, channels)
        if self.moved_first:
            seen = seen[:, :height, :width]
        if self.shift:
            seen = torch.roll(seen, (self.shift, self.shift), (1, 2))
        x = x + seen[:, :height, :width]
        return x + self.mlp(self.norm2(x))

    def mask(self, high, wide):
        img_mask = torch.zeros(1, high, wide, 1)
        parts = (slice(0, -self.side), slice(-self.side, -self.shift), slice(-self.shift, None))
        number = 0
        for rows in parts:
            for columns in parts:
                img_mask[:, rows, columns] = number
                number += 1
        side = self.side
        img_mask = img_mask.view(high // side, side, wide // side, side).transpose(1, 2)
        part = img_mask.reshape(-1, side**2)
        apart = part.unsqueeze(1) - part.unsqueeze(2)
        return apart.masked_fill(apart != 0, -100.0).masked_fill(apart == 0, 0.0)


class Swin(nn.Module):
    """Cells of 4 pixels, then of 8 by merging of patches, then of 4 by a shuffle of pixels."""

    def __init__(self, side=4):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, WIDTH, 4, 4)
        self.first = nn.Sequential(
            SwinBlock(WIDTH, side, 0, HEADS), SwinBlock(WIDTH, side, side // 2, HEADS)
        )
        self.norm, self.reduction = nn.LayerNorm(4 * WIDTH), nn.Linear(4 * WIDTH, 2 * WIDTH, False)
        self.second = SwinBlock(2 * WIDTH, side, side // 2, 2 * HEADS, moved_first=True)
        self.grow = nn.Sequential(nn.Conv2d(2 * WIDTH, 4 * WIDTH, 3, padding=1), nn.PixelShuffle(2))
        self.third = SwinBlock(WIDTH, side, side // 2, HEADS)
        self.head = nn.ConvTranspose2d(WIDTH, 3, 4, 4)

    def forward(self, x):
        t = self.first(self.embed(x).permute(0, 2, 3, 1))
        parts = [t[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        u = self.second(self.reduction(self.norm(torch.cat(parts, -1))))
        t = self.third(t + self.grow(u.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return x + 0.1 * self.head(t.permute(0, 3, 1, 2))


class ViTBlock(nn.Module):
    """Tokens (N, tokens, C) that attend to each other, as in timm without its fused kernel."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.attn_drop = nn.Dropout(0.0)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x):
        count, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(count, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attn = self.attn_drop((q * self.scale @ k.transpose(-2, -1)).softmax(dim=-1))
        x = x + self.proj((attn @ v).transpose(1, 2).reshape(count, tokens, width))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches of 8 pixels, and a class token before them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, WIDTH, 8, 8)
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.blocks = nn.Sequential(ViTBlock(WIDTH, 4), ViTBlock(WIDTH, 4))
        self.head = nn.ConvTranspose2d(WIDTH, 3, 8, 8)

    def forward(self, x):
        t = self.embed(x)
        rows, columns = t.shape[2:]
        t = t.flatten(2).transpose(1, 2)
        t = self.blocks(torch.cat((self.cls_token.expand(len(t), -1, -1), t), dim=1))
        return x + self.head(t[:, 1:].transpose(1, 2).reshape(len(x), -1, rows, columns))


class Form(nn.Module):
    """One layer of attention among cells of 4 pixels, written as `kind` says."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.embed = kind, nn.Conv2d(3, WIDTH, 4, 4)
        self.q, self.k, self.v = (nn.Conv2d(WIDTH, WIDTH, 1) for _ in range(3))
        self.reduce = nn.Conv2d(WIDTH, WIDTH, 2, 2)
        self.head = nn.ConvTranspose2d(WIDTH, 3, 4, 4)
        self.attn_drop = nn.Dropout(0.1)
        self.grown = nn.Conv2d(WIDTH, 4 * WIDTH, 1)

    def forward(self, x):
        t = self.embed(x)
        t = t + getattr(self, self.kind)(t)
        return x + self.head(t)

    def parts(self, t):
        """Return queries, keys and values (N, tokens, C)."""
        return [layer(t).flatten(2).transpose(1, 2) for layer in (self.q, self.k, self.v)]

    def mixed(self, q, k, v):
        return self.attn_drop((q @ k.mT / 4).softmax(-1)) @ v

    def einsum(self, t):
        q, k, v = (part.unflatten(-1, (HEADS, -1)) for part in self.parts(t))
        attn = self.attn_drop(torch.einsum("nihd,njhd->nhij", q, k).softmax(-1))
        return torch.einsum("nhij,njhd->nihd", attn, v).flatten(2).mT.reshape(t.shape)

    def turned(self, t):
        """As in SAGAN: values before the weights."""
        q, k, v = self.parts(t)
        attn = self.attn_drop(torch.bmm(q, k.mT).softmax(-1))
        return torch.bmm(v.mT, attn.permute(0, 2, 1)).view(t.shape)

    def fused(self, t):
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.parts(t))
        seen = functional.scaled_dot_product_attention(q, k, v)
        return seen.transpose(1, 2).flatten(2).mT.reshape(t.shape)

    def channels(self, t):
        """As in Restormer: each channel is a mixture of those of its head."""
        q, k, v = (
            layer(t).flatten(2).unflatten(1, (HEADS, -1)) for layer in (self.q, self.k, self.v)
        )
        q, k = (functional.normalize(part, dim=-1) for part in (q, k))
        return (self.attn_drop((4 * (q @ k.mT)).softmax(-1)) @ v).reshape(t.shape)

    def pooled(self, t):
        """As in PVT: keys of cells twice as large."""
        q = self.q(t).flatten(2).mT
        k, v = (layer(self.reduce(t)).flatten(2).mT for layer in (self.k, self.v))
        return self.mixed(q, k, v).mT.reshape(t.shape)

    def overlapping(self, t):
        """As in HAT: keys of windows of 6 cells around those of 4, with zeros beyond the edge."""
        n, c, rows, columns = t.shape
        q = functional.unfold(self.q(t), 4, stride=4).view(n, c, 16, -1)
        k, v = (
            functional.unfold(layer(t), 6, stride=4, padding=1).view(n, c, 36, -1)
            for layer in (self.k, self.v)
        )
        q, k, v = (part.permute(0, 3, 2, 1).flatten(0, 1) for part in (q, k, v))
        seen = self.mixed(q, k, v).view(n, rows // 4, columns // 4, 4, 4, c)
        return seen.permute(0, 5, 1, 3, 2, 4).reshape(t.shape)

    def strewn(self, t):
        """As in MaxViT: every fourth cell."""
        n, c, rows, columns = t.shape
        q, k, v = (
            layer(t).view(n, c, 4, rows // 4, 4, columns // 4).permute(0, 3, 5, 2, 4, 1)
            for layer in (self.q, self.k, self.v)
        )
        seen = self.mixed(*(part.reshape(-1, 16, c) for part in (q, k, v)))
        seen = seen.view(n, rows // 4, columns // 4, 4, 4, c).permute(0, 5, 3, 1, 4, 2)
        return seen.reshape(t.shape)

    def mixtures(self, t):
        """As in Linformer: keys are mixtures of all cells."""
        q, k, v = self.parts(t)
        weight = torch.ones(5, k.shape[1]) / k.shape[1]
        return self.mixed(q, weight @ k, weight @ v).mT.reshape(t.shape)

    def by_hand(self, t):
        """Behind a map that is made larger by reshape."""
        n, c, rows, columns = t.shape
        t2 = self.grown(t).view(n, c, 2, 2, rows, columns).permute(0, 1, 4, 2, 5, 3)
        t2 = t2.reshape(n, c, 2 * rows, 2 * columns)
        return functional.avg_pool2d(self.mixed(*self.parts(t2)).mT.reshape(t2.shape), 2)

    def ordered(self, t):
        """Behind sorting, after which places are not known."""
        q, k, v = self.parts(t.flatten(2).sort(-1).values.reshape(t.shape))
        return self.mixed(q, k, v).mT.reshape(t.shape)


def swin():
    return Swin()


def vit():
    return ViT()
