"""`view`, `models` and `cache`: commands without computation."""

from __future__ import annotations

import argparse
import subprocess
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields as dataclass_fields
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from napari_restore import api
from napari_restore._addresses import is_remote
from napari_restore._format import columns, format_size
from napari_restore.commands import _streams
from napari_restore.commands._arguments import card_of, of_models
from napari_restore.commands._flags import with_flags
from napari_restore.commands._options import add_card, add_weights, add_yes
from napari_restore.commands._progress import reporter
from napari_restore.commands._result import CommandResult
from napari_restore.errors import (
    BadModel,
    BadParameter,
    InputError,
    UnreadableImage,
    escape_controls,
)

_LEGEND = """\
*        recommended; see `napari-restore models ID` for details
scenes   aerial: seen from above; natural: photographs
scope    local: a tile needs the pixels around it, of some models an overview of
         the image, too; swept: the image is read several times, tile by tile
weights  shipped: installed with this package; yours: give a file by --weights"""
"""Words of the list of models."""
_EMPTY: tuple[object, ...] = ("", (), None, {})
"""Values that no text shows."""
MOST_LAYERS = 32
"""Most layers that the text of a card names, but for outermost ones."""
_FOR_PROGRAMS = frozenset(
    "parameters values layers needs_context needs_weights placed uses_validity".split()
)
"""Fields of a card that its text leaves out, or gives in another form."""


def add_view(parser: argparse.ArgumentParser) -> None:
    """Add the options of `view`."""
    parser.set_defaults(run=view, computes=False)
    parser.add_argument("paths", nargs="*", metavar="PATH", help="images to open")


