"""Hazy and clear pictures of the same scenes, as files, with the truth that joins them."""

from __future__ import annotations

import json
import shutil
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_restore.errors import BadOutput, BadParameter, Cancelled, InputError
from napari_restore.images import Box, ExportOptions, Image, open_image, write_image
from napari_restore.training.data._contact import SIDE, Strip, contact_sheet, strip_of, told
from napari_restore.training.data._display import Displayed, displayed, read_display, strips
from napari_restore.training.data._pack import LUMA
from napari_restore.training.data._pictures import read_distance
from napari_restore.training.data._scenes import PICTURES, Scene, scenes_of
from napari_restore.training.haze import SPECTRA, Haze, add_haze, draw_haze

Array = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]
Layout = Literal["auto", "aerial", "natural"]

RECORD, SHEET = "haze.json", "contact.jpg"
STRENGTH = (0.35, 0.92)
PHOTO_TYPES = ("uint8", "uint16")


@dataclass(frozen=True)
class PairOptions:
    """How pairs are made; see `make_pairs`."""

    spectrum: str
    seed: int = 0
    scene: Layout = "auto"
    strength: tuple[float, float] = STRENGTH
    distances: Path | None = None
    """A folder of distances, each file with the stem of its picture."""
    size: int | None = None
    split: str | None = None
    bands: str | None = None
    """Which bands are red, green and blue where a file does not say: "red=3,green=2,blue=1"."""

    def __post_init__(self) -> None:
        if self.spectrum not in SPECTRA:
            raise BadParameter(
                f"There is no spectrum {self.spectrum!r}.", f"There are: {', '.join(SPECTRA)}."
            )
        low, high = self.strength
        if not 0 < low <= high <= 1:
            raise BadParameter(
                f"A strength of {low:g} to {high:g} is no range of transmission.",
                "Give two numbers above 0, at most 1, the lower first.",
            )
        if self.seed < 0:
            raise BadParameter("The seed is negative.", "Give a whole number from 0.")
        if self.size is not None and self.size < 16:
            raise BadParameter(f"A size of {self.size} pixels is too small.", "Give 16 or more.")
        if self.distances is not None and not self.distances.is_dir():
            raise InputError(f"There is no folder {self.distances}.", "It holds the distances.")


def make_pairs(
    source: Path,
    output: Path,
    options: PairOptions,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Haze all scenes of `source`: `hazy/`, `clear/`, `truth/`, a record and a contact sheet.

    Parameters
    ----------
    source
        An index or a folder; see `scenes_of`.
    output
        A folder, made at the end in one step.
    options
        Each picture's haze follows from the seed and its name alone.
    overwrite
        Replace an earlier output of this function.
    progress
        Called with pictures done and pictures in all.
    note
        Told what the user should read.
    cancelled
        Asked between pictures and blocks.

    Returns
    -------
    dict
        What stands in `haze.json`.

    Raises
    ------
    InputError
        And its subclasses: nothing was written.
    Cancelled, DiskFull
        Nothing was written either.
    """
    source, output = Path(source), Path(output)
    found = scenes_of(source, split=options.split)
    refuse_output(output, source, overwrite=overwrite)
    # Whoever says what kind of scenes they are has looked at them.
    scenes = [s for s in found if options.scene != "auto" or not s.no_haze_depth]
    if note is not None and len(scenes) < len(found):
        note(f"{len(found) - len(scenes)} pictures show nothing that recedes and are left out.")
    if not scenes:
        raise InputError(f"{source} holds no picture that haze suits.", "Name another one.")
    stems = stems_of(scenes)
    part = output.with_name(f".{output.name}.{uuid.uuid4().hex[:8]}")
    try:
        for name in ("hazy", "clear", "truth"):
            (part / name).mkdir(parents=True)
        rows, shown = [], []
        for number, (scene, stem) in enumerate(zip(scenes, stems, strict=True)):
            if cancelled is not None and cancelled():
                raise Cancelled("Stopped.", "Nothing was written.")
            row, strip = _make_pair(scene, stem, part, options, cancelled)
            if note is not None and max(row["shape"]) > (options.size or max(row["shape"])):
                note(f"{stem} has no level of {options.size} pixels and stays larger.")
            rows.append(row)
            shown.append(strip)
            if progress is not None:
                progress(number + 1, len(scenes))
        record = {**_record(options), "source": str(source), "pictures": rows}
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        (part / RECORD).write_text(text, encoding="utf-8")
        contact_sheet(shown).save(part / SHEET, quality=90)
        take_folder(part, output)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return record


def stems_of(scenes: Sequence[Scene]) -> list[str]:
    """A file name for each, without suffix: its own, with its folders' where two are equal."""
    parts = [Path(scene.name or scene.path.name).with_suffix("").parts for scene in scenes]
    own = Counter(names[-1] for names in parts)
    stems = [names[-1] if own[names[-1]] == 1 else "_".join(names) for names in parts]
    for stem, times in Counter(stems).items():
        if times > 1:
            raise InputError(f"Two pictures are called {stem}.", "Rename one of them.")
    return stems


def refuse_output(output: Path, source: Path, *, overwrite: bool) -> None:
    """Raise `BadOutput` where nothing may be written."""
    folder = source if source.is_dir() else source.parent
    if output.resolve() == folder.resolve() or output.resolve() in folder.resolve().parents:
        raise BadOutput(f"{output} holds the pictures themselves.", "Choose another folder.")
    if source.is_dir() and folder.resolve() in output.resolve().parents:
        raise BadOutput(
            f"{output} lies within the pictures' own folder.", "Choose one outside of it."
        )
    if not output.parent.is_dir():
        raise BadOutput(f"The folder {output.parent} does not exist.", "Make it first.")
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output.is_dir() and (output / RECORD).is_file()):
        raise BadOutput(
            f"{output} exists, holds other things and will not be replaced.", "Choose another name."
        )
    if not overwrite:
        raise BadOutput(f"{output} exists already.", "Choose another name, or --overwrite.")


