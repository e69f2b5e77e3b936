"""What a window loads again: a model whose files have changed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import napari_restore as nr
from napari_restore.plugin.state.request import Area, RunRequest
from napari_restore.questions import Restore

MODEL = """
import os, sys, torch
sys.path.insert(0, os.path.dirname(__file__))
import helper

class Net(torch.nn.Module):
    def forward(self, x):
        return x * helper.GAIN

def make():
    return Net()
"""


def test_a_model_is_loaded_again_when_what_it_imports_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "mine.py").write_text(MODEL)
    (tmp_path / "helper.py").write_text("GAIN = 0.5\n")
    image = nr.open_image(np.ones((64, 64, 3), np.float32))
    whole = Area((nr.Region(0, 0, 64, 64),))
    model = f"{tmp_path / 'mine.py'}:make"
    request = RunRequest(image, model, (), whole, Restore(), trust=True)
    first = request.load()
    assert request.load() is first
    before = request.plan()
    (tmp_path / "helper.py").write_text("GAIN = 0.9\n")
    second = request.load()
    assert second is not first
    assert float(second(torch.ones(1, 3, 4, 4)).mean()) == pytest.approx(0.9)
    assert request.plan().key != before.key
