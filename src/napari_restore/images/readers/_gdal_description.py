"""Metadata of a GDAL dataset, as this package's types."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_restore._plain_files import read_file
from napari_restore.images._georeference import (
    IDENTITY,
    ControlPoint,
    Georeference,
    Transform,
    units_of,
)
from napari_restore.images._profile import Masks, PhysicalGrid, Profile, Tags
from napari_restore.images._system import checked_system
from napari_restore.images.files import tiff
from napari_restore.images.files.descriptions import (
    dots_in,
    dots_per_inch,
    grid_in,
    is_structure,
    resolution_in,
)
from napari_restore.images.files.exif import PhotoTags, colours_in_exif
from napari_restore.images.files.xml import LONGEST, parse_xml
from napari_restore.images.values.facts import resolve
from napari_restore.images.values.roles import is_named_light
from napari_restore.images.values.sensors import detect_sensor, is_level2, is_reflectance_product
from napari_restore.images.values.validity import Nodata
from napari_restore.images.values.working_space import (
    HDR_CURVES,
    PROFILE,
    named_profile,
    profile_of_code_points,
    profile_of_gamma,
    settled_colours,
    srgb_profile,
)

PHOTO_DRIVERS = ("JPEG", "PNG", "WEBP", "GTiff")
GIF = ("GIF", "BIGGIF")
AUXILIARY = ".aux.xml"
_MEANING = ("NoDataValue", "ColorInterp", "ColorTable", "Scale", "Offset")
_STRUCTURE = ("IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "SUBDATASETS", "RPC", "COLOR_PROFILE")


def colours_of(dataset: Any) -> list[str]:
    """Return the colour interpretation of all bands."""
    # GDAL writes the fourth band of 8-bit files as alpha by default: of NAIP's, near infrared.
    names = [colour.name for colour in dataset.colorinterp]
    texts = [text or "" for text in dataset.descriptions]
    return [
        "undefined" if name == "alpha" and is_named_light(text, texts) else name
        for name, text in zip(names, texts, strict=True)
    ]


def mask_kind(dataset: Any, nodata: Nodata, colours: Sequence[str]) -> Masks:
    """Return how the file marks invalid pixels; `colours` as in `colours_of`."""
    from rasterio.enums import MaskFlags

    flags = dataset.mask_flag_enums
    if any(MaskFlags.per_dataset in f and MaskFlags.alpha not in f for f in flags):
        return "mask"
    if "alpha" in colours:
        return "alpha"
    # As text, in which NaN is equal to itself.
    if has_band_masks(dataset) or len(set(map(str, nodata))) > 1:
        return "bands"
    return "none" if nodata[0] is None else "nodata"


def has_band_masks(dataset: Any) -> bool:
    """Return whether bands have masks of their own, perhaps only some of them."""
    from rasterio.enums import MaskFlags

    shared = {MaskFlags.all_valid, MaskFlags.nodata, MaskFlags.alpha, MaskFlags.per_dataset}
    return any(not shared & set(flags) for flags in dataset.mask_flag_enums)


def _creation(dataset: Any) -> Mapping[str, Any]:
    """Return the options with which the file could be made; none where rasterio knows them not."""
    # It raises an error for colours that it has no name for, as those of CMYK photos.
    with contextlib.suppress(ValueError):
        return dict(dataset.profile)
    return {}


def georeference_of(dataset: Any) -> Georeference | None:
    """Return the georeference of the dataset; None if it has none."""
    crs = dataset.crs
    gcps, gcps_crs = dataset.gcps
    rpcs = tags_of(dataset, ns="RPC") or None
    six = _six(dataset)
    transform: Transform | None = None if six == IDENTITY or not _has_area(six) else six
    if transform is None and crs is not None and not gcps and not rpcs:
        transform = IDENTITY
    if crs is None and transform is None and not gcps and not rpcs:
        return None
    name = Path(dataset.name).name
    return Georeference(
        crs_wkt=checked_system(crs.to_wkt(), name) if crs else None,
        transform=transform,
        gcps=tuple(
            ControlPoint(p.row, p.col, p.x, p.y, p.z, p.id or "", p.info or "") for p in gcps
        ),
        gcps_crs_wkt=checked_system(gcps_crs.to_wkt(), name) if gcps and gcps_crs else None,
        rpcs=rpcs,
        area_or_point=tags_of(dataset).get("AREA_OR_POINT", "Area"),
        units=units_of(crs),
    )


def _six(dataset: Any) -> Transform:
    """Return the numbers of the transform."""
    # Of a PNM without a world file GDAL gives what happens to be in memory.
    if dataset.driver == "PNM":
        path = Path(dataset.name)
        if not any(path.with_suffix(suffix).is_file() for suffix in (".wld", ".WLD")):
            return IDENTITY
    return tuple(dataset.transform)[:6]


def _has_area(six: Transform) -> bool:
    area = six[0] * six[4] - six[1] * six[3]
    return all(math.isfinite(value) for value in (*six, area)) and area != 0


def notes_on_place(dataset: Any, georeference: Georeference | None) -> list[str]:
    """Return what the user should know of the georeference."""
    notes = []
    if not _has_area(_six(dataset)):
        notes.append(
            "Its transform is not finite, or gives pixels no area, and was ignored: it has no place."
        )
    if georeference and not georeference.is_placed and georeference.gcps:
        notes.append("The image is located by ground control points only.")
    return notes


def disputes_of(dataset: Any, path: Path, photo: PhotoTags, head: bytes) -> list[str]:
    """Return notes on what the file itself says, and files beside it say differently."""
    notes = list(photo.notes)
    imagery = tags_of(dataset, ns="IMAGERY")
    if _is_no_time(imagery):
        time = _time_of_metadata(tags_of(dataset, ns="IMD")).get(_TIME)
        by = f"DATE_ACQUIRED says {time}" if time else "no other is known"
        notes.append(f"Its time {imagery[_TIME]} stands for none and is left out: {by}.")
    own = tiff.tags_in(path, head).get(tiff.GDAL_NODATA)
    with contextlib.suppress(OSError, ValueError):
        beside = Path(f"{path}.aux.xml")
        if own is not None and beside.is_file() and dataset.nodata is not None:
            inside = float(bytes(own).strip(b"\0 ").decode("ascii", "replace"))
            claims = [(beside.name, float(dataset.nodata)), ("its tags", inside)]
            notes += resolve(claims).disputes("nodata", "{:g}".format)
    for suffix in (".tfw", ".tifw", ".wld") if tiff.is_tiff(head) else ():
        with contextlib.suppress(OSError, ValueError):
            beside = path.with_suffix(suffix)
            a, d, b, e, x, y = map(float, read_file(beside, 4096).split())
            # A world file has the centre of the first pixel.
            placed = (a, b, x - (a + b) / 2, d, e, y - (d + e) / 2)
            if not np.allclose(placed, _six(dataset), rtol=1e-6, atol=abs(a) * 0.01):
                notes.append(f"Its place is that of its own tags, not of {beside.name}.")
    return notes


def bits_of(dataset: Any) -> int | None:
    """Return the bits of an integer where they are fewer than those of its type."""
    if not str(dataset.dtypes[0]).startswith("uint"):
        return None
    bits = tags_of(dataset, 1, ns="IMAGE_STRUCTURE").get("NBITS", "")
    return int(bits) if bits.isdigit() else None


def largest_of_pnm(head: bytes) -> int | None:
    """Return the value that is white in a PGM or PPM ("maxval"); None where its header has none."""
    found = re.match(
        rb"P[56](?:\s+|#[^\n]*\n)+\d+(?:\s+|#[^\n]*\n)+\d+(?:\s+|#[^\n]*\n)+(\d{1,5})\s", head
    )
    return int(found[1]) if found else None


def bands_of(dataset: Any) -> int:
    """Return the number of bands; of an animated GIF, whose frames GDAL takes for bands, 1."""
    return 1 if dataset.driver in GIF else int(dataset.count)


def files_beside(dataset: Any) -> list[Path]:
    """Return the files beside the pixels of `dataset` that say what these are, those of a VRT's sources too."""
    listed = [Path(file) for file in dataset.files]
    if dataset.driver == "VRT":
        # GDAL lists the sources, and not what lies beside them.
        named = [Path(f"{file}{suffix}") for file in listed for suffix in (".msk", AUXILIARY)]
        named += [file.with_suffix(".hdr") for file in listed]
        listed += [file for file in named if file not in listed and file.is_file()]
        return listed[1:]
    return [file for file in listed[1:] if file.name.lower().endswith((".msk", ".hdr", AUXILIARY))]


