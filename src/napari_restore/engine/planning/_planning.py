"""Planning: checks the request, probes the model, fits the run into its budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Unpack

from napari_restore._confined import room_for
from napari_restore._format import format_size
from napari_restore._points import reached
from napari_restore.engine._region import Region, bounding_box
from napari_restore.engine.ledger.store_files import STAGED
from napari_restore.engine.machine.budget import budget_of, parse_size, process_memory
from napari_restore.engine.machine.device import Device, choose_device
from napari_restore.engine.machine.precision import AUTO, check_precision, chosen_precision
from napari_restore.engine.planning._stages import stages_of
from napari_restore.engine.planning.costs import prepare_cost
from napari_restore.engine.planning.decided import SweptLayout, TileInvariance
from napari_restore.engine.planning.identity import (
    COUNTED,
    describe,
    is_all_counted,
    kept_counts,
    names_key,
    run_key,
)
from napari_restore.engine.planning.layout import (
    Candidate,
    LayoutRequest,
    Resources,
    block_too_large,
    box_seen,
    lay_out,
    one_tile,
)
from napari_restore.engine.planning.plan import Plan, Prediction
from napari_restore.engine.planning.probe import corrected, presumed, probe
from napari_restore.engine.planning.source import (
    ContextUse,
    RunSource,
    Stored,
    context_of_run,
    for_image,
    source_of,
    store_path,
    stored_of,
)
from napari_restore.engine.planning.sweeps import SweptRequest, lay_out_sweeps
from napari_restore.engine.planning.tile_invariance import FIXED_TILE, tile_invariance
from napari_restore.engine.statistics.bands import other_bands
from napari_restore.engine.statistics.context import ROUGH, rough_extent
from napari_restore.errors import BadModel, BadParameter, Message, ResourceError, option
from napari_restore.images import Image, resolve_radiometry
from napari_restore.models import (
    ModelCard,
    RestorationModel,
    SweptModel,
    Uncut,
    WrappedModel,
    content_of,
    cut_into_sweeps,
)
from napari_restore.questions import WHOLE, Restore, RestoreKeywords, options_of

MEANT = {
    *("exclude", "exclude_values", "exclude_bits", "exclude_where", "extent", "context"),
    *("other_bands", "black", "white"),
    *("precision", "residual_dtype"),
}
"""Options of which a run's key has what they mean; it has any other as it is set."""
DEVICE_SHARE = 0.85
"""Share of a device's free memory that a run may take when the user sets no budget."""


def make_plan(
    image: Image,
    model: RestorationModel,
    *,
    compare: bool = True,
    **keywords: Unpack[RestoreKeywords],
) -> Plan:
    """Return the plan of restoring `region` (default: all of `image`) with `model`.

    With `output`, a ``.zarr`` of the whole image, tiles are written directly into it.

    No pixel is restored; the model is probed and timed on synthetic tiles the first time it is
    seen, and the scratch disk is tried with a file of 64 MiB if a run needs it. Parameters are
    those of the command line (`napari-restore restore --help`); sizes are bytes or text like
    ``"2GiB"``. `extent` is "image" (the model knows the whole image, whatever the target), "region"
    (only the target: a draft for global models) or "draft": whole-image statistics then come from
    what can be read in a moment, and the plan's extent is "overview" or "sample". An array is
    planned as its values are now; with `compare` also one whose values must be read or computed.
    """
    wanted, image = Restore.of(keywords), image.refreshed(everywhere=compare)
    reached("plan begins")
    with room_for(budget_of(wanted.machine.memory)):
        return _planned_or_instead(image, model, wanted)


def _planned_or_instead(image: Image, model: RestorationModel, wanted: Restore) -> Plan:
    try:
        plan = _planned(image, model, wanted)
    except ResourceError as error:
        if wanted.computing.is_whole or not model.takes_whole:
            raise
        return plan_in_sweeps(error, image, model, wanted)
    if plan.computing.is_whole and wanted.computing.side is not None:
        # Tiles were asked for.
        try:
            return _plan_in_sweeps(image, model, wanted)
        except Uncut as why:
            return replace(plan, notes=(*plan.notes, _uncut_note(model, why)))
    return plan


