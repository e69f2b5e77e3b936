"""Loading, planning and looking for attention leave no trace in a module."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

import napari_restore as nr
from napari_restore.errors import BadModel
from napari_restore.models import content_of, load, undisturbed


class Noting(nn.Module):
    """Counts and notes its calls, and draws numbers that change nothing."""

    size: tuple[int, ...]

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix, self.related = nn.Conv2d(3, 4, 3, padding=1), nn.MultiheadAttention(4, 2)
        self.register_buffer("calls", torch.zeros(1))
        self.log: list[Any] = [[]]
        self.known: dict[str, Any] = {"first": 1}
        self.seen: set[int] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.log[0].append(tuple(x.shape))
        self.log.append(None)
        self.known.update(last=x.shape, first=2)
        self.seen.add(x.shape[3])
        self.size = tuple(x.shape)
        np.random.random()
        random.random()
        torch.rand(1)
        y = self.mix(x)
        cells = avg_pool2d(y, 8)
        tokens = cells.flatten(2).permute(2, 0, 1)
        tokens, _ = self.related(tokens, tokens, tokens, need_weights=False)
        cells = tokens.permute(1, 2, 0).reshape(cells.shape)
        return x + interpolate(cells, scale_factor=8.0)[:, :3]


def state_of(module: Noting) -> list[Any]:
    own = [float(module.calls), module.log, module.known, module.seen, hasattr(module, "size")]
    numbers = np.random.get_state()[2], random.getstate(), torch.get_rng_state().tolist()
    return [*map(str, own), *numbers, torch.get_num_threads()]


@pytest.mark.slow
@pytest.mark.measured
def test_loading_planning_and_attention_leave_no_trace():
    module = Noting().eval()
    before = state_of(module)
    model = load(module, card={"bands": 3, "multiple_of": 8})
    network = model.weighted
    assert isinstance(network, Noting)
    content = content_of(model)
    assert state_of(network) == state_of(module) == before
    assert [each.heads for each in model.attention_sites()]
    assert state_of(network) == before and content_of(model) == content
    load(module)
    nr.plan(np.zeros((40, 50, 3), np.float32), model, tile="whole", device="cpu")
    assert state_of(module) == before and content_of(model) == content


@pytest.mark.slow
def test_a_run_leaves_buffers_and_attributes_and_is_found_again(tmp_path):
    model = load(Noting().eval(), card={"bands": 3, "multiple_of": 8, "halo": 8})
    before, content = state_of(model.weighted)[:5], content_of(model)
    image = np.random.default_rng(0).random((40, 50, 3)).astype(np.float32)
    options = {"tile": "whole", "device": "cpu", "scratch": tmp_path}
    store = nr.plan(image, model, **options).store
    nr.restore(image, model, progress=False, **options)
    assert state_of(model.weighted)[:5] == before and content_of(model) == content
    assert store.exists() and nr.plan(image, model, **options).store == store


def test_loading_code_leaves_random_numbers(tmp_path):
    (tmp_path / "net.py").write_text(
        "import random\nimport numpy\nimport torch\n\nrandom.seed(1)\n\n\n"
        "def make():\n    numpy.random.seed(2)\n    torch.manual_seed(3)\n"
        "    return torch.nn.Conv2d(3, 3, 1)\n",
        "utf-8",
    )
    numbers = random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()
    load(f"{tmp_path / 'net.py'}:make", trust=True)
    after = random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()
    assert after == numbers


def test_what_a_block_changes_comes_back_also_after_an_error():
    module = Noting().eval()
    before = state_of(module)
    with pytest.raises(KeyError), undisturbed(module, threads=1):
        module(torch.rand(1, 3, 8, 16))
        assert torch.get_num_threads() == 1
        assert state_of(module) != before
        raise KeyError
    assert state_of(module) == before


def test_large_tensors_may_be_read_only():
    module = nn.Linear(256, 257)
    with undisturbed(module):
        module(torch.rand(2, 256))
    with pytest.raises(BadModel, match="changes 65792 values of its own"), undisturbed(module):
        module.weight.data.add_(1)
        with torch.no_grad():
            module.weight.add_(1)
