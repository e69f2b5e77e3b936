"""Attention of a plain module: its layers as an example tile shows them, and rows of a tile."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from napari_restore.errors import BadModel, did_you_mean
from napari_restore.models._attention import AttentionRow, AttentionSite, numbered
from napari_restore.models._attention_calls import AttentionCall, AttentionCalls
from napari_restore.models._attention_grid import CellGrid, Mark, Size, chosen_grid, possible_grids
from napari_restore.models._model import RestorationModel, Statistics

STEP = "tile"
"""Name of the one step of a model that takes a tile at once."""
UNIT, MOST_DOUBLINGS = 64, 2
"""An example tile is two of these high and three wide, if windows need it twice or four times that."""
MOST_GRIDS = 8
KEYS = ("heads", "stride", "window", "shift")
"""What may be declared of a call."""
DECLARE = 'Declare it: attention = {"attention.1": {"stride": 8, "window": 8, "shift": 4}}.'
Declared = Mapping[str, Mapping[str, int]]
_FAILURES = (RuntimeError, TypeError, ValueError, LookupError, AssertionError, AttributeError)


@dataclass(frozen=True)
class OwnAttention:
    """The calls of attention that a network makes in a tile, as far as they can be placed."""

    calls: int
    grids: Mapping[str, CellGrid]
    """By the name of the call, in their order."""
    proposed: frozenset[str]
    """Those whose shift is likely, but not certain."""
    refused: tuple[str, ...]
    """A sentence for each other call."""

    def sites(self) -> tuple[AttentionSite, ...]:
        """Return the calls that can be placed."""
        return tuple(self._site(name, grid) for name, grid in self.grids.items())

    def _site(self, name: str, grid: CellGrid) -> AttentionSite:
        parts = [name.replace(".", " ")]
        if grid.shift:
            parts.append("shifted")
        if name in self.proposed:
            parts.append("proposed")
        return AttentionSite(
            name,
            ", ".join(parts),
            "full" if grid.window is None else "window",
            STEP,
            grid.stride,
            numbered(grid.heads),
            grid.window,
            grid.shift,
        )

    def rows(
        self,
        model: RestorationModel,
        x: Tensor,
        statistics: Statistics | None,
        pixels: Sequence[tuple[int, int]],
        names: frozenset[str],
        size: Size,
    ) -> list[dict[str, AttentionRow]]:
        """Return the rows of each pixel (y, x) of the tile `x` (1, C, h, w) in the calls that are named.

        The network runs once, and some times more where its windows do not divide the tile. `size` is that of the tile as the network sees it, padded. Raises `BadModel` where the calls
        are others than in the example tile.
        """
        wanted = {_number(name): name for name in names}
        grids = self._grids_in(model, x, statistics, wanted, size)
        rows: list[dict[str, AttentionRow]] = [{} for _ in pixels]

        def visit(number: int, call: AttentionCall) -> None:
            if number in wanted:
                name = wanted[number]
                for found, pixel in zip(rows, pixels, strict=True):
                    found[name] = _row(model.card.id, name, grids[name], call, pixel, size)

        with AttentionCalls(visit) as calls:
            model(x, statistics)
        if calls.count != self.calls:
            raise BadModel(
                f"{model.card.id} calls attention {calls.count} times in a tile of {_text(size)} "
                f"pixels, but {self.calls} times in another: its layers cannot be named.",
                "Use a network that calls every layer once, whatever the size.",
            )
        return rows

    def _grids_in(
        self,
        model: RestorationModel,
        x: Tensor,
        statistics: Statistics | None,
        wanted: Mapping[int, str],
        size: Size,
    ) -> dict[str, CellGrid]:
        """Return the grids of the calls `wanted` in this tile; raises `BadModel`.

        Where windows do not divide it, marks at its edges show how the network grows the map.
        """
        grids = {name: self.grids[name] for name in wanted.values()}
        grown = {
            number: {grids[name].heads}
            for number, name in wanted.items()
            if grids[name].is_grown(size)
        }
        if not grown:
            return grids
        marks = marks_of(lambda x: model(x, statistics), x, grown, edge_pixels(size_of(x)))
        for number in grown:
            name = wanted[number]
            grid = grids[name]
            seen = marks[number][grid.heads]
            orders = grid.orders(size) if grid.shift else [grid]
            found = [(each, each.shift_of(seen, size)) for each in orders]
            fitting = [
                (each, shift) for each, shift in found if shift and shift.cells == grid.shift
            ]
            sure = [each for each, shift in fitting if shift.is_sure]
            if not sure and len(fitting) != 1:
                side = grid.stride * (grid.window or 1)
                raise BadModel(
                    f"{name} of {model.card.id} cannot be placed in a tile of {_text(size)} pixels, "
                    f"which its {'windows' if grid.window else 'cells'} of {side} pixels do not "
                    "divide.",
                    f"Give it a card with multiple_of {side}.",
                )
            grids[name] = sure[0] if sure else fitting[0][0]
        return grids


def find_attention(model: RestorationModel, declared: Declared) -> OwnAttention:
    """Return the calls of attention of `model`, with what is `declared` of them by name.

    An example tile shows them. Where it is too small for windows to differ from the whole, so does a
    larger one. Raises `BadModel` where there are calls of which none can be placed, or for a
    declaration that is wrong.
    """
    _check(declared, model.card.id)
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        for doublings in range(1 + MOST_DOUBLINGS):
            x = _example(model, UNIT << doublings)
            try:
                listing = _Listing(model, x, declared)
                found = listing.placed()
            except _FAILURES as error:
                first = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise BadModel(
                    f"Model {model.card.id} fails on an image of {_text(size_of(x))} pixels: "
                    f"{first}",
                    "Check its card: bands, min_size and multiple_of.",
                ) from error
            if not listing.is_too_small(found, doublings):
                break
    for name in declared:
        if name not in found.grids:
            raise BadModel(
                f"{name} of {model.card.id} is not as declared: "
                + listing.reasons.get(name, f"attention is called {found.calls} times."),
                DECLARE,
            )
    if found.refused and not found.grids:
        raise BadModel(
            f"No layer of attention of {model.card.id} can be placed in the image: {found.refused[0]}",
            f"If its tokens are cells of the image, {DECLARE[:1].lower()}{DECLARE[1:]}",
        )
    return found


def _example(model: RestorationModel, least: int) -> Tensor:
    """Return noise (1, C, 2 n, 3 n) in [0.1, 0.9] on the model's device, n at least `least`."""
    card = model.card
    bands = (card.bands or len(card.roles) or 3) * max(1, card.inputs)
    unit = -(-max(least, -(-card.min_size // 2)) // card.multiple_of) * card.multiple_of
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 + 0.8 * torch.rand(1, bands, 2 * unit, 3 * unit, generator=generator)
    weight = next(iter((*model.parameters(), *model.buffers())), noise)
    return noise.to(weight.device)


class _Listing:
    """Calls of attention in one example tile `x` (1, C, H, W)."""

    def __init__(self, model: RestorationModel, x: Tensor, declared: Declared) -> None:
        self.reasons: dict[str, str] = {}
        """Why a call cannot be placed, by its name."""
        self._run, self._x, self._declared = model, x, declared
        self._size = size_of(x)
        self._possible: dict[int, list[CellGrid]] = {}

    def placed(self) -> OwnAttention:
        """Return the calls, those placed whose grid is declared, or is confirmed by marks."""
        with AttentionCalls(self._list) as calls:
            self._run(self._x)
        doubtful = {
            number: {grid.heads for grid in grids}
            for number, grids in self._possible.items()
            if not self._is_known(number)
        }
        marks = marks_of(self._run, self._x, doubtful) if doubtful else {}
        grids: dict[str, CellGrid] = {}
        proposed = set()
        for number in sorted(self._possible):
            chosen = self._chosen(number, marks.get(number, {}))
            if chosen is None:
                self.reasons[_name(number)] = (
                    "its tokens are not the cells of a map or of its windows, row by row."
                )
                continue
            grids[_name(number)], is_sure = chosen
            if not is_sure:
                proposed.add(_name(number))
        names = sorted(self.reasons, key=_number)
        refused = tuple(f"{name} is not shown: {self.reasons[name]}" for name in names)
        return OwnAttention(calls.count, grids, frozenset(proposed), refused)

    def is_too_small(self, found: OwnAttention, doublings: int) -> bool:
        """Return whether a larger tile may show more: windows beside each other, where there are none."""
        if not self._declared.keys().isdisjoint(self.reasons):
            return True
        whole = [grid for grid in found.grids.values() if grid.window is None]
        lone = [grid for grid in found.grids.values() if grid.window is not None]
        return any(1 in grid.windows_of(self._size) for grid in lone) or bool(
            # A window that is shrunk to a small map looks like all of it.
            whole and not doublings
        )

    def _list(self, number: int, call: AttentionCall) -> None:
        values = self._declared.get(_name(number), {})
        grids = list(islice(possible_grids(call, self._size, values), MOST_GRIDS))
        if call.obstacle or not grids:
            self.reasons[_name(number)] = f"{call.obstacle or _reason(call, self._size)}."
        else:
            self._possible[number] = grids

    def _is_known(self, number: int) -> bool:
        """Return whether so much of a call is declared that nothing is left to see."""
        values = self._declared.get(_name(number), {})
        is_whole = all(grid.window is None for grid in self._possible[number])
        return "stride" in values and (is_whole or {"window", "shift"} <= values.keys())

    def _chosen(
        self, number: int, marks: Mapping[int, Sequence[Mark]]
    ) -> tuple[CellGrid, bool] | None:
        """Return the grid of a call, and whether it is certain; None where none is confirmed."""
        values, grids = self._declared.get(_name(number), {}), self._possible[number]
        if not marks:
            return grids[0], True
        chosen = chosen_grid(grids, marks, self._size, is_shift_known="shift" in values)
        return (grids[0], False) if chosen is None and values else chosen


def size_of(x: Tensor) -> Size:
    """Return height and width of a tile (1, C, H, W)."""
    return x.shape[2], x.shape[3]


def _reason(call: AttentionCall, size: Size) -> str:
    """Return why the tokens of a call cannot be cells of a tile."""
    if call.queries != call.keys:
        return f"{call.queries} queries have {call.keys} keys, which are other places"
    return (
        f"its {call.queries} tokens in each of {call.sets} sets do not make up a map of a tile of "
        f"{_text(size)} pixels, as with a class token or attention between channels"
    )


def _row(
    model: str, name: str, grid: CellGrid, call: AttentionCall, pixel: tuple[int, int], size: Size
) -> AttentionRow:
    """Return the row of a pixel in one call; raises `BadModel` where the grid does not fit."""
    lone = grid.window is not None and grid.shift and 1 in grid.windows_of(size)
    if lone or not grid.fits(call, size):
        raise BadModel(
            f"{name} of {model} is another in a tile of {_text(size)} pixels: "
            + ("it is one window across." if lone else f"{call.sets} × {call.queries} tokens."),
            "Take a larger image, or leave this layer out.",
        )
    cell = pixel[0] // grid.stride, pixel[1] // grid.stride
    item, token = grid.place(cell, size)
    cells = grid.cells(item, size).to(call.sources[0].device)
    weights, places, beyond = [], [], []
    for head in range(grid.heads):
        row = call.row(item * grid.heads + head, token)
        # Cells that the network adds to fill its windows are no places of the image.
        added = cells[:, 0] < 0
        empty = added | row.excluded
        beyond.append(row.weights[added].sum())
        weights.append(row.weights.masked_fill(empty, 0))
        places.append(cells.masked_fill(empty[:, None], -1))
    numbers = {} if grid.window is None else {"beyond": torch.stack(beyond)}
    return AttentionRow(torch.stack(weights), torch.stack(places), cell, numbers)


def _check(declared: Mapping[str, Any], model: str) -> None:
    """Raise `BadModel` for a declaration of other names or values."""
    for name, values in declared.items():
        kind, _, number = str(name).partition(".")
        if kind != "attention" or not number.isdecimal() or int(number) < 1:
            raise BadModel(f"{model} declares {name!r}, which is no layer.", DECLARE)
        if not isinstance(values, Mapping):
            raise BadModel(f"{model} declares {values!r} for {name}.", DECLARE)
        for key, value in values.items():
            if key not in KEYS:
                hint = did_you_mean(str(key), KEYS, "It has")
                raise BadModel(f"{model} declares {key!r} of {name}.", hint)
            least = 0 if key == "shift" else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise BadModel(
                    f"{model} declares {key} {value!r} of {name}.", f"Give {least} or more."
                )


def _name(number: int) -> str:
    return f"attention.{number}"


def _number(name: str) -> int:
    return int(name.partition(".")[2])


def _text(size: Size) -> str:
    return f"{size[1]} × {size[0]}"


PLACES = ((0.0, 0.4), (0.2, 0.7), (0.3, 0.1), (0.6, 0.5), (0.7, 0.9), (0.9, 0.2))
"""Places of the marks in the example tile, of its height and width."""
BLOCK, WITHIN = 64, (21, 42)
"""Marked pixels of each block of 64: near the middle of cells of 2, 4, 8 … pixels."""
CHANGE = 0.5
CHANNELS = 8
"""Random sums of a token's channels that are compared: tokens themselves would fill the memory."""
Heads = Mapping[int, list[Mark]]
"""Marks of queries and keys, for each number of heads that a call's sets may be divided into."""


def marks_of(
    run: Callable[[Tensor], object],
    x: Tensor,
    heads: Mapping[int, Collection[int]],
    pixels: Sequence[tuple[int, int]] | None = None,
) -> dict[int, Heads]:
    """Return the marks of the calls that `heads` numbers, with the heads that each may have.

    `run` is called with `x` (1, C, H, W), then with it changed in one of the `pixels` (default:
    `marked_pixels`) after the other. A change that no token sees leaves no mark.
    """
    before: dict[int, tuple[Tensor, Tensor]] = {}
    found: dict[int, dict[int, list[Mark]]] = {
        number: {count: [] for count in counts} for number, counts in heads.items()
    }

    def keep(number: int, call: AttentionCall) -> None:
        if number in heads:
            before[number] = _sketches(call)

    with AttentionCalls(keep):
        run(x)
    for pixel in pixels or marked_pixels((x.shape[2], x.shape[3])):

        def compare(number: int, call: AttentionCall, pixel: tuple[int, int] = pixel) -> None:
            if number not in heads:
                return
            for old, new in zip(before[number], _sketches(call), strict=True):
                changes = (new - old).square_().sum(-1)
                for count, marks in found[number].items():
                    marks += _largest(changes, call, count, pixel)

        changed = x.clone()
        changed[..., pixel[0], pixel[1]] += CHANGE
        with AttentionCalls(compare):
            run(changed)
    return {number: dict(marks) for number, marks in found.items()}


def marked_pixels(size: Size) -> list[tuple[int, int]]:
    """Return the pixels (y, x) that are changed, one after the other, in a tile of this size."""
    pixels = []
    for number, place in enumerate(PLACES):
        y, x = (
            int(share * length) // BLOCK * BLOCK + WITHIN[(number + axis) % 2]
            for axis, (share, length) in enumerate(zip(place, size, strict=True))
        )
        pixels.append((min(y, size[0] - 1), min(x, size[1] - 1)))
    return pixels


def edge_pixels(size: Size) -> list[tuple[int, int]]:
    """Return pixels (y, x) at the edges of a tile, where windows are that it does not fill, and one within."""
    height, width = size
    down, along = height // 2, width // 2
    return [
        *((0, 0), (0, along), (down, 0), (1, width - 1), (height - 1, 1)),
        *((height - 1, width - 1), (height - 1, along), (down, width - 1), (down, along)),
    ]


def _sketches(call: AttentionCall) -> tuple[Tensor, Tensor]:
    """Return a few numbers of every token, (…, tokens, CHANNELS), of queries and of keys."""
    sketches = []
    for source in call.sources:
        generator = torch.Generator().manual_seed(0)
        mixing = torch.randn(source.shape[-1], CHANNELS, generator=generator)
        sketches.append(source.float() @ mixing.to(source.device))
    return sketches[0], sketches[1]


def _largest(
    changes: Tensor, call: AttentionCall, heads: int, pixel: tuple[int, int]
) -> list[Mark]:
    """Return the mark of the largest of `changes` (…, tokens); none where nothing changed."""
    if not changes.isfinite().all() or not changes.max() > 0:
        return []
    if changes.shape[-2] != call.lead[-1]:
        # Heads that share their keys, or their tokens.
        changes = changes.repeat_interleave(call.lead[-1] // changes.shape[-2], -2)
    per_item = changes.reshape(call.sets // heads, heads, changes.shape[-1]).sum(1)
    item, token = divmod(int(per_item.argmax()), changes.shape[-1])
    return [Mark(pixel, item, token)]
