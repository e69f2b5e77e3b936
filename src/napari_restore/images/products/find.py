"""Which names are those of products, and which files belong to one."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, cast
from urllib.parse import urlsplit

from napari_restore._plain_files import open_file
from napari_restore.errors import UnreadableImage
from napari_restore.images._suffixes import band_name, is_image_in_folder, is_zarr
from napari_restore.images.files.remote import RemotePath, is_address
from napari_restore.images.files.trees import ZIP_MAGIC
from napari_restore.images.products._landsat import METADATA as LANDSAT, read_landsat
from napari_restore.images.products._sentinel2 import (
    METADATA as SENTINEL2,
    is_sentinel2_zip,
    read_sentinel2,
)
from napari_restore.images.products._stac import is_stac_item, read_stac, read_stac_at
from napari_restore.images.products.product import Product
from napari_restore.questions import Pathlike

_PACKED = re.compile(r"S2[A-D]_MSIL\d.*\.zip", re.IGNORECASE)
_RESOLUTION = re.compile(r"(.+):(\d+(?:\.\d+)?)m")


class NamedProduct(NamedTuple):
    """What a user named: a product, and the resolution of it, if they gave one."""

    path: Path
    resolution: float | None
    read: Callable[[Path], Product]
    source: Path
    """The file or folder that is read."""


def named_product(given: Pathlike, *, allow_outside: bool = False) -> NamedProduct | None:
    """Return the product that a text names, with ``:20m`` after it that resolution of it.

    None for what is none, by its name and, of a zip and a JSON file, by its content. Raises
    `UnreadableImage` for a damaged zip.
    """
    text = os.fspath(given)
    match = None if os.path.lexists(text) else _RESOLUTION.fullmatch(text)
    whole, side = (match[1], float(match[2])) if match else (text, None)
    if "\0" in text:
        return None
    if is_address(text):
        # A STAC item; other names at an address are those of images.
        if not allow_outside or not urlsplit(whole).path.lower().endswith(".json"):
            return None
        named, source = (cast("Path", RemotePath.of(each)) for each in (text, whole))
        return NamedProduct(named, side, read_stac_at, source)
    path = Path(whole).expanduser().absolute()
    found = _reader_of(path, allow_outside=allow_outside)
    if found is None:
        return None
    named = path.with_name(f"{path.name}:{match[2]}m") if match else path
    return NamedProduct(named, side, *found)


def is_product(given: Pathlike) -> bool:
    """Return whether a text names a product; see `named_product`."""
    try:
        return named_product(given) is not None
    except UnreadableImage:
        # Opening a damaged one says what is wrong with it.
        return _PACKED.match(os.path.basename(given)) is not None
    except (OSError, ValueError):
        return False


def _reader_of(path: Path, *, allow_outside: bool) -> tuple[Callable[[Path], Product], Path] | None:
    if path.is_dir():
        if path.suffix.upper() == ".SAFE" or any((path / name).is_file() for name in SENTINEL2):
            return read_sentinel2, path
        metadata = _landsats_in(path)
        is_alone = len(metadata) == 1 and not _others_in(path, metadata)
        return (read_landsat, metadata[0]) if is_alone else None
    if not path.is_file():
        return None
    if LANDSAT.fullmatch(path.name):
        return read_landsat, path
    if path.name in SENTINEL2:
        return read_sentinel2, path.parent
    suffix = path.suffix.lower()
    if suffix == ".json" and is_stac_item(path):
        return (lambda item: read_stac(item, allow_outside=allow_outside)), path
    if _begins(path, ZIP_MAGIC) and is_sentinel2_zip(path):
        return read_sentinel2, path
    return None


def _begins(path: Path, magic: bytes) -> bool:
    try:
        with open_file(path) as file:
            return file.read(len(magic)) == magic
    except OSError:
        return False


def _landsats_in(folder: Path) -> list[Path]:
    """Return the files of metadata of Landsat products, one for each product."""
    found: dict[str, Path] = {}
    # Of text, XML and JSON the text is taken: USGS has always shipped it.
    for path in sorted(_listed(folder), key=lambda path: (path.suffix.lower() != ".txt", path)):
        if LANDSAT.fullmatch(path.name) and path.is_file():
            found.setdefault(path.stem, path)
    return list(found.values())


def _others_in(folder: Path, metadata: list[Path]) -> bool:
    """Return whether a folder has images, or folders of products, beside the files of `metadata`."""
    return any(
        is_product(path) if path.is_dir() else is_image_in_folder(path)
        for path in _listed(folder)
        if not _is_of(path, metadata)
    )


def _is_of(path: Path, metadata: list[Path]) -> bool:
    return any(path.name.startswith(each.stem[: -len("MTL")]) for each in metadata)


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def images_in_folder(folder: Path) -> list[Path]:
    """Return the images in a folder, sorted: products as one each, without the files they name."""
    # A STAC item that names no image is none.
    found, listed = [], sorted(folder.iterdir())
    metadata = _landsats_in(folder)
    owned: set[Path] = set()
    for path in listed:
        if path.name.startswith("."):
            continue
        if path in metadata:
            found.append(path)
        elif LANDSAT.fullmatch(path.name) or _is_of(path, metadata):
            continue
        elif path.suffix.lower() == ".json":
            with contextlib.suppress(UnreadableImage):
                named = [member.file for member in read_stac(path).members]
                owned.update(folder / name for name in named)
                found.append(path)
        elif is_image_in_folder(path) or (
            (path.is_dir() or path.suffix.lower() == ".zip") and is_product(path)
        ):
            found.append(path)
    return sorted({path for path in found if path not in owned})


def bands_in_folder(folder: Path) -> list[Path]:
    """Return the files of bands in a folder, in their order; none where not all images are of one scene."""
    with contextlib.suppress(OSError, ValueError):
        images = [] if is_zarr(folder) else images_in_folder(folder)
        # TCI is a picture of three bands.
        named = {p: name for p in images if (name := band_name(p) or "TCI") != "TCI"}
        heads = {path.stem.upper().rpartition(name)[0] for path, name in named.items()}
        if len(heads) == 1 and all(path.name.upper().startswith(tuple(heads)) for path in images):
            return sorted(named, key=lambda path: (len(named[path]), named[path]))
    return []
