"""Models of the user's own on the command line: `FILE.py:factory --weights FILE`."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import napari_restore as nr
from napari_restore import api

from ._scenes import read

CODE = """
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.down = torch.nn.Conv2d(3, 4, 4, 4)
            self.up = torch.nn.ConvTranspose2d(4, 3, 4, 4)
            self.near = torch.nn.Conv2d(3, 3, 5, padding=2)

        def forward(self, x):
            return (x + 0.2 * self.near(self.up(self.down(x)))).clamp(0, 1)

    def make():
        return Net()
"""


class Sharper(torch.nn.Module):
    """Halves and doubles the size, and sees two pixels around."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.down = torch.nn.Conv2d(3, 4, 2, 2)
        self.up = torch.nn.ConvTranspose2d(4, 3, 2, 2)
        self.near = torch.nn.Conv2d(3, 3, 5, padding=2, padding_mode="replicate")

    def forward(self, x):
        return (x + 0.2 * self.near(x) + 0.1 * self.up(self.down(x))).clamp(0, 1)


class Everywhere(torch.nn.Module):
    def forward(self, x):
        return x - x.mean((2, 3), keepdim=True)


def exported(path, module, fixed):
    """`module` as a program of images of 64 × 64 pixels, or of even sizes."""
    side = {2: 2 * torch.export.Dim("h", min=8), 3: 2 * torch.export.Dim("w", min=8)}
    shapes = None if fixed else (side,)
    program = torch.export.export(
        module, (torch.rand(1, 3, 64, 64),), dynamic_shapes=shapes, strict=False
    )
    torch.export.save(program, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "fixed",
    [
        pytest.param(False, id="any size"),
        pytest.param(True, id="one size", marks=pytest.mark.slow),
    ],
)
@pytest.mark.ids("nightly", "any size")
def test_a_program_without_a_card_is_measured_and_restores(cli, scene, tmp_path, fixed):
    module = Sharper()
    path = exported(tmp_path / "mine.pt2", module, fixed)
    out, again, record = tmp_path / "o.tif", tmp_path / "again.tif", tmp_path / "r.json"
    words = ["-o", out, "--model", path, "--tile", 64, "--record", record]
    run = cli("restore", scene, *words)
    assert run.code == 2 and "--yes" in run.err and not out.exists()
    run = cli("restore", scene, *words, "--yes")
    assert run.code == 0, run.err
    notes = json.loads(record.read_text("utf-8"))["plan"]["notes"]
    (note,) = (note for note in notes if "no card" in note)
    assert "3 bands" in note and "measured" in note
    x = torch.from_numpy(read(scene).astype(np.float32) / 255)[None]
    with torch.inference_mode():
        whole = (module(x)[0].numpy() * 255).round()
    # At the image's edge a window sees the image reflected.
    inner = (..., slice(8, -8), slice(8, -8))
    assert np.abs(read(out) - whole)[inner].max() <= 1
    assert (read(out) != read(scene)).mean() > 0.2
    assert cli("rerun", record, "-o", again, "--yes").code == 0
    assert again.read_bytes() == out.read_bytes()


def test_a_program_of_one_size_that_needs_its_whole_image_is_a_sentence(cli, scene, tmp_path):
    path = exported(tmp_path / "all.pt2", Everywhere(), True)
    run = cli("restore", scene, "-o", tmp_path / "o.tif", "--model", path, "--yes")
    assert run.code == 2 and "takes images of 64 × 64 pixels only" in run.err, run.err


@pytest.mark.slow
def test_a_program_that_needs_the_whole_image_is_given_it(cli, scene, tmp_path):
    path, out = exported(tmp_path / "all.pt2", Everywhere(), False), tmp_path / "o.tif"
    run = cli("restore", scene, "-o", out, "--model", path, "--yes", "--tile", 128)
    assert run.code == 0 and "the whole image in one pass" in run.err, run.err
    again = cli(
        "restore", scene, "-o", tmp_path / "w.tif", "--model", path, "--yes", "--tile", "whole"
    )
    assert again.code == 0, again.err
    np.testing.assert_array_equal(read(out), read(tmp_path / "w.tif"))


@pytest.mark.slow
def test_a_run_in_one_pass_is_repeated_in_one_pass(cli, scene, tmp_path):
    path, out, record = (tmp_path / name for name in ("all.pt2", "o.tif", "o.json"))
    exported(path.parent / "all.pt2", Everywhere(), False)
    run = cli("restore", scene, "-o", out, "--model", path, "--yes", "--record", record)
    assert run.code == 0, run.err
    assert json.loads(record.read_text())["task"]["options"]["tile"] == "whole"
    assert cli("rerun", record, "-o", tmp_path / "again.tif", "--yes").code == 0
    assert (tmp_path / "again.tif").read_bytes() == out.read_bytes()


def test_a_file_that_is_no_program_is_a_sentence(cli, scene, tmp_path):
    path = tmp_path / "mine.pt2"
    path.write_bytes(b"PK\x03\x04 damaged")
    run = cli("restore", scene, "-o", tmp_path / "o.tif", "--model", path, "--yes")
    assert run.code == 2 and "mine.pt2 is no exported program" in run.err


@pytest.fixture
def mine(tmp_path) -> list[str]:
    """The words of the research quick start."""
    script, weights = tmp_path / "mine.py", tmp_path / "mine.safetensors"
    script.write_text(textwrap.dedent(CODE), "utf-8")
    torch.manual_seed(3)
    network = nr.load_model(f"{script}:make", trust=True).module
    save_file({name: 2 * t for name, t in network.state_dict().items()}, weights)
    return ["--model", f"{script}:make", "--weights", str(weights)]


