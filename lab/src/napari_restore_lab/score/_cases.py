"""Pairs of a hazy and a clear image, opened on demand: from files, or with synthetic haze."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image as Picture

from napari_restore.extension import (
    MOST_SCALE,
    BadOutput,
    BadParameter,
    Image,
    InputError,
    bracket_of,
    open_image,
    option,
)
from napari_restore_lab._questions import Degradation, Evaluate
from napari_restore_lab._replacing import replacing
from napari_restore_lab.data import Scene, read_picture, scenes_of, stems_of
from napari_restore_lab.degradation import SCORED, degraded_scene
from napari_restore_lab.score._pairs import Pair
from napari_restore_lab.synthetic_haze import SPECTRA, ClearScene, add_haze, haze_scene

Mask = npt.NDArray[np.bool_]

_HAZE = "napari-restore haze"
"""PNG text key of the settings of the haze."""
RGB = "red=1,green=2,blue=3"
LEVELS: Mapping[Degradation, tuple[float, float]] = {
    "noise": (0, 255),
    "lowlight": (1, 1000),
    "bracket": (0.3, 8),
    "size": (2, MOST_SCALE),
}
"""Least and largest level of degradations that have one."""


@dataclass(frozen=True)
class OpenCase:
    """The open images of a case."""

    hazy: Image
    """Of a bracket the frame in the middle."""
    clear: Image
    valid: Mask | None = None
    """(h, w); None: as in the images themselves."""
    level: float = 0.0
    """How strong the degradation is where that is known; see `SCORED`."""
    bracket: Image | None = None
    """`hazy` with the other frames as companions."""
    ratio: Fraction = Fraction(1)
    """Pixels along a side of the clear image for one of the other."""

    @property
    def on_grid(self) -> Image:
        """`hazy` on the grid of the clear image, by nearest neighbours."""
        return self.hazy.resampled(self.ratio)

    def for_model(self, frames: int) -> Image:
        """Return what a model of so many frames is given; 0: any number."""
        return self.hazy if self.bracket is None or frames == 1 else self.bracket


class Case(Protocol):
    """A pair to score: a name, unique within its group, and two images."""

    @property
    def name(self) -> str: ...

    @property
    def group(self) -> str: ...

    @property
    def paths(self) -> list[Path]:
        """All files that it is read from."""

    def open(self) -> OpenCase:
        """Open both images; raises `InputError` (`UnreadableImage`)."""

    def absolute(self) -> Case:
        """Return the case with absolute paths, valid in any working folder."""


@dataclass(frozen=True)
class PairCase:
    """A pair of files."""

    pair: Pair
    bands: str | None = None
    """Band roles, as for `open_image`."""
    level: float = 0.0
    """As of `OpenCase`."""
    ratio: Fraction = Fraction(1)
    """As of `OpenCase`."""

    @property
    def name(self) -> str:
        return self.pair.name

    @property
    def group(self) -> str:
        return self.pair.group

    @property
    def paths(self) -> list[Path]:
        return [self.pair.hazy, self.pair.clear]

    def absolute(self) -> PairCase:
        hazy, clear = (path.absolute() for path in self.paths)
        return replace(self, pair=replace(self.pair, hazy=hazy, clear=clear))

    def open(self) -> OpenCase:
        hazy, clear = (
            open_image(str(path), bands=self.bands) for path in (self.pair.hazy, self.pair.clear)
        )
        down = self.ratio.denominator
        lacks = hazy.height - clear.height * down, hazy.width - clear.width * down
        if max(lacks) > 0 and all(0 <= side < down for side in lacks):
            # The last rows and columns are part of no pixel of the clear image.
            hazy = hazy.placed(
                np.eye(3).ravel().tolist(), (clear.height * down, clear.width * down)
            )
        return OpenCase(hazy, clear, level=self.level, ratio=self.ratio)


@dataclass(frozen=True)
class SceneCase:
    """A clear scene and what is made of it in memory, determined by `seed` and file name.

    Invalid pixels (the border of a mosaic) are unchanged.
    """

    name: str
    scene: Scene
    seed: int
    longest: int | None
    """Longest side in pixels to which the scene is reduced before it is degraded."""

    @property
    def group(self) -> str:
        return self.scene.kind

    @property
    def paths(self) -> list[Path]:
        return [path for path in (self.scene.path, self.scene.distance) if path is not None]

    def absolute(self) -> SceneCase:
        distance = self.scene.distance and self.scene.distance.absolute()
        scene = replace(self.scene, path=self.scene.path.absolute(), distance=distance)
        return replace(self, scene=scene)

    @property
    def settings(self) -> str:
        """Settings of the degradation of all scenes, in one line."""
        raise NotImplementedError

    def open(self) -> OpenCase:
        clear, hazy, valid = self.pixels()
        return OpenCase(open_image(hazy, bands=RGB), open_image(clear, bands=RGB), valid)

    def pixels(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], Mask]:
        """Return the clear and the degraded image (h, w, 3), RGB, and validity (h, w).

        Of a bracket the degraded one is that of all frames (h, w, 9).
        """
        raise NotImplementedError

    @property
    def files(self) -> list[str]:
        """Names of the degraded images, without suffix."""
        return [self.name]

    def keep(self, folder: Path, *, overwrite: bool = False) -> None:
        """Write the pictures to hazy/ and clear/ in `folder`, as PNG with the settings of the haze.

        Files with the same settings are left. Raises `BadOutput` for other existing files, unless
        `overwrite`.
        """
        from PIL.PngImagePlugin import PngInfo

        paths = [folder / "clear" / f"{self.name}.png"]
        paths += [folder / "hazy" / f"{name}.png" for name in self.files]
        status = self.scene.path.stat()
        haze = f"{self.settings} {self.scene.file} {status.st_size} {status.st_mtime_ns}"
        recorded = [_haze_settings_in(path) for path in paths]
        if recorded == [haze] * len(paths):
            return
        for path, other in zip(paths, recorded, strict=True):
            if path.exists() and other is None and not overwrite:
                raise BadOutput(
                    f"{path} exists and is not from an evaluation.",
                    f"Add {option('overwrite', True)} to replace it, or choose another folder.",
                )
        info = PngInfo()
        info.add_text(_HAZE, haze)
        clear, hazy, _ = self.pixels()
        for path, codes in zip(paths, (clear, *_frames_of(hazy)), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                Picture.fromarray(codes).save(part, "PNG", pnginfo=info)


@dataclass(frozen=True)
class HazedCase(SceneCase):
    """A clear scene under synthetic haze, as in `haze`.

    The hazy image has 8 bits, without noise or compression.
    """

    spectrum: str

    def pixels(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], Mask]:
        picture = read_picture(self.scene, self.longest)
        clear = picture.rgb.astype(np.float32) / np.float32(255)
        scene = ClearScene(
            self.scene.file,
            self.scene.kind,
            clear,
            picture.valid,
            picture.distance,
            picture.is_light,
        )
        haze = haze_scene(scene, spectrum=self.spectrum, seed=self.seed)
        codes = np.rint(np.clip(add_haze(clear, haze), 0, 1) * 255).astype(np.uint8)
        return picture.rgb, np.where(picture.valid[..., None], codes, picture.rgb), picture.valid

    @property
    def settings(self) -> str:
        return f"spectrum {self.spectrum}, seed {self.seed}, longest {self.longest}:"


@dataclass(frozen=True)
class DegradedCase(SceneCase):
    """A clear scene with noise, in low light, or as a bracket, in 8 bits."""

    degradation: Degradation
    level: float

    @property
    def group(self) -> str:
        return f"{self.degradation} {self.level:g}"

    def open(self) -> OpenCase:
        if self.degradation != "bracket":
            return replace(super().open(), level=self.level)
        clear, hazy, valid = self.pixels()
        frames = [open_image(frame, bands=RGB) for frame in _frames_of(hazy)]
        middle = len(frames) // 2
        bracket = bracket_of(
            frames, middle, [(n - middle) * self.level for n in range(len(frames))], align="off"
        )
        return OpenCase(frames[middle], open_image(clear, bands=RGB), valid, self.level, bracket)

    @property
    def files(self) -> list[str]:
        if self.degradation != "bracket":
            return super().files
        return [f"{self.name}/{number}" for number in (1, 2, 3)]

    def pixels(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], Mask]:
        picture = read_picture(self.scene, self.longest)
        clear = picture.rgb.astype(np.float32) / np.float32(255)
        degraded, truth = degraded_scene(
            clear, self.scene.file, self.degradation, self.level, self.seed
        )
        codes = np.rint(degraded * 255).astype(np.uint8)
        if self.degradation == "bracket":
            return np.rint(truth * 255).astype(np.uint8), codes, picture.valid
        return picture.rgb, np.where(picture.valid[..., None], codes, picture.rgb), picture.valid

    @property
    def settings(self) -> str:
        what = f"{self.degradation} {self.level:g}"
        return f"{what}, seed {self.seed}, longest {self.longest}:"


@dataclass(frozen=True)
class ReducedCase(SceneCase):
    """A clear scene cut to multiples of `times`, and made so many times smaller, in 8 bits.

    By the bicubic filter of Pillow (a = -0.5), which averages where it reduces, as that of MATLAB's
    imresize does, by which most published pairs are made.
    """

    times: int

    def open(self) -> OpenCase:
        return replace(super().open(), level=float(self.times), ratio=Fraction(self.times))

    def pixels(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], Mask]:
        picture = read_picture(self.scene, self.longest)
        height, width = (side // self.times for side in picture.rgb.shape[:2])
        if not (height and width):
            raise InputError(
                f"{self.scene.file} is smaller than {self.times} × {self.times} pixels.",
                "Leave it out.",
            )
        part = slice(height * self.times), slice(width * self.times)
        clear = np.ascontiguousarray(picture.rgb[part])
        small = Picture.fromarray(clear).resize((width, height), Picture.Resampling.BICUBIC)
        return clear, np.asarray(small), picture.valid[part]

    @property
    def settings(self) -> str:
        return f"1/{self.times}, bicubic, longest {self.longest}:"


def _frames_of(codes: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
    """Split (h, w, 3 F) into images (h, w, 3)."""
    return [np.ascontiguousarray(codes[..., n : n + 3]) for n in range(0, codes.shape[2], 3)]


def drop_others(folder: Path, cases: Sequence[Case]) -> None:
    """Remove images of other settings, which do not belong to these scores."""
    settings = {f"{case.settings} " for case in cases if isinstance(case, SceneCase)}
    for kind in ("hazy", "clear"):
        for path in (folder / kind).rglob("*.png"):
            recorded = _haze_settings_in(path)
            if recorded is not None and not recorded.startswith(tuple(settings)):
                path.unlink()


def _haze_settings_in(path: Path) -> str | None:
    """Return the haze settings in an image of `SceneCase.keep`; None for other files."""
    try:
        with Picture.open(path) as file:
            recorded = file.info.get(_HAZE)
    except OSError:
        return None
    return None if recorded is None else str(recorded)


def scene_cases(settings: Evaluate) -> list[Case]:
    """Return a case for each scene of the data; under noise, low light, in brackets for each level.

    Those of `SCORED` if no level is set. Natural scenes unsuitable for haze by distance are excluded
    under haze. Raises `InputError`.
    """
    assert settings.data is not None
    degradation, level, kind = settings.degradation, settings.level, settings.scene
    is_haze = degradation == "haze"
    if is_haze and settings.spectrum not in SPECTRA:
        raise BadParameter(
            f"There is no spectrum {settings.spectrum!r}.", f"There are: {', '.join(SPECTRA)}."
        )
    if degradation == "size" and (level is None or level != int(level)):
        by = "" if level is None else f", not by {level:g}"
        raise BadParameter(
            f"Clear pictures are made smaller by a whole number{by}.",
            f"Give {option('pairs', 'FOLDER')} in place of {option('data')}.",
        )
    if not is_haze and level is not None:
        least, most = LEVELS[degradation]
        if not least <= level <= most:
            raise BadParameter(
                f"The level {level:g} of {degradation} is outside {least:g} to {most:g}.",
                "Noise has its standard deviation in 255ths, low light the factor of what is "
                "missing, a bracket its steps in EV, another size its scale.",
            )
    data, split = Path(settings.data), settings.split
    scenes = [s for s in scenes_of(data, split=split) if kind in (None, s.kind)]
    if is_haze:
        scenes = [s for s in scenes if not s.no_haze_depth]
        if not scenes:
            what = f"{kind} scene" if kind else "scene"
            raise InputError(
                f"{data} contains no {what} of split {split} that is suitable for haze.",
                "Name another split, scene or folder.",
            )
    elif not scenes:
        raise InputError(f"{data} contains no {kind} scene of split {split}.", "Name another.")
    named = list(zip(stems_of(scenes), scenes, strict=True))
    made = settings.seed, settings.longest
    if is_haze:
        return [HazedCase(name, scene, *made, settings.spectrum) for name, scene in named]
    if degradation == "size":
        assert level is not None
        return [ReducedCase(name, scene, *made, int(level)) for name, scene in named]
    return [
        DegradedCase(f"{name}_{one:g}", scene, *made, degradation, one)
        for one in (SCORED[degradation] if level is None else (level,))
        for name, scene in named
    ]
