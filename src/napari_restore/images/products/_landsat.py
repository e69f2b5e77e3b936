"""Landsat: the file of metadata (MTL, as text, XML or JSON) of a product, and the files it names.

Source: USGS, Landsat Collection 2 Level-1 and Level-2 data format control books.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from napari_restore._json_shapes import parse_json
from napari_restore.errors import UnreadableImage
from napari_restore.images.files.trees import FolderTree, read_metadata
from napari_restore.images.files.xml import parse_xml
from napari_restore.images.products.product import Acquisition, Product, ProductFile, number

Groups = Mapping[str, Mapping[str, str]]
"""Group → key → value; keys of one name in several groups differ."""
METADATA = re.compile(r".+_MTL\.(txt|xml|json)", re.IGNORECASE)
_FILE = re.compile(r"FILE_NAME_(?:BAND_)?(\w+)")
_FILL = 0.0


def read_landsat(path: Path) -> Product:
    """Return the product that the file `path` describes; raises `UnreadableImage`."""
    groups = _groups(path)
    contents = groups.get("PRODUCT_CONTENTS") or groups.get("PRODUCT_METADATA") or {}
    image = groups.get("IMAGE_ATTRIBUTES") or contents
    name = contents.get("LANDSAT_PRODUCT_ID") or path.stem[: -len("_MTL")]
    level = contents.get("PROCESSING_LEVEL") or contents.get("DATA_TYPE", "")
    is_level2 = level.startswith("L2")
    scaling = (
        ("LEVEL2_SURFACE_REFLECTANCE_PARAMETERS",)
        if is_level2
        else ("LEVEL1_RADIOMETRIC_RESCALING", "RADIOMETRIC_RESCALING")
    )
    numbers = {key: value for group in scaling for key, value in groups.get(group, {}).items()}
    grid = groups.get("PROJECTION_ATTRIBUTES") or contents
    tree = FolderTree(path.parent)
    members: list[ProductFile] = []
    absent: list[str] = []
    for key, file_name in contents.items():
        found = _FILE.fullmatch(key)
        if found is None or not file_name.upper().endswith((".TIF", ".TIFF")):
            continue
        if "/" in file_name:
            raise UnreadableImage(
                f"{path.name} names a band elsewhere: {file_name[:120]}.",
                "Put all files of the product into one folder.",
            )
        band = Path(tree.checked(file_name)).stem.removeprefix(f"{name}_")
        scale, offset = _scale(numbers, found[1])
        member = ProductFile(
            file_name, (band,), _side(grid, band), (scale,), (offset,), locations=tree
        )
        if member.is_light or os.path.lexists(path.parent / file_name):
            members.append(member)
        else:
            # Angles and the parts of a temperature are often not downloaded.
            absent.append(band)
    if not any(member.is_light for member in members):
        raise UnreadableImage(
            f"{path.name} names no band of light.", "Download the product again, with its metadata."
        )
    wanted = ("LANDSAT_PRODUCT_ID", "PROCESSING_LEVEL", "SPACECRAFT_ID", "SENSOR_ID")
    notes = (f"Not there, though its metadata names them: {', '.join(absent)}.",) if absent else ()
    return Product(
        path,
        name,
        tuple(members),
        Acquisition(
            image.get("SPACECRAFT_ID", ""),
            _time(image),
            number(image.get("CLOUD_COVER")),
            number(image.get("SUN_AZIMUTH")),
            number(image.get("SUN_ELEVATION")),
        ),
        {key: value for key in wanted for value in [contents.get(key) or image.get(key)] if value},
        (path,),
        _FILL,
        is_level2,
        notes,
    )


def _groups(path: Path) -> Groups:
    data = read_metadata(path)
    broken = UnreadableImage(
        f"{path.name} is truncated or no metadata of Landsat.", "Download it again."
    )
    try:
        if path.suffix.lower() == ".xml":
            return {
                group.tag: {each.tag: (each.text or "").strip() for each in group}
                for group in parse_xml(data)
            }
        if path.suffix.lower() == ".json":
            (top,) = dict(parse_json(data)).values()
            return {name: {k: str(v) for k, v in group.items()} for name, group in top.items()}
    except (ValueError, TypeError, AttributeError):
        raise broken from None
    groups: dict[str, dict[str, str]] = {}
    group, ended = "", False
    for line in data.decode("utf-8", "replace").splitlines():
        key, equals, value = (part.strip() for part in line.partition("="))
        if key == "END":
            ended = True
            break
        if key == "GROUP":
            group = value
        elif equals and key != "END_GROUP":
            groups.setdefault(group, {})[key] = value.strip('"')
    if not ended or not groups:
        raise broken
    return groups


def _scale(numbers: Mapping[str, str], band: str) -> tuple[float, float]:
    """Return scale and offset of a band, to reflectance or, of thermal bands, to radiance."""
    for kind in ("REFLECTANCE", "RADIANCE"):
        scale = number(numbers.get(f"{kind}_MULT_BAND_{band}"))
        offset = number(numbers.get(f"{kind}_ADD_BAND_{band}"))
        if scale and offset is not None:
            return scale, offset
    return 1.0, 0.0


def _side(grid: Mapping[str, str], band: str) -> float | None:
    """Return the side of a pixel: only the panchromatic band 8 of Landsat 7 to 9 has another one."""
    kind = "PANCHROMATIC" if band.upper() == "B8" else "REFLECTIVE"
    return number(grid.get(f"GRID_CELL_SIZE_{kind}"))


def _time(image: Mapping[str, str]) -> str:
    day, time = image.get("DATE_ACQUIRED", ""), image.get("SCENE_CENTER_TIME", "")
    return f"{day}T{time[:8]}Z" if day and time else day
