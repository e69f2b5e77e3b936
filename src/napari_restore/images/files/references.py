"""Check of the files that an image refers to, before GDAL opens it.

The list of drivers that a dataset is opened with restricts only the dataset itself. The sources of
a VRT and the overviews that sidecars name are opened by GDAL with every driver it has, network
drivers included. So their names are read here, down to the last source; GDAL opens the file only if
all are plain files of known formats that lie below the folder of the image.
"""

from __future__ import annotations

import os
import re
import shlex
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.etree.ElementTree import Element

from napari_restore._plain_files import open_file, read_file
from napari_restore.errors import OutsideFolder, UnreadableImage, option
from napari_restore.images._system import check_system
from napari_restore.images.files import tiff
from napari_restore.images.files.cancelling import check_cancelled
from napari_restore.images.files.claims import check_claims
from napari_restore.images.files.xml import LONGEST, parse_xml

if TYPE_CHECKING:
    import sqlite3


class ForbiddenReference(Exception):
    """A reference that must not be followed, with its reason."""

    hint = "If you trust it, convert it first: gdal_translate FILE COPY.tif."


class _Container(ForbiddenReference):
    """A file of several grids, which may name further files; `example` names one of them for GDAL."""

    def __init__(self, kind: str, example: str) -> None:
        super().__init__(f"is {kind}, which may name further files")
        self.hint = (
            "If you trust it, convert one of the grids that gdalinfo FILE lists: gdal_translate "
            f"{example} COPY.tif."
        )


class _Pipe(ForbiddenReference):
    """A pipe beside the image: drivers open what has certain names there, and would wait for ever."""

    hint = "Move one of them to another folder."


def check_pcidsk(path: Path) -> None:
    """Check a PCIDSK file: its channels may lie in other files, opened by every driver."""
    with open_file(path) as file:
        head = file.read(512)
        try:
            start, channels = int(head[336:352]), int(head[376:384])
        except ValueError:
            raise ForbiddenReference("has a damaged header") from None
        if not 0 <= channels <= 65535 or start < 1:
            raise ForbiddenReference("has a damaged header")
        for number in range(channels):
            file.seek((start - 1) * 512 + number * 1024 + 64)
            name = file.read(64).strip(b" \0")
            if name and not re.fullmatch(rb"/SIS=\s*\d+(\s.*)?", name, re.DOTALL):
                raise ForbiddenReference("keeps channels in other files, which are not followed")


def check_geopackage(path: Path, head: bytes) -> None:
    """Check a GeoPackage: its SQL may call functions, and a log beside it may be written back."""
    import sqlite3
    from contextlib import closing

    logs = [path.with_name(path.name + suffix) for suffix in ("-wal", "-journal")]
    if head[18:20] != b"\1\1" or any(log.exists() for log in logs):
        raise ForbiddenReference("has a log of changes that are not written back yet")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as base:
            texts = base.execute("SELECT type, lower(sql) FROM sqlite_master").fetchall()
            systems = systems_of_geopackage(base)
    except (sqlite3.Error, UnicodeError) as error:
        raise ForbiddenReference(f"cannot be read ({error})") from None
    for kind, text in texts:
        virtual = "virtual" in (text or "").split()[:2] and "using rtree" not in text
        if kind == "view" or virtual:
            raise ForbiddenReference("computes its tables, which may name further files")
    for text in systems:
        _check_system(text)


def systems_of_geopackage(base: sqlite3.Connection) -> list[str]:
    """Return the definitions of coordinate systems in an open GeoPackage."""
    found = base.execute("SELECT * FROM gpkg_spatial_ref_sys")
    columns = [
        n for n, (name, *_) in enumerate(found.description) if name.lower()[:10] == "definition"
    ]
    texts = [row[n] for row in found for n in columns if row[n] not in (None, "", "undefined")]
    return [t.decode("utf-8", "replace") if isinstance(t, bytes) else str(t) for t in texts]


def _check_system(text: str) -> None:
    try:
        check_system(text)
    except ValueError as error:
        raise ForbiddenReference(f"has a coordinate system that is not read: {error}") from None


_OF_SYSTEMS = ("srs", "wkt", "sourcesrs", "targetsrs", "coordinateoperation", "src_srs", "dst_srs")
_OF_TEXT = re.compile(r"^\s*(?:projection|wkt)\s*=\s*(.*)$", re.IGNORECASE | re.MULTILINE)
_SEARCHED = 1 << 23
"""Bytes at the beginning, and at the end, of a binary file that are searched for words."""


