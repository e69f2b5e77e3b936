"""Coordinate systems out of the text of files that may come from anybody."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rasterio.crs import CRS

LONGEST = 1 << 16
"""Characters of a description that is parsed."""
_CODE = re.compile(
    r"(?:urn:ogc:def:crs:|https?://www\.opengis\.net/def/crs/)?(EPSG|ESRI|OGC|IGNF|IAU_\d+)[:/][\w.]*?[:/]?(\w+)",
    re.IGNORECASE,
)
_FILES = re.compile(
    r"PARAMETERFILE|PROJ4_GRIDS|METHOD\s*[\[(]\s*\"\s*PROJ\b|grids\s*=\s*(?!@null\b)|\"parameterFile\"|\"PROJ[ -]"
    r"|EXTENSION\s*[\[(]\s*\"PROJ4\"\s*,\s*\"(?!\+proj=\w+"
    r"(?: \+(?:\w+=[\w.+-]+|nadgrids=@null|no_defs|wktext|south|over|type=crs))*\s*\")",
    re.IGNORECASE,
)
"""What names a file in WKT or PROJJSON: PROJ opens it when it parses the text, or transforms a point."""


def system_of(text: str) -> CRS:
    """Return the system of a code, an OGC URN or URL, WKT or PROJJSON; opens no file and asks no server.

    Raises `ValueError` for any other text, also for a PROJ string, and for a description that names files.
    """
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    text = text.strip()
    try:
        if found := _CODE.fullmatch(text):
            return CRS.from_user_input(f"{found[1]}:{found[2]}".upper())
        if len(text) > LONGEST or not re.match(r"\{|[A-Za-z0-9_]+\s*[\[(]", text):
            raise ValueError("it is neither a code nor WKT")
        # Letters of JSON may be written by their codes.
        plain = json.dumps(json.loads(text), ensure_ascii=False) if text[0] == "{" else text
        if _FILES.search(plain):
            raise ValueError("it names files")
        return CRS.from_user_input(plain)
    except (CRSError, RecursionError) as error:
        raise ValueError(str(error)) from error
