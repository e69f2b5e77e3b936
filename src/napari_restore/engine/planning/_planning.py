"""Planning: checks the request, probes the model, fits the run into its budget."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from napari_restore.engine._region import Region, bounding_box
from napari_restore.engine.masks._mask_strength import open_mask
from napari_restore.engine.memory._budget import default_memory, parse_size, process_memory
from napari_restore.engine.memory._device import Device, choose_device
from napari_restore.engine.planning._calibrate import Cost, calibrate
from napari_restore.engine.planning._plan import (
    Layout,
    Plan,
    block_too_large,
    folder_name,
    image_bytes,
    lay_out,
    on_full,
    run_key,
)
from napari_restore.engine.planning._prepare_cost import prepare_cost
from napari_restore.engine.planning._probe import presumed, probe
from napari_restore.engine.planning._tile_invariance import (
    FIXED_TILE,
    TileInvariance,
    tile_invariance,
)
from napari_restore.engine.results._adjust import Adjustment
from napari_restore.engine.running._precision import check_precision
from napari_restore.engine.staged._cost import calibrate_staged
from napari_restore.engine.staged._layout import StagedLayout, grid_of
from napari_restore.engine.staged._planning import (
    StagedRequest,
    about_extent,
    check_staged,
    lay_out_staged,
)
from napari_restore.engine.statistics._bands import (
    OtherBands,
    choose_other_bands,
    model_bands,
    without_others,
)
from napari_restore.engine.statistics._bands import other_bands as others_of
from napari_restore.engine.statistics._context import (
    ROUGH,
    context_exclude,
    context_key,
    context_path,
    load_context,
    rough_extent,
)
from napari_restore.engine.storage._store import FORMAT, STAGED
from napari_restore.errors import BadModel, BadParameter, BadRegion
from napari_restore.images import Box, Image, cache_dir, can_adopt, needs_percentile
from napari_restore.models import ModelCard, RestorationModel, StagedModel

DEVICE_SHARE = 0.85
"""Share of a device's free memory that a run may take when the user sets no budget."""
MAPS = ("transmission", "airlight", "change", "quality")


