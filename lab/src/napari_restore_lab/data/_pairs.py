"""Writes pairs of hazy and clear images, with the true parameters of the haze."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_restore.extension import (
    ArrayReader,
    BadOutput,
    BadParameter,
    Box,
    Cancelled,
    ExportOptions,
    Image,
    InputError,
    Pathlike,
    Pixels,
    listed,
    open_image,
    option,
    write_image,
)
from napari_restore_lab._questions import HazePairs, SceneKind
from napari_restore_lab.data._contact import SIDE, SceneStrip, contact_sheet, haze_text, strip_of
from napari_restore_lab.data._display import STRIP_PIXELS, Displayed, at_level, displayed, strips
from napari_restore_lab.data._distance import read_distance
from napari_restore_lab.data._pictures import border_in, flat_in
from napari_restore_lab.data._resample import fitting, resized
from napari_restore_lab.data._scenes import PHOTOS, PICTURES, Scene, scenes_of, stems_of
from napari_restore_lab.synthetic_haze import SPECTRA, ClearScene, Haze, add_haze, haze_scene

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Progress = Callable[[int, int], None]
Layout = Literal["auto", "aerial", "natural"]

RECORD, SHEET = "haze.json", "contact.jpg"
GUIDE = 640
"""Smallest longer side in pixels of the image that a synthetic distance follows."""
MADE_UP = "made up"
"""Value of ``distance`` in the record for synthetic distances."""


def make_pairs(
    source: Path,
    output: Path,
    options: HazePairs,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Write hazy and clear images of all scenes: `hazy/`, `clear/`, `truth/`, record, contact sheet.

    `source` is an index or a folder, see `scenes_of`; the folder `output` is created atomically at the
    end, and replaces an earlier one where `overwrite`. The haze of an image depends only on the seed
    and its file name. `progress` is called with finished and total images, `note` with sentences for
    the user, `cancelled` between images and blocks. Returns the contents of `haze.json`.

    Raises `InputError`, also where a folder of distances has none for these images, `Cancelled` and
    `DiskFull`; nothing is written then.
    """
    _check(options)
    source, output = Path(source), Path(os.path.abspath(output))
    found = scenes_of(source, split=options.split)
    check_output_folder(output, source, overwrite=overwrite)
    # An explicit kind of scene overrides the heuristic.
    scenes = [s for s in found if options.scene != "auto" or not s.no_haze_depth]
    if note is not None and len(scenes) < len(found):
        note(f"{len(found) - len(scenes)} pictures without depth are excluded.")
    if not scenes:
        raise InputError(f"{source} contains no picture suitable for haze.", "Name another one.")
    stems = stems_of(scenes)
    distances = _distances_of(options.depth, scenes, stems)
    with new_folder(output) as part:
        for name in ("hazy", "clear", "truth"):
            (part / name).mkdir()
        rows, shown = [], []
        for number, (scene, stem) in enumerate(zip(scenes, stems, strict=True)):
            if cancelled is not None and cancelled():
                raise Cancelled("Stopped.", "Nothing was written.")
            row, strip = _make_pair(scene, stem, distances.get(stem), part, options, cancelled)
            if note is not None and max(row["shape"]) > (options.size or max(row["shape"])):
                note(f"{stem} has no level of {options.size} pixels and stays larger.")
            rows.append(row)
            shown.append(strip)
            if progress is not None:
                progress(number + 1, len(scenes))
        without_distance = [row["file"] for row in rows if row["distance"] == MADE_UP]
        if note is not None and without_distance and options.depth is not None:
            note(f"There are no distances of {listed(without_distance)}: they are synthetic.")
        record = {**_record(options), "source": str(source), "pictures": rows}
        write_record(part, record, shown)
    return record


