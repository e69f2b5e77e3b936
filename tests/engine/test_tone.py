"""Tone and colour of a result against formulas of their sources, whole and in parts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import uniform_filter

import napari_restore as nr
from napari_restore import errors
from napari_restore.engine import Region
from napari_restore.engine.results._tone import (
    AROUND,
    EDGE,
    LocalMeans,
    balance_of_grey,
    kelvin_chromaticity,
    white_of,
)
from napari_restore.engine.results.luma import within_limits
from napari_restore.questions import TONE, Adjustment, Restore, ToneCurve, curve_points, parsing

from ._whole import whole
from .test_adjust import RGB, hazy

CURVE = "0,0:0.25,0.2:0.7,0.8:1,1"
EACH = [
    {"temperature": 4200.0},
    {"tint": -40.0},
    {"saturation": 35.0},
    {"highlights": -60.0},
    {"shadows": 70.0},
    {"local_contrast": 80.0},
    {"curve": CURVE},
]
ALL = {name: value for one in EACH for name, value in one.items()}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def decoded(display):
    """Linear light of sRGB."""
    return np.where(display <= 0.04045, display / 12.92, ((display + 0.055) / 1.055) ** 2.4)


def encoded(light):
    """sRGB of linear light."""
    return np.where(
        light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055
    )


def to_oklab(light):
    """Ottosson's matrices, as he prints them."""
    cones = (
        light
        @ np.array(
            [
                [0.4122214708, 0.5363325363, 0.0514459929],
                [0.2119034982, 0.6806995451, 0.1073969566],
                [0.0883024619, 0.2817188376, 0.6299787005],
            ]
        ).T
    )
    return (
        np.cbrt(cones)
        @ np.array(
            [
                [0.2104542553, 0.7936177850, -0.0040720468],
                [1.9779984951, -2.4285922050, 0.4505937099],
                [0.0259040371, 0.7827717662, -0.8086757660],
            ]
        ).T
    )


def from_oklab(lab):
    """The inverses that he prints."""
    roots = (
        lab
        @ np.array(
            [
                [1, 0.3963377774, 0.2158037573],
                [1, -0.1055613458, -0.0638541728],
                [1, -0.0894841775, -1.2914855480],
            ]
        ).T
    )
    return (
        roots**3
        @ np.array(
            [
                [4.0767416621, -3.3077115913, 0.2309699292],
                [-1.2684380046, 2.6097574011, -0.3413193965],
                [-0.0041960863, -0.7034186147, 1.7076147010],
            ]
        ).T
    )


def photo(height=60, width=80, seed=0):
    """(h, w, 3) uint8 with colours of the middle of the gamut, nothing near its ends."""
    values = np.random.default_rng(seed).integers(70, 180, (height, width, 3))
    return values.astype(np.uint8)


def greys():
    """(1, 256, 3): every grey."""
    return np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)


@pytest.fixture(scope="module")
def toned(tmp_path_factory):
    """Returns pixels after `identity` and an adjustment."""
    model = nr.load_model("identity")

    def toned(pixels, bands=RGB, **adjustment):
        scratch = tmp_path_factory.mktemp("scratch")
        image = nr.open_image(pixels, bands=bands)
        result = nr.restore(image, model, scratch=scratch, progress=False, **adjustment)
        return result.read(whole(image))

    return toned


TYPES = ("uint8", "uint16", "float32")


@pytest.fixture(scope="module", params=TYPES)
def result(request, run_once):
    """A finished run of dark channel prior, neutral."""
    return run_once(nr.open_image(hazy(request.param), bands=RGB), pyramid=True)


def near(found, wanted, step=1):
    """Check integers against exact values: rounded, and single precision on the way."""
    assert np.abs(found.astype(float) - np.clip(wanted, 0, 255)).max() <= step * 0.5 + 0.02


# -- white balance ---------------------------------------------------------------------


def test_a_black_body_has_the_chromaticities_of_tables():
    # CIE 15: illuminant A, 2856 K; Planckian locus of Wyszecki and Stiles, Color Science, 1982.
    for kelvin, x, y in ((2856, 0.4476, 0.4074), (4000, 0.3805, 0.3768), (6500, 0.3135, 0.3237)):
        np.testing.assert_allclose(kelvin_chromaticity(kelvin), (x, y), atol=1e-3)
    # Tint is 3000 times the distance in u, v of CIE 1960, greenish light above the locus.
    for tint in (-60.0, 90.0):
        u, v = (_uv(white_of(5000, each)) for each in (0, tint))
        assert np.hypot(*(u - v)) * 3000 == pytest.approx(abs(tint), rel=1e-6)
        assert (v[1] > u[1]) == (tint > 0)


