"""Large kernels by strips, at two dilations, that reflect."""

import torch
from torch import nn


class BasicConv(nn.Sequential):
    def __init__(self, inputs, outputs, side=3, stride=1, transpose=False):
        if transpose:
            super().__init__(nn.ConvTranspose2d(inputs, outputs, side, stride, 1), nn.GELU())
        else:
            super().__init__(nn.Conv2d(inputs, outputs, side, stride, side // 2), nn.GELU())


class Strips(nn.Module):
    """Means over strips of `side` pixels, `dilation` apart, reflected at the edges."""

    def __init__(self, width, side, dilation):
        super().__init__()
        self.side, self.dilation = side, dilation
        self.weight = nn.Parameter(torch.rand(2, width, side) / side)

    def forward(self, x):
        c, reach = x.shape[1], self.dilation * (self.side - 1) // 2
        for n, size in enumerate(((1, self.side), (self.side, 1))):
            edges = (reach, reach, 0, 0) if n == 0 else (0, 0, reach, reach)
            grown = nn.functional.pad(x, edges, mode="reflect")
            kernel = self.weight[n].reshape(c, 1, *size)
            x = nn.functional.conv2d(grown, kernel, dilation=self.dilation, groups=c)
        return x


class MultiShapeKernel(nn.Module):
    def __init__(self, width, dilations):
        super().__init__()
        self.strips = nn.ModuleList(Strips(width, 3, each) for each in dilations)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x):
        return x + self.mix(sum(strip(x) for strip in self.strips))
