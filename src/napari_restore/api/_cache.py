"""Results kept in the cache, and the cache itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_restore import engine, images
from napari_restore.api._images import Pathlike, open_image
from napari_restore.api._record_file import with_consent
from napari_restore.api._tasks import plan_of
from napari_restore.images import (
    cache_entries as cache_entries,
    clear_cache as clear_cache,
    use_cache_folder as use_cache_folder,
)

if TYPE_CHECKING:
    from napari_restore.engine import KeptResult, Plan, Result


def keep_result(
    store: Pathlike,
    task: Mapping[str, Any],
    title: str,
    method: str,
    record: Mapping[str, Any] | None = None,
) -> str:
    """Register a result in its store, so that `kept_results` lists it; return its name.

    `task` is that of `task_of`, `title` the displayed name, `method` the model's title,
    `record` that of the run once it has ended.
    """
    return engine.keep_result(Path(store), task, title, method, record)


def kept_name(plan: Plan) -> str:
    """Return the name of the `KeptResult` of `plan`, unique among the areas of one store."""
    return engine.name_of_plan(plan)


def kept_results(image: Any) -> list[KeptResult]:
    """Return earlier results of `image` in the cache, the newest first.

    Reads a part of the image for its fingerprint: not for the GUI thread.
    """
    return engine.kept_results(open_image(image).fingerprint)


def result_of_kept(kept: KeptResult, image: Any, *, trust: bool = False) -> Result:
    """Open the pixels of a `KeptResult` of `image`. Plans again, which may take seconds.

    Pyramid levels that the image lacks are taken from the cache where it has them. Raises
    `ResourceError` if the run would give other pixels today, for instance with another
    version of the model.
    """
    planned = plan_of_kept(kept, image, trust=trust)
    images.attach_pyramid(planned.image)
    return engine.Result.of_run(planned, kept.record or {})


def plan_of_kept(kept: KeptResult, image: Any, *, trust: bool = False) -> Plan:
    """Return the plan of a `KeptResult` of `image`, whose path may have changed.

    Code of its model's file runs only with `trust`.
    """
    spec = open_image(image).spec
    # The consent given when the image was opened; the entry in the cache may come from anybody.
    allow_outside = spec is not None and bool(spec.get("allow_outside"))
    task = with_consent(kept.task, allow_outside=allow_outside)
    if spec is not None:
        task["image"] = {**task["image"], "source": spec["source"]}
    return replace(plan_of(task, trust=trust), store=kept.store)


def unlist_result(store: Pathlike, name: str) -> None:
    """Let `kept_results` list a result no more; its pixels stay in the cache for another run."""
    engine.unlist_result(Path(store), name)


def forget_result(store: Pathlike, name: str) -> bool:
    """Remove a `KeptResult`, and its store with the last one; return whether the store was removed.

    Raises `ResourceError` while the store is in use.
    """
    return engine.forget_result(Path(store), name)
