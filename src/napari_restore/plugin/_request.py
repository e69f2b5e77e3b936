"""The settings of one run, and the models that runs share."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import napari_restore as nr
from napari_restore.api import stamp_of
from napari_restore.plugin.areas._targets import Area

if TYPE_CHECKING:
    from napari_restore.engine import Plan
    from napari_restore.images import Image
    from napari_restore.models import RestorationModel

_LOADING = threading.Lock()


@dataclass(frozen=True)
class Request:
    """The settings of one run."""

    image: Image = field(compare=False)
    model: str
    parameters: tuple[tuple[str, Any], ...]
    area: Area
    feather: int
    exclude: str | None
    memory: int | None
    device: str
    tile: int | None
    bands: str | None = None
    weights: str | None = None
    trust: bool = False
    tile_batch: int | None = None
    extent: str = "image"
    residuals: str = "auto"
    maps: bool = False

    def load(self) -> RestorationModel:
        """Load the model with its parameters; cached until its files change."""
        stamp = stamp_of(self.model, self.weights)
        # Two threads that need the same model load it once.
        with _LOADING:
            return _load(self.model, self.weights, self.parameters, self.trust, stamp)

    def plan(self, **options: Any) -> Plan:
        """Plan it. Loads and probes the model at its first use: not in the GUI thread.

        `options` are further ones of `napari_restore.plan`.
        """
        return nr.plan(
            self.image,
            self.load(),
            region=self.area.targets,
            mask=self.area.mask,
            feather=self.feather if self.area.mask else 0,
            exclude=self.exclude,
            memory=self.memory,
            device=self.device,
            tile=self.tile,
            tile_batch=self.tile_batch,
            residuals=self.residuals,
            maps=self.maps,
            pyramid=True,
            **{"extent": self.extent, **options},
        )


@lru_cache(maxsize=8)
def _load(
    model: str,
    weights: str | None,
    parameters: tuple[tuple[str, Any], ...],
    trust: bool,
    _stamp: tuple[Any, ...],
) -> RestorationModel:
    return nr.load_model(model, weights=weights, parameters=dict(parameters), trust=trust)
