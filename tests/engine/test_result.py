"""What a result gives besides its pixels: side maps, chosen bands, a complaint when it is cut short."""

import json

import numpy as np
import pytest

import napari_restore as nr
from napari_restore import api, errors
from napari_restore.engine import Region, Result, ResultStore
from napari_restore.engine.masks.mask_strength import pieces_of
from napari_restore.engine.results import blended
from napari_restore.engine.results.quality import QUALITY

from ._whole import model, whole

BANDS = "red=1,green=2,blue=3,nir=4"
NAIP = "geotiff/naip_4band.tif"
MAPS = ("transmission", "airlight", "change", "quality")


@pytest.fixture
def hazy(tmp_path):
    """A GeoTIFF of 300 × 420, uint8 RGB."""
    import rasterio

    rng = np.random.default_rng(3)
    clear = np.kron(rng.random((30, 42, 3)), np.ones((10, 10, 1)))
    pixels = np.rint((clear * 0.6 + 0.35) * 255).astype(np.uint8)
    path = tmp_path / "hazy.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=300,
        width=420,
        count=3,
        dtype="uint8",
        photometric="RGB",
        transform=rasterio.transform.Affine(2, 0, 100, 0, -2, 900),
    ) as dataset:
        dataset.write(pixels.transpose(2, 0, 1))
    return nr.open_image(path)


def maps_of(result, folder):
    paths = result.save_maps(folder)
    assert [path.stem for path in paths] == list(MAPS)
    images = [nr.open_image(path) for path in paths]
    return {i.path.stem: i.read((0, 0, i.height, i.width)) for i in images}


# -- side maps -------------------------------------------------------------------------


def test_the_change_is_not_stored(run, hazy):
    assert "change" not in run(hazy, maps=True).store.map_names


@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.slow
def test_maps_tell_of_what_was_written(run, hazy, strength, tmp_path):
    result = run(hazy, maps=True, strength=strength)
    source, written = hazy.read(whole(hazy)), result.read(whole(hazy))
    maps = maps_of(result, tmp_path / "maps")
    np.testing.assert_array_equal(maps["change"], written.astype(np.float32) - source)
    unchanged = (maps["quality"][..., 0] & QUALITY["unchanged"]) > 0
    np.testing.assert_array_equal(unchanged, (written == source).all(axis=2))
    assert unchanged.mean() < 1
    assert np.isfinite(maps["transmission"]).all()


def test_outside_the_mask_maps_say_nothing_was_done(run, hazy, tmp_path):
    mask = tmp_path / "mask.geojson"
    corners = [(70, 60), (200, 60), (200, 100), (70, 100), (70, 60)]
    ring = [[100 + 2 * x, 900 - 2 * y] for x, y in corners]
    mask.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}), encoding="utf-8")
    result = run(hazy, maps=True, mask=mask)
    maps = maps_of(result, tmp_path / "maps")
    inside = np.zeros((300, 420), bool)
    inside[60:100, 70:200] = True
    assert np.isfinite(maps["transmission"][inside]).all()
    assert np.isfinite(maps["airlight"][inside]).all()
    assert np.isnan(maps["transmission"][~inside]).all()
    assert np.isnan(maps["airlight"][~inside]).all()
    assert (maps["quality"][~inside] == QUALITY["unchanged"]).all()
    assert (maps["change"][~inside] == 0).all()
    assert (maps["change"][inside] != 0).any()


def test_between_several_regions_nothing_was_done(run, hazy, tmp_path):
    regions = [Region(0, 0, 100, 100), Region(200, 300, 280, 400)]
    result = run(hazy, maps=True, region=regions)
    maps = maps_of(result, tmp_path / "maps")
    assert maps["change"].shape == (280, 400, 3)
    assert np.isnan(maps["transmission"][120:180]).all()
    assert (maps["quality"][120:180] == QUALITY["unchanged"]).all()
    assert np.isfinite(maps["transmission"][:100, :100]).all()


# -- reading -----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"strength": 0.5}])
def test_a_result_that_is_not_complete_is_no_black_picture(run, hazy, options):
    result = run(hazy, **options)
    journal = result.store.path / "tiles.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    y0, x0, y1, x1 = json.loads(lines[-1])["region"]
    journal.write_text("".join(lines[:-1]), encoding="utf-8")
    result = Result(result.plan, ResultStore.attach(result.store.path), result.record)
    with pytest.raises(errors.ResourceError, match="not complete"):
        result.read((0, 0, hazy.height, hazy.width))
    with pytest.raises(errors.ResourceError):
        result.read((y0, x0, y1, x1))
    first = Region(*json.loads(lines[0])["region"])
    assert result.read(first).shape == (*first.shape, 3)


