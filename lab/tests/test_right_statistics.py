"""The atmosphere model on haze that is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.models.atmosphere.test_model import haze_statistics, model, scene

from napari_restore_lab.synthetic_haze import Haze, add_haze


@pytest.mark.parametrize("linear", [False, True])
def test_right_statistics_undo_haze(model, linear):
    clear = 0.2 + 0.8 * scene(40, 56)
    haze = Haze(np.full((40, 56), 0.7, np.float32), np.float32([0.9, 0.85, 0.95]), 0.8, linear)
    hazy = torch.from_numpy(add_haze(clear[0].permute(1, 2, 0).numpy(), haze)).permute(2, 0, 1)[
        None
    ]
    statistics = haze_statistics(model, hazy, 0.7, haze.airlight, 0.8, float(not linear))
    y = model(hazy, statistics)
    # In linear light a power stands for the display curve.
    assert (y - clear).abs().max() < (0.05 if linear else 1e-5)
    assert (y - clear).abs().mean() < (0.01 if linear else 1e-6)
    assert (hazy - clear).abs().max() > 0.3
