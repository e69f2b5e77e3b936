"""Bands a model does not see."""

from __future__ import annotations

import numpy as np
import pytest

import napari_restore as nr
from napari_restore.models import correct_band, transmission_at


def test_transmission_follows_the_wavelength() -> None:
    t = np.array([0.5, 1.0, 0.2], np.float32)
    assert transmission_at(t, 560, 560) == pytest.approx(t)
    assert transmission_at(t, 560, 1120) == pytest.approx(t**0.5)
    assert (transmission_at(t, 560, 842)[[0, 2]] > t[[0, 2]]).all()
    assert (transmission_at(t, 560, 450)[[0, 2]] < t[[0, 2]]).all()


def test_correction_inverts_haze() -> None:
    rng = np.random.default_rng(0)
    clear = rng.random((9, 11)).astype(np.float32)
    t = np.full((9, 11), 0.6, np.float32)
    hazy = clear * transmission_at(t, 560, 842) + 0.8 * (1 - transmission_at(t, 560, 842))
    assert correct_band(hazy, t, 0.8, 560, 842) == pytest.approx(clear, abs=1e-5)


def test_clear_pixels_stay_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((9, 11)).astype(np.float32)
    t = np.full((9, 11), 0.98, np.float32)
    assert np.array_equal(correct_band(values, t, 0.8, 560, 842), values)


def test_no_light_stays_finite() -> None:
    zero = np.zeros((2, 2), np.float32)
    assert np.isfinite(correct_band(zero, zero, 0.8, 560, 842)).all()


def test_a_dark_band_does_not_fall_below_no_light() -> None:
    values = np.array([[0.3, 0.02, 0.0, -0.01]], np.float32)
    found = correct_band(values, np.full((1, 4), 0.6, np.float32), 0.5, 550.0, 850.0)
    assert 0 < found[0, 0] < 0.3
    assert found[0, 1:].tolist() == [0, 0, np.float32(-0.01)]


def test_no_band_loses_more_light_than_its_dark_objects_have() -> None:
    """Clear snow: bright where a model looks, which takes it for haze, and dark in short waves."""
    rng = np.random.default_rng(0)
    snow = rng.uniform(0.025, 0.04, (40, 40)).astype(np.float32)
    t = np.full_like(snow, 0.3)
    assert np.median(correct_band(snow, t, 0.1, 560, 1610)) < 0.3 * np.median(snow)
    limit = float(np.percentile(snow, 0.1)) - 0.01
    kept = correct_band(snow, t, 0.1, 560, 1610, limit=limit)
    assert kept.min() > 0.005 and np.median(kept) > 0.5 * np.median(snow)
    # Where haze has lifted the darkest pixels it is taken away as before.
    clear = rng.uniform(0.02, 0.5, (40, 40)).astype(np.float32)
    t, t850 = np.full_like(clear, 0.6), 0.6 ** (560 / 850)
    hazy = (clear * t850 + 0.7 * (1 - t850)).astype(np.float32)
    limit = float(np.percentile(hazy, 0.1)) - 0.01
    found = correct_band(hazy, t, 0.7, 560, 850, limit=limit)
    assert found == pytest.approx(clear, abs=0.01)
    # Without any light to spare nothing changes.
    assert correct_band(snow, t, 0.1, 560, 1610, limit=0.0) == pytest.approx(snow, abs=1e-7)


COVERS = {
    # Reflectances as usual in red, green, blue, short-wave infrared: of what is bright, and of rocks or
    # water beside it.
    "snow": ((0.95, 0.97, 1.0, 0.035), (0.95, 0.97, 1.0, 0.03)),
    "sand": ((0.42, 0.32, 0.22, 0.52), (0.10, 0.09, 0.08, 0.12)),
    "cloud": ((0.80, 0.81, 0.82, 0.60), (0.03, 0.04, 0.05, 0.01)),
}


@pytest.mark.parametrize("cover", COVERS)
def test_short_waves_of_bright_covers_stay_in_a_run(cover: str) -> None:
    rng = np.random.default_rng(1)
    bright, beside = (np.array(spectrum) for spectrum in COVERS[cover])
    is_bright = np.zeros((96, 96, 1), bool)
    is_bright[:, :64] = True
    light = np.where(is_bright, bright, beside) * rng.uniform(0.85, 1, (96, 96, 1))
    image = nr.open_image(light.astype(np.float32), bands="red=1,green=2,blue=3")
    image = image.with_roles("red=1@655,green=2@560,blue=3@480,swir=4@1610")
    found = np.asarray(nr.restore(image, "dcp", progress=False, white=1.0).array)
    assert not np.allclose(found[..., :3], light[..., :3], atol=0.05)
    kept = found[..., 3][:, :64] / light[..., 3][:, :64]
    assert found[..., 3].min() > 0 and kept.min() > (0.4 if cover == "snow" else 0.8)
