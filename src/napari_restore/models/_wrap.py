"""A plain module or an exported program with the interface of a model."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from napari_restore._json_shapes import mismatches, read_json
from napari_restore.errors import BadModel, BadParameter, RestoreError
from napari_restore.models._adapted import adapted, network_of
from napari_restore.models._attention import AttentionRow, AttentionSite
from napari_restore.models._card import ModelCard, shared_parameters, with_fields
from napari_restore.models._layers import pad_to_multiple
from napari_restore.models._model import RestorationModel, Statistics, layers_in
from napari_restore.models._own_attention import OwnAttention, find_attention
from napari_restore.models._program import TorchProgram
from napari_restore.models._undisturbed import ModuleState, undisturbed
from napari_restore.models._unfit import image_in, keeps_grid, misfit

_ALONE = threading.RLock()
"""Held by the calls of modules that write attributes."""
MOST_STEP, MOST_LEAST = 128, 1024
"""Limits of `multiple_of` and `min_size`: a model is tried on several steps before a run has a
budget."""


class WrappedModel(RestorationModel):
    """Calls `module` with (N, C, H, W) float32 padded to the card's sizes.

    Right and bottom are reflected to the card's `size_step` and `min_size` and cut off again. Of a
    scale N it returns (N, C, N · H, N · W), of 1/N as many pixels as the module.
    """

    takes_whole = True
    left_out: tuple[tuple[str, int], ...] = ()
    """Heads that count as zero, by site and number."""
    _watched = 8
    """Calls that are watched for attributes which the module writes."""
    _writes = False
    """Whether it writes some."""

    def __init__(self, module: nn.Module, card: ModelCard) -> None:
        super().__init__(card)
        self.module = adapted(module, card)
        self._found: OwnAttention | None = None

    @property
    def network(self) -> nn.Module:
        """The module itself, without what its card says of inputs and outputs."""
        return network_of(self.module)

    @property
    def weighted(self) -> nn.Module:
        return self.network

    def named_layers(self) -> dict[str, nn.Module]:
        return layers_in(self.network)

    def attention_sites(self) -> tuple[AttentionSite, ...]:
        """Return where the module calls attention, in the order of computation; raises `BadModel`."""
        return self.own_attention.sites

    def without_head(self, site: str, head: int) -> WrappedModel:
        heads = {each.name: len(each.heads) for each in self.attention_sites()}
        if not 0 <= head < heads.get(site, 0):
            raise BadParameter(
                f"{self.card.id} has no head {head + 1} of {site}.",
                f"Its layers are {', '.join(heads)}.",
            )
        model = self._copy_without(site, head)
        model.left_out = (*self.left_out, (site, head))
        return model

    @property
    def least_box(self) -> int:
        network = self.network
        fixed = network.fixed if isinstance(network, TorchProgram) else None
        return max(self.card.min_size, *(fixed or (1, 1))[-2:])

    @property
    def attention_notes(self) -> tuple[str, ...]:
        return self.own_attention.refused

    @property
    def own_attention(self) -> OwnAttention:
        """The calls of attention that the module makes; raises `BadModel`."""
        if self._found is None:
            self._found = find_attention(self)
        return self._found

    def tile_attention_rows(
        self,
        x: Tensor,
        statistics: Statistics | None,
        pixels: Sequence[tuple[int, int]],
        names: frozenset[str],
    ) -> list[dict[str, AttentionRow]]:
        """Return the rows of pixels of a tile; see `RestorationModel`. Raises `BadModel`."""
        return self.own_attention.rows(self.card.id, self, self.grown(x), pixels, names)

    def tile_attention_times_gradient(
        self,
        x: Tensor,
        statistics: Statistics | None,
        pixel: tuple[int, int],
        names: frozenset[str],
    ) -> dict[str, Callable[[tuple[int, int]], AttentionRow]]:
        """Return rows of weights times gradient; see `RestorationModel`. Raises `BadModel`."""
        return self.own_attention.times_gradient(self.card.id, self, self.grown(x), pixel, names)

    def forward_with_maps(
        self,
        x: Tensor,
        statistics: Statistics | None = None,
        valid: Tensor | None = None,
        *more: Any,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Call the module with `x` and `more`; see `RestorationModel`."""
        grown = self.grown(x)
        try:
            with self._attributes_stay(), self._without_heads(grown):
                # A copy: many modules write to their input.
                returned = self.module(grown.clone() if grown is x else grown, *more)
        except (RuntimeError, MemoryError, RestoreError):
            raise
        except Exception as error:
            # Callers know the exceptions of torch and of this package only.
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        return self._image_in(returned, grown, x), {}

    def _without_heads(self, x: Tensor) -> AbstractContextManager[None]:
        return self.own_attention.without(self.left_out, x) if self.left_out else nullcontext()

    def grown(self, x: Tensor) -> Tensor:
        """Return what the module is called with for `x`."""
        return pad_to_multiple(x, self.size_step, self.card.min_size)

    @cached_property
    def size_step(self) -> int:
        """Pixels of which sides are made multiples: with scale 1/N of N, too, unless it takes any."""
        step, down = self.card.size_step, self.card.ratio.denominator
        if step % down:
            with undisturbed(self.weighted):
                step = step if keeps_grid(self.module, self.card) else math.lcm(step, down)
        return step

    def image_of(self, x: Tensor) -> Tensor:
        """Return what `forward` does, within the call of a module that this is a part of; raises `BadModel`."""
        # Attributes are not guarded again.
        grown = self.grown(x)
        return self._image_in(self.module(grown.clone() if grown is x else grown), grown, x)

    def _image_in(self, returned: Any, grown: Tensor, x: Tensor) -> Tensor:
        """Return the image that was returned for `grown`, without what was grown from `x`."""
        y = image_in(returned, self.shape_for(grown.shape), self.card.ratio.denominator)
        if y is None:
            raise misfit(f"Model {self.card.id}", returned, grown.shape, self.card.ratio)
        height, width = self.shape_for(x.shape)[2:]
        return y[..., :height, :width].to(x.dtype)

    def shape_for(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of the output for an input of `shape` (N, C, H, W), or the most it may be."""
        ratio = self.card.ratio
        return (*shape[:2], *(math.ceil(side * ratio) for side in shape[2:]))

    @contextmanager
    def _attributes_stay(self) -> Iterator[None]:
        """Let the module be called once; its attributes and buffers stay as they were."""
        # Many modules note the size of an image for their layers: tiles on other threads would read
        # that of another tile, so that such a module has one call at a time.
        if not (self._writes or self._watched):
            yield
            return
        with _ALONE if self._writes else nullcontext():
            before = ModuleState([self.module])
            try:
                yield
            finally:
                self._watched = max(0, self._watched - 1)
                self._writes |= before.restore()


def as_card(fields_or_card: ModelCard | Mapping[str, Any], fallback: ModelCard) -> ModelCard:
    """Return a card from a mapping of its fields over `fallback`; raises `BadModel`."""
    if isinstance(fields_or_card, ModelCard):
        return fields_or_card
    _check_fields(fields_or_card, "the model card")
    card = with_level(with_fields(fallback, fields_or_card))
    check_inputs(card)
    limits = {
        "halo": (0, None),
        "inputs": (0, None),
        "bands": (1, None),
        "multiple_of": (1, MOST_STEP),
        "padded_to": (1, MOST_STEP),
        "min_size": (1, MOST_LEAST),
    }
    for name, (low, high) in limits.items():
        value = getattr(card, name)
        # Networks of this package may go beyond what a file may say: ipl works in blocks of 256 pixels.
        if value is None or value == getattr(fallback, name):
            continue
        if value < low or (high is not None and value > high):
            raise BadModel(
                f"The card of {card.id} has impossible sizes: {name} is {value}.",
                f"It is {low} or more." if high is None else f"It is {low} to {high}.",
            )
    return card


def with_level(card: ModelCard) -> ModelCard:
    """Return `card` with the parameter `sigma` where its network is told a noise level."""
    if card.noise_level is None or any(each.name == "sigma" for each in card.parameters):
        return card
    sigma = shared_parameters()["sigma"] | {"name": "sigma", "default": float(card.noise_level)}
    return with_fields(card, {"parameters": [sigma, *card.parameters]})


def check_inputs(card: ModelCard) -> None:
    """Raise `BadModel` for values that cannot be scaled."""
    for name in ("value_range", "output_range"):
        limits = getattr(card, name)
        if limits is not None and not limits[0] < limits[1]:
            raise BadModel(
                f"The card of {card.id} has the impossible {name} {list(limits)}.",
                "It is what black and white are: [-1, 1], or [0, 255].",
            )
    for name in ("mean", "std"):
        count = len(getattr(card, name))
        if count > 1 and card.bands is not None and count != card.bands:
            raise BadModel(
                f"The card of {card.id} has {count} values of {name} for {card.bands} bands.",
                "Give one, or one for each band.",
            )
    card.check_scale()
    if card.noise_level is not None and not 0 <= card.noise_level <= 255:
        raise BadModel(
            f"The card of {card.id} has the impossible noise_level {card.noise_level}.",
            "It is a standard deviation in steps of 8 bits, 0 to 255.",
        )
    if not all(each > 0 for each in card.std):
        raise BadModel(f"The card of {card.id} has a std that is not positive.", "Correct it.")


def card_beside(path: Path) -> dict[str, Any] | None:
    """Return the card stored beside a model file as NAME.json; None if there is none."""
    # Its key ``training``, a description of the training, is for readers only.
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return None
    try:
        content: dict[str, Any] = read_json(beside)
    except (OSError, ValueError) as error:
        raise BadModel(f"{beside.name} is no readable card: {error}.", "It must be JSON.") from None
    if wrong := mismatches(content, dict[str, Any], "it"):
        raise BadModel(f"{beside.name} is no card: {wrong[0]}.", "It must be one JSON object.")
    content.pop("training", None)
    _check_fields({k: v for k, v in content.items() if k != "model"}, beside.name)
    return content


def _check_fields(fields_or_card: Mapping[str, Any], name: str) -> None:
    """Raise `BadModel` for a key of the file `name` that is no field of a card or of another type."""
    known = sorted(f.name for f in fields(ModelCard))
    unknown = sorted(set(fields_or_card) - set(known))
    if unknown:
        raise BadModel(f"{name} has no field {unknown[0]!r}.", f"A card has: {', '.join(known)}.")
    if isinstance(fields_or_card.get("attention"), Mapping):
        raise BadModel(
            f"{name} says where the tokens of attention lie, which is found in the network itself.",
            'Delete its field "attention".',
        )
    whole = {"id": "", "title": "", "summary": "", **fields_or_card}
    if wrong := mismatches(whole, ModelCard, name):
        raise BadModel(f"{wrong[0]}.", "Check the fields of the model card.")
