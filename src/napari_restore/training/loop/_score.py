"""dev figures while training: other scenes, hazed with another spectrum than the training's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt
import torch

from napari_restore.metrics import psnr
from napari_restore.models._load import load
from napari_restore.models._model import RestorationModel
from napari_restore.training.haze import add_haze, draw_haze
from napari_restore.training.loop._config import ScoreConfig

OMEGAS = (0.95, 0.85)
"""Shares of haze that dcp takes away, beside the network's figures."""
MOST = 60.0
"""dB that an unchanged picture counts, where it would be infinite."""

Kind = str
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class DevScene:
    """A clear picture to score on."""

    name: str
    kind: Kind
    """"aerial" or "natural"."""
    clear: Array
    """(h, w, 3) display values 0 to 1."""
    valid: npt.NDArray[np.bool_]
    """(h, w)"""
    distance: Array | None = None
    """(h, w) 0 near to 1 far."""


@dataclass(frozen=True)
class _Pair:
    scene: DevScene
    hazy: Array


class Judge:
    """Scores models on the same pairs every time.

    Figures are means over scenes of PSNR in dB over valid pixels, by kind: ``KIND_model``
    on hazy scenes, ``KIND_clean`` of what it makes of the same scenes without haze, and
    once for all ``KIND_input``, ``KIND_dcp_0.95`` and ``KIND_dcp_0.85``. ``score`` is the
    mean of ``KIND_model`` over kinds.
    """

    def __init__(self, scenes: Iterable[DevScene], config: ScoreConfig) -> None:
        self._pairs = [_pair(scene, config) for scene in scenes]
        self._classical = config.classical

    @property
    def kinds(self) -> list[Kind]:
        return sorted({pair.scene.kind for pair in self._pairs})

    @property
    def columns(self) -> list[str]:
        """Names of all figures, `score` first."""
        fixed = ["input", *(f"dcp_{omega}" for omega in OMEGAS if self._classical)]
        names = ["model", "clean", *fixed]
        return ["score", *(f"{kind}_{name}" for kind in self.kinds for name in names)]

    def baselines(self) -> dict[str, float]:
        """The figures that do not hang on the network."""
        found = self._means(
            "input", [psnr(p.hazy, p.scene.clear, 1, p.scene.valid) for p in self._pairs]
        )
        for omega in OMEGAS if self._classical else ():
            model = load("dcp", parameters={"omega": omega})
            found |= self._means(f"dcp_{omega}", [self._on(model, p, p.hazy) for p in self._pairs])
        return found

    @torch.no_grad()
    def score(self, model: RestorationModel) -> dict[str, float]:
        """``score``, ``KIND_model`` and ``KIND_clean`` of `model`, which runs where it lies."""
        hazy = self._means("model", [self._on(model, p, p.hazy) for p in self._pairs])
        clean = self._means("clean", [self._on(model, p, p.scene.clear) for p in self._pairs])
        return {"score": fmean(hazy.values()), **hazy, **clean}

    @torch.no_grad()
    def _on(self, model: RestorationModel, pair: _Pair, picture: Array) -> float:
        first = next(model.parameters(), None)
        device = torch.device("cpu") if first is None else first.device
        x = torch.from_numpy(picture).permute(2, 0, 1)[None].contiguous().to(device)
        valid = torch.from_numpy(pair.scene.valid)[None, None].to(device)
        y = model(x, None, valid)[0].permute(1, 2, 0).float().clamp(0, 1).numpy(force=True)
        if not np.isfinite(y).all():
            return 0.0
        return min(MOST, psnr(y, pair.scene.clear, 1, pair.scene.valid))

    def _means(self, name: str, values: Sequence[float]) -> dict[str, float]:
        found = {}
        for kind in self.kinds:
            own = [v for v, p in zip(values, self._pairs, strict=True) if p.scene.kind == kind]
            found[f"{kind}_{name}"] = fmean(own)
        return found


def sentence(figures: Mapping[str, float], kinds: Sequence[Kind]) -> str:
    """The figures in words for a progress line."""
    parts = []
    for kind in kinds:
        text = f"{kind} {figures[f'{kind}_model']:.2f} dB"
        others = [
            f"{name} {figures[f'{kind}_{key}']:.2f}"
            for key, name in (("input", "hazy"), *((f"dcp_{o}", f"dcp {o}") for o in OMEGAS))
            if f"{kind}_{key}" in figures
        ]
        others.append(f"clean {figures[f'{kind}_clean']:.1f}")
        parts.append(f"{text} ({', '.join(others)})")
    return "; ".join(parts)


def _pair(scene: DevScene, config: ScoreConfig) -> _Pair:
    # By name: another scene more or less leaves the others' haze as it is.
    seed = [config.seed, *scene.name.encode()]
    rng = np.random.default_rng(seed)
    shape = (scene.clear.shape[0], scene.clear.shape[1])
    natural = scene.kind == "natural"
    luminance = scene.clear.mean(2) if natural and scene.distance is None else None
    haze = draw_haze(
        rng,
        shape,
        scene="natural" if natural else "aerial",
        spectrum=config.spectrum,
        depth=scene.distance,
        guide=luminance,
    )
    hazy = np.clip(add_haze(scene.clear, haze), 0, 1).astype(np.float32)
    # As a file would hold it.
    hazy = np.where(scene.valid[..., None], np.rint(hazy * 255) / 255, scene.clear)
    return _Pair(scene, hazy.astype(np.float32))
