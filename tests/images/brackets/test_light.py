"""One picture of linear light as a bracket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from napari_restore.errors import BadParameter
from napari_restore.images import Image, bracket_of, open_image, srgb_of_light
from napari_restore.images.brackets.bracket import exposures_for


def light(height: int = 60, width: int = 80) -> np.ndarray:
    """(H, W, 3) linear light of a range of 12 EV."""
    across = 2 ** np.linspace(-6, 6, width)[None, :, None]
    values = across * np.random.default_rng(5).uniform(0.7, 1, (height, width, 3))
    return values.astype(np.float32)


def whole(image: Image) -> np.ndarray:
    return image.read((0, 0, image.height, image.width))


def test_frames_are_the_picture_exposed() -> None:
    pixels = light()
    bracket = bracket_of([open_image(pixels)], exposures=[2, -3, 0])
    assert bracket.companions is not None
    assert bracket.companions.exposures == (-3, 0, 2)
    assert {frame.dtype for frame in bracket.frames} == {np.dtype(np.uint16)}
    for frame, ev in zip(bracket.frames, (-3, 0, 2), strict=True):
        shown = srgb_of_light(np.clip(pixels * np.float32(2.0**ev), 0, 1))
        assert np.abs(whole(frame) - 65535 * shown.astype(float)).max() <= 0.51
    assert any("−3, +0, +2 EV" in note for note in bracket.notes)


def test_a_reference_may_be_any_exposure() -> None:
    bracket = bracket_of([open_image(light())], exposures=[-3, 0, 2], reference=2)
    assert bracket.companions is not None and bracket.companions.exposures == (-5, -2, 0)


def test_exposures_follow_from_the_range() -> None:
    pixels = np.full((40, 40, 3), 0.18 / 64, np.float32)
    pixels[:20] = 16
    evs = exposures_for(open_image(pixels))
    assert evs == [-4, -2, 0, 2, 4, 6]
    # A flat picture has two at least, one of any range at most seven.
    assert len(exposures_for(open_image(np.full((40, 40, 3), 0.5, np.float32)))) == 2
    pixels[:20] = 1e9
    assert len(exposures_for(open_image(pixels))) == 7
    bracket = bracket_of([open_image(pixels)])
    assert len(bracket.frames) == 7


def test_pixels_without_light_count_nowhere() -> None:
    pixels = light()
    pixels[:5] = np.nan
    pixels[5:10] = np.inf
    pixels[10:30] = -1
    pixels[30:40] = 0
    evs = exposures_for(open_image(pixels))
    assert all(np.isfinite(evs))
    frame = bracket_of([open_image(pixels)], exposures=[0, 50]).frames[1]
    valid = frame.read_valid((0, 0, 60, 80))
    assert not valid[:10].any() and valid[10:].all()
    shown = whole(frame)
    assert not shown[10:40].any() and (shown[40:] == 65535).all()
    with pytest.raises(BadParameter, match="no light above 0"):
        bracket_of([open_image(np.zeros((20, 20, 3), np.float32))])


def test_alpha_is_no_light() -> None:
    pixels = np.dstack([light(), np.full((60, 80), 0.5, np.float32)])
    pixels[:7, :, 3] = 0
    frame = bracket_of([open_image(pixels)], exposures=[-2, 0]).frames[0]
    assert frame.roles == ("red", "green", "blue", "alpha")
    assert set(np.unique(whole(frame)[..., 3])) == {0, 32768}
    assert not frame.read_valid((0, 0, 7, 80)).any()


@pytest.mark.parametrize("evs", [[0.0], []])
def test_one_exposure_is_no_bracket(evs: list[float]) -> None:
    with pytest.raises(BadParameter, match="exposed once"):
        bracket_of([open_image(light())], exposures=evs)


@pytest.mark.parametrize("ev", [float("nan"), float("inf"), 200])
def test_an_exposure_is_a_number_that_light_has(ev: float) -> None:
    with pytest.raises(BadParameter, match="no exposure of"):
        bracket_of([open_image(light())], exposures=[0, ev])


def test_light_of_photos_is_decoded_before_the_first_tile(
    tmp_path: Path, streamed_above: Callable[[int], None]
) -> None:
    streamed_above(1000)
    for name, ev in (("a", -2), ("b", 0)):
        shown = srgb_of_light(np.clip(light() * np.float32(2.0**ev), 0, 1))
        Pillow.fromarray(np.rint(shown * 255).astype(np.uint8)).save(tmp_path / f"{name}.png")
    photos = [open_image(tmp_path / f"{name}.png") for name in "ab"]
    bracket = bracket_of(photos, exposures=[-2, 0], align="off").as_light()
    assert not any(frame.is_prepared for frame in bracket.frames)
    for frame in bracket.frames:
        frame.prepare()
    assert all(frame.is_prepared for frame in (*bracket.frames, *photos))
    dark, bright = (whole(frame) for frame in bracket.frames)
    unclipped = light().max(axis=2) < 0.9
    assert np.abs(dark - bright)[unclipped].max() < 0.05
    assert bracket.spec is not None and bracket.spec["light"] is True
    again = Image.from_spec(bracket.spec)
    assert again.frames_fingerprint == bracket.frames_fingerprint
    assert again.as_light() is again
    with pytest.raises(BadParameter, match="no exposure of"):
        bracket_of(photos, exposures=[-50, 50], align="off").as_light()


def test_integers_are_no_light() -> None:
    with pytest.raises(BadParameter, match="one frame"):
        bracket_of([open_image(np.zeros((9, 9, 3), np.uint16))], exposures=[-2, 0, 2])


def test_the_bracket_of_a_file_is_opened_again(tmp_path: Path) -> None:
    large = np.repeat(np.repeat(light(), 40, 0), 40, 1)
    tifffile.imwrite(tmp_path / "light.tif", large, tile=(256, 256), photometric="rgb")
    picture = open_image(tmp_path / "light.tif")
    bracket = bracket_of([picture], exposures=[-4, -1, 2])
    assert bracket.spec is not None and len(bracket.level_shapes) > 1
    again = Image.from_spec(bracket.spec)
    assert again.frames_fingerprint == bracket.frames_fingerprint
    assert len({frame.fingerprint for frame in bracket.frames}) == 3
    view = bracket.level_view(1)
    assert view.spec is not None
    box = (3, 5, 400, 300)
    for frame, same in zip(view.frames, Image.from_spec(view.spec).frames, strict=True):
        assert np.array_equal(frame.read(box), same.read(box))
        assert frame.fingerprint == same.fingerprint
    # Tile by tile: the chunks of a frame do not depend on those of the light.
    assert bracket.chunk == (256, 256)
    one_band = again.with_bands([1])
    assert np.array_equal(one_band.read(box)[..., 0], bracket.read(box)[..., 1])


def test_light_of_other_primaries_is_shown_in_those_of_srgb(tmp_path: Path) -> None:
    """By the primaries of ROMM RGB (ISO 22028-2) and of IEC 61966-2-1, through XYZ of D50."""
    places = {"whitepoint": [0.3457, 0.3585, 1.0], "gamma": 1.0}
    primaries = [0.7347, 0.2653, 1.0, 0.1596, 0.8404, 1.0, 0.0366, 0.0001, 1.0]
    icc = bytes(imagecodecs.cms_profile("rgb", primaries=primaries, **places))
    pixels = light()
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", iccprofile=icc)
    bracket = bracket_of([open_image(path)], exposures=[-2, 0])
    to_srgb = np.array(
        [[2.0344, -0.7276, -0.3069], [-0.2289, 1.2318, -0.0028], [-0.0085, -0.1533, 1.1618]]
    )
    for frame, ev in zip(bracket.frames, (-2, 0), strict=True):
        shown = srgb_of_light(np.clip(pixels @ to_srgb.T * 2.0**ev, 0, 1).astype(np.float32))
        assert np.abs(whole(frame) - 65535 * shown.astype(float)).max() <= 65535 * 0.01
    assert not any("is no light" in note for note in bracket.notes)
    tifffile.imwrite(
        path, pixels, photometric="rgb", iccprofile=bytes(imagecodecs.cms_profile("srgb"))
    )
    assert any("says that it is no light" in n for n in bracket_of([open_image(path)]).notes)
