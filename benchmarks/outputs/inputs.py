"""The inputs of `same_outputs.py`: small files of every kind, the same every time."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

CLEAR = ("aerial_clean/autzen_1.jpg", "aerial_clean/neon_SOAP_031.jpg")
SIZE = (384, 512)
UTM = (0.5, 0.0, 500000.0, 0.0, -0.5, 5000000.0)
TRAINING = """
[model]
id = "haze-unet"
sizes = { width = 4, blocks = 1 }
[data]
index = "aerial"
[recipe]
size = 32
batch = 2
[run]
output = "../calls/train/run"
steps = 3
workers = 0
[score]
scenes = 1
side = 64
"""
SCRIPT = """
import torch

def halve():
    return torch.nn.Conv2d(3, 3, 1, groups=3, bias=False).requires_grad_(False).apply(
        lambda layer: torch.nn.init.constant_(layer.weight, 0.5)
    )
"""


def make_inputs(data: Path, folder: Path) -> dict[str, Path]:
    """Write the inputs, at most 512 pixels a side and the same every time; their paths by name."""
    import imagecodecs
    import rasterio
    import tifffile
    import zarr
    from PIL import Image
    from rasterio.enums import ColorInterp
    from rasterio.shutil import copy

    height, width = SIZE
    shape = (width * 2, height * 2)
    towns = [
        Image.open(data / name).convert("RGB").resize(shape).resize((width, height))
        for name in CLEAR
    ]
    clear = np.asarray(towns[0])
    y, x = np.mgrid[:height, :width] / 200
    noise = np.random.default_rng(0).normal(0, 0.004, (*SIZE, 4))
    t = (0.6 + 0.2 * np.cos(1.7 * y + x) * np.cos(0.9 * x))[..., None]
    four = np.dstack([clear, clear[..., :1] // 2 + 90]) / 255
    hazy = np.clip(four * t + np.array([0.86, 0.88, 0.92, 0.8]) * (1 - t) + noise, 0.01, 1)
    rgb8 = np.rint(hazy[..., :3] * 255).astype(np.uint8)
    made = {"truth": clear, "rgb8": rgb8, "tiny": rgb8[:96, :112]}
    sixteen = np.rint(hazy[..., [2, 1, 0, 3]] * 10_000).astype(np.uint16)
    sixteen[:40, :60] = 0
    real = hazy[..., :3].astype(np.float32)
    real[-30:, -50:] = np.nan
    alpha = np.dstack([rgb8, np.where(np.hypot(y - 1, x - 1) < 0.9, 255, 0).astype(np.uint8)])
    cloud = np.zeros(SIZE, np.uint8)
    cloud[60:130, 300:420] = 1
    strength = np.clip((x[..., None] - 0.4) / 1.5, 0, 1).astype(np.float32)
    paths: dict[str, Path] = {}

    def file(name: str, path: str) -> Path:
        paths[name] = folder / path
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        return paths[name]

    def tiff(name: str, pixels: np.ndarray, **options: Any) -> Path:
        path = file(name, f"{name}.tif")
        rows, columns, bands = pixels.shape
        profile = {
            "driver": "GTiff", "height": rows, "width": columns, "count": bands, "dtype": pixels.dtype,
            "crs": "EPSG:32633", "transform": rasterio.Affine(*UTM), "compress": "deflate",
            "tiled": True, "blockxsize": 128, "blockysize": 128, **options,
        }  # fmt: skip
        with rasterio.open(path, "w", **profile) as new:
            new.write(pixels.transpose(2, 0, 1))
            if name == "multi16":
                new.descriptions = ("B2", "B3", "B4", "B5")
            if name == "alpha":
                new.colorinterp = [
                    ColorInterp.red,
                    ColorInterp.green,
                    ColorInterp.blue,
                    ColorInterp.alpha,
                ]
        return path

    for name, pixels in made.items():
        tiff(name, pixels, photometric="RGB")
    tiff("multi16", sixteen, nodata=0)
    tiff("float", real, nodata=np.nan, photometric="RGB")
    tiff("alpha", alpha, photometric="RGB", alpha="yes")
    tiff("wide", np.tile(rgb8, (2, 2, 1))[:640, :768], photometric="RGB")
    tiff("left", rgb8[:, :256], photometric="RGB")
    right = rasterio.Affine(*UTM) * rasterio.Affine.translation(256, 0)
    tiff("right", rgb8[:, 256:], photometric="RGB", transform=right)
    tiff("big", rgb8, photometric="RGB", BIGTIFF="YES")
    tiff("cloud", cloud[..., None])
    tiff("mask", strength)
    for number, name in enumerate(("b4", "b3", "b2")):
        tiff(name, rgb8[:, :, number : number + 1])
    copy(paths["rgb8"], file("cog", "cog.tif"), driver="COG", overviews="AUTO", blocksize=128)
    copy(paths["rgb8"], file("vrt", "scene.vrt"), driver="VRT")
    planes = rgb8.transpose(2, 0, 1)
    tifffile.imwrite(
        file("ome", "scene.ome.tif"), planes, ome=True, photometric="minisblack", tile=(128, 128),
        metadata={"axes": "CYX", "UUID": "urn:uuid:0"},
    )  # fmt: skip
    axes = [{"name": "c", "type": "channel"}, *({"name": n, "type": "space"} for n in "yx")]
    scale = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    for number, form in ((4, 2), (5, 3)):
        multi = [image | ({"version": "0.4"} if form == 2 else {})]
        ome = (
            {"multiscales": multi}
            if form == 2
            else {"ome": {"version": "0.5", "multiscales": multi}}
        )
        group = zarr.open_group(
            file(f"zarr{number}", f"scene{number}.zarr"), mode="w", zarr_format=form
        )
        group.attrs.update(ome)
        group.create_array("0", data=planes, chunks=(1, 128, 128))
    photo = Image.fromarray(rgb8)
    exif = Image.Exif()
    exif[271] = "Maker"
    photo.save(file("jpg", "photo.jpg"), quality=92, exif=exif)
    exif[274] = 6
    photo.save(file("turned", "turned.jpg"), quality=92, exif=exif)
    photo.save(file("png8", "photo.png"))
    photo.convert("L").save(file("grey", "grey.png"))
    photo.save(file("webp", "photo.webp"), quality=92)
    file("png16", "photo16.png").write_bytes(
        imagecodecs.png_encode(np.rint(hazy[..., :3] * 65535).astype(np.uint16))
    )
    write_raw(file("raw", "photo.dng"), hazy[:240, :320, :3])
    ring = [[500030, 4999970], [500200, 4999960], [500150, 4999850], [500030, 4999970]]
    crs = {"type": "name", "properties": {"name": "EPSG:32633"}}
    areas = {"type": "Polygon", "coordinates": [ring], "crs": crs}
    file("areas", "areas.geojson").write_text(json.dumps(areas))
    file("boxes", "boxes.csv").write_text("name,x,y,width,height\na,40,50,16,16\nb,300,200,20,16\n")
    file("config", "train.toml").write_text(TRAINING)
    file("script", "model.py").write_text(SCRIPT)
    for number, town in enumerate(towns):
        town.save(file("town", f"aerial/town_{number}.png"))
        square = town.crop((64, 64, 192, 192))
        square.save(file("town", f"pairs/clear/{number}.png"))
        thick = np.asarray(square) * 0.6 + 88 + 8 * number
        Image.fromarray(thick.astype(np.uint8)).save(file("town", f"pairs/hazy/{number}.png"))
    for path in folder.rglob("*"):
        # Kept pictures name the time of theirs.
        os.utime(path, (1_600_000_000, 1_600_000_000))
    return paths | {"clear": folder / "aerial", "pairs": folder / "pairs"}


def write_raw(path: Path, linear: np.ndarray) -> None:
    """Write linear sRGB (H, W, 3) in 0 … 1 as a Bayer DNG (RGGB, 14 bits)."""
    import tifffile

    seen = np.rint(linear * (0.5, 1.0, 0.625) * 16383).astype(np.uint16)
    mosaic = seen[..., 1].copy()
    mosaic[0::2, 0::2], mosaic[1::2, 1::2] = seen[0::2, 0::2, 0], seen[1::2, 1::2, 2]
    matrix = (1620, 0, 0, -9689, 18758, 415, 348, -1275, 6606)
    tags = [
        (50706, "B", 4, bytes([1, 4, 0, 0]), True),
        (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, bytes([0, 1, 1, 2]), True),
        (50714, "I", 1, 0, True),
        (50717, "I", 1, 16383, True),
        (50721, "2i", 9, tuple(n for v in matrix for n in (v, 10_000)), True),
        (50728, "2I", 3, (1, 2, 1, 1, 5, 8), True),
        (50778, "H", 1, 21, True),
    ]
    tifffile.imwrite(path, mosaic, photometric=32803, extratags=tags, metadata=None, software=False)
