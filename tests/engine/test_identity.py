"""A run's key: what decides pixels changes it, and nothing else does."""

from __future__ import annotations

import copy
import functools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image as Picture
from rasterio.transform import from_origin
from tests.engine._swept_model import ToySwept
from tests.models.test_code import CODE_CHANGES, SAME_CODE
from torch import nn
from torch.nn.utils import parametrize

import napari_restore as nr
from napari_restore.engine.planning import _planning
from napari_restore.models import ModelCard, WrappedModel, content_of, definition_of
from napari_restore.questions import TONE, Restore, options_of

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
import test_identity as t
print(content_of(nr.load_model(t.Net(), card=t.CARD)))
"""


@pytest.mark.slow
@pytest.mark.nightly
def test_the_content_is_alike_in_all_processes():
    code = PROGRAM.format(folder=str(Path(__file__).parent))
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1 and len(told.pop().strip()) == 64


# -- options, images and cards -------------------------------------------------------

SIZE = (160, 200)


def write(path, pixels, **profile):
    bands, height, width = pixels.shape
    about = {"transform": from_origin(0, 0, 1, 1), "crs": "EPSG:32633", **profile}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=bands,
        dtype=pixels.dtype,
        **about,
    ) as file:
        file.write(pixels)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("identity")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    scene = 40 + 0.5 * y + 0.3 * x + 30 * np.sin((x + y) / 17) + rng.integers(0, 40, (5, *SIZE))
    write(folder / "scene.tif", scene[:3].astype(np.uint8))
    Picture.fromarray(scene[:3].transpose(1, 2, 0).astype(np.uint8)).save(folder / "photo.png")
    write(folder / "deep.tif", (scene[:3] * 30).astype(np.uint16))
    write(folder / "five.tif", scene.astype(np.uint8))
    half = np.zeros((1, *SIZE), np.uint8)
    half[:, 20:90, 30:120] = 255
    write(folder / "mask.tif", half)
    write(folder / "other.tif", np.roll(half, 16, 1))
    with rasterio.open(folder / "scene.tif") as file:
        named = {"type": "name", "properties": {"name": str(file.crs)}}
        corners = [file.transform * point for point in [(20, 20), (80, 20), (80, 60), (20, 20)]]
    features = [
        {
            "type": "Feature",
            "properties": {"kind": kind},
            "geometry": {"type": "Polygon", "coordinates": [[(x + to, y) for x, y in corners]]},
        }
        for kind, to in (("lake", 0), ("town", 9))
    ]
    areas = {"type": "FeatureCollection", "crs": named, "features": features}
    (folder / "areas.geojson").write_text(json.dumps(areas))
    nr.api.save_context([nr.open_image(folder / "scene.tif")], folder / "context.npz")
    write(folder / "dark.tif", (scene[:3] / 2).astype(np.uint8))
    nr.api.save_context([nr.open_image(folder / "dark.tif")], folder / "other.npz")
    return folder


def planned(folder, image="scene.tif", model="dcp", bands=None, sensor=None, **options):
    """Return a plan; `model` is an id, arguments of `load_model`, or loaded."""
    if isinstance(model, str):
        model = {"model": model}
    for name in ("mask", "exclude", "context"):
        if "." in options.get(name, ""):
            options[name] = folder / options[name]
    opened = nr.api.open_image(folder / image, bands=bands, sensor=sensor)
    return nr.plan(opened, nr.load_model(**model) if isinstance(model, dict) else model, **options)


BOX = nr.Region(0, 0, 96, 128)
AREA = "POLYGON ((10 -20, 90 -20, 90 -100, 10 -100, 10 -20))"
RGB = "red=1,green=2,blue=3"
NET = {"model": "haze-unet", "weights": "random:0"}
FIVE = {"image": "five.tif", "bands": RGB}
PHOTO = {"image": "photo.png"}
TONES = dict.fromkeys(TONE, 40) | {"temperature": 5000, "curve": "0,0:0.5,0.6:1,1"}
OPTION_CHANGES = {
    "image": ({}, {"image": "deep.tif"}),
    "model": ({}, {"model": "htm"}),
    "omega": ({}, {"model": {"model": "dcp", "parameters": {"omega": 0.8}}}),
    "t0": ({}, {"model": {"model": "dcp", "parameters": {"t0": 0.2}}}),
    "patch": ({}, {"model": {"model": "dcp", "parameters": {"patch_radius": 5}}}),
    "eps": ({}, {"model": {"model": "dcp", "parameters": {"eps": 0.01}}}),
    "seed": ({"model": NET}, {"model": {**NET, "weights": "random:1"}}),
    "network": ({"model": NET}, {"model": "dcp"}),
    "black": ({}, {"black": 5}),
    "white": ({}, {"white": 200}),
    "black of 16 bits": ({"image": "deep.tif"}, {"black": 50}),
    "white of 16 bits": ({"image": "deep.tif"}, {"white": 5000}),
    "swapped bands": ({"model": NET, "bands": RGB}, {"bands": "red=3,green=2,blue=1"}),
    "other bands taken": ({**FIVE, "model": NET}, {"bands": "red=4,green=2,blue=3"}),
    "dropped bands": ({**FIVE, "model": NET}, {"other_bands": "drop"}),
    "exclude": ({}, {"exclude": "mask.tif"}),
    "exclude values": ({"exclude": "mask.tif"}, {"exclude_values": "0"}),
    "exclude bits": ({"exclude": "mask.tif"}, {"exclude_bits": "3"}),
    "exclude where": ({"exclude": "areas.geojson"}, {"exclude_where": "kind = 'lake'"}),
    "another exclude": ({"exclude": "mask.tif"}, {"exclude": "other.tif"}),
    "context": ({}, {"context": "context.npz"}),
    "another context": ({"context": "context.npz"}, {"context": "other.npz"}),
    "extent": ({"region": BOX}, {"extent": "region"}),
    "box of an extent": (
        {"region": BOX, "extent": "region"},
        {"region": nr.Region(0, 0, 128, 128)},
    ),
    "extent of an area": ({"mask": AREA}, {"extent": "region"}),
    "bfloat16": ({"model": NET}, {"precision": "bfloat16"}),
    "one tile": ({"model": {"model": Net(), "card": CARD}}, {"tile": "whole"}),
    "precision of residuals": ({"model": ToySwept()}, {"residual_dtype": "bfloat16"}),
    "sensor": ({"image": "deep.tif", "bands": RGB}, {"sensor": "sentinel2-04.00"}),
}
OUTPUT_CHANGES = {
    "strength": ({}, {"strength": 0.5}),
    "luminance": ({}, {"luminance_only": True}),
    "shadows": ({}, {"protect_shadows": 0.5}),
    "highlights": ({}, {"protect_highlights": 0.5}),
    "exposure": ({}, {"exposure": 0.5}),
    "measured exposure": ({}, {"exposure": "auto"}),
    **{name: (PHOTO, {name: value}) for name, value in TONES.items()},
    "region": ({}, {"region": BOX}),
    "another region": ({"region": BOX}, {"region": nr.Region(0, 0, 96, 96)}),
    "two regions": ({"region": [BOX]}, {"region": [BOX, nr.Region(120, 0, 160, 50)]}),
    "mask": ({}, {"mask": "mask.tif"}),
    "another mask": ({"mask": "mask.tif"}, {"mask": "other.tif"}),
    "feather": ({"mask": "mask.tif"}, {"feather": 8}),
}
SAME_OPTIONS = {
    "memory": ({}, {"memory": "3GiB"}),
    "device memory": ({}, {"device_memory": "1GiB"}),
    "device": ({}, {"device": "cpu"}),
    "workers": ({}, {"workers": 1}),
    "tile": ({}, {"tile": 64}),
    "tile of a network": ({"model": NET}, {"tile": 96}),
    "batch": ({"model": NET}, {"tile_batch": 2}),
    "residuals": ({}, {"residuals": "ram"}),
    "shared": ({}, {"shared": True}),
    "maps": ({}, {"maps": True}),
    "one map": ({}, {"maps": ["change"]}),
    "pyramid": ({}, {"pyramid": True}),
    "precision as it is": ({}, {"precision": "float32"}),
    "extent as it is": ({}, {"extent": "image"}),
    "extent of all": ({}, {"extent": "region"}),
    "extent of what sees no context": ({"model": NET, "region": BOX}, {"extent": "region"}),
    "context of what sees none": ({"model": NET}, {"context": "context.npz"}),
    "white as it is": ({}, {"white": 255}),
    "black as it is": ({}, {"black": 0.0}),
    "black of a whole number": ({"black": 5.0}, {"black": 5}),
    "bands as they are": ({}, {"bands": RGB}),
    "order of what any order suits": ({"bands": RGB}, {"bands": "red=3,green=2,blue=1"}),
    "role of a band beside": ({**FIVE, "model": NET}, {"bands": f"{RGB},swir=5"}),
    "other bands of none": ({}, {"other_bands": "copy"}),
    "other bands copied": ({**FIVE, "model": NET}, {"other_bands": "copy"}),
    "parameter as it is": ({}, {"model": {"model": "dcp", "parameters": {"omega": 0.85}}}),
    "seed as it is": ({"model": NET}, {"model": dict(NET)}),
    "whole region": ({}, {"region": nr.Region(0, 0, *SIZE)}),
    "extent of a raster of all": ({"mask": "mask.tif"}, {"extent": "region"}),
    "output": ({}, {"output": "out.tif"}),
    "scratch": ({}, {"scratch": "scratch"}),
}


def another(each):
    """Return a value of an option that is not its default."""
    if isinstance(each.default, bool):
        return not each.default
    return next((choice for choice in each.choices or () if choice != each.default), 1)


@pytest.mark.parametrize("name", options_of(Restore))
@pytest.mark.ids("slow", "precision")
def test_an_option_changes_the_key_as_its_field_says(name, folder):
    each = options_of(Restore)[name]
    table = {"pixels": OPTION_CHANGES, "answer": OUTPUT_CHANGES}.get(each.changes, SAME_OPTIONS)
    listed = (pair for pair in table.values() if set(pair[1]) == {name})
    before, change = next(listed, ({}, {name: another(each)}))
    first, second = planned(folder, **before), planned(folder, **{**before, **change})
    assert (first.key != second.key) == (each.changes == "pixels")
    assert (first.output_key != second.output_key) == (each.changes in ("pixels", "answer"))


def test_the_key_has_an_option_that_no_rule_knows(folder, monkeypatch):
    """An option of pixels is in the key as it is set, unless the planner says what it means."""
    kept = planned(folder, black=5).key
    monkeypatch.setattr(_planning, "MEANT", _planning.MEANT - {"other_bands"})
    assert planned(folder, black=5).key == kept
    assert planned(folder, black=5, other_bands="copy").key != kept


@pytest.mark.parametrize("name", OPTION_CHANGES)
def test_options_that_decide_pixels(name, folder):
    before, change = OPTION_CHANGES[name]
    first, second = planned(folder, **before), planned(folder, **{**before, **change})
    assert first.key != second.key and first.output_key != second.output_key
    assert first.store != second.store


@pytest.mark.parametrize("name", OUTPUT_CHANGES)
def test_options_that_choose_and_mix_pixels(name, folder):
    before, change = OUTPUT_CHANGES[name]
    first, second = planned(folder, **before), planned(folder, **{**before, **change})
    assert first.key == second.key and first.output_key != second.output_key
    assert first.store == second.store


@pytest.mark.parametrize("name", SAME_OPTIONS)
def test_options_that_decide_no_pixel(name, folder):
    before, change = SAME_OPTIONS[name]
    first, second = planned(folder, **before), planned(folder, **{**before, **change})
    assert first.key == second.key and first.output_key == second.output_key


CARD_CHANGES = {
    **{"multiple_of": 8, "min_size": 64, "roles": ("red", "green", "blue"), "bands": 1},
    **{"uses_validity": True, "needs_context": True, "placed": True, "inputs": 3, "light": True},
    "values": {"gain": 2.0},
}
CARD_TEXTS = {
    **{"id": "mine", "title": "Mine", "summary": "Text", "task": "derain", "scenes": ("aerial",)},
    **{"licence": "MIT", "source": "a paper", "weights_note": "a", "trained_on": "b"},
    **{"validated_on": "c", "caveats": "d", "recommended_for": ("fog",), "routing": ("x",)},
    **{"precisions": ("float32", "bfloat16"), "bfloat16_error": 1.0, "needs_weights": True},
    "weights_sha256": "0" * 64,
}


@pytest.mark.parametrize("name", [*CARD_CHANGES, *CARD_TEXTS])
def test_fields_of_a_card(name):
    model = nr.load_model(Net(), card=CARD)
    before = definition_of(model)
    model.card = replace(model.card, **{name: {**CARD_CHANGES, **CARD_TEXTS}[name]})
    assert (definition_of(model) == before) == (name in CARD_TEXTS)


FACTORY = """
from torch import nn


