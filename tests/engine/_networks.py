"""Small networks in the structure of published ones, as people bring them: no card, any size."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(inputs: int, outputs: int, side: int = 3, dilation: int = 1, **options) -> nn.Conv2d:
    """A convolution that keeps the size."""
    padding = side // 2 * dilation
    return nn.Conv2d(inputs, outputs, side, padding=padding, dilation=dilation, **options)


def padded(x: Tensor, multiple: int, mode: str = "constant") -> Tensor:
    """`x` grown at right and bottom to multiples, as networks do inside `forward`."""
    return F.pad(x, (0, -x.shape[3] % multiple, 0, -x.shape[2] % multiple), mode)


def windows(x: Tensor, side: int) -> Tensor:
    """The windows (N · rows · columns, side², C) of (N, C, H, W)."""
    n, c, h, w = x.shape
    x = x.view(n, c, h // side, side, w // side, side)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(-1, side * side, c)


def joined(parts: Tensor, side: int, shape: torch.Size) -> Tensor:
    n, c, h, w = shape
    x = parts.view(n, h // side, w // side, side, side, c)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)


class WindowAttention(nn.Module):
    """Attention in windows, moved by half a window where it is shifted, with a mask at the edges."""

    def __init__(self, width: int, side: int, shifted: bool):
        super().__init__()
        self.side, self.shift = side, side // 2 if shifted else 0
        self.norm, self.mix = nn.LayerNorm(width), nn.Linear(width, width)
        self.queries, self.last = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        side, shift = self.side, self.shift
        moved = torch.roll(x, (-shift, -shift), (2, 3))
        q, k, v = self.queries(self.norm(windows(moved, side))).chunk(3, -1)
        weights = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
        if shift:
            place = torch.zeros(x.shape[2:])
            for at in (-side, -shift):
                place[at:] += 1
                place[:, at:] += 3
            cells = windows(place.expand(len(x), 1, -1, -1), side)
            weights = weights.masked_fill(cells != cells.transpose(1, 2), -100)
        y = joined(self.last(weights.softmax(-1) @ v), side, x.shape)
        x = x + torch.roll(y, (shift, shift), (2, 3))
        return x + self.mix(x.permute(0, 2, 3, 1)).tanh().permute(0, 3, 1, 2)


class UNet(nn.Module):
    """Pooling; what is too small beside a skip is padded."""

    def __init__(self, width=4, depth=3, resize=False):
        super().__init__()
        self.resize = resize
        widths = [width * 2**i for i in range(depth + 1)]
        pairs = list(itertools.pairwise(widths))
        self.first, self.last = self._block(3, width), conv(width, 3, 1)
        self.down = nn.ModuleList(self._block(a, b) for a, b in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in reversed(pairs))
        self.near = nn.ModuleList(self._block(2 * a, a) for a, _ in reversed(pairs))

    @staticmethod
    def _block(inputs, outputs):
        return nn.Sequential(conv(inputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU(True))

    def forward(self, x):
        y, skips = self.first(x), []
        for down in self.down:
            skips.append(y)
            y = down(F.max_pool2d(y, 2))
        for up, near, skip in zip(self.up, self.near, reversed(skips), strict=True):
            y = up(y)
            more = [b - a for a, b in zip(y.shape[2:], skip.shape[2:], strict=True)]
            if self.resize:
                y = F.interpolate(y, size=skip.shape[2:], mode="bilinear")
            else:
                y = F.pad(y, (more[1] // 2, -(-more[1] // 2), more[0] // 2, -(-more[0] // 2)))
            y = near(torch.cat([skip, y], 1))
        return x + 0.3 * self.last(y)


class NAFNet(nn.Module):
    """Gates, levels by strided convolutions, padding to the deepest level."""

    def __init__(self, pooled: bool, width=4):
        super().__init__()
        self.first, self.last = conv(3, width), conv(width, 3)
        self.a, self.b, self.c = (self._block(n * width) for n in (1, 2, 4))
        self.down = nn.ModuleList(nn.Conv2d(n * width, 2 * n * width, 2, 2) for n in (1, 2))
        self.up = nn.ModuleList(conv(2 * n * width, 4 * n * width, 1) for n in (1, 2))
        self.pool = conv(4 * width, 4 * width, 1) if pooled else None

    @staticmethod
    def _block(width):
        parts = {"in": conv(width, 2 * width), "out": conv(width, width, 1)}
        return nn.ModuleDict(parts)

    @staticmethod
    def _gated(block, x):
        a, b = block["in"](x).chunk(2, 1)
        return x + block["out"](a * b)

    def forward(self, x):
        h, w = x.shape[2:]
        x = padded(x, 4)
        one = self._gated(self.a, self.first(x))
        two = self._gated(self.b, self.down[0](one))
        y = self._gated(self.c, self.down[1](two))
        if self.pool is not None:
            y = y * self.pool(F.adaptive_avg_pool2d(y, 1))
        y = F.pixel_shuffle(self.up[1](y), 2) + two
        y = F.pixel_shuffle(self.up[0](y), 2) + one
        return (x + self.last(y))[..., :h, :w]


class SwinIR(nn.Module):
    """Windows, every other ones shifted; reflected to multiples of a window."""

    def __init__(self, side=8, width=8):
        super().__init__()
        self.side = side
        self.first, self.last = conv(3, width), conv(width, 3)
        self.layers = nn.Sequential(*(WindowAttention(width, side, odd) for odd in (False, True)))

    def forward(self, x):
        h, w = x.shape[2:]
        x = padded(x, self.side, "reflect")
        return (x + self.last(self.layers(self.first(x))))[..., :h, :w]


class Uformer(nn.Module):
    """Windows at two scales."""

    def __init__(self, width=6):
        super().__init__()
        self.first, self.last = conv(3, width), conv(width, 3)
        self.near = WindowAttention(width, 4, True)
        self.down, self.up = (
            nn.Conv2d(width, width, 4, 2, 1),
            nn.ConvTranspose2d(width, width, 2, 2),
        )
        self.far = WindowAttention(width, 4, True)

    def forward(self, x):
        h, w = x.shape[2:]
        x = padded(x, 8, "replicate")
        y = self.near(self.first(x))
        return (x + self.last(y + self.up(self.far(self.down(y)))))[..., :h, :w]


class ShiftedPadding(nn.Module):
    """Windows of 8 that begin 4 pixels before the image, which is reflected there."""

    def __init__(self, width=6, side=8):
        super().__init__()
        self.side = side
        self.first, self.last = conv(3, width), conv(width, 3)
        self.inside = WindowAttention(width, side, False)

    def forward(self, x):
        h, w = x.shape[2:]
        y, before = self.first(x), self.side // 2
        after = [(-(n + before)) % self.side for n in (w, h)]
        y = self.inside(F.pad(y, (before, after[0], before, after[1]), "reflect"))
        return x + self.last(y[..., before : before + h, before : before + w])


class SevenThenShift(nn.Module):
    """Padded to windows of 7, then rolled without a mask: it wraps around the image."""

    def __init__(self, width=5):
        super().__init__()
        self.first, self.last = conv(3, width), conv(width, 3)
        self.inside = WindowAttention(width, 7, False)

    def forward(self, x):
        h, w = x.shape[2:]
        y = torch.roll(padded(self.first(x), 7), (3, 3), (2, 3))
        return x + self.last(torch.roll(self.inside(y), (-3, -3), (2, 3))[..., :h, :w])


class Restormer(nn.Module):
    """Attention between channels, over all pixels."""

    def __init__(self, width=8):
        super().__init__()
        self.first, self.last = conv(3, width), conv(width, 3)
        self.queries, self.mix = conv(width, 3 * width), conv(width, width, 1)

    def forward(self, x):
        y = self.first(x)
        q, k, v = self.queries(y).flatten(2).chunk(3, 1)
        weights = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(1, 2)).softmax(-1)
        return x + self.last(y + self.mix((weights @ v).view_as(y)))


class GridDehazeNet(nn.Module):
    """Levels of strided convolutions, made to fit by `output_size`; ends in a ReLU."""

    def __init__(self, width=4):
        super().__init__()
        self.first, self.last = conv(3, width), conv(width, 3)
        self.down = nn.ModuleList(nn.Conv2d(width, width, 3, 2, 1) for _ in range(2))
        self.up = nn.ModuleList(nn.ConvTranspose2d(width, width, 3, 2, 1) for _ in range(2))
        self.near = nn.ModuleList(conv(width, width) for _ in range(3))

    def forward(self, x):
        one = F.relu(self.near[0](self.first(x)))
        two = F.relu(self.near[1](self.down[0](one)))
        three = F.relu(self.near[2](self.down[1](two)))
        two = two + F.relu(self.up[1](three, output_size=two.shape[2:]))
        one = one + F.relu(self.up[0](two, output_size=one.shape[2:]))
        return F.relu(self.last(one))


class AODNet(nn.Module):
    def __init__(self):
        super().__init__()
        sizes = ((3, 1), (3, 3), (6, 5), (6, 7), (12, 3))
        self.convs = nn.ModuleList(conv(n, 3, side) for n, side in sizes)

    def forward(self, x):
        one, two, three, four, five = (lambda y, c=c: F.relu(c(y)) for c in self.convs)
        a = one(x)
        b = two(a)
        c = three(torch.cat([a, b], 1))
        d = four(torch.cat([b, c], 1))
        k = five(torch.cat([a, b, c, d], 1))
        return F.relu(k * x - k + 1)


class Chain(nn.Module):
    """Convolutions one after the other, whose result is subtracted; see `end`."""

    def __init__(self, depth=5, width=6, end=None, dilations=(1,)):
        super().__init__()
        widths = [3, *[width] * (depth - 1), 3]
        layers = []
        for i in range(depth):
            dilation = dilations[i % len(dilations)]
            layers += [conv(widths[i], widths[i + 1], 3, dilation), nn.ReLU(True)]
        self.layers, self.end = nn.Sequential(*layers[:-1]), end or nn.Identity()

    def forward(self, x):
        return self.end(x - self.layers(x))


class Attentive(nn.Module):
    """Attention to pixels, and to channels by a mean (FFA-Net, RCAN) or a maximum (CBAM)."""

    def __init__(self, pool, width=8):
        super().__init__()
        self.pool = pool
        self.first, self.near, self.last = conv(3, width), conv(width, width), conv(width, 3)
        self.channels, self.pixels = conv(width, width, 1), conv(width, 1, 1)

    def forward(self, x):
        y = F.relu(self.near(F.relu(self.first(x))))
        y = y * torch.sigmoid(self.channels(self.pool(y)))
        return x + self.last(y * torch.sigmoid(self.pixels(y)))


class DRUNet(nn.Module):
    """Strided levels without padding: sides must be multiples of 8."""

    def __init__(self, width=4):
        super().__init__()
        self.first, self.last = conv(3, width, bias=False), conv(width, 3, bias=False)
        self.down = nn.ModuleList(nn.Conv2d(width, width, 2, 2, bias=False) for _ in range(3))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(width, width, 2, 2, bias=False) for _ in range(3)
        )

    def forward(self, x):
        y, skips = self.first(x), []
        for down in self.down:
            skips.append(y)
            y = F.relu(down(y))
        for up, skip in zip(self.up, reversed(skips), strict=True):
            y = up(y) + skip
        return self.last(y)


class FFDNet(nn.Module):
    """On quarters of the pixels, with a map of the noise."""

    def __init__(self, width=8):
        super().__init__()
        self.layers = nn.Sequential(
            conv(13, width), nn.ReLU(), conv(width, width), nn.ReLU(), conv(width, 12)
        )

    def forward(self, x):
        h, w = x.shape[2:]
        y = F.pixel_unshuffle(padded(x, 2, "replicate"), 2)
        level = torch.full_like(y[:, :1], 0.1)
        return F.pixel_shuffle(self.layers(torch.cat([y, level], 1)), 2)[..., :h, :w]


class Boosted(nn.Module):
    """A decoder that adds, boosts and subtracts (MSBDN)."""

    def __init__(self, width=4):
        super().__init__()
        self.first, self.last = conv(3, width), conv(width, 3)
        self.down, self.deep = nn.Conv2d(width, width, 3, 2, 1), conv(width, width)
        self.boost = conv(width, width)

    def forward(self, x):
        h, w = x.shape[2:]
        y = self.first(padded(x, 16, "reflect"))
        deep = F.interpolate(F.relu(self.deep(self.down(y))), scale_factor=2.0, mode="bilinear")
        return x + self.last(self.boost(y + deep) - deep)[..., :h, :w]


class Kernels(nn.Module):
    """Large kernels as dilated ones by channel."""

    def __init__(self, width=6):
        super().__init__()
        self.first, self.last = conv(3, width), conv(width, 3)
        self.near = conv(width, width, 5, groups=width)
        self.far = conv(width, width, 7, dilation=3, groups=width)

    def forward(self, x):
        y = self.first(x)
        return x + self.last(y * self.far(self.near(y)))


class Halves(nn.Module):
    """Stages of which the first sees the halves of an image apart (MPRNet)."""

    def __init__(self, width=4):
        super().__init__()
        self.first, self.second = conv(3, width, 5), conv(width + 3, 3, 5)

    def forward(self, x):
        middle = x.shape[2] // 2
        y = torch.cat([self.first(x[:, :, :middle]), self.first(x[:, :, middle:])], 2)
        return x + self.second(torch.cat([x, y.tanh()], 1))


class Haar(nn.Module):
    """Works on wavelets."""

    def __init__(self):
        super().__init__()
        self.inside = conv(12, 12)

    def forward(self, x):
        h, w = x.shape[2:]
        y = F.pixel_unshuffle(padded(x, 2, "reflect"), 2)
        return F.pixel_shuffle(y + self.inside(y).tanh(), 2)[..., :h, :w]


class Scaled(nn.Module):
    """A convolution of what `scale` makes of the image, beside its own pixels."""

    def __init__(self, scale):
        super().__init__()
        self.scale, self.near = scale, conv(3, 3, 5)

    def forward(self, x):
        return x + self.near(self.scale(x)).tanh()


def min_max(x):
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return (x - low) / (high - low)


def without_brightest(x):
    """Haze taken off by the brightest pixel."""
    return x / x.detach().amax((2, 3), keepdim=True)


def without_quantile(x):
    return x - torch.quantile(x.flatten(2), 0.99, dim=2)[..., None, None]


def with_count(x):
    return x * (1 + (x > 0.8).to(x).mean((1, 2, 3), keepdim=True))


def darkened(x):
    """Dark images are treated in another way."""
    return x.sqrt() if x.mean() < 0.3 else x


def with_columns(x):
    return x * torch.linspace(0.8, 1.2, x.shape[-1])


def with_rows(x):
    """A period in one direction that no grid has."""
    return x + 0.1 * torch.sin(torch.arange(x.shape[2]) / 1.7)[:, None]


def with_lines(x):
    """Every third line is treated in another way."""
    return x * (1 + 0.1 * (torch.arange(x.shape[2]) % 3 == 0))[:, None]


def with_noise(x):
    return x + 0.01 * torch.randn_like(x)


def scanned(x):
    """A state that all pixels of a row leave."""
    return x.cumsum(3) / (1 + torch.arange(x.shape[3]))


def pooled(x):
    """Maxima of blocks whose sides follow from the image's."""
    small = F.adaptive_max_pool2d(x, (x.shape[2] // 4, x.shape[3] // 4))
    return F.interpolate(small, x.shape[2:])


def local_mean(x):
    return x - F.avg_pool2d(x, 31, 1, 15, count_include_pad=False)


TILED = {
    "unet": UNet,
    "nafnet": lambda: NAFNet(pooled=False),
    "swinir": SwinIR,
    "swinir-7": lambda: SwinIR(7),
    "uformer": Uformer,
    "dehazeformer": ShiftedPadding,
    "griddehazenet": GridDehazeNet,
    "aod-net": AODNet,
    "dncnn": Chain,
    "gcanet": lambda: Chain(6, dilations=(1, 2, 4)),
    "drunet": DRUNet,
    "ffdnet": FFDNet,
    "msbdn": Boosted,
    "lka": Kernels,
    "haar": Haar,
    "local-mean": lambda: Scaled(local_mean),
    "lines": lambda: Scaled(with_lines),
}
"""Networks that can be cut into tiles."""
WHOLE = {
    "nafnet-sca": lambda: NAFNet(pooled=True),
    "restormer": Restormer,
    "ffa-net": lambda: Attentive(nn.AdaptiveAvgPool2d(1)),
    "cbam": lambda: Attentive(nn.AdaptiveMaxPool2d(1)),
    "instance-norm": lambda: nn.Sequential(conv(3, 3), nn.InstanceNorm2d(3), conv(3, 3)),
    "min-max": lambda: Scaled(min_max),
    "brightest": lambda: Scaled(without_brightest),
    "quantile": lambda: Scaled(without_quantile),
    "count": lambda: Scaled(with_count),
    "dark": lambda: Scaled(darkened),
    "columns": lambda: Scaled(with_columns),
    "rows": lambda: Scaled(with_rows),
    "scan": lambda: Scaled(scanned),
    "mprnet": Halves,
    "seven-then-shift": SevenThenShift,
}
"""Networks that must be given the whole image."""
BY_SIZE = {"unet-resized": lambda: UNet(resize=True), "pooled": lambda: Scaled(pooled)}
"""Networks that can be cut into tiles if the sides of the image are multiples of their own."""


def network(make, seed: int = 0) -> nn.Module:
    """A network with random weights; also of those that are zero or one at first."""
    torch.manual_seed(seed)
    module = make().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            if "running" in name:
                buffer.add_(0.1 * torch.rand(buffer.shape, generator=generator))
    return module


def scene(height: int, width: int) -> Tensor:
    """(1, 3, h, w) in [0, 1]: blocks and noise, one dark and one bright corner."""
    generator = torch.Generator().manual_seed(3)
    blocks = torch.rand(1, 3, -(-height // 16), -(-width // 16), generator=generator)
    blocks = blocks.repeat_interleave(16, 2).repeat_interleave(16, 3)[..., :height, :width]
    x = 0.2 + 0.5 * blocks + 0.2 * torch.rand(1, 3, height, width, generator=generator)
    x[..., :9, :9] = 0.0
    x[..., -9:, -9:] = 1.0
    return x
