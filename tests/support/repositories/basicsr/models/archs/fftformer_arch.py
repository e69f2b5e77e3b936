"""FFTformer: attention and gates by Fourier transforms of patches of 8 × 8."""

import torch
from torch import nn
from torch.nn.functional import gelu

from .arch_util import LayerNorm2d, conv

SIDE = 8


def patches(x):
    b, c, h, w = x.shape
    return x.reshape(b, c, h // SIDE, SIDE, w // SIDE, SIDE).transpose(3, 4)


def joined(x):
    b, c, rows, columns = x.shape[:4]
    return x.transpose(3, 4).reshape(b, c, rows * SIDE, columns * SIDE)


class FSAS(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.to_hidden = nn.Sequential(conv(width, 6 * width, 1), conv(6 * width, 6 * width))
        self.norm, self.project_out = LayerNorm2d(2 * width), conv(2 * width, width, 1)

    def forward(self, x):
        q, k, v = self.to_hidden(x).chunk(3, 1)
        both = torch.fft.rfft2(patches(q)) * torch.fft.rfft2(patches(k))
        return self.project_out(v * self.norm(joined(torch.fft.irfft2(both, s=(SIDE, SIDE)))))


class DFFN(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.project_in, self.project_out = conv(width, 2 * width, 1), conv(width, width, 1)
        self.fft = nn.Parameter(torch.ones(2 * width, 1, 1, SIDE, SIDE // 2 + 1))
        self.dwconv = conv(2 * width, 2 * width, groups=2 * width)

    def forward(self, x):
        spectrum = torch.fft.rfft2(patches(self.project_in(x))) * self.fft
        a, b = self.dwconv(joined(torch.fft.irfft2(spectrum, s=(SIDE, SIDE)))).chunk(2, 1)
        return self.project_out(gelu(a) * b)


class Block(nn.Module):
    def __init__(self, width, att):
        super().__init__()
        self.norm1, self.norm2 = LayerNorm2d(width), LayerNorm2d(width)
        self.attn, self.ffn = (FSAS(width) if att else None), DFFN(width)

    def forward(self, x):
        if self.attn is not None:
            x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class fftformer(nn.Module):
    def __init__(self, dim=4):
        super().__init__()
        self.patch_embed, self.output = conv(3, dim), conv(dim, 3)
        self.encoders = nn.ModuleList(Block(dim << n, False) for n in range(3))
        self.decoders = nn.ModuleList(Block(dim << n, True) for n in (2, 1, 0))
        half = {"scale_factor": 0.5, "mode": "bilinear"}
        twice = {"scale_factor": 2, "mode": "bilinear"}
        self.downs = nn.ModuleList(
            nn.Sequential(nn.Upsample(**half), conv(dim << n, dim << n + 1)) for n in (0, 1)
        )
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Upsample(**twice), conv(dim << n, dim << n - 1)) for n in (2, 1)
        )

    def forward(self, inp_img):
        x, kept = self.patch_embed(inp_img), []
        for encoder, down in zip(self.encoders, self.downs, strict=False):
            kept.append(encoder(x))
            x = down(kept[-1])
        x = self.decoders[0](self.encoders[2](x))
        for up, decoder in zip(self.ups, self.decoders[1:], strict=True):
            x = decoder(up(x) + kept.pop())
        return self.output(x) + inp_img
