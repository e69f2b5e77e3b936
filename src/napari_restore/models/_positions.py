"""Positions in the image that follow the values of a network through its operations on tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_map

_aten = torch.ops.aten
NOWHERE = 0
"""Of values that belong to no pixel: padding, learned tokens, means of the image."""


@dataclass(frozen=True, eq=False)
class Marks:
    """What is known of a tensor: where its values lie, and whether they are shares."""

    positions: tuple[Tensor, ...]
    """int32 of the tensor's shape, 1 + y · width + x or `NOWHERE`. One of a map. Of scores two: of the
    token on either side. None of what belongs to no position."""
    are_shares: bool = False
    """Whether a softmax made it."""


Known: TypeAlias = Callable[[Any], Marks | None]
Args: TypeAlias = Sequence[Any]
Options: TypeAlias = Mapping[str, Any]


def positions_of_image(x: Tensor) -> Marks:
    """Return the marks of an image (N, C, H, W)."""
    height, width = x.shape[-2:]
    numbers = torch.arange(1, height * width + 1, dtype=torch.int32, device=x.device)
    return Marks((numbers.view(height, width).expand(x.shape),))


def row_and_column(positions: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return y and x of positions, -1 of `NOWHERE`, in an image of this width."""
    at, none = positions.long() - 1, positions == NOWHERE
    y, x = at.div(width, rounding_mode="floor"), at % width
    return y.masked_fill(none, -1), x.masked_fill(none, -1)


def varies(positions: Tensor, dim: int) -> bool:
    """Return whether positions differ along an axis."""
    if positions.shape[dim] < 2 or positions.stride(dim) == 0:
        return False
    return bool((positions != positions.narrow(dim, 0, 1)).any())


def first_along(positions: Tensor, dim: int) -> Tensor:
    """Return the first position in the image along an axis, which stays, with length 1."""
    if positions.shape[dim] < 2 or positions.stride(dim) == 0:
        return positions.narrow(dim, 0, 1)
    last = torch.iinfo(positions.dtype).max
    least = positions.masked_fill(positions == NOWHERE, last).amin(dim, keepdim=True)
    return least.masked_fill_(least == last, NOWHERE)


def followed(
    func: Any, args: Args, kwargs: Options, out: Any, known: Known, width: int
) -> list[tuple[Tensor, Marks]]:
    """Return the marks of what an operation returned, where its arguments have some.

    `width` is that of the image. Products of matrices follow other rules, see `of_product`. A tensor
    that is missing has no marks any more.
    """
    results = [each for each in _tensors(out) if each.is_floating_point()]
    given = [(each, found) for each in _tensors(args) if (found := known(each)) is not None]
    packet = func.overloadpacket
    if results and packet in _SOFTMAX:
        return [(results[0], Marks(_of_whole(given, results[0].shape), are_shares=True))]
    if not results or not given:
        return []
    shares = any(found.are_shares for _, found in given)
    count = max(len(found.positions) for _, found in given)
    if packet in _MOVING:
        moved = [_moved(packet, args, kwargs, known, number) for number in range(count)]
        return [
            (each, Marks(tuple(positions[number] for positions in moved), shares))
            for number, each in enumerate(results)
        ]
    if packet in _RESIZING and count == 1:
        return _resized(packet, args, results[0], known, width)
    if packet in _MIXING:
        return []
    positions = _of_whole(given, results[0].shape)
    return [(results[0], Marks(positions, shares))] if positions or shares else []


def is_lost(func: Any, out: Any) -> bool:
    """Return whether positions were lost in an operation, rather than averaged over the image."""
    floats = [each for each in _tensors(out) if each.is_floating_point()]
    return bool(floats) and floats[0].dim() > 1 and func.overloadpacket not in _REDUCING


