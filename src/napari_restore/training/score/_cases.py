"""One hazy picture with its clear one, opened when its turn comes: from files, or hazed there and then."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_restore.errors import BadParameter, InputError
from napari_restore.images import Image, open_image
from napari_restore.training.data._pack import LUMA
from napari_restore.training.data._pictures import read_picture
from napari_restore.training.data._scenes import Kind, Scene, scenes_of
from napari_restore.training.haze import SPECTRA, add_haze, draw_haze
from napari_restore.training.score._pairs import Pair

Mask = npt.NDArray[np.bool_]

LONGEST = 1024
"""Pixels along a side to which a scene is reduced before it is hazed."""
RGB = "red=1,green=2,blue=3"


@dataclass(frozen=True)
class Opened:
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

    def open(self) -> Opened:
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

    def open(self) -> Opened:
        hazy, clear = (
            open_image(str(path), bands=self.bands) for path in (self.pair.hazy, self.pair.clear)
        )
        return Opened(hazy, clear)


@dataclass(frozen=True)
class HazedCase:
    """A clear scene under haze that follows from `seed` and the scene's name alone.

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

    def open(self) -> Opened:
        clear, hazy, valid = self.pixels()
        return Opened(open_image(hazy, bands=RGB), open_image(clear, bands=RGB), valid)

    def pixels(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], Mask]:
        """The clear and the hazy picture (h, w, 3), red green blue, and which pixels count (h, w)."""
        picture = read_picture(self.scene, self.longest)
        words = hashlib.sha256(self.scene.name.encode()).digest()[:8]
        rng = np.random.default_rng([self.seed, *words])
        clear = picture.rgb.astype(np.float32) / np.float32(255)
        haze = draw_haze(
            rng,
            clear.shape[:2],
            scene=self.scene.kind,
            spectrum=self.spectrum,
            depth=picture.distance,
            guide=np.clip(clear @ LUMA, 0, 1),
        )
        codes = np.rint(np.clip(add_haze(clear, haze), 0, 1) * 255).astype(np.uint8)
        return picture.rgb, np.where(picture.valid[..., None], codes, picture.rgb), picture.valid

    def keep(self, folder: Path) -> None:
        """Write the pictures to hazy/ and clear/ in `folder`, as PNG; what is there stays."""
        from PIL import Image as Picture

        paths = [folder / kind / f"{self.name}.png" for kind in ("clear", "hazy")]
        if all(path.is_file() for path in paths):
            return
        for path, codes in zip(paths, self.pixels(), strict=False):
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.part")
            Picture.fromarray(codes).save(part, "PNG")
            part.replace(path)


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
    # A plain folder knows no splits: everything in it counts.
    has_splits = data.is_file() or (data / "INDEX.csv").is_file()
    scenes = scenes_of(data, split=split if has_splits else None)
    kept = [s for s in scenes if kind in (None, s.kind) and not s.no_haze_depth]
    if not kept:
        told = f"{kind} scene" if kind else "scene"
        raise InputError(
            f"{data} holds no {told} of split {split} that haze can be put on.",
            "Name another split, scene or folder.",
        )
    return [
        HazedCase(name, scene, spectrum, seed, longest)
        for name, scene in zip(_names(kept), kept, strict=True)
    ]


def _names(scenes: Sequence[Scene]) -> list[str]:
    """Stems of the files; the path where two would have the same."""
    told: list[Any] = [Path(scene.name or scene.path.name).with_suffix("") for scene in scenes]
    stems = Counter(path.name for path in told)
    return [path.name if stems[path.name] == 1 else "_".join(path.parts) for path in told]
