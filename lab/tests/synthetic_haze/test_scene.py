"""The haze of a scene: by name and seed, alike at every size, and only where there is a picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_restore_lab.synthetic_haze import SPECTRA, ClearScene, Haze, draw_haze, haze_scene


def picture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 255, (6, 8, 3), np.uint8)
    made = Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(made, np.float32) / np.float32(255)


def made(height: int = 96, width: int = 128, **choices) -> Haze:
    haze = {"spectrum": "octaves", "seed": 3}
    haze |= {name: choices.pop(name) for name in haze.keys() & choices.keys()}
    scene = {"name": "a.png", "kind": "natural", "clear": picture(height, width)}
    scene |= {"valid": np.ones((height, width), bool), **choices}
    return haze_scene(ClearScene(**scene), **haze)


def test_it_follows_from_seed_and_stem():
    one = made()
    for same in (made(), made(name="folder/a.jpg")):
        assert np.array_equal(one.depth, same.depth)
        assert np.array_equal(one.airlight, same.airlight)
    for other in (made(seed=4), made(name="b.png")):
        assert not np.array_equal(one.depth, other.depth)


@pytest.mark.parametrize("kind", ["aerial", "natural"])
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.ids("slow", "fine-aerial", "fine-natural")
def test_it_looks_alike_at_every_size(kind, spectrum):
    large, small = (made(h, w, kind=kind, spectrum=spectrum) for h, w in ((960, 1280), (480, 640)))
    assert np.array_equal(large.airlight, small.airlight)
    means = large.depth.reshape(480, 2, 640, 2).mean(axis=(1, 3))
    assert np.abs(means - small.depth).mean() < 0.02
    # A reduced picture tells as much of the distance as the whole one.
    reduced = made(960, 1280, kind=kind, spectrum=spectrum, clear=picture(480, 640))
    assert np.abs(reduced.depth - large.depth).mean() < 0.02


def test_nothing_is_hazed_where_nothing_is_valid():
    valid = np.ones((96, 128), bool)
    valid[:, :40] = False
    haze = made(valid=valid, kind="aerial", spectrum="even")
    assert not haze.depth[:, :40].any() and haze.depth[:, 40:].min() > 0
    assert not made(valid=np.zeros((96, 128), bool)).depth.any()


def test_what_is_not_valid_decides_nothing():
    valid = np.ones((96, 128), bool)
    valid[:, :40] = False
    hidden = picture(96, 128)
    hidden[:, :40] = [1, 0, 0.5]
    one, other = made(valid=valid), made(valid=valid, clear=hidden)
    assert np.array_equal(one.depth, other.depth)


def test_grey_stays_grey_and_counts_add_up_as_they_are():
    grey = picture(96, 128).mean(axis=2, keepdims=True).repeat(3, axis=2)
    hazes = [made(clear=grey, name=str(n)) for n in range(8)]
    assert all(h.exponent == 0 and np.ptp(h.airlight) == 0 for h in hazes)
    assert any(h.linear for h in hazes)
    assert not any(made(clear=grey, name=str(n), is_light=True).linear for n in range(8))


@pytest.mark.parametrize("shape", [(3, 200), (200, 3), (1, 1), (2, 7)])
def test_narrow_pictures(shape):
    assert made(*shape).depth.shape == shape
    haze = draw_haze(
        np.random.default_rng(0),
        shape,
        scene="natural",
        spectrum="even",
        guide=np.ones(shape, np.float32),
    )
    assert np.isfinite(haze.depth).all()
