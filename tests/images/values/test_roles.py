"""Which band is what: the order in which sources are asked."""

from __future__ import annotations

import pytest

from napari_restore.errors import BadParameter
from napari_restore.images import auxiliary_role, bands_text, known_sensors, parse_bands, sensor_of
from napari_restore.images.values.roles import describe_bands, role_of_description
from napari_restore.images.values.sensors import detect_sensor, is_reflectance_product, product_of


def roles(*arguments: object, **options: object) -> tuple[str | None, ...]:
    return describe_bands(*arguments, **options).roles  # type: ignore[arg-type]


def test_colour_interpretation_comes_first() -> None:
    found = roles(3, ("blue", "green", "red"), ("red", "red", "red"), (600.0, None, None))
    assert found == ("blue", "green", "red")


def test_then_descriptions_then_wavelengths_then_the_sensor() -> None:
    found = describe_bands(
        4,
        ("undefined",) * 4,
        ("Red", None, None, None),
        (None, 560.0, None, None),
        known_sensors()["naip"],
    )
    assert found.roles == ("red", "green", "blue", "nir")
    assert found.wavelengths == (650, 560, 460, 850)


def test_grey_is_believed_only_of_a_single_band() -> None:
    assert roles(1, ("gray",)) == ("gray",)
    assert roles(2, ("gray", "alpha")) == ("gray", "alpha")
    assert roles(3, ("gray", "undefined", "undefined")) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "role"),
    [
        ("Band 4 (Red)", "red"),
        ("red_edge 2", "rededge"),
        ("Vegetation red edge", "rededge"),
        ("Near Infrared", "nir"),
        ("NIR1", "nir"),
        ("Coastal aerosol (blue)", "coastal"),
        ("short-wave infrared", "swir"),
        ("Gamma0_VV", None),
        ("covered area", None),
        ("red and green", None),
        ("", None),
        (None, None),
    ],
)
def test_descriptions(text: str | None, role: str | None) -> None:
    assert role_of_description(text) == role


def test_wavelength_in_a_description() -> None:
    found = describe_bands(2, (), ("B4, central wavelength 665 nm", "0.842 µm"))
    assert found.wavelengths == (665, 842)
    assert found.roles == ("red", "nir")


def test_of_many_narrow_bands_the_nearest_is_red() -> None:
    waves = [float(w) for w in range(630, 690, 10)]
    assert roles(6, wavelengths=waves) == (None, None, None, "red", None, None)


def test_sensor_bands_by_name_and_by_count() -> None:
    sentinel = known_sensors()["sentinel2"]
    assert roles(2, descriptions=("B08", "B04"), sensor=sentinel) == ("nir", "red")
    assert roles(4, sensor=sentinel) == ("blue", "green", "red", "nir")
    assert roles(13, sensor=sentinel)[8:11] == ("nir", None, "cirrus")
    assert roles(5, sensor=sentinel) == (None,) * 5
    # Stacks without the coastal and the 60 m bands are as usual as whole scenes.
    for name in ("landsat8", "landsat9", "sentinel2"):
        six = ("blue", "green", "red", "nir", "swir", "swir")
        assert roles(6, sensor=known_sensors()[name]) == six
    assert roles(2, descriptions=("SR_B4", "SR_B5"), sensor=known_sensors()["landsat8"]) == (
        "red",
        "nir",
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("red=4,green=3,blue=2", {"red": 3, "green": 2, "blue": 1}),
        ("4,3,2", {"red": 3, "green": 2, "blue": 1}),
        ("2", {"gray": 1}),
        ([4, 3, 2, 1], {"red": 3, "green": 2, "blue": 1, "nir": 0}),
        ("blue,green,red,-,nir", {"blue": 0, "green": 1, "red": 2, "nir": 4}),
        ({"nir": 5}, {"nir": 4}),
    ],
)
def test_what_users_write(given: object, expected: dict[str, int]) -> None:
    found = parse_bands(given, 5)  # type: ignore[arg-type]
    assert {band.role: band.number for band in found} == expected
    assert parse_bands(bands_text(found), 5) == found


@pytest.mark.parametrize("given", ["red=x", "0,1,2", "1,2,3,4,5", "rot,grün", "red=9"])
def test_what_is_not_understood(given: str) -> None:
    with pytest.raises(BadParameter):
        parse_bands(given, 5)


def test_a_band_is_named_once() -> None:
    with pytest.raises(BadParameter, match="Band 4 is given twice, as green and blue"):
        parse_bands("red=3,green=4,blue=4", 5)