def _uv(xyz):
    return np.array([4 * xyz[0], 6 * xyz[1]]) / (xyz @ [1, 15, 3])


@pytest.mark.parametrize(
    "kelvin, tint", [(4200.0, 0.0), (9000.0, 0.0), (6500.0, 50.0), (5000.0, -60.0)]
)
def test_white_balance_is_bradfords_adaptation_in_linear_light(toned, kelvin, tint):
    pixels = photo()
    to_cones = BRADFORD @ XYZ
    gains = (BRADFORD @ white_of(6500, 0)) / (BRADFORD @ white_of(kelvin, tint))
    cones = decoded(pixels / 255) @ to_cones.T * gains
    light = cones @ np.linalg.inv(to_cones).T
    inside = (light < 1).all(axis=2) & (light > 0).all(axis=2)
    assert inside.mean() > 0.7
    found = toned(pixels, temperature=kelvin, tint=tint)
    near(found[inside], encoded(light[inside]) * 255)
    # Warmer and towards magenta as the numbers grow.
    mean = found.reshape(-1, 3).mean(0) - pixels.reshape(-1, 3).mean(0)
    if tint == 0:
        assert (mean[0] > mean[2]) == (kelvin > 6500)
    elif kelvin == 6500:
        assert (mean[1] < mean[[0, 2]].mean()) == (tint > 0)


def test_what_is_picked_becomes_grey(run):
    for colour in ([150, 130, 90], [90, 120, 140], [120, 140, 120]):
        pixels = np.full((20, 20, 3), colour, np.uint8)
        kelvin, tint = balance_of_grey(decoded(np.array(colour) / 255))
        result = nr.restore(
            nr.open_image(pixels, bands=RGB), "identity", progress=False, shadows=30.0
        )
        # Whatever tone is set.
        assert result.grey_balance((2, 2, 7, 7)) == pytest.approx((kelvin, tint), abs=1)
        balanced = result.with_adjustment(Adjustment(temperature=kelvin, tint=tint))
        assert np.ptp(balanced.read((0, 0, 1, 1))) <= 1
    black = nr.restore(np.zeros((20, 20, 3), np.uint8), "identity", progress=False)
    with pytest.raises(errors.BadParameter, match="Black"):
        black.grey_balance((0, 0, 5, 5))


def test_grey_under_neutral_light_is_neutral():
    kelvin, tint = balance_of_grey(np.full(3, 0.4))
    assert kelvin == pytest.approx(6500, abs=2) and abs(tint) <= 0.1


# -- saturation and tones ------------------------------------------------------------------


@pytest.mark.parametrize("percent", [-100.0, -40.0, 20.0])
def test_saturation_scales_a_and_b_of_oklab(toned, percent):
    pixels = photo()
    lab = to_oklab(decoded(pixels / 255))
    lab[..., 1:] *= 1 + percent / 100
    light = from_oklab(lab)
    inside = (light <= 1).all(axis=2) & (light >= 0).all(axis=2)
    assert inside.mean() > 0.9
    near(toned(pixels, saturation=percent)[inside], encoded(light[inside]) * 255)
    assert (toned(greys(), saturation=percent) == greys()).all()


def test_what_leaves_the_gamut_keeps_its_luminance(toned):
    pixels = np.array([[[255, 30, 20], [20, 200, 40], [250, 240, 10]]], np.uint8)
    lab = to_oklab(decoded(pixels / 255))
    lab[..., 1:] *= 1.8
    wanted = from_oklab(lab) @ XYZ[1]
    found = decoded(toned(pixels, saturation=80.0) / 255) @ XYZ[1]
    np.testing.assert_allclose(found, wanted, atol=0.006)


@pytest.mark.parametrize(
    "text", [CURVE, "0.1,0:0.9,1", "0,0.1:0.5,0.4:0.6,0.9:1,0.95", "0,0:1,0.5"]
)
def test_the_curve_is_the_monotone_cubic_of_a_grey(toned, text):
    x, y = np.array(curve_points(text)).T
    tones = np.clip(np.arange(256) / 255, x[0], x[-1])
    wanted = np.interp(tones, x, y) if len(x) == 2 else PchipInterpolator(x, y)(tones)
    np.testing.assert_allclose(ToneCurve(curve_points(text))(tones), wanted, atol=1e-12)
    near(toned(greys(), curve=text)[0, :, 1], wanted * 255)
    # A grey photo of one band, too.
    near(toned(greys()[..., :1], bands=None, curve=text)[0, :, 0], wanted * 255)


