"""Names by which files and folders are taken for images: in a folder, and by the window."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from napari_restore._plain_files import open_file

RAW_SUFFIXES: Final = frozenset(
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef "
    ".raf .raw .rw2 .rwl .sr2 .srf .srw .x3f".split()
)
"""Of LibRaw. ENVI's flat files are called .raw as well."""

IMAGE_SUFFIXES: Final = RAW_SUFFIXES | frozenset(
    ".tif .tiff .tf8 .btf .jp2 .j2k .jpc .j2c .jpx .vrt .img .bil .bip .bsq .ntf .nitf .pix .sdat "
    ".png .apng .jpg .jpeg .jpe .jfif .mpo .webp .bmp .gif .tga .pfm .pgm .ppm .pnm .rgb .sgi "
    ".hdr .exr .heic .heif .hif .avif .zarr".split()
)
"""In lower case. A file that is named is opened whatever its suffix."""

READ_SUFFIXES: Final = IMAGE_SUFFIXES | frozenset(
    ".asc .dat .dem .dt0 .dt1 .dt2 .gpkg .grb .grb2 .grd .grib .grib2 .kro .nc .rst .rsw "
    ".sg-grd-z .xyz".split()
)
"""Those, and those of rasters that other files have as well: the window offers to open them, but in
a folder they are passed over. `napari.yaml` has the same."""

PRODUCT_PATTERNS: Final = ("*.json", "*.txt", "*.xml", "*.zip")
"""Names that products of satellites may have, for the window, which asks what is one.

npe2 (0.10) makes patterns lower case, but of a name only the suffix: ``*_MTL.txt`` would fit none.
"""

VECTOR_SUFFIXES: Final = frozenset(
    ".shp .shx .dbf .shz .gpkg .kml .kmz .gml .fgb .gpx .dxf .tab .mif .gdb .sqlite .geojson .geojsonl "
    ".geojsons .topojson .geoparquet .osm".split()
)
"""Of files of shapes. A .gpkg may have a raster."""

ZARR_MARKERS: Final = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
"""Files at the top of a zarr: the folder that contains one of them is an image."""


_BAND_NAME = re.compile(r"(?:^|[_.-])((?:SR_|ST_)?B(?:AND)?_?\d{1,2}A?|TCI)(?=[_.-]|$)", re.I)


def band_name(path: Path) -> str | None:
    """Return the band in a file name: ``…_B04_10m.jp2`` → B04."""
    matches = _BAND_NAME.findall(path.stem)
    return matches[-1].upper() if matches else None


def is_zarr(path: Path) -> bool:
    """Return whether `path` is a folder with the metadata of a zarr."""
    return path.is_dir() and any((path / name).is_file() for name in ZARR_MARKERS)


def is_image_in_folder(path: Path) -> bool:
    """Return whether `path`, found in a folder, is taken for an image."""
    # Hidden files are not, nor is a .hdr that describes another file.
    suffix = path.suffix.lower()
    if path.name.startswith(".") or suffix not in IMAGE_SUFFIXES:
        return False
    if not path.is_file():
        return is_zarr(path)
    return suffix != ".hdr" or _is_radiance(path)


def _is_radiance(path: Path) -> bool:
    """Return whether a file begins as pictures of Radiance do."""
    try:
        with open_file(path) as file:
            return file.read(2) == b"#?"
    except OSError:
        return True  # opening it will say why