def make(width: int = 3, mode="zeros"):
    return nn.Conv2d(3, width, 3, padding=1, padding_mode=mode)
"""


def test_an_argument_that_is_the_default_is_as_if_not_given(tmp_path):
    (tmp_path / "own.py").write_text(FACTORY)

    def defined(**parameters):
        name = f"{tmp_path / 'own.py'}:make"
        return definition_of(nr.load_model(name, parameters=parameters, card=CARD, trust=True))

    assert defined() == defined(width=3) == defined(width="3", mode="zeros")
    assert defined() != defined(mode="reflect")


def test_at_least_two_hundred_changes_are_tried():
    tables = (MODULE_CHANGES, SAME_MODULES, CODE_CHANGES, SAME_CODE, OPTION_CHANGES, OUTPUT_CHANGES)
    assert sum(map(len, (*tables, SAME_OPTIONS, CARD_CHANGES, CARD_TEXTS))) >= 200


class Labelled:
    """An array with a value for no data, as xarray's."""

    dims = ("y", "x", "band")

    def __init__(self, data, **attrs):
        self.data, self.attrs, self.shape, self.dtype = data, attrs, data.shape, data.dtype

    def transpose(self, *dims):
        return self


def test_no_data_and_alpha_of_an_array_are_part_of_it():
    pixels = np.zeros((32, 32, 4), np.uint8)
    images = [
        nr.open_image(pixels),
        nr.open_image(pixels, bands={"red": 1, "green": 2, "blue": 3, "nir": 4}),
        nr.open_image(Labelled(pixels[..., :3].copy(), _FillValue=0)),
        nr.open_image(Labelled(pixels[..., :3].copy(), _FillValue=7)),
        nr.open_image(Labelled(pixels[..., :3].copy())),
        nr.open_image(pixels[..., :3].copy()),
    ]
    known = [image.fingerprint for image in images]
    assert len(set(known)) == 5 and known[-1] == known[-2]
    assert images[0].with_roles({"nir": 4}).fingerprint == known[1]


