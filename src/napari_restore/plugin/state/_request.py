"""The settings of one run, and the models that runs share."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Unpack

import napari_restore as nr
from napari_restore.api import stamp_of
from napari_restore.plugin.state._targets import Area

if TYPE_CHECKING:
    from napari_restore.engine import Plan
    from napari_restore.images import Image
    from napari_restore.models import RestorationModel
    from napari_restore.plugin.state._connected_cluster import ConnectedCluster
    from napari_restore.questions import Restore, RestoreKeywords

_LOADING = threading.Lock()


@dataclass(frozen=True)
class Request:
    """The settings of one run."""

    image: Image = field(compare=False)
    model: str
    parameters: tuple[tuple[str, Any], ...]
    area: Area
    options: Restore
    bands: str | None = None
    sensor: str | None = None
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

    def plan(self, **options: Unpack[RestoreKeywords]) -> Plan:
        """Plan it. Loads and probes the model at its first use: not in the GUI thread.

        `options` replace those of the request.
        """
        own = self.options.replacing(
            region=self.area.targets, mask=self.area.mask, feather=self.feather
        )
        if self.cluster is not None:
            own = own.replacing(**self.cluster.options(own.machine.memory))
        return nr.plan(self.image, self.load(), **own.replacing(**options).keywords())


@lru_cache(maxsize=8)
def _load(
    model: str,
    weights: str | None,
    parameters: tuple[tuple[str, Any], ...],
    trust: bool,
    _stamp: tuple[Any, ...],
) -> RestorationModel:
    return nr.load_model(model, weights=weights, parameters=dict(parameters), trust=trust)
