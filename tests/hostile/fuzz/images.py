"""The images of the corpus: 64 pixels a side, seeded, one or more for every reader."""

from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import rasterio
import rasterio.shutil
import tifffile
import zarr
from PIL import Image as Pillow
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp, Resampling
from rasterio.transform import Affine

SIDE = 64
PLACE = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5000000)}
COPIES = {
    "JP2OpenJPEG": "jp2", "ENVI": "img", "HFA": "img", "EHdr": "bil", "BMP": "bmp", "GIF": "gif",
    "PNM": "pgm", "NITF": "ntf", "PCIDSK": "pix", "SAGA": "sdat", "RST": "rst", "netCDF": "nc",
    "RRASTER": "grd", "XYZ": "xyz", "AAIGrid": "asc", "ISCE": "slc", "GSBG": "grd", "KRO": "kro",
    "WEBP": "webp",
}  # fmt: skip
"""Formats that GDAL writes as a copy of one band or three."""


def noise(bands: int = 3, side: int = SIDE, dtype: str = "uint8") -> np.ndarray:
    """(bands, side, side): a gradient with seeded noise."""
    top = 255 if dtype == "uint8" else 4000
    y, x = np.mgrid[:side, :side] / side
    base = np.stack([(x + y * band / 3) / 2 for band in range(bands)])
    grain = np.random.default_rng(0).uniform(0, 0.2, base.shape)
    return np.clip((base * 0.8 + grain) * top, 1, top).astype(dtype)


def write_images(folder: Path) -> None:
    """Write all; what belongs together lies in a folder of its own."""
    _tiffs(folder)
    _copies(folder)
    _photos(folder)
    _with_sidecars(folder)
    _ome(folder)
    _stacks(folder)
    _zarrs(folder)


