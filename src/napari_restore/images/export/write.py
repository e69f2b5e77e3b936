"""Writing an image to a complete file, in the format of its suffix.

A file is written beside its final name, opened again and compared, and only then renamed; an error
before leaves no file behind and an existing one untouched.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_restore._addresses import is_remote
from napari_restore._points import reached
from napari_restore.errors import BadOutput, DiskFull, RestoreError, is_disk_full, option
from napari_restore.images._image import Image
from napari_restore.images.cache.folder import free_bytes, remove_path
from napari_restore.images.export import _geotiff, _photo, _zarr
from napari_restore.images.export._job import (
    FULL_BYTES,
    DamagedOutput,
    ExportJob,
    ExportOptions,
    Pixels,
    Progress,
    disk_full,
)
from napari_restore.images.export._rendition import Rendition, is_changed
from napari_restore.images.files.handles import handles


class FormatLimits(NamedTuple):
    """Limits of one format, and the module that writes it.

    The module has ``write(job, path)`` and ``check(job, path)``; the latter raises `DamagedOutput`
    if `path` does not contain what was written.
    """

    name: str
    module: ModuleType
    dtypes: tuple[str, ...] = ()
    """By name; empty: any that the readers support."""
    bands: tuple[int, ...] = ()
    """Empty: any number."""
    longest: int | None = None
    """Longest side in pixels."""


_GEOTIFF = FormatLimits("GeoTIFF", _geotiff)
_ZARR = FormatLimits("OME-Zarr", _zarr)
_PNG = FormatLimits("PNG", _photo, ("uint8", "uint16"), (1, 2, 3, 4), 2**31 - 1)
_JPEG = FormatLimits("JPEG", _photo, ("uint8",), (1, 3), 65500)
_WEBP = FormatLimits("WebP", _photo, ("uint8",), (1, 3, 4), 16383)

FORMATS: dict[str, FormatLimits] = {
    ".tif": _GEOTIFF,
    ".tiff": _GEOTIFF,
    ".zarr": _ZARR,
    ".png": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": _WEBP,
}
"""Format by suffix. A new format is one module and one entry here."""
OTHERS = "Write a .tif or .zarr instead"
_SUFFIXES_WITH: dict[str, tuple[str, ...]] = {
    "cog": (".tif",),
    "compress": (".tif", ".zarr"),
    "level": (".tif", ".zarr"),
    "quality": (".jpg", ".webp", ".tif"),
    "subsampling": (".jpg",),
    "profile": (".jpg", ".png", ".webp", ".tif"),
}
"""Formats of the options that not all have."""


def check_options(path: str | os.PathLike[str], options: ExportOptions) -> None:
    """Raise `BadOutput` for an option that the format of `path` has not, or an unknown suffix."""
    format_of(Path(path))
    for _, why, hint in _refused(Path(path), options):
        raise BadOutput(why, hint)


def unfit_options(path: str | os.PathLike[str], options: ExportOptions) -> Iterator[str]:
    """Yield the names of given options that the format of `path` has not."""
    return (name for name, _, _ in _refused(Path(path), options))


def _refused(target: Path, options: ExportOptions) -> Iterator[tuple[str, str, str]]:
    """Yield the name of each given option that the format of `target` has not, why, and what to do."""
    form, compress = FORMATS.get(target.suffix.lower()), options.compress
    if form is None:
        return
    usual = ExportOptions()
    for name, suffixes in _SUFFIXES_WITH.items():
        if (value := getattr(options, name)) == getattr(usual, name):
            continue
        asked, is_tiff = option(name, value), form is _GEOTIFF
        if form not in [FORMATS[suffix] for suffix in suffixes]:
            *others, last = suffixes
            kinds = f"{', '.join(others)} and {last}" if others else last
            why = f"{asked} is for {kinds}, and {target.name} is {form.name}."
            yield name, why, f"Leave it out, or write a {suffixes[0]}."
        elif name == "quality" and is_tiff and compress != "jpeg":
            why = f"{asked} is for JPEG compression, and that of {target.name} loses nothing."
            yield name, why, f"Leave it out, or add {option('compress', 'jpeg')}."
        elif name == "compress" and form is _ZARR and compress not in ("zstd", "none"):
            # Its one compression is Blosc with zstd.
            why = f"{target.name} is compressed by zstd."
            yield name, why, f"Leave {asked} out, or write a .tif."
        elif name == "level" and compress in (("jpeg", "lzw", "none") if is_tiff else ("none",)):
            why = f"{option('compress', compress)} has no {asked}."
            yield name, why, "Leave one of them out."
    depth = {8: "uint8", 16: "uint16"}.get(options.bit_depth or 0)
    if form.dtypes and depth and depth not in form.dtypes:
        asked = option("bit_depth", options.bit_depth)
        why = f"{form.name} has 8 bits per value."
        yield "bit_depth", why, f"Leave {asked} out, or write a .png or .tif."


def check_output(
    path: str | os.PathLike[str],
    inputs: Iterable[str | os.PathLike[str]] = (),
    overwrite: bool = False,
    *,
    like: Image | None = None,
    shape: tuple[int, int, int] | None = None,
    dtype: npt.DTypeLike | None = None,
    options: ExportOptions | None = None,
) -> None:
    """Check before any work whether `path` can be written.

    Raises `BadOutput` if the suffix is unknown, the path is one of `inputs` or exists without
    `overwrite`, its folder is missing or not writable, if the format cannot store `dtype`, or,
    where `like` is given, (H, W, C) `shape` of it.
    """
    target = Path(path)
    form = format_of(target)
    if options is not None:
        check_options(target, options)
    try:
        str(target).encode()
    except UnicodeEncodeError:
        raise BadOutput(f"The name {target} is not UTF-8.", "Choose another name.") from None
    for input_dtype in inputs:
        if _is_same(target, Path(input_dtype)):
            raise BadOutput(
                f"The output {target.name} is the input itself.", "Choose another name or folder."
            )
    if target.exists() or target.is_symlink():
        if not overwrite:
            raise BadOutput(
                f"{target} exists already.", f"Choose another name, or {option('overwrite', True)}."
            )
        _check_replaceable(target, form)
    _check_folder(target)
    if like is not None:
        _check_content(target, form, like, shape or like.shape, dtype, options or ExportOptions())
    elif dtype is not None:
        _check_dtype(form, np.dtype(dtype))


def _check_content(
    target: Path,
    form: FormatLimits,
    like: Image,
    shape: tuple[int, int, int],
    dtype: npt.DTypeLike | None,
    options: ExportOptions,
) -> None:
    """Raise `BadOutput` where the format cannot store (H, W, C) `shape` of `like`."""
    if is_changed(target, like, options) and shape[2] == like.bands:
        pixels = Pixels((0, 0, *shape[:2]), like.read)
        like = Image(Rendition(pixels, like, target, options))
        shape, dtype = like.shape, None
    kind = file_dtype(target, like, np.dtype(dtype or like.dtype), options)
    _check_fits(form, shape, kind)
    if options.subsampling is not None and (shape[2] != 3 or like.georeference is not None):
        why = "has no colours" if shape[2] != 3 else "has a place on a map"
        raise BadOutput(
            f"{option('subsampling', options.subsampling)} is for the colours of photos, and "
            f"{like.name} {why}.",
            "Leave it out.",
        )
    if form is _GEOTIFF and options.compress == "jpeg" and kind != np.uint8:
        raise BadOutput(
            f"JPEG compression does not support {kind} values.", "Choose deflate, zstd or lzw."
        )
    if shape[2] in (like.bands, len(like.data_bands)) and dtype in (None, like.dtype):
        _check_validity(form, like, options)
        _check_lossy(form, like, options, shape[2])


def _check_replaceable(target: Path, form: FormatLimits) -> None:
    """Raise `BadOutput` for an existing path that is no file, or no zarr, of the same kind."""
    # Fewer names than a reader takes: attributes alone, in .zattrs, may belong to something else.
    is_zarr = any((target / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))
    if target.is_dir() != (form is _ZARR) or (target.is_dir() and not is_zarr):
        kind = "a folder" if target.is_dir() else "a file"
        raise BadOutput(f"{target} is {kind} and will not be replaced.", "Choose another name.")
    if target.exists() and not target.is_file() and not target.is_dir():
        raise BadOutput(f"{target} is a device or a pipe.", "Name a file.")


def write_image(
    path: str | os.PathLike[str],
    pixels: Pixels,
    *,
    like: Image,
    options: ExportOptions | None = None,
    tags: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Path:
    """Write `pixels`, a part of an image derived from `like`, whole and verified; return `path`.

    The suffix decides the format. The file takes over place, bands, nodata, tags and colour of
    `like`; one of another dtype or number of bands (a side map) takes the place only. `tags` are
    added to the default namespace. `progress` is called with rows done and rows in all, `cancelled`
    between blocks.

    Raises `BadOutput`, see `check_output`, also if the finished file does not hold what was written;
    `DiskFull`, `Cancelled`: nothing is left behind then.
    """
    target, options = Path(path), options or ExportOptions()
    y0, x0, y1, x1 = pixels.box
    bands, dtype = pixels.bands or like.bands, np.dtype(pixels.dtype or like.dtype)
    inputs = [like.path] if like.path is not None else []
    check_output(
        target,
        inputs,
        options.overwrite,
        like=like,
        shape=(y1 - y0, x1 - x0, bands),
        dtype=dtype,
        options=options,
    )
    if is_changed(target, like, options) and (bands, dtype) == (like.bands, like.dtype):
        rendition = Rendition(pixels, like, target, options)
        pixels, like, dtype = rendition.pixels, Image(rendition), rendition.dtype
    dtype = file_dtype(target, like, dtype, options)
    job = ExportJob(like, pixels, dtype, options, dict(tags or {}), target, progress, cancelled)
    module = format_of(target).module
    with written_beside(target, overwrite=options.overwrite) as part:
        module.write(job, part)
        _check(module, job, part)
    return target


@contextlib.contextmanager
def written_beside(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a name to write under, which becomes `target` at the end; raises `BadOutput`, `DiskFull`."""
    # Nothing is left behind where something fails.
    # Written in its final folder, so that the rename is one step on one disk.
    remove_leftovers(target)
    part = name_beside(target, "part")
    try:
        yield part
        if not overwrite and target.exists():
            raise BadOutput(
                f"{target} appeared meanwhile.",
                f"Choose another name, or {option('overwrite', True)}.",
            )
        take_name(part, target)
    except Exception as error:
        ours = as_ours(error, target)
        if ours is error:
            raise
        raise ours from error
    finally:
        remove_part(part)


