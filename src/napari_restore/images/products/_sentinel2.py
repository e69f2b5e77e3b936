"""Sentinel-2: the SAFE folder of a product of Level-1C or Level-2A, or the zip of one.

Source: ESA, Sentinel-2 Products Specification Document 14 and 15. Reflectance is (value + offset) /
quantification; the offset is there from processing baseline 04.00 on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

from napari_restore.errors import UnreadableImage
from napari_restore.images.files.trees import FolderTree, Tree, ZipTree
from napari_restore.images.files.xml import elements_named, parse_xml
from napari_restore.images.products.product import (
    Acquisition,
    Product,
    ProductFile,
    number,
    with_files,
)

METADATA = ("MTD_MSIL1C.xml", "MTD_MSIL2A.xml")
TILE = "MTD_TL.xml"
RESOLUTIONS = {
    "B01": 60, "B02": 10, "B03": 10, "B04": 10, "B05": 20, "B06": 20, "B07": 20, "B08": 10,
    "B8A": 20, "B09": 60, "B10": 60, "B11": 20, "B12": 20,
}  # fmt: skip
"""Metres of the bands of Level-1C, in the order of their ids in the metadata."""
_NAME = re.compile(r".*_(B\d[\dA]|AOT|WVP|SCL|TCI)(?:_(\d\d)m)?")
_PICTURE = "TCI"
"""A picture of 8 bits made of three bands."""


def read_sentinel2(path: Path) -> Product:
    """Return the product in a SAFE folder or a zip; raises `UnreadableImage`."""
    tree: Tree
    if path.is_dir():
        tree, metadata = FolderTree(path), [path / name for name in METADATA]
        found = [each.name for each in metadata if each.is_file()]
    else:
        tree = ZipTree(path)
        found = [name for name in tree.names if PurePosixPath(name).name in METADATA]
    if len(found) != 1:
        count = "no" if not found else f"{len(found)}"
        raise UnreadableImage(
            f"{path.name} has {count} metadata of a Sentinel-2 product ({' or '.join(METADATA)}).",
            "Name one SAFE folder of Level-1C or Level-2A."
            if found
            else "Download the whole product again.",
        )
    if isinstance(tree, ZipTree):
        tree.top = found[0].removesuffix(PurePosixPath(found[0]).name)
        return _product(path, tree, PurePosixPath(found[0]).name, (path,))
    return _product(path, tree, found[0], (path / found[0],))


def is_sentinel2_zip(path: Path) -> bool:
    """Return whether a zip has the metadata of a product; raises `UnreadableImage` for a bad one."""
    return any(PurePosixPath(name).name in METADATA for name in ZipTree(path).names)


def _product(path: Path, tree: Tree, metadata: str, files: tuple[Path, ...]) -> Product:
    root = _parsed(tree, metadata)
    names = list(dict.fromkeys(_texts(root, "IMAGE_FILE", "IMAGE_FILE_2A")))
    granules = {str(PurePosixPath(name).parent).partition("/IMG_DATA")[0] for name in names}
    if len(granules) != 1:
        count = "no granule" if not granules else f"{len(granules)} granules"
        raise UnreadableImage(
            f"{path.name} has {count} whose files of bands are named.",
            "Products of one granule are read, as ESA has made them since 2016-12-06.",
        )
    is_level2 = metadata == METADATA[1]
    quantity, offset = (
        ("BOA_QUANTIFICATION_VALUE", "BOA_ADD_OFFSET")
        if is_level2
        else ("QUANTIFICATION_VALUE", "RADIO_ADD_OFFSET")
    )
    steps = number(next(_texts(root, quantity), None))
    if not steps:
        raise UnreadableImage(
            f"{metadata} of {path.name} does not say how values are scaled ({quantity}).",
            "Download the product again.",
        )
    ids = list(RESOLUTIONS)
    offsets: dict[str, float] = {}
    for element in elements_named(root, offset):
        text, value = element.get("band_id", ""), number(element.text)
        if value is None or not text.isdecimal() or int(text) >= len(ids):
            raise UnreadableImage(
                f"{metadata} of {path.name} has an offset that is no number ({offset}).",
                "Download the product again.",
            )
        offsets[ids[int(text)]] = value
    scales = {
        name: 1 / (number(next(_texts(root, f"{name}_QUANTIFICATION_VALUE"), None)) or 1)
        for name in ("AOT", "WVP")
    }
    scales |= dict.fromkeys(ids, 1 / steps)
    members = tuple(_members(tree, names, scales, offsets))
    if not any(member.is_light for member in members):
        raise UnreadableImage(
            f"{metadata} of {path.name} names no band of light.", "Download the product again."
        )
    there, absent = with_files(members, tree.has)
    wanted = ("PRODUCT_URI", "PROCESSING_LEVEL", "PROCESSING_BASELINE", "GENERATION_TIME")
    tags = {key: text for key in wanted for text in [next(_texts(root, key), "")] if text}
    name = tags.get("PRODUCT_URI", "").removesuffix(".SAFE") or path.name.partition(".")[0]
    azimuth, zenith = _sun(tree, granules.pop())
    nodata = [
        number(next(_texts(each, "SPECIAL_VALUE_INDEX"), None))
        for each in elements_named(root, "Special_Values")
        if next(_texts(each, "SPECIAL_VALUE_TEXT"), "") == "NODATA"
    ]
    return Product(
        path,
        name,
        there,
        Acquisition(
            next(_texts(root, "SPACECRAFT_NAME"), ""),
            next(_texts(root, "PRODUCT_START_TIME"), ""),
            number(next(_texts(root, "Cloud_Coverage_Assessment"), None)),
            azimuth,
            None if zenith is None else 90 - zenith,
        ),
        tags,
        files,
        nodata[0] if nodata else 0.0,
        is_level2,
        absent,
    )


def _members(
    tree: Tree, names: list[str], scales: dict[str, float], offsets: dict[str, float]
) -> Iterator[ProductFile]:
    """Yield the files of bands in the order of their wavelengths, then the others."""
    found = []
    for name in names:
        tree.checked(name)
        match = _NAME.fullmatch(PurePosixPath(name).name)
        if match is None or match[1] == _PICTURE:
            continue
        band, side = match[1], int(match[2] or RESOLUTIONS.get(match[1], 0))
        found.append((band, side, f"{name}.jp2"))
    order = list(RESOLUTIONS)
    found.sort(key=lambda each: order.index(each[0]) if each[0] in order else len(order))
    for band, side, name in found:
        scale = scales.get(band, 1.0)
        offset = offsets.get(band, 0.0) * scale
        yield ProductFile(name, (band,), float(side), (scale,), (offset,), locations=tree)


def _sun(tree: Tree, granule: str) -> tuple[float | None, float | None]:
    """Return mean azimuth and zenith angle of the sun in degrees; None where they are not stated."""
    try:
        root = _parsed(tree, f"{granule}/{TILE}")
    except UnreadableImage:
        return None, None
    angles = next(elements_named(root, "Mean_Sun_Angle"), None)
    if angles is None:
        return None, None
    azimuth, zenith = (
        number(next(_texts(angles, name), None)) for name in ("AZIMUTH_ANGLE", "ZENITH_ANGLE")
    )
    return azimuth, zenith


def _parsed(tree: Tree, name: str) -> Element:
    try:
        return parse_xml(tree.read(name))
    except ValueError:
        raise UnreadableImage(
            f"{PurePosixPath(name).name} of {tree.path.name} is truncated or damaged.",
            "Download the product again.",
        ) from None


def _texts(root: Element, *names: str) -> Iterator[str]:
    return (text for each in elements_named(root, *names) if (text := (each.text or "").strip()))
