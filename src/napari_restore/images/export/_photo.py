"""PNG, JPEG and WebP with the camera's metadata.

The pixels go to an uncompressed file first, which is encoded row by row: the memory needed
does not grow with the picture (WebP's does: libwebp needs all of it). Photos in JPEG are encoded by
libjpeg-turbo, as they are read; PNG, and JPEG on a map, by GDAL. Metadata is inserted while
the result is copied to its final path.
"""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from napari_restore.images._profile import Profile
from napari_restore.images.export import _geotiff, exif
from napari_restore.images.export._job import (
    BLOCK,
    DamagedOutput,
    ExportJob,
    disk_full_raised,
    same_pixels,
)
from napari_restore.images.files.exif import upright_exif
from napari_restore.images.files.exif_directories import EXIF_HEADER
from napari_restore.images.files.handles import DatasetKey, environment, open_dataset
from napari_restore.questions import Format

PNG_LEVEL = 3
BAND = 64
"""Rows that are worked on at once, at least."""
BAND_BYTES = 8 << 20


def write(job: ExportJob, path: Path) -> None:
    """Write `job` as the format of its suffix."""
    if job.suffix == ".webp":
        _write_webp(job, path)
        return
    plain = path.with_name(path.stem + ".plain.tif")
    encoded = path.with_name(path.stem + ".plain" + path.suffix)
    by_gdal = job.suffix == ".png" or job.like.georeference is not None
    try:
        with disk_full_raised(path):
            (_write_plain if by_gdal else _write_rows)(job, plain)
            job.check_cancelled()
            (_encode if by_gdal else _encode_jpeg)(job, plain, encoded)
        job.check_cancelled()
        profile = job.profile
        if job.suffix == ".png":
            exif.splice_png(encoded, path, exif.png_chunks(profile))
        else:
            exif.splice_jpeg(encoded, path, exif.jpeg_segments(profile), profile.resolution)
        aside = encoded.with_name(encoded.name + ".aux.xml")
        if aside.exists():
            # The only way to store a georeference with PNG and JPEG.
            aside.replace(path.with_name(path.name + ".aux.xml"))
    finally:
        # After an error the memory map may still be open, and Windows removes no open file: that must
        # not hide the error.
        with contextlib.suppress(PermissionError):
            for left in (plain, encoded):
                left.with_name(left.name + ".aux.xml").unlink(missing_ok=True)
                left.unlink(missing_ok=True)


def check(job: ExportJob, path: Path) -> None:
    """Open `path` again and compare. Raises `DamagedOutput`."""
    with environment(), open_dataset(DatasetKey(str(path))) as dataset:
        bands = job.bands
        if job.suffix == ".webp" and bands == 4 and dataset.count == 3:
            # libwebp leaves out an alpha that is opaque everywhere.
            bands = 3 if all((s.pixels[..., 3] == 255).all() for s in job.samples) else bands
        # WebP has no grey: three equal bands.
        stored = 3 if job.suffix == ".webp" and bands == 1 else bands
        _geotiff.check_size(job, dataset, stored)
        # Such files can only be decoded from the top: once through, band by band.
        for top in range(0, job.height, BAND):
            bottom = min(top + BAND, job.height)
            here = [s for s in job.samples if s.y < bottom and s.y + len(s.pixels) > top]
            pixels = dataset.read(window=((top, bottom), (0, job.width))).transpose(1, 2, 0)
            for sample in here:
                first, last = max(top, sample.y), min(bottom, sample.y + len(sample.pixels))
                read_back = pixels[first - top : last - top, sample.x :][
                    :, : sample.pixels.shape[1]
                ]
                wanted = sample.pixels[first - sample.y : last - sample.y]
                if not same_pixels(
                    read_back[..., :bands], wanted[..., :bands], lossy=job.suffix != ".png"
                ):
                    raise DamagedOutput(f"pixels at row {first}, column {sample.x} differ")


