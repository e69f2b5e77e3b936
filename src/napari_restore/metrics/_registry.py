"""Registry of the metrics: built-in ones, and those of other packages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from typing import Any

from napari_restore._entry_points import offered
from napari_restore.errors import BadParameter, did_you_mean
from napari_restore.metrics._ciede2000 import ciede2000
from napari_restore.metrics._luma import psnr_y, ssim_y
from napari_restore.metrics._matched import psnr_clipped, psnr_matched
from napari_restore.metrics._mef_ssim import mef_ssim
from napari_restore.metrics._mef_ssim_dynamic import mef_ssim_dynamic
from napari_restore.metrics._psnr import psnr
from napari_restore.metrics._ssim import ssim

GROUP = "napari_restore.metrics"
"""Entry-point group in which other packages offer a `Metric`, or a function whose attribute
`higher_is_better` gives the better direction (true where it has none)."""

Function = Callable[..., float]
"""``(a, b, data_range, valid) -> float``."""


@dataclass(frozen=True)
class Metric:
    """A function of two images, and the meaning of its values."""

    function: Function
    """``(a, b, data_range, valid) -> float``: images (h, w, C) in units in which white lies
    `data_range` above black, `valid` (h, w) bool. NaN where it is undefined."""
    higher_is_better: bool = True
    title: str = ""
    unit: str = ""
    decimals: int = 3
    """Digits after the point in tables."""
    needs_colour: bool = False
    """Whether images must be (h, w, 3), red green blue."""
    needs_frames: bool = False
    """Whether it is called with the keyword `frames`, too: the images (h, w, C) of the bracket, dark
    to bright. NaN for other images."""


def _of_frames(score: Callable[..., float]) -> Function:
    """Return a score of an image and its frames as a metric; the truth has no part in it."""

    def metric(
        a: Any, b: Any, data_range: float, valid: Any = None, *, frames: Sequence[Any]
    ) -> float:
        return score(a, frames, data_range, valid)

    return metric


_BUILT_IN = {
    "psnr": Metric(psnr, title="PSNR", unit="dB", decimals=2),
    "ssim": Metric(ssim, title="SSIM", decimals=4),
    "ciede2000": Metric(
        ciede2000, higher_is_better=False, title="CIEDE2000", decimals=2, needs_colour=True
    ),
    "psnr_y": Metric(psnr_y, title="PSNR of Y", unit="dB", decimals=2, needs_colour=True),
    "ssim_y": Metric(ssim_y, title="SSIM of Y", decimals=4, needs_colour=True),
    "psnr_matched": Metric(psnr_matched, title="PSNR, tones matched", unit="dB", decimals=2),
    "psnr_clipped": Metric(
        psnr_clipped, title="PSNR, clipped pixels", unit="dB", decimals=2, needs_frames=True
    ),
    "mef_ssim": Metric(_of_frames(mef_ssim), title="MEF-SSIM", decimals=4, needs_frames=True),
    "mef_ssim_dynamic": Metric(
        _of_frames(mef_ssim_dynamic), title="MEF-SSIMd", decimals=4, needs_frames=True
    ),
}


@cache
def _foreign() -> dict[str, Metric | str]:
    """Return the metrics of other packages; a message in place of one that cannot be used."""
    return offered(GROUP, "Metric", _accepted, "function")


def _accepted(point: EntryPoint, loaded: object) -> Metric | None:
    if isinstance(loaded, Metric):
        return loaded
    if not callable(loaded):
        return None
    return Metric(loaded, bool(getattr(loaded, "higher_is_better", True)), title=point.name)


def metric_ids() -> tuple[str, ...]:
    """Return all usable metrics, built-in ones first."""
    usable = (name for name, metric in _foreign().items() if isinstance(metric, Metric))
    return tuple(dict.fromkeys([*_BUILT_IN, *usable]))


def metric_of(name: str) -> Metric:
    """Return the metric of a name; raises `BadParameter` with similar names."""
    metric = _BUILT_IN.get(name) or _foreign().get(name)
    if isinstance(metric, Metric):
        return metric
    if metric is not None:
        raise BadParameter(metric, "Update or remove that package.")
    hint = did_you_mean(name, metric_ids(), most=3)
    raise BadParameter(f"There is no metric {name!r}.", hint)
