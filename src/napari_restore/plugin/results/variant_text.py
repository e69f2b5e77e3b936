"""Texts about results: settings, differences, rows of the record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from napari_restore import Region, api
from napari_restore._format import format_seconds, format_size
from napari_restore.plugin.layers.display import answered_bands
from napari_restore.plugin.state.request import Area, RunRequest, TargetChoice
from napari_restore.plugin.state.state import title_of
from napari_restore.plugin.tasks.notices import done_text, place_text
from napari_restore.questions import TONE, Adjustment

if TYPE_CHECKING:
    from napari_restore.engine import Plan, Result
    from napari_restore.models import Parameter
    from napari_restore.plugin.state.variant import Variant

POLYGONS = (".geojson", ".json")
_NOT_ADJUSTED = {
    "strength": "100%",
    "shadows spared": "0%",
    "highlights spared": "0%",
    "exposure": "+0.00 EV",
    "colours": "as the method gives them",
}
_CONTEXT_TITLES = {"black_reason": "Zero is", "white_reason": "Full light is"}


def settings_of(variant: Variant) -> dict[str, str]:
    """Return all settings of a variant, by name."""
    plan = variant.shown.result.plan
    given = dict(variant.request.parameters)
    settings = {"method": variant.title}
    values: dict[str, Any] = {**given, **plan.model.card.values}
    settings |= _titled(values, plan.model.card.parameters)
    settings["area"] = area_of(plan)
    if bands := answered_bands(variant.request.image):
        settings["bands"] = bands
    preset = plan.image.preset
    settings["sensor"] = "not named" if preset is None else preset.title
    if plan.target.mask is not None and plan.target.feather:
        settings["feather"] = f"{plan.target.feather} px"
    if plan.reading.exclude is not None:
        reading = plan.reading
        name = plan.reading.exclude.replace("\\", "/").rpartition("/")[2]
        chosen = (reading.exclude_values, reading.exclude_bits, reading.exclude_where)
        settings["excluded"] = " ".join([name, *filter(None, chosen)])
    return settings | _NOT_ADJUSTED | adjustment_of(plan)


def line_of(variant: Variant, others: Sequence[Variant]) -> str:
    """Return in what `variant` differs from the `others`; method and area when it is alone."""
    own = settings_of(variant)
    settings = [settings_of(other) for other in others if other is not variant]
    # Settings that only another method has are not this one's.
    names = [name for name, value in own.items() if any(o.get(name) != value for o in settings)]
    if not settings:
        names = ["method", "area", *adjustment_of(variant.shown.result.plan)]
    elif not names:
        return "same settings"
    return " · ".join(phrase(name, own[name]) for name in names)


def phrase(name: str, value: str) -> str:
    """Return a setting as part of a line."""
    return value if name in ("method", "area") else f"{name.replace('_', ' ')} {value}"


def area_of(source: Plan | RunRequest) -> str:
    """Return the area: ``"whole image"``, ``"drawn areas"``, ``"640 × 480 at 100, 20"``."""
    if isinstance(source, RunRequest):
        targets, mask = source.area.targets, source.area.mask
    else:
        targets, mask = tuple(source.given_targets), source.target.mask
    if mask is not None:
        return target_of_mask(mask).value
    if is_whole(source):
        return "whole image"
    several = f"{len(targets)} boxes in " if len(targets) > 1 else ""
    return several + place_text(Area(targets).region)


def is_whole(source: Plan | RunRequest) -> bool:
    """Return whether it is of all of its image, in one box."""
    # Results of scale 1/N may leave out the last pixels of the image.
    targets = source.area.targets if isinstance(source, RunRequest) else source.targets
    return targets == (Region(0, 0, source.image.height, source.image.width),)


def part_of(result: Result | None) -> str | None:
    """Return which part of its image a result is, in words; None where it is all of it."""
    if result is None:
        return None
    # Of a bracket all is what every frame shows.
    image, (height, width) = result.like, result.region.shape
    common = api.common_region(image)
    if (height, width) in ((image.height, image.width), common and common.shape):
        return None
    return f"a part, {width} × {height} of {image.width} × {image.height} pixels"


def target_of_mask(mask: str) -> TargetChoice:
    """Return the target of a mask; the window writes gradients to files of that name."""
    path = PurePath(mask)
    if path.suffix.lower() not in POLYGONS:
        return TargetChoice.PAINTED
    return TargetChoice.GRADIENT if path.stem == "gradient" else TargetChoice.DRAWN


def adjustment_of(plan: Plan) -> dict[str, str]:
    """Return how the model's pixels are adjusted before they are shown and saved; {} for not at all."""
    adjustment = plan.adjustment
    described: dict[str, str] = {}
    if adjustment.strength != 1:
        described["strength"] = f"{adjustment.strength:.0%}"
    if adjustment.protect_shadows:
        described["shadows spared"] = f"{adjustment.protect_shadows:.0%}"
    if adjustment.protect_highlights:
        described["highlights spared"] = f"{adjustment.protect_highlights:.0%}"
    if adjustment.ev:
        described["exposure"] = f"{adjustment.ev:+.2f} EV"
    if adjustment.luminance_only:
        described["colours"] = "kept"
    neutral, values = Adjustment(), adjustment.to_dict()
    for name in TONE:
        if values[name] != getattr(neutral, name):
            unit = " K" if name == "temperature" else ""
            described[name.replace("_", " ")] = f"{value_text(values[name])}{unit}"
    return described


