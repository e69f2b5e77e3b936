"""Coordinate systems out of the text of files that may come from anybody.

For PROJ such a text is a program: it opens the grids that a text names, some while it parses it. So a
text is judged by a list of what is allowed before anything parses it.
"""

from __future__ import annotations

import json
import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from napari_restore.errors import UnreadableImage

if TYPE_CHECKING:
    from rasterio.crs import CRS

# PROJ would fetch grids, even for systems of its own, where its settings say so.
os.environ.setdefault("PROJ_NETWORK", "OFF")

LONGEST = 1 << 16
"""Characters of a description that is parsed."""
_CODE = re.compile(
    r"(?:urn:ogc:def:crs:|https?://www\.opengis\.net/def/crs/)?(EPSG|ESRI|OGC|IGNF|IAU_\d+)[:/][\w.]*?[:/]?(\w+)",
    re.IGNORECASE | re.ASCII,
)
_WORDS = frozenset(
    "ABRIDGEDTRANSFORMATION ANCHOR ANCHOREPOCH ANGLEUNIT AREA AUTHORITY AXIS AXISMAXVALUE AXISMINVALUE "
    "BASEENGCRS BASEGEODCRS BASEGEOGCRS BASEPARAMCRS BASEPROJCRS BASETIMECRS BASEVERTCRS BBOX BEARING "
    "BOUNDCRS CALENDAR CITATION COMPD_CS COMPOUNDCRS CONVERSION CS DATUM DERIVEDPROJCRS DERIVINGCONVERSION "
    "DYNAMIC EDATUM ELLIPSOID ENGCRS ENGINEERINGCRS ENGINEERINGDATUM ENSEMBLE ENSEMBLEACCURACY FRAMEEPOCH "
    "GEOCCS GEODCRS GEODETICCRS GEODETICDATUM GEOGCRS GEOGCS GEOGRAPHICCRS GEOIDMODEL ID IMAGECRS IMAGEDATUM "
    "LENGTHUNIT LINUNIT LOCAL_CS LOCAL_DATUM MEMBER MERIDIAN METADATA METHOD MODEL OPERATIONACCURACY ORDER "
    "PARAMETER PARAMETRICCRS PARAMETRICDATUM PARAMETRICUNIT PDATUM PRIMEM PRIMEMERIDIAN PROJCRS PROJCS "
    "PROJECTEDCRS PROJECTION RANGEMEANING REMARK SCALEUNIT SCOPE SOURCECRS SPHEROID TARGETCRS TDATUM "
    "TEMPORALQUANTITY TIMECRS TIMEDATUM TIMEEXTENT TIMEORIGIN TIMEUNIT TOWGS84 TRF UNIT URI USAGE VDATUM "
    "VELOCITYGRID VERSION VERTCRS VERTCS VERTICALCRS VERTICALDATUM VERTICALEXTENT VERT_CS VERT_DATUM VRF".split()
)
"""Words before brackets in WKT: not those of operations, nor PARAMETERFILE."""
_KEYS = frozenset(
    "$schema abbreviation accuracy anchor anchor_epoch area authority authority_citation axis base_crs bbox "
    "calendar code components conversion conversion_factor coordinate_system datum datum_ensemble "
    "deformation_models direction east_longitude ellipsoid frame_reference_epoch geoid_model id ids "
    "inverse_flattening latitude longitude maximum_value members meridian method minimum_value name "
    "north_latitude parameters prime_meridian radius range_meaning remarks scope semi_major_axis "
    "semi_minor_axis source_crs south_latitude subtype target_crs time_origin transformation type unit uri "
    "usages value version vertical_extent west_longitude".split()
)
_PARAMETER = re.compile(
    r"\+?(?:(?:o_)?(?:lat|lon)_\w+|R(?:_\w+)?|no_\w+|[xyzk]_0|[MWabefhkmnq]|alpha|axis|azi|datum|ellps|es|gamma|"
    r"geoc|guam|lonc|lsat|ns|o_alpha|o_proj|over|path|pm|proj|rf|rot|south|sweep|theta|tilt|title|v?to_meter|"
    r"towgs84|type|v?units|wktext|zone)(?:=[\w.,+-]*)?|\+?nadgrids=@null",
    re.ASCII,
)
"""A word of a PROJ string: none of those whose value is the name of a file."""
_DESCRIPTION = re.compile(r"\{|\w+\s*[\[(]", re.ASCII)
_TOKEN = re.compile(
    r"""\s*(?:(?P<word>\w+)\s*[\[(]|"(?P<text>(?:[^"\0]|"")*)"\s*(?=[,\])]|$)|(?P<bare>[\w.:+-]+)\s*(?=[,\])])"""
    r"""|[\])](?!\s*["\w\[(])|,)\s*""",
    re.ASCII,
)
_EXTENSION = re.compile(r"""\s*"PROJ4"\s*,\s*"([^"]*)"\s*[\])]""")
_OWN = re.compile(r"\s*PROJ(?![_ ]mill$)[\W_]", re.IGNORECASE)
"""A name that PROJ takes for a text of its own, which may name files."""
_NAMED_OWN = {"METHOD", "PROJECTION", "GEOIDMODEL", "MODEL", "method", "geoid_model"}


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
        if not _DESCRIPTION.match(text):
            raise ValueError("it is neither a code nor WKT")
        check_system(text)
        # Letters of JSON may be written by their codes, and keys stand twice: PROJ gets what was judged.
        if text[0] == "{":
            return CRS.from_user_input(json.dumps(json.loads(text), ensure_ascii=False))
        return CRS.from_wkt(text)
    except (CRSError, RecursionError) as error:
        raise ValueError(str(error)) from error


