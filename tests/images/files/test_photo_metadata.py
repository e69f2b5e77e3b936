"""XMP of sidecars, gain maps, IPTC in WebP and PNG, and EXIF of RAW that is no TIFF."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from napari_restore.images import Pixels, open_image, write_image
from napari_restore.images.export.exif import iptc_records
from napari_restore.images.files import exif as _exif
from napari_restore.images.files.exif_directories import Field, block_of, directories_of, serialised
from napari_restore.images.files.raw import raw_tags
from napari_restore.images.files.xmp import sidecar_xmp

RDF = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-'
    'ns#"><rdf:Description rdf:about="" {}</rdf:Description></rdf:RDF></x:xmpmeta>'
)
SIDECAR = RDF.format(
    'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
    'xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" '
    'xmlns:darktable="http://darktable.sf.net/" xmp:Rating="3" tiff:Orientation="6" '
    'crs:Exposure2012="+1.00" darktable:auto_presets_applied="1"><darktable:history><rdf:Seq>'
    "<rdf:li/></rdf:Seq></darktable:history>"
)
RECORDS = b"\x1c\x02\x19\x00\x04Berg"
MAKER, LENS = 0x010F, 0xA434


def photo(path: Path, **options: bytes) -> Path:
    Pillow.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(path, **options)
    return path


def written(source: Path, target: Path) -> Path:
    image = open_image(source)
    box = (0, 0, image.height, image.width)
    return write_image(target, Pixels(box, image.read), like=image)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_xmp_of_a_sidecar_is_carried(tmp_path: Path, suffix: str) -> None:
    path = photo(tmp_path / f"a{suffix}")
    declared = '<?xml version="1.0" encoding="UTF-8"?>\n' + SIDECAR
    (tmp_path / "a.xmp").write_text(declared)
    found = open_image(written(path, tmp_path / f"b{suffix}")).profile.xmp
    assert found is not None and b'xmp:Rating="3"' in found and b'Orientation="1"' in found
    for gone in (b"<?xml", b"Exposure2012", b"history", b"auto_presets"):
        assert gone not in found


def test_whose_sidecar_it_is(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg")
    (tmp_path / "a.xmp").write_text(SIDECAR)
    assert sidecar_xmp(path) is not None
    (tmp_path / "a.NEF").write_bytes(b"II*")
    assert sidecar_xmp(path) is None and sidecar_xmp(tmp_path / "a.NEF") is not None
    (tmp_path / "a.jpg.xmp").write_text(SIDECAR.replace('Rating="3"', 'Rating="5"'))
    assert b'Rating="5"' in (sidecar_xmp(path) or b"")
    (tmp_path / "b.jpg.xmp").write_text("no packet")
    assert sidecar_xmp(tmp_path / "b.jpg") is None


def test_a_sidecar_elsewhere_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    path = photo(tmp_path / "photos" / "a.jpg")
    (tmp_path / "secret.xmp").write_text(SIDECAR)
    try:
        (tmp_path / "photos" / "a.xmp").symlink_to(tmp_path / "secret.xmp")
    except OSError:
        pytest.skip("no links here")
    assert sidecar_xmp(path) is None


def test_a_gain_map_takes_its_xmp_along_and_is_told(tmp_path: Path) -> None:
    packet = RDF.format(
        'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" '
        'xmlns:Container="http://ns.google.com/photos/1.0/container/" '
        'xmlns:Item="http://ns.google.com/photos/1.0/container/item/" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" hdrgm:Version="1.0" xmp:Rating="2">'
        "<Container:Directory><rdf:Seq><rdf:li rdf:parseType='Resource'><Container:Item "
        'Item:Semantic="GainMap" Item:Length="9"/></rdf:li></rdf:Seq></Container:Directory>'
    )
    image = open_image(photo(tmp_path / "a.jpg", xmp=packet.encode()))
    assert any("gains for HDR" in note for note in image.notes)
    found = image.profile.xmp
    assert found is not None and b'xmp:Rating="2"' in found
    assert not any(word in found for word in (b"Version", b"Directory", b"GainMap"))
    plain = open_image(photo(tmp_path / "b.jpg", xmp=SIDECAR.encode()))
    assert not any("HDR" in note for note in plain.notes)


@pytest.mark.parametrize("suffix", [".webp", ".png", ".tif", ".jpg"])
@pytest.mark.parametrize("with_exif", [False, True])
def test_iptc_goes_along(tmp_path: Path, suffix: str, with_exif: bool) -> None:
    marker = b"\xff\xed" + struct.pack(">H", 2 + 14 + 12 + len(RECORDS) + 1)
    segment = b"Photoshop 3.0\0" + struct.pack(">4sHHI", b"8BIM", 0x0404, 0, len(RECORDS))
    exif = block_of({MAKER: Field(2, b"One\0")}, {0x8769: {LENS: Field(2, b"35 mm, fixed\0")}})
    path = photo(tmp_path / "a.jpg", **({"exif": exif} if with_exif else {}))
    coded = path.read_bytes()
    path.write_bytes(coded[:2] + marker + segment + RECORDS + b"\0" + coded[2:])
    out = open_image(written(path, tmp_path / f"b{suffix}")).profile
    assert iptc_records(out.iptc) == RECORDS
    if with_exif:
        assert out.exif is not None
        main, others = directories_of(out.exif)
        assert main[MAKER].data == b"One\0" and others[0x8769][LENS].data == b"35 mm, fixed\0"


@pytest.mark.parametrize(
    ("comment", "in_png"),
    [
        ("Grüße, 100 %".encode(), "Grüße, 100 %"),
        ("Grüße".encode("latin-1"), "Grüße"),
        (b"two\nlines\0", "two\nlines"),
    ],
)
def test_comments_go_along(tmp_path: Path, comment: bytes, in_png: str) -> None:
    source = photo(tmp_path / "a.jpg", comment=comment)
    image = open_image(written(source, tmp_path / "b.jpg"))
    assert image.profile.comments == (comment,)
    png = written(tmp_path / "b.jpg", tmp_path / "c.png")
    with Pillow.open(png) as picture:
        assert picture.info["Comment"] == in_png
    back = open_image(written(png, tmp_path / "d.jpg"))
    assert back.profile.comments == (in_png.encode(),)
    again = open_image(written(tmp_path / "d.jpg", tmp_path / "e.jpg"))
    assert again.profile.comments == (in_png.encode(),)


def test_a_packed_comment_of_a_png_is_read(tmp_path: Path) -> None:
    packed = b"Comment\0\0" + zlib.compress("Gr\xfc\xdfe".encode("latin-1"))
    for kind, data in ((b"zTXt", packed), (b"zTXt", packed[:-4])):
        path = with_chunk(photo(tmp_path / "a.png"), kind, data)
        whole = data == packed
        assert open_image(path).profile.comments == (("Grüße".encode(),) if whole else ())


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def tiff(directory: dict[int, Field]) -> bytes:
    return b"II*\0\x08\0\0\0" + serialised(directory, 8)


SETTINGS = {0x829A: Field(5, struct.pack("<II", 1, 50)), LENS: Field(2, "Ö 35\0".encode())}


def test_a_cr3_has_its_exif_in_boxes(tmp_path: Path) -> None:
    canon = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
    adobe = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
    place = {1: Field(2, b"N\0")}
    parts = box(b"CMT1", tiff({MAKER: Field(2, b"Canon\0")})) + box(b"CMT2", tiff(SETTINGS))
    parts += box(b"CMT4", tiff(place))
    file = box(b"ftyp", b"crx isom") + box(b"moov", box(b"uuid", canon + parts))
    file += box(b"uuid", adobe + SIDECAR.encode()) + box(b"mdat", bytes(40))
    path = tmp_path / "a.cr3"
    path.write_bytes(file)
    found = raw_tags(path)
    assert found.exif is not None and found.xmp is not None
    main, others = directories_of(found.exif)
    assert main[MAKER].data == b"Canon\0" and others[0x8825] == place
    assert others[0x8769] == SETTINGS
    assert b'Rating="3"' in found.xmp and b"Exposure2012" not in found.xmp
    for length in range(0, len(file), 13):
        path.write_bytes(file[:length])
        raw_tags(path)


def test_a_raf_has_its_exif_in_its_preview(tmp_path: Path) -> None:
    block = block_of({MAKER: Field(2, b"FUJIFILM\0")}, {0x8769: SETTINGS})
    preview = photo(tmp_path / "a.jpg", exif=block, xmp=SIDECAR.encode()).read_bytes()
    head = b"FUJIFILMCCD-RAW 0201".ljust(84, b"\0")
    path = tmp_path / "b.raf"
    path.write_bytes(head + struct.pack(">II", 92, len(preview)) + preview)
    found = raw_tags(path)
    assert found.exif is not None and b'Rating="3"' in (found.xmp or b"")
    assert directories_of(found.exif)[1][0x8769] == SETTINGS


def test_raw_carries_what_lies_beside_it(tmp_path: Path, write_dng: Callable[..., None]) -> None:
    path = tmp_path / "a.dng"
    write_dng(path, np.full((64, 96, 3), 0.4))
    (tmp_path / "a.xmp").write_text(SIDECAR)
    found = open_image(path).profile
    assert b'Rating="3"' in (found.xmp or b"") and found.icc is not None


@pytest.mark.parametrize("content", [b"\niptc\n     x8\n00", b"\niptc\n       1\n0", b"iptc"])
def test_damaged_iptc_of_a_png_is_left_behind(tmp_path: Path, content: bytes) -> None:
    data = b"Raw profile type iptc\0\0" + zlib.compress(content)
    path = with_chunk(tmp_path / "a.png", b"zTXt", data)
    assert open_image(path).profile.iptc is None


def test_a_block_of_a_png_takes_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packet = zlib.compress(SIDECAR.encode() + b" " * 100_000)
    text = b"XML:com.adobe.xmp\0\1\0\0\0" + packet
    path = with_chunk(tmp_path / "a.png", b"iTXt", text)
    assert b"Rating" in (open_image(path).profile.xmp or b"")
    monkeypatch.setattr(_exif, "_MOST_INFLATED", 50_000)
    assert open_image(path).profile.xmp is None


def with_chunk(path: Path, kind: bytes, data: bytes) -> Path:
    """A PNG with another chunk behind its header."""
    whole = photo(path).read_bytes()
    chunk = struct.pack(">I", len(data)) + kind + data
    chunk += struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(whole[:33] + chunk + whole[33:])
    return path
