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
from napari_restore.models._card import ModelCard, is_scale

TRIED = ((192, 192), (320, 320), (192, 320))
"""Height and width in pixels of the images that are tried: multiples of all usual steps."""
SQUARE = (
    "Let it take height and width from its input: images, and tiles at their edges, have any shape."
)
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


def image_in(returned: Any, shape: Sequence[int], down: int = 1) -> Tensor | None:
    """Return the image of `shape` (N, C, H, W) that a module returned; None where there is none."""
    # With scale 1/`down` it may lack a last row and column. Of several outputs it is the first:
    # networks with deep supervision return the final image first.
    first = returned[0] if isinstance(returned, (tuple, list)) and returned else returned
    if not (isinstance(first, Tensor) and first.is_floating_point() and first.ndim == len(shape)):
        return None
    less = [most - side for side, most in zip(first.shape, shape, strict=True)]
    return first if not any(less[:2]) and {*less[2:]} <= {0, min(1, down - 1)} else None


def scale_between(returned: Any, shape: Sequence[int]) -> Fraction | None:
    """Return how many times as large the image is that was returned for one of `shape` (N, C, H, W).

    1 for one of the same size, 1/N also where a side is no multiple of N; None where there is none,
    or of no size that a network may give.
    """
    first = returned[0] if isinstance(returned, (tuple, list)) and returned else returned
    if not (isinstance(first, Tensor) and first.is_floating_point() and first.ndim == len(shape)):
        return None
    if first is not returned and first.shape != shape:
        # Another one has the size of the image: which is meant is for the card to say.
        if any(image_in(each, shape) is not None for each in returned):
            return None
    down, across = map(_ratio, first.shape[2:], shape[2:])
    same = first.shape[:2] == tuple(shape[:2]) and down == across
    return down if same and is_scale(down) else None


def _ratio(made: int, side: int) -> Fraction:
    """Return how many pixels were made for one of a side: 1/N also where a part of N gave one, or none."""
    down = Fraction(1, max(1, round(side / max(1, made))))
    return down if abs(made - side * down) < 1 else Fraction(made, side)


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
    """Return the error for a model that returns `output`, by its card `ratio` times as large, for (N, C, H, W)."""
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
    """Return the error for a module that gives no image for one of any of `counts` bands, and why."""
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
    returned: list[tuple[Fraction | None, str]] = []
    for height, width in TRIED:
        if len({ratio for ratio, _ in returned}) > 1:
            break
        x, size = torch.full((1, bands, height, width), 0.5), _size(height, width, bands)
        try:
            y = tried(module, x)
        except (MemoryError, Unending, Cancelled):
            raise
        except Exception as error:  # code of others raises anything
            said = " ".join([f"{type(error).__name__}:", *str(error).strip().splitlines()[:1]])
            text = f"fails on one of {size} ({said.rstrip(':.')})"
            if height != width:
                return _Reason(True, f"takes square images only, and {text}", SQUARE)
            return _Reason(True, text, _hint(module))
        text = f"returns {described(y)} for one of {size}"
        if scale_between(y, x.shape) is None:
            return _Reason(False, text, _output_hint(y, x.shape))
        returned.append((scale_between(y, x.shape), text))
    (one, text), (other, more) = returned[:2]
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
"""Side in pixels from which multiples are tried."""
LARGER = ((128, 96, 80, 112), (256, 192, 160, 224), (512, 384, 320, 448))
"""Sides for one of which a module gives an image, unless it takes larger ones only: multiples of a power of 2,
and of 3, 5 and 7, none above the first."""
BAND_COUNTS = (3, 1, 4)
"""Band counts tried in this order where a module does not define its own."""


def possible_sizes(
    module: Callable[..., Any], counts: Sequence[int] = BAND_COUNTS, steps: Sequence[int] = STEPS
) -> Iterator[dict[str, int | str]]:
    """Return card fields ``bands``, ``multiple_of`` and ``scale`` that `module` takes, least strict first.

    It is called with (1, bands, height, width) float32 of 0.5, and takes them if it gives images of that
    scale back for a square and two others. A ``scale`` of 1 is left out. Where it takes none of
    `TRIAL_SIDE` but larger ones, there is ``min_size``.
    """
    for bands in counts:
        larger = (each[0] for each in LARGER if any(_scale_at(module, bands, n) for n in each))
        least = next(larger, TRIAL_SIDE)
        for step in steps:
            # Odd multiples, which are none of a larger step.
            first = -(-least // step) | 1
            side, longer = first * step, ((first + n) * step for n in (2, 4))
            ratio = _scale_at(module, bands, side)
            # A stride of 3 rounds: by three sides every remainder is tried.
            if ratio is None or any(_scale_at(module, bands, side, n) != ratio for n in longer):
                continue
            found: dict[str, int | str] = {"bands": bands, "multiple_of": step}
            if ratio != 1:
                found["scale"] = ratio.numerator if ratio.denominator == 1 else str(ratio)
            if least > TRIAL_SIDE:
                sides = range(step, first * step + 1, step)
                found["min_size"] = next(n for n in sides if _scale_at(module, bands, n))
            yield found


def keeps_grid(module: Callable[..., Any], card: ModelCard) -> bool:
    """Return whether sides may be no multiples of the N of a scale 1/N: pixels are where they were."""
    down, step = card.ratio.denominator, card.size_step
    side = -(-max(TRIAL_SIDE, card.min_size) // (down * step)) * down * step
    kept, noise = side // down // 4, torch.Generator().manual_seed(0)
    x = torch.rand(1, card.bands or 3, side + down * step, side + down * step, generator=noise)
    images = [x[..., :each, :each].clone() for each in range(side, side + down * step, step)]
    try:
        made = [tried(module, image) for image in images]
    except (MemoryError, Unending, Cancelled):
        raise
    except Exception:  # whatever code of others makes of a size it does not take
        return False
    shapes = [(*x.shape[:2], *(-(-each // down) for each in image.shape[2:])) for image in images]
    found = (image_in(y, shape, down) for y, shape in zip(made, shapes, strict=True))
    corners = [y[..., :kept, :kept] for y in found if y is not None]
    same = [(y - corners[0]).abs().max() <= 1e-4 * y.abs().max() for y in corners]
    return len(same) == down and all(same)


def tried(module: Callable[..., Any], x: torch.Tensor) -> Any:
    """Return what `module` makes of `x` (N, C, H, W) on its device; raises what its code raises."""
    if isinstance(module, nn.Module):
        x = x.to(next(chain(module.parameters(), module.buffers()), x).device)
    with torch.inference_mode():
        return module(x)


def _scale_at(
    module: Callable[..., Any], bands: int, height: int, width: int | None = None
) -> Fraction | None:
    """Return how many times as large the result is for an image, or a square; None for no image."""
    x = torch.full((1, bands, height, width or height), 0.5)
    try:
        y = tried(module, x)
    except (MemoryError, Unending, Cancelled):
        raise
    except Exception:  # whatever code of others makes of a size it does not take
        return None
    return scale_between(y, x.shape)
