"""The one door: what window, command line and scripts use, and nothing deeper."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_restore.engine import Note, Phase, Progress, Region, TileDone

if TYPE_CHECKING:
    from napari_restore.engine import Job, Plan, Result
    from napari_restore.images import CacheEntry, Image
    from napari_restore.models import ModelCard, RestorationModel

__all__ = [
    "Note",
    "Phase",
    "Progress",
    "Region",
    "TileDone",
    "cache_entries",
    "check_export",
    "check_output",
    "clear_cache",
    "info",
    "load_model",
    "models",
    "open_image",
    "open_mosaic",
    "output_box",
    "plan",
    "plan_of",
    "repeat_of",
    "rerun",
    "restore",
    "save_context",
    "start",
    "task_of",
]

Pathlike = str | os.PathLike[str]


def open_image(
    source: Any,
    *,
    stack: bool = False,
    bands: str | Mapping[str, int] | None = None,
    sensor: str | None = None,
) -> Image:
    """Open a raster, photo, zarr or array lazily.

    Parameters
    ----------
    source
        A path; several paths, side by side on one map grid or with `stack` the bands
        of one image; an array (H, W) or (H, W, C), or a list of its levels.
    stack
        Take several single-band files as one image.
    bands
        Which band is what, counted from 1: "red=4,green=3,blue=2,nir=5" or a mapping.
    sensor
        A preset ("landsat8", "sentinel2", "naip" …) for roles, wavelengths and scale.

    Raises
    ------
    napari_restore.errors.UnreadableImage
        With one sentence naming the cause.
    """
    from napari_restore import images

    if isinstance(source, images.Image):
        return source
    return images.open_image(source, stack=stack, bands=bands, sensor=sensor)


def load_model(
    model: Any,
    *,
    weights: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> RestorationModel:
    """Load a model by id, by ``"FILE.py:factory"``, by weights file, or wrap a module.

    `weights` is a file or ``"random:SEED"``; foreign Python runs only with `trust`.
    The result is a `torch.nn.Module` with a `.card`.
    """
    from napari_restore.models import load

    return load(model, weights=weights, parameters=parameters, card=card, trust=trust)


def models() -> tuple[ModelCard, ...]:
    """The cards of all known models."""
    from napari_restore.models import card_of, model_ids

    return tuple(card_of(name) for name in model_ids())


def plan(image: Any, model: Any, **options: Any) -> Plan:
    """What restoring `image` with `model` will do; see `napari_restore.engine.make_plan`.

    `image` may be anything `open_image` takes and `model` an id; `options` are
    region, mask, feather, exclude, strength, extent, other_bands, black, white,
    memory, device_memory, device, tile, tile_batch, scratch, context, maps, pyramid,
    mosaic.
    """
    from napari_restore.engine import make_plan

    opened = open_image(image)
    loaded = load_model(model) if isinstance(model, str) else model
    return make_plan(opened, loaded, **options)


def start(plan: Plan, *, process: bool = False, fresh: bool = False) -> Job:
    """Run `plan`: iterate over the job for its events.

    With `process` it runs in a child process, so that a window stays free; arrays
    and modules that only this process holds run on a thread all the same.
    `fresh` discards what an earlier, unfinished run left.
    """
    from napari_restore.engine import Job, ProcessJob, discard

    if fresh:
        discard(plan.store)
    task = task_of(plan) if process else None
    if task is None:
        return Job(plan)
    # Here the child finds its pixels, and takes no more than was planned.
    here = {"store": os.fspath(plan.store), "memory": plan.memory, "workers": plan.workers}
    return ProcessJob(plan, {**task, "here": {**here, "device": plan.device.name}})


def restore(image: Any, model: Any, **options: Any) -> Result:
    """Plan, run and wait: `.array`, `.record`, `.save(path)`. Options as for `plan`."""
    return start(plan(image, model, **options)).result()


def info(image: Any) -> dict[str, Any]:
    """How `image` is read: size, bands, roles, range, georeference, notes. JSON-able."""
    from napari_restore.images import describe

    return describe(open_image(image))


def task_of(plan: Plan) -> dict[str, Any] | None:
    """All that is needed to make `plan` again elsewhere; None if image or model cannot travel.

    What belongs to one machine – memory, workers, device, scratch – is left out.
    """
    if plan.image.spec is None or not plan.model.spec:
        return None
    y, x = plan.origin
    return {
        "image": plan.image.spec if plan.part is None else plan.part.spec,
        "mosaic": None if plan.part is None else plan.image.spec,
        "model": plan.model.spec,
        "options": {
            "region": [list(target.shift(-y, -x)) for target in plan.targets],
            "mask": plan.mask,
            "feather": plan.feather,
            "exclude": plan.exclude,
            "strength": plan.strength,
            "extent": plan.extent,
            "other_bands": plan.other_bands,
            "black": plan.black,
            "white": plan.white,
            "tile": plan.tile,
            "tile_batch": plan.tile_batch,
            "context": plan.context_file,
            "maps": list(plan.maps),
            "pyramid": plan.pyramid,
        },
    }


def plan_of(task: Mapping[str, Any]) -> Plan:
    """The plan that `task_of` described."""
    from napari_restore.images import Image

    options = dict(task["options"])
    options["region"] = [Region(*box) for box in options["region"]]
    if task.get("mosaic") is not None:
        options["mosaic"] = Image.from_spec(task["mosaic"])
    here = dict(task.get("here", {}))
    store = here.pop("store", None)
    made = plan(Image.from_spec(task["image"]), load_model(**task["model"]), **options, **here)
    return made if store is None else replace(made, store=Path(store))


def rerun(record: Pathlike, output: Pathlike | None = None, **options: Any) -> Result:
    """Repeat the run of a record; `output` defaults to the record's own path.

    `options` are those of `Result.save`, by default the record's. Raises `InputError`
    when the record does not say enough and `SourceChanged` when the image is not the
    one it tells of.
    """
    planned, path, told = repeat_of(record, output)
    chosen = {**told, **options}
    check_output(path, planned.part or planned.image, region=output_box(planned), **chosen)
    result = start(planned).result()
    result.save(path, **chosen)
    return result


def repeat_of(
    record: Pathlike, output: Pathlike | None = None
) -> tuple[Plan, Path, dict[str, Any]]:
    """What repeats the run of a record: its plan, the path to write, options of `Result.save`.

    Raises `InputError` and `SourceChanged`; see `rerun`.
    """
    from napari_restore.errors import InputError, SourceChanged
    from napari_restore.records import read_record

    told: dict[str, Any] = dict(read_record(Path(record)))
    written = told["output"] or {}
    path = output or written.get("path")
    if told.get("task") is None or path is None:
        raise InputError(
            f"{record} does not say enough to repeat its run.",
            "Only finished runs of images that lie in files can be repeated.",
        )
    planned = plan_of(told["task"])
    if planned.image.fingerprint != told["input"]["fingerprint"]:
        raise SourceChanged(
            f"{planned.image.name} is not the image that {record} tells of.",
            "Restore it as a new image: napari-restore restore.",
        )
    return planned, Path(path), dict(written.get("options", {}))


def output_box(plan: Plan) -> Region | None:
    """The box of the output in pixels of its image; None for all of it."""
    y, x = plan.origin
    return None if plan.mask is not None else plan.region.shift(-y, -x)


def save_context(images: Sequence[Any], path: Pathlike, exclude: Pathlike | None = None) -> Path:
    """Write the whole-image facts of `images`, taken as one, for the option `context`.

    `exclude` is a mask of pixels that do not count; with several images only
    polygons (GeoJSON) fit them all.
    """
    from napari_restore.engine import context_of_images, save_context

    target = Path(path)
    save_context(target, context_of_images([open_image(image) for image in images], exclude))
    return target


def open_mosaic(sources: Sequence[Pathlike], **options: Any) -> Image | None:
    """Open files that lie on one map grid as one image; None if they do not.

    `options` are those of `open_image`.
    """
    from napari_restore.errors import UnreadableImage

    try:
        return open_image([os.fspath(source) for source in sources], **options)
    except UnreadableImage:
        return None


def check_output(
    path: Pathlike,
    image: Any,
    overwrite: bool = False,
    *,
    region: Sequence[int] | None = None,
    **options: Any,
) -> None:
    """Raise `BadOutput` if the result of `image` cannot be written to `path`.

    `region` (y0, x0, y1, x1) is the part that will be written, by default all;
    `options` are those of `Result.save`.
    """
    from napari_restore import images

    opened = open_image(image)
    inputs = [] if opened.path is None else list(opened.reader.files())
    whole = Region(0, 0, opened.height, opened.width)
    part = whole if region is None else Region(*region).intersect(whole)
    height, width = (whole if part.is_empty else part).shape
    images.check_output(
        Path(path),
        inputs,
        overwrite,
        like=opened,
        shape=(height, width, opened.bands),
        options=images.ExportOptions(**options),
    )


def check_export(**options: Any) -> None:
    """Raise `BadOutput` if `options` of `Result.save` do not exist or go beyond their limits."""
    from napari_restore import images

    images.ExportOptions(**options)


def cache_entries() -> list[CacheEntry]:
    """What lies in the cache, the most recently used first."""
    from napari_restore import images

    return images.cache_entries()


def clear_cache() -> int:
    """Empty the cache; returns the bytes freed."""
    from napari_restore import images

    return images.clear_cache()