@pytest.mark.parametrize("options", [{"strength": 0.3}, {"luminance_only": True}])
def test_pieces_make_no_difference(run, hazy, monkeypatch, options):
    result = run(hazy, **options)
    together = result.read(whole(hazy))
    monkeypatch.setattr(pieces_of, "__defaults__", (77, 5000))
    monkeypatch.setattr(blended, "RANGE_PIXELS", 3000)
    np.testing.assert_array_equal(result.read(whole(hazy)), together)


# -- chosen bands --------------------------------------------------------------------------


@pytest.mark.nightly
def test_dropped_bands_are_gone_and_the_others_keep_their_description(run, data_dir, tmp_path):
    image = nr.open_image(data_dir / NAIP, bands=BANDS)
    region = Region(100, 100, 400, 500)
    every = run(image, region=region, other_bands="copy").read(region)
    result = run(image, region=region, other_bands="drop")
    written = nr.open_image(result.save(tmp_path / "rgb.tif"))
    assert written.shape == (300, 400, 3)
    assert result.image.roles == ("red", "green", "blue")
    assert (written.crs, written.descriptions) == (image.crs, image.descriptions[:3])
    assert written.roles == ("red", "green", "blue")
    assert written.profile.band_tags == image.profile.band_tags[:3]
    np.testing.assert_array_equal(written.read((0, 0, 300, 400)), every[..., :3])


def test_a_selection_travels_and_is_a_content_of_its_own(data_dir):
    image = nr.open_image(data_dir / NAIP, bands=BANDS)
    part = image.with_bands((3, 1))
    assert (part.bands, part.roles) == (2, ("nir", "green"))
    again = nr.open_image(**{"source": part.spec["source"], "bands": BANDS})
    assert again.fingerprint == image.fingerprint != part.fingerprint
    other = type(image).from_spec(json.loads(json.dumps(part.spec)))
    assert (other.roles, other.fingerprint) == (part.roles, part.fingerprint)
    box = (10, 20, 200, 300)
    np.testing.assert_array_equal(other.read(box), image.read(box)[..., [3, 1]])
    twice = part.with_bands((1,))
    assert twice.spec["select"] == [1]
    np.testing.assert_array_equal(twice.read(box), image.read(box)[..., [1]])
    assert image.with_bands(range(4)) is image
    with pytest.raises(errors.BadParameter):
        image.with_bands((4,))


def test_dropped_bands_in_another_process(data_dir):
    image = nr.open_image(data_dir / NAIP, bands=BANDS)
    plan = nr.plan(image, model(), other_bands="drop", region=Region(0, 0, 128, 128))
    again = api.plan_of(api.task_of(plan))
    assert again.key == plan.key
    assert again.image.bands == 3


def test_descriptions_and_alpha_stay_with_their_bands(run, tmp_path):
    import rasterio

    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 250, (64, 80, 5)).astype(np.uint8)
    pixels[..., 4] = 255
    path = tmp_path / "five.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=64,
        width=80,
        count=5,
        dtype="uint8",
        transform=rasterio.transform.Affine(2, 0, 100, 0, -2, 900),
    ) as dataset:
        dataset.write(pixels.transpose(2, 0, 1))
        names = ["blue", "nir", "green", "red", "alpha"]
        colours = ["blue", "undefined", "green", "red", "alpha"]
        dataset.colorinterp = [rasterio.enums.ColorInterp[name] for name in colours]
        for number, name in enumerate(names, 1):
            dataset.set_band_description(number, f"band {name}")
            dataset.update_tags(number, name=name)
    image = nr.open_image(path, bands="blue=1,nir=2,green=3,red=4")
    result = run(image, other_bands="drop")
    written = nr.open_image(result.save(tmp_path / "out.tif"))
    assert written.descriptions == ("band blue", "band green", "band red", "band alpha")
    assert written.roles == ("blue", "green", "red", "alpha")
    assert [dict(tags[""])["name"] for tags in written.profile.band_tags] == [
        "blue",
        "green",
        "red",
        "alpha",
    ]
    assert (written.read((0, 0, 64, 80))[..., 3] == 255).all()


def test_another_word_for_other_bands_is_refused(hazy):
    with pytest.raises(errors.BadParameter, match="correct, copy or drop"):
        nr.plan(hazy, model(), other_bands="forget")