def _check(module: ModuleType, job: ExportJob, part: Path) -> None:
    try:
        module.check(job, part)
    except DamagedOutput:
        raise
    except Exception as error:  # whatever a reader makes of a broken file
        raise DamagedOutput(f"it cannot be read: {error}") from error


def format_of(path: Path) -> FormatLimits:
    """Return the format of a suffix. Raises `BadOutput`."""
    form = FORMATS.get(path.suffix.lower())
    if form is None and path.suffix.lower() == ".gif":
        raise BadOutput(
            "GIF has 256 colours at most: results are not written as GIF.",
            f"Use one of {' '.join(FORMATS)}.",
        )
    if form is None:
        raise BadOutput(
            f"{path.name or path} has no suffix of a format that can be written.",
            f"Use one of {' '.join(FORMATS)}.",
        )
    return form


def output_like(image: Image) -> Path:
    """Return a name with the suffix of `image`'s file, or .tif where such files are not written."""
    suffix = "" if image.path is None else image.path.suffix.lower()
    return Path("output").with_suffix(suffix if suffix in FORMATS else ".tif")


def file_dtype(
    path: Path, like: Image, dtype: np.dtype[Any], options: ExportOptions
) -> np.dtype[Any]:
    """Return the dtype of the file. Raises `BadOutput` for a meaningless bit depth."""
    form, depth = format_of(path), options.bit_depth
    if depth is None and form.dtypes and like.profile.light is not None and dtype == like.dtype:
        # Light is written for a screen, at the most that the format has.
        return np.dtype(form.dtypes[-1])
    if depth is None:
        photo = like.georeference is None and like.nodata is None
        # A picture of 16 bits uses them all; a measurement's range must not be guessed.
        if form.dtypes == ("uint8",) and dtype == np.uint16 and photo:
            return np.dtype(np.uint8)
        if dtype == np.float16 and form is _GEOTIFF:
            return np.dtype(np.float32)
        return dtype
    if depth not in (8, 16):
        raise BadOutput(f"A bit depth of {depth} is not offered.", "Use 8 or 16.")
    wanted = np.dtype(np.uint8 if depth == 8 else np.uint16)
    if wanted == dtype:
        return dtype
    if like.nodata is not None or (like.georeference is not None and form in (_GEOTIFF, _ZARR)):
        raise BadOutput(
            f"A bit depth of {depth} would change what the values mean.",
            "Leave it out for georeferenced images.",
        )
    if dtype.kind not in "uf":
        raise BadOutput(f"{dtype} values cannot become {depth} bit.", "Leave the bit depth out.")
    return wanted