def meaning_of_bands(auxiliary: Path) -> str:
    """Return what an ``.aux.xml`` says of the values of bands; "" for others, or where it is damaged or gone."""
    try:
        root = parse_xml(read_file(auxiliary, LONGEST))
    except (OSError, ValueError):
        return ""
    parts = [(band.get("band"), part) for band in root.iter("PAMRasterBand") for part in band]
    # Programs that show the image write statistics into it, too.
    said = [(n, p.tag, p.text, [e.attrib for e in p]) for n, p in parts if p.tag in _MEANING]
    said += [(None, "", e.text, []) for e in root.iter("MDI") if e.get("key") == "NODATA_VALUES"]
    return str(sorted(map(str, said))) if said else ""


def is_bitmap(dataset: Any) -> bool:
    """Return whether pixels are single bits, 0 black and 1 white: a mask, kept as 0 and 1."""
    if bits_of(dataset) != 1:
        return False
    if dataset.colorinterp[0].name != "palette":
        return True
    colours = dataset.colormap(1)
    return [colours.get(i) for i in (0, 1)] == [(0, 0, 0, 255), (255, 255, 255, 255)]


def is_white_zero(dataset: Any) -> bool:
    """Return whether 0 is white and the largest value black (TIFF 6.0: WhiteIsZero)."""
    # GDAL gives the stored values, and a palette of its own that the file does not have.
    is_unsigned = str(dataset.dtypes[0]).startswith("uint")
    return is_unsigned and "MINISWHITE" in tags_of(dataset, ns="IMAGE_STRUCTURE")


