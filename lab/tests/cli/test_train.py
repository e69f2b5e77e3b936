"""`train` as a user runs it, on pictures of a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_restore.commands import main

CONFIG = """
[model]
id = "haze-unet"
sizes = {{ width = 4, blocks = 1 }}
[data]
index = "aerial"
[recipe]
size = 32
batch = 2
[run]
output = "run"
steps = {steps}
workers = 0
[score]
scenes = 0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "aerial").mkdir()
    codes = np.random.default_rng(0).integers(30, 220, (6, 8, 3), np.uint8)
    Image.fromarray(codes).resize((128, 96)).save(tmp_path / "aerial" / "town.png")
    return tmp_path


def written(folder: Path, steps: int) -> str:
    path = folder / "config.toml"
    path.write_text(CONFIG.format(steps=steps), encoding="utf-8")
    return str(path)


@pytest.mark.slow
def test_it_trains_and_restore_takes_the_weights(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["train", written(folder, 3), "--json", "--progress", "off"]) == 0
    account = json.loads(capsys.readouterr().out)
    assert (account["status"], account["step"]) == ("done", 3)
    source, out = folder / "aerial" / "town.png", folder / "out.png"
    assert main(["restore", str(source), "-o", str(out), "--model", account["weights"]]) == 0
    assert np.asarray(Image.open(out)).shape == (96, 128, 3)


def test_ctrl_c_saves_and_the_same_command_goes_on(
    folder: Path, capsys: pytest.CaptureFixture[str], ctrl_c_at: Callable[[str], None]
):
    ctrl_c_at('"Trained"')
    config = written(folder, 100_000)
    assert main(["train", config, "--progress", "json"]) == 3
    assert "The same command continues from there." in capsys.readouterr().err
    assert main(["train", config, "--progress", "json"]) == 3
    assert '"Continues from step ' in capsys.readouterr().err


def test_a_bad_configuration_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]):
    config = Path(written(folder, 3))
    config.write_text(config.read_text("utf-8").replace("haze-unet", "haze-net"), "utf-8")
    assert main(["train", str(config)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("napari-restore: There is no model 'haze-net'.")
    assert told.count("\n") == 1
    assert not (folder / "run").exists()