def value_text(value: Any) -> str:
    """Return a value as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def record_rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a record as lines of (name, value), the most useful first."""
    model, plan, measured = record["model"], record["plan"], record["measured"]
    read, targets = record["input"], record["targets"]
    card = next((each for each in api.models() if each.id == model["id"]), None)
    asked = () if card is None else card.parameters
    weights, (height, width) = model.get("weights_sha256"), read["size"]
    neutral, adjustment = Adjustment().to_dict(), record.get("adjustment") or {}
    adjusted = {k: v for k, v in adjustment.items() if v != neutral.get(k)}
    shares = measured.get("quality_shares") or {}
    memory = _bytes(measured["peak_ram_bytes"], plan["predicted_peak_ram_bytes"])
    on_device, predicted = measured["peak_device_bytes"], plan["predicted_peak_device_bytes"]
    made, kept = measured["tiles_done"], measured["tiles_resumed"]
    tiles = (
        f"{made} made, {kept} kept from before; {plan['tile']} pixels wide, {plan['halo']} around"
    )
    written = record.get("output")
    rows = [
        ("Method", title_of(model["id"])),
        ("Settings", _pairs(_titled(model["parameters"], asked))),
        ("Weights (sha256)", f"{weights[:16]} …" if weights else ""),
        ("Image", read["path"] or "in memory"),
        ("Size", f"{width} × {height}, {read['bands']} bands, {read['dtype']}"),
        *(("Area", _box(target)) for target in targets[:4]),
        ("", f"and {len(targets) - 4} more" if targets[4:] else ""),
        ("Adjust", _pairs(adjusted)),
        *_context_rows(record.get("context") or {}),
        ("Time", _times(measured["seconds"], plan["predicted_seconds"])),
        ("Speed", f"{measured['megapixels_per_second']:.1f} megapixels per second"),
        ("Memory at its peak", memory),
        ("Device memory", _bytes(on_device, predicted) if on_device else ""),
        ("Tiles", tiles),
        *(
            (f"Pixels {k.replace('_', ' ')}", f"{v:.2%}")
            for k, v in shares.items()
            if v is not None
        ),
        ("Device", record["device"]),
        ("Written to", str(written["path"]) if written else ""),
        ("Program", f"napari-restore {record['version']}"),
        *(("Note", note) for note in record.get("notes") or plan.get("notes") or ()),
    ]
    return [(name, text) for name, text in rows if text]


def _context_rows(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for name, value in context.items():
        if name.endswith("_all") and value == context.get(name.removesuffix("_all")):
            continue
        if isinstance(value, (str, int, float)):
            text = value_text(value)
        elif isinstance(value, (list, tuple)) and len(value) <= 8:
            text = ", ".join(value_text(item) for item in value)
        else:
            continue
        rows.append((_CONTEXT_TITLES.get(name, name.replace("_", " ").capitalize()), text))
    return rows


def _titled(values: Mapping[str, Any], asked: Iterable[Parameter]) -> dict[str, str]:
    """Return values of parameters by what the window calls these."""
    titles = {parameter.name: parameter.title for parameter in asked}
    return {titles.get(name, name): value_text(value) for name, value in values.items()}


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {value_text(value)}" for name, value in values.items()
    )


def _box(target: Mapping[str, Any]) -> str:
    mask = f", within {target['mask']}" if target.get("mask") else ""
    return place_text(Region(*target["region"])) + mask


def _times(measured: float, predicted: float | None) -> str:
    prediction = (
        "" if predicted is None else f" (predicted {format_seconds(predicted, tenths=True)})"
    )
    return format_seconds(measured, tenths=True) + prediction


def _bytes(measured: int, predicted: int) -> str:
    largest = max(measured, predicted)
    return (
        f"{format_size(measured, like=largest)} (predicted {format_size(predicted, like=largest)})"
    )


def table_of(rows: Sequence[tuple[str, str]]) -> str:
    """Return lines of (name, value) as a table for a label or a browser."""
    lines = (
        f"<tr><td><b>{escape(name)}</b>&nbsp;&nbsp;</td><td>{escape(value)}</td></tr>"
        for name, value in rows
    )
    return f"<table>{''.join(lines)}</table>"


def run_summary(record: dict[str, Any], waited: float, planning: float) -> str:
    """Return what a finished run took, and `waited` seconds for it, `planning` among them."""
    measured = record["measured"]
    if measured["tiles_done"] == 0 and measured["tiles_resumed"]:
        return "All tiles had been restored before. Compare, adjust and export it under Restore."
    done = done_text(waited, planning=planning, computing=measured["seconds"])
    notes = record.get("notes") or ()
    noted = f" Notes on it: {len(notes)}, in its Record (Results)." if notes else ""
    return f"{done} Compare, adjust and export it under Restore.{noted}"
