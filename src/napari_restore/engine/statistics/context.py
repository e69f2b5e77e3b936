"""Computation of a whole image's `Context` in one pass, and files of it.

"context" is a word of docs/glossary.md.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import Region
from napari_restore.engine.ledger.values import UNREADABLE, read_arrays, write_arrays
from napari_restore.engine.machine.device import cores
from napari_restore.engine.machine.threads import map_parallel
from napari_restore.engine.masks.mask_level import mask_at_level
from napari_restore.engine.masks.mask_strength import MaskStrength
from napari_restore.engine.masks.open_mask import open_exclude
from napari_restore.engine.statistics.context_blocks import ContextBlocks, dark_bands, light_only
from napari_restore.engine.statistics.kept import counts_of, find_kept, keep_context, with_counts
from napari_restore.errors import Cancelled, InputError, option
from napari_restore.images import Image, attach_pyramid, halve
from napari_restore.models import BlockStatistics, Context, context_of
from napari_restore.questions import Reading

OVERVIEW_SIDE = 512
"""Overviews of several images are reduced to this side, and further if necessary …"""
OVERVIEW_PIXELS = 2048**2
"""… so that all together have no more pixels than that of one."""
ROUGH = ("overview", "sample")
"""Extents of drafts."""
ROUGH_BYTES = 64 << 20
"""Contexts of drafts stay in memory up to this: about two of images with three bands."""
_VERSION = 8
Counter = Callable[[ContextBlocks], Iterator[BlockStatistics | None]]
"""Yields the statistics of all blocks, in the order of their boxes."""


def on_threads(workers: int) -> Counter:
    """Return what counts blocks on so many threads of this process."""
    return lambda blocks: map_parallel(blocks.boxes, blocks.count, workers, name="context")


def context_key(
    image: Image,
    exclude: MaskStrength | None = None,
    region: Region | None = None,
    *,
    extent: str = "image",
) -> str:
    """Return the cache key of the context of this image, or region, these bands and this exclude mask."""
    # The statistics of a level are those of its whole image.
    image = image.full or image
    parts = [_VERSION, image.fingerprint, dark_bands(image), image.data_bands]
    parts += [exclude.digest if exclude else None, list(region) if region else None]
    parts += [extent] if extent in ROUGH else []
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def find_context(
    image: Image,
    exclude: MaskStrength | None = None,
    region: Region | None = None,
    *,
    overview: bool = True,
) -> Context | None:
    """Return the context computed earlier, or None; without `overview` that may be missing in it."""
    return find_kept(context_key(image, exclude, region), overview=overview)


def compute_context(
    image: Image,
    *,
    exclude: MaskStrength | None = None,
    region: Region | None = None,
    extent: str = "image",
    counter: Counter | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    sampled: bool = True,
) -> Context:
    """Return the context of `image` over all its bands, kept on disk for the next time.

    With `region` only that part is read. Drafts are limited to a fraction of a second: the `extent`
    "overview" reads a small level, "sample" a few blocks spread over the image; the last of them
    stay in memory. Where there is no small level (any more), "overview" reads such blocks, or all
    of the image unless `sampled`. The context of a level is that of its whole image, in whose
    pixels region and `exclude` are. Blocks are read and counted by `counter` and added up
    in one fixed order, so the same bytes come out whatever their number.
    """
    image = image.full or image
    if extent == "overview":
        known = _overview_context(image, exclude, region)
        if known is None and not sampled:
            known = find_context(image, exclude, region)
        if known is not None:
            return known
        extent = "sample" if sampled else "image"
    key = context_key(image, exclude, region, extent=extent)
    if (recent := _recent_rough(key)) is not None:
        return recent
    blocks = ContextBlocks(image, exclude, region, sampled=extent == "sample")
    for done, statistics in enumerate((counter or on_threads(cores()))(blocks), 1):
        if cancelled is not None and cancelled():
            raise Cancelled("Cancelled while reading the whole image.")
        blocks.whole.add_statistics(statistics)
        if progress is not None:
            progress(done, len(blocks.boxes))
    context = blocks.whole.finish()
    if extent in ROUGH:
        return _keep_rough(key, context)
    keep_context(key, context, {"image": image.name})
    return context


_rough: OrderedDict[str, Context] = OrderedDict()
_ROUGH_LOCK = threading.Lock()


def _recent_rough(key: str) -> Context | None:
    """Return the context of a draft that is still in memory, or None."""
    with _ROUGH_LOCK:
        if key in _rough:
            _rough.move_to_end(key)
        return _rough.get(key)


def _keep_rough(key: str, context: Context) -> Context:
    with _ROUGH_LOCK:
        _rough[key] = context
        while sum(map(_bytes_of, _rough.values())) > ROUGH_BYTES:
            _rough.popitem(last=False)
    return context


def _bytes_of(context: Context) -> int:
    arrays = context.overview, context.histograms, context.dark_counts, context.dark_sums
    return sum(array.nbytes for array in arrays)


def rough_extent(image: Image) -> str:
    """Return the extent of `ROUGH` that is available at once: a small level, if there is one."""
    return "sample" if overview_level(image.full or image) is None else "overview"


def overview_level(image: Image) -> int | None:
    """Return the finest level of ≤ `OVERVIEW_PIXELS` / 2 pixels that is readable at once; None without one."""
    # Such levels may not be made yet, or be no power of two smaller.
    for number, shape in enumerate(image.level_shapes):
        small = math.prod(shape) <= OVERVIEW_PIXELS // 2
        if small and image.level_scale(number) is not None and image.is_built(number):
            return number
    return None


def _overview_context(
    image: Image, exclude: MaskStrength | None, region: Region | None
) -> Context | None:
    """Return the context of a small level; None where there is no such level."""
    key = context_key(image, exclude, region, extent="overview")
    if (recent := _recent_rough(key)) is not None:
        return recent
    # Another process may have built the levels since.
    attach_pyramid(image)
    level = overview_level(image)
    if level is None:
        return None
    view = image.level_view(level)
    box = Region(0, 0, view.height, view.width)
    valid = view.read_representative(box) if view.may_be_invalid else None
    if exclude is not None:
        size = (image.height, image.width)
        counted = mask_at_level(exclude, view.scale.bit_length() - 1, size).read(box) == 0
        valid = counted if valid is None else valid & counted
    context = context_of(light_only(image, view.read(box)), valid, dark_bands(image))
    height, width, factor = image.height, image.width, context.factor * view.scale
    return _keep_rough(key, replace(context, height=height, width=width, factor=factor))


def joint_context(contexts: Iterable[Context]) -> Context:
    """Return the statistics of several images taken as one, each read on its own.

    Counts add up. Overviews are thinned and stacked, the first image's factor stands for all.
    Raises `InputError` if the images are not of one kind.
    """
    joint: Context | None = None
    longest = 0
    overviews: list[Overview] = []
    side = OVERVIEW_SIDE
    for context in contexts:
        if joint is None:
            joint, overviews = context, [context.overview]
            longest = max(context.overview.shape[:2])
            continue
        if _differ(_kind(context), _kind(joint)):
            raise InputError(
                f"One image has {_description(_kind(joint))}, another {_description(_kind(context))}: "
                "they have no statistics in common.",
                f"Give images of one kind, or leave {option('context')} out.",
            )
        overviews.append(context.overview)
        overviews = [_thinned(overview, side) for overview in overviews]
        while sum(overview[..., 0].size for overview in overviews) > OVERVIEW_PIXELS:
            side //= 2
            overviews = [_thinned(overview, side) for overview in overviews]
        own, more = joint.roles, context.roles
        joint = replace(
            joint,
            height=joint.height + context.height,
            width=max(joint.width, context.width),
            histograms=joint.histograms + context.histograms,
            dark_counts=joint.dark_counts + context.dark_counts,
            dark_sums=joint.dark_sums + context.dark_sums,
            roles=tuple(a or b for a, b in zip(own or more, more or own, strict=True)),
        )
    if joint is None:
        raise ValueError("no context to join")
    if len(overviews) == 1:
        return joint
    thinned = round(longest / max(overviews[0].shape[:2]))
    return replace(joint, factor=joint.factor * thinned, overview=_stacked(overviews))


def context_of_images(images: Iterable[Image], reading: Reading) -> Context:
    """Return the joint statistics of `images` without what `reading` excludes, computed where not known yet."""

    def of_one(image: Image) -> Context:
        weight = open_exclude(reading, image)
        found = find_context(image, weight) or compute_context(image, exclude=weight)
        return replace(found, roles=image.roles)

    return joint_context(of_one(image) for image in images)


Overview = npt.NDArray[np.float32]
_Kind = tuple[str, int, tuple[int, ...], tuple[str | None, ...]]


def _kind(context: Context) -> _Kind:
    dtype, dark = np.dtype(context.dtype).name, tuple(context.dark_bands)
    return dtype, context.bands, dark, context.roles


def _differ(one: _Kind, other: _Kind) -> bool:
    """Return whether images of two kinds share no statistics; a band of no known role may be any."""
    roles = zip(one[3], other[3], strict=False)
    return one[:3] != other[:3] or any(a != b for a, b in roles if a and b)


def _description(kind: _Kind) -> str:
    dtype, bands, dark, roles = kind
    names = f"{', '.join(role or '?' for role in roles)}; " if any(roles) else ""
    numbers = ", ".join(str(b + 1) for b in dark)
    return f"{bands} bands of {dtype} ({names}dark channel from {numbers})"


def _thinned(overview: Overview, side: int) -> Overview:
    """Return `overview` halved until its long side is at most `side`; NaN where none is valid."""
    while max(overview.shape[:2]) > side:
        known = ~np.isnan(overview[..., 0])
        overview, _ = halve(overview, known, fill=np.nan)
    return overview


def _stacked(overviews: list[Overview]) -> Overview:
    """Return the arrays one above the other, padded with NaN on the right."""
    width = max(overview.shape[1] for overview in overviews)
    pads = [((0, 0), (0, width - overview.shape[1]), (0, 0)) for overview in overviews]
    return np.concatenate(
        [np.pad(o, pad, constant_values=np.nan) for o, pad in zip(overviews, pads, strict=True)]
    )


def load_context(path: Path, image: Image | None = None) -> Context:
    """Return the context `save_context` wrote, checked against `image`.

    Raises `InputError` for a file that is missing, damaged, no context, or one of images of another
    kind.
    """
    try:
        arrays = read_arrays(path, "")
        # Files of earlier versions have no roles.
        roles = tuple(map(str, arrays.get("roles", ())))
        context = replace(with_counts(arrays, arrays["overview"]), roles=roles)
    except FileNotFoundError as error:
        raise InputError(f"There is no context file {path}.", "Check the name.") from error
    except UNREADABLE as error:
        raise InputError(
            f"{path} is damaged or no context.",
            f"Make it again with {option('save_context()')}, or leave it out.",
        ) from error
    if image is not None:
        kind = (str(image.dtype), image.bands, dark_bands(image), image.roles)
        if _differ(_kind(context), kind):
            raise InputError(
                f"The context is of {_description(_kind(context))}, {image.name} has {_description(kind)}.",
                "Make a context of images of its kind.",
            )
    return context


def save_context(path: Path, context: Context) -> None:
    """Write a context to a path that the user chose, atomically, with a checksum of its content."""
    # Uncompressed: a file from elsewhere must not reach the decompressor.
    path.parent.mkdir(parents=True, exist_ok=True)
    roles = np.array([role or "" for role in context.roles], "U")
    write_arrays(path, counts_of(context) | {"overview": context.overview, "roles": roles}, "")
