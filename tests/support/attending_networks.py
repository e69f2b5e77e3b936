"""Plain networks with attention, as users write them; this file is also given as FILE.py:factory."""

import torch
from torch import nn
from torch.nn import functional

WIDTH = 16


class Encoder(nn.Module):
    """Patches of 8 pixels that attend to each other, in blocks of 8 × 8 or in all of the image."""

    def __init__(self, block=None, *, weights=False, layer=False):
        super().__init__()
        torch.manual_seed(0)
        self.block, self.weights = block, weights
        self.embed = nn.Conv2d(3, WIDTH, 8, 8)
        self.norm = nn.LayerNorm(WIDTH)
        if layer:
            self.mix = nn.TransformerEncoderLayer(WIDTH, 4, 32, batch_first=True)
            self.attend = self.mix.self_attn
        else:
            self.mix = None
            self.attend = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.head = nn.ConvTranspose2d(WIDTH, 3, 8, 8)
        for weight in (self.embed.weight, self.attend.in_proj_weight):
            weight.data *= 3

    def forward(self, x):
        t = self.embed(x).permute(0, 2, 3, 1)
        side = self.block or max(t.shape[1:3])
        high, wide = (min(side, n) for n in t.shape[1:3])
        n, rows, columns = len(t), t.shape[1] // high, t.shape[2] // wide
        t = (
            t.view(n, rows, high, columns, wide, WIDTH)
            .transpose(2, 3)
            .reshape(-1, high * wide, WIDTH)
        )
        place = torch.arange(t.shape[1])[:, None] * torch.arange(1, WIDTH + 1)
        t = t + 0.3 * torch.sin(place)
        if self.mix is None:
            normed = self.norm(t)
            t = t + self.attend(normed, normed, normed, need_weights=self.weights)[0]
        else:
            t = self.mix(t)
        t = t.view(n, rows, columns, high, wide, WIDTH).transpose(2, 3)
        t = t.reshape(n, rows * high, columns * wide, WIDTH)
        return x + 0.1 * self.head(t.permute(0, 3, 1, 2))


class Windows(nn.Module):
    """Cells of 4 pixels in windows of 8 × 8, which the second of three blocks moves by 4 cells.

    It grows its map to whole windows. Where `matrices` is a list, attention is formed whole, and the
    weights (windows, heads, 64, 64) of each block are added.
    """

    def __init__(self, window=8, heads=2):
        super().__init__()
        torch.manual_seed(0)
        self.window, self.heads, self.matrices = window, heads, None
        self.embed = nn.Conv2d(3, WIDTH, 4, 4)
        self.near = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.qkv = nn.ModuleList(nn.Linear(WIDTH, 3 * WIDTH) for _ in range(3))
        self.bias = nn.Parameter(torch.randn(heads, window**2, window**2))
        self.head = nn.ConvTranspose2d(WIDTH, 3, 4, 4)
        for layer in (self.embed, *self.qkv):
            layer.weight.data *= 3

    def forward(self, x):
        t = self.embed(x)
        t = (t + 0.3 * self.near(t)).permute(0, 2, 3, 1)
        for number, layer in enumerate(self.qkv):
            t = t + self.mix(
                layer, functional.layer_norm(t, (WIDTH,)), number % 2 * self.window // 2
            )
        return x + 0.1 * self.head(t.permute(0, 3, 1, 2))

    def mix(self, layer, t, shift):
        height, width = t.shape[1:3]
        windows = self.split(t, shift)
        q, k, v = layer(windows).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = self.bias[None]
        if shift:
            zones = torch.zeros(1, *self.grown(height, width), 1)
            edges = (slice(-self.window, -shift), slice(-shift, None))
            for number, edge in enumerate(edges, start=1):
                zones[:, edge] += number
                zones[:, :, edge] += 3 * number
            zones = self.split(zones, 0)[..., 0]
            apart = (zones[:, :, None] != zones[:, None]).repeat(len(t), 1, 1)
            mask = mask + -100.0 * apart[:, None]
        if self.matrices is None:
            out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            weights = (q @ k.mT / q.shape[-1] ** 0.5 + mask).softmax(-1)
            self.matrices.append(weights)
            out = weights @ v
        return self.join(out.transpose(1, 2).flatten(2), shift, len(t), height, width)

    def grown(self, height, width):
        return tuple(-(-n // self.window) * self.window for n in (height, width))

    def split(self, t, shift):
        """(N, h, w, C) to (windows, tokens, C)."""
        side, (height, width) = self.window, self.grown(*t.shape[1:3])
        t = functional.pad(t, (0, 0, 0, width - t.shape[2], 0, height - t.shape[1]))
        t = t.roll((-shift, -shift), (1, 2))
        t = t.view(len(t), height // side, side, width // side, side, -1).transpose(2, 3)
        return t.reshape(-1, side * side, t.shape[-1])

    def join(self, t, shift, count, height, width):
        side, (high, wide) = self.window, self.grown(height, width)
        t = t.view(count, high // side, wide // side, side, side, -1).transpose(2, 3)
        t = t.reshape(count, high, wide, -1).roll((shift, shift), (1, 2))
        return t[:, :height, :width]


class Other(nn.Module):
    """Attention whose tokens are no cells: of channels, in a grid, or with a class token."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.embed = kind, nn.Conv2d(3, WIDTH, 4, 4)
        self.head = nn.ConvTranspose2d(WIDTH, 3, 4, 4)

    def forward(self, x):
        t = self.embed(x)
        height, width = t.shape[2:]
        if self.kind == "channel":
            u = t.view(len(t), 4, -1, height * width)
            t = t + functional.scaled_dot_product_attention(u, u, u).view_as(t)
        elif self.kind == "grid":
            # Every 8th cell: as many and as large as windows, but strewn.
            u = t.view(len(t), WIDTH, 8, height // 8, 8, width // 8)
            u = u.permute(0, 3, 5, 2, 4, 1).reshape(-1, 64, WIDTH)
            u = functional.scaled_dot_product_attention(u, u, u)
            u = u.view(len(t), height // 8, width // 8, 8, 8, WIDTH).permute(0, 5, 3, 1, 4, 2)
            t = t + u.reshape_as(t)
        else:
            # A class token before the 64 of each window.
            u = t.view(len(t), WIDTH, height // 8, 8, width // 8, 8)
            u = u.permute(0, 2, 4, 3, 5, 1).reshape(-1, 64, WIDTH)
            u = functional.pad(u, (0, 0, 1, 0))
            u = functional.scaled_dot_product_attention(u, u, u)[:, 1:]
            u = u.view(len(t), height // 8, width // 8, 8, 8, WIDTH).permute(0, 5, 1, 3, 2, 4)
            t = t + u.reshape_as(t)
        if self.kind == "broken":
            raise RuntimeError("a bug of the user's")
        return x + self.head(t)


class Sorted(nn.Module):
    """Tokens whose channels are sorted over the image: they belong to no place."""

    def forward(self, x):
        t = x.flatten(2).sort(-1).values[:, None, :, :64].mT
        seen = functional.scaled_dot_product_attention(t, t, t)
        return x + 0 * seen.sum()


def encoder():
    return Encoder()


def blocks():
    return Encoder(8)


def windows():
    return Windows()


def token():
    return Other("token")


def unplaced():
    return Sorted()
