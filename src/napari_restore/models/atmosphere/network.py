"""Network that estimates airlight, spectral exponent and transmission from a small picture, in two passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, relu_, softmax

from napari_restore.models._layers import Pointwise
from napari_restore.models._weights import other_network
from napari_restore.models.atmosphere.cells import (
    CELL,
    FEATURES,
    HIDDEN,
    Cells,
    coarser,
    halved,
    mean_of,
    pooled,
    total,
    widened,
)
from napari_restore.models.atmosphere.inversion import inverted, optical_depth

NUMBERS = 6
"""Red, green and blue of the airlight, exponent, presence, display share."""
FEW_CELLS = 64 * 64
"""Cells of a grid up to which it is computed on one thread. Of few cells some processors divide sums
among threads in place of cells (measured with AMX: 11 × 11), so that the last bits follow the threads."""


class PassOutput(NamedTuple):
    """Output of a pass, before its ranges are applied; outputs of several passes are added."""

    maps: Tensor
    """(N, 2, h, w) offset and slope of the optical depth's logit."""
    where: Tensor
    """(N, 1, h / 2, w / 2) logit of a cell's weight in the airlight."""
    numbers: Tensor
    """(N, NUMBERS)."""


class ResidualBlock(nn.Module):
    """x + relu(conv(x)), the cheapest residual block that trains well on a processor."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        change = relu_(self.conv(x))
        # A sum in place saves a tensor, but a gradient needs the one it overwrites.
        return x + change if change.requires_grad else change.add_(x)


class AtmospherePass(nn.Module):
    """U-Net on `inputs` features of cells; the cells of its maps are `1 << finest` wide.

    `widths` are channels of the grids from the finest to the coarsest, each half as fine as the one
    before; `numbers_in` is the number of further values about the whole picture.
    """

    def __init__(self, inputs: int, widths: list[int], finest: int, numbers_in: int) -> None:
        super().__init__()
        self.finest = finest
        self.stem = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.encoders = nn.ModuleList(_blocks(w) for w in widths)
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        deep, drawn = widths[-1], widths[finest:]
        self.token = nn.Sequential(
            nn.Linear(2 * deep + numbers_in, deep), nn.ReLU(), nn.Linear(deep, deep), nn.ReLU()
        )
        self.tell = nn.ModuleList(nn.Linear(deep, w) for w in drawn)
        self.ups = nn.ModuleList(Pointwise(b, 4 * a) for a, b in pairwise(drawn))
        self.decoders = nn.ModuleList(_blocks(w) for w in drawn[:-1])
        self.maps = nn.Conv2d(drawn[0], 2, 3, padding=1)
        self.look = Pointwise(drawn[1], 1)
        self.numbers = nn.Linear(deep, NUMBERS)

    def start(self, maps: list[float], numbers: list[float], strength: float = 0.1) -> None:
        """Initialise the biases so that the output begins at these values, whatever the input."""
        for last, values in ((self.maps, maps), (self.numbers, numbers), (self.look, [0.0])):
            with torch.no_grad():
                last.weight.mul_(strength)
            last.bias = nn.Parameter(torch.tensor(values))

    def forward(
        self, features: Tensor, share: Tensor, numbers_in: Tensor
    ) -> tuple[PassOutput, Tensor]:
        """Return the output, and the features of its maps: (N, widths[finest], h, w).

        `share` (N, 1, h, w) of each cell that is valid, `numbers_in` (N, …).
        """
        x = self.stem(features)
        features_by_level = []
        for level, encode in enumerate(self.encoders):
            with _undivided(x):
                if level:
                    x = self.downs[level - 1](x)
                x = encode(x)
            features_by_level.append(x)
        token = self._token(x, share, numbers_in)
        x = x + self.tell[-1](token)[:, :, None, None]
        finer = x
        for level in range(len(self.decoders) - 1, -1, -1):
            finer = x
            up = pixel_shuffle(self.ups[level](x), 2)
            x = (
                features_by_level[level + self.finest]
                + up
                + self.tell[level](token)[:, :, None, None]
            )
            with _undivided(x):
                x = self.decoders[level](x)
        output = PassOutput(
            self.maps(x).float(), self.look(finer).float(), self.numbers(token).float()
        )
        return output, x

    def _token(self, x: Tensor, share: Tensor, numbers_in: Tensor) -> Tensor:
        share = pooled(share, x.shape[2])
        weight = share / total(share)[:, :, None, None].clamp(min=1e-6)
        mean = total(x * weight)
        most = x.masked_fill(share == 0, -1e3).amax((2, 3))
        return torch.as_tensor(self.token(torch.cat([mean, most, numbers_in], 1)))


@contextmanager
def _undivided(x: Tensor) -> Iterator[None]:
    """Compute on one thread what follows from a small grid (N, C, h, w)."""
    # Its values must not depend on the number of threads, and more would not be quicker.
    threads = torch.get_num_threads()
    is_small = x.shape[2] * x.shape[3] <= FEW_CELLS and threads > 1
    if is_small:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if is_small:
            torch.set_num_threads(threads)


def _blocks(width: int) -> nn.Sequential:
    return nn.Sequential(ResidualBlock(width), ResidualBlock(width))


STRIDE = 8
"""Pixels per cell of the maps it estimates."""
GUIDED = 4.0
"""Largest slope of the transmission's logit over luminance."""
COLOURED = 0.02
"""Mean difference of the brightest and the darkest band from which a picture has colours."""
PICTURE_NUMBERS = 7
"""Numbers about a picture: mean colour, its standard deviation, the valid share."""
SECOND_PASS_FEATURES = 16
"""Features that a second pass adds: the picture after the first one."""


