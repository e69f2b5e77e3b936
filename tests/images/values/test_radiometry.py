"""From source values to the model's range and back: exact, honest about zero and white."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_restore.errors import BadParameter
from napari_restore.images import (
    Radiometry,
    needs_percentile,
    note_of_zero,
    open_image,
    resolve_radiometry,
)

MakeTiff = Callable[..., Path]
Noise = Callable[..., np.ndarray]
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")


def of(black: float, white: float, bands: int = 3) -> Radiometry:
    return Radiometry(np.full(bands, black), white, "", "")


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_change_gives_the_source_bit_for_bit(noise: Noise, dtype: str) -> None:
    source = noise(30, 20, 3, dtype)
    if source.dtype.kind == "f":
        source[0, 0] = (np.nan, np.inf, -0.0)
    change = np.zeros(source.shape, np.float32)
    result = of(3, 200).apply_change(source, change, (0, 1, 2), nodata=0)
    assert result.dtype == source.dtype
    assert result.tobytes() == source.tobytes()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
def test_tile_is_the_exact_map_rounded_once(noise: Noise, dtype: str) -> None:
    source = noise(40, 30, 3, dtype)
    radiometry = Radiometry(np.array([0.0, 10.5, -3.0]), 222.0, "", "")
    tile = radiometry.to_model_tile(source, (2, 0))
    expected = radiometry.to_model(source)[..., [2, 0]].astype(np.float32)
    np.testing.assert_array_equal(tile, expected)


def test_change_is_in_model_units_rounded_and_clamped() -> None:
    source = np.array([[[10], [250], [3], [100]]], np.uint8)
    change = np.array([[[0.1], [0.1], [-0.1], [0.0024]]], np.float32)
    result = of(0, 255, 1).apply_change(source, change, (0,))
    assert result.ravel().tolist() == [36, 255, 0, 101]


def test_bands_have_their_own_black() -> None:
    radiometry = Radiometry(np.array([0.0, 50.0]), 100.0, "", "")
    source = np.full((1, 1, 1), 10, np.uint16)
    change = np.full((1, 1, 1), 0.5, np.float32)
    assert radiometry.apply_change(source, change, (1,)).item() == 35
    assert radiometry.apply_change(source, change, (0,)).item() == 60


@pytest.mark.parametrize(
    ("dtype", "nodata", "source", "change", "expected"),
    [
        ("uint8", 0, 5, -0.5, 1),
        ("uint8", 255, 200, 0.9, 254),
        ("uint8", 100, 110, -10 / 255, 101),
        ("uint8", 100, 90, 10 / 255, 99),
        ("int16", -32768, 0, -200.0, -32767),
        ("uint8", 0, 0, -0.5, 0),
    ],
)
def test_valid_is_never_written_as_nodata(
    dtype: str, nodata: int, source: int, change: float, expected: int
) -> None:
    pixels = np.full((1, 1, 1), source, dtype)
    changes = np.full((1, 1, 1), change, np.float32)
    assert of(0, 255, 1).apply_change(pixels, changes, (0,), nodata).item() == expected


def test_float_nodata_is_stepped_over() -> None:
    source = np.full((1, 1, 1), 1.0, np.float32)
    change = np.full((1, 1, 1), -1.0, np.float32)
    result = of(0, 1, 1).apply_change(source, change, (0,), nodata=0.0).item()
    assert 0 < result < 1e-40


def test_change_that_is_not_finite_is_no_change() -> None:
    source = np.full((1, 2, 1), 7, np.uint8)
    change = np.array([[[np.nan], [np.inf]]], np.float32)
    assert of(0, 255, 1).apply_change(source, change, (0,)).ravel().tolist() == [7, 7]


def test_values_beyond_white_are_carried() -> None:
    source = np.full((1, 1, 1), 60000, np.uint16)
    radiometry = of(0, 1000, 1)
    assert radiometry.to_model_tile(source, (0,)).item() == 60
    change = np.full((1, 1, 1), 0.001, np.float32)
    assert radiometry.apply_change(source, change, (0,)).item() == 60001


def slowly(
    radiometry: Radiometry, source: np.ndarray, change: np.ndarray, bands: tuple[int, ...]
) -> np.ndarray:
    """What `apply_change` promises, in doubles and in one go."""
    exact = (
        source
        + np.nan_to_num(change.astype(np.float64), posinf=0, neginf=0)
        * (radiometry.span[list(bands)])
    )
    if source.dtype.kind == "f":
        return exact.astype(source.dtype)
    limits = np.iinfo(source.dtype)
    return np.clip(np.rint(exact), limits.min, limits.max).astype(source.dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("black", [[0, 0, 0], [3, 1, 0]])
def test_strips_and_layouts_make_no_difference(
    noise: Noise, monkeypatch: pytest.MonkeyPatch, dtype: str, planar: bool, black: list[int]
) -> None:
    monkeypatch.setattr("napari_restore.images.values.radiometry.STRIP_BYTES", 4 * 3 * 50 * 7)
    # A view into a larger tile, as the engine cuts the halo off.
    source = noise(46, 60, 3, dtype)[3:-3, 5:-5]
    # Sixteenths of a unit are exact in either precision, so that rounding must agree.
    steps = np.random.default_rng(1).integers(-900, 900, (40, 50, 3))
    change = (steps / 16).astype(np.float32)
    change[17, 20] = np.nan
    change[39, 49, 1] = -np.inf
    if planar:
        change = np.ascontiguousarray(change.transpose(2, 0, 1)).transpose(1, 2, 0)
    radiometry = Radiometry(np.array(black, float), 256.0, "", "")
    result = radiometry.apply_change(source, change, (0, 1, 2))
    np.testing.assert_array_equal(result, slowly(radiometry, source, change, (0, 1, 2)))
    assert result.flags.c_contiguous
    some = radiometry.apply_change(source[..., [2, 0]], change[..., [2, 0]], (2, 0))
    np.testing.assert_array_equal(some, result[..., [2, 0]])


def test_a_sum_that_overflows_is_no_failure() -> None:
    source = np.full((4, 4, 3), 7, np.uint8)
    change = np.full((4, 4, 3), 3e38, np.float32)
    change[0, 0] = -3e38
    result = of(0, 255).apply_change(source, change, (0, 1, 2))
    assert result[0, 0].tolist() == [0, 0, 0]
    assert result[1:].min() == 255


def test_nodata_that_no_pixel_can_hold_is_left_alone() -> None:
    source = np.full((1, 2, 1), 7, np.uint8)
    change = np.full((1, 2, 1), 0.1, np.float32)
    for nodata in (-9999.0, 32.5, float("nan")):
        assert of(0, 255, 1).apply_change(source, change, (0,), nodata).max() == 32


def test_doubles_keep_their_digits() -> None:
    source = np.full((1, 1, 1), 123456.789012345, np.float64)
    change = np.full((1, 1, 1), 2.0**-20, np.float32)
    result = of(0, 1, 1).apply_change(source, change, (0,)).item()
    assert result == 123456.789012345 + 2.0**-20


def test_eight_bit_needs_no_look(make_tiff: MakeTiff, noise: Noise) -> None:
    image = open_image(make_tiff(noise(8, 8, 3, np.uint8)))
    assert not needs_percentile(image)
    radiometry = resolve_radiometry(image)
    assert radiometry.white == 255
    assert radiometry.black.tolist() == [0, 0, 0]
    assert radiometry.black_reason
    assert radiometry.white_reason


def test_sixteen_bit_takes_a_high_white_and_a_physical_zero(
    make_tiff: MakeTiff, noise: Noise
) -> None:
    image = open_image(make_tiff(noise(8, 8, 3, np.uint16)))
    assert needs_percentile(image)
    asked = []
    radiometry = resolve_radiometry(image, percentile=lambda q: asked.append(q) or 4321.0)
    assert (asked, radiometry.white) == ([99.9], 4321.0)
    assert radiometry.black.tolist() == [0, 0, 0]
    with pytest.raises(BadParameter, match="white"):
        resolve_radiometry(image)


def test_scale_and_offset_tell_the_physical_zero(make_tiff: MakeTiff) -> None:
    def scaled(new: object) -> None:
        new.scales, new.offsets = (2e-5, 2e-5), (-0.1, -0.1)  # type: ignore[attr-defined]

    image = open_image(make_tiff(np.ones((4, 4, 2), np.uint16), setup=scaled))
    radiometry = resolve_radiometry(image, percentile=lambda q: 30000.0)
    np.testing.assert_allclose(radiometry.black, 5000)
    assert "scale" in radiometry.black_reason


def test_sensor_and_user(make_tiff: MakeTiff) -> None:
    path = make_tiff(np.ones((4, 4, 3), np.uint16))
    image = open_image(path, sensor="landsat8")
    radiometry = resolve_radiometry(image, percentile=lambda q: 30000.0)
    assert radiometry.black.tolist() == [5000] * 3
    assert "Landsat" in radiometry.black_reason
    given = resolve_radiometry(image, black=[1, 2, 3], white=9)
    assert given.black.tolist() == [1, 2, 3]
    assert given.white == 9
    assert not needs_percentile(image, white=9)
    with pytest.raises(BadParameter, match="above black"):
        resolve_radiometry(image, black=10, white=9)
    with pytest.raises(BadParameter, match="2 values"):
        resolve_radiometry(image, black=[1, 2], white=9)


def test_floats_within_one_are_taken_as_they_are() -> None:
    low = open_image(np.array([[0.1, 0.9]], np.float32))
    assert not needs_percentile(low)
    assert resolve_radiometry(low).white == 1
    high = open_image(np.array([[0.1, 7.0]], np.float32))
    assert needs_percentile(high)
    assert resolve_radiometry(high, percentile=lambda q: 6.5).white == 6.5


def test_float_files_are_judged_by_their_percentiles(make_tiff: MakeTiff, noise: Noise) -> None:
    image = open_image(make_tiff(noise(8, 8, 1, np.float32)))
    assert needs_percentile(image)
    assert resolve_radiometry(image, percentile=lambda q: q / 100).white == 1
    assert resolve_radiometry(image, percentile=lambda q: q).white == 99.9


def test_photo_of_sixteen_bits_has_its_full_range(tmp_path: Path, noise: Noise) -> None:
    import tifffile
    from PIL import ImageCms

    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / "photo.tif"
    tifffile.imwrite(path, noise(8, 8, 3, np.uint16), photometric="rgb", iccprofile=icc)
    image = open_image(path)
    assert image.profile.icc == icc
    assert image.profile.is_display
    assert resolve_radiometry(image).white == 65535


def test_dark_and_empty_scenes_have_some_white(make_tiff: MakeTiff) -> None:
    image = open_image(make_tiff(np.zeros((4, 4, 1), np.uint16), nodata=0))
    radiometry = resolve_radiometry(image, percentile=lambda q: 0.0)
    assert radiometry.white > radiometry.black[0]


def test_masks_of_one_bit(make_tiff: MakeTiff) -> None:
    image = open_image(make_tiff(np.ones((4, 4, 1), np.uint8), nbits=1))
    assert resolve_radiometry(image).white == 1
    assert open_image(np.ones((4, 4), bool)).read((0, 0, 1, 1)).item() == 1


def test_names_of_bands_tell_the_zero(make_tiff: MakeTiff) -> None:
    def named(new: object) -> None:
        new.descriptions = ("SR_B4", "SR_B5", "ST_B10")  # type: ignore[attr-defined]

    values = np.full((4, 4, 3), 9000, np.uint16)
    path = make_tiff(values, setup=named)
    for sensor in (None, "landsat8"):
        image = open_image(path, sensor=sensor)
        black = resolve_radiometry(image, percentile=lambda q: 30000.0).black
        np.testing.assert_allclose(black, [0.2 / 2.75e-5, 0.2 / 2.75e-5, 0])


@pytest.mark.parametrize(("top", "black"), [(0.6, 0), (30000.0, 0.2 / 2.75e-5)])
def test_scaled_floats_keep_their_zero(make_tiff: MakeTiff, top: float, black: float) -> None:
    def named(new: object) -> None:
        new.descriptions = ("SR_B4",)  # type: ignore[attr-defined]

    image = open_image(make_tiff(np.full((4, 4, 1), top, np.float32), setup=named))
    assert needs_percentile(image, white=1e5)
    assert not needs_percentile(image, white=1e5, black=0)
    radiometry = resolve_radiometry(image, percentile=lambda q: top, white=1e5)
    np.testing.assert_allclose(radiometry.black, black)


def test_eight_bits_never_reach_the_zero_of_a_sensor(make_tiff: MakeTiff) -> None:
    image = open_image(make_tiff(np.ones((4, 4, 3), np.uint8)), sensor="landsat8")
    assert resolve_radiometry(image).black.tolist() == [0] * 3
    assert note_of_zero(image, None) is None


def test_the_note_of_a_zero_says_what_is_done(make_tiff: MakeTiff) -> None:
    def named(new: object) -> None:
        new.descriptions = ("SR_B4",)  # type: ignore[attr-defined]

    path = make_tiff(np.full((4, 4, 1), 9000, np.uint16), setup=named)
    note = note_of_zero(open_image(path), None)
    assert note is not None
    assert "7273" in note
    assert note_of_zero(open_image(path), 0.0) is None
    assert note_of_zero(open_image(path, sensor="landsat8"), None) is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("L2A_T33UXP_20230501T100031_SCL_20m.tif", "class"),
        ("LC08_L2SP_193024_20230501_20230510_02_T1_QA_PIXEL.TIF", "quality"),
        ("T33UXP_20230501T100031_MSK_CLDPRB_20m.tif", "probability"),
        ("LC09_L2SP_193024_20230501_20230510_02_T1_ST_B10.TIF", None),
    ],
)
def test_a_file_of_one_band_without_reflectance_has_no_zero_of_it(
    make_tiff: MakeTiff, name: str, kind: str | None
) -> None:
    image = open_image(make_tiff(np.full((9, 9, 1), 3, np.uint16), name))
    found = resolve_radiometry(image, white=100)
    assert found.black_reason == "physical zero of integers"
    assert found.black.tolist() == [0]
    assert any(f"shows no light ({kind})" in note for note in image.notes) == (kind is not None)


def test_names_of_other_files_say_nothing_about_their_band(make_tiff: MakeTiff) -> None:
    image = open_image(make_tiff(np.full((9, 9, 1), 3, np.uint16), "elevation_road_mask.tif"))
    assert image.notes == []