@pytest.mark.parametrize(
    ("name", "percent", "slope"),
    [
        ("shadows", 100, 1.5),
        ("shadows", -50, 0.45),
        ("highlights", -100, 1.5),
        ("highlights", 60, 0.54),
    ],
)
def test_shadows_and_highlights_are_a_polynomial_of_a_grey(toned, name, percent, slope):
    v = np.arange(256) / 255
    far = v * (1 - v) ** 3 if name == "shadows" else (1 - v) * v**3
    wanted = v + np.sign(percent) * slope * far
    assert (np.diff(wanted) > 0).all()
    near(toned(greys(), **{name: float(percent)})[0, :, 0], wanted * 255)


def test_colour_follows_lightness_as_if_more_light_had_come_in(toned):
    pixels = photo()
    light = decoded(pixels / 255)
    lightness = to_oklab(light)[..., 0]
    tone = encoded(lightness**3)
    brighter = tone + 0.75 * tone * (1 - tone) ** 3
    wanted = light * (decoded(brighter) / lightness**3)[..., None]
    inside = (wanted < 1).all(axis=2)
    assert inside.mean() > 0.9
    near(toned(pixels, shadows=50.0)[inside], encoded(wanted[inside]) * 255)


# -- local contrast ----------------------------------------------------------------------


def test_local_means_are_the_guided_filters():
    rng = np.random.default_rng(5)
    tones = np.clip(np.cumsum(rng.normal(0, 0.05, (70, 90)), axis=1) + 0.5, 0, 1)
    tones[:, 45:] *= 0.4
    box = Region(0, 0, *tones.shape)
    local = LocalMeans(box, 90)
    assert local.side == 1
    everything = np.ones(tones.shape, bool)
    found = local.means(box, [box], lambda _: (tones, everything))(box)(tones)

    def mean(values):
        size = 2 * AROUND + 1
        total = uniform_filter(values, size, mode="constant")
        return total / uniform_filter(np.ones(values.shape), size, mode="constant")

    variance = mean(tones**2) - mean(tones) ** 2
    slope = variance / (variance + EDGE)
    wanted = mean(slope) * tones + mean((1 - slope) * mean(tones))
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    # An edge stays, and noise goes.
    assert np.abs(found - tones).mean() < 0.05


def test_local_contrast_adds_what_differs_from_the_local_mean(toned):
    pixels = hazy("uint8", height=100, width=120)[..., :1]
    tones = pixels[..., 0] / 255
    box = Region(0, 0, *tones.shape)
    everything = np.ones(tones.shape, bool)
    mean = LocalMeans(box, 120).means(box, [box], lambda _: (tones, everything))(box)(tones)
    for percent in (60.0, -100.0):
        wanted = tones + percent / 100 * 4 * mean * (1 - mean) * (tones - mean)
        near(toned(pixels, bands=None, local_contrast=percent)[..., 0], wanted * 255, step=1.2)


def test_a_cell_of_a_large_image_is_the_same_at_every_level():
    sides = [LocalMeans(Region(0, 0, 4000 >> n, 6000 >> n), 6000 >> n).side for n in range(4)]
    assert sides == [32, 16, 8, 4]


# -- whole, parts, files --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "options"),
    [*(("uint8", each) for each in EACH), *((each, ALL) for each in TYPES)],
    indirect=["result"],
    ids=str,
)
@pytest.mark.slow
@pytest.mark.ids(
    "nightly",
    "float32-{'temperature': 4200.0, 'tint': -40.0, 'saturation': 35.0, 'highlights': -60.0, 'shadows': 70.0, 'local_contrast': 80.0, 'curve': '0,0:0.25,0.2:0.7,0.8:1,1'}",
    "uint16-{'temperature': 4200.0, 'tint': -40.0, 'saturation': 35.0, 'highlights': -60.0, 'shadows': 70.0, 'local_contrast': 80.0, 'curve': '0,0:0.25,0.2:0.7,0.8:1,1'}",
    "uint8-{'tint': -40.0}",
    "uint8-{'temperature': 4200.0}",
    "uint8-{'shadows': 70.0}",
    "uint8-{'saturation': 35.0}",
    "uint8-{'highlights': -60.0}",
)
def test_boxes_levels_and_the_file_agree_with_the_whole(result, options, tmp_path):
    image = result.image
    adjusted = result.with_adjustment(Adjustment(**options))
    together = adjusted.read(whole(image))
    assert (together != result.read(whole(image))).any()
    for box in (Region(33, 41, 170, 250), Region(0, 0, 1, 420), Region(299, 17, 300, 18)):
        np.testing.assert_array_equal(adjusted.read(box), together[box.slices])
    written = nr.open_image(adjusted.save(tmp_path / "out.tif"))
    np.testing.assert_array_equal(written.read(whole(image)), together)