def _check_fits(form: FormatLimits, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
    _check_dtype(form, dtype)
    if form.bands and shape[2] not in form.bands:
        raise BadOutput(f"{form.name} does not support {shape[2]} bands.", f"{OTHERS}.")
    if form.longest is not None and max(shape[:2]) > form.longest:
        raise BadOutput(f"{form.name} ends at {form.longest} pixels a side.", f"{OTHERS}.")


def _check_validity(form: FormatLimits, like: Image, options: ExportOptions) -> None:
    """Raise `BadOutput` where the file could not say which pixels of `like` are invalid."""
    masks = like.profile.masks
    if options.clip == "mask" and masks == "none":
        masks = "mask"
    if masks == "bands" and (form is not _GEOTIFF or options.cog):
        name = "A cloud-optimised GeoTIFF" if form is _GEOTIFF else form.name
        raise BadOutput(
            f"{name} cannot mark nodata per band, and the bands of {like.name} differ in it.",
            "Write a plain .tif, which gets a mask for each band.",
        )
    unmarked = ("mask",) if form is _PNG else ("mask", "nodata")
    if form in (_PNG, _JPEG, _WEBP) and masks in unmarked:
        raise BadOutput(
            f"{form.name} cannot mark the invalid pixels of {like.name}: they would become data.",
            "Write a .tif, for a small one with JPEG compression.",
        )


def _check_lossy(form: FormatLimits, like: Image, options: ExportOptions, bands: int) -> None:
    """Raise `BadOutput` where JPEG compression would change values that are no colours."""
    if form is _JPEG or (form is _GEOTIFF and options.compress == "jpeg"):
        kept = range(like.bands) if bands == like.bands else like.data_bands
        exact = [number for number in kept if like.described.kinds[number] == "auxiliary"]
        if exact:
            role = like.roles[exact[0]]
            raise BadOutput(
                f"JPEG would change band {exact[0] + 1} of {like.name}, whose values must stay "
                f"exact: it is {role}.",
                f"{OTHERS}." if form is _JPEG else "Choose deflate, zstd or lzw.",
            )
        if options.cog and bands > 4:
            raise BadOutput(
                f"JPEG compression in a cloud-optimised GeoTIFF does not support {bands} bands.",
                f"Choose deflate, zstd or lzw, or leave {option('cog', True)} out.",
            )


def _check_dtype(form: FormatLimits, dtype: np.dtype[Any]) -> None:
    if form.dtypes and dtype.name not in form.dtypes:
        more = f" or add {option('bit_depth', 8)}" if dtype == np.uint16 else ""
        raise BadOutput(f"{form.name} does not support {dtype} values.", f"{OTHERS}{more}.")


def _check_folder(target: Path) -> None:
    """Raise `BadOutput` where the folder of `target` cannot be written to."""
    folder = target.parent
    if not folder.is_dir():
        # A path has one slash of those of an address.
        if is_remote(target.as_posix().replace(":/", "://", 1)):
            raise BadOutput(
                f"{target.name} is to be written to an address.",
                "Name a file; restore and fuse of one image can send theirs.",
            )
        raise BadOutput(f"The folder {folder} does not exist.", "Make it first.")
    _check_writable(folder)


def _check_writable(folder: Path) -> None:
    # Only trying shows it: access() ignores Windows' rights and read-only mounts.
    probe = folder / f".napari-restore-{uuid.uuid4().hex[:8]}"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(f"No space is left in {folder}.", "Free some.") from error
        raise BadOutput(
            f"The folder {folder} may not be written to.", "Choose another folder."
        ) from error


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return one.resolve() == other.resolve()


def take_name(part: Path, target: Path) -> None:
    """Rename a finished file to its final name; the old one and its sidecars are removed."""
    reached(f"{target.name} written")
    handles.close(target)
    if part.is_dir():
        old = name_beside(target, "old")
        replaced = target.exists()
        if replaced:
            target.rename(old)
        try:
            part.rename(target)
        except OSError:
            if replaced:
                old.rename(target)
            raise
        if replaced:
            shutil.rmtree(old, ignore_errors=True)
        return
    os.replace(part, target)
    for new, stale in zip(sidecars(part), sidecars(target), strict=True):
        # The old file's statistics or overviews would be read as the new one's.
        if new.exists():
            os.replace(new, stale)
        else:
            stale.unlink(missing_ok=True)


def as_ours(error: Exception, target: Path) -> Exception:
    """Return the error to raise for `error`: one of `errors` where the disk or the output failed."""
    if isinstance(error, RestoreError) and not isinstance(error, DamagedOutput):
        return error
    # A damaged file on a full disk has that one cause.
    full = isinstance(error, DamagedOutput) and free_bytes(target.parent) < FULL_BYTES
    if full or is_disk_full(error):
        return disk_full(target)
    if isinstance(error, DamagedOutput):
        return BadOutput(
            f"{target.name} did not contain what was written ({error.message.marked}) and was removed.",
            "The disk may be failing or full; write to another one.",
        )
    if type(error).__module__.startswith("rasterio"):
        # The last message refers to the one before.
        while isinstance(error.__cause__, Exception):
            error = error.__cause__
    elif not isinstance(error, OSError):
        return error
    reason = str(getattr(error, "strerror", None) or error).rstrip(".")
    return BadOutput(f"{target} cannot be written ({reason}).", "Try another name or disk.")


def name_beside(target: Path, kind: str) -> Path:
    """Return a new name beside `target`, of the writing process: a "part", or an "old" one to be replaced."""
    own = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return target.with_name(f"{_prefix(target)}{own}.{kind}{target.suffix}")


def sidecars(path: Path) -> list[Path]:
    """Return files that GDAL reads together with `path`."""
    return [path.with_name(path.name + end) for end in (".aux.xml", ".ovr", ".msk")]


def remove_part(part: Path) -> None:
    """Delete what was written under a name of `name_beside`."""
    # After an error zarr's other writes may still be landing.
    for _ in range(20):
        if not part.is_dir():
            break
        shutil.rmtree(part, ignore_errors=True)
        time.sleep(0.05)
    for path in (part, *sidecars(part)):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def remove_leftovers(target: Path) -> None:
    """Delete parts of `target` whose process ran on this machine and has ended."""
    # A file that was moved aside is deleted only where `target` exists: else it is the only copy.
    kinds = "part|old" if target.exists() else "part"
    name = re.compile(rf"{re.escape(_prefix(target))}(\d+)-[0-9a-f]{{8}}\.(?:{kinds})\..+")
    try:
        candidates = [(path, name.fullmatch(path.name)) for path in target.parent.iterdir()]
    except OSError:
        return
    for path, match in candidates:
        if match is None or _runs(int(match[1])):
            continue
        # Windows refuses while a virus scanner reads it: then the next write removes it.
        remove_path(path)


def _prefix(target: Path) -> str:
    # On a shared disk a process id identifies a process only together with its machine.
    machine = hashlib.sha256(platform.node().encode()).hexdigest()[:4]
    return f".{target.stem}-{machine}-"


def _runs(number: int) -> bool:
    import psutil

    try:
        return bool(psutil.pid_exists(number))
    except (psutil.Error, OSError, OverflowError):
        return True
