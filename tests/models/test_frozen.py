"""Modules of others stay as they are: they are copied, whatever they hold."""

from __future__ import annotations

import threading
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from napari_restore.errors import BadModel
from napari_restore.models import frozen_copy, is_frozen, load

X = torch.rand(1, 3, 12, 16, generator=torch.Generator().manual_seed(0))


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    parts = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 3, 1)
    return nn.Sequential(*parts).train()


class Holding(nn.Module):
    """Calls its layers in all the ways in which they can be held, and keeps what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = net = layers()
        self.closure = lambda x: net(x)
        self.method, self.listed, self.named = net.forward, [net], {"net": (net,)}
        self.bound = partial(net)
        self.lock = threading.Lock()
        self.seen: list[Tensor] = []
        self.cached = net(X)
        self.hook = net.register_forward_hook(lambda module, given, made: self.seen.append(made))

    def forward(self, x: Tensor) -> Tensor:
        ways = self.closure, self.method, self.listed[0], self.named["net"][0], self.bound
        return torch.stack([way(x) for way in ways]).mean(0)


def state_of(module: nn.Module) -> dict[str, object]:
    return {
        "tensors": {name: value.clone() for name, value in module.state_dict().items()},
        "training": [part.training for part in module.modules()],
        "trained": [tensor.requires_grad for tensor in module.parameters()],
        "hooks": [len(part._forward_hooks) for part in module.modules()],
    }


def test_a_copy_shares_nothing_and_is_in_evaluation_mode() -> None:
    module = Holding()
    before, seen = state_of(module), len(module.seen)
    copied = frozen_copy(module)
    assert is_frozen(copied) and not is_frozen(module)
    # In evaluation mode nothing is random, and no statistics move.
    assert torch.allclose(copied(X), copied.layers(X), atol=1e-6) and not copied(X).requires_grad
    with torch.no_grad():
        for tensor in (*copied.parameters(), *copied.buffers()):
            tensor.zero_()
    torch.testing.assert_close(state_of(module), before)
    assert len(module.seen) == seen


def test_shared_layers_stay_shared() -> None:
    conv = nn.Conv2d(3, 3, 1)
    tied = nn.Conv2d(3, 3, 1)
    tied.weight = conv.weight
    copied = frozen_copy(nn.Sequential(conv, conv, tied))
    assert copied[0] is copied[1] and copied[0].weight is copied[2].weight


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit
@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.jit.script, nn.utils.spectral_norm])
def test_other_kinds_of_modules(wrap) -> None:
    plain = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1))
    inner = plain[0] if wrap is nn.utils.spectral_norm else plain
    wrapped = wrap(inner).train()
    copied = frozen_copy(wrapped)
    assert is_frozen(copied) and not is_frozen(wrapped)
    assert torch.equal(copied(X), wrapped.eval()(X))


@pytest.mark.filterwarnings("ignore")  # it is to move to another package
def test_quantised_layers() -> None:
    module = nn.Sequential(nn.Linear(16, 16))
    module = torch.ao.quantization.quantize_dynamic(module, {nn.Linear}, torch.qint8)
    assert torch.equal(load(module, card={})(X), module(X))


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_module_is_what_it_compiles() -> None:
    plain = layers()
    for compiled in (torch.compile(plain), nn.Sequential(torch.compile(plain))):
        copied = frozen_copy(compiled)
        assert torch.equal(copied(X), frozen_copy(plain)(X))
    plain.compile()
    assert torch.equal(frozen_copy(plain)(X), copied(X))


@pytest.mark.parametrize("module", [nn.LazyConv2d(3, 1), nn.Conv2d(3, 3, 1, device="meta")])
def test_weights_without_values_are_refused(module: nn.Module) -> None:
    with pytest.raises(BadModel, match="have no values yet"):
        load(module)


def test_a_loaded_model_in_training_is_copied() -> None:
    model = load(layers(), card={"id": "own"})
    assert load(model) is model
    model.train().requires_grad_(True)
    again = load(model)
    assert again is not model and is_frozen(again) and model.training
    with torch.no_grad():
        model.module[3].weight.zero_()
    assert not torch.equal(load(model)(X), again(X))
    other = load(again, weights="random:1")
    assert other is not again and other.card.weights_sha256 != again.card.weights_sha256
