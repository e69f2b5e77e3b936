from __future__ import annotations

import pytest

from napari_restore_lab.loop import OptimiserConfig, learning_rate

COSINE = OptimiserConfig(lr=1.0, warmup=4, final=0.1)


@pytest.mark.parametrize(
    ("step", "progress", "rate"),
    [
        (0, 0.0, 0.2),
        (3, 0.0, 0.8),
        (4, 0.0, 1.0),
        (50, 0.5, 0.55),
        (100, 1.0, 0.1),
        (120, 1.2, 0.1),
    ],
)
def test_the_rate_rises_in_steps_and_falls_over_the_stage(step: int, progress: float, rate: float):
    assert learning_rate(COSINE, step, progress) == pytest.approx(rate)


def test_a_constant_rate_stays():
    config = OptimiserConfig(lr=0.5, warmup=0, schedule="constant")
    assert [learning_rate(config, s, s / 10) for s in (0, 5, 10)] == [0.5, 0.5, 0.5]
