"""SwinIR × 4: shifted windows of 8; reflects to multiples of a window within."""

import torch
from torch import nn
from torch.nn.functional import pad


class Windows(nn.Module):
    def __init__(self, dim, side, shift):
        super().__init__()
        self.side, self.shift = side, shift
        self.norm, self.qkv, self.proj = (
            nn.LayerNorm(dim),
            nn.Linear(dim, 3 * dim),
            nn.Linear(dim, dim),
        )

    def cut(self, x):
        b, h, w, c = x.shape
        s = self.side
        return x.view(b, h // s, s, w // s, s, c).transpose(2, 3).reshape(-1, s * s, c)

    def forward(self, x):
        b, c, h, w = x.shape
        s, shift = self.side, self.shift
        moved = torch.roll(self.norm(x.permute(0, 2, 3, 1)), (-shift, -shift), (1, 2))
        q, k, v = self.qkv(self.cut(moved)).chunk(3, -1)
        weights = q @ k.transpose(1, 2) / c**0.5
        if shift:
            place = torch.zeros(b, h, w, 1)
            for at in (-s, -shift):
                place[:, at:] += 1
                place[:, :, at:] += 3
            cells = self.cut(place)
            weights = weights.masked_fill(cells != cells.transpose(1, 2), -100.0)
        y = self.proj(weights.softmax(-1) @ v).view(b, h // s, w // s, s, s, c)
        y = y.transpose(2, 3).reshape(b, h, w, c)
        return x + torch.roll(y, (shift, shift), (1, 2)).permute(0, 3, 1, 2)


class SwinIR(nn.Module):
    def __init__(self, upscale=4, window_size=8, dim=8):
        super().__init__()
        self.upscale, self.window_size, self.mean = (
            upscale,
            window_size,
            torch.full((1, 3, 1, 1), 0.44),
        )
        self.conv_first = nn.Conv2d(3, dim, 3, padding=1)
        self.layers = nn.Sequential(
            Windows(dim, window_size, 0), Windows(dim, window_size, window_size // 2)
        )
        self.upsample = nn.Sequential(
            nn.Conv2d(dim, 3 * upscale**2, 3, padding=1), nn.PixelShuffle(upscale)
        )

    def check_image_size(self, x):
        h, w = x.shape[2:]
        return pad(x, (0, -w % self.window_size, 0, -h % self.window_size), "reflect")

    def forward(self, x):
        h, w = x.shape[2:]
        x = self.check_image_size(x)
        self.mean = self.mean.type_as(x)
        x = x - self.mean
        x = self.upsample(self.layers(self.conv_first(x))) + self.mean
        return x[:, :, : h * self.upscale, : w * self.upscale]
