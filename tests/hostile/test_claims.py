"""What a header claims is checked before it is allocated; no reader runs for ever."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from napari_restore.errors import Cancelled, RestoreError
from napari_restore.images import Image, open_image

from .conftest import read_all, vrt

Tiff = Callable[..., Path]


def refused(source: Path, *words: str) -> None:
    """Opening or reading ends in a sentence that has all `words`."""
    error = read_all(source)
    assert isinstance(error, RestoreError), f"{source.name} was opened"
    for word in words:
        assert word in error.message


# -- TIFF --------------------------------------------------------------------------------


def bare_tiff(path: Path, tags: dict[int, tuple[int, int, int]], data: bytes = b"") -> Path:
    """A little-endian TIFF of one directory; `tags` are tag → (type, count, value)."""
    entries = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(tags.items()))
    head = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(tags))
    path.write_bytes(head + entries + bytes(4) + data)
    return path


def claimed_tiff(path: Path, size: int, **tags: int) -> Path:
    """An image of `size`² pixels in one deflated tile of `tile`², and 64 bytes of it."""
    tile, samples = tags.get("tile", size), tags.get("samples", 1)
    count = 12
    start = 8 + 2 + 12 * count + 4
    values = {
        256: (4, 1, size), 257: (4, 1, size), 258: (3, 1, 8), 259: (3, 1, 8), 262: (3, 1, 1),
        277: (3, 1, samples), 284: (3, 1, 1), 322: (4, 1, tile), 323: (4, 1, tile),
        324: (4, 1, start), 325: (4, 1, 64), 339: (3, 1, 1),
    }  # fmt: skip
    return bare_tiff(path, values, zlib.compress(bytes(64 << 10))[:64])


@pytest.mark.parametrize(
    ("size", "words"),
    [(59904, ("59904 × 59904", "GiB")), (8192, ("8192 × 8192", "64 bytes"))],
    ids=["larger than any tile", "larger than its bytes"],
)
def test_tiles_too_large(size: int, words: tuple[str, ...], tmp_path: Path) -> None:
    path = claimed_tiff(tmp_path / "scene.tif", 64, tile=size)
    refused(path, *words)
    # Nor as the source of a VRT, which GDAL would decode all the same.
    outer = tmp_path / "scene.vrt"
    outer.write_text(vrt("scene.tif", relative=1))
    refused(outer, words[0])


def test_claimed_bands(tmp_path: Path) -> None:
    refused(claimed_tiff(tmp_path / "scene.tif", 64, samples=65535), "64 bytes")


@pytest.mark.parametrize("ome", [False, True])
def test_more_tiles_are_claimed_than_listed(ome: bool, tmp_path: Path) -> None:
    """A height of eight million rows: the missing tiles would be read, one by one, as zeros."""
    import tifffile

    path = tmp_path / ("scene.ome.tif" if ome else "scene.tif")
    pixels = np.zeros((128, 128), np.uint8)
    tifffile.imwrite(path, pixels, ome=ome, tile=(32, 32), compression="zlib")
    assert isinstance(read_all(path), Image)
    height = struct.pack("<HHII", 257, 4, 1, 128)
    assert height in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(height, struct.pack("<HHII", 257, 4, 1, 8323200)))
    refused(path, "1040400 tiles", "16")


@pytest.mark.parametrize("kind", [1, 2, 7])
def test_places_of_tiles_as_text(kind: int, tmp_path: Path) -> None:
    """Of the type of bytes, text or unknown; a digit is a number to numpy, but no list of them."""
    path = claimed_tiff(tmp_path / "scene.tif", 64, tile=64)
    content = path.read_bytes()
    at = content.index(struct.pack("<HHI", 324, 4, 1))
    path.write_bytes(content[:at] + struct.pack("<HHI4s", 324, kind, 1, b"8") + content[at + 12 :])
    read_all(path)


def test_a_directory_beyond_any_file(tmp_path: Path) -> None:
    path = tmp_path / "scene.tif"
    path.write_bytes(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 2**62) + bytes(64))
    refused(path, "truncated")


def test_a_sub_directory_before_the_file(tmp_path: Path) -> None:
    """Offsets of a signed type; seeking there fails in the operating system."""
    refused(bare_tiff(tmp_path / "scene.tif", {330: (9, 1, 2**32 - 64)}), "truncated")


def test_more_strips_are_claimed_than_listed(tmp_path: Path) -> None:
    """libtiff would show black where a strip has no place in the list."""
    start = 8 + 2 + 12 * 9 + 4
    tags = {
        256: (4, 1, 64), 257: (4, 1, 64), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1),
        273: (4, 1, start), 277: (3, 1, 1), 278: (4, 1, 64), 279: (4, 1, 4096),
    }  # fmt: skip
    path = bare_tiff(tmp_path / "scene.tif", tags, bytes(4096))
    assert isinstance(read_all(path), Image)
    refused(bare_tiff(path, {**tags, 278: (4, 1, 8)}, bytes(4096)), "8 strips", "contains 1")


def test_large_tiles_that_are_there_are_read(tmp_path: Path, tiff: Tiff) -> None:
    path = tiff(size=64, tiled=True, blockxsize=4096, blockysize=4096, compress="zstd")
    assert isinstance(read_all(path), Image)


def test_overlapping_directories_end(tmp_path: Path) -> None:
    """A small file with 60 000 sub-directories that all read the same long list of tags."""
    count = 60000
    directory = struct.pack("<H", 4000) + struct.pack("<HHII", 700, 1, 1, 0) * 4000 + bytes(4)
    body = bytearray(b"".join(struct.pack("<I", 20000 + 12 * (i % 4000)) for i in range(count)))
    start = 8 + 2 + 12 + 4
    head = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", 1)
    head += struct.pack("<HHII", 330, 4, count, start) + bytes(4)
    path = tmp_path / "scene.tif"
    # Wherever one begins, there is a count of entries that lie in the file.
    filler = struct.pack("<HHHHHH", 3000, 700, 1, 1, 0, 0) * 8000
    path.write_bytes(head + bytes(body) + filler + directory)
    entries = [start + 4 * count + 12 * i for i in range(4000)]
    content = bytearray(path.read_bytes())
    content[start : start + 4 * count] = b"".join(
        struct.pack("<I", entries[i % 4000]) for i in range(count)
    )
    path.write_bytes(content)
    refused(path, "overlap")


def test_a_jpeg_segment_shorter_than_its_length(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    PIL.Image.new("RGB", (32, 32)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[:2] + b"\xff\xe1\x00\x01" + content[2:])
    refused(path, "damaged", "length")


def test_a_list_longer_than_the_file(tmp_path: Path) -> None:
    refused(
        bare_tiff(tmp_path / "scene.tif", {273: (4, 2**31, 8), 279: (4, 2**31, 8)}), "truncated"
    )


# -- photos ------------------------------------------------------------------------------


def jpeg(height: int, width: int) -> bytes:
    """64 × 64 pixels whose header claims another size."""
    from PIL import Image as Pillow

    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Pillow.fromarray(pixels).save(file, "JPEG")
    content = bytearray(file.getvalue())
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def test_a_jpeg_claims_more_than_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg(65000, 65000))
    refused(path, "65000 × 65000", "cannot contain")
    outer = tmp_path / "photo.vrt"
    outer.write_text(vrt("photo.jpg", relative=1))
    refused(outer, "65000 × 65000")


def test_a_flat_jpeg_is_small_and_read(tmp_path: Path) -> None:
    from PIL import Image as Pillow

    path = tmp_path / "photo.jpg"
    for options in ({"quality": 10}, {"progressive": True, "optimize": True, "quality": 10}):
        Pillow.new("L", (6000, 6000), 255).save(path, "JPEG", **options)
        assert open_image(path).shape == (6000, 6000, 1)


def test_a_png_claims_more_than_it_holds(tmp_path: Path) -> None:
    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    data = zlib.compress(bytes(1000))
    content = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    path = tmp_path / "photo.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    refused(path, "60000 × 60000")


def test_a_radiance_picture_claims_more_than_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "photo.hdr"
    path.write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 30000 +X 30000\n" + bytes(100))
    refused(path, "30000 × 30000")


# -- zarr --------------------------------------------------------------------------------


def zarr2(folder: Path, **changes: Any) -> Path:
    """A zarr 2 array of 64 × 64 pixels in one chunk, without the chunk."""
    folder.mkdir()
    meta = {
        "zarr_format": 2, "shape": [64, 64], "chunks": [64, 64], "dtype": "|u1", "order": "C",
        "compressor": None, "filters": None, "fill_value": 0,
    }  # fmt: skip
    (folder / ".zarray").write_text(json.dumps({**meta, **changes}))
    return folder


def zarr3(folder: Path, codecs: list[dict[str, Any]]) -> Path:
    """A zarr 3 array of 64 × 64 pixels in one chunk, without the chunk."""
    folder.mkdir()
    meta = {
        "zarr_format": 3, "node_type": "array", "shape": [64, 64], "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [64, 64]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0, "attributes": {}, "codecs": [{"name": "bytes"}, *codecs],
    }  # fmt: skip
    (folder / "zarr.json").write_text(json.dumps(meta))
    (folder / "c" / "0").mkdir(parents=True)
    return folder


def packed(kind: str, size: int) -> bytes:
    """`size` zeros."""
    import numcodecs

    zeros = bytes(size)
    own = {"zlib": zlib.compress, "gzip": gzip.compress, "bz2": bz2.compress, "lzma": lzma.compress}
    if kind in own:
        return own[kind](zeros)
    return bytes(numcodecs.get_codec({"id": kind}).encode(np.frombuffer(zeros, np.uint8)))


KINDS = ("zlib", "gzip", "bz2", "lzma", "zstd", "blosc", "lz4")


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_that_unpack_to_more(kind: str, tmp_path: Path) -> None:
    folder = zarr2(tmp_path / "a.zarr", compressor={"id": kind})
    (folder / "0.0").write_bytes(packed(kind, 4096))
    assert isinstance(read_all(folder), Image)
    (folder / "0.0").write_bytes(packed(kind, 4 << 20))
    refused(folder, "unpacks")


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("kind", ["gzip", "zstd", "blosc"])
def test_chunks_of_zarr_3_that_unpack_to_more(kind: str, sharded: bool, tmp_path: Path) -> None:

    settings: dict[str, Any] = {
        "gzip": {"level": 5},
        "zstd": {"level": 0, "checksum": False},
        "blosc": {
            "cname": "lz4",
            "clevel": 5,
            "shuffle": "noshuffle",
            "typesize": 1,
            "blocksize": 0,
        },
    }
    codec = {"name": kind, "configuration": settings[kind]}
    index = [{"name": "bytes", "configuration": {"endian": "little"}}]
    shard = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": [64, 64],
            "codecs": [{"name": "bytes"}, codec],
            "index_codecs": index,
            "index_location": "end",
        },
    }
    folder = zarr3(tmp_path / "a.zarr", [codec])
    if sharded:
        meta = json.loads((folder / "zarr.json").read_text())
        (folder / "zarr.json").write_text(json.dumps({**meta, "codecs": [shard]}))

    def put(size: int) -> None:
        data = packed(kind, size)
        tail = struct.pack("<QQ", 0, len(data)) if sharded else b""
        (folder / "c" / "0" / "0").write_bytes(data + tail)

    put(4096)
    image = read_all(folder)
    assert isinstance(image, Image), image
    put(4 << 20)
    refused(folder, "unpacks")


@pytest.mark.parametrize("field", [4, 8, 12])
@pytest.mark.parametrize("version", [2, 3])
def test_blosc_is_not_told_to_read_beyond_the_end(version: int, field: int, tmp_path: Path) -> None:
    """The size, the block and the packed size of its header; it believes them and crashes."""
    codec = {"cname": "zstd", "clevel": 1, "shuffle": "noshuffle", "typesize": 1, "blocksize": 0}
    if version == 2:
        folder = zarr2(tmp_path / "a.zarr", compressor={"id": "blosc"})
        chunk = folder / "0.0"
    else:
        # In a group, whose arrays are opened after it.
        (tmp_path / "g.zarr").mkdir()
        folder = tmp_path / "g.zarr"
        (folder / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
        inner = zarr3(folder / "0", [{"name": "blosc", "configuration": codec}])
        chunk = inner / "c" / "0" / "0"
    data = packed("blosc", 4096)
    chunk.write_bytes(data)
    assert isinstance(read_all(folder), Image)
    chunk.write_bytes(data[:field] + struct.pack("<I", 2**30) + data[field + 4 :])
    refused(folder, "chunk")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"shape": [10**5, 10**5], "chunks": [1, 1]}, "chunks of 1 × 1"),
        ({"shape": [10**6, 10**6], "chunks": [10**6, 10**6]}, "GiB"),
        ({"shape": [0, 64]}, "no pixels"),
        ({"filters": [{"id": "pickle", "protocol": 5}]}, "pickle"),
        ({"compressor": {"id": "zfpy", "mode": 4, "tolerance": 1.0}}, ""),
    ],
    ids=["tiny", "huge", "empty", "pickle", "unknown"],
)
def test_claims_of_zarr(changes: dict[str, Any], word: str, tmp_path: Path) -> None:
    refused(zarr2(tmp_path / "a.zarr", **changes), word)


def test_claimed_bands_of_zarr(tmp_path: Path) -> None:
    folder = zarr2(tmp_path / "a.zarr", shape=[65535, 64, 64], chunks=[1, 64, 64])
    (folder / ".zattrs").write_text('{"_ARRAY_DIMENSIONS": ["channel", "y", "x"]}')
    refused(folder, "65535 bands")


def test_a_chunk_file_larger_than_its_chunk(tmp_path: Path) -> None:
    folder = zarr2(tmp_path / "a.zarr")
    with (folder / "0.0").open("wb") as file:
        file.truncate(8 << 30)
    refused(folder, "more than a chunk")


# -- others ------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_pipes_and_devices_are_no_images(tmp_path: Path, tiff: Tiff) -> None:
    path = tmp_path / "scene.tif"
    os.mkfifo(path)
    refused(path, "pipe")
    refused(Path("/dev/zero"), "device")
    tiff("good.tif")
    for name in ("good.tif.aux.xml", "good.tif.ovr"):
        os.mkfifo(tmp_path / name)
        image = read_all(tmp_path / "good.tif")
        assert isinstance(image, Image)
        assert any("left out" in note for note in image.notes)
        (tmp_path / name).unlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.parametrize(
    "name", ["good.tfw", "good.prj", "good.IMD", "good_MTL.txt", "METADATA.DIM"]
)
def test_a_pipe_that_a_driver_would_open_is_named(tmp_path: Path, tiff: Tiff, name: str) -> None:
    tiff("good.tif")
    os.mkfifo(tmp_path / name)
    refused(tmp_path / "good.tif", "good.tif lies beside the pipe", name.lower())


def test_a_netcdf_header_that_claims_more(tmp_path: Path, tiff: Tiff) -> None:
    import rasterio.shutil

    path = tmp_path / "scene.nc"
    rasterio.shutil.copy(tiff(), path, driver="netCDF")
    assert isinstance(read_all(path), Image)
    content = bytearray(path.read_bytes())
    attributes = content.index(b"\0\0\0\x0c", 8)
    content[attributes + 4 : attributes + 8] = struct.pack(">i", 2**30)
    path.write_bytes(content)
    refused(path, "netCDF")


def test_opening_is_cancelled_between_steps(tmp_path: Path, tiff: Tiff) -> None:
    names = [tiff(f"{number}.tif") for number in range(8)]
    sources = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="1">{name.name}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource>"
        for name in names
    )
    path = tmp_path / "scene.vrt"
    path.write_text(
        '<VRTDataset rasterXSize="64" rasterYSize="64">'
        f'<VRTRasterBand dataType="Byte" band="1">{sources}</VRTRasterBand></VRTDataset>'
    )
    asked = []

    def cancelled() -> bool:
        asked.append(True)
        return len(asked) > 4

    with pytest.raises(Cancelled):
        open_image(path, cancelled=cancelled)
    assert len(asked) == 5
    assert isinstance(read_all(path), Image)


# -- cards -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "claim",
    [{"multiple_of": 1000}, {"min_size": 4096}, {"halo": 10**6}, {"bands": 10**6}, {"bands": -1}],
    ids=str,
)
def test_a_card_claims_sizes_that_no_machine_tries(claim: dict[str, int]) -> None:
    """A model is tried before a run has a budget: on a few steps, or twice its halo."""
    from torch import nn

    import napari_restore as nr

    with pytest.raises(RestoreError) as caught:
        model = nr.load_model(nn.Identity(), card={"id": "own", **claim})
        nr.plan(np.zeros((64, 64, 3), np.uint8), model)
    assert "own" in caught.value.message
    assert next(iter(claim)) in str(caught.value)


def test_a_card_that_takes_nothing_small() -> None:
    """The sizes that its memory is measured with are still two."""
    from torch import nn

    import napari_restore as nr

    model = nr.load_model(nn.Identity(), card={"id": "own", "min_size": 512, "bands": 3})
    assert nr.plan(np.zeros((64, 64, 3), np.uint8), model).layout.tiles
