"""STAC items: a JSON file that names the files of a scene and says what their bands are.

Source: STAC 1.0 and 1.1 item specification, extensions eo, raster, projection and view.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urljoin, urlsplit

from napari_restore._addresses import without_queries
from napari_restore._json_shapes import parse_json
from napari_restore.errors import OutsideFolder, UnreadableImage, option
from napari_restore.images.files.remote import RemotePath, fetch, is_address
from napari_restore.images.files.trees import (
    LONGEST_METADATA,
    Location,
    Locations,
    is_plain_name,
    read_metadata,
)
from napari_restore.images.products.product import MASKS, Acquisition, Product, ProductFile
from napari_restore.images.values.facts import OpeningNote
from napari_restore.images.values.roles import auxiliary_role

Item = Mapping[str, Any]
_SUFFIXES = (".tif", ".tiff", ".jp2")
_TYPES = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff")
_PICTURES = {"thumbnail", "overview", "visual", "metadata"}
"""Roles of assets that are pictures for people, or no pictures."""
_MASKS = {
    "cloud", "cloud-shadow", "shadow", "snow-ice", "land-water", "water-mask", "saturation",
    "data-mask", "incidence-angle", "azimuth", "sun-azimuth", "sun-elevation", "terrain-shadow",
}  # fmt: skip
"""Roles of assets that show no light."""
_COLOURS = {
    "coastal": "coastal", "blue": "blue", "green": "green", "red": "red", "rededge": "rededge",
    "nir": "nir", "pan": "pan", "swir16": "swir", "swir22": "swir", "lwir": "tir",
    "lwir11": "tir", "lwir12": "tir",
}  # fmt: skip
"""Common name of a band → GDAL's colour interpretation."""
_OFFSET_APPLIED = "earthsearch:boa_offset_applied"


def is_stac_item(path: Path) -> bool:
    """Return whether a JSON file is a STAC item; no error for one that cannot be read."""
    try:
        item = parse_json(read_metadata(path))
    except (UnreadableImage, ValueError):
        return False
    return isinstance(item, dict) and item.get("type") == "Feature" and "stac_version" in item


def read_stac(path: Path, *, allow_outside: bool = False) -> Product:
    """Return the product of an item in a file; raises `UnreadableImage`.

    Its files lie below its folder; with `allow_outside`, to which the user has agreed, elsewhere on
    this computer and at addresses, too. Otherwise using such a one raises `OutsideFolder`.
    """
    return _product(
        path, read_metadata(path), HrefLocations(path, allow_outside=allow_outside), (path,)
    )


def read_stac_at(path: Path) -> Product:
    """Return the product of an item at an address, whose files lie below it, too."""
    remote = cast("RemotePath", path)
    if remote.scheme not in ("http", "https"):
        raise UnreadableImage(
            f"{remote} is a STAC item in a bucket.", "Download it, and open the file."
        )
    data = fetch(remote, LONGEST_METADATA).body
    return _product(path, data, AddressLocations(remote), ())


def _product(path: Path, data: bytes, locations: Locations, metadata: tuple[Path, ...]) -> Product:
    try:
        item = parse_json(data)
        if not isinstance(item, dict):
            raise ValueError("it is no object")
    except ValueError as error:
        raise UnreadableImage(f"{path.name} is no STAC item: {error}.", "Check it.") from None
    properties = _mapping(item.get("properties"))
    is_applied = properties.get(_OFFSET_APPLIED) is True
    members: list[ProductFile] = []
    have: set[str] = set()
    for key, asset in _mapping(item.get("assets")).items():
        member = _member(str(key), _mapping(asset), properties, locations, is_applied=is_applied)
        # The same bands may be there in another format.
        if member is not None and have.isdisjoint(member.bands):
            have.update(member.bands)
            members.append(member)
    if not any(member.is_light for member in members):
        raise UnreadableImage(
            f"{path.name} names no GeoTIFF or JPEG 2000 with a band of light.",
            "Name an item whose assets are images.",
        )
    words = [str(properties.get(key, "")) for key in ("platform", "constellation")]
    text = f"{item.get('collection', '')} {item.get('id', '')}".lower()
    baseline = str(properties.get("s2:processing_baseline", ""))
    return Product(
        path,
        str(item.get("id") or path.stem)[:200],
        tuple(members),
        Acquisition(
            words[0] or words[1],
            str(properties.get("datetime") or properties.get("start_datetime") or "")[:32],
            _number(properties.get("eo:cloud_cover")),
            _number(properties.get("view:sun_azimuth")),
            _number(properties.get("view:sun_elevation")),
        ),
        {"PROCESSING_BASELINE": baseline} if baseline else {},
        metadata,
        None,
        any(word in text for word in ("l2a", "l2sp", "_sr", "-sr")),
        (
            *locations.notes,
            *["The offset of Sentinel-2 is in the values already, as the item says."] * is_applied,
        ),
    )


