"""One hazy picture with its clear one, opened when its turn comes: from files, or hazed there and then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image as Picture

from napari_restore.errors import BadOutput, BadParameter, InputError
from napari_restore.images import Image, open_image
from napari_restore.training._replacing import replacing
from napari_restore.training.data._pictures import read_picture
from napari_restore.training.data._scenes import Kind, Scene, scenes_of, stems_of
from napari_restore.training.haze import SPECTRA, add_haze, haze_scene
from napari_restore.training.score._pairs import Pair

Mask = npt.NDArray[np.bool_]

LONGEST = 1024
"""Pixels along a side to which a scene is reduced before it is hazed."""
_HAZE = "napari-restore haze"
"""Word of a PNG under which it stands how it was hazed."""
RGB = "red=1,green=2,blue=3"


@dataclass(frozen=True)
class OpenCase:
    """Both pictures of a case."""

    hazy: Image
    clear: Image
    valid: Mask | None = None
    """(h, w); None: as far as the images themselves tell."""


class Case(Protocol):
    """What is scored: a name, unique within its group, and two pictures."""

    @property
    def name(self) -> str: ...

    @property
    def group(self) -> str: ...

    def open(self) -> OpenCase:
        """Raises `InputError` (`UnreadableImage`)."""


@dataclass(frozen=True)
class PairCase:
    """Two files."""

    pair: Pair
    bands: str | None = None
    """Which band is what, as `open_image` takes it."""

    @property
    def name(self) -> str:
        return self.pair.name

    @property
    def group(self) -> str:
        return self.pair.group

    def open(self) -> OpenCase:
        hazy, clear = (
            open_image(str(path), bands=self.bands) for path in (self.pair.hazy, self.pair.clear)
        )
        return OpenCase(hazy, clear)


@dataclass(frozen=True)
class HazedCase:
    """A clear scene under haze that follows from `seed` and its file's name alone, as `haze` makes it.

    The hazy picture is in 8 bits, without noise or compression. Where the scene is
    not valid (the border of a mosaic) it stays as it is.
    """

    name: str
    scene: Scene
    spectrum: str
    seed: int
    longest: int | None = LONGEST

    @property
    def group(self) -> str:
        return self.scene.kind

    def open(self) -> OpenCase:
        clear, hazy, valid = self.pixels()
        return OpenCase(open_image(hazy, bands=RGB), open_image(clear, bands=RGB), valid)

    def pixels(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], Mask]:
        """The clear and the hazy picture (h, w, 3), red green blue, and which pixels count (h, w)."""
        picture = read_picture(self.scene, self.longest)
        clear = picture.rgb.astype(np.float32) / np.float32(255)
        haze = haze_scene(
            clear,
            picture.valid,
            name=self.scene.file,
            kind=self.scene.kind,
            distance=picture.distance,
            spectrum=self.spectrum,
            seed=self.seed,
            is_light=picture.is_light,
        )
        codes = np.rint(np.clip(add_haze(clear, haze), 0, 1) * 255).astype(np.uint8)
        return picture.rgb, np.where(picture.valid[..., None], codes, picture.rgb), picture.valid

    @property
    def settings(self) -> str:
        """What says how all scenes are hazed, in a line."""
        return f"spectrum {self.spectrum}, seed {self.seed}, longest {self.longest}:"

    def keep(self, folder: Path, *, overwrite: bool = False) -> None:
        """Write the pictures to hazy/ and clear/ in `folder`, as PNG that tells how it was hazed.

        What was hazed like this stays. Raises `BadOutput` if a file of somebody else has the
        name, unless `overwrite`.
        """
        from PIL.PngImagePlugin import PngInfo

        paths = [folder / kind / f"{self.name}.png" for kind in ("clear", "hazy")]
        found = self.scene.path.stat()
        haze = f"{self.settings} {self.scene.file} {found.st_size} {found.st_mtime_ns}"
        recorded = [_haze_settings_in(path) for path in paths]
        if recorded == [haze, haze]:
            return
        for path, other in zip(paths, recorded, strict=True):
            if path.exists() and other is None and not overwrite:
                raise BadOutput(
                    f"{path} exists and was not kept by an evaluation.",
                    "Add --overwrite to replace it, or choose another folder.",
                )
        info = PngInfo()
        info.add_text(_HAZE, haze)
        for path, codes in zip(paths, self.pixels(), strict=False):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                Picture.fromarray(codes).save(part, "PNG", pnginfo=info)


def drop_others(folder: Path, cases: Sequence[Case]) -> None:
    """Remove pictures that were kept under other settings: they do not belong to these scores."""
    settings = {f"{case.settings} " for case in cases if isinstance(case, HazedCase)}
    for kind in ("hazy", "clear"):
        for path in (folder / kind).glob("*.png"):
            recorded = _haze_settings_in(path)
            if recorded is not None and not recorded.startswith(tuple(settings)):
                path.unlink()


def _haze_settings_in(path: Path) -> str | None:
    """How a picture that `HazedCase.keep` wrote was hazed; None of another file, or none."""
    try:
        with Picture.open(path) as file:
            recorded = file.info.get(_HAZE)
    except OSError:
        return None
    return None if recorded is None else str(recorded)


def hazed_cases(
    data: Path,
    *,
    split: str,
    spectrum: str,
    seed: int,
    kind: Kind | None = None,
    longest: int | None = LONGEST,
) -> list[Case]:
    """A case for each scene of an index or folder; see `scenes_of`.

    `kind` takes only aerial or only natural scenes. Natural ones on which haze that
    grows with distance would be wrong are left out. Raises `InputError`.
    """
    if spectrum not in SPECTRA:
        raise BadParameter(
            f"There is no spectrum {spectrum!r}.", f"There are: {', '.join(SPECTRA)}."
        )
    scenes = scenes_of(data, split=split)
    kept = [s for s in scenes if kind in (None, s.kind) and not s.no_haze_depth]
    if not kept:
        recorded = f"{kind} scene" if kind else "scene"
        raise InputError(
            f"{data} holds no {recorded} of split {split} that haze can be put on.",
            "Name another split, scene or folder.",
        )
    return [
        HazedCase(name, scene, spectrum, seed, longest)
        for name, scene in zip(stems_of(kept), kept, strict=True)
    ]