def _write_plain(job: ExportJob, path: Path) -> None:
    options = dataclasses.replace(job.options, compress="none")
    with environment(GDAL_NUM_THREADS=str(options.workers)):
        # The copy shares the list of samples, and GDAL encodes tiles ten times slower.
        _geotiff.write_pixels(
            dataclasses.replace(job, options=options, tags={}), path, Profile(), strips=True
        )


def _encode(job: ExportJob, plain: Path, path: Path) -> None:
    import rasterio.shutil

    driver, options = "PNG", dict[str, Any](ZLEVEL=PNG_LEVEL)
    if job.suffix != ".png":
        driver, options = "JPEG", {"QUALITY": job.options.quality or Format.USUAL_QUALITY}
    placed = job.like.georeference is not None
    with environment(GDAL_PAM_ENABLED="YES" if placed else "NO"):
        rasterio.shutil.copy(plain, path, driver=driver, strict=False, **options)


def _write_rows(job: ExportJob, path: Path) -> None:
    """Write the bytes of all pixels, with a fourth one for three bands, as libjpeg-turbo takes them."""
    rows = BAND
    # The fewer rows, the more often a chunk of the result is decoded.
    while rows < BLOCK and 2 * rows * job.width * 4 <= BAND_BYTES:
        rows *= 2
    with path.open("wb") as file:
        for block in job.blocks(rows, whole_rows=True):
            pixels = block.pixels
            if job.bands == 3:
                pixels = np.zeros((*pixels.shape[:2], 4), np.uint8)
                pixels[..., :3] = block.pixels
            file.write(np.ascontiguousarray(pixels).data)


def _encode_jpeg(job: ExportJob, plain: Path, path: Path) -> None:
    from PIL import Image as Pillow

    mode, size = ("L" if job.bands == 1 else "RGBX"), (job.width, job.height)
    options: dict[str, Any] = {"quality": job.options.quality or Format.USUAL_QUALITY}
    if job.bands == 3:
        full = options["quality"] >= Format.USUAL_QUALITY
        options["subsampling"] = job.options.subsampling or ("4:4:4" if full else "4:2:0")
    with plain.open("rb") as rows, path.open("wb") as file:
        pixels = mmap.mmap(rows.fileno(), 0, access=mmap.ACCESS_READ)
        memory: Any = pixels
        target: Any = _Written(file, pixels)
        try:
            picture = Pillow.frombuffer(mode, size, memory, "raw", mode, 0, 1)
            picture.save(target, "JPEG", **options)
            del picture
        finally:
            # After an error Pillow still refers to it, which would hide the error.
            with contextlib.suppress(BufferError):
                pixels.close()


class _Written:
    """A file, at every write to which what was read of a memory map is given back."""

    def __init__(self, file: BinaryIO, read: mmap.mmap) -> None:
        self._file, self._read = file, read

    def write(self, data: bytes) -> int:
        if hasattr(self._read, "madvise"):
            self._read.madvise(mmap.MADV_DONTNEED)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _write_webp(job: ExportJob, path: Path) -> None:
    from PIL import Image as Pillow

    whole = np.empty((job.height, job.width, job.bands), np.uint8)
    for block in job.blocks():
        height, width = block.pixels.shape[:2]
        whole[block.y : block.y + height, block.x : block.x + width] = block.pixels
    profile = job.profile
    upright = exif.exif_with_iptc(upright_exif(profile.exif), profile.iptc)
    # A profile of grey is none of the three bands that are written in its place.
    icc = None if job.bands == 1 else profile.icc
    extra: dict[str, Any] = {"icc_profile": icc, "xmp": profile.xmp}
    extra["exif"] = upright and upright.removeprefix(EXIF_HEADER)
    extra = {name: block for name, block in extra.items() if block}
    # Exact: colours under full transparency are data here, not waste.
    quality = job.options.quality or Format.USUAL_QUALITY
    whole = whole.repeat(3, axis=2) if job.bands == 1 else whole
    Pillow.fromarray(whole).save(path, "WEBP", quality=quality, exact=True, **extra)
