"""The maps in files of attributions and attentions: their values, and their place in the image."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.npyio import NpzFile

from napari_restore._plain_files import check_file, open_file
from napari_restore.engine import Region
from napari_restore.errors import UnreadableImage
from napari_restore.explain.attribution._overview import OverviewShares
from napari_restore.explain.kinds import DIVERGING, Kind, kind_of
from napari_restore.images import (
    ExportOptions,
    Image,
    Pixels,
    SaveOptions,
    check_output,
    write_image,
)

REGION_TAG, IMAGE_TAG = "NAPARI_RESTORE_REGION", "NAPARI_RESTORE_IMAGE"
"""Tags of a raster: its region in its own pixels, and the fingerprint of the image."""
STEP_TAG, OVERVIEW_TAG = "NAPARI_RESTORE_STEP", "NAPARI_RESTORE_OVERVIEW"
"""Pixels of the image's level 0 along a side of one of the raster; of an overview's shares, those of
the map."""
SCALE_TAG, LIMIT_TAG = "NAPARI_RESTORE_SCALE", "NAPARI_RESTORE_LIMIT"
"""Whether colours diverge, and the magnitude at which they end, which map and overview have in common."""
MOST = 1 << 27
"""Values that an array of a file has at most; files may lie."""
_DAMAGED = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    EOFError,
    RecursionError,
    ArithmeticError,
)
MAPS = 16
"""Maps of a file that are shown; of more heads the mean is taken."""


class OpenedMap(NamedTuple):
    """One band of a raster, or one array."""

    name: str
    levels: tuple[Any, ...]
    """(h, w) arrays, the largest first, perhaps lazy."""
    region: Region
    """In pixels of the map."""
    step: int
    """Pixels of the image's level 0 along a side of one of the map's."""
    limit: float | None
    """Magnitude at which the colours end; None: they follow from the values."""
    is_signed: bool
    """Whether colours diverge around 0."""
    image: str
    """Fingerprint of the image."""
    is_first: bool
    """Whether it is shown first: a sum over bands, or the first head."""


def write_map(
    path: Path,
    pixels: Pixels,
    step: int,
    kind: Kind,
    tags: Mapping[str, str],
    answer: tuple[Image, Mapping[str, Any]],
    options: SaveOptions,
) -> Path:
    """Write a raster whose pixels are `step` ones of an image along a side; raises `BadOutput`.

    `answer`: the image and the record of an attribution or of attention. It has `tags`, and those by which it goes back to place and colours.
    """
    image, record = answer
    check_output(path, [image.path] if image.path else [], bool(options.get("overwrite")))
    name = "attention" if "attention" in record else "attribution"
    own = {
        "NAPARI_RESTORE": f"{name}: {kind.about}",
        "NAPARI_RESTORE_MODEL": record["model"]["id"],
        SCALE_TAG: kind.scale,
        REGION_TAG: " ".join(map(str, pixels.box)),
        STEP_TAG: str(step * image.scale),
        IMAGE_TAG: record["input"]["fingerprint"],
    }
    like, export = image.cells(step), ExportOptions(**options)
    return write_image(path, pixels, like=like, options=export, tags={**own, **tags})


def pixels_of(values: npt.NDArray[np.float32], region: Region, names: Sequence[str]) -> Pixels:
    """Return values (h, w, bands) of a region of cells to be written."""

    def read(box: tuple[int, int, int, int]) -> npt.NDArray[np.float32]:
        return values[Region(*box).within(region)]

    return Pixels(region, read, len(names), np.float32, names=tuple(names))


def opened_maps(source: Image | Path) -> tuple[OpenedMap, ...]:
    """Return at most `MAPS` maps of an opened raster, or of a file of arrays (.npz); raises `UnreadableImage`."""
    return _of_raster(source) if isinstance(source, Image) else _of_arrays(source)


def _of_raster(file: Image) -> tuple[OpenedMap, ...]:
    tags = file.profile.tags.get("", {})
    try:
        region = Region(*map(int, tags[REGION_TAG].split()))
        step, limit = int(tags.get(STEP_TAG, 1)), tags.get(LIMIT_TAG)
        most, of_map = None if limit is None else float(limit), int(tags.get(OVERVIEW_TAG, 0))
    except (KeyError, ValueError, TypeError):
        return ()
    if region.shape != (file.height, file.width) or step < 1:
        return ()
    blocks = None
    if of_map > 0 and region.pixels * file.bands <= MOST:
        blocks = file.read((0, 0, *region.shape))
    return tuple(
        OpenedMap(
            f"{file.name} · {file.descriptions[band] or f'band {band + 1}'}",
            tuple(level[..., band] for level in file.levels)
            if blocks is None
            else (OverviewShares(blocks[..., band, None], of_map, (0, 0)).density(),),
            region,
            step,
            most,
            tags.get(SCALE_TAG, DIVERGING) == DIVERGING,
            tags.get(IMAGE_TAG, ""),
            band == 0,
        )
        for band in range(min(file.bands, MAPS))
    )


def holds_maps(path: Path) -> bool:
    """Return whether a file of arrays (.npz) is one of maps, or so damaged that nobody can say."""
    try:
        check_file(path)
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return path.is_file()
    is_map = any(name == "map.npy" or name.endswith("/weights.npy") for name in names)
    return is_map and "record.npy" in names


def _of_arrays(path: Path) -> tuple[OpenedMap, ...]:
    if not holds_maps(path):
        return ()
    try:
        with open_file(path) as file, NpzFile(file, allow_pickle=False) as arrays:
            assert arrays.zip is not None
            if max(entry.file_size for entry in arrays.zip.infolist()) > 8 * MOST:
                raise UnreadableImage(f"{path.name} is too large to be shown.", "Write a .tif.")
            record = json.loads(str(arrays["record"]))
            found = _shares if "map" in arrays else _heads
            return tuple(found(path.name, arrays, record))[:MAPS]
    except OSError as error:
        why = error.strerror or error
        raise UnreadableImage(f"{path.name} cannot be read: {why}.", "Check its path.") from None
    except (*_DAMAGED, zipfile.BadZipFile):
        raise UnreadableImage(
            f"{path.name} holds no map that attribute or attend wrote, or is cut off.",
            "Write it again.",
        ) from None


def _shares(name: str, arrays: Any, record: Mapping[str, Any]) -> list[OpenedMap]:
    """Return sum and bands of an attribution, then those of its overview."""
    scale, image = int(record["attribution"]["scale"]), record["input"]["fingerprint"]
    parts = [("", arrays["map"], arrays["region"].tolist()[:2], 1)]
    if "overview" in arrays:
        step = int(arrays["overview_step"])
        corner = [at // step for at in arrays["overview_corner"].tolist()]
        parts.append(("overview ", arrays["overview"], corner, step))
    limit = float(arrays["limit"]) if "limit" in arrays else None
    is_signed = kind_of(record["attribution"]).is_signed
    found = []
    for title, shares, (y, x), step in parts:
        height, width, count = shares.shape
        region = Region(y, x, y + height, x + width)
        bands = arrays["bands"].tolist() if "bands" in arrays else range(1, count + 1)
        planes = [shares.sum(axis=2), *np.moveaxis(shares, 2, 0)]
        for band, plane in zip(["sum", *bands], planes, strict=True):
            values = OverviewShares(plane[..., None], step, (0, 0)).density() if title else plane
            place, called = (region, step * scale), f"{name} · {title}{band}"
            is_first = plane is planes[0]
            found.append(OpenedMap(called, (values,), *place, limit, is_signed, image, is_first))
    return found


def _heads(name: str, arrays: Any, record: Mapping[str, Any]) -> list[OpenedMap]:
    """Return the heads of all layers for all queries, or, where they are many, their means."""
    size, image = record["input"]["size"], record["input"]["fingerprint"]
    about, scale = record["attention"], int(arrays["scale"]) if "scale" in arrays else 1
    sites = [
        (number, query, site)
        for number, query in enumerate(about["queries"])
        for site in about["layers"]
        if f"{number}/{site['name']}/weights" in arrays
    ]
    several = sum(len(site["heads"]) for *_, site in sites) > MAPS
    found: list[OpenedMap] = []
    for number, query, site in sites:
        key = f"{number}/{site['name']}"
        weights, cells = arrays[f"{key}/weights"], arrays[f"{key}/cells"]
        step = int(site["stride"])
        region = cell_region(cells, Region(*query["box"]).scale(Fraction(1, step)))
        whole = Region(0, 0, *(-(-side // step) for side in size))
        # Windows at the edge reach beyond it.
        if region.pixels > min(MOST, 16 * whole.pixels + (1 << 16)) or step < 1:
            raise ValueError
        dense = [dense_weights(*each, region) for each in zip(weights, cells, strict=True)]
        heads = [f"head {head}" for head in site["heads"]]
        if several and len(dense) > 1:
            dense, heads = [merged(dense)], ["mean of the heads"]
        where = f" · query {query['name'] or number + 1}" if len(about["queries"]) > 1 else ""
        found += [
            OpenedMap(
                f"{name} · {site['title']} · {head}{where}",
                (values,),
                region,
                step * scale,
                None,
                # Files before there were words of kinds have the site's alone.
                site.get("map", {}).get("scale") == DIVERGING or site["kind"] == "channel",
                image,
                not found and place == 0,
            )
            for place, (head, values) in enumerate(zip(heads, dense, strict=True))
        ]
    return found


def cell_region(cells: npt.NDArray[np.int64], own: Region) -> Region:
    """Return the cells among (…, 2) that are no (−1, −1), and those of the query."""
    asked = cells[cells[..., 0] >= 0]
    if not len(asked):
        return own
    (top, left), (bottom, right) = asked.min(axis=0), asked.max(axis=0) + 1
    return Region(int(top), int(left), int(bottom), int(right)).union(own)


def dense_weights(
    weights: npt.NDArray[np.float32], cells: npt.NDArray[np.int64], region: Region
) -> npt.NDArray[np.float32]:
    """Return the weights (h, w) of one head in a box of cells; NaN where none was asked."""
    values = np.full(region.shape, np.nan, np.float32)
    there = cells[:, 0] >= 0
    at = (cells[there, 0] - region.y0, cells[there, 1] - region.x0)
    values[at] = 0
    # A sampled key may be listed twice.
    np.add.at(values, at, weights[there])
    return values


def merged(
    values: list[npt.NDArray[np.float32]], *, largest: bool = False
) -> npt.NDArray[np.float32]:
    """Return the mean (h, w) of several heads, or the largest; NaN where none was asked."""
    stack = np.stack(values)
    asked, known = ~np.isnan(stack).all(axis=0), np.nan_to_num(stack)
    found = known.max(axis=0) if largest else known.mean(axis=0)
    return np.where(asked, found, np.nan).astype(np.float32)
