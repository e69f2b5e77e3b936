"""MIRNetv2: three scales side by side, and a context of all pixels."""

import torch
from basicsr.models.archs.arch_util import conv
from torch import nn
from torch.nn.functional import interpolate


class ContextBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mask = nn.Conv2d(width, 1, 1)
        self.add = nn.Sequential(conv(width, width, 1), nn.LeakyReLU(0.2), conv(width, width, 1))

    def forward(self, x):
        weights = self.mask(x).flatten(2).softmax(-1)
        context = x.flatten(2) @ weights.transpose(1, 2)
        return x + self.add(context[..., None])


class RCB(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(conv(width, width), nn.LeakyReLU(0.2), conv(width, width))
        self.context = ContextBlock(width)

    def forward(self, x):
        return x + nn.functional.leaky_relu(self.context(self.body(x)), 0.2)


class SKFF(nn.Module):
    """Chooses among features by their means over the image."""

    def __init__(self, width):
        super().__init__()
        self.squeeze = nn.Sequential(conv(width, 4, 1), nn.PReLU())
        self.fcs = nn.ModuleList(conv(4, width, 1) for _ in range(2))

    def forward(self, features):
        z = self.squeeze(sum(features).mean((2, 3), keepdim=True))
        weights = torch.stack([fc(z) for fc in self.fcs], 1).softmax(1)
        return (torch.stack(features, 1) * weights).sum(1)


class MIRNet_v2(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.conv_in, self.conv_out = conv(3, width), conv(width, 3)
        self.blocks = nn.ModuleList(RCB(each) for each in (width, 12, 16))
        self.downs = nn.ModuleList([nn.Conv2d(width, 12, 1), nn.Conv2d(12, 16, 1)])
        self.ups = nn.ModuleList([nn.Conv2d(12, width, 1), nn.Conv2d(16, 12, 1)])
        self.skff = nn.ModuleList([SKFF(width), SKFF(12)])

    def forward(self, inp_img):
        top = self.blocks[0](self.conv_in(inp_img))
        mid = self.blocks[1](interpolate(self.downs[0](top), scale_factor=0.5, mode="bilinear"))
        bottom = self.blocks[2](interpolate(self.downs[1](mid), scale_factor=0.5, mode="bilinear"))
        more = interpolate(self.ups[1](bottom), scale_factor=2, mode="bilinear")
        mid = self.skff[1]([mid, more])
        more = interpolate(self.ups[0](mid), scale_factor=2, mode="bilinear")
        return self.conv_out(self.skff[0]([top, more])) + inp_img