def test_a_given_role_is_taken_from_the_band_that_had_it() -> None:
    assert roles(3, ("red", "green", "blue"), given="red=3") == (None, "green", "red")


def test_sensors_and_products_in_names_and_tags() -> None:
    assert detect_sensor("/x/LC08_L1TP_107035_20150502_B4.TIF", {}) == "landsat8"
    assert detect_sensor("m_4709963_se_14_1_20160816.tif", {}) == "naip"
    assert detect_sensor("S2B_MSIL1C_20200101T000000_N0208_R020_T10TET_x.jp2", {}) == "sentinel2"
    assert detect_sensor("scene.tif", {"": {"SPACECRAFT_ID": "LANDSAT_9"}}) == "landsat9"
    assert detect_sensor("holiday.jpg", {}) is None


@pytest.mark.parametrize(
    "name",
    [
        "LC08_L2SP_107035_20150502_02_T1_SR_B4.TIF",
        "LC08_107035_20150502_sr_band4.tif",
        "S2A_MSIL2A_2022.tif",
        "T32TQM_20220301T101021_B04_10m.jp2",
        "HLS.S30.T32TQM.2022060.v2.0.tif",
        "MOD09GA.A2020001.tif",
        "20200101_3B_AnalyticMS_SR.tif",
    ],
)
def test_reflectance_products_by_name(name: str) -> None:
    assert is_reflectance_product(f"/data/{name}", {})


@pytest.mark.parametrize(
    "name",
    [
        "LC08_L1TP_107035_20150502_B4.TIF",
        "S2A_MSIL1C_20220301T101021_N0400_R022_T32TQM.jp2",
        "T32TQM_20220301T101021_B04.jp2",
        "upscaled_SR.tif",
    ],
)
def test_other_files_are_no_reflectance_products(name: str) -> None:
    assert not is_reflectance_product(f"/data/{name}", {})


def test_offsets_of_products() -> None:
    new = sensor_of("sentinel2", "S2A_MSIL2A_20220301T000000_N0400_R020_T10TET.SAFE/B04.jp2")
    assert new.black == 1000
    assert sensor_of("sentinel2", "S2A_MSIL2A_2019_N0213_R020_T10.jp2").black == 0
    assert sensor_of("Sentinel2", tags={"": {"PROCESSING_BASELINE": "05.10"}}).black == 1000
    assert sensor_of("landsat8").black == 5000
    level2 = sensor_of("landsat8", "LC08_L2SP_107035_20150502_SR_B4.TIF")
    assert level2.black == pytest.approx(0.2 / 2.75e-5)


@pytest.mark.parametrize(
    ("text", "role"),
    [
        ("SCL", "class"),
        ("SCL, Scene Classification", "class"),
        ("QA_PIXEL", "quality"),
        ("pixel_qa", "quality"),
        ("SR_QA_AEROSOL", "quality"),
        ("QA60", "quality"),
        ("Fmask", "quality"),
        ("sur_refl_state_500m", "quality"),
        ("StateQA", "quality"),
        ("UDM2", "quality"),
        ("cloud_mask", "mask"),
        ("Cloud", "mask"),
        ("MSK_CLDPRB", "probability"),
        ("cloud probability", "probability"),
        ("AOT, Aerosol Optical Thickness map (at 550nm)", "aerosol"),
        ("WVP", "watervapour"),
        ("WVP, Scene-average Water Vapour map", "watervapour"),
        ("Solar zenith angle", "angle"),
        ("VAA", "angle"),
        ("NDVI", "index"),
        ("DEM", "height"),
        # Bands of light that share a word with them.
        ("Coastal aerosol", None),
        ("B9, Water vapour", None),
        ("Cirrus", None),
        ("cloud-free red", None),
        ("B4", None),
        ("Red edge 1", None),
        ("Indexed red", None),
        (None, None),
    ],
)
def test_names_of_bands_that_show_no_light(text: str | None, role: str | None) -> None:
    assert auxiliary_role(text) == role


def test_kinds_of_bands() -> None:
    names = ("B02", "B03", "B04", "AOT, Aerosol Optical Thickness (at 550nm)", "SCL", None)
    found = describe_bands(6, (), names, sensor=known_sensors()["sentinel2"])
    assert found.kinds == ("light", "light", "light", "auxiliary", "auxiliary", "unknown")
    assert found.data == (0, 1, 2, 5)
    # The thickness is measured at a wavelength, and is no light of it.
    assert found.wavelengths[3] is None


