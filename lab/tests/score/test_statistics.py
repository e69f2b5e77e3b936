from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from napari_restore_lab.score import compare, sign_flip_test, spread_of


def by_hand(values: np.ndarray) -> float:
    observed = abs(values.sum()) - 1e-9
    sums = [abs(np.dot(signs, values)) for signs in product((1, -1), repeat=len(values))]
    return float(np.mean(np.array(sums) >= observed))


def test_all_signs_are_tried_where_images_are_few():
    # Of 8 sums ±1 ±2 ±3 only the first and the last reach 6.
    assert sign_flip_test([1, 2, 3]) == 0.25
    assert sign_flip_test([-1, -2, -3]) == 0.25
    assert sign_flip_test([1, -1]) == 1
    assert sign_flip_test([0, 0]) == 1
    for seed in range(3):
        values = np.random.default_rng(seed).normal(0.4, 1, 9)
        assert sign_flip_test(values) == pytest.approx(by_hand(values))


def test_it_is_the_permutation_test_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(4).normal(0.5, 1, 11)
    found = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip_test(values) == pytest.approx(found.pvalue)


def test_random_signs_are_near_the_truth_and_fixed():
    # Two more than are tested exactly.
    values = np.random.default_rng(1).normal(0.1, 1, 16)
    truth = by_hand(values)
    assert 0.02 < truth < 0.9
    drawn = sign_flip_test(values)
    assert drawn != truth
    assert drawn == pytest.approx(truth, abs=0.015)
    assert drawn == sign_flip_test(values)
    assert sign_flip_test(np.ones(40)) == pytest.approx(1 / 20_001)


def test_spread_by_hand():
    spread = spread_of([1, 2, 6, float("nan")])
    assert (spread.n, spread.mean, spread.median, spread.min, spread.max) == (3, 3, 2, 1, 6)
    assert spread.std == pytest.approx(7**0.5)
    assert np.isnan(spread_of([5]).std)
    assert spread_of([]).n == 0 and np.isnan(spread_of([]).mean)


def test_an_image_equal_to_its_reference_counts_as_100_db():
    assert spread_of([float("inf"), 20]).mean == 60
    found = compare([float("inf"), 30], [float("inf"), 20], "ab", higher_is_better=True)
    assert (found.n, found.difference, found.better) == (2, 5, 1)


def test_better_may_mean_lower_and_nan_pairs_do_not_count():
    found = compare([1, 5, float("nan")], [2, 3, 1], "abc", higher_is_better=False)
    assert (found.n, found.difference, found.better, found.p) == (2, 0.5, 1, 1)
    assert compare([], [], "", higher_is_better=True).n == 0


def test_several_images_of_one_scene_are_one_witness():
    gains = np.array([1.0, 3.0, 2.0, 2.0, -1.0, float("nan")])
    found = compare(gains, np.zeros(6), "aabbcc", higher_is_better=True)
    assert (found.n, found.images, found.better) == (3, 5, 2)
    assert found.difference == 1
    assert found.p == sign_flip_test([2, 2, -1]) == 0.5
    # Four levels of two scenes say no more than two scenes.
    assert compare(np.ones(8), np.zeros(8), "abababab", higher_is_better=True).p == 0.5
