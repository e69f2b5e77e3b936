"""Files with several weights: which are taken, and that it is said; and files of older names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import napari_restore as nr
from napari_restore.commands import main
from napari_restore.errors import BadModel

CODE = """
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1))

def normed():
    norm = nn.utils.parametrizations.weight_norm
    return nn.Sequential(norm(nn.Conv2d(3, 8, 3, padding=1)), nn.Conv2d(8, 3, 1))
"""


def state(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 1)).state_dict()


A, B = state(1), state(2)
LIT = {f"model.{name}": each for name, each in A.items()} | {
    f"model_ema.{name.replace('.', '')}": each for name, each in B.items()
}
LIT |= {"model_ema.decay": torch.tensor(0.9), "model_ema.num_updates": torch.tensor(3)}
FILES: dict[str, dict[str, Any]] = {
    "params_ema": {"params": A, "params_ema": B},
    "state_dict_ema": {"state_dict": A, "state_dict_ema": B},
    "ema_state_dict": {"ema_state_dict": B, "state_dict": A},
    "model_ema": {"model": A, "model_ema": B, "epoch": 3},
    "ema": {"model": A, "ema": {"module." + name: each for name, each in B.items()}},
    "LitEma": {"state_dict": LIT},
    "AveragedModel": {
        **{"module." + name: each for name, each in B.items()},
        "n_averaged": torch.tensor(4),
    },
}


@pytest.fixture
def script(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(CODE)
    return f"{tmp_path / 'net.py'}:make"


def taken(model: Any) -> str:
    weight = model.module[0].weight
    return next(
        name for name, each in (("A", A), ("B", B)) if torch.equal(each["0.weight"], weight)
    )


@pytest.mark.parametrize("case", FILES)
def test_averaged_weights_are_taken_and_said(case: str, script: str, tmp_path: Path) -> None:
    path = tmp_path / "two.pth"
    torch.save(FILES[case], path)
    model = nr.load_model(script, weights=path, trust=True)
    assert taken(model) == "B"
    has_others = case != "AveragedModel"
    assert bool(model.weights_note) == has_others
    notes = nr.plan(np.zeros((40, 40, 3), np.float32), model).notes
    assert [n for n in notes if "averaged weights" in n and "are taken, not " in n] == (
        [model.weights_note] if has_others else []
    )


@pytest.mark.parametrize(("key", "which"), [("params", "A"), ("params_ema", "B")])
def test_a_key_names_the_weights(key: str, which: str, script: str, tmp_path: Path) -> None:
    path = tmp_path / "two.pth"
    torch.save(FILES["params_ema"], path)
    model = nr.load_model(script, weights=f"{path}:{key}", trust=True)
    assert taken(model) == which and not model.weights_note
    assert model.spec["weights"] == f"{path}:{key}"
    plain = nr.load_model(script, weights=path, trust=True)
    assert (plain.card.weights_sha256 == model.card.weights_sha256) is False
    with pytest.raises(BadModel, match=r"two.pth has no weights raw: it has params_ema, params"):
        nr.load_model(script, weights=f"{path}:raw", trust=True)


def test_the_weights_that_a_note_names_can_be_taken(script: str, tmp_path: Path) -> None:
    path = tmp_path / "two.pth"
    for case in ("LitEma", "ema", "state_dict_ema"):
        torch.save(FILES[case], path)
        note = nr.load_model(script, weights=path, trust=True).weights_note
        (other,) = re.findall(r"two\.pth:(\w+)", note)
        model = nr.load_model(script, weights=f"{path}:{other}", trust=True)
        assert taken(model) == "A" and not model.weights_note


def test_inspect_and_restore_tell_them(script: str, tmp_path: Path, capsys: Any) -> None:
    path, image, out = tmp_path / "two.pth", tmp_path / "a.png", tmp_path / "o.png"
    torch.save(FILES["ema"], path)
    from PIL import Image

    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(image)
    assert main(["inspect", script, "--weights", str(path), "--yes"]) == 0
    assert (
        "averaged weights ema are taken, not model (--weights two.pth:model)"
        in capsys.readouterr().out
    )
    words = ["restore", image, "-o", out, "--model", script, "--yes", "--overwrite", "--weights"]
    assert main([*map(str, words), str(path)]) == 0
    assert "averaged weights ema are taken" in capsys.readouterr().err
    assert main([*map(str, words), f"{path}:model"]) == 0
    assert "averaged" not in capsys.readouterr().err


def test_names_of_older_weight_norm_load_as_in_torch(script: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    with pytest.warns(FutureWarning, match="deprecated"):
        old = nn.utils.weight_norm(nn.Conv2d(3, 8, 3, padding=1))
    made = nn.Sequential(old, nn.Conv2d(8, 3, 1))
    torch.save(made.state_dict(), tmp_path / "old.pth")
    model = nr.load_model(
        script.replace("make", "normed"), weights=tmp_path / "old.pth", trust=True
    )
    x = torch.rand(1, 3, 20, 20)
    with torch.inference_mode():
        assert torch.equal(model(x), made(x))


def test_numbers_of_numpy_beside_weights_are_no_code(script: str, tmp_path: Path) -> None:
    numbers = {"best": np.float64(31.5), "step": np.int64(4), "loss": np.float32(0.1)}
    torch.save({"state_dict": A, **numbers}, tmp_path / "a.pth")
    assert taken(nr.load_model(script, weights=tmp_path / "a.pth", trust=True)) == "A"