@pytest.mark.slow
def test_a_coarse_level_is_about_the_means_of_the_fine_one(run):
    image = nr.open_image(hazy("uint8", height=300, width=1100), bands=RGB)
    result = run(image, pyramid=True).with_adjustment(Adjustment(**ALL))
    fine = result.read(whole(image)).astype(np.float64)
    coarse = result.read((0, 0, 150, 550), 1)
    assert np.abs(coarse - fine.reshape(150, 2, 550, 2, 3).mean(axis=(1, 3))).mean() < 0.5
    box = Region(7, 30, 60, 90)
    np.testing.assert_array_equal(result.read(box, 1), coarse[box.slices])


@pytest.mark.parametrize(
    "options",
    [
        dict.fromkeys(TONE, 0) | {"temperature": 6500, "curve": None},
        {"curve": "0,0:0.4,0.4:1,1"},
    ],
)
def test_neutral_is_the_result_byte_for_byte(result, options):
    neutral = Adjustment(**options)
    assert neutral.is_neutral and not neutral.has_tone
    stored = result.store.read(whole(result.image))
    again = result.with_adjustment(Adjustment(**ALL)).with_adjustment(neutral)
    np.testing.assert_array_equal(again.read(whole(result.image)), stored)


@pytest.mark.slow
def test_how_it_is_tiled_changes_nothing(tmp_path):
    image = nr.open_image(hazy("uint8"), bands=RGB)
    pictures = [
        nr.restore(image, "dcp", tile=tile, scratch=tmp_path / str(tile), progress=False, **ALL)
        for tile in (64, 256)
    ]
    first, second = (picture.read(whole(image)) for picture in pictures)
    np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_it_is_done_after_the_blending(run):
    """Strength 0 and tone are those of the source; exposure comes before."""
    image = nr.open_image(hazy("uint8"), bands=RGB)
    none = run(image, strength=0.0, **ALL).read(whole(image))
    same = nr.restore(image, "identity", progress=False, **ALL).read(whole(image))
    np.testing.assert_array_equal(none, same)


@pytest.mark.slow
def test_only_the_area_changes_and_its_edge_fades(run, tmp_path):
    pixels = hazy("uint8")
    ring = [[60, 40], [300, 40], [300, 240], [60, 240], [60, 40]]
    mask = f'{{"type": "Polygon", "coordinates": [{ring}]}}'
    image = nr.open_image(pixels, bands=RGB)
    result = run(image, mask=mask, feather=20, strength=0.0, maps=True, shadows=90.0)
    found = result.read(whole(image)).astype(int)
    outside = np.ones(found.shape[:2], bool)
    outside[40:240, 60:300] = False
    np.testing.assert_array_equal(found[outside], pixels[outside])
    full = run(image, strength=0.0, shadows=90.0).read(whole(image)).astype(int)
    np.testing.assert_array_equal(found[100:180, 120:240], full[100:180, 120:240])
    change, most = (np.abs(each - pixels).sum(axis=2) for each in (found, full))
    edge = np.s_[41:45, 120:240]
    assert 0 < change[edge].mean() < 0.5 * most[edge].mean()
    quality = result.read_map("quality", whole(image))[..., 0] & 1
    np.testing.assert_array_equal(quality, change == 0)
    box = Region(90, 31, 250, 280)
    local = result.with_adjustment(Adjustment(local_contrast=70.0))
    np.testing.assert_array_equal(local.read(box), local.read(whole(image))[box.slices])


@pytest.mark.slow
def test_alpha_what_is_excluded_and_nodata_stay(run, tmp_path):
    import tifffile

    pixels = np.dstack([hazy("uint8"), np.full((300, 420), 255, np.uint8)])
    pixels[:40, :, 3] = 0
    path = tmp_path / "alpha.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=["unassalpha"])
    image = nr.open_image(path)
    result = run(image, exclude="POLYGON ((10 60, 100 60, 100 120, 10 120, 10 60))", **ALL)
    found = result.read(whole(image))
    np.testing.assert_array_equal(found[..., 3], pixels[..., 3])
    np.testing.assert_array_equal(found[:40], pixels[:40])
    np.testing.assert_array_equal(found[60:120, 10:100], pixels[60:120, 10:100])
    assert (found[130:, :, :3] != pixels[130:, :, :3]).mean() > 0.5