def of_product(a: Marks | None, b: Marks | None, shape: torch.Size) -> Marks | None:
    """Return the marks of a product of matrices (…, n, k) and (…, k, m) of this shape.

    Of tokens on either side: scores. Of tokens and weights: each has the first position of those that it
    mixes.
    """
    p, q = (m.positions[0] if m is not None and len(m.positions) == 1 else None for m in (a, b))
    if p is not None and q is not None:
        if varies(p, -1) or varies(q, -2):
            return None
        return Marks((p[..., :1].expand(shape), q[..., :1, :].expand(shape)))
    if p is not None:
        return Marks((first_along(p, -1).expand(shape),))
    if q is not None:
        return Marks((first_along(q, -2).expand(shape),))
    return None


def _tensors(tree: Any) -> Iterable[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (tuple, list)):
        for each in tree:
            yield from _tensors(each)


def _of_whole(given: Iterable[tuple[Tensor, Marks]], shape: torch.Size) -> tuple[Tensor, ...]:
    """Return the positions of the first argument that has as many values as the result, or is repeated."""
    fitting = []
    for _, found in given:
        try:
            fitting.append(tuple(each.expand(shape) for each in found.positions))
        except RuntimeError:
            continue
    return max(fitting, key=len, default=())


def _moved(
    packet: Any, args: Args, kwargs: Options, known: Known, number: int
) -> tuple[Tensor, ...]:
    """Return the positions of an operation that only moves values, of one side of scores."""

    def swapped(each: Any) -> Any:
        if not isinstance(each, Tensor) or not each.is_floating_point():
            return each
        marks = known(each)
        if marks is None or number >= len(marks.positions):
            return torch.zeros((), dtype=torch.int32, device=each.device).expand(each.shape)
        return marks.positions[number]

    given = tree_map(swapped, list(args))
    made = _MOVING[packet]
    moved = packet(*given, **kwargs) if made is None else made(*given)
    return (moved,) if isinstance(moved, Tensor) else tuple(moved)


def _padded(positions: Tensor, pad: Sequence[int], *_: Any) -> Tensor:
    return functional.pad(positions, list(pad), value=NOWHERE)


_MOVING: dict[Any, Callable[..., Any] | None] = {
    **dict.fromkeys(
        (_aten.permute, _aten.transpose, _aten.t, _aten.expand, _aten.slice, _aten.select)
    ),
    **dict.fromkeys((_aten.squeeze, _aten.unsqueeze, _aten.roll, _aten.unfold, _aten.flip)),
    **dict.fromkeys((_aten.index, _aten._unsafe_index, _aten.gather, _aten.index_select)),
    **dict.fromkeys((_aten.repeat, _aten.cat, _aten.stack, _aten.split, _aten.unbind)),
    **dict.fromkeys((_aten.split_with_sizes, _aten.pixel_unshuffle, _aten.channel_shuffle)),
    # Positions need not lie in memory as the values do.
    **dict.fromkeys(
        (_aten.view, _aten._unsafe_view, _aten.reshape, _aten._reshape_alias),
        lambda positions, size, *_: positions.reshape(size),
    ),
    # A mirrored pixel is none of the image.
    **dict.fromkeys(
        (_aten.constant_pad_nd, _aten.reflection_pad2d, _aten.replication_pad2d), _padded
    ),
    _aten.im2col: lambda at, *how: _aten.im2col(at.double(), *how).to(at.dtype),
}
"""Operations that only move values; None: positions are moved by the same."""
_SOFTMAX = {_aten._softmax, _aten._safe_softmax, _aten.softmax}
_REDUCING = {
    *(_aten.mean, _aten.sum, _aten.amax, _aten.amin, _aten.max, _aten.min, _aten.var),
    *(_aten.var_mean, _aten.std, _aten.linalg_vector_norm, _aten.norm, _aten.prod, _aten.median),
    *(
        _aten._adaptive_avg_pool2d,
        _aten.adaptive_max_pool2d,
        _aten.logsumexp,
        _aten.native_layer_norm,
    ),
    *(_aten.bmm, _aten.mm, _aten.baddbmm, _aten.addmm),
}
_MIXING = {
    *(_aten.sort, _aten.topk, _aten.cumsum, _aten.cumprod, _aten.argsort, _aten.grid_sampler_2d),
    *(
        _aten._fft_r2c,
        _aten._fft_c2r,
        _aten._fft_c2c,
        _aten.as_strided,
        _aten.scatter,
        _aten.col2im,
    ),
}
"""Operations after which values of the same shape lie elsewhere."""