def make_plan(
    image: Image,
    model: RestorationModel,
    *,
    region: Box | Sequence[Box] | None = None,
    mask: str | os.PathLike[str] | None = None,
    feather: int = 0,
    exclude: str | os.PathLike[str] | None = None,
    strength: float = 1.0,
    luminance_only: bool = False,
    protect_shadows: float = 0.0,
    protect_highlights: float = 0.0,
    extent: str = "image",
    other_bands: OtherBands | None = None,
    black: float | None = None,
    white: float | None = None,
    memory: str | int | None = None,
    device_memory: str | int | None = None,
    device: str = "auto",
    tile: int | None = None,
    tile_batch: int | None = None,
    workers: int | None = None,
    scratch: str | os.PathLike[str] | None = None,
    context: str | os.PathLike[str] | None = None,
    maps: bool | Sequence[str] = False,
    pyramid: bool = False,
    mosaic: Image | None = None,
    output: str | os.PathLike[str] | None = None,
    residuals: str = "auto",
    precision: str = "float32",
    residual_dtype: str | None = None,
) -> Plan:
    """Return the plan of restoring `region` (default: all of `image`) with `model`.

    With `mosaic`, an image that contains this one among its neighbours, whole-image statistics and
    the surroundings of a pixel are read from it, so that neighbouring files join without a seam.
    With `output`, a ``.zarr`` of the whole image, tiles are written directly into it.

    No pixel is restored; the model is probed and timed on synthetic tiles the first time it is
    seen, and the scratch disk is tried with a file of 64 MiB if a run needs it. Parameters are
    those of the command line (`napari-restore restore --help`); sizes are bytes or text like
    ``"2GiB"``. `extent` is "image" (the model knows the whole image, whatever the target), "region"
    (only the target: a draft for global models) or "draft": whole-image statistics then come from
    what can be read in a moment, and the plan's extent is "overview" or "sample".
    """
    card = model.card
    check_precision(precision, card)
    if card.scope != "local" and not isinstance(model, StagedModel):
        raise BadModel(
            f"The card of {card.id} says scope {card.scope!r}, but it has no such stages.",
            "Only models made for it can be global; write local if a halo suffices.",
        )
    adjustment = Adjustment(strength, luminance_only, protect_shadows, protect_highlights)
    if extent not in ("image", "region", "draft", *ROUGH):
        raise BadParameter(f"There is no extent {extent!r}.", "Choose image or region.")
    if extent == "draft":
        extent = rough_extent(image)
    if card.placed:
        _check_position_dependent(card, context)
    # A few blocks are no map of the image.
    has_no_level = card.placed and extent == "sample"
    if has_no_level:
        extent = "image"
    if tile_batch is not None and tile_batch < 1:
        raise BadParameter(f"A batch of {tile_batch} tiles is no batch.", "Give 1 or more.")
    if feather < 0:
        raise BadParameter(f"Feather {feather} is negative.", "Give pixels, for instance 32.")
    notes: list[str] = []
    targets = _targets(image, region, notes)
    part, origin = None, (0, 0)
    if mosaic is not None:
        part, origin = image, _place_in(mosaic, image)
        targets = tuple(target.shift(*origin) for target in targets)
        image = mosaic
    bands = model_bands(image, card)
    handling = choose_other_bands(image, card, bands, other_bands)
    if handling == "drop":
        image = without_others(image, bands)
        part = None if part is None else without_others(part, bands)
        bands = model_bands(image, card)
    adjustment.check(image)
    if others_of(image, bands) and handling == "copy":
        notes.append(
            "Bands the model does not see are copied; indices such as NDVI change meaning."
        )
    if not card.roles and len(bands) not in (1, 3):
        notes.append(
            f"The roles of the {image.bands} bands are unknown; {card.id} uses all of them."
        )
    if "natural" not in card.scenes and image.crs is None and len(bands) <= 3:
        notes.append(
            f"{card.id} is made for scenes from above, and this image lies on no map: in a "
            "photograph from the ground it may take the sky for haze and change its colour."
        )
    # Levels are for drafts: their models are those of the image with other settings.
    probed = probe(model) if image.full is None else presumed(model)
    if probed.note:
        notes.append(probed.note)
    chosen = choose_device(device)
    invariance = TileInvariance.FULL
    if image.full is None:
        invariance = tile_invariance(model, chosen, probed.halo)
    if invariance is TileInvariance.FIXED_TILES:
        tile_batch = None
        notes.append(_fixed_tiles_note(card, tile))
    mask_strength = open_mask(os.fspath(mask), image, feather) if mask is not None else None
    if mask_strength is not None:
        clipped = [target.intersect(mask_strength.bounds) for target in targets]
        targets = tuple(target for target in clipped if not target.is_empty)
        if not targets:
            raise BadRegion("The mask does not touch the region.", "Check where the mask lies.")
    exclusion = open_mask(os.fspath(exclude), image) if exclude is not None else None
    uncounted = exclusion if image.full is None else context_exclude(image, exclude)
    needs_context = _needs_context(image, model, white, exclusion is not None)
    draft = on_full(bounding_box(targets), image) if extent == "region" else None
    known = needs_context and (context is not None or _is_known(image, uncounted, draft, extent))
    if has_no_level and not known:
        notes.append("No small level is made yet: all of the image must be read first.")
    budget = parse_size(memory) if memory is not None else default_memory()
    accelerated = chosen.is_accelerator
    block_bytes = (image.full or image).block_bytes
    if block_bytes > budget and (accelerated or isinstance(model, StagedModel)):
        raise block_too_large(image.full or image, budget, block_bytes)

    def cost(threads: int) -> Cost:
        return calibrate(model, chosen, threads, roughly=image.full is not None)

    accelerator_budget = _device_budget(chosen, device_memory, budget)
    maps_bytes = 4 * (2 + 2 * len(bands)) if maps else 0
    wanted_maps = _maps(maps, card.maps)
    whole = targets == (Region(0, 0, image.height, image.width),)
    in_place = (
        output is not None
        and part is None
        and mask_strength is None
        and adjustment.is_neutral
        and not wanted_maps
        and whole
        and can_adopt(image, Path(output))
        # Tokens and residuals lie in the store, and the user has chosen where.
        and not (scratch is not None and isinstance(model, StagedModel))
    )
    # Levels are for a display from the centre outwards; a file that is not displayed is faster row
    # by row.
    centre_first = pyramid or not whole
    pyramid = pyramid or in_place
    settings: dict[str, Any] = {
        "format": FORMAT,
        "bands": bands,
        "other_bands": handling,
        "black": black,
        "white": white,
        "sensor": getattr(image, "sensor", None),
        "exclude": exclusion.digest if exclusion else None,
        "extent": ["region", list(draft or ())] if extent == "region" else extent,
        "halo": probed.halo,
        "maps": wanted_maps,
        "pyramid": pyramid,
    }
    if precision != "float32":
        settings["precision"] = precision
    if isinstance(model, StagedModel):
        box = grid_of(
            bounding_box(targets), (image.height, image.width), model.tile, extent == "image"
        )
        settings |= {"grid": list(box), "residual_dtype": residual_dtype or precision}
    context_id = _context_name(context, image, uncounted, draft, extent) if needs_context else None
    key = run_key(image, model, {**settings, "context": context_id})
    name = folder_name(image, model, settings)
    folder = Path(scratch) if scratch is not None else cache_dir() / "results"
    store = folder / f"{name}.zarr"
    if in_place and output is not None:
        beside = Path(output).absolute()
        store = beside.with_name(f".{beside.name}.{name[:8]}.unfinished")
    preparing = prepare_cost(model, image, chosen, extent=extent, region=draft)
    staged: StagedLayout | None = None
    if isinstance(model, StagedModel):
        check_staged(model, tile)
        choice = lay_out_staged(
            StagedRequest(
                image=image,
                model=model,
                bands=bands,
                targets=targets,
                box=box,
                device=chosen,
                memory=budget,
                device_memory=accelerator_budget,
                folder=store / STAGED,
                key=key,
                precision=precision,
                residual_dtype=residual_dtype or precision,
                residuals=residuals,
                batch=tile_batch,
                workers=workers,
                context=needs_context and not known,
                maps_bytes=maps_bytes,
                prepare=preparing,
            ),
            lambda threads: calibrate_staged(model, chosen, threads, precision),
        )
        staged, layout, tile_batch = choice.staged, choice.layout, choice.batch
        notes += about_extent(staged, image)
    else:
        layout = lay_out(
            image,
            model,
            bands,
            targets,
            probed.halo,
            cost,
            memory=accelerator_budget if accelerated else budget,
            tile=tile,
            workers=1 if accelerated else workers,
            context=needs_context and not known,
            batch=tile_batch or 1,
            maps_bytes=maps_bytes,
            prepare=preparing,
            invariance=invariance,
            block_bytes=0 if accelerated else block_bytes,
        )
    idle = process_memory()
    return Plan(
        key=key,
        image=image,
        model=model,
        bands=bands,
        other_bands=handling,
        targets=targets,
        extent=extent,
        tile=layout.tile,
        halo=probed.halo,
        tile_batch=tile_batch or 1,
        tiles=layout.tiles,
        workers=layout.workers,
        threads=layout.threads,
        device=chosen,
        memory=budget,
        read_cache_bytes=layout.read_cache_bytes,
        needs_context=needs_context,
        context_file=os.fspath(context) if context is not None else None,
        exclude=os.fspath(exclude) if exclude is not None else None,
        mask=os.fspath(mask) if mask is not None else None,
        feather=feather,
        **adjustment.to_dict(),
        black=black,
        white=white,
        maps=wanted_maps,
        pyramid=pyramid,
        centre_first=centre_first,
        store=store,
        added_ram_bytes=layout.peak_bytes,
        predicted_peak_ram_bytes=idle + layout.peak_bytes,
        predicted_peak_device_bytes=_device_peak(layout, staged, chosen),
        predicted_disk_bytes=_disk_bytes(image, targets, pyramid)
        + (0 if staged is None else staged.disk_bytes),
        predicted_seconds=layout.seconds,
        notes=tuple(notes),
        part=part,
        origin=origin,
        needs_context_pass=needs_context and not known,
        precision=precision,
        staged=staged,
        tile_invariance=invariance,
        prepare_seconds=preparing.seconds,
    )


