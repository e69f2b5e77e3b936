"""Segments of an image: features that get one share each, in place of its pixels."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine import MaskGrid, Region, pieces_of
from napari_restore.errors import BadParameter, option
from napari_restore.explain.attribution._sums import Summed
from napari_restore.explain.attribution.files import SEGMENT_COLUMNS, mapped_array
from napari_restore.images import Image, open_codes

if TYPE_CHECKING:
    from torch import Tensor

    from napari_restore.explain.attribution.attribution_run import AttributionRun

SLIC = "slic:"
SLIC_BYTES = 160
"""Memory of SLIC per pixel: bands and colours in float64, distances, labels."""
COMPACTNESS = 10.0
"""Of SLIC in CIE Lab, scikit-image's default; of other bands, whose range is 1, 100 times less."""
_IN_BOX = 4
"""Superpixels in the box of a note's advice."""
Labels = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Segments:
    """The segments of a run's region."""

    source: str
    """As the user named them."""
    numbers: npt.NDArray[np.int64]
    """(h, w) over the region: 0 in no segment, else a place in `labels`, from 1."""
    labels: npt.NDArray[np.int64]
    """The whole numbers of the user's raster, in ascending order."""
    region: Region

    @classmethod
    def of(cls, given: Any, run: AttributionRun) -> Segments:
        """Return those of a run's region; raises `BadParameter`, `UnreadableImage`, `BudgetTooSmall`."""
        source, region = run.source, run.region
        if isinstance(given, str) and given.startswith(SLIC):
            name, labels = given, _superpixels(given, run)
        elif isinstance(given, str | PathLike):
            name, labels = str(given), _read(given, source.plan.image, region)
        else:
            name, labels = "array", _part(np.asarray(given), source.plan.image, region, "The array")
        if labels.dtype.kind not in "iub":
            raise BadParameter(
                f"Segments are whole numbers, not {labels.dtype}.",
                "Give a raster or an array of integers.",
            )
        valid = source.valid(region)
        counted = labels if valid is None else np.where(valid[0, 0].numpy(force=True), labels, 0)
        if counted.size and int(counted.min()) < 0:
            raise BadParameter(
                f"Segments have numbers from 0, and {name} has {counted.min()}.",
                "Number them from 1; 0 is none.",
            )
        found, inverse = np.unique(counted.astype(np.int64), return_inverse=True)
        numbers = inverse.reshape(counted.shape).astype(np.int64)
        if not len(found) or found[0] != 0:
            numbers += 1
        own = found[found != 0]
        if not len(own):
            raise BadParameter(
                "No segment lies in the pixels that the box depends on.",
                "Choose a box nearer to a segment, or other segments.",
            )
        return cls(name, numbers, own, region)

    @property
    def count(self) -> int:
        return len(self.labels)

    def note(self, box: Region) -> str:
        """Return a sentence where superpixels are larger than the `box`, which is not divided then."""
        each = self.region.pixels // self.count
        if not self.source.startswith(SLIC) or each <= box.pixels:
            return ""
        wanted = -(-_IN_BOX * self.region.pixels // box.pixels)
        return (
            f"{self.source} divides the {self.region.width} × {self.region.height} pixels that the box "
            f"depends on: each superpixel has about {each}, the box {box.pixels}. About {_IN_BOX} in the "
            f"box take {option('segments', f'{SLIC}{wanted}')}, or a raster that is finer there."
        )

    def tensor(self, like: Tensor) -> Tensor:
        """Return `numbers` as (1, 1, h, w) int64 on the device of `like`."""
        import torch

        return torch.from_numpy(self.numbers)[None, None].to(like.device)

    def to_dict(self, total: Summed, evaluations: int | None) -> dict[str, Any]:
        """Return the table of the map's sums over each segment; `evaluations` of D, None of a path."""
        flat, size = self.numbers, self.count + 1
        shares = np.zeros(size)
        for strip in total.strips():
            signed, numbers = total.finite(strip).sum(axis=0), flat[strip.within(self.region)]
            shares += np.bincount(numbers.ravel(), signed.ravel(), minlength=size)
        pixels = np.bincount(flat.ravel(), minlength=size)
        y, x = np.ogrid[: flat.shape[0], : flat.shape[1]]
        centres = [
            np.bincount(flat.ravel(), np.broadcast_to(at, flat.shape).ravel(), minlength=size)
            / np.maximum(pixels, 1)
            + start
            + 0.5
            for at, start in ((x, self.region.x0), (y, self.region.y0))
        ]
        columns = (self.labels, pixels[1:], shares[1:], *(each[1:].round(2) for each in centres))
        return {
            "source": self.source,
            "count": self.count,
            "evaluations": evaluations,
            "in_none": {"pixels": int(pixels[0]), "share": float(shares[0])},
            "rows": [
                dict(zip(SEGMENT_COLUMNS, row, strict=True))
                for row in zip(*(each.tolist() for each in columns), strict=True)
            ],
        }


def _superpixels(name: str, run: AttributionRun) -> Labels:
    """Return about so many superpixels of the region by SLIC (Achanta et al., 2012), from 1."""
    count = name.removeprefix(SLIC)
    if not count.isdecimal() or int(count) < 1:
        raise BadParameter(
            f"{name} names no number of superpixels.", f"Write {option('segments', 'slic:60')}."
        )
    if importlib.util.find_spec("skimage") is None:
        raise BadParameter(
            "Superpixels are made by scikit-image, which is not installed.",
            'Run pip install "napari-restore[fuse]", or give a raster of segments.',
        )
    run.need(
        run.needed_bytes + SLIC_BYTES * run.region.pixels,
        f"Superpixels of {run.region.width} × {run.region.height} pixels do",
        "give a raster of segments",
    )
    from skimage.segmentation import slic

    picture = run.image(run.region)[0, run.own].permute(1, 2, 0).numpy(force=True)
    is_colour = picture.shape[2] == 3
    labels: Labels = slic(
        np.clip(picture, 0, 1),
        int(count),
        COMPACTNESS if is_colour else COMPACTNESS / 100,
        convert2lab=is_colour,
        start_label=1,
        channel_axis=-1,
    )
    return labels


def _read(path: str | PathLike[str], image: Image, region: Region) -> Labels:
    """Return a region of a raster, or of a .npy, on the grid of `image`; raises `UnreadableImage`.

    A raster is placed by its georeference as a mask is, by nearest pixels; 0 outside of it.
    """
    file = Path(path)
    if file.suffix.lower() == ".npy":
        return _part(mapped_array(file), image, region, file.name)
    raster = open_codes(path)
    if raster.bands != 1:
        raise BadParameter(
            f"{file.name} has {raster.bands} bands, and segments one.", "Give a raster of one band."
        )

    def read(box: Region) -> Labels:
        labels: Labels = np.asarray(raster.read(box))[..., 0]
        # What the raster says is no value is no segment.
        return np.where(raster.read_valid(box), labels, labels.dtype.type(0))

    full = image.full or image
    grid = MaskGrid.between(raster, full)
    if grid is None:
        rows, columns = _on_grid((raster.height, raster.width), image, region, file.name)
        box = Region(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
        return read(box)[np.ix_(rows - box.y0, columns - box.x0)]
    if grid.bounds.intersect(Region(0, 0, full.height, full.width)).is_empty:
        raise BadParameter(f"{file.name} lies outside the image.", "Check its coordinate system.")
    placed: Labels = np.empty(region.shape, raster.dtype)
    step = image.scale if image.full else 1
    # Of an overview a piece reads `step`² as many pixels of the raster.
    side = max(1, 512 // step)
    for piece in pieces_of(region, side, side * side):
        placed[piece.within(region)] = grid.nearest(piece, read, raster.dtype, step)
    return placed


def _part(labels: Any, image: Image, region: Region, name: str) -> Labels:
    if labels.ndim != 2:
        raise BadParameter(
            f"{name} has {labels.ndim} axes, and segments two.", "Give an array (H, W)."
        )
    rows, columns = _on_grid(labels.shape, image, region, name)
    part: Labels = np.asarray(labels[np.ix_(rows, columns)])
    return part


def _on_grid(
    size: tuple[int, ...], image: Image, region: Region, name: str
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return rows and columns of a raster for a region of `image`: of an overview's pixels the centres."""
    full, step = image.full or image, 1
    if tuple(size) == (full.height, full.width) != (image.height, image.width):
        step = image.scale
    elif tuple(size) != (image.height, image.width):
        raise BadParameter(
            f"{name} has {size[1]} × {size[0]} pixels, the image {full.width} × {full.height}.",
            "Segments lie on the image's grid.",
        )
    rows, columns = (
        np.minimum(step * np.arange(first, last) + step // 2, side - 1)
        for first, last, side in zip(region[:2], region[2:], size, strict=True)
    )
    return rows, columns
