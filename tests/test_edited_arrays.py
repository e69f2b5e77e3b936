"""An array that is edited in place is another image: what was restored of it before is not shown again."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import PIL.Image
import pytest
import zarr

import napari_restore as nr
from napari_restore.errors import SourceChanged, UnreadableImage
from napari_restore.questions import Adjustment

VIEWS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda image: image,
    "bands": lambda image: image.with_bands([2, 1, 0]),
    "roles": lambda image: image.with_roles("red=3,blue=1"),
    "half": lambda image: image.resampled(Fraction(1, 2)),
    "placed": lambda image: image.placed([1, 0, 5, 0, 1, 7, 0, 0, 1], image.shape[:2]),
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


@pytest.mark.parametrize(
    ("kind", "view"),
    [
        *(("numpy", view) for view in VIEWS),
        *((kind, view) for kind in ("float", "zarr", "dask") for view in ("itself", "half")),
    ],
)
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


@pytest.mark.parametrize("kind", ["numpy", "file"])
def test_a_result_is_not_blended_with_pixels_that_came_later(kind: str, tmp_path: Path) -> None:
    array, path = pixels(), tmp_path / "scene.png"
    PIL.Image.fromarray(array).save(path)
    result = nr.restore(path if kind == "file" else array, "dcp", progress=False)
    whole, half = np.asarray(result), result.with_adjustment(Adjustment(strength=0.5))
    assert not np.array_equal(np.asarray(half), whole)
    array[:] = 255 - array
    PIL.Image.fromarray(array).save(path)
    doors: dict[str, Callable[[], Any]] = {
        "save": lambda: half.save(tmp_path / "half.png"),
        "array": lambda: half.array,
        "numpy": lambda: np.asarray(half),
        "from the start": lambda: result.with_adjustment(Adjustment(strength=0.5)).array,
    }
    for open_door in doors.values():
        with pytest.raises(SourceChanged, match=r"has changed since it was restored\."):
            open_door()
    assert not (tmp_path / "half.png").exists()
    # What was restored alone is as it was.
    assert np.array_equal(np.asarray(result), whole)


def test_maps_of_a_change_are_of_the_pixels_that_were_restored(tmp_path: Path) -> None:
    array = pixels()
    result = nr.restore(array, "dcp", progress=False, maps=True)
    array[:] = 255 - array
    with pytest.raises(SourceChanged, match="has changed since it was restored"):
        result.save_maps(tmp_path)


def test_a_frame_of_a_bracket_counts_as_well() -> None:
    frames = [pixels() // 2, pixels()]
    bracket = nr.open_bracket(frames, align="off")
    first = np.asarray(nr.restore(bracket, "mertens", progress=False).array)
    frames[0][:] = 255 - frames[0]
    again = np.asarray(nr.restore(bracket, "mertens", progress=False).array)
    expected = nr.restore(nr.open_bracket(frames, align="off"), "mertens", progress=False)
    assert np.array_equal(again, np.asarray(expected.array)) and not np.array_equal(again, first)


def test_a_picture_of_light_counts_as_well() -> None:
    light = pixels().astype(np.float32) / 100
    bracket = nr.open_bracket(light, exposures=[-2, 0, 2])
    first = np.asarray(nr.restore(bracket, "mertens", progress=False).array)
    light[:] = 2.6 - light
    again = np.asarray(nr.restore(bracket, "mertens", progress=False).array)
    fresh = nr.open_bracket(light.copy(), exposures=[-2, 0, 2])
    expected = np.asarray(nr.restore(fresh, "mertens", progress=False).array)
    assert np.array_equal(again, expected) and not np.array_equal(again, first)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "uint16"])
def test_masked_values_are_no_data(dtype: str) -> None:
    """Of a masked array as of a file with nodata, and what is edited in its mask counts."""
    values = pixels().astype(dtype)
    outside = np.zeros(values.shape[:2], bool)
    outside[20:40, 30:70] = True
    array = np.ma.array(values, mask=np.repeat(outside[..., None], 3, 2), fill_value=0)
    image = nr.open_image(array)
    assert np.array_equal(image.read_valid((0, 0, 90, 120)), ~outside)
    first = restored(image)
    expected = np.nan if dtype == "float32" else 0
    assert np.array_equal(first[outside], np.full((800, 3), expected), equal_nan=True)
    array[:10] = np.ma.masked
    assert nr.open_image(array).read_valid((0, 0, 90, 120))[:10].sum() == 0
    assert not np.array_equal(restored(image), first, equal_nan=True)


def test_integers_without_a_value_for_what_is_masked_are_refused() -> None:
    values = pixels()
    values[0, 0] = 0
    mask = np.zeros(values.shape, bool)
    mask[5:9] = True
    with pytest.raises(UnreadableImage, match="masked values, and 0, which would stand for them"):
        nr.open_image(np.ma.array(values, mask=mask, fill_value=0))
    mask[20, 20, 1] = True
    with pytest.raises(UnreadableImage, match="differs between its bands"):
        nr.open_image(np.ma.array(values, mask=mask, fill_value=0))


def test_a_preview_of_a_plan_does_not_read_a_lazy_array_again() -> None:
    import dask

    reads: list[int] = []

    def block() -> Any:
        reads.append(1)
        return pixels()

    image = nr.open_image(
        da.from_delayed(dask.delayed(block, pure=False)(), (90, 120, 3), np.uint8)
    )
    first = nr.plan(image, "dcp", compare=False)
    before = len(reads)
    assert nr.plan(image, "dcp", tile=64, compare=False).image is image and len(reads) == before
    assert nr.plan(image, "dcp").key == first.key and len(reads) > before
