"""Opening whatever a user names as an image."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from napari_restore.errors import UnreadableImage
from napari_restore.images._image import Image
from napari_restore.images._reader import Reader
from napari_restore.images._roles import Bands

HEAD_BYTES = 4096
PathLike = str | os.PathLike[str]


@cache
def readers() -> tuple[type[Reader], ...]:
    """All readers of files, the most particular first."""
    from napari_restore.images._gdal import GdalReader
    from napari_restore.images._ome_tiff import OmeTiffReader
    from napari_restore.images._ome_zarr import OmeZarrReader
    from napari_restore.images._radiance import RadianceReader
    from napari_restore.images._raw import RawReader

    found = (GdalReader, OmeTiffReader, OmeZarrReader, RadianceReader, RawReader)
    return tuple(sorted(found, key=lambda reader: -reader.PRIORITY))


def open_image(
    source: PathLike | Sequence[PathLike] | Any,
    *,
    stack: bool = False,
    bands: Bands | None = None,
    sensor: str | None = None,
    select: Sequence[int] | None = None,
    level: int | None = None,
) -> Image:
    """Open an image lazily.

    Parameters
    ----------
    source
        A path; several paths (files side by side on one map grid, or with `stack`
        the bands of one image); an array (H, W) or (H, W, C) of numpy, dask, zarr
        or xarray; or a list of such arrays, the levels of one image.
    stack
        Take several files as the bands of one image.
    bands
        Which band is what, counted from 1: ``"red=4,green=3,blue=2"`` or ``"4,3,2"``.
    sensor
        Name of a preset: band roles, and the value that means no light.
    select
        Take these bands only, counted from 0; see `Image.with_bands`.
    level
        Take this level as the image; see `Image.level_view`.

    Raises
    ------
    UnreadableImage
        Missing, empty, truncated, no image, no permission, or not supported.
    BadParameter
        `bands`, `sensor`, `select` or `level` is not understood.
    """
    if level is not None:
        whole = open_image(source, stack=stack, bands=bands, sensor=sensor, select=select)
        return whole.level_view(level)
    if select is not None:
        whole = open_image(source, stack=stack, bands=bands, sensor=sensor)
        return whole.with_bands(select)
    if isinstance(source, Image):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _open_paths([source], stack, bands, sensor)
    if isinstance(source, (list, tuple)) and source and _all_paths(source):
        return _open_paths(source, stack, bands, sensor)
    from napari_restore.images._array import reader_of_array

    return Image(reader_of_array(source), bands=bands, sensor=sensor)


def _all_paths(items: Sequence[Any]) -> bool:
    return all(isinstance(item, (str, os.PathLike)) for item in items)


def _open_paths(
    paths: Sequence[PathLike], stack: bool, bands: Bands | None, sensor: str | None
) -> Image:
    readers_ = [_reader_of(path) for path in paths]
    names = [str(reader.path) for reader in readers_]
    spec: dict[str, Any] = {"source": names if len(names) > 1 else names[0]}
    if stack:
        spec["stack"] = True
    if bands is not None:
        spec["bands"] = bands if isinstance(bands, (str, dict)) else list(_listed(bands))
    if sensor is not None:
        spec["sensor"] = sensor
    reader: Reader = readers_[0]
    if len(readers_) > 1:
        images = [Image(r, spec={"source": n}) for r, n in zip(readers_, names, strict=True)]
        if stack:
            from napari_restore.images._stack import StackReader

            reader = StackReader(images)
        else:
            from napari_restore.images._mosaic import MosaicReader

            reader = MosaicReader(images)
    return Image(reader, spec=spec, bands=bands, sensor=sensor)


def _listed(bands: Any) -> Any:
    return bands.items() if hasattr(bands, "items") else bands


def _reader_of(given: PathLike) -> Reader:
    text = os.fspath(given)
    if re.match(r"^(https?|s3|gs|az|ftp)://", text) or text.startswith("/vsi"):
        raise UnreadableImage(
            f"{text} is not a file on this computer.", "Download it first and open the copy."
        )
    path = Path(text).expanduser().absolute()
    head = _head_of(path)
    for reader in readers():
        if reader.supports(path, head):
            try:
                opened = reader(path, head)  # type: ignore[call-arg]
            except UnreadableImage as error:
                raise _plainer(error, path, head) from error
            return _upright(opened)
    raise UnreadableImage(
        f"{path.name} is a folder, but no zarr image.", "Name a file, or an OME-Zarr folder."
    )


def _head_of(path: Path) -> bytes:
    """The first bytes of a file, empty for a folder; raises `UnreadableImage`."""
    try:
        if path.is_dir():
            # Asked for its list, a forbidden folder says so.
            os.scandir(path).close()
            return b""
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError as error:
        raise UnreadableImage(f"There is no file {path}.", _similar(path)) from error
    except PermissionError as error:
        raise UnreadableImage(
            f"{path.name} may not be read.", "Ask its owner for permission to read it."
        ) from error
    except OSError as error:
        raise UnreadableImage(
            f"{path.name} cannot be read: {error.strerror}.", "Check the disk or the connection."
        ) from error
    if not head:
        raise UnreadableImage(f"{path.name} is empty.", "Copy or download it again.")
    return head


def _similar(path: Path) -> str:
    try:
        near = difflib.get_close_matches(path.name, os.listdir(path.parent), 1)
    except OSError:
        return f"There is no folder {path.parent} that may be read, either."
    return f"Did you mean {near[0]}?" if near else "Check the spelling."


def _plainer(error: UnreadableImage, path: Path, head: bytes) -> UnreadableImage:
    """A plainer sentence than GDAL's where the content tells that this is no image."""
    if "not recognized as being in a supported" not in error.message:
        return error
    try:
        head.rstrip(b"\0").decode("utf-8")
    except UnicodeDecodeError as decoding:
        # The head may end within a character.
        is_text = decoding.start > len(head) - 4
    else:
        is_text = b"\0" not in head
    if is_text:
        return UnreadableImage(
            f"{path.name} is text, not an image.", "Name an image, for example a GeoTIFF."
        )
    return UnreadableImage(
        f"{path.name} is no image of a known format.",
        "GeoTIFF, JPEG 2000, PNG, JPEG, WebP, OME-TIFF, OME-Zarr, RAW and many others are read.",
    )


def _upright(reader: Reader) -> Reader:
    """Turned as its orientation tag says; a place on the map goes before a camera's tag."""
    if reader.profile.orientation == 1:
        return reader
    if reader.georeference is not None:
        reader.notes.append("The orientation tag is ignored: the georeference tells where up is.")
        return reader
    from napari_restore.images._oriented import OrientedReader

    return OrientedReader(reader)