def check_output_folder(output: Path, source: Path, *, overwrite: bool) -> None:
    """Raise `BadOutput` where `output` must not be written."""
    folder = source if source.is_dir() else source.parent
    if output.resolve() == folder.resolve() or output.resolve() in folder.resolve().parents:
        raise BadOutput(f"{output} contains the source pictures.", "Choose another folder.")
    if source.is_dir() and folder.resolve() in output.resolve().parents:
        raise BadOutput(
            f"{output} is within the folder of the source pictures.", "Choose one outside of it."
        )
    if not output.parent.is_dir():
        raise BadOutput(f"The folder {output.parent} does not exist.", "Create it first.")
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output.is_dir() and (output / RECORD).is_file()):
        raise BadOutput(
            f"{output} exists, has other contents and will not be replaced.", "Choose another name."
        )
    if not overwrite:
        raise BadOutput(
            f"{output} exists already.", f"Choose another name, or {option('overwrite', True)}."
        )


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Yield an empty folder beside `output`; on success it becomes `output`, replacing an earlier one."""
    part = output.with_name(f".{output.name}.{uuid.uuid4().hex[:8]}")
    try:
        part.mkdir(parents=True)
        yield part
        _publish(part, output)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_record(folder: Path, record: dict[str, Any], shown: Sequence[SceneStrip]) -> None:
    """Write the record and the contact sheet of a folder."""
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    (folder / RECORD).write_text(text, encoding="utf-8")
    contact_sheet(shown).save(folder / SHEET, quality=90)


def _publish(part: Path, output: Path) -> None:
    if output.is_dir() and not any(output.iterdir()):
        # The folder is kept, as it may be a working directory. The record is moved last.
        for path in sorted(part.iterdir(), key=lambda path: path.name == RECORD):
            path.rename(output / path.name)
        return
    old = output.with_name(f".{output.name}.{uuid.uuid4().hex[:8]}")
    if output.exists():
        output.rename(old)
    try:
        part.rename(output)
    except OSError:
        if old.exists():
            old.rename(output)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _record(options: HazePairs) -> dict[str, Any]:
    return {
        "version": version("napari-restore"),
        "spectrum": options.spectrum,
        "seed": options.seed,
        "scene": options.scene,
        "strength": list(options.strength),
        "size": options.size,
        "split": options.split,
        "bands": options.bands,
        "distances": None if options.depth is None else str(Path(options.depth)),
    }


def _check(wanted: HazePairs) -> None:
    """Raise `InputError` for settings with which no pairs can be made."""
    if wanted.spectrum not in SPECTRA:
        raise BadParameter(
            f"There is no spectrum {wanted.spectrum!r}.", f"There are: {', '.join(SPECTRA)}."
        )
    low, high = wanted.strength
    if not 0 < low <= high <= 1:
        raise BadParameter(
            f"A strength of {low:g} to {high:g} is not a range of transmission.",
            "Give two numbers above 0, at most 1, the lower first.",
        )
    if wanted.seed < 0:
        raise BadParameter("The seed is negative.", "Give a whole number from 0.")
    if wanted.size is not None and wanted.size < 16:
        raise BadParameter(f"A size of {wanted.size} pixels is too small.", "Give 16 or more.")
    if wanted.depth is not None and not Path(wanted.depth).is_dir():
        raise InputError(f"There is no folder {wanted.depth}.", "Name a folder of distances.")


def _make_pair(
    scene: Scene,
    stem: str,
    distance: Path | None,
    folder: Path,
    options: HazePairs,
    cancelled: Callable[[], bool] | None,
) -> tuple[dict[str, Any], SceneStrip]:
    image = open_image(scene.path)
    known = {"red", "green", "blue"} <= set(image.roles) or len(image.data_bands) == 1
    if options.bands is not None and not known:
        image = image.with_roles(options.bands)
    try:
        display = displayed(image if options.size is None else smaller(image, options.size))
        kind = scene.kind if options.scene == "auto" else options.scene
        valid = _valid(display, kind)
        haze, origin = _haze_of(display, valid, scene, kind, distance, options)
        suffix = _suffix_of(scene.path, display.image)
        whole = ExportOptions(overviews=False)

        def hazed(box: Box) -> npt.NDArray[Any]:
            clear, _ = display.read(box)
            part = replace(haze, depth=haze.depth[box[0] : box[2], box[1] : box[3]])
            return np.asarray(display.changed(box, add_haze(clear, part), clear))

        def depth(box: Box) -> npt.NDArray[Any]:
            return haze.depth[box[0] : box[2], box[1] : box[3], None]

        def write(path: Path, pixels: Pixels) -> None:
            write_image(path, pixels, like=display.image, options=whole, cancelled=cancelled)

        box = display.box
        write(folder / "clear" / f"{stem}{suffix}", Pixels(box, display.image.read))
        write(folder / "hazy" / f"{stem}{suffix}", Pixels(box, hazed))
        write(folder / "truth" / f"{stem}.tif", Pixels(box, depth, 1, np.float32))
        row = {
            "file": f"{stem}{suffix}",
            "shape": list(display.shape),
            "scene": kind,
            "distance": origin,
            "source": scene.source,
            "licence": scene.licence,
            "airlight": [round(float(value), 6) for value in haze.airlight],
            "exponent": haze.exponent,
            "linear": haze.linear,
            "mean_depth": round(float(haze.depth[valid].mean()), 4) if valid.any() else 0.0,
            "black": [float(value) for value in display.radiometry.black[list(display.colours)]],
            "white": float(display.radiometry.white),
        }
        text = json.dumps(row, indent=2, ensure_ascii=False) + "\n"
        (folder / "truth" / f"{stem}.json").write_text(text, encoding="utf-8")
        return row, _strip(stem, display, haze, valid)
    finally:
        image.close()


def _valid(display: Displayed, kind: SceneKind) -> Mask:
    """Return where haze is added, (H, W), as in training: not on the border of a mosaic."""
    valid = np.empty(display.shape, np.bool_)
    black, white = np.empty(display.shape, np.bool_), np.empty(display.shape, np.bool_)
    for box in strips(display.shape):
        rows = slice(box[0], box[2])
        clear, valid[rows] = display.read(box)
        if kind == "aerial":
            codes = np.clip(clear * 255 + 0.5, 0, 255).astype(np.uint8)
            black[rows], white[rows] = flat_in(codes)
    return valid & ~border_in(black, white) if kind == "aerial" else valid


def _haze_of(
    display: Displayed,
    valid: Mask,
    scene: Scene,
    kind: SceneKind,
    given_distance: Path | None,
    options: HazePairs,
) -> tuple[Haze, str | None]:
    """Return the haze, and the source of distances: a file, `MADE_UP`, or None for aerial scenes."""
    distance, origin = None, None
    if kind == "natural":
        path = given_distance or scene.distance
        origin = MADE_UP if path is None else str(path)
        if path is not None:
            distance_kind = "rgbd_depth" if given_distance is not None else scene.distance_kind
            orientation = display.image.profile.orientation
            distance = read_distance(path, distance_kind, display.shape, orientation)
    clear = ClearScene(scene.file, kind, _reduced(display), valid, distance, display.is_light)
    low, high = options.strength
    haze = haze_scene(clear, spectrum=options.spectrum, seed=options.seed, strength=(low, high))
    return haze, origin


def _reduced(display: Displayed) -> Array:
    """Return the image reduced by means of squares, (h, w, 3)."""
    height, width = display.shape
    step = max(1, max(display.shape) // GUIDE)
    rows = step * max(1, STRIP_PIXELS // width // step)
    parts = []
    for top in range(0, height, rows):
        clear, _ = display.read((top, 0, min(top + rows, height), width))
        for axis in (0, 1):
            starts = np.arange(0, clear.shape[axis], step)
            counts = np.diff(np.append(starts, clear.shape[axis])).astype(np.float32)
            sums = np.add.reduceat(clear, starts, axis=axis)
            clear = (sums / np.expand_dims(counts, [n for n in range(3) if n != axis])).astype(
                np.float32
            )
        parts.append(clear)
    return np.concatenate(parts)


def _distances_of(
    folder: Pathlike | None, scenes: Sequence[Scene], stems: Sequence[str]
) -> dict[str, Path]:
    """Return files of a folder of distances by the stem of their image."""
    if folder is None:
        return {}
    files = {
        path.stem: path
        for path in sorted(Path(folder).iterdir())
        if path.suffix.lower() in PICTURES and path.is_file()
    }
    found = {
        stem: files[name]
        for scene, stem in zip(scenes, stems, strict=True)
        for name in (scene.path.stem, stem)
        if name in files
    }
    if not found:
        raise InputError(
            f"{folder} contains no distances of {listed(list(stems))}.",
            "They have the names of their pictures.",
        )
    return found


def _suffix_of(path: Path, image: Image) -> str:
    """Return .png for photos, else .tif."""
    photo = path.suffix.lower() in PHOTOS
    fits = image.dtype.name in PHOTO_TYPES and image.georeference is None
    return ".png" if photo and fits else ".tif"


def _strip(stem: str, display: Displayed, haze: Haze, valid: Mask) -> SceneStrip:
    """Return the pair as small images of every n-th pixel."""
    step = max(1, max(display.shape) // (2 * SIDE))
    parts = []
    for box in strips(display.shape):
        first = -box[0] % step
        parts.append(display.read(box)[0][first::step, ::step])
    clear = np.concatenate(parts)
    part = replace(haze, depth=haze.depth[::step, ::step])
    return strip_of(f"{stem}  {haze_text(haze, valid)}", add_haze(clear, part), clear, part)


PHOTO_TYPES = ("uint8", "uint16")


class SmallerReader(ArrayReader):
    """Reader of resized pixels with the profile and validity of an image."""

    def __init__(self, image: Image, pixels: npt.NDArray[np.integer], valid: Mask) -> None:
        super().__init__(pixels)
        self.name, self.path = image.name, image.reader.path
        self.profile, self.may_be_invalid = image.profile, image.may_be_invalid
        self._valid = valid

    def valid_in(self, level: int, box: Box, pixels: npt.NDArray[np.generic]) -> Mask:
        y0, x0, y1, x1 = box
        return self._valid[y0:y1, x0:x1].copy()


def smaller(image: Image, longest: int) -> Image:
    """Reduce `image` to `longest` pixels a side; georeferenced ones by pyramid levels.

    So are images that are not photos; where no level is small enough, they are returned unchanged.
    Bands, alpha, profile and validity are preserved.
    """
    if max(image.height, image.width) <= longest:
        return image
    if image.georeference is not None or image.dtype.name not in PHOTO_TYPES:
        even = [n for n in range(len(image.level_shapes)) if image.level_scale(n) is not None]
        small = [n for n in even if max(image.level_shapes[n]) <= longest]
        return image.level_view(small[0] if small else even[-1])
    # From a level of at least twice the size, by an antialiasing filter.
    return _resampled(at_level(image, 2 * longest), longest)


def _resampled(image: Image, longest: int) -> Image:
    pixels = np.empty(image.shape, image.dtype)
    valid = np.empty(image.shape[:2], np.bool_)
    for box in strips(image.shape[:2]):
        pixels[box[0] : box[2]] = image.read(box)
        valid[box[0] : box[2]] = image.read_valid(box)
    size = fitting(image.shape[:2], longest)
    share = None if valid.all() else _fine(valid.astype(np.float32), size)
    valid_small = np.ones(size, np.bool_) if share is None else share > 0.5
    codes = np.empty((*size, image.bands), image.dtype)
    for band in range(image.bands):
        plane = pixels[..., band].astype(np.float32)
        if band not in image.data_bands:
            # Lanczos overshoots, which would make opaque pixels transparent.
            plane = resized(plane, size)
        elif share is None:
            plane = _fine(plane, size)
        else:
            # Invalid pixels must not contribute.
            share_or_1 = np.where(valid_small, share, 1).astype(np.float32)
            plane = _fine(np.where(valid, plane, np.float32(0)), size) / share_or_1
        codes[..., band] = _codes(plane, image, band, valid_small)
    part = Image(SmallerReader(image, codes, valid_small))
    part.sensor, part.path, part.notes = image.sensor, image.path, list(image.notes)
    part.described = image.described
    part.working_space, part.known_range = image.working_space, image.known_range
    return part


def _codes(plane: Array, image: Image, band: int, valid_small: Mask) -> npt.NDArray[Any]:
    """Return integers of a band, with nodata or alpha set for invalid pixels."""
    most = int(np.iinfo(image.dtype).max)
    codes: npt.NDArray[Any] = np.clip(plane + np.float32(0.5), 0, most).astype(image.dtype)
    if band not in image.data_bands:
        codes = np.maximum(codes, np.ones((), image.dtype))
        codes[~valid_small] = 0
        return codes
    codes[~valid_small] = 0 if image.nodata is None else image.nodata
    return codes


def _fine(values: Array, size: tuple[int, int]) -> Array:
    from PIL import Image as Picture

    picture = Picture.fromarray(np.ascontiguousarray(values, np.float32))
    result: Array = np.asarray(picture.resize(size[::-1], Picture.Resampling.LANCZOS))
    return result
