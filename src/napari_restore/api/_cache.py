"""Results kept in the cache."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_restore import engine, images
from napari_restore.api._images import open_image
from napari_restore.api._record_file import with_consent
from napari_restore.api._tasks import plan_of

if TYPE_CHECKING:
    from napari_restore.engine import KeptResult, Plan, Result


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
