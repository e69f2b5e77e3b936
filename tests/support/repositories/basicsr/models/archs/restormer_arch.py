"""Restormer: attention among channels at four levels; images of multiples of 8."""

from basicsr.models.archs.arch_util import (
    ChannelAttention,
    Downsample,
    GatedFeedForward,
    LayerNorm2d,
    Upsample,
    conv,
)
from torch import cat, nn


class TransformerBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = LayerNorm2d(width), LayerNorm2d(width)
        self.attn, self.ffn = ChannelAttention(width, heads), GatedFeedForward(width)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class Restormer(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.patch_embed = conv(3, width)
        self.encoders = nn.ModuleList(TransformerBlock(width << n, 1 << n) for n in range(4))
        self.downs = nn.ModuleList(Downsample(width << n) for n in range(3))
        self.ups = nn.ModuleList(Upsample(width << n) for n in (3, 2, 1))
        self.reduce = nn.ModuleList(conv(2 * (width << n), width << n, 1) for n in (2, 1, 0))
        self.decoders = nn.ModuleList(TransformerBlock(width << n, 1 << n) for n in (2, 1, 0))
        self.output = conv(width, 3)

    def forward(self, inp_img):
        x, skips = self.patch_embed(inp_img), []
        for encoder, down in zip(self.encoders, self.downs, strict=False):
            skips.append(encoder(x))
            x = down(skips[-1])
        x = self.encoders[3](x)
        for up, reduce, decoder in zip(self.ups, self.reduce, self.decoders, strict=True):
            x = decoder(reduce(cat([up(x), skips.pop()], 1)))
        return self.output(x) + inp_img
