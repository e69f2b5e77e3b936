"""An array that is edited in place is another image: what was restored of it before is not shown again."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr

import napari_restore as nr
from napari_restore.errors import SourceChanged

VIEWS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda image: image,
    "bands": lambda image: image.with_bands([2, 1, 0]),
    "roles": lambda image: image.with_roles("red=3,blue=1"),
    "half": lambda image: image.resampled(Fraction(1, 2)),
    "bands of half": lambda image: image.resampled(Fraction(1, 2)).with_bands([2, 1, 0]),
}


def pixels() -> Any:
    return np.random.default_rng(0).integers(60, 200, (90, 120, 3), np.uint8)


def held(kind: str) -> tuple[Any, Any]:
    """Return an array of a kind and what is edited in it."""
    if kind == "zarr":
        stored = zarr.create_array(store={}, shape=(90, 120, 3), chunks=(50, 60, 3), dtype="u1")
        stored[:] = pixels()
        return stored, stored
    array = pixels().astype(np.float32) / 255 if kind == "float" else pixels()
    if kind == "dask":
        # As blocks that are read when they are needed.
        blocks = [da.from_delayed(_block(array, y), (45, 120, 3), np.uint8) for y in (0, 45)]
        return da.concatenate(blocks), array
    return array, array


def _block(array: Any, y: int) -> Any:
    import dask

    return dask.delayed(lambda: array[y : y + 45].copy(), pure=False)()


def restored(image: Any) -> Any:
    return np.asarray(nr.restore(image, "dcp", progress=False).array)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", ["numpy", "float", "zarr", "dask"])
def test_the_result_is_that_of_the_values_now(kind: str, view: str) -> None:
    array, edited = held(kind)
    image = VIEWS[view](nr.open_image(array))
    image.read((0, 0, *image.shape[:2]))
    first = restored(image)
    assert np.array_equal(restored(image), first)
    edited[:] = (1 if kind == "float" else 255) - np.asarray(edited[:])
    again = restored(image)
    assert np.array_equal(again, restored(VIEWS[view](nr.open_image(np.array(array)))))
    assert not np.array_equal(again, first)


def test_an_edit_between_plan_and_run_is_told() -> None:
    array = pixels()
    plan = nr.plan(array, "dcp")
    array[40:50] = 0
    with pytest.raises(SourceChanged, match="array has changed since it was opened"):
        nr.start(plan).result()


def test_a_frame_of_a_bracket_counts_as_well() -> None:
    frames = [pixels() // 2, pixels()]
    bracket = nr.open_bracket(frames, align="off")
    first = np.asarray(nr.restore(bracket, "mertens", progress=False).array)
    frames[0][:] = 255 - frames[0]
    again = np.asarray(nr.restore(bracket, "mertens", progress=False).array)
    expected = nr.restore(nr.open_bracket(frames, align="off"), "mertens", progress=False)
    assert np.array_equal(again, np.asarray(expected.array)) and not np.array_equal(again, first)