def test_wavelengths_of_a_header_and_the_user_beat_a_name() -> None:
    assert describe_bands(2, (), ("cloud mask", "red"), (665.0, None)).kinds[0] == "light"
    found = describe_bands(2, (), ("cloud mask", "red"), given="nir=1")
    assert (found.roles, found.data) == (("nir", "red"), (0, 1))
    # What has no name is named by the user.
    found = describe_bands(4, given="red=1,green=2,blue=3,class=4")
    assert (found.roles[3], found.data) == ("class", (0, 1, 2))


def test_a_preset_counts_bands_of_light() -> None:
    names = (None, None, None, None, "SCL")
    found = roles(5, descriptions=names, sensor=known_sensors()["sentinel2"])
    assert found == ("blue", "green", "red", "nir", "class")
    assert roles(4, ("red", "green", "blue", "alpha"), sensor=known_sensors()["naip"])[3] == "alpha"


def test_units_and_flags_tell_as_well() -> None:
    tags = ({}, {"": {"flag_meanings": "clear cloud"}}, {})
    found = describe_bands(3, units=(None, None, "degree"), band_tags=tags)
    assert found.roles == (None, "quality", "angle")


def test_a_mask_by_itself_is_the_picture() -> None:
    assert describe_bands(1, (), ("SCL",)).data == (0,)
    assert describe_bands(2, (), ("SCL", "QA60")).data == (0, 1)


LEVEL2 = pytest.approx(0.2 / 2.75e-5)


@pytest.mark.parametrize("sensor", ["landsat5", "landsat8", "landsat9"])
@pytest.mark.parametrize(
    ("file", "bands"),
    [
        ("export.tif", ("SR_B2", "SR_B3", "SR_B4", "QA_PIXEL")),
        ("export.tif", ("sr_b1", None)),
        ("LC08_L2SP_107035_20150502_02_T1_SR_B4.TIF", ()),
        ("lc09_l2sp_107035_20250502_02_t1.tif", ()),
    ],
)
def test_surface_reflectance_of_landsat_by_the_names_of_its_bands(
    sensor: str, file: str, bands: tuple[str | None, ...]
) -> None:
    for found in (sensor_of(sensor, file, {}, bands), product_of(file, {}, bands)):
        assert found is not None
        assert found.black == LEVEL2
        assert found.zero("ST_B10") == 0


@pytest.mark.parametrize(
    ("sensor", "file", "bands", "line"),
    [
        ("sentinel2", "export.tif", ("SR_B4", "SR_B5", "SR_B6"), "landsat8"),
        # Landsat 5 has no SR_B6: what is red there is green here.
        ("landsat5", "export.tif", [f"SR_B{n}" for n in range(1, 8)], "landsat8"),
        ("naip", "export.tif", ("B2", "B3", "B4", "B8", "SCL"), "sentinel2"),
        ("planet", "export.tif", ("B8", "B8A"), "sentinel2"),
        ("sentinel2", "export.tif", ("red", "QA_PIXEL"), "landsat8"),
        ("sentinel2", "LC08_L2SP_107035_20150502_02_T1_SR_B4.TIF", (), "landsat8"),
    ],
)
def test_a_sensor_against_the_names_is_refused_with_the_line_to_write(
    sensor: str, file: str, bands: list[str], line: str
) -> None:
    with pytest.raises(BadParameter, match=f"not as those of {sensor}") as caught:
        sensor_of(sensor, file, {}, bands)
    assert f'"{line}"' in str(caught.value.hint)


@pytest.mark.parametrize(
    ("sensor", "bands"),
    [
        ("planet", ("B1", "B2", "B3", "B4")),
        ("planet", ("R", "G", "B", "N")),
        ("sentinel2-04.00", ("B8A", "SCL")),
        ("hls-s30", ("B04", "B8A", "Fmask")),
        ("landsat8", ("SR_B4", "B20")),
    ],
)
def test_names_that_other_files_may_have_refuse_no_sensor(sensor: str, bands: list[str]) -> None:
    assert sensor_of(sensor, "export.tif", {}, bands).id == sensor


def test_level_1_and_collection_1_of_landsat() -> None:
    for file in ("LC08_L1TP_107035_20150502_02_T1_B4.TIF", "lc08_l1gt_B4.tif"):
        for found in (sensor_of("landsat8", file, {}, ("B4",)), product_of(file, {}, ("B4",))):
            assert found is not None
            assert (found.black, bool(found.reason)) == (5000, True)
    assert sensor_of("landsat8", "LC08_107035_20150502_sr_band4.tif").black == 0


ESA = "S2B_MSIL2A_20250302T095029_N0511_R079_T33UXP_20250302T104753.SAFE"