def was_cmyk(dataset: Any) -> bool:
    """Return whether the file has CMYK inks, also where GDAL returns RGB (JPEG)."""
    colour_space = tags_of(dataset, ns="IMAGE_STRUCTURE").get("SOURCE_COLOR_SPACE", "")
    return dataset.colorinterp[0].name == "cyan" or colour_space in ("CMYK", "YCbCrK")


def is_for_hdr(photo: PhotoTags) -> bool:
    """Return whether the values are said to be for an HDR screen."""
    return any(curve in HDR_CURVES for curve in photo.code_points[1:])


def colour_profile(dataset: Any, photo: PhotoTags, bands: int) -> tuple[bytes | None, list[str]]:
    """Return the ICC profile of the colours, None for sRGB, and notes."""
    # Numbers come before all others, unless they name what we do not know (PNG, third edition,
    # 4.3). A profile of inks does not describe the RGB they were converted to.
    named = colours_in_exif(photo.exif) if bands >= 3 else []
    others = bool(photo.code_points or photo.icc or photo.gamma)
    if was_cmyk(dataset) or not (others or any(name != "sRGB" for _, name in named)):
        return None, []
    srgb = srgb_profile(1 if bands < 3 else 3)
    numbers = profile_of_code_points(*photo.code_points, bands) if photo.code_points else None
    own = [("cICP", numbers), (PROFILE, photo.icc)]
    if is_for_hdr(photo) and numbers is None:
        return settled_colours(own, bands)
    exif = [(by, srgb if name == "sRGB" else named_profile(name)) for by, name in named]
    gamma = profile_of_gamma(photo.gamma, bands) if photo.gamma else None
    return settled_colours([*own, ("gAMA and cHRM", gamma), *exif], bands)


def profile_of(
    dataset: Any,
    photo: PhotoTags,
    names: list[str],
    kind: Masks,
    nodata: Nodata,
    georeference: Georeference | None,
    icc: bytes | None,
) -> Profile:
    """Return all metadata that an export carries; `names` are the colour interpretations after expansion."""
    tags = _tags(dataset)
    palette = dataset.colorinterp[0].name == "palette" and not is_bitmap(dataset)
    white_zero = is_white_zero(dataset)
    expanded = len(names) != dataset.count or palette or white_zero
    structure = tags_of(dataset, ns="IMAGE_STRUCTURE")
    creation = _creation(dataset)
    photometric = structure.get("SOURCE_COLOR_SPACE") or creation.get("photometric")
    if expanded:
        per_band: dict[str, Any] = {
            "descriptions": (None,) * len(names),
            "wavelengths": (None,) * len(names),
        }
    else:
        per_band = {
            "descriptions": _texts(dataset, "descriptions"),
            "scales": tuple(dataset.scales),
            "offsets": tuple(dataset.offsets),
            "units": _texts(dataset, "units"),
            "band_tags": tuple(_tags(dataset, band) for band in dataset.indexes),
            "wavelengths": tuple(_wavelength(dataset, band) for band in dataset.indexes),
        }
    placed = georeference is not None
    name = str(dataset.name)
    grid = None if placed else _grid(tags.get("", {}))
    return Profile(
        driver=dataset.driver,
        nodata=None if expanded or kind == "bands" else nodata[0],
        colorinterp=tuple(names),
        tags=tags,
        masks=kind,
        # Of floats the quotient, multiplied again, would not always be what was there.
        premultiplied=photo.premultiplied and str(dataset.dtypes[0]).startswith("uint"),
        icc=icc,
        exif=photo.exif,
        xmp=photo.xmp,
        iptc=photo.iptc,
        comments=photo.comments,
        orientation=photo.orientation,
        resolution=photo.resolution or dots_per_inch(grid) or resolution_in(tags.get("", {})),
        grid=grid,
        compression=_lower(dataset.compression),
        tiled=bool(creation.get("tiled")),
        block=tuple(dataset.block_shapes[0]),
        interleave=_lower(dataset.interleaving),
        photometric=str(photometric).lower() if photometric else None,
        bits=None if expanded and not white_zero else bits_of(dataset),
        is_display=dataset.driver in PHOTO_DRIVERS and not placed and bool(icc or photo.exif),
        is_reflectance=is_reflectance_product(name, tags)
        or is_level2(name, per_band["descriptions"]),
        sensor=detect_sensor(name, tags),
        **per_band,
    )


