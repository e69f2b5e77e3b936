"""The network written down once more, token by token in float64, from the formulas alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.models.andehazeformer.config import AnDehazeConfig

Array = npt.NDArray[np.float64]
Weights = Mapping[str, Array]


def norm(v: Array) -> Array:
    return v / math.sqrt(float(v @ v))


def layer_norm(v: Array) -> Array:
    return (v - v.mean()) / np.sqrt(v.var() + 1e-5)


def conv(x: Array, weight: Array, bias: Array) -> Array:
    """Correlate (C, h, w) with (D, C, k, k), zeros beyond the edges."""
    reach = weight.shape[2] // 2
    _, height, width = x.shape
    out = np.zeros((len(weight), height, width))
    for y in range(height):
        for column in range(width):
            total = bias.copy()
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    if 0 <= y + dy < height and 0 <= column + dx < width:
                        tap = weight[:, :, dy + reach, dx + reach]
                        total = total + tap @ x[:, y + dy, column + dx]
            out[:, y, column] = total
    return out


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def estimate(weights: Weights, picture: Array) -> dict[str, Any]:
    """D̂, A, c_a, r, b of a picture (3, h, w) that is valid everywhere."""

    def layer(x: Array, name: str) -> Array:
        return conv(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    dark = sigmoid(layer(np.maximum(layer(picture, "dark.0"), 0), "dark.2"))
    pixels = sorted(np.ndindex(dark.shape[1:]), key=lambda at: (-dark[0][at], at))
    count = math.ceil(0.001 * len(pixels))
    airlight = np.mean([picture[:, y, x] for y, x in pixels[:count]], axis=0)
    wide = layer(np.concatenate([picture, dark]), "wide")
    f = layer(np.where(wide > 0, wide, 0.01 * wide), "deep").mean((1, 2))
    known = np.concatenate([f, airlight])
    hidden = np.maximum(weights["hidden.weight"] @ known + weights["hidden.bias"], 0)
    out = weights["out.weight"] @ hidden + weights["out.bias"]
    width = (len(out) - 1) // 2
    return {
        "dark": dark,
        "airlight": airlight,
        "strength": sigmoid(out[-1]),
        "texture": out[:width],
        "tint": out[width : 2 * width],
    }


class Literal:
    """One image, all of it valid, its sides multiples of 16."""

    def __init__(self, weights: Weights, config: AnDehazeConfig, facts: Mapping[str, Any]) -> None:
        self.weights, self.config = weights, config
        self.r, self.b = facts["texture"], facts["tint"]
        self.normalised = config.normalised
        self.depth = config.width // config.heads

    # -- parts ---------------------------------------------------------------------

    def scale(self, name: str, start: float, stored: float) -> Array:
        """As nGPT stores it: the stored value begins at `stored`."""
        return (self.weights[f"{name}.shift"] + stored) * (start / stored)

    def adapted(self, h: Array, name: str) -> Array:
        changed = h * (1 + norm(self.r)) + self.weights[f"{name}.tau"] * norm(self.b)
        return norm(changed) if self.normalised else layer_norm(changed)

    def stepped(self, h: Array, change: Array, name: str) -> Array:
        if not self.normalised:
            return h + change
        alpha = np.abs(self.scale(f"{name}.alpha", 0.05, self.config.width**-0.5))
        return norm(h + alpha * (norm(change) - h))

    def mlp(self, x: Array, name: str) -> Array:
        both = self.weights[f"{name}.into.weight"] @ x
        if self.normalised:
            both = both * self.scale(f"{name}.scale", 1, 1) * math.sqrt(self.config.width)
        u, v = both[: self.config.hidden], both[self.config.hidden :]
        return self.weights[f"{name}.out.weight"] @ (u * v * sigmoid(v))

    def heads(self, x: Array) -> list[Array]:
        parts = list(x.reshape(self.config.heads, self.depth))
        return [norm(part) for part in parts] if self.normalised else parts

    def key_value(self, x: Array, name: str) -> tuple[list[Array], Array]:
        both = self.weights[f"{name}.key_value.weight"] @ x
        return self.heads(both[: self.config.width]), both[self.config.width :]

    def attend(
        self,
        x: Array,
        keys: list[list[Array]],
        values: list[Array],
        name: str,
        bias: list[Array] | None = None,
        mass: list[float] | None = None,
    ) -> Array:
        """Σ w e^s v / Σ w e^s in every head, then the output layer."""
        query = self.heads(self.weights[f"{name}.query.weight"] @ x)
        joined = []
        for head in range(self.config.heads):
            part = slice(head * self.depth, (head + 1) * self.depth)
            if self.normalised:
                factor = self.scale(f"{name}.s_qk", 1, self.config.width**-0.5)[part] ** 2
                factor = factor * math.sqrt(self.depth)
            else:
                factor = np.full(self.depth, 1 / math.sqrt(self.depth))
            top, bottom = np.zeros(self.depth), 0.0
            for j, (key, value) in enumerate(zip(keys, values, strict=True)):
                logit = float((factor * query[head]) @ key[head])
                logit += 0.0 if bias is None else float(bias[j][head])
                weight = math.exp(logit) * (1.0 if mass is None else mass[j])
                top, bottom = top + weight * value[part], bottom + weight
            joined.append(top / bottom)
        return self.weights[f"{name}.out.weight"] @ np.concatenate(joined)

    # -- layers --------------------------------------------------------------------

    def embed(self, planes: Array) -> Array:
        side = self.config.stride
        rows, columns = planes.shape[1] // side, planes.shape[2] // side
        out = np.zeros((rows, columns, self.config.width))
        for y in range(rows):
            for x in range(columns):
                patch = planes[:, side * y : side * y + side, side * x : side * x + side]
                p = np.concatenate([patch.ravel(), patch[:3].min((1, 2))])
                embedded = self.weights["embedding.patch.weight"] @ p
                lifted = np.concatenate([embedded, [3.0]])
                lifted = norm(lifted) if self.normalised else lifted
                h = self.weights["embedding.lift.weight"] @ lifted
                out[y, x] = norm(h) if self.normalised else h
        return out

    def window_block(self, h: Array, number: int) -> Array:
        name, side = f"windows.{number}", self.config.window
        shift = side // 2 if number % 2 else 0
        cells = list(np.ndindex(h.shape[:2]))
        read = {cell: self.adapted(h[cell], f"{name}.norm1") for cell in cells}
        made = {cell: self.key_value(read[cell], f"{name}.attention") for cell in cells}
        table = self.weights[f"{name}.attention.bias_table"]
        out = np.zeros_like(h)
        for y, x in cells:
            window = ((y + shift) // side, (x + shift) // side)
            others = [
                c for c in cells if ((c[0] + shift) // side, (c[1] + shift) // side) == window
            ]
            bias = [
                table[(y - v + side - 1) * (2 * side - 1) + x - u + side - 1] for v, u in others
            ]
            attended = self.attend(
                read[y, x],
                [made[c][0] for c in others],
                [made[c][1] for c in others],
                f"{name}.attention",
                bias,
            )
            out[y, x] = self.after(self.stepped(h[y, x], attended, f"{name}.step1"), name)
        return out

    def after(self, h: Array, name: str) -> Array:
        return self.stepped(
            h, self.mlp(self.adapted(h, f"{name}.norm2"), f"{name}.mlp"), f"{name}.step2"
        )

    def global_block(
        self, h: Array, number: int, ranks: Mapping[tuple[int, int], tuple[float, float]], keep: int
    ) -> Array:
        name = f"globals.{number}"
        candidates = {}
        for y, x in ranks:
            four = [h[2 * y + j, 2 * x + i] for j in (0, 1) for i in (0, 1)]
            pooled = np.mean([self.adapted(one, f"{name}.norm1") for one in four], axis=0)
            pooled = norm(pooled) if self.normalised else pooled
            candidates[y, x] = self.key_value(pooled, f"{name}.attention")
        kept, joins = choose(ranks, keep, lambda cell: np.concatenate(candidates[cell][0]))
        keys, values, mass = [], [], []
        for cell in kept:
            group = [cell, *(c for c, into in joins.items() if into == cell)]
            total = [
                sum(candidates[c][0][head] for c in group) for head in range(self.config.heads)
            ]
            keys.append([norm(t) if self.normalised else t / len(group) for t in total])
            values.append(np.mean([candidates[c][1] for c in group], axis=0))
            mass.append(float(len(group)))
        out = np.zeros_like(h)
        for cell in np.ndindex(h.shape[:2]):
            read = self.adapted(h[cell], f"{name}.norm1")
            attended = self.attend(read, keys, values, f"{name}.attention", mass=mass)
            out[cell] = self.after(self.stepped(h[cell], attended, f"{name}.step1"), name)
        return out

    def tokens(self, view: Array, rho: float, most: int) -> Array:
        """The last tokens of a view (7 …, H, W)."""
        h = self.embed(view[:7])
        ranks = ranks_of(view)
        keep = min(math.ceil(round(rho * len(ranks), 6)), most)
        for number in range(self.config.pairs):
            h = self.window_block(h, number)
            h = self.global_block(h, number, ranks, keep)
        return h

    def output(self, features: Array, name: str) -> Array:
        made = conv(features, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])
        return made / math.sqrt(len(features))

    def pixels(self, tokens: Array, view: Array) -> Array:
        """The restored pixels (3, H, W)."""
        x, t, air = view[:3], view[6:7], view[7:10]
        name, gain = "reconstruction", math.sqrt(self.config.width) if self.normalised else 1.0
        if not self.normalised:
            tokens = np.stack([[layer_norm(h) for h in row] for row in tokens])
        features = gain * tokens.transpose(2, 0, 1)
        known = self.output(features, f"{name}.coarse")
        for number in range(len(self.config.widths)):
            scale = f"{name}.scales.{number}"
            side = self.config.stride >> (number + 1)
            up = conv(
                features, self.weights[f"{scale}.up.weight"], self.weights[f"{scale}.up.bias"]
            )
            width, height, length = len(up) // 4, up.shape[1], up.shape[2]
            # Channel 4c + 2j + i becomes row 2y + j, column 2x + i of channel c.
            split = up.reshape(width, 2, 2, height, length).transpose(0, 3, 1, 4, 2)
            features = split.reshape(width, 2 * height, 2 * length)
            known = doubled(known)
            i, haze, a = (pooled(plane, side) for plane in (x, t, air))
            restored = i + known[:1] * (i - a) - known[1:]
            seen = np.concatenate([features, i, restored, haze])
            mixed = conv(
                seen, self.weights[f"{scale}.mix.weight"], self.weights[f"{scale}.mix.bias"]
            )
            features = features + np.maximum(mixed, 0)
            known = known + self.output(features, f"{scale}.change")
        return x + known[:1] * (x - air) - known[1:]


def pooled(plane: Array, side: int) -> Array:
    channels, height, width = plane.shape
    return plane.reshape(channels, height // side, side, width // side, side).mean((2, 4))


def doubled(plane: Array) -> Array:
    """Twice the size: 3/4 of the nearest value and 1/4 of the next along each axis."""
    for axis in (1, 2):
        moved = np.moveaxis(plane, axis, 0)
        before = np.concatenate([moved[:1], moved[:-1]])
        behind = np.concatenate([moved[1:], moved[-1:]])
        both = np.stack([0.75 * moved + 0.25 * before, 0.75 * moved + 0.25 * behind], 1)
        plane = np.moveaxis(both.reshape(-1, *moved.shape[1:]), 0, axis)
    return plane


def ranks_of(view: Array) -> dict[tuple[int, int], tuple[float, float]]:
    """Mean transmission and contrast of every 16 × 16 pixels, in float32."""
    found = {}
    for y in range(view.shape[1] // 16):
        for x in range(view.shape[2] // 16):
            cell = view[:, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16]
            found[y, x] = (
                float(np.float32(cell[6].mean())),
                float(np.float32(cell[:3].mean(0).std())),
            )
    return found


def choose(ranks: Mapping[tuple[int, int], tuple[float, float]], keep: int, key: Any) -> Any:
    """The kept cells, and the kept one that each other cell joins; haze first."""
    cells = sorted(ranks)
    levels = sorted(ranks[cell][0] for cell in cells)
    number = min(8, keep)
    edges = [levels[q * len(cells) // number] for q in range(1, number)]
    bins: dict[int, list[tuple[int, int]]] = {}
    for cell in cells:
        bins.setdefault(sum(ranks[cell][0] >= edge for edge in edges), []).append(cell)
    quota = shared_out({q: [ranks[c][0] for c in members] for q, members in bins.items()}, keep)
    kept = []
    for q, members in bins.items():
        seen: dict[tuple[float, float], int] = {}
        order = []
        for cell in members:
            copy = seen[ranks[cell]] = seen.get(ranks[cell], -1) + 1
            order.append((copy, -ranks[cell][1], cell))
        kept += [cell for _, _, cell in sorted(order)[: quota[q]]]
    kept.sort()
    joins = {}
    for members in bins.values():
        mine = [cell for cell in kept if cell in members]
        for cell in members:
            if cell not in mine:
                likeness = [norm(key(cell)) @ norm(key(one)) for one in mine]
                joins[cell] = mine[int(np.argmax(likeness))]
    return kept, joins


def shared_out(bins: Mapping[int, list[float]], keep: int, beta: float = 1.0) -> dict[int, int]:
    """Quotas by bin: proportional, none above its size, at least one, largest remainders."""
    share = {q: len(t) * (1 + beta * (1 - sum(t) / len(t))) for q, t in bins.items()}
    wanted: dict[int, float] = {}
    while True:
        rest = [q for q in bins if q not in wanted]
        left = keep - sum(wanted.values())
        level = left / sum(share[q] for q in rest) if rest else 0.0
        full = [q for q in rest if share[q] * level >= len(bins[q])]
        if not full:
            wanted |= {q: share[q] * level for q in rest}
            break
        wanted |= {q: float(len(bins[q])) for q in full}
    quota = {q: max(1, math.floor(wanted[q] + 1e-9)) for q in bins}
    while sum(quota.values()) != keep:
        step = 1 if sum(quota.values()) < keep else -1
        able = [q for q in sorted(bins) if (quota[q] < len(bins[q]) if step > 0 else quota[q] > 1)]
        best = max(able, key=lambda q: (step * (wanted[q] - quota[q]), -q))
        quota[best] += step
    return quota
