"""The settings of one run, and the models that runs share."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import napari_restore as nr
from napari_restore import Region
from napari_restore.api import stamp_of
from napari_restore.errors import BadRegion, RestoreError

if TYPE_CHECKING:
    from napari_restore.engine import Cluster, Plan
    from napari_restore.images import Image
    from napari_restore.models import ModelCard, RestorationModel
    from napari_restore.questions import Restore, RestoreKeywords


class NotReady(BadRegion):
    """Raised while a mask is made on another thread."""


class TargetChoice(Enum):
    """The choices, by the labels the panel shows."""

    VISIBLE = "visible region"
    DRAWN = "drawn areas"
    PAINTED = "painted strength"
    GRADIENT = "gradient"
    WHOLE = "whole image"

    @property
    def is_drawn(self) -> bool:
        """Whether it follows from a layer that the user draws in."""
        return self not in (TargetChoice.VISIBLE, TargetChoice.WHOLE)

    @property
    def fades(self) -> bool:
        """Whether the edges of such a target may fade over some pixels."""
        return self in (TargetChoice.DRAWN, TargetChoice.PAINTED)


@dataclass(frozen=True)
class Area:
    """What is restored, in level-0 pixels: boxes, and where drawn, a mask within them."""

    targets: tuple[Region, ...]
    mask: str | None = None
    """Path of a GeoJSON or raster mask, as `napari_restore.plan` takes it."""
    soft: bool = False
    """Whether the mask has grades of its own: then its edges do not fade."""
    pixels: int | None = field(default=None, compare=False)
    """About how many pixels the mask reaches; None without one, or where it is not counted."""

    @property
    def region(self) -> Region:
        """The smallest box holding all targets."""
        y0, x0, y1, x1 = zip(*self.targets, strict=True)
        return Region(min(y0), min(x0), max(y1), max(x1))


@dataclass(frozen=True, eq=False)
class ConnectedCluster:
    """A connection to the workers that compute the runs of a viewer."""

    cluster: Cluster
    name: str
    """As the user has given it."""
    threads: int
    """Threads of the worker that has the fewest."""
    memory: int
    """Bytes that a run may add to each worker where the user sets none."""
    dashboard: str | None

    def options(self, memory: int | str | None) -> RestoreKeywords:
        """Return the options of a plan for its workers; `memory` is what the user has set, or None."""
        return {"shared": True, "workers": self.threads, "memory": memory or self.memory}


@dataclass(frozen=True)
class Workers:
    """The workers of a cluster at a moment."""

    count: int
    threads: int
    """Of all of them together."""
    is_lost: bool
    """Whether the scheduler is gone."""


def connected(name: str) -> ConnectedCluster:
    """Return the connection to the cluster `name`; takes seconds."""
    cluster = nr.connect(name)
    try:
        # Waits for the first one.
        threads = cluster.threads()
        # Now and not before the first tile: that takes as long as loading the libraries.
        cluster.check_versions()
        return ConnectedCluster(
            cluster, name, min(threads.values()), cluster.default_memory(), cluster.dashboard
        )
    except BaseException:
        cluster.close()
        raise


def workers_of(cluster: Cluster) -> Workers:
    """Return the workers at the moment; not in the GUI thread, as it asks the scheduler."""
    threads = cluster.threads_now()
    return Workers(len(threads), sum(threads.values()), cluster.is_lost)


@dataclass(frozen=True)
class ChosenMethod:
    """A model as it is set, with its parameters."""

    model: str = ""
    """A model's id, or the path of a model file."""
    card: ModelCard | None = None
    """None until the panel has found it."""
    weights: str | None = None
    """The weights file the user gave."""
    trust: bool = False
    """Whether the user has allowed the code in the file `model` to run."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Those that differ from the card's defaults, by name."""

    @property
    def title(self) -> str:
        return self.model if self.card is None else self.card.title


class NamedBands(NamedTuple):
    """What the user has said of the bands of a layer."""

    bands: str | None = None
    """Their roles, as ``"red=3,green=2,blue=1"``."""
    sensor: str | None = None
    """The id of their sensor: its zero, wavelengths and roles."""


@dataclass(frozen=True)
class Exclusion:
    """Whether a new mask of excluded pixels is being made: until then the one before counts."""

    pending: bool = False
    problem: RestoreError | None = None
    """Why there is no mask of what was chosen."""


_LOADING = threading.Lock()


@dataclass(frozen=True)
class RunRequest:
    """The settings of one run."""

    image: Image = field(compare=False)
    model: str
    parameters: tuple[tuple[str, Any], ...]
    area: Area
    options: Restore
    named: NamedBands = field(default_factory=NamedBands)
    weights: str | None = None
    trust: bool = False
    cluster: ConnectedCluster | None = None
    """Whose workers compute it."""

    @property
    def feather(self) -> int:
        """Pixels over which the edges of the area fade; edges that are soft already do not."""
        return self.options.target.feather if self.area.mask and not self.area.soft else 0

    def load(self) -> RestorationModel:
        """Load the model with its parameters; cached until its files change."""
        stamp = stamp_of(self.model, self.weights)
        # Two threads that need the same model load it once.
        with _LOADING:
            return _load(self.model, self.weights, self.parameters, self.trust, stamp)

    @property
    def subject(self) -> dict[str, Any]:
        """Image, model and options, as questions to another process have them."""
        model = {
            "model": self.model,
            "weights": self.weights,
            "parameters": dict(self.parameters),
        }
        options = {**vars(self.options.reading), **vars(self.options.machine)}
        return {"image": self.image, "model": model, "trust": self.trust, "options": options}

    def plan(self, *, compare: bool = False, **options: Unpack[RestoreKeywords]) -> Plan:
        """Plan it, with `options` in place of its own. Loads and probes the model first: not in the GUI thread."""
        own = self.options.replacing(
            region=self.area.targets, mask=self.area.mask, feather=self.feather
        )
        if self.cluster is not None:
            own = own.replacing(**self.cluster.options(own.machine.memory))
        keywords = own.replacing(**options).keywords()
        return nr.plan(self.image, self.load(), compare=compare, **keywords)


@lru_cache(maxsize=8)
def _load(
    model: str,
    weights: str | None,
    parameters: tuple[tuple[str, Any], ...],
    trust: bool,
    _stamp: tuple[Any, ...],
) -> RestorationModel:
    return nr.load_model(model, weights=weights, parameters=dict(parameters), trust=trust)
