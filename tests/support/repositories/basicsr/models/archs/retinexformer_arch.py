"""Retinexformer: a map of light is estimated, and guides attention among channels."""

import torch
from torch import nn

from .arch_util import LayerNorm2d, conv


class IlluminationEstimator(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.conv2 = conv(4, width, 1), conv(width, 3, 1)
        self.depth_conv = conv(width, width, 5, groups=4)

    def forward(self, img):
        light = self.depth_conv(self.conv1(torch.cat([img, img.mean(1, keepdim=True)], 1)))
        return light, self.conv2(light)


class GuidedAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv = heads, nn.Linear(width, 3 * width, bias=False)
        self.norm, self.proj = LayerNorm2d(width), nn.Linear(width, width)
        self.pos = nn.Sequential(conv(width, width), nn.GELU(), conv(width, width))

    def forward(self, x, light):
        b, c, h, w = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).reshape(b, h * w, 3, self.heads, -1).permute(2, 0, 3, 4, 1)
        kept = v.reshape(b, c, h, w)
        v = v * light.flatten(2).reshape(v.shape)
        q, k = (nn.functional.normalize(each, dim=-1) for each in (q, k))
        y = (k @ q.transpose(-2, -1)).softmax(-1) @ v
        y = self.proj(y.reshape(b, c, h * w).transpose(1, 2)).transpose(1, 2)
        return x + y.reshape(b, c, h, w) + self.pos(kept)


class RetinexFormer(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.estimator = IlluminationEstimator(width)
        self.embedding, self.mapping = conv(3, width), conv(width, 3)
        widths = [(width << n, 1 << n) for n in range(3)]
        self.attention = nn.ModuleList(GuidedAttention(*each) for each in widths)
        self.downs = nn.ModuleList(nn.Conv2d(w, 2 * w, 4, 2, 1) for w, _ in widths[:2])
        self.lights = nn.ModuleList(nn.Conv2d(w, 2 * w, 4, 2, 1) for w, _ in widths[:2])
        self.ups = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w, _ in widths[1::-1])
        self.fusion = nn.ModuleList(conv(2 * w, w, 1) for w, _ in widths[1::-1])

    def forward(self, img):
        light, ratio = self.estimator(img)
        bright = img * ratio + img
        x, kept = self.embedding(bright), []
        for attention, down, smaller in zip(self.attention, self.downs, self.lights, strict=False):
            kept.append(attention(x, light))
            x, light = down(kept[-1]), smaller(light)
        x = self.attention[2](x, light)
        for up, fusion in zip(self.ups, self.fusion, strict=True):
            x = fusion(torch.cat([up(x), kept.pop()], 1))
        return self.mapping(x) + bright
