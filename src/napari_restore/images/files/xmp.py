"""XMP packets: of sidecars, and without what is not true of a copy."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from napari_restore._plain_files import read_file
from napari_restore.images._suffixes import RAW_SUFFIXES
from napari_restore.images.files.remote import RemotePath

DEVELOPMENT: Final = (
    "http://ns.adobe.com/camera-raw-settings/1.0/",
    "http://darktable.sf.net/",
)
"""Namespaces of settings of raw converters, which would be applied once more."""
ATTACHED: Final = (
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/1.0/container/item/",
)
"""Namespaces about what follows the picture in its file: a map of gains, a video."""
GAIN_MAP: Final = ATTACHED[0].encode()
_MOST = 16 << 20
_ORIENTATION = re.compile(rb"(tiff:Orientation(?:=[\"']|>)\s*)[1-8]")


def upright_xmp(xmp: bytes | None) -> bytes | None:
    """Return an XMP packet for an upright copy."""
    return None if xmp is None else _ORIENTATION.sub(rb"\g<1>1", xmp)


def without(xmp: bytes | None, namespaces: Iterable[str]) -> bytes | None:
    """Return an XMP packet without what it says in some `namespaces`."""
    if xmp is None:
        return None
    for namespace in namespaces:
        for prefix in re.findall(rb"xmlns:(\w+)=[\"']%b[\"']" % re.escape(namespace.encode()), xmp):
            element = rb"<%b:(\w+)(?:\s[^>]*)?(?:/>|>.*?</%b:\1>)\s*" % (prefix, prefix)
            xmp = re.sub(element, b"", xmp, flags=re.DOTALL)
            xmp = re.sub(rb"\s%b:\w+=(\"[^\"]*\"|'[^']*')" % prefix, b"", xmp)
    return xmp


def sidecar_of(path: Path) -> Path | None:
    """Return the file beside a photo into which programs write its metadata; None without one.

    ``IMG_1.NEF.xmp`` is that of one file. ``IMG_1.xmp`` is that of a RAW photo, of another one only
    where no RAW has the name. A link to elsewhere is none. Of an address nothing else is fetched.
    """
    if isinstance(path, RemotePath):
        return None
    is_raw = path.suffix.lower() in RAW_SUFFIXES
    for named, of_file in ((path.name, True), (path.stem, False)):
        for suffix in (".xmp", ".XMP"):
            found = path.with_name(named + suffix)
            try:
                there = found.is_file() and found.resolve().parent == path.parent.resolve()
                small = there and found.stat().st_size <= _MOST
            except OSError:
                continue
            if small and (of_file or is_raw or not _has_raw(path)):
                return found
    return None


def sidecar_xmp(path: Path) -> bytes | None:
    """Return the packet of a photo's sidecar, for a developed and upright copy; None without one."""
    found = sidecar_of(path)
    if found is None:
        return None
    try:
        packet = read_file(found, _MOST)
    except OSError:
        return None
    if b"<rdf:RDF" not in packet:
        return None
    # What a file begins with has no place within another.
    packet = re.sub(rb"^(?:\xef\xbb\xbf)?\s*<\?xml[^>]*\?>\s*", b"", packet)
    return without(upright_xmp(packet), DEVELOPMENT)


def _has_raw(path: Path) -> bool:
    """Return whether a RAW photo of the same name lies beside `path`."""
    suffixes = {spelt for suffix in RAW_SUFFIXES for spelt in (suffix, suffix.upper())}
    return any(path.with_suffix(suffix).is_file() for suffix in suffixes)
