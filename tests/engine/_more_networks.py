"""More small networks in the structure of published ones; see `_networks`."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from ._networks import Scaled, UNet, conv, joined, padded, windows


class HalfNorm(nn.Module):
    """Half of the channels are normalised over the image (HINet)."""

    def __init__(self, width=8):
        super().__init__()
        self.first, self.last = conv(3, width), conv(width, 3)
        self.norm = nn.InstanceNorm2d(width // 2, affine=True)

    def forward(self, x):
        a, b = self.first(x).chunk(2, 1)
        return x + self.last(F.leaky_relu(torch.cat([self.norm(a), b], 1), 0.2))


class ASPP(nn.Module):
    """Dilated convolutions side by side, and a mean of all pixels (DeepLab)."""

    def __init__(self, pooled: bool, width=4):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, width, 4, 4), conv(width * (3 + pooled), 3, 1)
        self.near = nn.ModuleList(conv(width, width, 3, n) for n in (1, 2, 4))
        self.pool = conv(width, width, 1) if pooled else None

    def forward(self, x):
        size = x.shape[2:]
        y = self.first(padded(x, 4, "replicate"))
        parts = [F.relu(near(y)) for near in self.near]
        if self.pool is not None:
            parts.append(self.pool(F.adaptive_avg_pool2d(y, 1)).expand_as(y))
        y = F.interpolate(self.last(torch.cat(parts, 1)), scale_factor=4.0, mode="bilinear")
        return x + y[..., : size[0], : size[1]]


class SoftDehazeFormer(nn.Module):
    """Windows in a reflected image, at half the size; ends in K x - B + x."""

    def __init__(self, rescaled: bool, width=4, side=8):
        super().__init__()
        self.side, self.rescaled = side, rescaled
        self.first = nn.Conv2d(3, width, 3, padding=1, padding_mode="reflect")
        self.down, self.up = nn.Conv2d(width, width, 2, 2), conv(width, 4 * width, 1)
        self.queries, self.last = nn.Linear(width, 3 * width), conv(width, 4)

    def inside(self, x, shift):
        h, w = x.shape[2:]
        side = self.side
        after = [(side - shift + n % side) % side if shift else -n % side for n in (w, h)]
        y = F.pad(x, (shift, after[0], shift, after[1]), "reflect")
        y = F.pad(y, (0, -y.shape[3] % side, 0, -y.shape[2] % side), "reflect")
        q, k, v = self.queries(windows(y, side)).chunk(3, -1)
        y = joined((q @ k.transpose(1, 2)).softmax(-1) @ v, side, y.shape)
        return x + y[..., shift : shift + h, shift : shift + w]

    def forward(self, x):
        h, w = x.shape[2:]
        x = padded(x, 4, "reflect")
        y = self.first(x)
        if self.rescaled:
            y = (y - y.mean((1, 2, 3), keepdim=True)) / y.std((1, 2, 3), keepdim=True)
        z = self.inside(self.inside(self.down(y), 0), self.side // 2)
        y = self.last(y + F.pixel_shuffle(self.up(z), 2))
        k, b = y.split((1, 3), 1)
        return (k * x - b + x)[..., :h, :w]


class Gated(nn.Module):
    """Mixes within blocks of 6, and across a grid of 6 × 6 blocks where `grid` (MAXIM)."""

    def __init__(self, grid: bool, width=4, side=6):
        super().__init__()
        self.side, self.grid = side, grid
        self.first, self.last = conv(3, width), conv(width, 3)
        self.mix, self.far = nn.Linear(side**2, side**2), nn.Linear(side**2, side**2)

    def forward(self, x):
        h, w = x.shape[2:]
        y = self.first(padded(x, self.side, "reflect"))
        n, c, rows, columns = y.shape
        inside = windows(y, self.side)
        gate = joined(self.mix(inside.transpose(1, 2)).transpose(1, 2), self.side, y.shape)
        if self.grid:
            a, b = rows // self.side, columns // self.side
            cells = y.view(n, c, self.side, a, self.side, b).permute(0, 1, 3, 5, 2, 4)
            mixed = self.far(cells.reshape(n, c, a, b, -1)).view(n, c, a, b, self.side, self.side)
            gate = gate + mixed.permute(0, 1, 4, 2, 5, 3).reshape(y.shape)
        return x + self.last(y * gate)[..., :h, :w]


class Unshuffled(nn.Module):
    """Works on quarters of the pixels, enlarged again by nearest neighbours (Real-ESRGAN)."""

    def __init__(self, width=6):
        super().__init__()
        self.first, self.near, self.last = conv(12, width), conv(width, width), conv(width, 3)

    def forward(self, x):
        h, w = x.shape[2:]
        y = F.leaky_relu(self.first(F.pixel_unshuffle(padded(x, 2, "reflect"), 2)), 0.2)
        y = self.near(F.interpolate(y, scale_factor=2, mode="nearest"))
        return x + self.last(F.leaky_relu(y, 0.2))[..., :h, :w]


class ConvNeXt(nn.Module):
    """Patches of 4, 7 × 7 by channel, LayerNorm over channels."""

    def __init__(self, width=6):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, width, 4, 4), nn.ConvTranspose2d(width, 3, 4, 4)
        self.depth, self.norm = conv(width, width, 7, groups=width), nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        h, w = x.shape[2:]
        y = self.first(padded(x, 4))
        z = self.narrow(F.gelu(self.wide(self.norm(self.depth(y).permute(0, 2, 3, 1)))))
        return x + self.last(y + z.permute(0, 3, 1, 2))[..., :h, :w]


class Spectral(nn.Module):
    """Real and imaginary parts of a Fourier transform, of all or of blocks of 8 (FFTformer)."""

    def __init__(self, block: int | None, width=4):
        super().__init__()
        self.block, self.first, self.last = block, conv(3, width), conv(width, 3)
        self.inside = conv(2 * width, 2 * width, 1)

    def changed(self, y):
        f = torch.fft.rfft2(y, norm="ortho")
        f = self.inside(torch.cat([f.real, f.imag], 1)).chunk(2, 1)
        return torch.fft.irfft2(torch.complex(*f), s=y.shape[-2:], norm="ortho")

    def forward(self, x):
        h, w = x.shape[2:]
        y, side = self.first(x), self.block
        if side is None:
            return x + self.last(self.changed(y).tanh())
        y = padded(y, side, "reflect")
        parts = windows(y, side)
        parts = parts.view(len(parts), side, side, -1).permute(0, 3, 1, 2)
        made = self.changed(parts).permute(0, 2, 3, 1).reshape(len(parts), side**2, -1)
        return x + self.last(joined(made, side, y.shape).tanh())[..., :h, :w]


class DarkChannel(nn.Module):
    """Minima of 15 × 15, refined by a guided filter, with a given airlight (or that of the image)."""

    def __init__(self, airlight: float | None, radius=12):
        super().__init__()
        self.airlight, self.radius = airlight, radius

    def mean(self, x):
        return F.avg_pool2d(x, 2 * self.radius + 1, 1, self.radius, count_include_pad=False)

    def forward(self, x):
        dark = -F.max_pool2d(-x.amin(1, keepdim=True), 15, 1, 7)
        a = self.airlight
        if a is None:
            at = dark.flatten(2).topk(max(1, dark[0, 0].numel() // 1000), 2).indices
            a = x.flatten(2).gather(2, at.expand(-1, 3, -1)).mean(2)[..., None, None]
        t, guide = 1 - 0.9 * dark, x.mean(1, keepdim=True)
        mean_guide, mean_t = self.mean(guide), self.mean(t)
        slope = (self.mean(guide * t) - mean_guide * mean_t) / (
            self.mean(guide**2) - mean_guide**2 + 1e-3
        )
        t = self.mean(slope) * guide + self.mean(mean_t - slope * mean_guide)
        return (x - a) / t.clamp(min=0.1) + a


class Squeezed(nn.Module):
    """A mean of all pixels at the deepest level only (SENet)."""

    def __init__(self, width=4):
        super().__init__()
        self.first, self.last = conv(3, width), conv(width, 3)
        self.down, self.up = nn.Conv2d(width, width, 8, 8), nn.ConvTranspose2d(width, width, 8, 8)
        self.gate = nn.Sequential(nn.Linear(width, 2), nn.ReLU(), nn.Linear(2, width), nn.Sigmoid())

    def forward(self, x):
        h, w = x.shape[2:]
        y = self.first(padded(x, 8, "reflect"))
        z = self.down(y)
        z = z * self.gate(z.mean((2, 3)))[..., None, None]
        return x + self.last(y + self.up(z))[..., :h, :w]


class Coordinates(nn.Module):
    """Two channels say where a pixel is (CoordConv)."""

    def __init__(self, width=6):
        super().__init__()
        self.first, self.last = conv(5, width), conv(width, 3)

    def forward(self, x):
        h, w = x.shape[2:]
        y, z = torch.linspace(-1, 1, h), torch.linspace(-1, 1, w)
        places = torch.stack(torch.meshgrid(y, z, indexing="ij"))[None].to(x)
        return x + self.last(F.relu(self.first(torch.cat([x, places], 1))))


class Sinusoids(nn.Module):
    """Sines of the position are added; with a `period`, they repeat."""

    def __init__(self, period: float, width=4):
        super().__init__()
        self.period, self.first, self.last = period, conv(3, width), conv(width, 3)

    def forward(self, x):
        y = self.first(x)
        at = [torch.arange(n, dtype=x.dtype) * 2 * math.pi / self.period for n in x.shape[2:]]
        return x + self.last(F.relu(y + at[0].sin()[:, None] + at[1].cos()))


class Deformed(nn.Module):
    """Pixels are taken from where offsets of up to `most` pixels lead (deformable convolution)."""

    def __init__(self, most=3.0, width=6):
        super().__init__()
        self.most, self.first, self.last = most, conv(3, width), conv(width, 3)
        self.offsets = conv(width, 2)

    def forward(self, x):
        h, w = x.shape[2:]
        y = F.relu(self.first(x))
        moved = self.most * self.offsets(y).tanh()
        rows, columns = torch.arange(h).to(x), torch.arange(w).to(x)
        grid = torch.stack([columns + moved[:, 0], rows[:, None] + moved[:, 1]], -1)
        grid = 2 * grid / torch.tensor([w - 1, h - 1]).to(x) - 1
        return x + self.last(F.grid_sample(y, grid, padding_mode="border", align_corners=True))


class PaddedBelow(nn.Module):
    """Patches of 16 are padded at the bottom only; at the right the last columns stay as they are."""

    def __init__(self, side=16, width=4):
        super().__init__()
        self.side = side
        self.patches = nn.Conv2d(3, width, side, side)
        self.back = nn.ConvTranspose2d(width, 3, side, side)

    def forward(self, x):
        h, w = x.shape[2:]
        y = F.pad(x, (0, 0, 0, -h % self.side))
        y = self.back(self.patches(y))
        return x + F.pad(y, (0, w - y.shape[3]))[..., :h, :]


class Strided(nn.Module):
    """A stride that is no power of two, and a crop at the end."""

    def __init__(self, stride=3, width=6):
        super().__init__()
        self.first = nn.Conv2d(3, width, 2 * stride - 1, stride, stride - 1)
        self.near, self.last = conv(width, width), nn.ConvTranspose2d(width, 3, stride, stride)

    def forward(self, x):
        y = self.last(F.relu(self.near(F.relu(self.first(x)))))
        return x + y[..., : x.shape[2], : x.shape[3]]


class CroppedAtTheEnd(nn.Module):
    """Reflected by 20 pixels at each side, which are cut off again (waifu2x)."""

    def __init__(self, width=6):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, width, 3), nn.LeakyReLU(0.1), nn.Conv2d(width, width, 3)),
            *(nn.LeakyReLU(0.1), nn.Conv2d(width, 3, 3)),
        )

    def forward(self, x):
        y = self.layers(F.pad(x, (20, 20, 20, 20), "reflect"))
        return x + y[..., 17:-17, 17:-17]


class Cascaded(nn.Module):
    """An image at half size steers one at full size, bilinear with aligned corners (MSCNN)."""

    def __init__(self, aligned: bool, width=4):
        super().__init__()
        self.aligned, self.far, self.near = aligned, conv(3, width, 5), conv(width + 3, 3)

    def forward(self, x):
        h, w = x.shape[2:]
        y = padded(x, 2, "replicate")
        far = F.relu(self.far(F.avg_pool2d(y, 2)))
        far = F.interpolate(far, size=y.shape[2:], mode="bilinear", align_corners=self.aligned)
        return x + self.near(torch.cat([x, far[..., :h, :w]], 1))


class BilinearGrid(nn.Module):
    """A grid of 16 × 16 cells over the image is sliced by brightness (HDRNet)."""

    def __init__(self, cells=16):
        super().__init__()
        self.cells, self.inside = cells, conv(3, 3, 1)

    def forward(self, x):
        small = self.inside(F.interpolate(x, size=(self.cells, self.cells), mode="bilinear"))
        return x * F.interpolate(small, size=x.shape[2:], mode="bilinear").sigmoid()


class Strips(nn.Module):
    """Attention along whole rows, then along whole columns (Stripformer)."""

    def __init__(self, width=4):
        super().__init__()
        self.first, self.last = conv(3, width), conv(width, 3)
        self.queries = nn.Linear(width, 3 * width)

    def forward(self, x):
        y = self.first(x).permute(0, 2, 3, 1)
        for _ in range(2):
            q, k, v = self.queries(y).chunk(3, -1)
            y = y + (q @ k.transpose(-1, -2)).softmax(-1) @ v
            y = y.transpose(1, 2)
        return x + self.last(y.permute(0, 3, 1, 2))


def group_normed(width=8):
    return nn.Sequential(conv(3, width), nn.GroupNorm(2, width), nn.ReLU(), conv(width, 3))


def in_training(layer):
    module = nn.Sequential(conv(3, 6), layer, nn.ReLU(True), conv(6, 3))
    return module.train()


def always_training(width=6):
    """Batch statistics also in evaluation mode."""
    norm = nn.BatchNorm2d(width, track_running_stats=False)
    return nn.Sequential(conv(3, width), norm, nn.ReLU(True), conv(width, 3))


def histogram(x):
    """Brightness is spread by its rank in the image (histogram equalisation)."""
    values = x.mean(1, keepdim=True)
    rank = (values.flatten(1)[:, :, None] > torch.linspace(0, 1, 64)).to(x).mean(1)
    at = (values * 63).long().clamp(0, 63)
    return x * (0.5 + rank[0][at])


def grey_world(x):
    return x * (x.mean() / x.mean((2, 3), keepdim=True))


def median_filtered(x):
    y = F.unfold(F.pad(x, (2, 2, 2, 2), "reflect"), 5).view(*x.shape[:2], 25, -1)
    return y.median(2).values.view_as(x)


def total_variation(x):
    """Steps of a descent: the reach is their number."""
    for _ in range(8):
        y = F.pad(x, (1, 1, 1, 1), "replicate")
        laplace = (
            y[..., 1:-1, 2:] + y[..., 1:-1, :-2] + y[..., 2:, 1:-1] + y[..., :-2, 1:-1] - 4 * x
        )
        x = x + 0.1 * laplace
    return x


def recursive(x):
    """A recursive filter along the rows, whose memory fades."""
    out, y = [], x[..., 0]
    for column in x.unbind(-1):
        y = 0.3 * y + 0.7 * column
        out.append(y)
    return torch.stack(out, -1)


TILED = {
    "aspp": lambda: ASPP(pooled=False),
    "dehazeformer-soft": lambda: SoftDehazeFormer(rescaled=False),
    "maxim-blocks": lambda: Gated(grid=False),
    "real-esrgan": Unshuffled,
    "convnext": ConvNeXt,
    "fft-of-blocks": lambda: Spectral(8),
    "dcp-given-airlight": lambda: DarkChannel(0.9),
    "deformed": Deformed,
    "stride-3": Strided,
    "stride-5": lambda: Strided(5),
    "waifu2x": CroppedAtTheEnd,
    "cascaded": lambda: Cascaded(aligned=False),
    "dropout": lambda: in_training(nn.Dropout2d(0.5)).eval(),
    "batch-norm-left-in-training": lambda: in_training(nn.BatchNorm2d(6)),
    "median": lambda: Scaled(median_filtered),
    "total-variation": lambda: Scaled(total_variation),
    "recursive": lambda: Scaled(recursive),
    "unet-5": lambda: UNet(2, 5),
    "padded-below": PaddedBelow,
}
WHOLE = {
    "hinet": HalfNorm,
    "aspp-pooled": lambda: ASPP(pooled=True),
    "dehazeformer-rescaled": lambda: SoftDehazeFormer(rescaled=True),
    "maxim-grid": lambda: Gated(grid=True),
    "fft": lambda: Spectral(None),
    "dcp": lambda: DarkChannel(None),
    "squeezed": Squeezed,
    "coordinates": Coordinates,
    "sinusoids": lambda: Sinusoids(1000.0),
    # In float32, sines of many periods round otherwise.
    "sinusoids-24": lambda: Sinusoids(24.0),
    "cascaded-aligned": lambda: Cascaded(aligned=True),
    "bilinear-grid": BilinearGrid,
    "strips": Strips,
    "group-norm": group_normed,
    "batch-statistics": always_training,
    "histogram": lambda: Scaled(histogram),
    "grey-world": lambda: Scaled(grey_world),
}
