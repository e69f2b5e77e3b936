"""The one door: what window, command line and scripts use, and nothing deeper."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_restore.engine import Region

if TYPE_CHECKING:
    from napari_restore.engine import Job, Plan, Result
    from napari_restore.images import Image
    from napari_restore.models import ModelCard, RestorationModel

Pathlike = str | os.PathLike[str]


def open_image(
    source: Any,
    *,
    stack: bool = False,
    bands: Sequence[str] | None = None,
    sensor: str | None = None,
) -> Image:
    """Open a raster, photo, zarr or array lazily.

    Parameters
    ----------
    source
        A path, an array (H, W) or (H, W, C), or with `stack` several paths.
    stack
        Take several single-band files as one image.
    bands
        Roles in the file's order ("red", "green", "blue", "nir", … or "other").
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
    memory, device_memory, device, tile, tile_batch, scratch, context, maps, pyramid.
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
    import shutil

    from napari_restore.engine import Job, ProcessJob

    if fresh and plan.store.exists():
        shutil.rmtree(plan.store)
    task = task_of(plan) if process else None
    return Job(plan) if task is None else ProcessJob(plan, task)


def restore(image: Any, model: Any, **options: Any) -> Result:
    """Plan, run and wait: `.array`, `.record`, `.save(path)`. Options as for `plan`."""
    return start(plan(image, model, **options)).result()


def info(image: Any) -> dict[str, Any]:
    """How `image` is read: size, bands, roles, range, georeference, notes. JSON-able."""
    from napari_restore.images import describe

    return describe(open_image(image))


def task_of(plan: Plan) -> dict[str, Any] | None:
    """All a child process needs to make `plan` again; None if image or model cannot travel."""
    if plan.image.spec is None or not plan.model.spec:
        return None
    return {
        "image": plan.image.spec,
        "model": plan.model.spec,
        "options": {
            "region": [list(target) for target in plan.targets],
            "mask": plan.mask,
            "feather": plan.feather,
            "exclude": plan.exclude,
            "strength": plan.strength,
            "extent": plan.extent,
            "other_bands": plan.other_bands,
            "black": plan.black,
            "white": plan.white,
            "memory": plan.memory,
            "device": plan.device.name,
            "tile": plan.tile,
            "tile_batch": plan.tile_batch,
            "workers": plan.workers,
            "scratch": os.fspath(plan.store.parent),
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
    return plan(Image.from_spec(task["image"]), load_model(**task["model"]), **options)


def rerun(record: Pathlike, output: Pathlike | None = None, **options: Any) -> Result:
    """Repeat the run of a record; `output` defaults to the record's own path."""
    from napari_restore.records import read_record

    told = read_record(Path(record))
    again = plan_of(told["task"])
    result = start(again).result()
    target = output or told["output"]["path"]
    result.save(target, **options)
    return result