def _check_systems(data: bytes) -> Element:
    """Return GDAL's XML, the coordinate systems of which are checked."""
    try:
        root = parse_xml(data.rstrip(b"\0 \r\n"))
    except ValueError as error:
        raise ForbiddenReference(f"is damaged XML ({error})") from None
    for element in root.iter():
        named = (element.tag, _value(element, "key"), _value(element, "name"))
        text = element.text if any(name.casefold() in _OF_SYSTEMS for name in named) else ""
        for system in filter(None, ((text or "").strip(), _value(element, "projection"))):
            _check_system(system)
    return root


def _check_systems_of_grid(path: Path, head: bytes) -> None:
    """Check the systems of formats whose drivers have PROJ parse them as soon as they open a file."""
    if head.startswith((b"EHFA_HEADER_TAG", b"CDF")):
        with open_file(path) as file:
            data = file.read(_SEARCHED)
            file.seek(max(len(data), path.stat().st_size - _SEARCHED))
            if b"PARAMETERFILE" in (data + file.read()).upper():
                raise ForbiddenReference("has a coordinate system that names files")
    elif path.suffix.lower() == ".grd" and head.isascii():
        for system in _OF_TEXT.findall(_read(path, whole=True).decode("latin-1")):
            _check_system(system.strip())


def _check_system_beside(path: Path) -> None:
    """Check a .prj beside `path`: drivers of grids have PROJ parse it as soon as they open one."""
    for suffix in (".prj", ".PRJ"):
        beside = path.with_suffix(suffix)
        if beside.is_file():
            text = _read(beside, whole=True).decode("latin-1").strip()
            # What else it may be, a table of words and numbers, names no file.
            if re.match(r"\w+\s*[\[(]|[{+]", text):
                _check_system(text)


class _Neighbours(NamedTuple):
    """What lies in a folder that drivers open unasked."""

    sidecars: dict[str, list[str]]
    """By all that they may belong to; GDAL ignores the case."""
    pipes: list[str]
    """Names of the others that are pipes, in small letters."""


def _neighbours_in(folder: Path) -> _Neighbours:
    """Return the sidecars and pipes in a folder; none where it cannot be listed."""
    found = _Neighbours({}, [])
    try:
        with os.scandir(folder) as listing:
            entries = list(listing)
    except OSError:
        return found
    for entry in entries:
        lower = entry.name.casefold()
        if lower.endswith(_SIDECARS):
            for place, letter in enumerate(lower):
                if letter == ".":
                    found.sidecars.setdefault(lower[:place], []).append(entry.name)
        # Few are neither file nor folder: only these, and links, take a call each.
        elif not (entry.is_file() or entry.is_dir()) and Path(entry).is_fifo():
            found.pipes.append(lower)
    return found


_HDF4 = b"\x0e\x03\x13\x01"


def is_hdf5(path: Path, head: bytes) -> bool:
    """Return whether HDF5's signature stands at the beginning, or after 512, 1024, 2048 … bytes."""
    signature = b"\x89HDF\r\n\x1a\n"
    size, place = path.stat().st_size, 512
    if head.startswith((signature, _HDF4)):
        return True
    with open_file(path) as file:
        while place < size:
            file.seek(place)
            if file.read(8) == signature:
                return True
            place *= 2
    return False


HEAD_BYTES = 4096
DEEPEST = 8
"""Largest depth of nested VRTs."""

_VRT = re.compile(rb"<VRTDataset", re.IGNORECASE)
_MAGIC = (
    *tiff.TIFF_MAGIC,
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n",
    b"RIFF",  # WebP
    b"\0\0\0\x0cjP  ",  # JPEG 2000
    b"\xff\x4f\xff\x51",
    b"EHFA_HEADER_TAG",
    b"BM",
    b"GIF8",
    b"NITF0",
    b"NSIF0",
    b"\x01\xda",  # SGI
)
"""Beginnings of the formats that refer to no other file."""
_OVERVIEW_MAGIC = (*tiff.TIFF_MAGIC, b"EHFA_HEADER_TAG")
_SIDECARS = (".aux.xml", ".ovr", ".msk", ".aux", ".rrd")
_MARKUP = re.compile(rb"\s*(\xef\xbb\xbf)?\s*(<[?!A-Za-z]|[{\[]\s*[\"{\[])")
"""The beginning of XML or JSON, in which formats that refer to other files are written."""