def plan_in_sweeps(
    error: ResourceError, image: Image, model: RestorationModel, wanted: Restore
) -> Plan:
    """Return the plan in sweeps of a model that does not fit in one pass; raises `error` where it is not cut."""
    try:
        return _plan_in_sweeps(image, model, wanted)
    except Uncut as why:
        if why.is_needless:
            raise error from None
        message = f"{error.message} {_uncut_note(model, why)}"
        raise type(error)(message, error.hint) from error


def _planned(image: Image, model: RestorationModel, wanted: Restore) -> Plan:
    """Return the plan of a model as it is."""
    model = for_image(model, image)
    # Before anything runs the model: a module may keep what it has computed.
    content = content_of(model)
    device = choose_device(wanted.machine.device)
    options = _checked(wanted, image, model, device)
    notes = [*filter(None, [model.weights_note]), *model.card.idle_notes()]
    if wanted.computing.precision == AUTO and options.computing.precision != "float32":
        notes.append(
            f"Computed in {options.computing.precision}, which this processor has: results differ "
            "from those in float32, nearly all by at most one step."
        )
    source = source_of(image, model, options, notes)
    if options.reading.extent == "region" and source.is_whole:
        options = replace(options, reading=replace(options.reading, extent="image"))
    extent = options.reading.extent
    tried = _tried(source, model, content, options, device, notes)
    if tried.whole:
        options = replace(options, computing=replace(options.computing, tile=WHOLE))
    context = context_of_run(source, model, content, options.reading, device, notes)
    if not context.known and extent == "image" and wanted.reading.extent not in ("image", "region"):
        notes.append("No small level is made yet: all of the image must be read first.")
    notes += _fetched_whole(source.image, context)
    stored = stored_of(source, model, options)
    box = None
    if isinstance(model, SweptModel):
        region = bounding_box(source.targets)
        box = box_seen(model, region, source.image, options.computing, extent)
    description = describe(model, content, _settings(source, model, options, tried, context, box))
    counts = kept_counts(source.image, model, description, notes)
    if counts.borrowed is not None:
        description |= {"settled": counts.borrowed}
    key = run_key(source.image, description)
    store = store_path(key, options, stored)
    counted, reach = counts.folder, None
    if isinstance(model, SweptModel):
        counted = counted or store / STAGED / COUNTED
        if is_all_counted(model, counted, store / STAGED):
            # What remains depends on a halo only.
            reach = model.reach
    request = LayoutRequest(
        image=source.image,
        model=model,
        bands=source.bands,
        targets=source.targets,
        computing=options.computing,
        resources=tried.resources,
        halo=tried.halo,
        whole=tried.whole,
        invariance=tried.invariance,
        context=context.needed and not context.known,
        maps_bytes=4 * (2 + 2 * len(source.bands)) if options.storing.maps else 0,
        shared=options.storing.shared,
        in_16=stored.in_16,
        watched=stored.centre_first,
        prepare=prepare_cost(
            model,
            source.image,
            device,
            extent=extent,
            region=context.region,
            kept=context.prepared,
        ),
    )
    # As the user named it, for the note that a run of the same names was of something else.
    named = [asdict(wanted.reading), *(value for _, value in _pixel_options(wanted.computing))]
    choice = _quickest(request, box, store, key, reach)
    prediction = _prediction(choice, request, stored)
    plan = Plan(
        key=key,
        names=names_key(source.image, model, [*named, stored.maps, stored.pyramid]),
        read={"mask": source.mask, "exclude": context.excluded, "context": context.given},
        image=source.image,
        model=model,
        bands=source.bands,
        target=replace(options.target, region=source.targets),
        reading=replace(options.reading, other_bands=source.other_bands),
        adjustment=options.adjustment,
        computing=options.computing,
        layout=choice.layout,
        device=device,
        memory=tried.resources.memory,
        workers=tried.resources.workers,
        maps=stored.maps,
        pyramid=stored.pyramid,
        in_16=stored.in_16,
        centre_first=stored.centre_first,
        store=store,
        prediction=prediction,
        needs_context=context.needed,
        needs_context_pass=request.context,
        staged=_with_seconds(choice.staged, prediction.seconds),
        counted=counted,
        lends=counts.lends,
        notes=(*notes, *choice.notes),
        content=content,
    )
    return replace(plan, notes=(*plan.notes, *_coarse_notes(plan)))


