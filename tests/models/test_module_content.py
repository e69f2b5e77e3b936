"""A module's content: what steers it changes it, and nothing else does."""

from __future__ import annotations

import copy
import functools
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import napari_restore as nr
from napari_restore.models import ModelCard, WrappedModel, content_of

CARD = {"bands": 3, "halo": 4}
GAIN = 0.9
TABLE = np.linspace(0, 1, 5)


def brighter(x):
    """Doubles it."""
    return x * 2


def scaled(x):
    return brighter(x) * GAIN


class Double(nn.Module):
    def forward(self, x):
        return x * 2


class Net(nn.Module):
    """Uses attributes of every kind."""

    slope = 0.25
    bias = (0.5, 0.25)

    def __init__(self, width=4):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        for tensor in (self.norm.bias.data, self.norm.running_mean):
            tensor += 0.25
        self.last = nn.Conv2d(width, 3, 3, padding=1)
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1))
        self.register_buffer("hidden", torch.ones(3, 1, 1), persistent=False)
        self.plain = torch.full((1, 3, 1, 1), 0.01)
        self.array = np.arange(3, dtype=np.float32)
        self.gain, self.steps, self.flag, self.mode = 0.5, 2, True, "relu"
        self.weights = [0.1, 0.2]
        self.settings = {"gamma": 1.0, "names": {"a", "b"}, "nested": [{"k": (1, 2)}]}
        self.space = SimpleNamespace(offset=0.0)
        self.activation = torch.relu
        self.function = lambda x: x + 0.125
        self.call = functools.partial(torch.clamp, max=4.0)
        self.layers = nn.ModuleList([nn.Identity(), nn.LeakyReLU(0.1)])
        self.blocks = nn.ModuleDict({"a": nn.Identity(), "b": Double()})
        self.method = scaled

    def forward(self, x):
        y = self.activation(self.norm(self.first(x - self.mean)))
        y = self.last(y) * self.gain * self.hidden + self.plain
        for _ in range(self.steps):
            y = self.function(y)
        y = self.call(y) if self.flag else y
        y = y + float(self.array.sum()) + sum(self.weights) + self.settings["gamma"]
        y = self.blocks["a"](self.layers[1](y)) * self.slope + self.bias[0] + self.space.offset
        return x + self.method(y) * (0.01 if self.mode == "relu" else 0.02)


def changed(name, value, within=""):
    """Return what sets an attribute."""

    def change(net):
        target = net.get_submodule(within) if within else net
        setattr(target, name, value)

    return change


def edited(change):
    """Return what calls `change` with the network without gradients."""

    def edit(net):
        with torch.no_grad():
            change(net)

    return edit


def first_value(tensor):
    tensor.view(-1)[0] += 0.5


NAMES = [name for name, _ in Net().named_parameters()]
BUFFERS = [name for name, _ in Net().named_buffers() if "tracked" not in name]


def offset_by(value):
    return lambda x: x + value


def hooked(net):
    net.last.register_forward_hook(lambda module, given, y: y * 1.5)


def pre_hooked(net):
    net.first.register_forward_pre_hook(lambda module, given: (given[0] * 0.5,))


def renamed_layers(net):
    net.blocks = nn.ModuleDict({"a": Double(), "b": nn.Identity()})


def parametrised(net):
    parametrize.register_parametrization(net.last, "bias", Double())


def new_class(**attributes):
    def change(net):
        net.__class__ = type("Net", (Net,), attributes)

    return change


def without_version(tensor):
    # In place, past the counter of versions.
    tensor.data.mul_(1.5)


def other_forward(self, x):
    return Net.forward(self, x) + 0.25


def documented(x):
    """Other words for the same."""
    # And a comment.
    return x + 0.125