@pytest.mark.parametrize(
    ("file", "black"),
    [
        ("/x/T33UXP_20250302T095029_B04_10m.tif", 1000),
        ("/x/t33uxp_20250302t095029_b04.jp2", 1000),
        ("/x/T33UXP_20220124T235959_B04_10m.jp2", None),
        ("/x/T33UXP_20220125T000001_B04_10m.jp2", 1000),
        ("/x/T33UXP_20190302T095029_B04_10m.tif", None),
        (f"/x/{ESA}/GRANULE/L2A_T33UXP_A041727/IMG_DATA/R10m/B04.jp2", 1000),
        (f"C:\\x\\{ESA}\\B04.jp2", 1000),
        ("/x/S2D_MSIL1C_20250302T095029/B04.jp2", 1000),
        # Processed anew: the baseline decides, and the later of two dates.
        ("/x/S2A_MSIL2A_20180302T095029_N0500_R079_T33UXP_20230302T104753.SAFE/B04.jp2", 1000),
        ("/x/S2A_MSIL2A_20180302T095029_N0206_R079_T33UXP_20180302T104753.SAFE/B04.jp2", None),
        # Neither names that ESA gives: the offset may be gone already.
        ("/x/S2B_33UXP_20250302_0_L2A/B04.tif", None),
        ("/run_20250302T101010/T33UXP_20190302T095029_B04.tif", None),
    ],
)
def test_zero_of_sentinel_2_by_names(file: str, black: float | None) -> None:
    found = product_of(file, {})
    assert (found.black if found is not None and found.reason else None) == black


@pytest.mark.parametrize(
    ("tags", "black"),
    [
        ({"PROCESSING_BASELINE": "05.11", "SPACECRAFT_NAME": "Sentinel-2B"}, 1000),
        ({"PROCESSING_BASELINE": "N0511", "SPACECRAFT_NAME": "Sentinel-2B"}, 1000),
        ({"PROCESSING_BASELINE": "0400", "PRODUCT_TYPE": "S2MSI2A"}, 1000),
        ({"PROCESSING_BASELINE": "03.01", "PRODUCT_TYPE": "S2MSI2A"}, None),
        ({"PROCESSING_BASELINE": "unknown", "PRODUCT_TYPE": "S2MSI2A"}, None),
        # Of another satellite.
        ({"PROCESSING_BASELINE": "05.11", "SPACECRAFT_NAME": "Sentinel-3A"}, None),
        ({"SPACECRAFT_NAME": "Sentinel-2B", "GENERATION_TIME": "2025-03-02T10:47:53Z"}, 1000),
        ({"GENERATION_TIME": "2025-03-02T10:47:53Z"}, None),
    ],
)
def test_zero_of_sentinel_2_by_tags(tags: dict[str, str], black: float | None) -> None:
    found = product_of("scene.tif", {"": tags})
    assert (found.black if found is not None and found.reason else None) == black


def test_zero_of_a_sentinel_2_that_the_user_names() -> None:
    assert sensor_of("sentinel2", "S2_2025-03-02.tif").black == 1000
    assert sensor_of("sentinel2", "20250302T095029_T33UXP.tif").black == 1000
    assert sensor_of("sentinel2", "20190302T095029_T33UXP.tif").black == 0
    assert "no baseline" in sensor_of("sentinel2", "B04.tif").reason


@pytest.mark.parametrize(
    "names",
    [
        [f"B{n}" for n in range(1, 13)],
        [f"Band {n}" for n in range(1, 12)],
        [f"B{n:02}" for n in range(1, 5)],
        [f"Band {n}" for n in range(1, 225)],
        ["B4"],
    ],
)
def test_bands_that_are_only_counted_name_no_sensor(names: list[str]) -> None:
    assert product_of("scene.tif", {}, names) is None
    assert set(describe_bands(len(names), (), names).roles) == {None}


def test_an_alpha_band_does_not_hide_the_order_of_a_sensor() -> None:
    naip = product_of("m_3712212_se_10_060_20200524.tif", {})
    found = describe_bands(4, ("red", "green", "blue", "alpha"), sensor=naip)
    assert found.roles == ("red", "green", "blue", "alpha")
    assert found.wavelengths == (650, 560, 460, None)


def test_the_only_band_is_grey_whatever_it_is_called() -> None:
    """A method of colours sees it in all its bands, as before."""
    assert roles(1, ("gray",), ("Red",)) == ("gray",)
    assert roles(2, ("gray", "alpha"), ("Red", None)) == ("gray", "alpha")
    assert roles(3, ("gray", "undefined", "undefined"), ("Red", "Green", "Blue")) == (
        "red",
        "green",
        "blue",
    )