HAZE_METRES = 250.0
"""Ground over which thin cloud and haze change. Of a Landsat scene under them, mirrored into a mosaic, cells
of 160 m took off all, cells of 320 m lost two fifths of the change, cells of 640 m most of it."""
METRES = {"metre": 1.0, "degree": 111_320.0, "foot": 0.3048, "US_survey_foot": 0.3048}


def _coarse_notes(plan: Plan) -> Iterator[str]:
    """Yield a note where haze is judged on cells that are coarser on the ground than it can be."""
    side, place = plan.haze_cell, plan.image.given.georeference
    if place is None or not side or place.pixel_size is None:
        return
    metres = side * max(place.pixel_size) * METRES.get(place.units, 0.0)
    if metres > HAZE_METRES:
        yield (
            f"Haze is judged on cells of {side} × {side} pixels ({metres:.0f} m): what changes within "
            "one may stay. A file of a part of the image is judged finer."
        )


def _plan_in_sweeps(image: Image, model: RestorationModel, wanted: Restore) -> Plan:
    """Return the plan of a module that sees the whole image, cut into sweeps. Raises `Uncut`."""
    if not isinstance(model, WrappedModel) or image.full is not None:
        raise Uncut("only whole images are seen in sweeps")
    if model.card.ratio != 1:
        raise Uncut("its results have another size than the image")
    cut = cut_into_sweeps(model, content_of(model))
    if why := cut.fits(image.height, image.width):
        raise Uncut(why)
    plan = _planned(image, cut, wanted)
    note = f"{model.card.id} depends on the whole image: it is run in {cut.summary}."
    return replace(plan, notes=(note, *plan.notes))


def _uncut_note(model: RestorationModel, why: Uncut) -> str:
    return f"{model.card.id} cannot be cut into sweeps: {why}."


def _fetched_whole(image: Image, context: ContextUse) -> list[str]:
    size = image.reader.served_bytes
    if not size or not context.needed or context.known or context.region is not None:
        return []
    return [
        Message(
            f"All of {image.name} ({format_size(size)}) comes from the server first, for the "
            f"statistics of the whole image; {option('extent', 'region')} takes those of the region."
        )
    ]


# -- steps of a plan -----------------------------------------------------------------


def _checked(options: Restore, image: Image, model: RestorationModel, device: Device) -> Restore:
    """Return `options` with the extent and precision that are meant; raises for what no image would allow."""
    card, reading = model.card, options.reading
    computing, extent = options.computing, reading.extent
    if computing.is_whole and not model.takes_whole:
        # One tile is the whole.
        computing = replace(computing, tile=max(image.height, image.width))
    if not (computing.tile is None or computing.is_whole or (computing.side or 0) >= 1):
        raise BadParameter(
            f"Tile {computing.tile} is no size.",
            f"Use for instance {option('tile', 1024)}, or {option('tile', WHOLE)}.",
        )
    check_precision(computing.precision, card)
    _check_scope(model)
    if extent not in ("image", "region", "draft", *ROUGH):
        raise BadParameter(f"There is no extent {extent!r}.", "Choose image or region.")
    if extent == "draft":
        extent = rough_extent(image)
    if card.placed:
        if reading.context is not None:
            raise card.no_shared_statistics()
        if extent == "sample":
            # A few blocks are no map of the image.
            extent = "image"
    if computing.tile_batch is not None and computing.tile_batch < 1:
        raise BadParameter(
            f"A batch of {computing.tile_batch} tiles is no batch.", "Give 1 or more."
        )
    if options.target.feather < 0:
        raise BadParameter(
            f"Feather {options.target.feather} is negative.", "Give pixels, for instance 32."
        )
    precision = chosen_precision(computing.precision, card, image.dtype, device)
    return replace(
        options,
        reading=replace(reading, extent=extent),
        computing=replace(computing, precision=precision),
    )