def _tiff(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    setup = options.pop("setup", None)
    profile = {
        "driver": "GTiff", "count": pixels.shape[0], "height": pixels.shape[1],
        "width": pixels.shape[2], "dtype": pixels.dtype.name,
    }  # fmt: skip
    with rasterio.open(path, "w", **{**profile, **options}) as new:
        new.write(pixels)
        if setup is not None:
            setup(new)
    return path


def _tiffs(folder: Path) -> None:
    _tiff(folder / "plain.tif", noise(), **PLACE)
    tiled = {"tiled": True, "blockxsize": 16, "blockysize": 16}
    _tiff(folder / "deflated.tif", noise(), compress="deflate", predictor=2, **tiled, **PLACE)
    _tiff(folder / "lzw.tif", noise(4, dtype="uint16"), compress="lzw", nodata=0, **tiled)
    _tiff(folder / "jpeg.tif", noise(), compress="jpeg", photometric="ycbcr", **tiled)
    _tiff(folder / "big.tif", noise(1), bigtiff="yes", compress="zstd")
    _tiff(folder / "float.tif", noise(1, dtype="float32"), nodata=float("nan"), interleave="band")

    def dress(new: Any) -> None:
        new.write_mask(np.full((SIDE, SIDE), 255, np.uint8))
        new.colorinterp = [ColorInterp.gray]
        new.update_tags(AREA_OR_POINT="Point", TIFFTAG_SOFTWARE="made up")
        new.update_tags(1, wavelength="650")
        new.set_band_description(1, "red")
        new.scales, new.offsets, new.units = (0.01,), (1.0,), ("m",)
        new.build_overviews([2, 4], Resampling.average)

    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        _tiff(folder / "dressed.tif", noise(1), setup=dress, **PLACE)

    def paint(new: Any) -> None:
        new.write_colormap(1, {i: (i, 255 - i, 7, 255) for i in range(256)})

    _tiff(folder / "palette.tif", noise(1), photometric="palette", setup=paint)
    points = [GroundControlPoint(r, c, 5 + c, 50 - r) for r, c in ((0, 0), (0, 60), (60, 0))]
    _tiff(folder / "points.tif", noise(1), gcps=points, crs="EPSG:4326")
    rpc = {
        "LINE_OFF": "30", "SAMP_OFF": "30", "LAT_OFF": "1", "LONG_OFF": "1", "HEIGHT_OFF": "1",
        "LINE_SCALE": "30", "SAMP_SCALE": "30", "LAT_SCALE": "1", "LONG_SCALE": "1",
        "HEIGHT_SCALE": "1", "LINE_NUM_COEFF": " ".join(["1"] * 20),
        "LINE_DEN_COEFF": " ".join(["1"] * 20), "SAMP_NUM_COEFF": " ".join(["1"] * 20),
        "SAMP_DEN_COEFF": " ".join(["1"] * 20),
    }  # fmt: skip
    _tiff(folder / "rational.tif", noise(1), setup=lambda new: new.update_tags(ns="RPC", **rpc))


def _copies(folder: Path) -> None:
    for driver, suffix in COPIES.items():
        home = folder / f"{driver}"
        home.mkdir()
        bands = 3 if driver in ("JP2OpenJPEG", "WEBP", "KRO") else 1
        placed = {} if driver in ("PNM", "KRO", "BMP", "GIF", "WEBP") else PLACE
        plain = _tiff(home / "source.tif", noise(bands), **placed)
        options = {"QUALITY": "100", "REVERSIBLE": "YES"} if driver == "JP2OpenJPEG" else {}
        rasterio.shutil.copy(plain, home / f"{driver}.{suffix}", driver=driver, **options)
        plain.unlink()
    home = folder / "GPKG"
    home.mkdir()
    plain = _tiff(home / "source.tif", noise(1), **PLACE)
    rasterio.shutil.copy(plain, home / "GPKG.gpkg", driver="GPKG", TILE_FORMAT="PNG")
    plain.unlink()


def _photos(folder: Path) -> None:
    pixels = noise().transpose(1, 2, 0)
    photo = Pillow.fromarray(pixels)
    exif = Pillow.Exif()
    exif[274], exif[271], exif[306] = 6, "A maker", "2020:01:01 10:00:00"
    exif.get_ifd(0x8769)[33434] = (1, 60)
    photo.save(folder / "photo.jpg", exif=exif, icc_profile=_profile(), dpi=(72, 72))
    photo.save(folder / "progressive.jpg", progressive=True, quality=50)
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    photo.convert("RGBA").save(folder / "alpha.png", exif=exif, icc_profile=_profile())
    photo.quantize(16).save(folder / "palette.png", transparency=3)
    Pillow.fromarray(noise(1, dtype="uint16")[0]).save(folder / "deep.png")
    photo.save(folder / "photo.webp", lossless=True, exif=exif)
    Pillow.fromarray(noise(1, 700)[0]).save(folder / "large.png")
    head = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 64 +X 64\n"
    (folder / "photo.hdr").write_bytes(
        head + np.dstack([pixels, np.full((64, 64), 128, np.uint8)]).tobytes()
    )
    OpenEXR.File(
        {"compression": OpenEXR.ZIP_COMPRESSION}, {"RGB": pixels.astype(np.float32) / 255}
    ).write(str(folder / "photo.exr"))
    _dng(folder / "camera.dng")


def _profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _dng(path: Path) -> None:
    """A Bayer mosaic (RGGB, 14 bits)."""
    tags = [
        (50706, "B", 4, bytes([1, 4, 0, 0]), True),
        (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, bytes([0, 1, 1, 2]), True),
        (50714, "I", 1, 0, True),
        (50717, "I", 1, 16383, True),
        (50721, "2i", 9, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1), True),
        (50728, "2I", 3, (1, 2, 1, 1, 5, 8), True),
        (50778, "H", 1, 21, True),
    ]
    tifffile.imwrite(
        path, noise(1, dtype="uint16")[0], photometric=32803, extratags=tags, metadata=None,
        software=False,
    )  # fmt: skip


