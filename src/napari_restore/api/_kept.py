"""Results that stay in the cache, and the cache itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_restore.api._images import Pathlike, open_image
from napari_restore.api._recorded import with_consent
from napari_restore.api._repeating import plan_of

if TYPE_CHECKING:
    from napari_restore.engine import KeptResult, Plan, Result
    from napari_restore.images import CacheEntry


def keep_result(
    store: Pathlike,
    task: Mapping[str, Any],
    title: str,
    method: str,
    record: Mapping[str, Any] | None = None,
) -> str:
    """Leave a note in a store, so that `kept_results` finds what was made; returns its name.

    `task` is that of `task_of`, `title` what people know it by, `method` the model's
    title, `record` the run's once it has ended.
    """
    from napari_restore.engine import keep_result

    return keep_result(Path(store), task, title, method, record)


def kept_name(plan: Plan) -> str:
    """The name of the `KeptResult` that `plan` leaves: it tells areas of one store apart."""
    from napari_restore.engine import name_of_plan

    return name_of_plan(plan)


def kept_results(image: Any) -> list[KeptResult]:
    """Results of `image` that lie in the cache from earlier, the newest first.

    Reads a part of the image to know it again: not for the thread of a window.
    """
    from napari_restore.engine import kept_results

    return kept_results(open_image(image).fingerprint)


def result_of_kept(kept: KeptResult, image: Any, *, trust: bool = False) -> Result:
    """The pixels of a `KeptResult` of `image`. Makes its plan again: that may take seconds.

    Levels that the image lacks are those of the cache, if they are there. Raises
    `ResourceError` if other pixels would be made today, by another version of the
    model for instance.
    """
    from napari_restore.engine import Result
    from napari_restore.images import attach_pyramid

    planned = plan_of_kept(kept, image, trust=trust)
    attach_pyramid(planned.image)
    return Result.of_run(planned, kept.record or {})


def plan_of_kept(kept: KeptResult, image: Any, *, trust: bool = False) -> Plan:
    """The plan that makes a `KeptResult` of `image`, which may have another name now.

    Code of its model's file runs only with `trust`.
    """
    spec = open_image(image).spec
    # What the user said when the image was opened, not what the note in the cache says.
    allowed = spec is not None and bool(spec.get("allow_outside"))
    task = with_consent(kept.task, allow_outside=allowed)
    if spec is not None:
        task["image"] = {**task["image"], "source": spec["source"]}
    return replace(plan_of(task, trust=trust), store=kept.store)


def forget_result(store: Pathlike, name: str) -> bool:
    """Remove a `KeptResult`, and its store when it was the last; whether the store went.

    Raises `ResourceError` while somebody uses the store.
    """
    from napari_restore.engine import forget_result

    return forget_result(Path(store), name)


def cache_entries() -> list[CacheEntry]:
    """What lies in the cache, the most recently used first."""
    from napari_restore import images

    return images.cache_entries()


def clear_cache(*, needed: bool = False) -> int:
    """Empty the cache but for what is in use; returns the bytes freed.

    Masks that copied commands and records name stay without `needed`.
    """
    from napari_restore import images

    return images.clear_cache(needed=needed)
