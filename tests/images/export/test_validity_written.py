"""Outputs say which values are invalid as their sources do, or are refused before the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from napari_restore.errors import BadOutput
from napari_restore.images import (
    ExportOptions,
    Image,
    Pixels,
    check_output,
    open_image,
    write_image,
)

PLACE = {"crs": "EPSG:32633", "transform": from_origin(5e5, 5e6, 10, 10)}
NODATA = (-9999, 255, 0)


def write(path: Path, pixels: npt.NDArray[Any], **profile: Any) -> Path:
    """Write (C, H, W)."""
    count, height, width = pixels.shape
    size = {"count": count, "height": height, "width": width, "dtype": pixels.dtype}
    with rasterio.open(path, "w", driver="GTiff", **size, **PLACE, **profile) as new:
        new.write(pixels)
    return path


def scene(size: int = 64, count: int = 3, dtype: str = "int16") -> npt.NDArray[Any]:
    return np.random.default_rng(3).integers(10, 200, (count, size, size)).astype(dtype)


def files(folder: Path, size: int = 64) -> list[Path]:
    """Three files of one band, each with a nodata value of its own in another corner."""
    paths = []
    for number, (band, nodata) in enumerate(zip(scene(size), NODATA, strict=True)):
        band[number * 8 : number * 8 + 16, number * 8 : 40] = nodata
        paths.append(write(folder / f"band{number}.tif", band[None], nodata=nodata))
    return paths


def vrt(folder: Path, size: int = 64) -> Path:
    bands = "".join(
        f'''<VRTRasterBand dataType="Int16" band="{number}"><NoDataValue>{nodata}</NoDataValue>
        <ComplexSource><SourceFilename relativeToVRT="1">{path.name}</SourceFilename>
        <SourceBand>1</SourceBand><NODATA>{nodata}</NODATA></ComplexSource></VRTRasterBand>'''
        for number, (path, nodata) in enumerate(zip(files(folder, size), NODATA, strict=True), 1)
    )
    path = folder / "stack.vrt"
    path.write_text(f'<VRTDataset rasterXSize="{size}" rasterYSize="{size}">{bands}</VRTDataset>')
    return path


def export(
    image: Image, path: Path, box: tuple[int, int, int, int] | None = None, **options: Any
) -> Path:
    whole = box or (0, 0, image.height, image.width)
    return write_image(
        path, Pixels(whole, image.read), like=image, options=ExportOptions(**options)
    )


def masks_of(*paths: Path) -> npt.NDArray[Any]:
    """Return rasterio's masks (C, H, W) of all bands of all files."""
    found = []
    for path in paths:
        with rasterio.open(path) as dataset:
            found.append(dataset.read_masks())
    return np.concatenate(found)


def read(*paths: Path) -> npt.NDArray[Any]:
    found = []
    for path in paths:
        with rasterio.open(path) as dataset:
            found.append(dataset.read())
    return np.concatenate(found)


@pytest.mark.parametrize("compress", ["deflate", "none"])
def test_nodata_by_band_of_a_vrt(tmp_path: Path, compress: str) -> None:
    source = vrt(tmp_path)
    written = export(open_image(source), tmp_path / "out.tif", compress=compress)
    np.testing.assert_array_equal(masks_of(written), masks_of(source))
    np.testing.assert_array_equal(read(written), read(source))
    # A second round reads the masks.
    again = export(open_image(written), tmp_path / "again.tif")
    np.testing.assert_array_equal(masks_of(again), masks_of(source))


def test_nodata_by_band_of_a_stack_and_a_part_of_it(tmp_path: Path) -> None:
    paths = files(tmp_path)
    image = open_image(paths, stack=True)
    wanted = masks_of(*paths)
    np.testing.assert_array_equal(masks_of(export(image, tmp_path / "out.tif")), wanted)
    part = export(image, tmp_path / "part.tif", (5, 11, 50, 60))
    np.testing.assert_array_equal(masks_of(part), wanted[:, 5:50, 11:60])
    chosen = export(image.with_bands((2, 0)), tmp_path / "chosen.tif")
    np.testing.assert_array_equal(masks_of(chosen), wanted[[2, 0]])


def test_a_pixel_with_nodata_in_a_band_of_its_own_is_invalid(tmp_path: Path) -> None:
    for source in (open_image(vrt(tmp_path)), open_image(files(tmp_path), stack=True)):
        wanted = (masks_of(*files(tmp_path)) != 0).all(axis=0)
        np.testing.assert_array_equal(source.read_valid((0, 0, 64, 64)), wanted)


def test_masks_of_files_in_a_stack(tmp_path: Path) -> None:
    paths = []
    for number, band in enumerate(scene(dtype="uint8")):
        path = write(tmp_path / f"{number}.tif", band[None])
        mask = np.full((64, 64), True)
        mask[number * 9 : number * 9 + 20] = False
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(mask)
        paths.append(path)
    written = export(open_image(paths, stack=True), tmp_path / "out.tif")
    np.testing.assert_array_equal(masks_of(written), masks_of(*paths))