def view(options: Namespace) -> CommandResult:
    """Open napari in a process of its own, and wait until it is closed."""
    for path in options.paths:
        if is_remote(path) or Path(path).exists():
            continue
        if api.is_product(path):
            raise InputError(
                f"{path} names a resolution of a product; napari opens files only.",
                f"Open the usual one, {path.rpartition(':')[0]}, or restore {path} into a file first.",
            )
        raise UnreadableImage(f"{path} is no file, and napari opens no others.", "Check the name.")
    if find_spec("napari") is None:
        raise InputError(
            "napari is not installed here.", 'Install it: pip install "napari-restore[all]".'
        )
    # napari's own command line, which loads the plugin.
    argv = [
        sys.executable,
        "-m",
        "napari_restore.plugin._start",
        *(p if is_remote(p) else str(Path(p).absolute()) for p in options.paths),
    ]
    if options.paths:
        argv += ["--plugin", "napari-restore"]
    argv += ["--with", "napari-restore", "Restore"]
    # `_streams.set_up` redirected the descriptor it would inherit to the null device.
    code = subprocess.call(argv, stderr=_streams.stderr_number())
    return CommandResult({"exit_code": code}, "", 1 if code else 0)


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add the options of `models`."""
    parser.set_defaults(run=models, computes=False)
    parser.add_argument(
        "id", nargs="?", metavar="ID", help="show this model in full; also FILE.py:factory"
    )
    add_weights(parser)
    add_yes(parser)


def models(options: Namespace) -> CommandResult:
    """List the models, or show one card in full."""
    cards = {card.id: card for card in api.models()}
    if options.id is None and (options.weights or options.set):
        raise BadParameter(
            "Weights and parameters are of one model, and none is named.",
            "Name it: napari-restore models ID.",
        )
    if options.id is None:
        data = [_fields_of(card) for card in cards.values()]
        rows = [("", "model", "task", "scenes", "scope", "weights", "")]
        rows += [
            (
                "*" if c.recommended_for else "",
                c.id,
                c.task,
                ", ".join(c.scenes) if c.task == "dehaze" else "",
                c.scope,
                _weights_of(c),
                c.title,
            )
            for c in cards.values()
        ]
        return CommandResult(data, f"{columns(rows, left=True)}\n\n{_LEGEND}")
    card = cards.get(options.id)
    loaded = None
    if card is None or options.weights or options.set:
        # The error for an unknown id suggests similar ones.
        loaded = api.load_model(options.id, **of_models(options, [options.id]))
        card = loaded.card
    fields = _fields_of(card)
    if loaded is None and api.is_ready(card.id):
        fields["tile_invariance"] = api.tile_invariance(card.id)
        loaded = api.load_model(card.id)
    if loaded is not None:
        fields |= _attention_of(loaded)
        fields["layers"] = _layers_of(loaded)
    return CommandResult(fields, _card_text(card, fields))


def add_inspect(parser: argparse.ArgumentParser) -> None:
    """Add the options of `inspect`."""
    parser.set_defaults(run=inspect)
    parser.add_argument("model", metavar="FILE", help="weights, a program, or FILE.py:factory")
    parser.add_argument(
        "--save", action="store_true", help="write what was found beside it, as its card NAME.json"
    )
    add_weights(parser)
    add_card(parser)
    add_yes(parser)


def inspect(options: Namespace) -> CommandResult:
    """Tell which network a model file is, what it takes and what its tiles must see."""
    found = api.inspect_model(
        options.model,
        **of_models(options, [options.model]),
        card=card_of(options),
        emit=reporter(options.progress),
    )
    card = found.model.card
    written = api.save_card(found) if options.save and found.card and not found.known else None
    fields = {
        "file": str(found.path),
        "structure": found.architecture,
        "paper": card.source,
        "task": card.task,
        "bands": card.bands,
        "roles": card.roles,
        "scale": None if card.ratio == 1 else card.scale,
        "multiple_of": card.multiple_of,
        "padded_to": card.size_step,
        "halo": None if card.whole else card.halo,
        "whole": card.whole,
        "takes": api.inputs_in_words(card),
        "parameters": {each.name: each.default for each in card.parameters},
        "layers": _layers_of(found.model),
        "open": found.questions,
        "sha256": found.sha256,
        "weights": with_flags(found.model.weights_note),
        "card": None if written is None else str(written),
    }
    shown = {k: v for k, v in fields.items() if k != "open" and v not in _EMPTY}
    asked = (f"? {escape_controls(each)}" for each in found.questions)
    text = "\n".join((_fields(shown), *asked))
    return CommandResult(fields, text, wrote_files=written is not None)


def _attention_of(model: Any) -> dict[str, Any]:
    """Return the layers of attention of a loaded model, and why others are not shown."""
    try:
        sites, notes = model.attention_sites(), model.attention_notes
    except BadModel as error:
        return {"attention_notes": [str(error)]}
    layers = []
    for site in sites:
        parts = [site.kind, f"{len(site.heads)} heads", f"{site.stride} px a cell"]
        if site.window is not None:
            parts.append(f"windows of {site.window} cells")
        if site.shift:
            parts.append(f"shifted by {site.shift}")
        layers.append(f"{site.name} ({', '.join(parts)})")
    return {"attention_layers": layers, "attention_notes": tuple(notes)}


def _layers_of(model: Any) -> list[str]:
    """Return the layers of a network by dotted name, with their kind."""
    try:
        return [f"{name} ({type(layer).__name__})" for name, layer in model.named_layers().items()]
    except BadModel:
        return []


def _fields_of(card: Any) -> dict[str, Any]:
    """Return the fields of a card, and the source of its weights."""
    return {**asdict(card), "weights": _weights_of(card)}


def _card_text(card: Any, fields: Mapping[str, Any]) -> str:
    """Return the lines of a card without what is as in most cards; parameters as a table."""
    # Of many layers those are named that contain the others.
    usual = {f.name: f.default for f in dataclass_fields(card) if f.name not in ("task", "scope")}
    shown = {
        name: value
        for name, value in fields.items()
        if name not in _FOR_PROGRAMS and value not in _EMPTY and value != usual.get(name)
    }
    named = fields.get("layers", ())
    layers = [f"  {layer}" for layer in _outer(named)]
    rows = []
    for each in card.parameters:
        limits = [each.minimum, each.maximum]
        span = " to ".join("any" if limit is None else str(limit) for limit in limits)
        span = " or ".join(each.choices) or ("" if limits == [None, None] else span)
        value = card.values.get(each.name, each.default)
        rows.append(("", each.name, _value(value), f"{span} {each.unit}".strip(), each.help))
    table = ["parameters: value, range", columns(rows, left=True)] if rows else []
    if inner := len(named) - len(layers):
        layers.append(f"  and {inner} more within these, named by --json")
    return "\n".join((_fields(shown), *table, *(["layers:"] if layers else []), *layers))


def _outer(layers: Sequence[str]) -> Sequence[str]:
    """Return the names of layers without those within others, as deep as `MOST_LAYERS` allow."""
    depths = [name.partition(" ")[0].count(".") for name in layers]
    for depth in sorted(set(depths), reverse=True):
        outer = [name for name, own in zip(layers, depths, strict=True) if own <= depth]
        if len(outer) <= MOST_LAYERS or not depth:
            return outer
    return ()


def _weights_of(card: Any) -> str:
    """Return "shipped", "yours" for a network that needs a file, "" for models without weights."""
    if not card.needs_weights:
        return ""
    return "shipped" if api.is_ready(card.id) else "yours"


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Add the options of `cache`."""
    parser.set_defaults(run=cache, computes=False)
    parser.add_argument(
        "--clear",
        action="store_true",
        help="remove all but what running programs, copied commands and records need",
    )
    parser.add_argument(
        "--masks",
        action="store_true",
        help="with --clear: also remove painted masks that commands and records need",
    )


