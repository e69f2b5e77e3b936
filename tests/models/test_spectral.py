"""Bands a model does not see."""

from __future__ import annotations

import numpy as np
import pytest

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