@dataclass(frozen=True)
class Estimate:
    """Estimate for N pictures in units of their own brightness."""

    offset: Tensor
    """(N, 1, gh, gw) logit of the haze at luminance 0.5, on cells of `STRIDE` pixels."""
    slope: Tensor
    """(N, 1, gh, gw) growth of that logit with a pixel's luminance."""
    presence: Tensor
    """(N,) factor 0 to 1 of the optical depth: exactly 0 in pictures without haze."""
    airlight: Tensor
    """(N, 3) red, green, blue."""
    exponent: Tensor
    """(N,) g of Ångström's law."""
    display: Tensor
    """(N,) 1 for haze that was made of display values, 0 for haze in linear light."""


Orientation = tuple[bool, tuple[int, ...]]
"""Whether rows and columns are exchanged, and the dimensions that are mirrored after it."""
ORIENTATIONS: tuple[Orientation, ...] = tuple(
    (exchanged, mirrored) for exchanged in (False, True) for mirrored in ((), (3,), (2,), (2, 3))
)
"""Those of a picture whose estimates are averaged, in this order: the first two leave the sky above."""


class AtmosphereNetwork(nn.Module):
    """Network with two passes (`looks`): on the picture, and on that with the result of the first."""

    # Errors show in the result: values below black where the haze was overestimated, remaining
    # haze, edges of a map that are no edges of the scene. The second pass adds a correction to the
    # first. Airlight is a weighted mean of the picture's own colours, shifted by the token, so that
    # no colour has to be memorised.
    def __init__(self, width: int = 24, looks: int = 2) -> None:
        super().__init__()
        if looks not in (1, 2):
            raise ValueError(f"looks is {looks}; it is 1 or 2")
        widths = [width, 2 * width, 10 * width // 3, 14 * width // 3, 16 * width // 3]
        self.first = AtmospherePass(FEATURES, widths, 1, PICTURE_NUMBERS)
        # Airlight is brighter than what it is mixed with; most pictures have haze.
        self.first.start([-1.5, 0.0], [0.3, 0.3, 0.3, 0.0, 2.0, 0.0])
        self.second: AtmospherePass | None = None
        if looks == 2:
            self.second = AtmospherePass(
                widths[1] + SECOND_PASS_FEATURES, widths[1:], 0, PICTURE_NUMBERS + NUMBERS + 7
            )
            self.second.start([0.0, 0.0], [0.0] * NUMBERS, 0.05)

    def forward(self, cells: Cells, shape: tuple[int, int]) -> Estimate:
        """Return the estimate for cells of pictures of `shape`, with mean luminance near 0.45."""
        mean, spread = _statistics(cells.colour, cells.share)
        numbers_in = torch.cat([mean, spread, cells.share.mean((2, 3))], 1)
        output, drawn = self.first(cells.features, cells.share, numbers_in)
        if self.second is not None:
            # In training no gradient goes back: the first pass is trained by the sum of both.
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.training):
                features, numbers_in = _without_haze(cells, output, numbers_in)
            more, _ = self.second(torch.cat([drawn, features], 1), cells.share, numbers_in)
            output = PassOutput(*(a + b for a, b in zip(output, more, strict=True)))
        return _within(_estimate_of(output, cells), shape)