def _check_scope(model: RestorationModel) -> None:
    """Raise `BadModel` for a scope without its sweeps, or sweeps that do not fit each other."""
    name = model.card.id
    if not isinstance(model, SweptModel):
        if model.card.scope != "local":
            raise BadModel(
                f"The card of {name} says scope {model.card.scope!r}, but it has no sweeps.",
                "Only models made for it can be global; write local if a halo suffices.",
            )
    elif problem := model.ordered_steps.problem(model.multiple, model.pads):
        raise BadModel(
            f"The sweeps of {name} do not fit each other: {problem}.",
            "A swept model lists its sweeps in order, the last of which restores pixels.",
        )


@dataclass(frozen=True)
class _Tried:
    """What is known of the model on this machine."""

    resources: Resources
    halo: int
    invariance: TileInvariance
    whole: bool
    """Whether the model is given the whole image in one pass."""


def _tried(
    source: RunSource,
    model: RestorationModel,
    content: str,
    options: Restore,
    device: Device,
    notes: list[str],
) -> _Tried:
    """Probe the model with this `content` on `device`, and find the budgets; adds to `notes`."""
    image, card, machine = source.image, model.card, options.machine
    computing = options.computing
    memory = budget_of(machine.memory)
    # Levels are for drafts: their models are those of the image with other settings.
    is_level = image.full is not None
    whole = computing.is_whole
    probed = presumed(model) if is_level or whole else probe(model, memory, content)
    why = "" if whole else probed.why_whole(image.height, image.width)
    if model.takes_whole and not whole:
        why = why or card.whole
    if probed.note and not whole and not why:
        notes.append(probed.note)
    invariance = TileInvariance.FULL
    if not is_level and not whole and not why:
        invariance = tile_invariance(model, device, probed.halo, computing.precision, content)
        is_claim = isinstance(model, WrappedModel) and not model.measured
        if invariance is TileInvariance.NONE and is_claim:
            probed = corrected(model, memory, content)
            notes += filter(None, [probed.note])
            invariance = tile_invariance(model, device, probed.halo, computing.precision, content)
            why = probed.why_whole(image.height, image.width)
        if invariance is TileInvariance.NONE:
            why = why or "its tiles differ from the whole image by more than rounding"
    halo = probed.halo
    if why:
        whole, invariance = True, TileInvariance.FULL
        notes.append(f"{model.card.id} is given the whole image in one pass: {why}.")
    if whole:
        # Drafts may see their own part only.
        halo = one_tile(image, model) if options.reading.extent == "image" else 0
    if invariance is TileInvariance.FIXED_TILES:
        notes.append(_fixed_tiles_note(card, computing.side))
    block_bytes = (image.full or image).block_bytes
    if block_bytes > memory and (device.is_accelerator or model.is_swept):
        raise block_too_large(image.full or image, memory, block_bytes)
    on_device = _device_budget(device, machine.device_memory, memory)
    resources = Resources(device, memory, on_device, machine.workers)
    return _Tried(resources, halo, invariance, whole)


def _settings(
    source: RunSource,
    model: RestorationModel,
    options: Restore,
    tried: _Tried,
    context: ContextUse,
    box: Region | None,
) -> dict[str, Any]:
    """Return all settings that change a pixel, as they are meant; `box` is what a swept model sees."""
    # What is set to what it would be anyway, or has no effect on this image, is as if it was not
    # set.
    image, reading, computing = source.image, options.reading, options.computing
    others = other_bands(image, source.bands)
    # Infinity stands for the percentile that the context says.
    measured = resolve_radiometry(
        image, percentile=lambda _: inf, black=reading.black, white=reading.white
    )
    settings: dict[str, Any] = {
        "bands": [source.bands, image.data_bands],
        "range": [measured.black.tolist(), measured.white],
        "colour": None if measured.colour is None else measured.colour.bands,
        "others": source.other_bands if others else None,
        "exclude": context.excluded,
        "context": context.name,
        "halo": tried.halo,
        "precision": computing.precision,
    }
    if others and source.other_bands == "correct":
        settings["wavelengths"] = image.wavelengths
        # Results of before there was one are others.
        settings["path_limit"] = True
    if computing.is_whole:
        settings["tile"] = WHOLE
    if model.card.placed or box is not None or computing.is_whole:
        # Positions are counted from the corner of what is seen.
        seen = "image" if reading.extent != "region" else list(bounding_box(source.targets))
        settings["seen"] = [seen, reading.extent]
    if box is not None:
        settings |= {"grid": list(box), "residual_dtype": computing.kept_dtype}
    for name, value in (*_pixel_options(reading), *_pixel_options(computing)):
        if name not in MEANT and value != options_of(Restore)[name].default:
            settings[name] = value
    return settings


