"""Brackets: exposures, what they clip, and what moves between them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_restore.images import light_of_srgb, srgb_of_light
from napari_restore_lab.degradation import (
    CURVES,
    FOR_SCORES,
    KEPT,
    LIFT,
    WIDEST,
    CaptureSettings,
    Motion,
    degraded_scene,
    draw_bracket,
    draw_motion,
    radiance,
    shown,
    take_bracket,
)
from napari_restore_lab.degradation._bracket import _seen_from

QUIET = CaptureSettings((2.0, 2.0), 0.1, 2.0, 0.7, 1.0, "srgb", 1.0, 1e9, 0.0, (None,) * 3)
STILL = (0.0, 0.5)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def clear() -> np.ndarray:
    y, x = np.mgrid[:96, :120] / 24
    waves = [np.sin(y * a + x * b) for a, b in ((1.0, 0.7), (0.4, -1.2), (-0.9, 0.5))]
    return (0.5 + 0.42 * np.stack(waves, axis=2)).astype(np.float32)


@pytest.mark.parametrize("contrast", [0.85, 1.8])
def test_a_style_keeps_black_grey_and_white(contrast: float):
    bracket = replace(QUIET, contrast=contrast)
    light = np.linspace(0, 1, 400, dtype=np.float32)
    plain, styled = QUIET.response(light), bracket.response(light)
    assert (np.diff(styled) > 0).all()
    np.testing.assert_allclose(styled[[0, -1]], [0, 1], atol=1e-6)
    assert ((styled > plain) == ((plain > 0.5) == (contrast > 1)))[2:-2].mean() > 0.98


@pytest.mark.parametrize("name", CURVES)
def test_curves_rise_from_black_to_white(name: str):
    light = np.linspace(0, 1, 400, dtype=np.float32)
    display = CURVES[name](light)
    np.testing.assert_allclose(display[[0, -1]], [0, 1], atol=1e-3)
    assert (np.diff(display) >= 0).all()


@pytest.mark.parametrize("name", CURVES)
def test_the_truth_shows_all_light_up_to_its_widest(name: str):
    light = np.linspace(0.01, 2.0**WIDEST, 4000, dtype=np.float32)
    display = shown(light, CURVES[name])
    assert (np.diff(display) > 0).all()
    assert display[-1] == pytest.approx(1, abs=1e-3)
    # Below white it is the middle frame by one curve, whatever the camera.
    below = light <= 1
    expected = (KEPT * CURVES[name](light[below])) ** LIFT
    np.testing.assert_allclose(display[below], expected, atol=1e-6)


def test_the_middle_frame_clips_its_share_and_the_dark_one_none(clear: np.ndarray):
    for clipped in (0.05, 0.2):
        bracket = replace(QUIET, clipped=clipped)
        light, _ = radiance(clear, bracket)
        assert (light.max(2) > 1).mean() == pytest.approx(clipped, abs=0.02)
        assert (light.max(2) > 2.0**2.05).mean() < 0.005
        # Lights and shadows keep their colours.
        ratio = light / np.maximum(light_of_srgb(clear), 1e-6)
        np.testing.assert_allclose(ratio.std(2) / ratio.mean(2), 0, atol=1e-4)


def test_frames_are_exposures_of_one_light(clear: np.ndarray):
    frames, truth = take_bracket(clear, clear, QUIET, STILL, rng(5))
    light, _ = radiance(clear, QUIET)
    np.testing.assert_allclose(truth, shown(light, CURVES[QUIET.curve]), atol=1e-6)
    middle = frames[..., 3:6]
    np.testing.assert_allclose(middle, srgb_of_light(np.minimum(light, 1)), atol=0.5 / 255 + 1e-4)
    means = [frames[..., n : n + 3].mean() for n in (0, 3, 6)]
    assert means[0] < means[1] < means[2]
    # Where nothing is clipped, EVs are ratios of light; frames but the middle one are jittered.
    for n, ev in ((0, -2.0), (6, 2.0)):
        inner = frames[8:-8, 8:-8, n : n + 3]
        other = middle[8:-8, 8:-8]
        used = (inner > 0.2) & (inner < 0.9) & (other > 0.2) & (other < 0.9)
        ratios = light_of_srgb(inner)[used] / light_of_srgb(other)[used]
        assert np.log2(np.median(ratios)) == pytest.approx(ev, abs=0.1)


def test_dark_frames_are_noisier(clear: np.ndarray):
    noisy = replace(QUIET, electrons=3000.0, read=4.0)
    quiet, _ = take_bracket(clear, clear, QUIET, STILL, rng(5))
    frames, truth = take_bracket(clear, clear, noisy, STILL, rng(5))
    errors = [
        np.abs(light_of_srgb(frames[..., n : n + 3]) - light_of_srgb(quiet[..., n : n + 3])).mean()
        / 2.0**ev
        for n, ev in ((0, -2.0), (3, 0.0))
    ]
    assert errors[0] > 1.5 * errors[1] > 0
    np.testing.assert_array_equal(truth, take_bracket(clear, clear, QUIET, STILL, rng(5))[1])


def test_objects_move_with_their_content(clear: np.ndarray):
    motion = draw_motion(rng(2), clear.shape[:2], 1.0, 0.5)
    assert motion.objects
    masks = [motion.objects[0].mask(clear.shape[:2], frame) for frame in range(3)]
    assert all(0 <= mask.min() and mask.max() <= 1 for mask in masks)
    assert np.abs(masks[0] - masks[Motion.MIDDLE]).max() > 0.5
    still = Motion(((0.0, 0.0, 0.0),) * 3, motion.objects)
    scene = still.scene(clear, np.ones_like(clear), Motion.MIDDLE)
    covered = np.max([m.mask(clear.shape[:2], Motion.MIDDLE) for m in still.objects], axis=0)
    np.testing.assert_allclose(scene[covered == 1], 1, atol=1e-6)
    np.testing.assert_array_equal(scene[covered == 0], clear[covered == 0])
    assert not draw_motion(rng(2), clear.shape[:2], 0.0, 0.5).objects


def test_a_camera_moves_by_its_shift(clear: np.ndarray):
    seen = _seen_from(clear, 3.0, -2.0, 0.0)
    np.testing.assert_allclose(seen[10:-10, 10:-10], clear[13:-7, 8:-12], atol=1e-5)
    turned = _seen_from(clear, 0.0, 0.0, 180.0)
    np.testing.assert_allclose(turned[10:-10, 10:-10], clear[::-1, ::-1][10:-10, 10:-10], atol=1e-4)


def test_drawn_brackets_keep_a_curve_for_scores():
    drawn = [draw_bracket(rng(n), (1.0, 3.0), (0.0, 0.2), 0.5) for n in range(60)]
    assert {bracket.curve for bracket in drawn} == set(CURVES) - {FOR_SCORES}
    contrasts = np.array([bracket.contrast for bracket in drawn])
    assert 0.85 <= contrasts.min() < 0.95 and 1.6 < contrasts.max() <= 1.8
    assert draw_bracket(rng(), (2.0, 2.0), (0.0, 0.2), 0.5, FOR_SCORES).contrast == 1
    assert {bracket.qualities[0] is None for bracket in drawn} == {True, False}
    steps = np.array([bracket.steps for bracket in drawn])
    assert 0.8 <= steps.min() < 1.3 and 2.7 < steps.max() <= 3.2


def test_a_scored_bracket_is_the_same_every_time(clear: np.ndarray):
    frames, truth = degraded_scene(clear, "a/b.png", "bracket", 2.0, 0)
    assert frames.shape == (*clear.shape[:2], 9) and truth.shape == clear.shape
    again, same = degraded_scene(clear, "b.tif", "bracket", 2.0, 0)
    np.testing.assert_array_equal(frames, again)
    np.testing.assert_array_equal(truth, same)
    assert np.abs(frames - degraded_scene(clear, "b.png", "bracket", 2.0, 1)[0]).mean() > 1e-3