@pytest.mark.slow
def test_sizes_and_halo_are_measured_as_in_the_window(cli, scene, mine):
    run = cli("plan", scene, *mine, "--yes", "--json")
    assert run.code == 0, run.err
    assert run.json["halo"] == 4
    told = "mine has no card: 3 bands, multiples of 4 pixels and a halo of 4 were measured."
    assert told in run.json["notes"]
    found = api.inspect_model(mine[1], trust=True)
    assert (found.card["bands"], found.card["multiple_of"]) == (3, 4)
    assert found.card["halo"] == run.json["halo"]


@pytest.mark.nightly
def test_it_restores_in_tiles_as_the_network_does_and_can_be_repeated(cli, scene, mine, tmp_path):
    out, again, record = tmp_path / "o.tif", tmp_path / "again.tif", tmp_path / "r.json"
    words = ["-o", out, *mine, "--yes", "--tile", 32, "--record", record]
    run = cli("restore", scene, *words)
    assert run.code == 0, run.err
    model = nr.load_model(mine[1], weights=mine[3], trust=True)
    x = torch.from_numpy(read(scene).astype(np.float32) / 255)[None]
    with torch.inference_mode():
        whole = (model(x)[0].numpy() * 255).round()
    assert np.abs(read(out) - whole).max() <= 1
    assert (read(out) != read(scene)).any()
    assert cli("rerun", record, "-o", again, "--yes").code == 0
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.slow
def test_attribution_takes_it_too(cli, scene, mine, tmp_path):
    words = ["--box", 40, 40, 16, 16, "--method", "ig", "--steps", 2, "-o", tmp_path / "map.tif"]
    run = cli("attribute", scene, *mine, "--yes", *words)
    assert run.code == 0, run.err


@pytest.mark.slow
def test_a_card_beside_it_has_the_last_word(cli, scene, mine, tmp_path):
    card = {"bands": 3, "multiple_of": 8, "halo": 24}
    (tmp_path / "mine.json").write_text(json.dumps(card), "utf-8")
    run = cli("plan", scene, *mine, "--yes", "--json")
    assert run.json["halo"] == 24
    assert not [note for note in run.json["notes"] if "no card" in note]


@pytest.mark.slow
def test_foreign_code_runs_after_a_yes_only(cli, scene, mine, tmp_path):
    ran = tmp_path / "ran"
    script = Path(mine[1].rpartition(":")[0])
    script.write_text(
        f"import pathlib\npathlib.Path({str(ran)!r}).touch()\n" + script.read_text("utf-8"), "utf-8"
    )
    run = cli("plan", scene, *mine)
    assert run.code == 2 and "--yes" in run.err and not ran.exists()
    assert cli("plan", scene, *mine, "--yes").code == 0 and ran.exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["restoration", "attribution"])
@pytest.mark.ids("nightly", "attribution")
def test_a_record_runs_foreign_code_after_a_yes_only(cli, scene, mine, tmp_path, kind):
    record, out = tmp_path / "r.json", tmp_path / "o.tif"
    if kind == "restoration":
        run = cli("restore", scene, "-o", out, *mine, "--yes", "--record", record)
    else:
        asks = ["attribute", scene, *mine, "--yes", "--method", "ig", "--steps", 2]
        run = cli(*asks, "--box", 40, 40, 16, 16, "-o", out, "--record", record)
    assert run.code == 0, run.err
    # A record may come from anybody, and say that its code is trusted.
    text = record.read_text("utf-8")
    record.write_text(text.replace('"code": true', '"code": true, "trust": true'), "utf-8")
    ran = tmp_path / "ran"
    script = Path(mine[1].rpartition(":")[0])
    script.write_text(
        f"import pathlib\npathlib.Path({str(ran)!r}).touch()\n" + script.read_text("utf-8"), "utf-8"
    )
    again = tmp_path / "again.tif"
    run = cli("rerun", record, "-o", again)
    assert run.code == 2 and "--yes" in run.err
    assert not ran.exists() and not again.exists()
    cli("rerun", record, "-o", again, "--yes")
    assert ran.exists()


def test_a_file_without_its_function_says_what_is_missing(cli, scene, mine):
    script = mine[1].rpartition(":")[0]
    run = cli("plan", scene, "--model", script, "--yes")
    assert run.code == 2
    assert f"Write {script}:make. It also has Net." in run.err
    assert "identity" not in run.err and "Traceback" not in run.err


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("def make(:", "no readable Python"),
        ("x = 3", "no function that could make a model"),
    ],
)
def test_a_file_that_makes_no_model_says_so(cli, scene, tmp_path, code, sentence):
    (tmp_path / "mine.py").write_text(code, "utf-8")
    run = cli("plan", scene, "--model", tmp_path / "mine.py", "--yes")
    assert run.code == 2 and sentence in run.err
    run = cli("plan", scene, "--model", tmp_path / "nowhere.py", "--yes")
    assert run.code == 2 and "There is no file" in run.err


def test_a_network_that_makes_no_image_is_a_sentence(cli, scene, tmp_path):
    code = "import torch\ndef make(): return torch.nn.Conv2d(3, 6, 3)\n"
    (tmp_path / "mine.py").write_text(code, "utf-8")
    run = cli("plan", scene, "--model", f"{tmp_path / 'mine.py'}:make", "--yes")
    assert run.code == 2 and "gives no image of the same size" in run.err