def _fixed_tiles_note(card: ModelCard, tile: int | None) -> str:
    """Return the note why the requested tile size is not used."""
    instead = "" if tile is None else f" in place of {tile}"
    return (
        f"On this processor the last bit of what {card.id} computes follows the shape of a tile; "
        f"all runs take tiles of about {FIXED_TILE} pixels{instead}, so results stay the same."
    )


def _check_position_dependent(card: ModelCard, context: Any) -> None:
    """Raise for what whole-image maps do not support: other images, or tiles."""
    if card.scope == "swept":
        raise BadModel(
            f"The card of {card.id} says both placed and scope {card.scope!r}.",
            "Models of that scope get their position anyway; omit placed.",
        )
    if context is not None:
        raise card.no_shared_statistics()


def _device_peak(layout: Layout, staged: StagedLayout | None, device: Device) -> int:
    if not device.is_accelerator:
        return 0
    return layout.peak_bytes if staged is None else staged.device_bytes


def _targets(
    image: Image, region: Box | Sequence[Box] | None, notes: list[str]
) -> tuple[Region, ...]:
    """Return the regions clipped to the image.

    Raises `BadRegion` for an empty one or one outside.
    """
    whole = Region(0, 0, image.height, image.width)
    if region is None:
        return (whole,)
    if len(region) == 4 and not any(isinstance(part, (tuple, list)) for part in region):
        regions = [Region(*(int(v) for v in cast("Box", region)))]
    else:
        regions = [Region(*box) for box in cast("Sequence[Box]", region)]
    if not regions:
        raise BadRegion("No region was given.", "Give at least one, or none for the whole image.")
    targets = []
    for box in regions:
        if box.is_empty:
            raise BadRegion(
                f"The region is {box.width} × {box.height} pixels.", "Give it a width and a height."
            )
        inside = box.intersect(whole)
        if inside.is_empty:
            raise BadRegion(
                f"The region lies outside the image of {image.width} × {image.height} pixels.",
                "Regions are x, y, width, height from the top left corner.",
            )
        if inside != box:
            notes.append("The region reached beyond the image and was clipped to it.")
        targets.append(inside)
    return tuple(targets)