def cache(options: Namespace) -> CommandResult:
    """List the entries of the cache, or remove those not in use."""
    if options.masks and not options.clear:
        raise InputError("--masks has an effect only with --clear.", "Add --clear.")
    if options.clear:
        freed = api.clear_cache(needed=options.masks)
        kept = sum(entry.needed for entry in api.cache_entries())
        lines = [f"removed {format_size(freed)}"]
        if kept:
            masks = f"{kept} mask{'s' if kept != 1 else ''}"
            lines.append(
                f"kept {masks} that copied commands or records name; "
                "napari-restore cache --clear --masks removes them"
            )
        return CommandResult({"freed_bytes": freed, "kept_masks": kept}, "\n".join(lines))
    entries: list[dict[str, Any]] = [
        {
            "path": str(entry.path),
            "kind": entry.kind,
            "bytes": entry.size,
            "used": datetime.fromtimestamp(entry.used, UTC).isoformat(timespec="seconds"),
            "complete": entry.complete,
            "in_use": entry.in_use,
            "needed": entry.needed,
        }
        for entry in api.cache_entries()
    ]
    total = sum(entry["bytes"] for entry in entries)
    rows = [("kind", "size", "last used", "")]
    rows += [(e["kind"], format_size(e["bytes"]), e["used"][:16], e["path"]) for e in entries]
    text = (
        f"{columns(rows, left=True)}\n{format_size(total)} in all"
        if entries
        else "the cache is empty"
    )
    return CommandResult({"bytes": total, "entries": entries}, text)


def _fields(data: Mapping[str, Any], indent: str = "") -> str:
    """Format names and values, nested ones indented."""
    lines = []
    for name, value in data.items():
        label = f"{indent}{name.replace('_', ' ')}:"
        if isinstance(value, Mapping) and value:
            lines += [label, _fields(value, indent + "  ")]
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
            lines += [label, *(_fields(v, indent + "  ") for v in value)]
        else:
            lines.append(f"{label} {_value(value)}")
    return "\n".join(lines)


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value)) or "none"
    return escape_controls(str(value))