# -- on the pixels -------------------------------------------------------------------


def pixels_of(plan):
    return np.asarray(nr.start(plan, fresh=True).result())


@pytest.mark.parametrize("name", ["omega", "white", "exclude", "another context", "extent", "seed"])
@pytest.mark.ids("slow", "seed")
def test_where_the_key_changes_the_pixels_do(name, folder):
    before, change = OPTION_CHANGES[name]
    first, second = planned(folder, **before), planned(folder, **{**before, **change})
    assert not np.array_equal(pixels_of(first), pixels_of(second))


@pytest.mark.parametrize(
    "name",
    [
        *("tile", "workers", "extent of all", "extent of what sees no context", "white as it is"),
        *("context of what sees none", "role of a band beside", "batch"),
    ],
)
@pytest.mark.ids(
    "slow", "context of what sees none", "extent of what sees no context", "role of a band beside"
)
def test_where_the_key_stays_the_pixels_do(name, folder):
    before, change = SAME_OPTIONS[name]
    first, second = planned(folder, **before), planned(folder, **{**before, **change})
    np.testing.assert_array_equal(pixels_of(first), pixels_of(second))


@pytest.mark.parametrize(
    "name",
    ["last.bias[0]", "mean[0]", "hidden[0]", "plain tensor", "array", "gain", "lambda", "hook"],
)
@pytest.mark.slow
def test_a_changed_module_gives_other_pixels_beside_the_first(name, folder):
    """Both results stay open; the first is what it was."""
    net = Net().eval()
    with rasterio.open(folder / "scene.tif") as file:
        image = nr.open_image(np.moveaxis(file.read().astype(np.float32), 0, 2) / 255)
    first = nr.restore(image, nr.load_model(net, card=CARD), tile=64, progress=False)
    before = np.asarray(first)
    MODULE_CHANGES[name](net)
    second = nr.restore(image, nr.load_model(net, card=CARD), tile=64, progress=False)
    assert not np.array_equal(np.asarray(second), before)
    np.testing.assert_array_equal(np.asarray(first), before)
    assert json.dumps(first.record["plan"]["key"]) != json.dumps(second.record["plan"]["key"])


