"""Opens the clear images of a run: batches for training, and validation scenes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_restore.extension import (
    BadParameter,
    Cancelled,
    Event,
    InputError,
    Note,
    Phase,
    Progress,
)
from napari_restore_lab.data import (
    INDEX,
    BatchLoader,
    Pack,
    PackedScene,
    Recipe,
    Sampler,
    Scene,
    by_source,
    expand,
    has_splits,
    pack,
    resized,
    scenes_of,
    shippable,
)
from napari_restore_lab.loop._config import TrainConfig
from napari_restore_lab.synthetic_haze import ClearScene

Emit = Callable[[Event], None]


class Batches(Protocol):
    """A source of batches; see `napari_restore_lab.data.BatchLoader`."""

    def batches(self, start_step: int) -> Generator[Any, None, None]:
        """Yield batches from `start_step` on, in order, until closed."""
        ...


@dataclass(frozen=True)
class Pictures:
    """Training batches and validation scenes of a run."""

    feed: Callable[[Any], Batches]
    """Returns the batches of a stage's recipe."""
    rows: Sequence[Mapping[str, Any]]
    """Name, source and licence of every training scene, for the card."""
    dev: Sequence[ClearScene] = field(default_factory=tuple)
    left_out: Sequence[str] = ()
    """Names of excluded scenes: by [data] leave_out, or too small."""

    @property
    def digest(self) -> str:
        """sha256 of the names of the training scenes."""
        return sha256("\n".join(str(row["name"]) for row in self.rows).encode()).hexdigest()


def open_pictures(
    config: TrainConfig, emit: Emit, cancelled: Callable[[], bool] = lambda: False
) -> Pictures:
    """Open the scenes of [data] and [score]; images in files are packed once, into the cache.

    Raises `InputError` where there are none for training, and `Cancelled` once `cancelled`, which
    is called after every image, returns true.
    """

    def check_cancelled(event: Event) -> None:
        if cancelled():
            raise Cancelled("Stopped while pictures were read.", "The same command continues.")
        emit(event)

    data, run = config.data, config.run
    cache = data.cache or run.output / "pictures"
    packed, without = _training(config, cache / "train", check_cancelled)
    dev = tuple(_dev(config, cache / "dev", check_cancelled)) if config.score.scenes else ()
    if config.score.scenes and not dev:
        if config.score.index is not None:
            raise InputError(
                f"{config.score.index} contains no {config.score.split} scene of the kinds of [data].",
                "Name another index in [score].",
            )
        split = config.score.split
        emit(Note(f"There are no {split} scenes: the last average is saved, without a score."))
    samplers = [Sampler(packed, stage.recipe) for stage in config.stages]
    small = set(samplers[0].left_out).intersection(*(s.left_out for s in samplers))
    if small:
        emit(Note(f"Pictures excluded as too small for the crops: {len(small)}."))
    rows = [
        {"name": entry.scene.name, "source": entry.scene.source, "licence": entry.scene.licence}
        for entry in packed.entries
        if entry.scene.name not in small
    ]

    def feed(recipe: Recipe) -> BatchLoader:
        return BatchLoader(packed, recipe, run.seed, run.workers)

    return Pictures(feed, rows, dev, (*without, *sorted(small)))


def _training(config: TrainConfig, cache: Path, emit: Emit) -> tuple[Pack, list[str]]:
    """Return the pack for training, and the names excluded by [data] leave_out."""
    data = config.data

    def unwanted(scene: Scene) -> bool:
        return any(_matches_name(scene, pattern) for pattern in data.leave_out)

    def fits(scene: Scene) -> bool:
        return scene.kind in data.kinds and (data.licences == "any" or shippable(scene))

    found = _packed(data.index, cache)
    if found is not None:
        for entry in found.entries:
            if entry.scene.split != "train" or not fits(entry.scene) or unwanted(entry.scene):
                raise InputError(
                    f"{data.index} contains {entry.scene.name}, which [data] excludes.",
                    "Pack only scenes for training.",
                )
        return found, []
    scenes = [scene for scene in scenes_of(data.index, split="train") if fits(scene)]
    for pattern in data.leave_out:
        if not any(_matches_name(scene, pattern) for scene in scenes):
            raise BadParameter(
                f"[data] leave_out {pattern!r} matches no training file.",
                "Write names as in the index; * matches any characters.",
            )
    without = [scene.file for scene in scenes if unwanted(scene)]
    scenes = [scene for scene in scenes if not unwanted(scene)]
    if not scenes:
        raise InputError(
            f"{data.index} contains no scene of these kinds and licences.", "Allow more in [data]."
        )
    return _pack(scenes, cache, data.long_side, emit), without