def test_nodata_of_light_holds_beside_a_band_without(tmp_path: Path) -> None:
    bands = scene(dtype="uint16")
    bands[:2, :8] = 0
    bands[1, 20] = 0  # dark, and real
    bands[2] = 1
    paths = [write(tmp_path / f"x_B{n}.tif", bands[n : n + 1], nodata=0) for n in (0, 1)]
    paths.append(write(tmp_path / "x_QA_PIXEL.tif", bands[2:], nodata=1))
    image = open_image(paths, stack=True)
    assert image.data_bands == (0, 1)
    assert not image.read_valid((0, 0, 64, 64))[:8].any()
    assert image.read_valid((0, 0, 64, 64))[30:].all()
    written = export(image, tmp_path / "out.tif")
    np.testing.assert_array_equal(masks_of(written), masks_of(*paths))


@pytest.mark.slow
def test_overviews_of_masks_by_band(tmp_path: Path) -> None:
    source = vrt(tmp_path, 1200)
    written = open_image(export(open_image(source), tmp_path / "out.tif"))
    assert written.stored_levels > 1
    valid = written.read_valid((0, 0, 600, 600), 1)
    whole = written.read_valid((0, 0, 1200, 1200))
    # One pixel of an edge may fall to either side.
    blocks = whole.reshape(600, 2, 600, 2)
    assert valid[blocks.all(axis=(1, 3))].all()
    assert not valid[~blocks.any(axis=(1, 3))].any()


@pytest.mark.parametrize("cog", [False, True])
@pytest.mark.ids("slow", "True")
def test_jpeg_gets_a_mask_for_nodata(tmp_path: Path, cog: bool) -> None:
    pixels = scene(1200, dtype="uint8")
    pixels[:, 100:300, 50:90] = 0
    pixels[:, 700:, 640:] = 0
    source = write(tmp_path / "in.tif", pixels, nodata=0, photometric="RGB")
    written = export(open_image(source), tmp_path / "out.tif", compress="jpeg", cog=cog)
    np.testing.assert_array_equal(masks_of(written), masks_of(source))
    with rasterio.open(written, overview_level=0) as smaller:
        assert 0 < (smaller.dataset_mask() == 0).mean() < 0.3


def like(tmp_path: Path, name: str, pixels: npt.NDArray[Any], **profile: Any) -> Image:
    return open_image(write(tmp_path / name, pixels, **profile))


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_pictures_cannot_mark_nodata(tmp_path: Path, suffix: str) -> None:
    image = like(tmp_path, "in.tif", scene(dtype="uint8"), nodata=0, photometric="RGB")
    with pytest.raises(BadOutput, match="cannot mark the invalid pixels"):
        check_output(tmp_path / f"out{suffix}", like=image)


def test_png_keeps_nodata_but_no_mask(tmp_path: Path) -> None:
    pixels = scene(dtype="uint8")
    pixels[:, :9] = 0
    source = write(tmp_path / "in.tif", pixels, nodata=0, photometric="RGB")
    written = export(open_image(source), tmp_path / "out.png")
    np.testing.assert_array_equal(masks_of(written), masks_of(source))
    with rasterio.open(source, "r+") as dataset:
        dataset.write_mask(np.full((64, 64), True))
    with pytest.raises(BadOutput, match="PNG cannot mark"):
        check_output(tmp_path / "again.png", like=open_image(source))


@pytest.mark.parametrize("cog", [False, True])
def test_jpeg_takes_no_alpha_and_no_classes(tmp_path: Path, cog: bool) -> None:
    options = ExportOptions(compress="jpeg", cog=cog)
    image = like(tmp_path, "a.tif", scene(count=4, dtype="uint8"), photometric="RGB", alpha="YES")
    with pytest.raises(BadOutput, match=r"band 4 of a, .* it is alpha"):
        check_output(tmp_path / "out.tif", like=image, options=options)
    path = write(tmp_path / "b.tif", scene(count=4, dtype="uint8"))
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [
            ColorInterp.red,
            ColorInterp.green,
            ColorInterp.blue,
            ColorInterp.undefined,
        ]
        dataset.set_band_description(4, "SCL")
    with pytest.raises(BadOutput, match="it is class"):
        check_output(tmp_path / "out.tif", like=open_image(path), options=options)


def test_five_bands_as_jpeg(tmp_path: Path) -> None:
    image = like(tmp_path, "a.tif", scene(64, 5, "uint8"), tiled=True, interleave="pixel")
    with pytest.raises(BadOutput, match="5 bands"):
        check_output(
            tmp_path / "c.tif", like=image, options=ExportOptions(compress="jpeg", cog=True)
        )
    with pytest.raises(BadOutput, match="5 bands"):
        check_output(tmp_path / "c.jpg", like=image)
    assert read(export(image, tmp_path / "out.tif", compress="jpeg")).shape == (5, 64, 64)


@pytest.mark.parametrize(("name", "cog"), [("out.zarr", False), ("out.tif", True)])
def test_masks_by_band_fit_a_plain_geotiff_only(tmp_path: Path, name: str, cog: bool) -> None:
    image = open_image(vrt(tmp_path))
    with pytest.raises(BadOutput, match="cannot mark nodata per band"):
        check_output(tmp_path / name, like=image, options=ExportOptions(cog=cog))