class HrefLocations(Locations):
    """The files that an item names, relative to it, by path or by address."""

    def __init__(self, item: Path, *, allow_outside: bool) -> None:
        self.path, self._allow_outside = item, allow_outside
        self._owners: dict[str, str] = {}
        self._beside: dict[str, None] = {}

    def nearest(self, name: str) -> str:
        own = re.split(r"[/\\]", unquote(re.split("[?#]", name)[0]))[-1]
        # Where two files elsewhere have one name, the file here is that of the first.
        owner = self._owners.setdefault(own, name)
        try:
            self.locate(name)
        except UnreadableImage as error:
            # A file elsewhere on this computer is the user's to allow.
            is_there = isinstance(error, OutsideFolder) and not is_address(name)
            with contextlib.suppress(UnreadableImage):
                if owner == name and not is_there and self.locate(own):
                    self._beside[own] = None
                    note = "Files beside it are read, not those it names elsewhere: {}."
                    self.notes = (OpeningNote(note.format(", ".join(self._beside))),)
                    return own
        return name

    def locate(self, name: str) -> Location | str:
        if is_address(name):
            self._ask(without_queries(name))
            return name
        path = Path(unquote(urlsplit(name).path)) if name.startswith("file://") else Path(name)
        folder = self.path.parent
        try:
            real = (folder / path).resolve()
        except (OSError, ValueError):
            raise self.missing(repr(name)) from None
        if not real.is_file():
            raise self.missing(name)
        if not real.is_relative_to(folder.resolve()):
            self._ask(str(path))
        return folder / path

    def _ask(self, name: str) -> None:
        if not self._allow_outside:
            raise OutsideFolder(
                f"{self.path.name} takes pixels from {name}, which lies outside its own folder.",
                f"If you trust it, allow that: {option('allow_outside', True)}.",
            )


class AddressLocations(Locations):
    """The files that an item at an address names below the folder that it lies in."""

    # Only what the user named may be asked for: other addresses need an item in a file, and
    # consent.
    def __init__(self, item: RemotePath) -> None:
        self.path = cast("Path", item)
        self._address = item.address

    def locate(self, name: str) -> Location | str:
        address = urljoin(self._address, name)
        home = urlsplit(urljoin(self._address, "."))
        parts = urlsplit(address)
        below = parts.path.removeprefix(home.path)
        is_here = parts[:2] == home[:2] and parts.path.startswith(home.path)
        if not is_here or not is_plain_name(unquote(below)):
            raise UnreadableImage(
                f"{self.path} takes pixels from {without_queries(address)}, which lies elsewhere.",
                "If you trust it, download the item and open the file with "
                f"{option('allow_outside', True)}.",
            )
        return address


def _member(
    key: str, asset: Item, properties: Item, locations: Locations, *, is_applied: bool
) -> ProductFile | None:
    """Return the file of an asset; None for what is no raster of values."""
    href, kind = str(asset.get("href", "")), str(asset.get("type", ""))
    roles = {str(role) for role in _sequence(asset.get("roles"))}
    is_raster = kind.startswith(_TYPES) or urlsplit(href).path.lower().endswith(_SUFFIXES)
    if not is_raster or not href or roles & _PICTURES:
        return None
    described = [
        [_mapping(each) for each in _sequence(asset.get(name))]
        for name in ("bands", "eo:bands", "raster:bands")
    ]
    count = max(1, *map(len, described))
    # What an asset says holds for all its bands.
    bands = [
        {
            **asset,
            **{k: v for each in described if number < len(each) for k, v in each[number].items()},
        }
        for number in range(count)
    ]
    names = tuple(
        str(band.get("name") or (key if count == 1 else f"{key}_{number}"))[:200]
        for number, band in enumerate(bands, 1)
    )
    if roles & _MASKS and auxiliary_role(names[0]) is None:
        # What shows no light must be known as that by its name.
        names = tuple(f"{name} mask" for name in names)
    other = auxiliary_role(names[0])
    is_light, is_mask = other is None, other in MASKS
    scales, offsets, waves, colours = [], [], [], []
    for band in bands:
        scale = _number(_first(band, "scale", "raster:scale"))
        offset = _number(_first(band, "offset", "raster:offset"))
        scales.append(scale if scale and not is_mask else 1.0)
        offsets.append(offset if offset and not is_mask and not (is_light and is_applied) else 0.0)
        micrometres = _number(_first(band, "center_wavelength", "eo:center_wavelength"))
        waves.append(micrometres * 1000 if micrometres and is_light else None)
        common = str(_first(band, "common_name", "eo:common_name"))
        colours.append(_COLOURS.get(common, "undefined") if is_light else "undefined")
    return ProductFile(
        locations.nearest(href),
        names,
        _resolution(bands[0], asset, properties),
        tuple(scales),
        tuple(offsets),
        tuple(waves),
        tuple(colours),
        locations,
    )


def _resolution(band: Item, asset: Item, properties: Item) -> float | None:
    """Return the side of a pixel as the item states it: of the band, the grid, or at the ground."""
    side = _number(_first(band, "spatial_resolution", "raster:spatial_resolution"))
    grid = _sequence(_first(asset, "proj:transform"))
    candidates = (side, _number(grid[0]) if grid else None, asset.get("gsd"), properties.get("gsd"))
    return next((value for each in candidates if (value := _number(each)) and value > 0), None)


def _first(mapping: Item, *keys: str) -> Any:
    return next((mapping[key] for key in keys if mapping.get(key) is not None), None)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and abs(value) < 1e12 else None


def _mapping(value: Any) -> Item:
    return value if isinstance(value, dict) else {}


def _sequence(value: Any) -> Sequence[Any]:
    return value[:4096] if isinstance(value, list) else []
