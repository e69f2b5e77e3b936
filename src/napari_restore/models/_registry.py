"""Registry of the models; listing them imports nothing heavy."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_restore._entry_points import offered
from napari_restore._plain_files import parse_toml, read_text
from napari_restore.errors import BadModel, UnknownModel, did_you_mean
from napari_restore.models._card import ModelCard, shared_parameters, with_fields

if TYPE_CHECKING:
    from napari_restore.models._model import RestorationModel

GROUP = "napari_restore.models"
"""Entry-point group in which other packages offer a `ModelEntry`."""
BUILT_IN = (
    "classical",
    "atmosphere",
    "haze_unet",
    "inf_dehaze",
    "hint",
    "andehazeformer",
    "ipl",
)
"""Sub-packages with ``cards.toml``; a new built-in model is one of them and one name here."""


@dataclass(frozen=True)
class ModelEntry:
    """A model that can be loaded by its card's id."""

    card: ModelCard
    factory: str | Callable[..., RestorationModel]
    """Called with the card (values filled in, halo still to be set by the factory); as
    ``"package.module:function"`` it is imported at the first use."""
    sizes: str | Callable[[Mapping[str, Any]], dict[str, int]] | None = None
    """Returns the network's sizes (width, depth …) from a state dict; they are passed to the
    factory as keyword arguments."""
    rename: str | Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    """Converts a state dict of another implementation to our names, and leaves others unchanged;
    called before `sizes`."""
    marks: tuple[str, ...] = ()
    """Names of tensors that weights have which are known as this model's without a card."""
    shipped: str | None = None
    """Weights that come with the package: a file of models/weights/, or for an entry of another
    package its absolute path. Its sha256 must be the card's `weights_sha256`. Tensors may be
    float16: they are loaded into float32 ones."""

    @property
    def is_ready(self) -> bool:
        """Whether the model runs as it is: needs no weights, or includes them."""
        return self.shipped is not None or not self.card.needs_weights

    def renamed(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return `state` with the tensor names of this model."""
        return dict(resolve(self.rename)(state)) if self.rename else dict(state)

    def make(self, card: ModelCard, state: Mapping[str, Any] | None = None) -> RestorationModel:
        """Return the model, with sizes read from `state` where it is given."""
        if state is None:
            made: RestorationModel = resolve(self.factory)(card)
            return made
        sizes = self.sizes_in(state)
        try:
            made = resolve(self.factory)(card, **sizes)
        except (ArithmeticError, RuntimeError) as error:
            raise self._of_another(f"their sizes are no network's, {sizes}") from error
        return made

    def sizes_in(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return the network's sizes; raises `BadModel` for weights of another."""
        seen = _Seen(state)
        try:
            return dict(resolve(self.sizes)(seen)) if self.sizes else {}
        except KeyError as error:
            why = f"they lack {error.args[0]}"
            raise self._of_another(why) from error
        except _UNLIKE as error:
            shape = " × ".join(map(str, getattr(state.get(seen.last), "shape", ())))
            why = f"their {seen.last} has another shape, {shape or 'one value'}"
            raise self._of_another(why if seen.last else "they lack its layers") from error

    def _of_another(self, why: str) -> BadModel:
        return BadModel(
            f"These weights are not those of {self.card.title}: {why}.",
            "Choose the model they were made for.",
        )


_UNLIKE = (IndexError, ValueError, TypeError, AttributeError, StopIteration, ZeroDivisionError)
"""Errors of functions that read sizes from tensors of other names and shapes."""


class _Seen(dict[str, Any]):
    """A state dict that remembers which tensor was looked at last."""

    last = ""

    def __getitem__(self, name: str) -> Any:
        self.last = name
        return super().__getitem__(name)


def resolve(reference: str | Callable[..., Any]) -> Callable[..., Any]:
    """Return the function behind ``"package.module:function"``; functions as they are."""
    if not isinstance(reference, str):
        return reference
    module, _, name = reference.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def _read_entries(system: str) -> Iterator[ModelEntry]:
    """Yield the entries in ``cards.toml`` of a sub-package, whose tables are called as the ids.

    A table has fields of `ModelCard`, and of `ModelEntry`, whose functions are named from the sub-package
    on. It may say ``like``, an id before it, whose fields it takes where it has none. Parameters are
    tables, or names of tables in ``parameters`` and in ``parameters.toml`` of this folder; a table of
    such a name takes the fields of that one in the same way.
    """
    tables = parse_toml(read_text(Path(__file__).parent / system / "cards.toml"))
    parameters = shared_parameters() | tables.pop("parameters", {})
    whole: dict[str | None, dict[str, Any]] = {None: {}}
    for key, table in tables.items():
        whole[key] = whole[table.pop("like", None)] | table
        fields = dict(whole[key])
        marks, shipped = tuple(fields.pop("marks", ())), fields.pop("shipped", None)
        functions = {
            name: f"{__package__}.{system}.{fields.pop(name)}"
            for name in ("factory", "sizes", "rename")
            if name in fields
        }
        fields["parameters"] = [
            parameters[p] | {"name": p} if isinstance(p, str) else parameters.get(p["name"], {}) | p
            for p in fields.get("parameters", ())
        ]
        card = with_fields(ModelCard(key, "", ""), fields)
        yield ModelEntry(card, marks=marks, shipped=shipped, **functions)


@cache
def _entries() -> dict[str, ModelEntry]:
    return {entry.card.id: entry for system in BUILT_IN for entry in _read_entries(system)}


@cache
def structures() -> dict[str, ModelEntry]:
    """Return the published networks by id, of which weights are known by names and shapes."""
    made = resolve("napari_restore.models.published.structure:made")
    return {
        entry.card.id: replace(entry, factory=partial(made, entry.factory, entry.card.title))
        for entry in _read_entries("published")
    }


@cache
def _foreign() -> dict[str, ModelEntry | str]:
    """Return the entries of other packages by id; a message in place of one that cannot be used."""
    entries: dict[str, ModelEntry | str] = {}
    for name, entry in offered(GROUP, "Model", _accepted, "ModelEntry").items():
        entries.setdefault(name if isinstance(entry, str) else entry.card.id, entry)
    return entries


def _accepted(point: EntryPoint, loaded: object) -> ModelEntry | None:
    return loaded if isinstance(loaded, ModelEntry) else None


def model_ids() -> tuple[str, ...]:
    """Return all usable models, built-in ones first."""
    usable = (name for name, entry in _foreign().items() if isinstance(entry, ModelEntry))
    return tuple(dict.fromkeys([*_entries(), *usable]))


def entry_of(model_id: str) -> ModelEntry:
    """Return the entry of a model; raises `UnknownModel` with similar names."""
    entry = _entries().get(model_id) or structures().get(model_id) or _foreign().get(model_id)
    if isinstance(entry, ModelEntry):
        return entry
    if entry is not None:
        raise BadModel(entry, "Update or remove that package.")
    hint = did_you_mean(model_id, model_ids(), most=3)
    if ":" in model_id:
        hint = "A network in Python is named by its file, as FILE.py:factory."
    raise UnknownModel(f"There is no model {model_id!r}.", hint)


def card_of(model_id: str) -> ModelCard:
    """Return a model's card with its default parameter values; raises `UnknownModel`."""
    return entry_of(model_id).card


def is_ready(model_id: str) -> bool:
    """Return whether a model runs without a weights file of the user's; raises `UnknownModel`."""
    return entry_of(model_id).is_ready
