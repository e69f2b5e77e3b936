"""The command that a window copies from a map of attribution or attention writes the same map."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import napari_restore as nr
from napari_restore import Region, api
from napari_restore.errors import InputError

from ._scenes import hazy, write_tiff

NETWORK = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.layer(x)

def contrast(y):
    return y.std()
"""
BOX, POLYGON = Region(16, 24, 40, 56), [(16, 24), (40.5, 24), (30, 56.25)]


def written_by(cli: Any, line: str) -> Path:
    program, *words = shlex.split(line)
    run = cli(*words)
    assert (program, run.code) == ("napari-restore", 0), run.err
    return Path(words[words.index("-o") + 1])


@pytest.mark.parametrize(
    ("own", "where", "question"),
    [
        (
            True,
            {"box": BOX},
            {"method": "ig", "baseline": "zero", "steps": 3, "rule": "middle", "gap": 0.5},
        ),
        (False, {"polygon": POLYGON}, {"steps": 2, "objective": "channel:2", "black": 0.05}),
        (False, {"box": BOX, "level": 1}, {"steps": 2}),
        (True, {"box": BOX}, {"method": "occlusion", "arguments": {"side": 16, "stride": 8}}),
        (True, {"box": BOX}, {"objective": "net.py:contrast", "steps": 2, "trust": True}),
        (False, {"box": BOX}, {"objective": "net.py:contrast", "steps": 2, "trust": True}),
    ],
)
def test_a_map(cli, scene, tmp_path, monkeypatch, own, where, question) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NETWORK)
    model = nr.load_model("net.py:Net", trust=True) if own else "dcp"
    if "level" in where:
        scene = write_tiff(tmp_path / "large.tif", np.tile(hazy(), (1, 16, 16)))
    found = nr.attribute(scene, model, **where, **question, device="cpu")
    line = api.command_of(found.record, tmp_path / "map.npz", device="cpu")
    with np.load(written_by(cli, line)) as arrays:
        assert np.array_equal(arrays["map"], found.map)
        assert list(arrays["region"]) == list(found.region)


def test_one_of_a_bracket(cli, scene, tmp_path) -> None:
    bracket = api.open_bracket([scene, scene], exposures=[-1, 1], align="off")
    found = nr.attribute(bracket, "mertens", BOX, steps=2, device="cpu")
    line = api.command_of(found.record, tmp_path / "map.npy", device="cpu")
    assert "--bracket" in line
    assert np.array_equal(np.load(written_by(cli, line)), found.map)


def test_heads_of_a_query(cli, scene, tmp_path) -> None:
    found = nr.attend(scene, "inf-dehaze-small", [(20, 30)], layers=["encoder.1.1"], device="cpu")
    image = nr.open_image(scene)
    model = {"model": "inf-dehaze-small", "weights": None, "parameters": {}}
    subject = {"image": image, "model": model, "trust": False, "options": {"device": "cpu"}}
    query = api.attention_query(20, 30)
    out = tmp_path / "heads.npz"
    of_window = api.attention_command(subject, query, ["encoder.1.1"], out, device="cpu")
    assert of_window == api.command_of(found.record, out, device="cpu")
    with np.load(written_by(cli, of_window)) as arrays:
        weights = found.queries[0].maps["encoder.1.1"].weights
        assert np.array_equal(arrays["0/encoder.1.1/weights"], weights)


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        ("areas", "mask"),
        ("areas", "exclude"),
        ("many corners", "mask"),
        ("gradient", "exclude"),
        ("painted", "mask"),
        ("painted", "exclude"),
    ],
)
def test_what_a_window_has_drawn_is_the_same_file(cli, scene, tmp_path, kind, option) -> None:
    image = nr.open_image(scene)
    angles = np.linspace(0, 2 * np.pi, 120 if kind == "many corners" else 3, endpoint=False)
    ring = [(40 + 30 * float(np.cos(a)), 40 + 25 * float(np.sin(a))) for a in angles]
    if kind == "gradient":
        mask = api.mask_of_line(image, (10, 10), (50, 40.5))
    elif kind == "painted":
        mask = api.mask_of_array(image, np.eye(9), (4, 0, 0, 0, 4, 0))
    else:
        mask = api.mask_of_polygons(image, [[ring]])
    options: Any = {"cog": True} if kind == "areas" else {}
    result = nr.restore(scene, "dcp", **{option: mask}, device="cpu", progress=False)
    saved = result.save(tmp_path / "window.tif", **options)
    line = api.command_of(result.plan, tmp_path / "command.tif", device="cpu", **options)
    assert written_by(cli, line).read_bytes() == saved.read_bytes()
    with rasterio.open(saved) as file:
        told = file.tags()[f"NAPARI_RESTORE_{option.upper()}"]
    # The text itself where the command has it, else what was drawn and a digest of it.
    named = {"many corners": f"areas {mask.parent.name}", "painted": f"strength {mask.parent.name}"}
    assert told == named.get(kind, told) and (kind in named or told in shlex.split(line))


def test_what_is_in_memory_has_none(tmp_path) -> None:
    pixels = np.random.default_rng(0).random((64, 80, 3), np.float32)
    found = nr.attribute(pixels, "dcp", BOX, steps=2, device="cpu")
    with pytest.raises(InputError, match="must be files"):
        api.command_of(found.record, tmp_path / "map.npz")
    assert api.known_command(found.record, tmp_path / "map.npz") == ""
