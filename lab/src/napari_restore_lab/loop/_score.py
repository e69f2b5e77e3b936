"""Validation during training: other scenes, with haze of another spectrum, noise or low light."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt
import torch

from napari_restore.extension import RestorationModel, load, psnr
from napari_restore_lab._questions import Degradation
from napari_restore_lab.degradation import SCORED, SCORED_ISO, camera_scene, degraded_scene
from napari_restore_lab.loop._config import ScoreConfig
from napari_restore_lab.synthetic_haze import ClearScene, add_haze, haze_scene

OMEGAS = (0.95, 0.85)
"""Values of omega for which dcp is scored, too."""
CLEAN = "clean"
"""Group of scenes as they are, where noise is what is scored."""
MAX_PSNR = 60.0
"""Limit of PSNR in dB, which is infinite for equal images."""

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Pair:
    scene: ClearScene
    hazy: Array
    """(h, w, 3); of a bracket (h, w, 9)."""
    truth: Array
    group: str
    """What it is averaged with: the kind of the scene under haze, else the level, as `noise_15`."""


class Validator:
    """Scores models on a fixed set of pairs.

    Figures are means over scenes of PSNR in dB over valid pixels, by group, that is by kind of
    scene under haze, else by level, as ``noise_15`` or ``iso_3200``: ``GROUP_model`` on degraded
    scenes, and once ``GROUP_input``. Under haze also ``KIND_clean`` on the same scenes without it, and once
    ``KIND_dcp_0.95`` and ``KIND_dcp_0.85``; for noise ``clean_model``. ``score`` is the mean of
    ``GROUP_model`` over groups but ``clean``.
    """

    def __init__(
        self,
        scenes: Iterable[ClearScene],
        config: ScoreConfig,
        degradation: Degradation = "haze",
    ) -> None:
        self._hazed = degradation == "haze"
        self._pairs = [pair for scene in scenes for pair in _pairs(scene, config, degradation)]
        self._classical = config.classical and self._hazed

    @property
    def groups(self) -> list[str]:
        """Groups of pairs, in the order of their figures."""
        groups = list(dict.fromkeys(pair.group for pair in self._pairs))
        return sorted(groups) if self._hazed else groups

    @property
    def columns(self) -> list[str]:
        """Names of all figures, `score` first."""
        fixed = ["input", *(f"dcp_{omega}" for omega in OMEGAS if self._classical)]
        names = ["model", *(["clean"] if self._hazed else []), *fixed]
        return ["score", *(f"{group}_{name}" for group in self.groups for name in names)]

    def baselines(self, check_cancelled: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Return the figures independent of the network; `check_cancelled` is called between scenes."""
        unchanged = [psnr(_input(p), p.truth, 1, p.scene.valid) for p in self._pairs]
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
        """Return ``score`` and the figures of `model`, on its device.

        `check_cancelled` is called between scenes and may raise.
        """
        on_hazy, on_clear = [], []
        for pair in self._pairs:
            check_cancelled()
            on_hazy.append(self._on(model, pair, pair.hazy))
            if self._hazed:
                on_clear.append(self._on(model, pair, pair.scene.clear))
        hazy = self._means("model", on_hazy)
        clean = self._means("clean", on_clear) if self._hazed else {}
        score = fmean(value for name, value in hazy.items() if not name.startswith(CLEAN))
        return {"score": score, **hazy, **clean}

    @torch.no_grad()
    def _on(self, model: RestorationModel, pair: _Pair, picture: Array) -> float:
        first = next(model.parameters(), None)
        device = torch.device("cpu") if first is None else first.device
        x = torch.from_numpy(picture).permute(2, 0, 1)[None].contiguous().to(device)
        valid = torch.from_numpy(pair.scene.valid)[None, None].to(device)
        y = model(x, None, valid)[0].permute(1, 2, 0).float().clamp(0, 1).numpy(force=True)
        if not np.isfinite(y).all():
            return 0.0
        return min(MAX_PSNR, psnr(y, pair.truth, 1, pair.scene.valid))

    def _means(self, name: str, values: Sequence[float]) -> dict[str, float]:
        figures = {}
        for group in self.groups:
            own = [v for v, p in zip(values, self._pairs, strict=True) if p.group == group]
            figures[f"{group}_{name}"] = fmean(own)
        return figures


def sentence(figures: Mapping[str, float], groups: Sequence[str]) -> str:
    """Format the figures for a progress line."""
    parts = []
    for group in groups:
        text = f"{group.replace('_', ' ')} {figures[f'{group}_model']:.2f} dB"
        # Scenes without haze are those of a kind.
        hazed = f"{group}_clean" in figures
        keys = ("input", "hazy" if hazed else "input"), *((f"dcp_{o}", f"dcp {o}") for o in OMEGAS)
        others = [
            f"{name} {figures[f'{group}_{key}']:.2f}"
            for key, name in keys
            if f"{group}_{key}" in figures
        ]
        if hazed:
            others.append(f"clean {figures[f'{group}_clean']:.1f}")
        parts.append(f"{text} ({', '.join(others)})")
    return "; ".join(parts)


def _pairs(scene: ClearScene, config: ScoreConfig, degradation: Degradation) -> Iterator[_Pair]:
    if degradation == "haze":
        yield _pair(scene, config)
        return
    for level in SCORED[degradation]:
        degraded, truth = degraded_scene(scene.clear, scene.name, degradation, level, config.seed)
        if degradation != "bracket":
            degraded = np.where(scene.valid[..., None], degraded, scene.clear)
        yield _Pair(scene, degraded.astype(np.float32), truth, f"{degradation}_{level:g}")
    if degradation == "noise":
        for iso in SCORED_ISO:
            degraded, truth = camera_scene(scene.clear, scene.name, iso, config.seed)
            degraded = np.where(scene.valid[..., None], degraded, truth)
            yield _Pair(scene, degraded, truth, f"iso_{iso}")
        yield _Pair(scene, scene.clear, scene.clear, CLEAN)


def _pair(scene: ClearScene, config: ScoreConfig) -> _Pair:
    haze = haze_scene(scene, spectrum=config.spectrum, seed=config.seed)
    hazy = np.clip(add_haze(scene.clear, haze), 0, 1).astype(np.float32)
    # Quantised as in an 8-bit file.
    hazy = np.where(scene.valid[..., None], np.rint(hazy * 255) / 255, scene.clear)
    return _Pair(scene, hazy.astype(np.float32), scene.clear, scene.kind)


def _input(pair: _Pair) -> Array:
    """Return the degraded image (h, w, 3), of a bracket the middle frame."""
    frames = pair.hazy.shape[2] // 3
    return pair.hazy[..., 3 * (frames // 2) :][..., :3]
