"""Outputs of all formats, opened by other programs: the same size and values."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image as Pillow

from napari_restore.images import ExportOptions, Pixels, open_image, write_image

GREY = "grey", "grey 16", "12 bit", "plane of ImageJ"
DEEP = "grey 16", "RGB 16", "12 bit", "plane of ImageJ", "channels of OME", "associated alpha"


def scene(bands: int, dtype: Any = np.uint8, full: int | None = None) -> np.ndarray:
    y, x = np.mgrid[:70, :90] / 90
    values = np.stack([0.2 + 0.7 * x, 0.9 - 0.6 * y, 0.5 + 0.3 * x * y, 1 - y * 0], axis=2)
    return (values[..., :bands] * (full or np.iinfo(dtype).max)).astype(dtype)


def write_source(folder: Path, kind: str) -> Path:
    path = folder / "a.tif"
    planes = np.moveaxis(scene(3, np.uint16), 2, 0)
    if kind == "photo":
        path = folder / "a.jpg"
        exif = Pillow.Exif()
        exif[0x0112], exif[315] = 6, "Ann"
        Pillow.fromarray(scene(3)).save(path, dpi=(300, 300), exif=exif, quality=95)
    elif kind == "RGBA":
        path = folder / "a.png"
        Pillow.fromarray(scene(4)).save(path)
    elif kind == "12 bit":
        size = {"height": 70, "width": 90, "count": 1, "dtype": "uint16"}
        with rasterio.open(path, "w", driver="GTiff", nbits=12, **size) as new:
            new.write(scene(1, np.uint16, 4095)[..., 0], 1)
    elif kind == "plane of ImageJ":
        tifffile.imwrite(path, planes, imagej=True, metadata={"axes": "ZYX", "unit": "um"})
    elif kind == "channels of OME":
        path = folder / "a.ome.tif"
        tifffile.imwrite(path, planes, photometric="minisblack", metadata={"axes": "CYX"})
    elif kind == "associated alpha":
        values, extra = scene(4, np.uint16), {"extrasamples": ["assocalpha"]}
        tifffile.imwrite(path, values, photometric="rgb", metadata=None, **extra)
    else:
        dtype = np.uint16 if "16" in kind else np.uint8
        values = scene(3, dtype) if "RGB" in kind else scene(1, dtype)[..., 0]
        tifffile.imwrite(path, values, photometric="rgb" if "RGB" in kind else "minisblack")
    return path


KINDS = ("photo", "RGBA", "grey", "RGB 16", *DEEP)


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".webp", "cog"])
@pytest.mark.parametrize("kind", sorted(set(KINDS)))
def test_other_programs_open_the_output(tmp_path: Path, kind: str, suffix: str) -> None:
    alpha = kind in ("RGBA", "associated alpha")
    if (alpha and suffix == ".jpg") or (kind in GREY and suffix == ".webp"):
        pytest.skip("not a format for it")
    image = open_image(write_source(tmp_path, kind), plane=0)
    out = tmp_path / ("b.tif" if suffix == "cog" else f"b{suffix}")
    box = (0, 0, image.height, image.width)
    quality = 98 if suffix in (".jpg", ".webp") else None
    options = ExportOptions(cog=suffix == "cog", quality=quality)
    write_image(out, Pixels(box, image.read), like=image, options=options)
    size = (image.height, image.width)
    with rasterio.open(out) as dataset:
        found = dataset.read().transpose(1, 2, 0)
    if alpha and suffix == ".webp":
        found = np.dstack([found, np.full(size, 255, np.uint8)])  # an opaque alpha is left out
    assert found.shape == image.shape
    if out.suffix == ".tif":
        with tifffile.TiffFile(out) as file:
            page = file.pages.first.asarray()
            whole = np.squeeze(file.asarray())
        assert whole.shape == page.shape
        shown = np.moveaxis(page, 0, -1) if page.ndim == 3 and page.shape[0] == 3 else page
        np.testing.assert_array_equal(shown.reshape(found.shape), found)
    else:
        lossy = suffix != ".png"
        again = imagecodecs.imread(out)
        again = again.reshape(*size, -1)
        found = found[..., : again.shape[2]]
        np.testing.assert_allclose(again.astype(float), found, atol=30 if lossy else 0)
    if kind not in DEEP or suffix in (".jpg", ".webp"):
        with Pillow.open(out) as picture:
            assert np.asarray(picture).shape[:2] == size
    _exiftool(out, size)
    if kind not in ("12 bit", "channels of OME") or out.suffix != ".tif":
        _opencv(out, size)
    # Pillow, by which napari reads PNG, has 8 bits for colours.
    _napari(out, found, same=out.suffix == ".tif" or (out.suffix == ".png" and kind not in DEEP))


def _napari(out: Path, pixels: np.ndarray, *, same: bool) -> None:
    """Open the output as napari does, with its own reader instead of this plugin's."""
    try:
        from napari.components import ViewerModel
        from napari_builtins.io import napari_get_reader
    except ImportError:
        return
    reader = napari_get_reader(str(out))
    assert reader is not None
    ((values, *_),) = reader(str(out))
    layer = ViewerModel().add_image(values)
    data = np.asarray(layer.data)
    if layer.rgb or data.ndim == 2:
        data = data.reshape(*pixels.shape[:2], -1)
    else:  # bands one after the other
        data = np.moveaxis(data, 0, -1)
    assert data.shape[:2] == pixels.shape[:2]
    if same:
        np.testing.assert_array_equal(data, pixels)


def _exiftool(out: Path, size: tuple[int, int]) -> None:
    program = shutil.which("exiftool")
    if program is None:
        return
    shown = subprocess.run(
        [program, "-j", "-ImageHeight", "-ImageWidth", "-Orientation#", "-Error", out],
        capture_output=True,
        text=True,
        check=True,
    )
    (tags,) = json.loads(shown.stdout)
    assert (tags["ImageHeight"], tags["ImageWidth"]) == size
    assert tags.get("Orientation", 1) == 1 and "Error" not in tags


def _opencv(out: Path, size: tuple[int, int]) -> None:
    try:
        import cv2
    except ImportError:
        return
    read = cv2.imread(str(out), cv2.IMREAD_UNCHANGED)
    assert read is not None and read.shape[:2] == size
