"""Objectives and baselines of the user's own: functions, files of Python, arrays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.explain._models import Small, scene, wrapped
from torch import Tensor

import napari_restore as nr
from napari_restore.commands import main
from napari_restore.errors import BadParameter, InputError
from napari_restore.sample import SAMPLE

BOX = nr.Region(40, 60, 56, 84)
CODE = "def bright(y):\n    return y.mean()\n"


def attributed(**options: Any) -> nr.Attribution:
    options = {"method": "ig", "steps": 5, "device": "cpu", "progress": False, **options}
    return nr.attribute(scene(), wrapped(Small()), BOX, **options)


def mean(y: Tensor) -> Tensor:
    return y.mean()


def fail(error: BaseException) -> Tensor:
    raise error


@pytest.fixture
def script(tmp_path: Path) -> str:
    (tmp_path / "measure.py").write_text(CODE)
    return f"{tmp_path / 'measure.py'}:bright"


@pytest.mark.slow
def test_a_function_is_an_objective_and_its_code_is_in_the_record() -> None:
    named, own = attributed(objective="mean"), attributed(objective=mean)
    np.testing.assert_allclose(own.map, named.map, rtol=1e-5, atol=1e-10)
    entry = own.record["attribution"]
    assert entry["objective"] == "mean" and len(entry["objective_sha256"]) == 64
    assert "objective_sha256" not in named.record["attribution"]
    other = attributed(objective=lambda y: y.square().mean()).record["attribution"]
    assert other["objective_sha256"] != entry["objective_sha256"]
    # A function in memory is in no file that a rerun could read.
    assert own.record["task"] is None


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (lambda y: y, r"no single number but shape \(1, 3, 16, 24\)"),
        (lambda y: 1.0, "no single number but 1.0"),
        (lambda y: y.detach().mean(), "no gradient"),
        (lambda y: y.mean() * 1j, "no single number but a complex one"),
        (lambda y: y.nothing(), "fails: AttributeError"),
        (lambda y: fail(ValueError("no\nsecond line")), r"fails: ValueError: no\. Check its code"),
        (lambda y: fail(SystemExit(3)), r"fails: SystemExit: 3\. Check its code"),
    ],
)
def test_what_gives_no_number_is_refused(
    objective: Callable[[Tensor], Tensor], message: str
) -> None:
    with pytest.raises(BadParameter, match=message):
        attributed(objective=objective)


@pytest.mark.parametrize(
    ("objective", "value", "options"),
    [
        (lambda y: y.mean() / 0, "inf", {}),
        (lambda y: -y.mean() / 0, "-inf", {}),
        (lambda y: y.mean() * torch.nan, "nan", {}),
        # Only where the path begins.
        (lambda y: (y - y[..., :1, :1]).abs().sum().log(), "-inf", {"baseline": "zero"}),
        (lambda y: y.mean() / 0, "inf", {"method": "occlusion"}),
        (lambda y: y.mean() / 0, "inf", {"layer": "body.0", "method": None}),
    ],
)
def test_what_is_not_finite_is_refused(
    objective: Callable[[Tensor], Tensor], value: str, options: dict[str, Any]
) -> None:
    with pytest.raises(BadParameter, match=f"returns {value} for an output of the path.*log"):
        attributed(objective=objective, **{"steps": None, **options})
    # A signal-to-noise ratio has none for an image without detail, and is one of this.
    assert np.isfinite(attributed(objective=lambda y: y.mean() / y.std()).map).all()


def test_code_in_a_file_runs_with_trust_only(script: str, tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="is Python code"):
        attributed(objective=script)
    own = attributed(objective=script, trust=True)
    np.testing.assert_allclose(own.map, attributed(objective="mean").map, rtol=1e-5, atol=1e-10)
    assert own.record["attribution"]["objective"] == "measure.py:bright"
    for wrong, message in (("dark", "no function 'dark'"), ("", "no function ''")):
        with pytest.raises(BadParameter, match=message):
            attributed(objective=f"{tmp_path / 'measure.py'}:{wrong}", trust=True)
    with pytest.raises(BadParameter, match="There is no file"):
        attributed(objective=f"{tmp_path / 'none.py'}:f", trust=True)


@pytest.mark.slow
def test_an_array_is_a_baseline_and_so_is_a_file_of_one(tmp_path: Path) -> None:
    zeros = np.zeros((*scene().shape[:2], 3), np.float32)
    named, own = attributed(baseline="zero"), attributed(baseline=zeros)
    np.testing.assert_allclose(own.map, named.map, rtol=1e-5, atol=1e-10)
    assert own.record["attribution"]["baseline_fingerprint"] and own.record["task"] is None
    np.save(tmp_path / "start.npy", zeros)
    of_file = attributed(baseline=tmp_path / "start.npy")
    np.testing.assert_array_equal(of_file.map, own.map)
    assert of_file.record["attribution"]["baseline"] == "the clear image start.npy"
    for content in (b"", b"no", (tmp_path / "start.npy").read_bytes()[:200]):
        (tmp_path / "bad.npy").write_bytes(content)
        with pytest.raises(InputError, match=r"bad.npy is no array of numbers, or is cut off\. Wr"):
            attributed(baseline=tmp_path / "bad.npy")
    with pytest.raises(BadParameter, match="same size"):
        attributed(baseline=zeros[:50])


def test_a_polygon_and_a_table_take_names(script: str) -> None:
    corners = [(40, 60), (40, 90), (60, 90)]
    with pytest.raises(BadParameter, match="of a box"):
        nr.attribute(
            scene(), wrapped(Small()), polygon=corners, objective=mean, method="ig", device="cpu"
        )
    for option in ({"objective": mean}, {"objective": script}, {"baseline": np.zeros((3, 3))}):
        with pytest.raises(BadParameter, match="A table takes objectives by their name"):
            nr.attribute_table([scene()], ["identity"], [BOX, BOX], method="ig", **option)


@pytest.mark.slow
def test_the_command_asks_records_and_repeats(
    script: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = tmp_path / "start.npy"
    image = nr.open_image(SAMPLE)
    np.save(start, np.zeros(image.shape, np.uint8))
    out, record = tmp_path / "map.npz", tmp_path / "map.json"
    words = ["attribute", str(SAMPLE), "--model", "dcp", "--method", "ig", "--steps", "3"]
    words += ["--box", "40", "60", "24", "16", "--objective", script, "--baseline", str(start)]
    words += ["-o", str(out), "--record", str(record), "--device", "cpu", "--progress", "off"]
    assert main(words) == 2
    assert "was not run" in capsys.readouterr().err and not out.exists()
    assert main([*words, "--yes"]) == 0
    entry = json.loads(record.read_text())
    assert entry["attribution"]["objective"] == "measure.py:bright"
    again = tmp_path / "again.npz"
    assert main(["rerun", str(record), "-o", str(again), "--yes", "--progress", "off"]) == 0
    with np.load(out) as one, np.load(again) as other:
        np.testing.assert_array_equal(one["map"], other["map"])
    Path(script.rpartition(":")[0]).write_text(CODE.replace("mean", "sum"))
    capsys.readouterr()
    assert main(["rerun", str(record), "-o", str(tmp_path / "third.npz"), "--yes"]) == 2
    assert "measure.py" in capsys.readouterr().err