def _place_in(mosaic: Image, image: Image) -> tuple[int, int]:
    """Return (y, x) of `image`'s first pixel in `mosaic`."""
    box_of = getattr(mosaic.reader, "box_of", None)
    if box_of is None or image.path is None:
        raise BadRegion(f"{mosaic.name} is no mosaic of files.", "Open the files together.")
    y0, x0, _, _ = box_of(image.path)
    return y0, x0


def _needs_context(
    image: Image, model: RestorationModel, white: float | None, excludes: bool
) -> bool:
    """Return whether the whole image must be read before the first tile."""
    if model.card.needs_context or needs_percentile(image, white=white):
        return True
    # Networks see a neutral value where pixels do not count: the image's median.
    return bool((image.may_be_invalid or excludes) and not model.card.uses_validity)


def _is_known(image: Image, exclusion: Any, draft: Region | None, extent: str) -> bool:
    """Return whether no pass over the image is needed; quick, for the plan's summary."""
    return extent in ROUGH or context_path(image, exclusion, draft).exists()


def _context_name(
    context: Any, image: Image, exclusion: Any, draft: Region | None, extent: str
) -> str:
    if context is not None:
        load_context(Path(context), image)
        return hashlib.sha256(Path(context).read_bytes()).hexdigest()[:16]
    return context_key(image, exclusion, draft, extent=extent)


def _device_budget(device: Device, wanted: str | int | None, memory: int) -> int:
    """Return the bytes the run may take on an accelerator.

    This is the requested size, else 85 % of the free memory.
    """
    free = device.free_bytes()
    if wanted is not None:
        return parse_size(wanted) if free is None else min(parse_size(wanted), free)
    return memory if free is None else int(DEVICE_SHARE * free)


def _maps(wanted: bool | Sequence[str], offered: tuple[str, ...]) -> tuple[str, ...]:
    """Return the side maps to keep: the requested ones, or all of the model's."""
    if wanted is False:
        return ()
    possible = tuple(m for m in MAPS if m in offered or m in ("change", "quality"))
    if wanted is True:
        return possible
    unknown = [name for name in wanted if name not in possible]
    if unknown:
        raise BadParameter(f"There is no map {unknown[0]!r}.", f"Choose among {possible}.")
    return tuple(wanted)


def _disk_bytes(image: Image, targets: tuple[Region, ...], pyramid: bool) -> int:
    pixels = sum(target.pixels for target in targets)
    share = 4 / 3 if pyramid else 1.0
    return int(pixels * image_bytes(image) / max(1, image.height * image.width) * share)