def checked_system(text: str, name: str) -> str:
    """Return the description of the system of an image; raises `UnreadableImage` as `check_system`."""
    try:
        check_system(text)
    except ValueError as error:
        raise UnreadableImage(
            f"The coordinate system of {name} is not read: {error}.",
            "Give it another one: gdal_edit.py -a_srs EPSG:CODE FILE.",
        ) from None
    return text


@lru_cache(64)
def check_system(text: str) -> None:
    """Raise `ValueError` for a text that is no code, WKT, PROJJSON or PROJ string, or may name a file."""
    text = text.strip()
    if _CODE.fullmatch(text):
        return
    if len(text) > LONGEST or not (_DESCRIPTION.match(text) or re.match(r"\+?\w+=", text)):
        raise ValueError("it is neither a code nor WKT")
    try:
        if text[0] == "{":
            _check_json(json.loads(text), "")
        elif _DESCRIPTION.match(text):
            _check_wkt(text)
        else:
            _check_proj(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _check_wkt(text: str) -> None:
    place, word = 0, ""
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None:
            raise ValueError(f"it is no WKT from {text[place : place + 20]!r} on")
        place = token.end()
        if token["word"]:
            word = token["word"].upper()
            if word == "EXTENSION" and (extension := _EXTENSION.match(text, place)):
                _check_proj(extension[1])
            elif word not in _WORDS:
                raise ValueError(f"{word} may name files")
        elif name := token["text"] or token["bare"]:
            if word in _NAMED_OWN and _OWN.match(name):
                raise ValueError("it names files")
            word = ""


def _check_json(value: Any, key: str) -> None:
    if isinstance(value, dict):
        if unknown := value.keys() - _KEYS:
            raise ValueError(f"{min(unknown)[:80]} may name files")
        if key in _NAMED_OWN and _OWN.match(str(value.get("name"))):
            raise ValueError("it names files")
    elif key == "value" and isinstance(value, str):
        raise ValueError("it names files")
    for name, item in value.items() if isinstance(value, dict) else ():
        _check_json(item, name)
    for item in value if isinstance(value, list) else ():
        _check_json(item, key)


def _check_proj(text: str) -> None:
    for word in text.split():
        if not _PARAMETER.fullmatch(word):
            raise ValueError(f"{word[:80]} may name files")