def _grid(tags: Mapping[str, str]) -> PhysicalGrid | None:
    """Return the physical size of pixels in the description of a TIFF."""
    text = tags.get("TIFFTAG_IMAGEDESCRIPTION", "")
    return grid_in(text, dots_in(tags)) if is_structure(text) else None


def tags_of(dataset: Any, band: int | None = None, *, ns: str = "") -> dict[str, str]:
    """Return the tags of a namespace; {} where one is not UTF-8, which rasterio cannot read."""
    arguments = {"ns": ns} if ns else {}
    with contextlib.suppress(UnicodeDecodeError):
        return dict(dataset.tags(band, **arguments) if band else dataset.tags(**arguments))
    return {}


def _texts(dataset: Any, name: str) -> tuple[str | None, ...]:
    """Return one text per band; None for all where one is not UTF-8."""
    with contextlib.suppress(UnicodeDecodeError):
        return tuple(getattr(dataset, name))
    return (None,) * int(dataset.count)


def _lower(value: Any) -> str | None:
    """Return the name of one of rasterio's enumerations, or its text if it has no name."""
    return str(getattr(value, "name", value)).lower() if value else None


def _tags(dataset: Any, band: int | None = None) -> Tags:
    """Return tags by namespace, without what describes the encoding or the pixels' statistics."""
    spaces = ["", *(dataset.tag_namespaces(band) if band else dataset.tag_namespaces())]
    by_space: dict[str, dict[str, str]] = {}
    for space in spaces:
        if space in _STRUCTURE:
            continue
        read = tags_of(dataset, band, ns=space)
        current = {k: v for k, v in read.items() if not k.startswith("STATISTICS_")}
        if current:
            by_space[space] = current
    imagery = by_space.get("IMAGERY", {})
    if _is_no_time(imagery):
        time = _time_of_metadata(by_space.get("IMD", {}))
        by_space["IMAGERY"] = {k: v for k, v in imagery.items() if k != _TIME} | time
    return by_space


_TIME = "ACQUISITIONDATETIME"


def _is_no_time(imagery: Mapping[str, str]) -> bool:
    """Return whether the time of acquisition is what GDAL writes where it has found none."""
    return imagery.get(_TIME, "").startswith(("1970-01-01", "0000"))


def _time_of_metadata(values: Mapping[str, str]) -> dict[str, str]:
    """Return the tag of time by the metadata of a Landsat product of before Collection 2."""
    by_name = {key.rpartition(".")[2]: value.strip('"') for key, value in values.items()}
    day, time = by_name.get("DATE_ACQUIRED", ""), by_name.get("SCENE_CENTER_TIME", "")
    return {_TIME: f"{day} {time[:8]}".strip()} if day else {}


def _wavelength(dataset: Any, band: int) -> float | None:
    """Return the centre of a band in nm, from GDAL's IMAGERY tags or ENVI's header."""
    micro = tags_of(dataset, band, ns="IMAGERY").get("CENTRAL_WAVELENGTH_UM")
    band_tags = tags_of(dataset, band)
    with contextlib.suppress(ValueError):
        if micro:
            return float(micro) * 1000
        if "wavelength" in band_tags:
            unit = band_tags.get("wavelength_units", tags_of(dataset).get("wavelength_units", ""))
            value = float(band_tags["wavelength"])
            # Headers without a unit mean micrometres for small numbers.
            micrometres = unit.lower().startswith("micro") or (not unit and value < 100)
            return value * 1000 if micrometres else value
    return None