def take_folder(part: Path, output: Path) -> None:
    """Give a finished folder its name; an earlier one goes."""
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


def _record(options: PairOptions) -> dict[str, Any]:
    return {
        "version": version("napari-restore"),
        "spectrum": options.spectrum,
        "seed": options.seed,
        "scene": options.scene,
        "strength": list(options.strength),
        "size": options.size,
        "split": options.split,
    }


def _make_pair(
    scene: Scene,
    stem: str,
    folder: Path,
    options: PairOptions,
    cancelled: Callable[[], bool] | None,
) -> tuple[dict[str, Any], Strip]:
    image = open_image(scene.path)
    known = {"red", "green", "blue"} <= set(image.roles) or len(image.data_bands) == 1
    if options.bands is not None and not known:
        image = image.with_roles(options.bands)
    try:
        seen = displayed(_reduced(image, scene.path, options.size))
        rng = np.random.default_rng((options.seed, zlib.crc32(stem.encode())))
        layout = _layout_of(scene, image, options.scene)
        haze = _haze_of(seen, scene, stem, layout, options, rng)
        suffix = _suffix_of(scene.path, seen.image)
        whole = ExportOptions(overviews=False)

        def hazed(box: Box) -> npt.NDArray[Any]:
            clear, _ = seen.read(box)
            part = replace(haze, depth=haze.depth[box[0] : box[2], box[1] : box[3]])
            return np.asarray(seen.changed(box, add_haze(clear, part), clear))

        def depth(box: Box) -> npt.NDArray[Any]:
            return haze.depth[box[0] : box[2], box[1] : box[3], None]

        def write(path: Path, read: Callable[[Box], Any], **more: Any) -> None:
            write_image(
                path, like=seen.image, box=seen.box, read=read, options=whole, cancelled=cancelled,
                **more,
            )  # fmt: skip

        write(folder / "clear" / f"{stem}{suffix}", seen.image.read)
        write(folder / "hazy" / f"{stem}{suffix}", hazed)
        shape, kind = (*seen.shape, 1), np.float32
        write(folder / "truth" / f"{stem}.tif", depth, shape=shape, dtype=kind)
        row = {
            "file": f"{stem}{suffix}",
            "shape": list(seen.shape),
            "scene": layout,
            "source": scene.source,
            "licence": scene.licence,
            "airlight": [round(float(value), 6) for value in haze.airlight],
            "exponent": haze.exponent,
            "linear": haze.linear,
            "mean_depth": round(float(haze.depth.mean()), 4),
            "black": [float(value) for value in seen.radiometry.black[list(seen.colours)]],
            "white": float(seen.radiometry.white),
        }
        text = json.dumps(row, indent=2, ensure_ascii=False) + "\n"
        (folder / "truth" / f"{stem}.json").write_text(text, encoding="utf-8")
        return row, _strip(stem, seen, haze)
    finally:
        image.close()