def _pixel_options(group: Any) -> Iterator[tuple[str, Any]]:
    """Yield the options of a group that change pixels wherever they are set, by name."""
    for name, each in options_of(type(group)).items():
        # A tile changes pixels only as one, or as the grid of sweeps.
        if each.changes == "pixels" and name != "tile":
            yield name, getattr(group, name)


def _quickest(
    request: LayoutRequest, box: Region | None, store: Path, key: str, reach: int | None
) -> Candidate:
    """Return the layout of the run, for the scope of its model; `box` is what a swept model sees."""
    if box is None:
        return lay_out(request)
    # Where `reach` is given, nothing is left to count: tiles with that halo will do, or sweeps of
    # the target and around it, each with its own smaller halo. The two give the same pixels where
    # the box is all of the image, at whose edges both reflect, and where no map is rounded; else
    # sweeps, so that the result does not follow the faster one.
    swept = SweptRequest(**vars(request), box=box, folder=store / STAGED, key=key, reach=reach)
    image = Region(0, 0, request.image.height, request.image.width)
    sees_all = box.intersect(image) == image
    computing = request.computing
    is_exact = computing.kept_dtype == computing.precision == "float32"
    if reach is None or not (sees_all and is_exact):
        return lay_out_sweeps(swept)
    choices: list[Candidate] = []
    errors: list[ResourceError] = []
    local = replace(request, halo=reach)
    for laid_out in (partial(lay_out, local), partial(lay_out_sweeps, swept)):
        try:
            choices.append(laid_out())
        except ResourceError as error:
            errors.append(error)
    if not choices:
        raise errors[0]
    return min(choices, key=lambda choice: choice.seconds)


def _prediction(choice: Candidate, request: LayoutRequest, stored: Stored) -> Prediction:
    disk_bytes = request.kept_bytes(stored.pyramid)
    stages = stages_of(request, choice, pyramid=stored.pyramid)
    return Prediction(
        added_ram_bytes=choice.ram_bytes,
        peak_ram_bytes=process_memory() + choice.ram_bytes,
        peak_device_bytes=choice.device_bytes,
        disk_bytes=disk_bytes + (0 if choice.staged is None else choice.staged.disk_bytes),
        stages=stages,
        prepare_seconds=request.prepare.seconds,
    )


def _with_seconds(staged: SweptLayout | None, seconds: float) -> SweptLayout | None:
    """Return the layout with phases that last `seconds` together."""
    if staged is None or not staged.seconds:
        return staged
    ratio = seconds / staged.seconds
    phases = {name: ratio * each for name, each in staged.phase_seconds.items()}
    return replace(staged, phase_seconds=phases)


def _fixed_tiles_note(card: ModelCard, tile: int | None) -> str:
    """Return the note why the requested tile size is not used."""
    instead = "" if tile is None else f" in place of {tile}"
    return (
        f"What {card.id} computes may follow the shape of a tile in its last bits; "
        f"all runs take tiles of about {FIXED_TILE} pixels{instead}."
    )


def _device_budget(device: Device, wanted: str | int | None, memory: int) -> int:
    """Return the bytes the run may take on an accelerator: the requested size, else 85 % of the free memory."""
    free = device.free_bytes()
    if wanted is not None:
        return parse_size(wanted) if free is None else min(parse_size(wanted), free)
    return memory if free is None else int(DEVICE_SHARE * free)