def _with_sidecars(folder: Path) -> None:
    home = folder / "beside"
    home.mkdir()
    path = _tiff(home / "beside.tif", noise(1, 128), **PLACE)
    with rasterio.Env(TIFF_USE_OVR=True):
        with rasterio.open(path, "r+") as new:
            new.build_overviews([2], Resampling.average)
    (home / "beside.tif.aux.xml").write_text(
        "<PAMDataset><SRS>EPSG:32633</SRS><GeoTransform>5e5, 10, 0, 5e6, 0, -10</GeoTransform>"
        '<Metadata><MDI key="AREA_OR_POINT">Point</MDI></Metadata><PAMRasterBand band="1">'
        "<Description>red</Description><NoDataValue>0</NoDataValue><UnitType>m</UnitType>"
        "<Offset>1</Offset><Scale>0.5</Scale><ColorInterp>Gray</ColorInterp>"
        '<Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">:::BASE:::smaller.tif</MDI>'
        "</Metadata></PAMRasterBand></PAMDataset>"
    )
    _tiff(home / "smaller.tif", noise(1, 32))
    home = folder / "mosaic"
    home.mkdir()
    _tiff(home / "left.tif", noise(1))
    (home / "mosaic.vrt").write_text(
        '<VRTDataset rasterXSize="128" rasterYSize="64"><SRS>EPSG:32633</SRS>'
        "<GeoTransform>5e5, 10, 0, 5e6, 0, -10</GeoTransform>"
        '<VRTRasterBand dataType="Byte" band="1"><NoDataValue>0</NoDataValue>'
        '<SimpleSource><SourceFilename relativeToVRT="1">left.tif</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource>"
        '<ComplexSource><SourceFilename relativeToVRT="1">left.tif</SourceFilename>'
        '<SourceBand>1</SourceBand><SrcRect xOff="0" yOff="0" xSize="64" ySize="64"/>'
        '<DstRect xOff="64" yOff="0" xSize="64" ySize="64"/><ScaleRatio>2</ScaleRatio>'
        "<LUT>0:0,255:9</LUT></ComplexSource></VRTRasterBand></VRTDataset>"
    )
    home = folder / "raw"
    home.mkdir()
    (home / "pixels").write_bytes(noise(1).tobytes())
    (home / "raw.vrt").write_text(
        '<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="Byte" band="1" '
        'subClass="VRTRawRasterBand"><SourceFilename relativetoVRT="1">pixels</SourceFilename>'
        "<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>64</LineOffset>"
        "</VRTRasterBand></VRTDataset>"
    )
    home = folder / "world"
    home.mkdir()
    Pillow.fromarray(noise(1)[0]).save(home / "world.png")
    (home / "world.pgw").write_text("10\n0\n0\n-10\n500000\n5000000\n")
    (home / "world.prj").write_text(
        'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]]'
    )


def _stacks(folder: Path) -> None:
    planes = noise(3)
    tifffile.imwrite(folder / "pages.tif", planes, photometric="minisblack", compression="zlib")
    told = {"axes": "ZYX", "spacing": 2.0, "unit": "um"}
    tifffile.imwrite(folder / "imagej.tif", planes, imagej=True, metadata=told)


def _ome(folder: Path) -> None:
    path = folder / "planes.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as new:
        options = {"tile": (32, 32), "compression": "zlib"}
        new.write(noise(3, 128), subifds=1, metadata={"axes": "CYX"}, **options)
        new.write(noise(3, 64), subfiletype=1, **options)
    # tifffile gives each file an identifier of its own.
    with tifffile.TiffFile(path) as file:
        text = file.ome_metadata or ""
    start = text.index("urn:uuid:")
    tifffile.tiffcomment(
        path, text.replace(text[start : start + 45], "urn:uuid:" + "0" * 36).encode()
    )


def _zarrs(folder: Path) -> None:
    from numcodecs import Blosc

    import napari_restore as nr

    for name, form in (("two.zarr", 2), ("three.zarr", 3)):
        options: dict[str, Any] = {"compressor": Blosc("zstd")} if form == 2 else {}
        array = zarr.create_array(
            folder / name, shape=(64, 64, 3), chunks=(32, 32, 3), dtype="uint8", zarr_format=form,
            **({} if form == 3 else {"compressors": options["compressor"]}),
        )  # fmt: skip
        array[:] = noise().transpose(1, 2, 0)
    sharded = zarr.create_array(
        folder / "shards.zarr", shape=(64, 64), chunks=(16, 16), shards=(32, 32), dtype="uint16"
    )
    sharded[:] = noise(1, dtype="uint16")[0]
    axes = [
        {"name": "c", "type": "channel"},
        {"name": "y", "type": "space"},
        {"name": "x", "type": "space"},
    ]
    for name, form in (("ome4.zarr", 2), ("ome5.zarr", 3)):
        group = zarr.create_group(folder / name, zarr_format=form)
        scale = [
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": [1, 2**level, 2**level]}]}
            for level in range(2)
        ]  # fmt: skip
        told = {
            "multiscales": [{"version": "0.4", "axes": axes, "datasets": scale}],
            "omero": {
                "channels": [
                    {"label": c, "color": "FF0000", "window": {"start": 0, "end": 255}}
                    for c in "rgb"
                ]
            },
        }
        group.attrs.update(told if form == 2 else {"ome": {**told, "version": "0.5"}})
        for level in range(2):
            side = SIDE >> level
            inner = group.create_array(
                str(level), shape=(3, side, side), chunks=(1, 32, 32), dtype="uint8"
            )
            inner[:] = noise(3, side)
    image = nr.open_image(folder / "dressed.tif")
    nr.restore(image, "identity").save(folder / "own.zarr")
    for cached in (folder / "own.zarr").rglob("*.lock"):
        shutil.rmtree(cached, ignore_errors=True)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