# -- maps of another size -------------------------------------------------------------------


def _resized(
    packet: Any, args: Args, out: Tensor, known: Known, width: int
) -> list[tuple[Tensor, Marks]]:
    """Return the marks of a map (N, C, h, w) made of one of another size, or by convolution."""
    marks = known(args[0])
    if marks is None or len(marks.positions) != 1 or out.dim() != 4 or args[0].dim() != 4:
        return []
    positions = first_along(marks.positions[0], 1)
    strides = _strides(packet, args)
    transposed = packet in _CONVOLUTIONS and args[6]
    if strides is not None and not transposed:
        kernel, stride, padding, dilation = strides
        for axis in (0, 1):
            middle = dilation[axis] * ((kernel[axis] - 1) // 2) - padding[axis]
            at = torch.arange(out.shape[2 + axis], device=out.device) * stride[axis] + middle
            positions = positions.index_select(
                2 + axis, at.clamp_(0, positions.shape[2 + axis] - 1)
            )
    else:
        for axis in (0, 1):
            positions = _scaled(positions, axis, out.shape[2 + axis], width)
    return [(out, Marks((positions.expand(out.shape),)))]


def _strides(packet: Any, args: Args) -> tuple[list[int], list[int], list[int], list[int]] | None:
    """Return kernel, stride, padding and dilation along both axes; None of what resizes."""
    if packet in _CONVOLUTIONS:
        kernel, stride, padding, dilation = args[1].shape[2:], *args[3:6]
    elif packet in (_aten.avg_pool2d, _aten.max_pool2d_with_indices):
        kernel, dilation = args[1], 1
        stride = args[2] if len(args) > 2 and args[2] else kernel
        padding = args[3] if len(args) > 3 else 0
    else:
        return None
    both = [_pair(each) for each in (kernel, stride, padding, dilation)]
    return both[0], both[1], both[2], both[3]


def _pair(value: Any) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * 2 if len(values) == 1 else values


def _scaled(positions: Tensor, axis: int, length: int, width: int) -> Tensor:
    """Return positions of a map whose rows (axis 0) or columns become `length`, spread evenly."""
    before = positions.shape[2 + axis]
    if length == before:
        return positions
    at = torch.arange(length, device=positions.device)
    found = positions.index_select(2 + axis, (at * before) // length)
    if length % before:
        return found
    factor, cell = length // before, _side(positions, axis, width)
    shape = [1, 1, 1, 1]
    shape[2 + axis] = length
    further = (at % factor * cell // factor).to(positions.dtype).view(shape)
    return torch.where(found == NOWHERE, found, found + further * (1 if axis else width))


def _side(positions: Tensor, axis: int, width: int) -> int:
    """Return the pixels between the cells of a map along an axis, mostly."""
    along = row_and_column(positions, width)[axis]
    there = along >= 0
    apart = along.diff(dim=2 + axis)
    both = there.narrow(2 + axis, 1, apart.shape[2 + axis]) & there.narrow(
        2 + axis, 0, apart.shape[2 + axis]
    )
    apart = apart[both]
    return int(apart.median()) if len(apart) else 1


_CONVOLUTIONS = {_aten.convolution, _aten._convolution}
_RESIZING = {
    *_CONVOLUTIONS,
    *(_aten.avg_pool2d, _aten.max_pool2d_with_indices, _aten.pixel_shuffle),
    *(_aten.upsample_nearest2d, _aten.upsample_bilinear2d, _aten.upsample_bicubic2d),
    *(_aten._upsample_nearest_exact2d, _aten._upsample_bilinear2d_aa, _aten._upsample_bicubic2d_aa),
    *(_aten._adaptive_avg_pool2d, _aten.adaptive_max_pool2d),
}


def stride_of(y: Tensor, x: Tensor) -> int:
    """Return the pixels between cells at rows `y` and columns `x`; 0 of fewer than two."""
    apart = [0]
    for along in (y, x):
        apart += torch.unique(along[along >= 0]).diff().tolist()
    return math.gcd(*(int(each) for each in apart))