MODULE_CHANGES = {
    **{f"{n}[0]": edited(lambda m, n=n: first_value(m.get_parameter(n))) for n in NAMES},
    **{f"{n} scaled": edited(lambda m, n=n: m.get_parameter(n).mul_(1.1)) for n in NAMES},
    **{f"{n}.data": lambda m, n=n: without_version(m.get_parameter(n)) for n in NAMES},
    **{f"{n}[0]": edited(lambda m, n=n: first_value(m.get_buffer(n))) for n in BUFFERS},
    **{f"{n}.data": lambda m, n=n: without_version(m.get_buffer(n)) for n in BUFFERS},
    "weights flipped": edited(lambda m: m.last.weight.copy_(m.last.weight.flip(-1))),
    "weights swapped": edited(lambda m: m.last.weight.copy_(m.last.weight.roll(1, 0))),
    "double": lambda m: m.first.double(),
    "half": lambda m: m.norm.half(),
    "plain tensor": edited(lambda m: first_value(m.plain)),
    "plain tensor replaced": changed("plain", torch.zeros(1, 3, 1, 1)),
    "array": lambda m: m.array.__setitem__(0, 9.0),
    "array dtype": changed("array", np.arange(3, dtype=np.float64) + 1),
    "gain": changed("gain", 0.75),
    "gain int": changed("gain", 1),
    "steps": changed("steps", 3),
    "flag": changed("flag", False),
    "mode": changed("mode", "gelu"),
    "list": lambda m: m.weights.append(0.3),
    "list item": lambda m: m.weights.__setitem__(0, 0.3),
    "dict": lambda m: m.settings.update(gamma=2.0),
    "dict of sets": lambda m: m.settings["names"].add("c"),
    "nested": lambda m: m.settings["nested"][0].update(k=(1, 3)),
    "namespace": lambda m: setattr(m.space, "offset", 0.5),
    "new attribute": changed("more", 1.0),
    "activation": changed("activation", torch.tanh),
    "activation module": changed("activation", nn.ReLU()),
    "lambda": changed("function", lambda x: x + 0.5),
    "closure": changed("function", offset_by(0.5)),
    "partial": changed("call", functools.partial(torch.clamp, max=2.0)),
    "partial function": changed("call", functools.partial(torch.clip, max=4.0)),
    "slope": changed("negative_slope", 0.2, "layers.1"),
    "layer": lambda m: m.layers.__setitem__(1, nn.ReLU()),
    "layer added": lambda m: m.layers.append(nn.Identity()),
    "layers swapped": lambda m: setattr(m, "layers", nn.ModuleList(list(m.layers)[::-1])),
    "named layers": renamed_layers,
    "padding": changed("padding_mode", "reflect", "last"),
    "dilation": changed("dilation", (2, 2), "last"),
    "epsilon": changed("eps", 0.1, "norm"),
    "no statistics": changed("track_running_stats", False, "norm"),
    "hook": hooked,
    "hook before": pre_hooked,
    "parametrised": parametrised,
    "method": changed("method", brighter),
    "method of itself": lambda m: setattr(m, "method", m.blocks["b"].forward),
    "class attribute": new_class(slope=0.5),
    "class tuple": new_class(bias=(0.1, 0.25)),
    "forward": new_class(forward=other_forward),
    "property": new_class(gain=property(lambda self: 0.3, lambda self, value: None)),
    "static method": new_class(blend=staticmethod(brighter)),
    "width": lambda m: m.__dict__.update(Net(5).__dict__),
    "one more parameter": changed("extra", nn.Parameter(torch.ones(1))),
    "one more buffer": lambda m: m.register_buffer("extra", torch.ones(1), persistent=False),
}
SAME_MODULES = {
    "nothing": lambda m: None,
    "a copy": lambda m: m.__dict__.update(copy.deepcopy(m).__dict__),
    "weights again": edited(lambda m: m.load_state_dict(copy.deepcopy(m.state_dict()))),
    "there and back": edited(lambda m: m.last.weight.mul_(2).mul_(0.5)),
    "requires grad": lambda m: m.requires_grad_(False),
    "evaluation": lambda m: m.eval(),
    "a gradient": lambda m: setattr(m.last.weight, "grad", torch.ones_like(m.last.weight)),
    "memory format": lambda m: m.to(memory_format=torch.channels_last),
    "other words": changed("function", documented),
    "other lambda": changed("function", lambda x: x + 0.125),
    "strided": edited(lambda m: setattr(m.last.weight, "data", m.last.weight.mT.contiguous().mT)),
    "set in another order": lambda m: m.settings.update(names=set("ba")),
    "backward hook": lambda m: m.last.register_full_backward_hook(lambda *_: None),
    "state hook": lambda m: m._register_state_dict_hook(lambda *_: None),
    "compiled": lambda m: None,
}


def loaded(change, **card):
    net = Net()
    change(net)
    return nr.load_model(net, card={**CARD, **card})


@pytest.fixture(scope="module")
def reference():
    return content_of(nr.load_model(Net(), card=CARD))


@pytest.mark.parametrize("name", MODULE_CHANGES)
def test_what_steers_a_module_changes_its_content(name, reference):
    assert content_of(loaded(MODULE_CHANGES[name])) != reference


@pytest.mark.parametrize("name", SAME_MODULES)
def test_what_steers_nothing_leaves_the_content(name, reference):
    net = Net()
    SAME_MODULES[name](net)
    if name == "compiled":
        # As `torch.compile` does.
        compiled = nn.Module()
        compiled._orig_mod, net = net, compiled
    assert content_of(WrappedModel(net, ModelCard("net", "", ""))) == reference


@pytest.mark.parametrize(
    ("name", "value"), [("GAIN", 0.5), ("brighter", torch.relu), ("TABLE", None)]
)
def test_globals_count_that_a_function_refers_to(name, value, reference, monkeypatch):
    monkeypatch.setitem(globals(), name, value)
    assert (content_of(nr.load_model(Net(), card=CARD)) == reference) == (name == "TABLE")


PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
import napari_restore as nr
from napari_restore.models import content_of
import test_module_content as t
print(content_of(nr.load_model(t.Net(), card=t.CARD)))
"""


@pytest.mark.slow
@pytest.mark.nightly
def test_the_content_is_alike_in_all_processes():
    code = PROGRAM.format(folder=str(Path(__file__).parent))
    contents = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(contents) == 1 and len(contents.pop().strip()) == 64
