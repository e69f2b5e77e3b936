"""Validation during training: other scenes, with haze of another spectrum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt
import torch

from napari_restore._options import SceneKind
from napari_restore.metrics import psnr
from napari_restore.models import RestorationModel, load
from napari_restore.training.haze import ClearScene, add_haze, haze_scene
from napari_restore.training.loop._config import ScoreConfig

OMEGAS = (0.95, 0.85)
"""Values of omega for which dcp is scored, too."""
MAX_PSNR = 60.0
"""Limit of PSNR in dB, which is infinite for equal images."""

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Pair:
    scene: ClearScene
    hazy: Array


class Validator:
    """Scores models on a fixed set of pairs.

    Figures are means over scenes of PSNR in dB over valid pixels, by kind: ``KIND_model``
    on hazy scenes, ``KIND_clean`` on the same scenes without haze, and once
    ``KIND_input``, ``KIND_dcp_0.95`` and ``KIND_dcp_0.85``. ``score`` is the
    mean of ``KIND_model`` over kinds.
    """

    def __init__(self, scenes: Iterable[ClearScene], config: ScoreConfig) -> None:
        self._pairs = [_pair(scene, config) for scene in scenes]
        self._classical = config.classical

    @property
    def kinds(self) -> list[SceneKind]:
        return sorted({pair.scene.kind for pair in self._pairs})

    @property
    def columns(self) -> list[str]:
        """Names of all figures, `score` first."""
        fixed = ["input", *(f"dcp_{omega}" for omega in OMEGAS if self._classical)]
        names = ["model", "clean", *fixed]
        return ["score", *(f"{kind}_{name}" for kind in self.kinds for name in names)]

    def baselines(self, check_cancelled: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Return the figures independent of the network; `check_cancelled` is called between scenes."""
        unchanged = [psnr(p.hazy, p.scene.clear, 1, p.scene.valid) for p in self._pairs]
        figures = self._means("input", [min(MAX_PSNR, value) for value in unchanged])
        for omega in OMEGAS if self._classical else ():
            model = load("dcp", parameters={"omega": omega})
            values = []
            for pair in self._pairs:
                check_cancelled()
                values.append(self._on(model, pair, pair.hazy))
            figures |= self._means(f"dcp_{omega}", values)
        return figures

    @torch.no_grad()
    def score(
        self, model: RestorationModel, check_cancelled: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """Return ``score``, ``KIND_model`` and ``KIND_clean`` of `model`, on its device.

        `check_cancelled` is called between scenes and may raise.
        """
        on_hazy, on_clear = [], []
        for pair in self._pairs:
            check_cancelled()
            on_hazy.append(self._on(model, pair, pair.hazy))
            on_clear.append(self._on(model, pair, pair.scene.clear))
        hazy, clean = self._means("model", on_hazy), self._means("clean", on_clear)
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
        return min(MAX_PSNR, psnr(y, pair.scene.clear, 1, pair.scene.valid))

    def _means(self, name: str, values: Sequence[float]) -> dict[str, float]:
        figures = {}
        for kind in self.kinds:
            of_kind = [v for v, p in zip(values, self._pairs, strict=True) if p.scene.kind == kind]
            figures[f"{kind}_{name}"] = fmean(of_kind)
        return figures


def sentence(figures: Mapping[str, float], kinds: Sequence[SceneKind]) -> str:
    """Format the figures for a progress line."""
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


def _pair(scene: ClearScene, config: ScoreConfig) -> _Pair:
    haze = haze_scene(scene, spectrum=config.spectrum, seed=config.seed)
    hazy = np.clip(add_haze(scene.clear, haze), 0, 1).astype(np.float32)
    # Quantised as in an 8-bit file.
    hazy = np.where(scene.valid[..., None], np.rint(hazy * 255) / 255, scene.clear)
    return _Pair(scene, hazy.astype(np.float32))
