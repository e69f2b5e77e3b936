"""A network with inputs and outputs as a card describes them, as a module of images in [0, 1]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from napari_restore.errors import BadModel
from napari_restore.models._card import ModelCard
from napari_restore.models._unfit import described

FIELDS = ("value_range", "mean", "std", "output_range", "noise_level", "noise_as", "output")
"""Fields of a card that say what a network takes and gives."""
_PLAIN = ModelCard("", "", "")
_STEPS = 255.0


def adapted(network: nn.Module, card: ModelCard) -> nn.Module:
    """Return `network` as a module from and to images (N, C, H, W) in [0, 1]: itself where it is one."""
    return network if not changes(card) else Adapted(network, card)


def changes(card: ModelCard) -> dict[str, Any]:
    """Return those of `FIELDS` of `card` that have not their defaults."""
    found = {name: getattr(card, name) for name in FIELDS}
    return {name: value for name, value in found.items() if value != getattr(_PLAIN, name)}


def inputs_in_words(card: ModelCard) -> str:
    """Return what the network of `card` takes and gives, in words; empty for plain images of [0, 1]."""
    low, high = card.value_range
    parts = [] if (low, high) == (0, 1) else [f"values of {low:g} to {high:g}"]
    if card.mean or card.std:
        mean, std = (
            " ".join(f"{each:g}" for each in part) for part in (card.mean or (0,), card.std or (1,))
        )
        parts.append(f"less {mean}, over {std}")
    if card.roles == ("blue", "green", "red"):
        parts.append("bands in the order BGR")
    if card.noise_level is not None:
        how = "a further band" if card.noise_as == "band" else "a second argument"
        parts.append(f"the noise level as {how}")
    if card.output_range is not None:
        parts.append("results of {:g} to {:g}".format(*card.output_range))
    if card.output != 0:
        parts.append(f"of several outputs {card.output}")
    return ", ".join(parts)


def network_of(module: nn.Module) -> nn.Module:
    """Return the network that `adapted` was given."""
    return module.network if isinstance(module, Adapted) else module


class Adapted(nn.Module):
    """Scales bands, adds a noise level, and undoes the scale; (N, C, H, W) in [0, 1] → the same."""

    network: nn.Module
    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, card: ModelCard) -> None:
        super().__init__()
        self.network = network
        self.id = card.id
        self.black, white = card.value_range
        self.span = white - self.black
        self.output_range = card.output_range
        self.output = card.output
        self.as_band = card.noise_as == "band"
        level = card.values.get("sigma", card.noise_level)
        # The network counts noise as it does values.
        self.level = None if level is None else float(level) / _STEPS * self.span
        for name, value in (("mean", card.mean or (0.0,)), ("std", card.std or (1.0,))):
            self.register_buffer(name, torch.tensor(value)[:, None, None], persistent=False)
        self.is_normalised = bool(card.mean or card.std)

    @property
    def zero(self) -> Tensor:
        """What the network sees as zero, in values of the image, (C or 1, 1, 1)."""
        return (self.mean - self.black) / self.span

    def forward(self, x: Tensor) -> Any:
        y = x if self.span == 1 and not self.black else x * self.span + self.black
        if self.is_normalised:
            y = (y - self.mean) / self.std
        given = self._restored(y)
        if not isinstance(given, Tensor):
            # Callers say what is wrong with it.
            return given
        if self.output_range is not None:
            black, white = self.output_range
            return given if (black, white) == (0, 1) else (given - black) / (white - black)
        if self.is_normalised:
            given = given * self.std + self.mean
        return given if self.span == 1 and not self.black else (given - self.black) / self.span

    def _restored(self, x: Tensor) -> Any:
        """Return what the network gives for `x` in its own units."""
        if self.level is None:
            return self._chosen(self.network(x))
        if self.as_band:
            level = torch.full_like(x[:, :1], self.level)
            return self._chosen(self.network(torch.cat((x, level), dim=1)))
        return self._chosen(self.network(x, x.new_full((x.shape[0], 1, 1, 1), self.level)))

    def _chosen(self, returned: Any) -> Any:
        """Return that of several outputs which the card names; raises `BadModel`."""
        if isinstance(returned, Tensor):
            return returned
        found = None
        if isinstance(returned, Mapping):
            found = returned.get(self.output)
        elif isinstance(returned, (tuple, list)) and isinstance(self.output, int):
            found = returned[self.output] if self.output < len(returned) else None
        if found is None:
            raise BadModel(
                f"{self.id} returns {described(returned)}, without the output {self.output!r} of its "
                "card.",
                "Correct the field output of the card.",
            )
        return found