def _haze_of(
    seen: Displayed,
    scene: Scene,
    stem: str,
    layout: Literal["aerial", "natural"],
    options: PairOptions,
    rng: np.random.Generator,
) -> Haze:
    distance, guide = None, None
    if layout == "natural":
        distance = _distance(scene, stem, options.distances, seen.shape)
        if distance is None:
            guide = np.empty(seen.shape, np.float32)
            for box in strips(seen.shape):
                guide[box[0] : box[2]] = np.clip(seen.read(box)[0] @ LUMA, 0, 1)
    haze = draw_haze(
        rng,
        seen.shape,
        scene=layout,
        spectrum=options.spectrum,
        depth=distance,
        guide=guide,
        strength=options.strength,
    )
    if len(seen.colours) == 1:
        grey = np.full(3, haze.airlight.mean(), np.float32)
        haze = replace(haze, airlight=grey, exponent=0.0)
    # Counts of a sensor add up as they are: they follow light, not a screen.
    return replace(haze, linear=False) if seen.is_light else haze


def _distance(scene: Scene, stem: str, folder: Path | None, shape: tuple[int, int]) -> Array | None:
    if folder is not None:
        for suffix in PICTURES:
            for name in (stem, scene.path.stem):
                if (path := folder / f"{name}{suffix}").is_file():
                    return read_distance(path, "rgbd_depth", shape)
    if scene.distance is not None:
        return read_distance(scene.distance, scene.distance_kind, shape)
    return None


def _layout_of(scene: Scene, image: Image, asked: Layout) -> Literal["aerial", "natural"]:
    if asked != "auto":
        return asked
    return "aerial" if image.georeference is not None else scene.kind


def _reduced(image: Image, path: Path, longest: int | None) -> Image:
    """The image at `longest` pixels a side; one with a place on the ground is halved."""
    if longest is None or max(image.height, image.width) <= longest:
        return image
    if image.georeference is not None or image.dtype.name not in PHOTO_TYPES:
        # Small ones have no level that is small enough, and stay as large as they are.
        even = [n for n in range(len(image.level_shapes)) if image.level_scale(n) is not None]
        fitting = [n for n in even if max(image.level_shapes[n]) <= longest]
        return image.level_view(fitting[0] if fitting else even[-1])
    from PIL import Image as Picture

    values, _ = read_display(path)
    scale = longest / max(values.shape[:2])
    size = (max(1, round(values.shape[1] * scale)), max(1, round(values.shape[0] * scale)))
    fine = Picture.Resampling.LANCZOS
    bands = [np.asarray(Picture.fromarray(values[..., n]).resize(size, fine)) for n in range(3)]
    most = np.iinfo(image.dtype).max
    codes = np.clip(np.stack(bands, axis=-1) * most + 0.5, 0, most).astype(image.dtype)
    return open_image(codes, bands="red=1,green=2,blue=3")


def _suffix_of(path: Path, image: Image) -> str:
    """PNG for photos, TIFF for all else."""
    photo = path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")
    fits = image.dtype.name in PHOTO_TYPES and image.georeference is None
    return ".png" if photo and fits else ".tif"


def _strip(stem: str, seen: Displayed, haze: Haze) -> Strip:
    """The pair as small pictures, of every n-th pixel."""
    step = max(1, max(seen.shape) // (2 * SIDE))
    parts = []
    for box in strips(seen.shape):
        first = -box[0] % step
        parts.append([whole[first::step, ::step] for whole in seen.read(box)])
    clear, valid = (np.concatenate(rows) for rows in zip(*parts, strict=True))
    part = replace(haze, depth=haze.depth[::step, ::step])
    hazy = np.where(valid[..., None], add_haze(clear, part), clear)
    return strip_of(f"{stem}  {told(haze)}", hazy, clear, part)
