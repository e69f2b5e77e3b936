"""ConvIR: convolutions by strips; at 1/32 they reflect by 7, so that small images are none."""

from torch import nn
from torch.nn.functional import interpolate

from .layers import BasicConv, MultiShapeKernel


class ConvIR(nn.Module):
    def __init__(self, width=4, levels=5):
        super().__init__()
        widths = [width] * (levels + 1)
        self.first, self.last = BasicConv(3, width), nn.Conv2d(width, 3, 3, padding=1)
        self.downs = nn.ModuleList(BasicConv(w, w, 3, 2) for w in widths[1:])
        self.ups = nn.ModuleList(BasicConv(w, w, 4, 2, transpose=True) for w in widths[1:])
        self.near = nn.ModuleList(
            MultiShapeKernel(w, (1, 7 if n == levels else 2)) for n, w in enumerate(widths)
        )
        self.merge = BasicConv(3, width)

    def forward(self, x):
        y, kept = self.near[0](self.first(x)), []
        for down, near in zip(self.downs, self.near[1:], strict=True):
            kept.append(y)
            y = near(down(y))
            if len(kept) == 1:
                y = y + self.merge(interpolate(x, scale_factor=0.5))
        for up in self.ups:
            y = up(y) + kept.pop()
        return self.last(y) + x