def test_unfinished_neighbours_do_not_count_for_the_local_mean(run):
    image = nr.open_image(hazy("uint8"), bands=RGB)
    result = run(image, pyramid=True, local_contrast=80.0)
    box = Region(0, 0, 128, 128)
    before = result.read(box)
    result.store._done[:, 1:] = False
    with pytest.raises(errors.ResourceError, match="not complete"):
        result.read(Region(0, 0, 128, 120))
    landed = result.read_landed(box)
    far = Region(0, 0, 128, 100)
    np.testing.assert_array_equal(landed[far.slices], before[far.slices])


def test_a_photo_with_a_profile_of_its_own_is_changed_in_srgb(run, tmp_path):
    import imagecodecs
    import tifffile

    path = tmp_path / "wide.tif"
    profile = bytes(imagecodecs.cms_profile("adobergb"))
    tifffile.imwrite(path, photo().astype(np.uint16) * 257, photometric="rgb", iccprofile=profile)
    image = nr.open_image(path)
    result = nr.restore(image, "identity", progress=False, saturation=-100.0)
    before, after = (
        image.working_space.to_working(np.moveaxis(each.read(whole(image)), 2, 0))
        for each in (image, result)
    )
    # Colours outside sRGB are changed as their nearest inside.
    inside = (before > 0).all(axis=0) & (before < 65535).all(axis=0)
    assert inside.mean() > 0.5
    assert (
        np.ptp(after, axis=0)[inside].max() < 0.002 * 65535 < np.ptp(before, axis=0)[inside].mean()
    )


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("options", EACH, ids=str)
def test_measurements_have_no_tones(sample, options):
    with pytest.raises(errors.BadParameter, match="measurements"):
        nr.plan(sample, "identity", **options)


def test_a_grey_photo_has_no_white_balance(run):
    grey = hazy("uint8")[..., :1]
    for name in ("temperature", "tint", "saturation"):
        with pytest.raises(errors.BadParameter, match="red, green and blue"):
            nr.plan(grey, "identity", **{name: ALL[name]})


@pytest.mark.parametrize(
    ("curve", "told"),
    [
        ("0,0", "not of the form"),
        ("0,0:a,1", "not of the form"),
        ("0,0:1", "not of the form"),
        ("0,0:1,1.5", "outside 0"),
        ("0,0:0.5,0.5:0.5,0.6", "increase"),
        ("0,0:nan,1", "outside 0"),
        ("0,0:0.99999999999,0.5:1,1", "increase, by 0.0001"),
        ([1, 2], "no sequence of points"),
        ([(0, "a"), (1, 1)], "no sequence of points"),
        (7, "no sequence of points"),
    ],
)
def test_what_is_no_curve_is_refused(curve, told):
    with pytest.raises(errors.BadParameter, match=told):
        Adjustment(curve=curve)
    with pytest.raises(errors.BadParameter, match=told):
        Restore.of({"curve": curve})


def test_a_curve_is_a_number_at_points_close_to_each_other():
    text = f"0,0:{1 - parsing.CURVE_STEP},0.5:1,1"
    tones = np.linspace(0, 1, 100_001, dtype=np.float32)
    assert np.isfinite(ToneCurve(curve_points(text))(tones)).all()


def test_python_takes_points():
    asked = Restore.of({"curve": [(0, 0), (0.25, 0.2), (1, 1)]})
    assert asked.adjustment.curve == "0,0:0.25,0.2:1,1"


def test_a_pixel_far_from_what_was_restored_is_read_as_well():
    planned = nr.plan(
        hazy("uint8"), "identity", region=nr.Region(60, 60, 90, 90), local_contrast=40
    )
    result = nr.start(planned).result()
    assert result.read_landed((0, 0, 1, 1)).shape == (1, 1, 3)


def test_a_colour_at_a_limit_between_two_float32_stays_a_number() -> None:
    # NumPy 1 rounds the luma to float32, here beyond the limit; a grey's colours are no way apart from it.
    grey = np.full((1, 3), np.float32(1.0000002))
    still, low, high = np.zeros(1, np.float32), np.zeros(3), np.full(3, 1.00000009)
    change = within_limits(grey, grey[:, 0], still, low, high)
    np.testing.assert_allclose(grey + change, 1, atol=1e-6)
