"""Modules passed in from Python stay exactly as they were, whatever is done with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import napari_restore as nr
from napari_restore.errors import BadModel, BadParameter, Cancelled

SCENE = np.random.default_rng(0).random((40, 52, 3)).astype(np.float32)
CARD = {"id": "own", "bands": 3, "halo": 1}


class Training(nn.Module):
    """Has all that evaluation must not touch: statistics, dropout, a counter, attention, its input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.drop, self.fixed = nn.Dropout(0.5), nn.Conv2d(3, 3, 1).requires_grad_(False)
        self.register_buffer("calls", torch.zeros(()))
        self.seen: list[int] = []
        self.train()
        self.fixed.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen.append(len(x))
        x.mul_(0.5)
        return self.drop(self.norm(self.conv(self.fixed(x))))


class Breaking(Training):
    def forward(self, x: Tensor) -> Tensor:
        if x.max() > 0.97:  # not what it is tried on
            raise OSError("a disk is gone")
        return super().forward(x)


class Attending(Training):
    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        tokens = x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 4, 5, 1).reshape(-1, 1, 16, 3)
        return x + 0 * nn.functional.scaled_dot_product_attention(tokens, tokens, tokens).mean()


def state_of(module: Training) -> dict[str, Any]:
    return {
        "tensors": {name: value.clone() for name, value in module.state_dict().items()},
        "places": [tensor.data_ptr() for tensor in (*module.parameters(), *module.buffers())],
        "training": [part.training for part in module.modules()],
        "trained": [tensor.requires_grad for tensor in module.parameters()],
        "gradients": [tensor.grad is None for tensor in module.parameters()],
        "seen": list(module.seen),
        "random": torch.get_rng_state(),
    }


def restored(module: nn.Module, folder: Path) -> None:
    result = nr.restore(SCENE, module, progress=False, scratch=folder)
    expected = Training().eval()(torch.from_numpy(SCENE).permute(2, 0, 1)[None].clone())
    np.testing.assert_allclose(result, expected[0].permute(1, 2, 0).detach(), atol=1e-6)


def attributed(module: nn.Module, folder: Path) -> None:
    box = nr.Region(8, 8, 20, 20)
    found = nr.attribute(SCENE, module, box, method="ig", steps=2, progress=False, scratch=folder)
    assert np.isfinite(found.map).all()


def attended(module: nn.Module, folder: Path) -> None:
    model = nr.load_model(module, card={**CARD, "multiple_of": 8})
    model.train().requires_grad_(True)
    nr.attend(SCENE, model, [(9, 9)], progress=False, scratch=folder)
    assert model.training and model.module.conv.weight.requires_grad


def cancelled(module: nn.Module, folder: Path) -> None:
    job = nr.start(nr.plan(SCENE, module, scratch=folder))
    job.cancel()
    with pytest.raises(Cancelled):
        job.result()


def failed(module: nn.Module, folder: Path) -> None:
    with pytest.raises(BadModel, match="OSError: a disk is gone"):
        nr.restore(SCENE, module, progress=False, scratch=folder)


def overwritten(module: nn.Module, folder: Path) -> None:
    model = nr.load_model(module, card=CARD, weights="random:3")
    assert not torch.equal(model.module.conv.weight, module.conv.weight)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "use"),
    [
        (Training, restored),
        (Training, attributed),
        (Attending, attended),
        (Training, cancelled),
        (Breaking, failed),
        (Training, overwritten),
    ],
)
def test_a_module_stays_as_it_is(
    kind: type[Training], use: Callable[[nn.Module, Path], None], tmp_path: Path
) -> None:
    module = kind()
    before = state_of(module)
    use(module, tmp_path)
    torch.testing.assert_close(state_of(module), before, rtol=0, atol=0)
    module(0.9 * torch.rand(2, 3, 8, 8)).mean().backward()
    assert module.conv.weight.grad is not None


@pytest.mark.slow
def test_a_run_on_a_thread_has_the_weights_it_was_planned_with(tmp_path: Path) -> None:
    module = Training()
    job = nr.start(nr.plan(SCENE, module, scratch=tmp_path))
    with torch.no_grad():
        for tensor in module.parameters():
            tensor.zero_()
    expected = Training().eval()(torch.from_numpy(SCENE).permute(2, 0, 1)[None].clone())
    np.testing.assert_allclose(job.result(), expected[0].permute(1, 2, 0).detach(), atol=1e-6)
    assert module.training


@pytest.mark.slow
def test_a_record_in_memory_is_repeated(tmp_path: Path) -> None:
    path = tmp_path / "scene.tif"
    nr.restore(SCENE, "identity", progress=False, scratch=tmp_path).save(path)
    result = nr.restore(path, "hot", progress=False, scratch=tmp_path)
    result.save(tmp_path / "first.tif")
    again = nr.rerun(result.record, tmp_path / "again.tif")
    np.testing.assert_array_equal(again, result)
    with pytest.raises(nr.errors.InputError, match="<record> is not a record of a run"):
        nr.rerun({"command": "restore"}, tmp_path / "none.tif")


def test_an_objective_that_is_no_function_is_refused() -> None:
    with pytest.raises(BadParameter, match="is a name, a function"):
        nr.attribute(SCENE, "identity", nr.Region(0, 0, 9, 9), method="ig", objective=3)  # type: ignore[arg-type]