KILLED = """
import os, sys
import napari_restore as nr, torch
from torch import nn

OFFSET = {offset}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.c = nn.Conv2d(3, 3, 3, padding=1, padding_mode="replicate")
        self.names = {{"a", "b", "c"}}
        self.f = lambda x: x * 0.5

    def forward(self, x):
        return self.f(self.c(x)) + OFFSET

plan = nr.plan(sys.argv[1], nr.load_model(Net(), card={{"bands": 3, "halo": 1}}), tile=128)
tiles = 0
for event in nr.start(plan):
    tiles += type(event).__name__ == "TileDone"
    if tiles == 2 and sys.argv[2] == "killed":
        os._exit(9)
    if type(event).__name__ == "Note":
        print(event.text, file=sys.stderr)
    record = getattr(event, "record", None)
print(record["measured"]["tiles_resumed"])
"""


@pytest.mark.slow
def test_a_killed_run_of_a_module_in_memory_goes_on_in_another_process(folder, tmp_path):
    def run(how, offset=0.25):
        return subprocess.run(
            [sys.executable, "-c", KILLED.format(offset=offset), str(folder / "scene.tif"), how],
            capture_output=True,
            text=True,
            env={**os.environ, "NAPARI_RESTORE_CACHE": str(tmp_path / "cache")},
        )

    assert run("killed").returncode == 9
    other, same = run("whole", offset=0.5), run("whole")
    assert (other.returncode, same.returncode) == (0, 0), other.stderr + same.stderr
    # Other tiles may be written while the event of the second is on its way.
    assert int(other.stdout) == 0 and int(same.stdout) >= 2
    assert "has changed since an unfinished run" in other.stderr