_SOURCES = ("sourcefilename", "sourcedataset")
_FORBIDDEN = ("arraysource", "derivedarray", "singlesourcearray", "overview_file", "group")
_WARPED = ("rpc_dem", "dempath", "x_dataset", "y_dataset")
"""Elements that refer to a further dataset only where a VRT is warped."""
_TEXTS = ("srs", "mdi", "description", "metadata", "gcplist", "pixelfunctioncode")
"""Elements whose text GDAL stores and does not open."""
_SAFE_OPTIONS = ("overview_level", "num_threads", "georef_sources", "sparse_ok")
_OPTION_OF_NAME = re.compile(r"^[A-Za-z][\w+.-]+:")


_GRID = re.compile(
    r'(?P<kind>NETCDF|GPKG|HDF5|BAG|HDF4_(?:SDS|EOS):\w+):(?P<quote>"?)'
    r'(?P<file>(?<=")[^"]+|(?:[a-z]:[\\/])?[^":]+)(?P=quote):(?P<part>.+)',
    re.IGNORECASE,
)


def grid_named(text: str) -> re.Match[str] | None:
    """Return kind, file and part in GDAL's name of one of several grids (``NETCDF:FILE:VARIABLE``).

    None for other texts, and where there is a file of that name.
    """
    return None if os.path.lexists(text) else _GRID.fullmatch(text)


def grid_name(kind: str, path: Path, part: str) -> str:
    """Return GDAL's name of one of several grids of a file."""
    return f'{kind}:"{path}":{part}' if ":" in str(path) else f"{kind}:{path}:{part}"


class References(NamedTuple):
    """Result of the check of an image before it is opened."""

    sidecars: bool = True
    """False: files beside it must be ignored."""
    notes: tuple[str, ...] = ()
    block_bytes: int = 0
    """Bytes of the largest block of its TIFFs when decoded, those it refers to included."""


def check_references(
    path: Path, head: bytes, *, allow_outside: bool = False, grid: re.Match[str] | None = None
) -> References:
    """Return the check of `path`: it may refer only to files below its folder. Opens none by GDAL.

    `head` are its first bytes. With `allow_outside` a VRT may take files from anywhere on this
    computer, as its user has agreed to. A sidecar that must not be followed is left out with a
    note. Raises `UnreadableImage` for everything else, with the line that converts `grid`, or the file.
    """
    check = _Check(path, allow_outside)
    try:
        check.file(path, head, 0)
    except _Outside as error:
        raise OutsideFolder(
            f"{path.name} takes pixels from {error}, which lies outside its own folder.",
            f"If you trust it, allow that: {option('allow_outside', True)}.",
        ) from None
    except ForbiddenReference as error:
        hint = error.hint if grid is None else ForbiddenReference.hint
        named = shlex.quote(path.name if grid is None else grid.string)
        raise UnreadableImage(f"{path.name} {error}.", hint.replace("FILE", named)) from None
    try:
        check.sidecars_of(path)
    except ForbiddenReference as error:
        notes = (f"The files beside it were left out: {error}.",)
        return References(False, notes, check.block_bytes)
    return References(block_bytes=check.block_bytes)


def check_listed(path: Path, listed: list[str], *, allow_outside: bool = False) -> None:
    """Raise `UnreadableImage` if one of the files that GDAL lists as opened lies elsewhere."""
    folders = path.parent.resolve(), path.resolve().parent
    for name in listed if not allow_outside else ():
        if name != str(path) and not any(map(Path(name).resolve().is_relative_to, folders)):
            raise UnreadableImage(
                f"{path.name} takes pixels from {name}, which lies outside its own folder.",
                "Put all its files into one folder.",
            )


class _Outside(ForbiddenReference):
    """A file elsewhere on this computer."""


