"""What a module takes: its bands and sizes, and why it gives no image of them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from napari_restore.errors import BadModel, Cancelled
from napari_restore.models._card import is_scale

SIDES = (192, 320)
"""Sides in pixels of the images that are tried: multiples of all usual steps."""
SAME = (
    "A restoration model returns an image of the same bands, as floats, and of the same size or of "
    "one that is a whole number of times as large, or a whole part of it."
)
ALONE = (
    "Wrap it in a module that is called with the image alone, and returns the restored one alone."
)
CARD = (
    "Check it, or say which images it takes on a card: card={'bands': 3, 'multiple_of': 8}, or a "
    ".json beside the file."
)


class Unending(BadModel):
    """A model that does not come to an end."""


class _Reason(NamedTuple):
    raises: bool
    text: str
    hint: str


def image_in(returned: Any, shape: Sequence[int]) -> Tensor | None:
    """Return the image of `shape` (N, C, H, W) that a module returned; None where there is none.

    Of several outputs it is the first: networks with deep supervision return the final image first.
    """
    first = returned[0] if isinstance(returned, (tuple, list)) and returned else returned
    is_image = isinstance(first, Tensor) and first.shape == shape and first.is_floating_point()
    return first if is_image else None


def scale_between(returned: Any, shape: Sequence[int]) -> Fraction | None:
    """Return how many times as large the image is that was returned for one of `shape` (N, C, H, W).

    1 for one of the same size; None where there is none, or of no size that a network may give.
    """
    first = returned[0] if isinstance(returned, (tuple, list)) and returned else returned
    if not (isinstance(first, Tensor) and first.is_floating_point() and first.ndim == len(shape)):
        return None
    if first is not returned and first.shape != shape:
        # Another one has the size of the image: which is meant is for the card to say.
        if any(image_in(each, shape) is not None for each in returned):
            return None
    down, across = (Fraction(a, b) for a, b in zip(first.shape[2:], shape[2:], strict=True))
    same = first.shape[:2] == tuple(shape[:2]) and down == across
    return down if same and is_scale(down) else None


def described(output: Any) -> str:
    """Return what a module returned, for a sentence."""
    if isinstance(output, Tensor):
        if output.ndim == 4:
            _, bands, height, width = output.shape
            kind = "" if output.is_floating_point() else f" in {str(output.dtype).split('.')[-1]}"
            return f"an image of {_size(height, width, bands)}{kind}"
        return f"a tensor of {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"a dict of {', '.join(map(repr, output)) or 'nothing'}"
    if isinstance(output, (tuple, list)):
        kind = type(output).__name__
        return f"a {kind} that begins with {described(output[0])}" if output else f"an empty {kind}"
    return "None" if output is None else f"an object of type {type(output).__name__}"


def misfit(name: str, output: Any, shape: Sequence[int], ratio: Fraction = Fraction(1)) -> BadModel:
    """Return the error for a model that returns `output` for an image of `shape` (N, C, H, W).

    By its card the output is `ratio` times as large.
    """
    _, bands, height, width = shape
    said = "" if ratio == 1 else f", where its card says scale {ratio}"
    return BadModel(
        f"{name} returns {described(output)} for one of {_size(height, width, bands)}{said}.",
        _output_hint(output, shape, ratio),
    )


def _output_hint(output: Any, shape: Sequence[int], ratio: Fraction = Fraction(1)) -> str:
    """Return what to do about what a module returned for an image of `shape` (N, C, H, W)."""
    found = scale_between(output, shape)
    if found not in (None, ratio):
        as_json = json.dumps(found.numerator if found.denominator == 1 else str(found))
        return f'If its results are {found} times as large, say so on a card: "scale": {as_json}.'
    fewer = (shape[0], shape[1] - 1, *shape[2:])
    level = '"noise_level": 25, "noise_as": "band"'
    if isinstance(output, Tensor):
        is_fewer = image_in(output, fewer) is not None
        hint = f"If the last band is a noise level, say so on a card: {level}. "
        return f"{hint}{SAME}" if is_fewer else SAME
    parts: Iterable[tuple[Any, Any]] = ()
    if isinstance(output, Mapping):
        parts = output.items()
    elif isinstance(output, (tuple, list)):
        parts = list(enumerate(output))
    for same, more in ((shape, ""), (fewer, f", {level}, if its last band is a noise level")):
        for place, each in parts:
            if isinstance(place, (int, str)) and image_in(each, same) is not None:
                return f'Say which it is on a card: "output": {json.dumps(place)}{more}. {ALONE}'
    return ALONE


def unfit(module: Callable[..., Any], name: str, counts: Sequence[int]) -> BadModel:
    """Return the error for a module that gives no image for one of any of `counts` bands.

    It names what the module returns or raises.
    """
    reasons = [reason for bands in counts if (reason := _reason(module, bands))]
    # What it returns says more than an exception, which may only be about the number of bands.
    reasons.sort(key=lambda reason: (reason.raises, "channels" in reason.text))
    why, hint = (f": it {reasons[0].text}", reasons[0].hint) if reasons else ("", CARD)
    return BadModel(
        f"{name} has no card, and gives no image of the same size and bands, or of a scale of that, for "
        f"those tried{why}.",
        hint,
    )


def _reason(module: Callable[..., Any], bands: int) -> _Reason | None:
    """Return how the module fails on images of so many bands; None where it does not."""
    returned = []
    for side in SIDES:
        x = torch.full((1, bands, side, side), 0.5)
        try:
            y = tried(module, x)
        except (MemoryError, Unending, Cancelled):
            raise
        except Exception as error:  # code of others raises anything
            said = " ".join([f"{type(error).__name__}:", *str(error).strip().splitlines()[:1]])
            text = f"fails on one of {_size(side, side, bands)} ({said.rstrip(':.')})"
            return _Reason(True, text, _hint(module))
        text = f"returns {described(y)} for one of {_size(side, side, bands)}"
        if scale_between(y, x.shape) is None:
            return _Reason(False, text, _output_hint(y, x.shape))
        returned.append((scale_between(y, x.shape), text))
    (one, text), (other, more) = returned
    if one == other:
        return None
    return _Reason(False, f"{text}, but {more.removeprefix('returns ')}", SAME)


def _size(height: int, width: int, bands: int) -> str:
    return f"{width} × {height} pixels and {bands} band{'s' if bands != 1 else ''}"


def _hint(module: Callable[..., Any]) -> str:
    """Return what to do about a module that raises."""
    if not isinstance(module, nn.Module):
        return CARD
    try:
        inputs = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):  # of a compiled one
        inputs = []
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [each for each in inputs if each.default is each.empty and each.kind not in kinds]
    if len(needed) == 2:
        level = '"noise_level": 25, "noise_as": "argument"'
        return f"If {needed[1].name} is a noise level, say so on a card: {level}. {ALONE}"
    if len(needed) > 1:
        return ALONE
    others = {t.dtype for t in module.parameters() if t.is_floating_point()} - {torch.float32}
    if not others:
        return CARD
    names = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in others))
    return f"Its weights are {names}, images are float32: convert it by its method float()."


STEPS = (*range(1, 11), 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128)
"""Multiples that sizes are tried in: of halvings, and of windows."""
TRIAL_SIDE = 128
BAND_COUNTS = (3, 1, 4)
"""Band counts tried in this order where a module does not define its own."""


def possible_sizes(
    module: Callable[..., Any], counts: Sequence[int] = BAND_COUNTS
) -> Iterator[dict[str, int | str]]:
    """Return card fields ``bands``, ``multiple_of`` and ``scale`` that `module` takes, least strict first.

    It is called with (1, bands, side, side) float32 of 0.5, and takes them if it gives images of that
    scale back for two sides. A ``scale`` of 1 is left out.
    """
    for bands in counts:
        for step in STEPS:
            # Odd multiples, which are none of a larger step.
            first = -(-TRIAL_SIDE // step) | 1
            ratio, other = (_scale_at(module, bands, n * step) for n in (first, first + 2))
            if ratio is None or ratio != other:
                continue
            found: dict[str, int | str] = {"bands": bands, "multiple_of": step}
            if ratio != 1:
                found["scale"] = ratio.numerator if ratio.denominator == 1 else str(ratio)
            yield found


def tried(module: Callable[..., Any], x: torch.Tensor) -> Any:
    """Return what `module` makes of `x` (N, C, H, W) on its device; raises what its code raises."""
    if isinstance(module, nn.Module):
        x = x.to(next(chain(module.parameters(), module.buffers()), x).device)
    with torch.inference_mode():
        return module(x)


def _scale_at(module: Callable[..., Any], bands: int, side: int) -> Fraction | None:
    """Return how many times as large the result is for an image of that side; None for no image."""
    x = torch.full((1, bands, side, side), 0.5)
    try:
        y = tried(module, x)
    except (MemoryError, Unending, Cancelled):
        raise
    except Exception:  # whatever code of others makes of a size it does not take
        return None
    return scale_between(y, x.shape)
