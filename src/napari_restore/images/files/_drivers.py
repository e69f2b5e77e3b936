"""GDAL's drivers that may open an image, and the configuration they run under.

A driver is here only if it writes nothing beside a source it reads, and if the files it opens are
known before it opens them: the file itself, files beside it with names made from its own, or files
that `_references` has checked. docs/decisions/0025-what-an-image-may-open.md explains why each of
the others is not.
"""

from __future__ import annotations

import tempfile

DRIVERS = (
    "GTiff", "JPEG", "PNG", "WEBP", "JP2OpenJPEG", "VRT", "ENVI", "HFA", "EHdr", "BMP", "GIF",
    "BIGGIF", "PNM", "SGI", "TGA", "NITF", "PCIDSK", "RMF", "SAGA", "RST", "VICAR", "ISCE",
    "DTED", "USGSDEM", "AAIGrid", "GRASSASCIIGrid", "XYZ", "netCDF", "GRIB", "ROI_PAC", "GSAG",
    "GSBG", "GS7BG", "RRASTER", "LAN", "KRO", "GPKG",
)  # fmt: skip

NOWHERE = "http://127.0.0.1:9"
"""A proxy address where no server answers (the port of "discard"): requests to it reach nothing."""

PROXY_EXCEPTIONS = ("NO_PROXY", "no_proxy")
"""Variables with hosts that libcurl requests past every proxy; GDAL has no option for them."""

OPTIONS = {
    # Sidecars are read; nothing here dirties a dataset, so none is written.
    "GDAL_PAM_ENABLED": "YES",
    "GDAL_NUM_THREADS": "1",
    # Decoded chunks lie in our own cache; GDAL's needs only a few blocks.
    "GDAL_CACHEMAX": 64,
    "GDAL_ALLOW_LARGE_LIBJPEG_MEM_ALLOC": "YES",
    "GDAL_MAX_RAW_BLOCK_CACHE_SIZE": "16777216",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    # No file that is opened names an address (`_references`); if one did, it would not be reached.
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "/nowhere",
    "GDAL_HTTP_PROXY": NOWHERE,
    "GDAL_HTTPS_PROXY": NOWHERE,
    "GDAL_HTTP_MAX_RETRY": "0",
    "GDAL_HTTP_CONNECTTIMEOUT": "1",
    "GDAL_HTTP_TIMEOUT": "1",
    # Folder where large GIFs are unpacked; else it would be the working directory.
    "CPL_TMPDIR": tempfile.gettempdir(),
}

WITHOUT_SIDECARS = {"GDAL_PAM_ENABLED": "NO", "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
"""Further options with which a driver ignores all files beside a file."""
