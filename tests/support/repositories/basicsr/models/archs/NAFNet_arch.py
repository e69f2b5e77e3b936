"""NAFNet: gates and means over the image; grown by zeros to multiples within."""

from torch import nn
from torch.nn.functional import pad

from .arch_util import LayerNorm2d, conv


class NAFBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm1, self.norm2 = LayerNorm2d(c), LayerNorm2d(c)
        self.conv1, self.conv2 = conv(c, 2 * c, 1), conv(2 * c, 2 * c, groups=2 * c)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(c, c, 1))
        self.conv3, self.conv4, self.conv5 = conv(c, c, 1), conv(c, 2 * c, 1), conv(c, c, 1)

    @staticmethod
    def gate(x):
        a, b = x.chunk(2, 1)
        return a * b

    def forward(self, x):
        y = self.gate(self.conv2(self.conv1(self.norm1(x))))
        x = x + self.conv3(y * self.sca(y))
        return x + self.conv5(self.gate(self.conv4(self.norm2(x))))


class NAFNet(nn.Module):
    def __init__(self, width=4, levels=4):
        super().__init__()
        self.intro, self.ending = conv(3, width), conv(width, 3)
        widths = [width << n for n in range(levels)]
        self.encoders = nn.ModuleList(map(NAFBlock, widths))
        self.downs = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, 2) for w in widths)
        self.middle = NAFBlock(width << levels)
        self.ups = nn.ModuleList(
            nn.Sequential(conv(2 * w, 4 * w, 1, bias=False), nn.PixelShuffle(2))
            for w in widths[::-1]
        )
        self.decoders = nn.ModuleList(map(NAFBlock, widths[::-1]))
        self.padder_size = 2**levels

    def check_image_size(self, x):
        h, w = x.shape[2:]
        return pad(x, (0, -w % self.padder_size, 0, -h % self.padder_size))

    def forward(self, inp):
        h, w = inp.shape[2:]
        inp = self.check_image_size(inp)
        x, kept = self.intro(inp), []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            kept.append(encoder(x))
            x = down(kept[-1])
        x = self.middle(x)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = decoder(up(x) + kept.pop())
        return (self.ending(x) + inp)[:, :, :h, :w]
