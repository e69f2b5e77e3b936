"""A run's key: what decides pixels changes it, and nothing else does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from PIL import Image as Picture
from rasterio.transform import from_origin
from tests.engine._swept_model import ToySwept
from tests.models.test_code import CODE_CHANGES, SAME_CODE
from tests.models.test_module_content import CARD, MODULE_CHANGES, SAME_MODULES, Net

import napari_restore as nr
from napari_restore.engine.planning import _planning
from napari_restore.models import definition_of
from napari_restore.questions import TONE, Restore, options_of

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
@pytest.mark.ids("nightly", "mean[0]", "hidden[0]", "array", "lambda")
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


@pytest.mark.nightly
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
