"""One picture of linear light as a bracket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from napari_restore import restore
from napari_restore.errors import BadParameter
from napari_restore.images import Image, bracket_of, open_image, srgb_of_light
from napari_restore.images.brackets.bracket import exposures_for


def light(height: int = 60, width: int = 80) -> np.ndarray:
    """(H, W, 3) linear light of a range of 12 EV."""
    across = 2 ** np.linspace(-6, 6, width)[None, :, None]
    values = across * np.random.default_rng(5).uniform(0.7, 1, (height, width, 3))
    return values.astype(np.float32)


SRGB = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
PLACES = {
    "BT.2020": (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    "ACES AP0": (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767),
    "ACEScg": (0.713, 0.293, 0.165, 0.83, 0.128, 0.044, 0.32168, 0.33767),
}
"""x and y of red, green, blue and white (ITU-R BT.2020, SMPTE ST 2065-1, ACES S-2014-004)."""
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def to_xyz(places: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The matrix from light to XYZ, and XYZ of white (SMPTE RP 177)."""
    *primaries, white = [np.array([x, y, 1 - x - y]) for x, y in np.reshape(places, (4, 2))]
    columns, white = np.transpose(primaries), white / white[1]
    return columns * np.linalg.solve(columns, white), white


def in_srgb(pixels: np.ndarray, places: tuple[float, ...]) -> np.ndarray:
    """Light in the primaries of sRGB, its white adapted by Bradford's matrix (ICC.1, annex E)."""
    (own, its_white), (srgb, white) = to_xyz(places), to_xyz(SRGB)
    gains = (BRADFORD @ white) / (BRADFORD @ its_white)
    adapted = np.linalg.inv(BRADFORD) @ np.diag(gains) @ BRADFORD @ own
    return pixels @ (np.linalg.inv(srgb) @ adapted).T


def light_file(path: Path, pixels: np.ndarray, places: tuple[float, ...]) -> Path:
    """Write an OpenEXR or a Radiance picture of these primaries."""
    if path.suffix == ".hdr":
        height, width = pixels.shape[:2]
        said = " ".join(map(str, places)).encode()
        exponent = np.floor(np.log2(pixels.max(2))) + 1
        mantissa = np.floor(pixels * 2.0 ** (8 - exponent[..., None]))
        stored = np.concatenate([mantissa, exponent[..., None] + 128], 2).astype(np.uint8)
        head = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\nPRIMARIES= %s\n\n-Y %d +X %d\n"
        path.write_bytes(head % (said, height, width) + stored.tobytes())
    else:
        import OpenEXR

        planes = {name: np.ascontiguousarray(pixels[..., n]) for n, name in enumerate("RGB")}
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "chromaticities": places}
        OpenEXR.File(header, planes).write(str(path))
    return path


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


@pytest.mark.parametrize("suffix", [".exr", ".hdr"])
@pytest.mark.parametrize("places", PLACES)
def test_light_of_the_primaries_in_a_file_is_shown_in_those_of_srgb(
    suffix: str, places: str, tmp_path: Path
) -> None:
    path = light_file(tmp_path / f"a{suffix}", light(), PLACES[places])
    picture = open_image(path)
    assert any("Its primaries are not those of sRGB" in note for note in picture.notes)
    pixels = whole(picture)
    assert np.array_equal(pixels, light()) or suffix == ".hdr"
    expected = np.clip(in_srgb(pixels, PLACES[places]) / 4, 0, 1)
    shown = 65535 * srgb_of_light(expected.astype(np.float32)).astype(float)
    frame = bracket_of([picture], exposures=[-2, 0]).frames[0]
    assert np.abs(whole(frame) - shown).max() <= 65535 * 2e-3
    assert np.abs(shown - 65535 * srgb_of_light(np.clip(pixels / 4, 0, 1))).max() > 65535 * 0.02


@pytest.mark.slow
def test_light_of_other_primaries_is_written_with_a_profile_of_them(tmp_path: Path) -> None:
    path = light_file(tmp_path / "a.exr", light(), PLACES["ACEScg"])
    copy = open_image(restore(path, "identity").save(tmp_path / "copy.tif"))
    assert np.array_equal(whole(copy), light())
    frames = [
        bracket_of([source], exposures=[-2, 0]).frames[0] for source in (copy, open_image(path))
    ]
    assert np.array_equal(*map(whole, frames))


def test_frames_of_floats_have_their_light_in_the_primaries_of_srgb(tmp_path: Path) -> None:
    places, pixels = PLACES["BT.2020"], np.clip(light() / 8, 0, 1)
    frames = [
        open_image(light_file(tmp_path / f"{n}.exr", pixels * np.float32(2.0**ev), places))
        for n, ev in enumerate((-2, 0))
    ]
    bracket = bracket_of(frames, exposures=[-2, 0], reference=1, align="off").as_light()
    assert bracket.profile.icc is None
    for frame in bracket.frames:
        assert np.abs(whole(frame) - in_srgb(pixels, places)).max() <= 1e-3


@pytest.mark.parametrize("places", [(0.3, 0.3) * 4, (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3, 0.0)])
def test_primaries_that_no_light_has_are_those_of_srgb(
    places: tuple[float, ...], tmp_path: Path
) -> None:
    picture = open_image(light_file(tmp_path / "a.exr", light(), places))
    assert picture.profile.icc is None
    assert any("are none of light" in note for note in picture.notes)
    plain = open_image(light_file(tmp_path / "b.exr", light(), SRGB))
    assert plain.notes == [] and plain.profile.icc is None


@pytest.mark.parametrize("kind", [b"string", b"float", b"v2f"])
def test_primaries_of_another_type_are_those_of_srgb(kind: bytes, tmp_path: Path) -> None:
    path = light_file(tmp_path / "a.exr", light(), PLACES["BT.2020"])
    head, name, rest = path.read_bytes().partition(b"chromaticities\0chromaticities\0")
    value = {b"string": b"light", b"float": b"\0\0\x80?", b"v2f": bytes(8)}[kind]
    size = len(value).to_bytes(4, "little")
    path.write_bytes(head + b"chromaticities\0" + kind + b"\0" + size + value + rest[36:])
    assert name and any("are none of light" in note for note in open_image(path).notes)


def test_numbers_of_radiance_that_are_none_are_passed_over(tmp_path: Path) -> None:
    path = light_file(tmp_path / "a.hdr", light(), SRGB)
    content = path.read_bytes()
    path.write_bytes(
        content.replace(b"PRIMARIES= 0.64", b"EXPOSURE=1-1\nPRIMARIES= 0.64-").replace(
            b" 0.06", b" e"
        )
    )
    picture = open_image(path)
    assert picture.notes == [] and picture.profile.icc is None
