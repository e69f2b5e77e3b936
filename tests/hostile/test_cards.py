"""A card beside a file runs no code, whatever it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import napari_restore as nr
from napari_restore.commands import main
from napari_restore.errors import RestoreError


@pytest.mark.parametrize(
    "card",
    [
        {"model": "code.py:make", "trust": True},
        {"model": "code:make"},
        {"id": "mine", "model": "code.py:make", "yes": True},
        {"factory": "code.py:make", "trust": True},
    ],
)
def test_a_card_that_names_code(
    card: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiff: Callable[..., Path],
) -> None:
    proof = tmp_path / "ran"
    code = f"from pathlib import Path\nPath({str(proof)!r}).touch()\n"
    code += "def make():\n    import torch\n    return torch.nn.Identity()\n"
    (tmp_path / "code.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    weights = tmp_path / "weights.safetensors"
    save_file({"weight": torch.zeros(3)}, weights)
    weights.with_suffix(".json").write_text(json.dumps(card))
    scene, out = tiff(), tmp_path / "out.tif"
    words = ["restore", scene, "-o", out, "--model", weights, "--progress", "off"]
    assert main([*map(str, words)]) == 2
    with pytest.raises(RestoreError):
        nr.load_model(weights)
    assert not proof.exists() and not out.exists()
    # The same code runs where the user says yes.
    nr.load_model("code.py:make", trust=True)
    assert proof.exists()
