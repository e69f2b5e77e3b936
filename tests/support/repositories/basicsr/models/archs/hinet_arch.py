"""HINet: half of the channels are normalised over the image; two stages, the last is the result."""

import torch
from torch import nn

from .arch_util import conv


class UNetConvBlock(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.identity = conv(inputs, outputs, 1)
        self.conv_1, self.conv_2 = conv(inputs, outputs), conv(outputs, outputs)
        self.norm = nn.InstanceNorm2d(outputs // 2, affine=True)

    def forward(self, x):
        one, two = self.conv_1(x).chunk(2, 1)
        out = nn.functional.leaky_relu(torch.cat([self.norm(one), two], 1), 0.2)
        return nn.functional.leaky_relu(self.conv_2(out), 0.2) + self.identity(x)


class UNet(nn.Module):
    def __init__(self, width, depth=4):
        super().__init__()
        widths = [width << n for n in range(depth)]
        inputs = [width, *widths[:-1]]
        self.down = nn.ModuleList(map(UNetConvBlock, inputs, widths))
        self.pool = nn.ModuleList(nn.Conv2d(w, w, 4, 2, 1, bias=False) for w in widths[:-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in widths[-2::-1])
        self.join = nn.ModuleList(UNetConvBlock(2 * w, w) for w in widths[-2::-1])

    def forward(self, x):
        kept = []
        for down, pool in zip(self.down, self.pool, strict=False):
            kept.append(down(x))
            x = pool(kept[-1])
        x = self.down[-1](x)
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([up(x), kept.pop()], 1))
        return x


class HINet(nn.Module):
    def __init__(self, wf=4):
        super().__init__()
        self.conv_01, self.conv_02 = conv(3, wf), conv(3, wf)
        self.first, self.second = UNet(wf), UNet(wf)
        self.sam12, self.cat12, self.last = conv(wf, 3), conv(2 * wf, wf, 1), conv(wf, 3)

    def forward(self, x):
        one = self.first(self.conv_01(x))
        out_1 = self.sam12(one) + x
        two = self.cat12(torch.cat([self.conv_02(x), one * torch.sigmoid(out_1.mean(1, True))], 1))
        return [out_1, self.last(self.second(two)) + x]
