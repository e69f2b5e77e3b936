"""Rows beside models: they take away noise, and bring light."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from napari_restore.errors import BadParameter
from napari_restore.metrics import psnr
from napari_restore_lab.degradation import add_noise, degraded_scene
from napari_restore_lab.score import CLASSICAL, MEDIAN, check_installed, methods_of

LUMA = np.array((0.2126, 0.7152, 0.0722), np.float32)


@pytest.fixture
def clear() -> np.ndarray:
    """(h, w, 3) float32 0 to 1: smooth patches with edges."""
    rng = np.random.default_rng(2)
    cells = rng.uniform(0.15, 0.8, (6, 8, 3)).repeat(16, 0).repeat(16, 1)
    ramp = np.linspace(0, 0.1, 128)[None, :, None]
    return (cells + ramp).astype(np.float32)


@pytest.mark.parametrize("name", CLASSICAL["noise"])
@pytest.mark.parametrize("sigma", [15.0, 50.0])
def test_noise_becomes_less(name: str, sigma: float, clear: np.ndarray):
    pytest.importorskip("skimage")
    if name == "wavelets":
        pytest.importorskip("pywt")
    noisy = add_noise(clear, sigma, np.random.default_rng(0))
    restored = CLASSICAL["noise"][name](noisy, sigma)
    assert restored.shape == clear.shape and restored.dtype == np.float32
    assert psnr(restored, clear, 1) > psnr(noisy, clear, 1) + 4


@pytest.mark.parametrize("name", CLASSICAL["lowlight"])
def test_light_is_brought(name: str, clear: np.ndarray):
    pytest.importorskip("skimage")
    dark = degraded_scene(clear, "a.png", "lowlight", 5.0, 0)[0]
    restored = CLASSICAL["lowlight"][name](dark, 5.0)
    assert restored.shape == clear.shape and restored.dtype == np.float32
    assert restored.min() >= 0 and restored.max() <= 1.0001
    assert np.median(restored @ LUMA) > np.median(dark @ LUMA) + 0.1
    if name == "gamma":
        assert np.median(restored @ LUMA) == pytest.approx(MEDIAN, abs=0.05)


def test_rows_are_those_of_the_degradation(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    for degradation, names in (
        ("haze", ["input", "dcp:omega=0.95", "dcp:omega=0.85", "hot"]),
        ("noise", ["input", "nl-means", "wavelets"]),
        ("lowlight", ["input", "gamma", "clahe", "retinex"]),
    ):
        found = methods_of([], degradation=degradation)
        assert [method.label for method in found] == names
    assert [m.label for m in methods_of([], baselines=False, degradation="noise")] == ["input"]


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_installed("haze")
    with pytest.raises(BadParameter, match=r"need scikit-image and PyWavelets\..*\[classical\]"):
        check_installed("noise")
    with pytest.raises(BadParameter, match=r"need scikit-image\."):
        check_installed("lowlight")