class _Check:
    """One walk over an image and all files it refers to."""

    def __init__(self, path: Path, allow_outside: bool) -> None:
        # GDAL, too, resolves names in a linked VRT relative to where it really is.
        self.folders = {path.parent.resolve(), path.resolve().parent}
        self.allow_outside = allow_outside
        self.block_bytes = 0
        self.checked: set[Path] = set()
        self.listings: dict[Path, _Neighbours] = {}

    def file(self, path: Path, head: bytes, depth: int) -> None:
        """Check the references in the content of `path`, and what its driver would read beside it."""
        of_path = (f"{path.stem.casefold()}.", f"{path.stem.casefold()}_", "metadata.", "summary.")
        for name in self._beside(path.parent).pipes:
            if name.startswith(of_path):
                raise _Pipe(f"lies beside the pipe {name}, and reading may wait for that")
        _check_system_beside(path)
        if head.startswith(tiff.TIFF_MAGIC):
            self._tiff(path)
        elif head.startswith(b"PCIDSK"):
            check_pcidsk(path)
        elif head.startswith(b"SQLite format 3"):
            check_geopackage(path, head)
        elif head.startswith(_HDF4):
            raise _Container("HDF4", "HDF4_EOS:EOS_GRID:FILE:GRID:FIELD")
        elif not head.startswith(_MAGIC) and is_hdf5(path, head):
            is_netcdf = path.suffix.lower() in (".nc", ".nc4")
            raise _Container(
                "HDF5 or netCDF-4",
                "NETCDF:FILE:VARIABLE" if is_netcdf else "HDF5:FILE://GROUP/DATASET",
            )
        elif _VRT.search(head):
            self._vrt(path, depth)
        else:
            _check_systems_of_grid(path, head)

    def named(self, text: str, folder: Path, depth: int, *, raw: bool = False) -> None:
        """Check a file that another one refers to, relative to `folder`, and all its references."""
        check_cancelled()
        path = plain_path(text, folder)
        real = Path(os.path.realpath(path))
        inside = any(real.is_relative_to(folder) for folder in self.folders)
        if not inside and (raw or not self.allow_outside):
            raise _Outside(text)
        if raw or real in self.checked:
            # Raw pixels: only the bytes count, no driver opens them.
            _read(path)
            return
        self.checked.add(real)
        head = _read(path)
        if _VRT.search(head):
            if depth >= DEEPEST:
                raise ForbiddenReference(f"nests VRTs deeper than {DEEPEST}")
        elif not head.startswith(_MAGIC) and (
            _MARKUP.match(head) or not path.with_suffix(".hdr").is_file()
        ):
            raise ForbiddenReference(
                f"takes pixels from {text}, whose format may name further files"
            )
        check_claims(path, head)
        self.file(path, head, depth + 1)
        self.sidecars_of(path)

    def sidecars_of(self, path: Path) -> None:
        """Check the overviews, masks and auxiliary files that GDAL opens beside `path`."""
        whole = path.name.casefold()
        for name in self._beside(path.parent).sidecars.get(path.stem.casefold(), ()):
            if name.casefold() != whole:
                self._sidecar(path.parent / name, name.casefold())

    def _sidecar(self, path: Path, lower: str) -> None:
        if not path.resolve().is_relative_to(path.parent.resolve()) and not self.allow_outside:
            raise _Outside(f"{path.name} leads outside the folder")
        if lower.endswith(".aux.xml"):
            self._pam(path)
            return
        head = _read(path)
        if not head.startswith(_OVERVIEW_MAGIC):
            raise ForbiddenReference(f"{path.name} is neither a TIFF nor an Imagine file")
        self.file(path, head, 1)

    def _pam(self, path: Path) -> None:
        for name in _overviews_named(data := _read(path, whole=True)):
            self._overview(name, path)
        if re.search(rb"srs|gcplist|wkt", data, re.IGNORECASE):
            _check_systems(data)

    def _tiff(self, path: Path) -> None:
        directories = tiff.read_directories(path)
        self.block_bytes = max(self.block_bytes, directories.block_bytes)
        for data in directories.metadata:
            for name in _overviews_named(data):
                self._overview(name, path)

    def _overview(self, text: str, path: Path) -> None:
        name = text.removeprefix(":::BASE:::")
        beside = plain_path(name, path.parent)
        if not beside.resolve().is_relative_to(path.parent.resolve()):
            raise ForbiddenReference(f"{path.name} names overviews outside its folder ({text})")
        if beside.resolve() in self.checked:
            return
        self.checked.add(beside.resolve())
        head = _read(beside)
        if not head.startswith(_OVERVIEW_MAGIC):
            raise ForbiddenReference(f"{path.name} names overviews that are no TIFF ({text})")
        self.file(beside, head, 1)
        self.sidecars_of(beside)

    def _beside(self, folder: Path) -> _Neighbours:
        if folder not in self.listings:
            self.listings[folder] = _neighbours_in(folder)
        return self.listings[folder]

    # -- VRT -----------------------------------------------------------------------
    def _vrt(self, path: Path, depth: int) -> None:
        root = _check_systems(_read(path, whole=True))
        kind = _value(root, "subclass")
        if kind not in ("", "VRTWarpedDataset", "VRTPansharpenedDataset"):
            raise ForbiddenReference(f"is a VRT of the kind {kind}, which is not read")
        folder = path.resolve().parent
        for element in root.iter():
            self._element(element, _WARPED if kind == "VRTWarpedDataset" else ())
        self._sources(root, folder, depth, raw=False)

    def _sources(self, parent: Element, folder: Path, depth: int, *, raw: bool) -> None:
        raw = raw or _value(parent, "subclass").casefold() == "vrtrawrasterband"
        for child in parent:
            if child.tag.casefold() not in _SOURCES:
                self._sources(child, folder, depth, raw=raw)
                continue
            text = (child.text or "").lstrip()
            if len(child) or text != text.rstrip():
                raise ForbiddenReference(
                    f"is a VRT with a damaged name of a source ({text.strip()[:80]})"
                )
            flag = _value(child, "relativetovrt", "1" if raw else "0")
            if flag not in ("0", "1"):
                raise ForbiddenReference(f"is a VRT with relativeToVRT={flag[:20]!r}")
            self.named(text, folder if flag == "1" else Path.cwd(), depth, raw=raw)

    def _element(self, element: Element, further: tuple[str, ...]) -> None:
        """Refuse an element that is not a source but could refer to one."""
        tag = element.tag.casefold()
        names = [name.casefold() for name in element.attrib]
        if set(names).intersection(_SOURCES):
            raise ForbiddenReference("is a VRT that names a source in an attribute")
        words = [value.strip().casefold() for value in element.attrib.values()]
        for word in (tag, *names, *words):
            if word in _FORBIDDEN or word in further:
                raise ForbiddenReference(
                    f"is a VRT with {word}, which may name files that cannot be checked"
                )
        if tag == "ooi":
            key = _value(element, "key").casefold()
            if key not in _SAFE_OPTIONS:
                raise ForbiddenReference(f"opens its sources with the option {key!r}")
        if tag in _TEXTS or tag in _SOURCES:
            return
        for value in (element.text or "", *element.attrib.values()):
            low = value.casefold()
            if "/vsi" in low or ("://" in low and not tag.endswith("vrtdataset")):
                raise ForbiddenReference(f"is a VRT that names {value.strip()[:80]}")


