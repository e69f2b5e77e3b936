"""IPL written down once more, axis by axis and block by block, without the network's shortcuts."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

State = Mapping[str, Tensor]
BLOCK = 64


def ipl(state: State, x: Tensor, *, reading: str = "R3", turns: str = "roll", last: str = "gelu"):
    """Return y (1, 3, H, W) of x (1, 9, H, W) by the weights of a network with shared attention."""
    height, width = x.shape[2:]
    if state["down.weight"].shape[1] == 15:
        x = torch.cat((x, brought_to_the_middle(x)), 1)
    x = functional.pad(x, (0, -width % 4, 0, -height % 4), mode="reflect")
    wide = functional.conv2d(x, state["down.weight"], state["down.bias"], padding=1)
    first = functional.pixel_unshuffle(wide, 4)
    current, side = first, first.shape[1]
    block = 0
    while f"cubes.{block}.first.weight" in state:
        d = sum(attended(state, axis, current, reading) for axis in ("channel", "width", "height"))
        cube = related(state, f"cubes.{block}", resized(d, side, side), turns, last)
        current = d + d * resized(cube, *d.shape[2:])
        block += 1
    layer = "up" if "up.weight" in state else "mix.0"
    matrix, bias = (state[f"{layer}.{name}"] for name in ("weight", "bias"))
    made = functional.conv2d(first + current, matrix, bias, padding=1)
    if layer == "up":
        y = (1 + functional.pixel_shuffle(made, 4)) * x[:, 3:6]
    else:
        matrix, bias = (state[f"mix.2.{name}"] for name in ("weight", "bias"))
        made = functional.conv2d(functional.gelu(made), matrix, bias)
        gates = functional.interpolate(
            functional.pixel_shuffle(made, 2), size=x.shape[2:], mode="bilinear"
        )
        count = x.shape[1] // 3
        y = x[:, 3:6] + gates[:, 3 * count : 3 * count + 3]
        for frame in range(count):
            planes = slice(3 * frame, 3 * frame + 3)
            y = y + gates[:, planes] * x[:, planes]
        if "detail.0.weight" in state:
            change = torch.cat((y, x, gates[:, 3 * count + 3 :]), 1)
            for number in (0, 2, 4):
                change = functional.gelu(change) if number else change
                matrix, bias = (state[f"detail.{number}.{name}"] for name in ("weight", "bias"))
                change = functional.conv2d(change, matrix, bias, padding=1)
            y = y + change
        y = y.clamp(min=1e-4) ** 0.7
    return y[..., :height, :width]


def brought_to_the_middle(x: Tensor) -> Tensor:
    """X1 and X3 by the median of X2 for each of 64 steps of their values."""
    planes = []
    for first in (0, 6):
        for colour in range(3):
            values, middle = (
                x[0, plane, ::4, ::4].double().ravel().tolist()
                for plane in (first + colour, 3 + colour)
            )
            found: dict[int, list[float]] = {}
            for value, other in zip(values, middle, strict=True):
                found.setdefault(min(int(value * 64), 63), []).append(min(int(other * 128), 127))
            known = {row: median(steps) for row, steps in found.items() if len(steps) >= 8}
            curve = []
            for row in range(64):
                nearest = [r for r in sorted(known) if r <= row][-1:] or sorted(known)[:1]
                curve.append(max([*curve[-1:], known[nearest[0]]]))
            table = torch.tensor(curve, dtype=torch.float32).to(x)
            place = (x[0, first + colour] * 64 - 0.5).clamp(0, 63)
            low = place.long().clamp(max=62)
            planes.append(table[low] + (place - low) * (table[low + 1] - table[low]))
    return torch.stack(planes)[None]


def median(steps: list[int]) -> float:
    """The middle of values of which only their steps of 1/128 are known, evenly spread in each."""
    below = 0
    for step in sorted(set(steps)):
        own = steps.count(step)
        if below + own >= len(steps) / 2:
            return (step + (len(steps) / 2 - below) / own) / 128
        below += own
    raise AssertionError


def attended(state: State, axis: str, x: Tensor, reading: str) -> Tensor:
    """The slice attention along an axis, slice by slice."""
    dim = {"channel": 1, "height": 2, "width": 3}[axis]
    x = x.movedim(dim, 1)
    length = x.shape[1] if axis == "channel" else BLOCK
    out = []
    for begin in range(0, x.shape[1], length):
        part = x[:, begin : begin + length]
        lacking = length - part.shape[1]
        padded = torch.cat([part, part.new_zeros(1, lacking, *part.shape[2:])], 1)
        mean = padded.mean((2, 3), keepdim=True)
        weights = mean if reading == "R1" else padded
        for layer, act in (("reduce", torch.relu), ("expand", shifted_sigmoid)):
            matrix, bias = (state[f"attention.0.{axis}.{layer}.{n}"] for n in ("weight", "bias"))
            weights = act(functional.conv2d(weights, matrix[..., None, None], bias))
        found = (mean if reading == "R2" else padded) * weights
        out.append(found[:, : length - lacking])
    return torch.cat(out, 1).movedim(1, dim)


def shifted_sigmoid(x: Tensor) -> Tensor:
    return torch.sigmoid(x - math.log(2))


def related(state: State, part: str, cube: Tensor, turns: str, last: str) -> Tensor:
    """The three layers by the names of the axes they act on."""
    axes = {"roll": "chw", "mixnet": "cch"}[turns]
    for layer, axis in zip(("first", "second", "third"), axes, strict=True):
        matrix = state[f"{part}.{layer}.weight"][..., 0, 0]
        cube = torch.einsum(f"k{axis},nchw->n{'chw'.replace(axis, 'k')}", matrix, cube)
        is_sigmoid = layer == "third" and last == "sigmoid"
        cube = cube.sigmoid() if is_sigmoid else functional.gelu(cube)
    return cube


def resized(x: Tensor, height: int, width: int) -> Tensor:
    return functional.interpolate(x, size=(height, width), mode="bilinear", align_corners=True)
