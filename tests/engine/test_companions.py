"""Runs that see the other frames of a bracket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from tests.models.test_mertens import frames, fused

import napari_restore as nr
from napari_restore import Region, api
from napari_restore.errors import BadParameter
from napari_restore.images import Image, bracket_of, open_image
from napari_restore.models import for_frames


@pytest.fixture(autouse=True)
def small_trials(measured_on: Callable[..., None]) -> None:
    """What a tile costs is measured on small ones."""
    measured_on(64, 128)


def bracket(size: tuple[int, int] = (290, 333), kind: Any = np.float32) -> Image:
    scale = np.iinfo(kind).max if np.issubdtype(kind, np.integer) else 1
    return bracket_of(
        [open_image((f * scale).astype(kind)) for f in frames(*size)], None, (-2, 0, 2)
    )


@pytest.mark.slow
@pytest.mark.parametrize("tile", [128, 256])
def test_tile_by_tile_is_the_whole(tile: int) -> None:
    result = nr.restore(bracket(), "mertens", tile=tile)
    expected = fused(frames(290, 333).astype(np.float32))
    assert np.abs(np.asarray(result.array) - expected).max() <= 1e-6
    assert result.record["reference"] == 1
    assert [each["ev"] for each in result.record["frames"]] == [-2, 0, 2]


@pytest.mark.slow
def test_bytes_do_not_depend_on_tiles_and_a_region_is_cut_of_the_whole() -> None:
    image = bracket(kind=np.uint8)
    whole, other = (np.asarray(nr.restore(image, "mertens", tile=tile)) for tile in (128, 256))
    assert np.array_equal(whole, other)
    # What the coarse levels hold is known by now: this runs no sweep over the image.
    area = Region(60, 41, 201, 190)
    assert not nr.plan(image, "mertens", region=area, tile=128).sweeps_image
    part = nr.restore(image, "mertens", region=area, tile=128)
    assert np.array_equal(np.asarray(part), whole[area.slices])


@pytest.mark.slow
@pytest.mark.parametrize("reference", [0, 1])
@pytest.mark.ids("nightly", "0")
def test_deghosting_does_not_depend_on_tiles_and_leaves_a_map(
    reference: int, tmp_path: Path
) -> None:
    given = frames(290, 333)
    given[2, 100:160, 90:150] = (0.1, 0.9, 0.2)
    codes = (given * 255).astype(np.uint8)
    image = bracket_of([open_image(f) for f in codes], reference, (-2, 0, 2), align=False)
    model = nr.load_model("mertens", parameters={"deghost": 1.0})
    whole = nr.restore(image, model, tile=512, maps=True)
    other = nr.restore(image, model, tile=128, maps=True)
    assert np.array_equal(np.asarray(whole), np.asarray(other))
    assert not np.array_equal(np.asarray(whole), np.asarray(nr.restore(image, "mertens")))
    x = torch.from_numpy(codes).permute(0, 3, 1, 2).reshape(1, 9, 290, 333)
    y, maps = for_frames(model, 3, reference).forward_with_maps(x / 255)
    assert np.abs(np.asarray(whole) - y[0].permute(1, 2, 0).numpy() * 255).max() <= 0.51
    whole.save_maps(tmp_path)
    (path,) = (file for file in tmp_path.iterdir() if "ghosts" in file.name)
    saved = open_image(path).read((0, 0, 290, 333))[..., 0]
    np.testing.assert_allclose(saved, maps["ghosts"][0, 0].numpy(), atol=1e-3)
    assert saved[110:150, 100:140].min() > 0.9


@pytest.mark.nightly
def test_a_child_process_runs_it_as_well(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, frame in zip(paths, frames(150, 170), strict=True):
        Pillow.fromarray((frame * 255).astype(np.uint8)).save(path)
    image = nr.open_bracket(paths, align="off")
    result = nr.start(nr.plan(image, "mertens"), process=True).result()
    expected = np.asarray(result.array)
    result.store.remove()
    assert np.array_equal(expected, np.asarray(nr.restore(image, "mertens", progress=False)))


@pytest.mark.nightly
def test_light_goes_to_a_child_and_to_levels(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, frame in zip(paths, frames(150, 170), strict=True):
        Pillow.fromarray((frame * 255).astype(np.uint8)).save(path)
    image = nr.open_bracket(paths, exposures=(-2, 0, 2), align="off")
    planned = nr.plan(image, "radiance")
    assert planned.image.dtype == np.float32 and image.dtype == np.uint8
    result = nr.start(planned, process=True).result()
    expected = np.asarray(result.array)
    result.store.remove()
    same = np.asarray(nr.restore(planned.image, "radiance", progress=False))
    assert expected.dtype == np.float32 and np.array_equal(expected, same)
    weights = api.frame_weights(planned)
    assert np.allclose(weights.sum(0), 1)
    whole = planned.image.read((0, 0, 150, 170))
    levels = nr.open_bracket(
        [[frame.read((0, 0, 150, 170))[::s, ::s] for s in (1, 2)] for frame in image.frames],
        exposures=(-2, 0, 2),
        align="off",
    )
    view = nr.plan(levels.level_view(1), "radiance")
    assert view.image.full is not None and view.image.scale == 2
    assert np.array_equal(view.image.read((0, 0, 75, 85)), whole[::2, ::2])


@pytest.mark.parametrize("tile", [128, 256])
def test_a_region_alone_is_fused_at_its_place(tile: int) -> None:
    area = Region(140, 150, 200, 210)
    result = nr.restore(bracket(), "mertens", region=area, extent="region", tile=tile)
    y0, x0, y1, x1 = result.record["plan"]["staged"]["box"]
    alone = fused(frames(290, 333).astype(np.float32)[:, y0:y1, x0:x1])
    expected = alone[140 - y0 : 200 - y0, 150 - x0 : 210 - x0]
    assert np.abs(np.asarray(result.array) - expected).max() <= 1e-6


def test_equal_frames_leave_the_image_as_it_is() -> None:
    pixels = (frames(140, 150)[1] * 65535).astype(np.uint16)
    same = bracket_of([open_image(pixels)] * 3, None, (0, 0, 0), align="off")
    assert np.array_equal(np.asarray(nr.restore(same, "mertens")), pixels)


@pytest.mark.slow
def test_frames_are_part_of_what_identifies_a_run() -> None:
    image = bracket((140, 150))
    assert image.companions is not None
    first = nr.plan(image, "mertens")
    fewer = bracket_of(image.frames[:2], 1, (-2, 0), align="off")
    assert nr.plan(fewer, "mertens").key != first.key
    assert nr.plan(bracket((140, 150)), "mertens").key == first.key


def test_pixels_of_a_frame_that_are_not_finite_weigh_nothing() -> None:
    given = frames(140, 150).astype(np.float32)
    given[2, 20:60, 30:70] = np.nan
    broken = bracket_of([open_image(f) for f in given], None, (-2, 0, 2), align="off")
    result = np.asarray(nr.restore(broken, "mertens"))
    assert np.isfinite(result).all()
    given[2, 20:60, 30:70] = 0.5
    sound = bracket_of([open_image(f) for f in given], None, (-2, 0, 2), align="off")
    assert np.abs(np.asarray(nr.restore(sound, "mertens")) - result).max() > 1e-3


def test_a_bracket_is_not_restored_by_a_model_of_one_image() -> None:
    with pytest.raises(BadParameter, match="single image"):
        nr.plan(bracket(), "dcp")
    with pytest.raises(BadParameter, match="Give two frames"):
        nr.plan(open_image(np.zeros((40, 50, 3), np.uint8)), "mertens")


def test_the_weights_of_frames_are_those_of_the_model() -> None:
    image = bracket((64, 96))
    weights = api.frame_weights(nr.plan(image, "mertens"))
    model = for_frames(nr.load_model("mertens"), 3)
    planes = torch.from_numpy(frames(64, 96).astype(np.float32)).permute(0, 3, 1, 2)[None]
    np.testing.assert_allclose(weights, model.weights(planes)[0, :, 0], atol=1e-6)
    assert np.allclose(weights.sum(0), 1)
    with pytest.raises(BadParameter, match="no weights"):
        api.frame_weights(nr.plan(np.zeros((40, 40, 3), np.uint8), "identity"))
