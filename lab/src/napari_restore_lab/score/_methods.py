"""The methods of an evaluation: unchanged input, classical methods, and requested models."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image as Picture

from napari_restore.extension import (
    MOST_SHRINK,
    BadParameter,
    Named,
    RestorationModel,
    label_of,
    load,
    load_named,
    option,
)
from napari_restore_lab._questions import Degradation
from napari_restore_lab.synthetic_haze import LUMA

Array = npt.NDArray[np.float32]
Filter = Callable[[Array, float], Array]
"""(display values (h, w, C) 0 to 1, level of the degradation) → the same."""
MEDIAN = 0.38
"""Median luma that dark images are brought to: the middle of that of the targets in training."""
RETINEX_SIGMAS = (15.0, 80.0, 250.0)
"""Standard deviations of the Gaussians in pixels (Petro, Sbert, Morel, IPOL 2014)."""
NAMES = {"noise": "noise", "lowlight": "low light"}
LIBRARIES = {"skimage": "scikit-image", "pywt": "PyWavelets"}
"""Names of what the methods import."""
CLIPPED = 1.0
"""Percent of values that a stretch of contrast clips at either end."""


def check_installed(degradation: Degradation) -> None:
    """Raise `BadParameter` where the libraries of the methods are missing."""
    needed = {"noise": ("skimage", "pywt"), "lowlight": ("skimage",)}.get(degradation, ())
    missing = [LIBRARIES[name] for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise BadParameter(
            f"The classical methods against {NAMES[degradation]} need {' and '.join(missing)}.",
            f'Run pip install "napari-restore-lab[classical]", or add {option("baselines", False)}.',
        )


def non_local_means(light: Array, sigma: float) -> Array:
    """Non-local means (Buades, Coll, Morel, CVPR 2005), fast, with the usual h = 0.6 σ."""
    from skimage.restoration import denoise_nl_means

    share = sigma / 255
    found: Array = denoise_nl_means(
        light, h=0.6 * share, sigma=share, patch_size=5, patch_distance=10, channel_axis=-1
    )
    return found.astype(np.float32)


def wavelets(light: Array, sigma: float) -> Array:
    """BayesShrink (Chang, Yu, Vetterli, IEEE TIP 2000) with soft thresholds, in YCbCr."""
    from skimage.restoration import denoise_wavelet

    colour = light.shape[-1] == 3
    found: Array = denoise_wavelet(
        light, sigma=sigma / 255, channel_axis=-1, convert2ycbcr=colour, rescale_sigma=True
    )
    return found.astype(np.float32)


def gamma_to_median(light: Array, factor: float) -> Array:
    """Raise display values to the power that brings the median luma to `MEDIAN`."""
    median = float(np.clip(np.median(_luma(light)), 1e-3, 0.999))
    exponent = np.log(MEDIAN) / np.log(median)
    brighter: Array = np.clip(light, 0, 1) ** np.float32(exponent)
    return brighter


def clahe(light: Array, factor: float) -> Array:
    """Contrast-limited adaptive histogram equalisation (Zuiderveld 1994) of the luma."""
    from skimage.exposure import equalize_adapthist

    luma = np.clip(_luma(light), 0, 1)
    equalised = equalize_adapthist(luma, clip_limit=0.02)
    return _with_luma(light, luma, equalised.astype(np.float32))


def retinex(light: Array, factor: float) -> Array:
    """Multiscale retinex of the luma, with its colours kept (Petro, Sbert, Morel, IPOL 2014)."""
    from skimage.filters import gaussian

    luma = np.clip(_luma(light), 0, 1) * 255 + 1
    blurred: list[Array] = [
        gaussian(luma, sigma, mode="reflect")  # type: ignore[no-untyped-call]
        for sigma in RETINEX_SIGMAS
    ]
    mean = np.mean([np.log(luma / low) for low in blurred], axis=0)
    low, high = np.percentile(mean, (CLIPPED, 100 - CLIPPED))
    stretched = np.clip((mean - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    return _with_luma(light, (luma - 1) / 255, stretched)


def _luma(light: Array) -> Array:
    return light @ LUMA if light.shape[-1] == 3 else light.mean(-1)


def _with_luma(
    light: Array, luma: npt.NDArray[np.floating], wanted: npt.NDArray[np.floating]
) -> Array:
    """Scale every pixel to a new luma, by less where a channel would exceed white."""
    gain = wanted / np.maximum(luma, 1 / 255)
    most = 1 / np.maximum(light.max(-1), 1 / 255)
    scaled: Array = (light * np.minimum(gain, most)[..., None]).astype(np.float32)
    return scaled


def nearest(pixels: npt.NDArray[Any], ratio: Fraction) -> npt.NDArray[Any]:
    """Return pixels (h, w, C) with `ratio` times as many along a side, as `Image.resampled`."""
    up, down = ratio.numerator, ratio.denominator
    if up > 1:
        return pixels.repeat(up, 0).repeat(up, 1)
    height, width = (side // down * down for side in pixels.shape[:2])
    return pixels[down // 2 : height : down, down // 2 : width : down]


def ratio_at(level: float) -> Fraction:
    """Return the scale that a level is; of 0.3333 it is 1/3."""
    return Fraction(level).limit_denominator(MOST_SHRINK)


def bicubic(light: Array, factor: float) -> Array:
    """Resize display values by the bicubic filter (a = -0.5), which averages where it reduces."""
    ratio = ratio_at(factor)
    height, width = (side // ratio.denominator for side in light.shape[:2])
    part = light[: height * ratio.denominator, : width * ratio.denominator]
    size = width * ratio.numerator, height * ratio.numerator
    planes = [
        Picture.fromarray(np.ascontiguousarray(part[..., n])).resize(
            size, Picture.Resampling.BICUBIC
        )
        for n in range(part.shape[-1])
    ]
    return np.stack([np.asarray(plane, np.float32) for plane in planes], axis=-1)


CLASSICAL: dict[Degradation, dict[str, Filter]] = {
    "haze": {},
    "bracket": {},
    "size": {"bicubic": bicubic},
    "noise": {"nl-means": non_local_means, "wavelets": wavelets},
    "lowlight": {"gamma": gamma_to_median, "clahe": clahe, "retinex": retinex},
}
"""Rows of an evaluation by degradation; those under haze and of brackets are models."""
Kind = Literal["input", "classical", "model"]

INPUT = "input"
"""Label of the unchanged input."""
BASELINES: Mapping[Degradation, tuple[tuple[str, dict[str, Any]], ...]] = {
    "haze": (("dcp", {"omega": 0.95}), ("dcp", {"omega": 0.85}), ("hot", {})),
    "noise": (),
    "lowlight": (),
    "size": (),
    "bracket": (("mertens", {}),),
}
"""Classical models of every evaluation; for other methods see `CLASSICAL`."""


@dataclass(frozen=True)
class EvaluatedMethod:
    """A model with its parameters, and a unique label."""

    label: str
    kind: Kind
    model: RestorationModel = field(repr=False, compare=False)
    filter: Filter | None = field(default=None, repr=False, compare=False)
    """Applied to the whole output of the model, which is then the unchanged input."""


def methods_of(
    models: Sequence[str | RestorationModel],
    *,
    weights: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    baselines: bool = True,
    trust: bool = False,
    degradation: Degradation = "haze",
) -> list[EvaluatedMethod]:
    """Return the input, the classical methods if requested, and `models`, in this order.

    Models are names as for `load_named`, or loaded already. `weights` are for a single model,
    `parameters` for every one, overridden by those in its name. Raises `BadParameter`, and as
    `load`.
    """
    named = load_named(models, weights=weights, parameters=parameters, trust=trust, taken=(INPUT,))
    requested = [EvaluatedMethod(label, "model", model) for label, model in named]
    for method in requested:
        if method.model.card.light:
            raise BadParameter(
                f"Model {method.model.card.id} gives light, which no clear picture shows.",
                "Leave it out.",
            )
    if ratio_of(requested) not in (None, 1):
        if degradation not in ("haze", "size"):
            raise BadParameter(
                f"The results of model {requested[0].model.card.id} have another size than its input: "
                f"it is scored on pictures of another size, and {option('degradation')} is {degradation}.",
                f"Leave {option('degradation')} out.",
            )
        degradation = "size"
    methods = [EvaluatedMethod(INPUT, "input", load("identity"))]
    taken = {method.label for method in requested}
    if not baselines:
        return methods + requested
    check_installed(degradation)
    for name, function in CLASSICAL[degradation].items():
        methods.append(EvaluatedMethod(name, "classical", load("identity"), function))
    for name, values in BASELINES[degradation]:
        label = label_of(Named(name, values))
        if label not in taken:
            methods.append(EvaluatedMethod(label, "classical", load(name, parameters=values)))
    return methods + requested


def ratio_of(methods: Sequence[EvaluatedMethod]) -> Fraction | None:
    """Return the scale of the results of all models; raises `BadParameter` where they differ.

    None without models.
    """
    cards = [method.model.card for method in methods if method.kind == "model"]
    for card in cards:
        if card.ratio != cards[0].ratio:
            raise BadParameter(
                f"The results of {cards[0].id} have scale {cards[0].ratio}, those of {card.id} "
                f"{card.ratio}: there is no clear picture of both sizes.",
                "Evaluate them one after the other.",
            )
    return cards[0].ratio if cards else None
