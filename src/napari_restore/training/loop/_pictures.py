"""The clear pictures of a run, opened: a feed for training, dev scenes to be judged on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_restore.engine import Event, Note, Phase, Progress
from napari_restore.errors import InputError
from napari_restore.training.data import (
    Feed,
    Pack,
    Recipe,
    Scene,
    expand,
    pack,
    scenes_of,
    shippable,
)
from napari_restore.training.data._pack import INDEX
from napari_restore.training.data._pictures import resized
from napari_restore.training.data._scenes import by_source
from napari_restore.training.loop._config import TrainConfig
from napari_restore.training.loop._score import DevScene

Tell = Callable[[Event], None]


class Batches(Protocol):
    """What gives batches; see `napari_restore.training.data.Feed`."""

    def batches(self, start_step: int) -> Iterator[Any]:
        """Batches from `start_step` on, in order; closed when no more is wanted."""
        ...


@dataclass(frozen=True)
class Pictures:
    """What a run is trained and judged on."""

    feed: Callable[[Any], Batches]
    """The feed of a stage's recipe."""
    rows: Sequence[Mapping[str, Any]]
    """Name, source and licence of every training scene, for the card."""
    dev: Sequence[DevScene] = field(default_factory=tuple)

    @property
    def digest(self) -> str:
        """Of the names of what it is trained on."""
        return sha256("\n".join(str(row["name"]) for row in self.rows).encode()).hexdigest()


def open_pictures(config: TrainConfig, tell: Tell) -> Pictures:
    """Read what [data] and [score] name; pictures in files are packed once, into the cache.

    Raises `InputError` where there is nothing, or nothing to train on.
    """
    data, run = config.data, config.run
    cache = data.cache or run.output / "pictures"
    packed = _training(config, cache / "train", tell)
    dev = tuple(_dev(config, cache / "dev", tell)) if config.score.scenes else ()
    if config.score.scenes and not dev:
        tell(Note("There are no dev scenes: the last average is kept, unscored."))
    rows = [
        {"name": entry.scene.name, "source": entry.scene.source, "licence": entry.scene.licence}
        for entry in packed.entries
    ]

    def feed(recipe: Recipe) -> Feed:
        return Feed(packed, recipe, run.seed, run.workers)

    return Pictures(feed, rows, dev)


def _training(config: TrainConfig, cache: Path, tell: Tell) -> Pack:
    """What is trained on, at all scales."""
    data = config.data

    def fits(scene: Scene) -> bool:
        return scene.kind in data.kinds and (data.licences == "any" or shippable(scene))

    found = _packed(data.index, cache)
    if found is not None:
        for entry in found.entries:
            if entry.scene.split != "train" or not fits(entry.scene):
                raise InputError(
                    f"{data.index} holds {entry.scene.name}, which [data] leaves out.",
                    "Pack only what is to be trained on.",
                )
        return found
    scenes = [scene for scene in scenes_of(data.index, split="train") if fits(scene)]
    if not scenes:
        raise InputError(
            f"{data.index} holds no scene of these kinds and licences.", "Allow more in [data]."
        )
    return _pack(scenes, cache, data.long_side, tell)


def _dev(config: TrainConfig, cache: Path, tell: Tell) -> Iterator[DevScene]:
    """The dev scenes of every kind, sources in turn."""
    index, side = config.score.index or config.data.index, config.score.side
    found = _packed(index, cache)
    if found is None:
        try:
            scenes = scenes_of(index, split="dev")
        except InputError:
            return
        chosen = _chosen(scenes, config)
        if not chosen:
            return
        found = _pack(chosen, cache, side, tell)
    chosen = _chosen([e.scene for e in found.entries if e.scene.split == "dev"], config)
    names = [scene.name for scene in chosen]
    for entry in found.entries:
        if entry.scene.name not in names:
            continue
        # The smallest that is large enough.
        level = max((n for n, p in enumerate(entry.levels) if max(p.shape) >= side), default=0)
        codes = found.view(entry.levels[level])
        scale = min(1.0, side / max(codes.shape[:2]))
        shape = (round(codes.shape[0] * scale), round(codes.shape[1] * scale))
        planes = [resized(_shares(codes[..., c]), shape) for c in range(3)]
        valid = np.ones(shape, bool)
        if entry.valid:
            valid = resized(found.view(entry.valid[level]).astype(np.float32), shape) > 0.999
        distance = None
        if entry.distance:
            distance = resized(_shares(found.view(entry.distance[level])), shape)
        if valid.any():
            yield DevScene(entry.scene.name, entry.scene.kind, np.stack(planes, 2), valid, distance)


def _shares(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return codes.astype(np.float32) / np.float32(255)


def _chosen(scenes: Sequence[Scene], config: TrainConfig) -> list[Scene]:
    """The first scenes of every kind on which haze may lie, one source after the other."""
    chosen: list[Scene] = []
    for kind in config.data.kinds:
        own = [scene for scene in scenes if scene.kind == kind and not scene.no_haze_depth]
        turns = zip_longest(*by_source(own).values())
        mixed = [scene for turn in turns for scene in turn if scene is not None]
        chosen += mixed[: config.score.scenes]
    return chosen


def _packed(path: Path, cache: Path) -> Pack | None:
    """What was packed before; None for pictures in files."""
    if path.suffix.lower() == ".zip":
        return expand(path, cache)
    return Pack(path) if (path / INDEX).is_file() else None


def _pack(scenes: Sequence[Scene], folder: Path, long_side: int, tell: Tell) -> Pack:
    tell(Phase("Reading pictures"))
    return pack(scenes, folder, long_side=long_side, progress=lambda n, of: tell(Progress(n, of)))
