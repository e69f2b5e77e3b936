"""Attention of a plain module: its layers as an example tile shows them, and rows of a tile."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.special import entr

from napari_restore.errors import BadModel
from napari_restore.models._attention import AttentionKind, AttentionRow, AttentionSite, numbered
from napari_restore.models._attention_calls import AttentionCall, AttentionCalls
from napari_restore.models._model import RestorationModel, example_image
from napari_restore.models._positions import row_and_column, stride_of
from napari_restore.models._undisturbed import undisturbed
from napari_restore.models._weights import first_line

STEP = "tile"
"""Name of the one step of a model that takes a tile at once."""
UNIT, MOST_DOUBLINGS = 64, 2
"""An example tile is two of these high and three wide, if windows need it twice or four times that."""
LEAST_WINDOW = 2
"""Cells along a side of windows, at least."""
SHARES = 1e-4
"""Weights whose sum differs from 1 by less are shares; those of ASTv2 are none."""
_FAILURES = (RuntimeError, TypeError, ValueError, LookupError, AssertionError, AttributeError)
Size = tuple[int, int]
"""Height and width of a (padded) tile in pixels."""
Run = Callable[[Tensor], Any]
RowsOfPixels = Callable[[tuple[int, int]], AttentionRow]
"""Returns the row of the cell of a pixel (y, x) of a tile."""
T = TypeVar("T")


@dataclass(frozen=True)
class OwnAttention:
    """The calls of attention that a network makes in a tile, as far as their tokens lie in the image."""

    calls: int
    sites: tuple[AttentionSite, ...]
    """Named ``attention.1``, ``attention.2`` … in the order of the calls."""
    refused: tuple[str, ...] = ()
    """A sentence for each other call."""

    def rows(
        self,
        model: str,
        run: Run,
        x: Tensor,
        pixels: Sequence[tuple[int, int]],
        names: frozenset[str],
        operation: Callable[[], int] | None = None,
    ) -> list[dict[str, AttentionRow]]:
        """Return the rows of each pixel (y, x) of the tile `x` (1, C, h, w) in the sites that are named.

        `run` is called once, with `x`, which the network `model` need not grow. Where it computes calls
        more than once or in another order, `operation` gives the number of that which calls attention,
        in the network's order. Raises `BadModel` where the calls are others than in the example tile.
        """
        found = self._asked(
            model, run, x, names, lambda layer: [layer.row(pixel) for pixel in pixels], operation
        )
        return [{name: rows[at] for name, rows in found.items()} for at in range(len(pixels))]

    def times_gradient(
        self, model: str, run: Run, x: Tensor, pixel: tuple[int, int], names: frozenset[str]
    ) -> dict[str, RowsOfPixels]:
        """Return for each named site what gives the rows of a pixel: weights times gradient, if positive.

        The gradient is that of the mean over bands of the result of `run` at `pixel`, by the weights. Number
        ``importance``, of each head: the sum of weights times gradient over all of the tile, by which the
        result would change without the head, to first order. Raises as `rows`.
        """
        results: list[Tensor] = []
        with torch.inference_mode(False), torch.enable_grad():
            layers = self._asked(
                model,
                lambda view: results.append(run(view)),
                # A copy: what was made without gradients cannot have any.
                x.clone().requires_grad_(),
                names,
                lambda layer: layer,
                gradients=True,
            )
            calls = [layer.call for layer in layers.values()]
            factors = [
                call.factor for call in calls if call is not None and call.factor is not None
            ]
            sizes = zip(pixel, results[0].shape[2:], size_of(x), strict=True)
            y, at = (place * size // own for place, size, own in sizes)
            result = results[0][0, :, y, at].mean()
            gradients = torch.autograd.grad(result, factors, materialize_grads=True)
        return {
            name: layer.times(gradient).row
            for (name, layer), gradient in zip(layers.items(), gradients, strict=True)
        }

    @contextmanager
    def without(self, heads: Iterable[tuple[str, int]], x: Tensor) -> Iterator[None]:
        """Within ``with`` what some heads, by site and number, put out in the tile `x` is 0; raises `BadModel`."""
        # Gradients would not know of it.
        if torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
            raise BadModel(
                "A network without a head has no gradients.", "Ask for those of the whole network."
            )
        by_call: dict[int, list[int]] = {}
        for name, head in heads:
            by_call.setdefault(_number(name), []).append(head)

        def visit(number: int, call: AttentionCall) -> None:
            if number in by_call:
                layer = _Layer.of(call, size_of(x))
                call.leave_out(torch.isin(layer.head_of_sets, torch.tensor(by_call[number])))

        with AttentionCalls(visit, x):
            yield

    def _asked(
        self,
        model: str,
        run: Run,
        x: Tensor,
        names: frozenset[str],
        take: Callable[[_Layer], T],
        operation: Callable[[], int] | None = None,
        *,
        gradients: bool = False,
    ) -> dict[str, T]:
        """Return what `take` gives of the layer of each site that is named, in a run of the tile `x`."""
        wanted = {_number(name): name for name in names}
        found: dict[int, _Layer | BadModel | None] = {}
        taken: dict[int, T] = {}

        def visit(number: int, call: AttentionCall) -> None:
            key = operation() if operation else number
            if key in found:
                return
            found[key] = None
            if operation or number in wanted:
                try:
                    layer = _Layer.of(call, size_of(x))
                    taken[key] = take(layer)
                    # Without its tensors.
                    found[key] = replace(layer, call=None)
                except BadModel as error:
                    found[key] = error

        with AttentionCalls(visit, x, gradients=gradients):
            run(x)
        tile = f"a tile of {_text(size_of(x))} pixels"
        if len(found) != self.calls:
            raise BadModel(
                f"{model} calls attention {len(found)} times in {tile}, but {self.calls} times in "
                "another: its layers cannot be named.",
                "Use a network that calls every layer once, whatever the size.",
            )
        order = sorted(found)
        named: dict[str, T] = {}
        for site in self.sites:
            if site.name not in names:
                continue
            key = order[_number(site.name) - 1]
            layer = found[key]
            if not isinstance(layer, _Layer) or not layer.is_like(site):
                why = (
                    layer.message if isinstance(layer, BadModel) else "it has other cells or heads."
                )
                raise BadModel(
                    f"{site.name} of {model} is another in {tile}: {why}",
                    "Take a larger image, or leave this layer out.",
                )
            named[site.name] = taken[key]
        return named


def find_attention(model: RestorationModel) -> OwnAttention:
    """Return the calls of attention that an example tile shows; raises `BadModel` where none has its tokens."""
    with torch.inference_mode(), undisturbed(model.weighted):
        # Where it is too small for windows to differ from the whole, a larger one does.
        for doublings in range(1 + MOST_DOUBLINGS):
            x = _example(model, UNIT << doublings)
            try:
                listing = _Listing(x)
                found = listing.of(model)
            except _FAILURES as error:
                raise BadModel(
                    f"Model {model.card.id} fails on an image of {_text(size_of(x))} pixels: "
                    f"{first_line(error)}.",
                    "Check its card: bands, min_size and multiple_of.",
                ) from error
            if not listing.may_be_too_small(doublings):
                break
    if found.refused and not found.sites:
        raise BadModel(
            f"No layer of attention of {model.card.id} can be placed in the image: {found.refused[0]}",
            "Attention between the cells of the image, of its windows or between channels is shown.",
        )
    return found


def _example(model: RestorationModel, least: int) -> Tensor:
    """Return `example_image` of (1, C, 2 n, 3 n), n at least `least`."""
    card = model.card
    unit = -(-max(least, -(-card.min_size // 2)) // card.multiple_of) * card.multiple_of
    return example_image(model, 2 * unit, 3 * unit)


@dataclass
class _Listing:
    """Calls of attention in one example tile `x` (1, C, H, W)."""

    x: Tensor
    sites: list[AttentionSite] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    _windows: list[int] = field(default_factory=list)
    """Windows along the shorter side of each layer that has some."""

    def of(self, run: Run) -> OwnAttention:
        with AttentionCalls(self._list, self.x) as calls:
            run(self.x)
        return OwnAttention(calls.count, tuple(self.sites), tuple(self.refused))

    def may_be_too_small(self, doublings: int) -> bool:
        """Return whether a larger tile may show more: windows beside each other, where there are none."""
        # A window that is shrunk to a small map looks like all of it.
        is_whole = any(site.kind == "full" for site in self.sites) and not doublings
        return is_whole or any(count < 2 for count in self._windows)

    def _list(self, number: int, call: AttentionCall) -> None:
        name = f"attention.{number}"
        size = size_of(self.x)
        try:
            site = _Layer.of(call, size).described(name)
        except BadModel as error:
            self.refused.append(f"{name} is not shown: {error.message}")
            return
        self.sites.append(site)
        if site.window:
            self._windows.append(min(size) // (site.stride * site.window))


@dataclass(frozen=True)
class _Layer:
    """A call of attention, with its tokens at cells of a tile of `size`."""

    call: AttentionCall | None
    size: Size
    stride: int
    key_stride: int
    queries: tuple[Tensor, Tensor]
    """Rows and columns of the cells of all queries, (sets, queries); -1 where they are none."""
    keys: tuple[Tensor, Tensor]
    groups: Tensor
    """For each set the number of its window: heads have the same one."""
    importance: Tensor | None = None
    """(heads,), see `OwnAttention.times_gradient`."""

    @classmethod
    def of(cls, call: AttentionCall, size: Size) -> _Layer:
        """Return the layer of a call; raises `BadModel`, whose message is the reason alone."""
        if call.obstacle:
            raise BadModel(f"{call.obstacle}.")
        pixels = [row_and_column(each, size[1]) for each in (call.queries, call.keys)]
        stride, key_stride = (stride_of(*each) for each in pixels)
        if not stride or not key_stride:
            raise BadModel("its tokens are no cells of the image.")
        queries, keys = (
            (torch.where(y < 0, y, y // side), torch.where(x < 0, x, x // side))
            for (y, x), side in zip(pixels, (stride, key_stride), strict=True)
        )
        groups = torch.unique(torch.cat((call.queries, call.keys), 1), dim=0, return_inverse=True)[
            1
        ]
        layer = cls(call, size, stride, key_stride, queries, keys, groups)
        if why := layer._problem():
            raise BadModel(why)
        return layer

    def is_like(self, site: AttentionSite) -> bool:
        """Return whether cells and heads are those of a site."""
        return (self.stride, self.key_stride, self.heads) == (
            site.stride,
            site.key_stride or site.stride,
            len(site.heads),
        )

    @property
    def heads(self) -> int:
        return int((self.groups == self.groups[0]).sum())

    def times(self, gradient: Tensor) -> _Layer:
        """Return the layer with rows of weights times the gradient by `AttentionCall.factor`."""
        call = self.call
        assert call is not None and call.factor is not None
        gradient = call.as_sets(gradient)
        products = (call.as_sets(call.factor.detach()) * gradient).sum((1, 2))
        importance = products.new_zeros(self.heads).index_add(0, self.head_of_sets, products)
        return replace(
            self, call=replace(call, gradient=gradient, factor=None), importance=importance
        )

    @property
    def head_of_sets(self) -> Tensor:
        """(sets,) the number of the head that each set is of."""
        order = self.groups.argsort(stable=True)
        numbers = torch.arange(len(order), device=order.device) % self.heads
        return torch.empty_like(order).index_copy(0, order, numbers)

    @property
    def _firsts(self) -> Tensor:
        """The first set of every window."""
        order = self.groups.argsort(stable=True)
        return order[:: self.heads]

    def _problem(self) -> str:
        """Return why the cells are no map; empty where they are one."""
        counts = self.groups.bincount()
        if (counts != counts[0]).any():
            return "its windows have different numbers of heads, or lie on each other."
        at = [each[self._firsts] for each in self.queries]
        there = at[0] >= 0
        rows, columns = (-(-length // self.stride) for length in self.size)
        numbers = at[0][there] * columns + at[1][there]
        found = torch.unique(numbers)
        if len(found) < len(numbers):
            return (
                "several of its tokens lie at the same place, as behind a map that is made larger by "
                "reshape: use nn.PixelShuffle, interpolate or ConvTranspose2d."
            )
        if len(found) < rows * columns:
            return f"its tokens are {len(found)} of the {rows * columns} cells of the image."
        y, x = (each[self._firsts] for each in self.keys)
        numbers = (y * (self.size[1] + 1) + x).masked_fill(y < 0, -1).sort(1).values
        same = (numbers.diff(dim=1) == 0) & (numbers[:, 1:] >= 0)
        if same.any():
            return "several of its keys lie at the same place: they are mixtures of the cells of a map."
        return ""

    def described(self, name: str) -> AttentionSite:
        """Return the site with its kind, its windows, and its heads."""
        kind: AttentionKind = "channel"
        window, shift = None, 0
        if self.call is not None and self.call.mixed is None:
            kind = "full"
            if len(self._firsts) > 1:
                window, shift = self._window()
                kind = "window" if window else "sparse"
        return AttentionSite(
            name,
            name.replace(".", " ") + (", shifted" if shift else ""),
            kind,
            STEP,
            self.stride,
            numbered(self.heads),
            window,
            shift,
            key_stride=None if self.key_stride == self.stride else self.key_stride,
        )

    def _window(self) -> tuple[int | None, int]:
        """Return the side of square windows in cells, and how far they are moved; None: there are none."""
        y, x = (each[self._firsts] for each in self.queries)
        counts = (y >= 0).sum(1)
        # Others are cut by the edge.
        side = math.isqrt(int(counts.max()))
        if side < LEAST_WINDOW or side**2 != int(counts.max()):
            return None, 0
        corners = []
        for down, along in zip(y[counts == side**2], x[counts == side**2], strict=True):
            rows, columns = down[down >= 0], along[along >= 0]
            top, left = int(rows.min()), int(columns.min())
            if int(rows.max()) - top < side and int(columns.max()) - left < side:
                corners.append((top % side, left % side))
        if not corners or len(set(corners)) > 1 or corners[0][0] != corners[0][1]:
            return None, 0
        return side, corners[0][0]

    def row(self, pixel: tuple[int, int]) -> AttentionRow:
        """Return the row of the cell of a pixel (y, x)."""
        cell = pixel[0] // self.stride, pixel[1] // self.stride
        y, x = self.queries
        at = ((y == cell[0]) & (x == cell[1])).nonzero()
        cells = torch.stack(self.keys, dim=-1)
        call = self.call
        assert call is not None
        if call.mixed is not None and call.matrix is not None:
            return _likeness(call.mixed, call.matrix, at, cells, cell)
        weights, positions, beyond = [], [], []
        for number, token in at.tolist():
            row, own = call.row(number, token), cells[number]
            # Tokens that the network adds, as to fill its windows, have no position in the image.
            added = own[:, 0] < 0
            empty = added | row.excluded
            beyond.append(row.weights[added].sum())
            weights.append(row.weights.masked_fill(empty, 0))
            positions.append(own.masked_fill(empty[:, None], -1))
        is_whole = len(self._firsts) == 1 and not any(beyond)
        numbers = {} if is_whole else {"beyond": torch.stack(beyond)}
        if self.importance is not None:
            numbers["importance"] = self.importance
        return AttentionRow(torch.stack(weights), torch.stack(positions), cell, numbers)


def _likeness(
    mixed: Tensor, matrices: Tensor, at: Tensor, cells: Tensor, cell: tuple[int, int]
) -> AttentionRow:
    """Return how alike what the heads put out at all cells is to that at the query's, as cosines.

    `mixed` (sets, channels, tokens) are the outputs, `matrices` (sets, c, c) the weights, `at` (heads, 2)
    set and token of the query, `cells` (sets, tokens, 2) rows and columns. Numbers by head: ``diagonal``,
    the mean of the diagonal of the weights, ``entropy``, the mean entropy of their rows from 0 to 1 where
    these are shares, and ``matrix.N``, the weights (c, c).
    """
    used = [matrices[number].float() for number, _ in at.tolist()]
    alike = []
    for number, token in at.tolist():
        outputs = torch.nn.functional.normalize(mixed[number].float(), dim=0)
        alike.append(outputs[:, token] @ outputs)
    numbers = {f"matrix.{head}": each for head, each in enumerate(used, start=1)}
    numbers["diagonal"] = torch.stack([each.diagonal().mean() for each in used])
    if all((each >= 0).all() and ((each.sum(-1) - 1).abs() < SHARES).all() for each in used):
        most = math.log(len(used[0]))
        numbers["entropy"] = torch.stack([entr(each).sum(-1).mean() / most for each in used])
    return AttentionRow(torch.stack(alike), cells[at[:, 0]], cell, numbers)


def size_of(x: Tensor) -> Size:
    """Return height and width of a tile (1, C, H, W)."""
    return x.shape[2], x.shape[3]


def _number(name: str) -> int:
    return int(name.partition(".")[2])


def _text(size: Size) -> str:
    return f"{size[1]} × {size[0]}"
