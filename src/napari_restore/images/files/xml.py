"""XML from untrusted files: no document types, no entities of its own."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

LONGEST = 256 * 2**20
"""Bytes of the largest XML that is parsed."""


DIVIDER = "!"
"""Tag of an element that replaces a comment, an instruction or CDATA within a text: other
parsers take only the part before it."""


def parse_xml(data: bytes | str) -> Element:
    """Return the root of `data`, tags and attributes with their namespaces as written; raises `ValueError`."""
    # What is not well-formed, not UTF-8, too long, or has a document type is refused: the entities
    # that one declares grow without bound or name files.
    encoded = data.encode() if isinstance(data, str) else data
    if len(encoded) > LONGEST:
        raise ValueError(f"XML of {len(encoded)} bytes")
    builder = TreeBuilder()
    # The encoding is fixed, so that none the file declares can hide what other parsers read.
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def divide(*_: object) -> None:
        if depth:
            builder.start(DIVIDER, {})
            builder.end(DIVIDER)

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.CommentHandler = parser.ProcessingInstructionHandler = divide
    parser.StartCdataSectionHandler = divide
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    try:
        parser.Parse(encoded.removeprefix(b"\xef\xbb\xbf").strip(b"\0 \t\r\n"), True)
    except expat.ExpatError as error:
        raise ValueError(f"XML is not well-formed: {error}") from error
    return builder.close()


def elements_named(root: Element, *names: str) -> Iterator[Element]:
    """Yield the elements of these names at and below `root`, whatever their namespace."""
    return (each for each in root.iter() if each.tag.rpartition(":")[2] in names)


def _refuse(*_: object) -> None:
    raise ValueError("XML with a document type")