def ensembled(
    network: AtmosphereNetwork, cells: Cells, shape: tuple[int, int], ensemble: int
) -> Estimate:
    """Return the mean of the estimates for `ensemble` orientations of a picture, each turned back.

    Lim et al., "Enhanced deep residual networks for single image super-resolution", CVPR workshops
    2017, section 3.4. With gradients one orientation is kept at a time and computed again.
    """
    if ensemble == 1:
        one: Estimate = network(cells, shape)
        return one
    if torch.is_grad_enabled():
        estimates = [
            _ComputedAgain.apply(network, o, *cells)  # type: ignore[no-untyped-call]
            for o in ORIENTATIONS[:ensemble]
        ]
    else:
        estimates = [_parts(_of_turned(network, cells, o)) for o in ORIENTATIONS[:ensemble]]
    mean = Estimate(*(torch.stack(part).mean(0) for part in zip(*estimates, strict=True)))
    return _within(mean, shape)


class _ComputedAgain(torch.autograd.Function):
    """`_of_turned` with gradients to the cells, not to weights, which keeps nothing but the cells."""

    # `torch.utils.checkpoint` does the same, and imports for a second when it is used.
    @staticmethod
    def forward(
        ctx: Any, network: AtmosphereNetwork, orientation: Orientation, *planes: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.network, ctx.orientation = network, orientation
        ctx.save_for_backward(*planes)
        return _parts(_of_turned(network, Cells(*planes), orientation))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        planes = [plane.detach().requires_grad_() for plane in ctx.saved_tensors]
        with torch.enable_grad():
            parts = _parts(_of_turned(ctx.network, Cells(*planes), ctx.orientation))
            # As one sum: with `grad_outputs` torch imports its compiler.
            products = [(p * g).sum() for p, g in zip(parts, gradients, strict=True)]
            found = torch.autograd.grad(torch.stack(products).sum(), planes, allow_unused=True)
        return None, None, *found


def _within(estimate: Estimate, shape: tuple[int, int]) -> Estimate:
    """Return an estimate without the cells that pad pictures of `shape`."""
    height, width = (-(-s // STRIDE) for s in shape)
    offset, slope = (maps[:, :, :height, :width] for maps in (estimate.offset, estimate.slope))
    return replace(estimate, offset=offset, slope=slope)


def _parts(estimate: Estimate) -> tuple[Tensor, ...]:
    return tuple(getattr(estimate, part.name) for part in fields(Estimate))


def _of_turned(network: AtmosphereNetwork, cells: Cells, orientation: Orientation) -> Estimate:
    """Return the estimate for turned cells on the grid of `cells`, their padding included."""
    turned = Cells(*(_turned(plane, orientation) for plane in cells))
    rows, columns = turned.share.shape[2:]
    seen: Estimate = network(turned, (rows * CELL, columns * CELL))
    offset, slope = (_turned(plane, orientation, back=True) for plane in (seen.offset, seen.slope))
    return replace(seen, offset=offset, slope=slope)


def _turned(plane: Tensor, orientation: Orientation, *, back: bool = False) -> Tensor:
    """Return planes (N, C, h, w) with rows and columns exchanged, then mirrored; or `back`."""
    exchanged, mirrored = orientation
    if back:
        plane = plane.flip(mirrored)
    if exchanged:
        plane = plane.transpose(2, 3)
    # Convolutions of a transposed memory layout round differently.
    return plane.contiguous() if back else plane.flip(mirrored).contiguous()


def _estimate_of(output: PassOutput, cells: Cells) -> Estimate:
    numbers = output.numbers
    airlight = _weighted_colour(output.where, cells) * torch.exp(0.7 * torch.tanh(numbers[:, :3]))
    grey = airlight.mean(1, keepdim=True)
    tint = _tint(cells)
    return Estimate(
        offset=output.maps[:, :1],
        slope=GUIDED * torch.tanh(output.maps[:, 1:]),
        presence=_clamped(1.2 * torch.sigmoid(numbers[:, 4]) - 0.1),
        airlight=grey + (airlight - grey) * tint[:, None],
        exponent=(1.6 * torch.sigmoid(numbers[:, 3]) - 0.1) * tint,
        display=torch.sigmoid(numbers[:, 5]),
    )


def _tint(cells: Cells) -> Tensor:
    """Return (N,) 1 for pictures with colours, 0 for grey ones: their haze is grey, too."""
    chroma = cells.colour.amax(1, keepdim=True) - cells.colour.amin(1, keepdim=True)
    return (mean_of(chroma, cells.share)[:, 0] / COLOURED).clamp(max=1)


def _without_haze(cells: Cells, output: PassOutput, numbers_in: Tensor) -> tuple[Tensor, Tensor]:
    """Return the picture without the estimated haze: features of cells, and numbers."""
    with torch.autocast(cells.share.device.type, enabled=False):
        estimate = _estimate_of(output, cells)
        share, colour, dark = (part.float() for part in halved(cells))
        has_valid = (share > 0).to(share.dtype)
        wide = {
            "brightness": share.new_ones(1, 1, 1, 1),
            "presence": estimate.presence[:, None, None, None],
            "exponent": estimate.exponent[:, None, None, None],
            "display": estimate.display[:, None, None, None],
        }
        airlight = estimate.airlight[:, :, None, None]
        depth = optical_depth(colour, estimate.offset, estimate.slope, wide)
        mean = inverted(colour, depth, airlight, wide, 0.0)[0].clamp(-1, 2)
        least = inverted(dark, depth, airlight, wide, 0.0)[0].clamp(-1, 2)
        darkest = torch.where(share > 0, least.amin(1, keepdim=True), HIDDEN)
        features = torch.cat(
            [
                mean - 0.3,
                least - 0.2,
                darkest.clamp(max=1.0),
                (-widened(-darkest, 1)).clamp(max=1.0),
                (-widened(-darkest, 3)).clamp(max=1.0),
                mean.amax(1, keepdim=True) - mean.amin(1, keepdim=True),
                torch.exp(-depth) - 0.6,
                airlight - colour,
                share - 1,
                depth - 0.5,
            ],
            1,
        )
        average, spread = _statistics(mean, share)
        mist = mean_of(depth, share)
        return features * has_valid, torch.cat(
            [numbers_in, output.numbers, average, spread, mist], 1
        )


def _statistics(colour: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Return (N, 3) mean and standard deviation of the cells' colours."""
    mean = mean_of(colour, share)
    square = mean_of((colour - mean[:, :, None, None]) ** 2, share)
    return mean, (square + 1e-8).sqrt()


def _clamped(x: Tensor) -> Tensor:
    """Clamp to 0 … 1, with gradients beyond: a presence of 0 can grow again."""
    return x + (x.clamp(0, 1) - x).detach()


def _weighted_colour(logits: Tensor, cells: Cells) -> Tensor:
    """Return (N, 3) mean colour of the cells weighted by `logits` (N, 1, h, w)."""
    factor = cells.share.shape[2] // logits.shape[2]
    share, colour = coarser(cells, factor)
    # A picture without a valid cell must not give NaN.
    logits = logits.masked_fill(share == 0, -1e4).flatten(2)
    return (softmax(logits, 2) * colour.flatten(2)).sum(2)


def sizes_of(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the sizes of the network of this state dict; raises `BadModel`."""
    stem = state.get("network.first.stem.weight")
    if stem is None or stem.ndim != 4 or stem.shape[1] != FEATURES:
        raise other_network("atmosphere")
    return {"width": stem.shape[0], "looks": 2 if "network.second.stem.weight" in state else 1}


CONTEXT = "atmosphere."
"""Prefix of the names of its tensors within another network."""


def sizes_of_context(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return ``context`` and ``looks`` of the atmosphere within a network, or {}; raises `BadModel`."""
    names = [name for name in state if name.startswith(CONTEXT)]
    if not names:
        return {}
    sizes = sizes_of({name.removeprefix(CONTEXT): state[name] for name in names})
    return {"context": sizes["width"], "looks": sizes["looks"]}