def _matches_name(scene: Scene, pattern: str) -> bool:
    """Return whether `pattern` matches the file's name, with or without its folders."""
    return any(fnmatchcase(name, pattern) for name in (scene.file, Path(scene.file).name))


def _dev(config: TrainConfig, cache: Path, emit: Emit) -> Iterator[ClearScene]:
    """Yield the validation scenes of every kind, alternating sources."""
    found = _dev_pack(config, cache, emit)
    if found is None:
        return
    chosen = _chosen(
        [e.scene for e in found.entries if e.scene.split == config.score.split], config
    )
    names = [scene.name for scene in chosen]
    for entry in found.entries:
        if entry.scene.name in names:
            scene = _clear_scene(found, entry, config.score.side)
            if scene.valid.any():
                yield scene


def _dev_pack(config: TrainConfig, cache: Path, emit: Emit) -> Pack | None:
    """Return the pack of the validation scenes; None where there are none."""
    index = config.score.index or config.data.index
    found = _packed(index, cache)
    if found is not None:
        return found
    if not has_splits(index) and index.resolve() == config.data.index.resolve():
        return None  # a plain folder is all used for training
    try:
        scenes = scenes_of(index, split=config.score.split)
    except InputError:
        if config.score.index is not None:
            raise
        return None
    chosen = _chosen(scenes, config)
    return _pack(chosen, cache, config.score.side, emit) if chosen else None


def _clear_scene(found: Pack, entry: PackedScene, side: int) -> ClearScene:
    """Return a packed scene, reduced to at most `side` pixels along the longer side."""
    # The smallest sufficient level.
    level = max((n for n, p in enumerate(entry.levels) if max(p.shape) >= side), default=0)
    codes = found.view(entry.levels[level])
    scale = min(1.0, side / max(codes.shape[:2]))
    shape = (round(codes.shape[0] * scale), round(codes.shape[1] * scale))
    planes = [resized(_shares(codes[..., c]), shape) for c in range(3)]
    valid, distance = np.ones(shape, bool), None
    if entry.valid:
        valid = resized(found.view(entry.valid[level]).astype(np.float32), shape) > 0.999
    if entry.distance:
        distance = resized(_shares(found.view(entry.distance[level])), shape)
    return ClearScene(
        entry.scene.name,
        entry.scene.kind,
        np.stack(planes, 2),
        valid,
        distance,
        entry.is_light,
    )


def _shares(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return codes.astype(np.float32) / np.float32(255)


def _chosen(scenes: Sequence[Scene], config: TrainConfig) -> list[Scene]:
    """Return the first scenes of every kind suitable for haze, alternating sources."""
    chosen: list[Scene] = []
    for kind in config.data.kinds:
        own = [scene for scene in scenes if scene.kind == kind and not scene.no_haze_depth]
        turns = zip_longest(*by_source(own).values())
        mixed = [scene for turn in turns for scene in turn if scene is not None]
        chosen += mixed[: config.score.scenes]
    return chosen


def _packed(path: Path, cache: Path) -> Pack | None:
    """Return an existing pack; None for images in files."""
    if path.suffix.lower() == ".zip":
        return expand(path, cache)
    return Pack(path) if (path / INDEX).is_file() else None


def _pack(scenes: Sequence[Scene], folder: Path, long_side: int, emit: Emit) -> Pack:
    emit(Phase("Reading pictures"))
    return pack(scenes, folder, long_side=long_side, progress=lambda n, of: emit(Progress(n, of)))