def _value(element: Element, name: str, otherwise: str = "") -> str:
    """Return an attribute or child by name without case, as in GDAL's XML parser."""
    for key, value in element.attrib.items():
        if key.casefold() == name:
            return value.strip()
    for child in element:
        if child.tag.casefold() == name:
            return (child.text or "").strip()
    return otherwise


def plain_path(text: str, folder: Path) -> Path:
    """Return the path of a plain local file named `text`; raise `ForbiddenReference` otherwise."""
    low = text.casefold()
    if (
        not text
        or "://" in low
        or low.lstrip("/\\").startswith("vsi")
        or text[0] in "<{[\"'&"
        or _OPTION_OF_NAME.match(text)
        or "\0" in text
    ):
        raise ForbiddenReference(
            f"refers to {text[:120] or 'a file without a name'}, which is no plain file"
        )
    return folder / text


def _overviews_named(data: bytes) -> list[str]:
    """Return the values of OVERVIEW_FILE in GDAL's XML of metadata, in any notation."""
    if b"VERVIEW" not in data.upper() and b"&#" not in data:
        return []
    try:
        root = parse_xml(data)
    except ValueError:
        # GDAL's parser accepts XML that is not well-formed; a doubtful file is refused.
        if "overview_file" in unescape(data.decode("latin-1")).casefold():
            raise ForbiddenReference("its metadata is damaged and names overviews") from None
        return []
    listing = []
    for element in root.iter():
        values = [value.strip().casefold() for value in element.attrib.values()]
        values += [(child.text or "").strip().casefold() for child in element]
        if "overview_file" in values:
            listing.append((element.text or "").strip())
    return listing


def head_of(path: Path) -> bytes:
    """Return the first bytes of a file."""
    with open_file(path) as file:
        return file.read(HEAD_BYTES)


def _read(path: Path, *, whole: bool = False) -> bytes:
    try:
        return read_file(path, LONGEST) if whole else head_of(path)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ForbiddenReference(f"refers to {path.name}, which cannot be read: {why}") from error
