"""Weights that come with the package: filled in unasked, refused when damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from napari_restore.errors import BadModel, MissingWeights
from napari_restore.models import (
    _weights,
    card_of,
    entry_of,
    is_ready,
    load,
    model_ids,
    propose,
    sha256_of_file,
    shipped_weights,
)

X = torch.rand(1, 3, 21, 30, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where shipped weights lie."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(_weights, "WEIGHTS", folder)
    return folder


@pytest.fixture
def ship(folder: Path, registered: dict[str, Any]) -> Callable[[str, int], Path]:
    """Lets a name stand for the small network with weights of a seed, in half precision."""

    def ship(name: str, seed: int) -> Path:
        entry = entry_of("haze-unet")
        path = folder / f"{name}.safetensors"
        state = load("haze-unet", weights=f"random:{seed}").state_dict()
        save_file({key: value.half() for key, value in state.items()}, path)
        said = {"trained_on": "these", "validated_on": "those"}
        card = replace(entry.card, id=name, weights_sha256=sha256_of_file(path), **said)
        registered[name] = replace(entry, card=card, shipped=path.name)
        return path

    return ship


def test_two_entries_of_one_network_bring_their_own(ship: Callable[[str, int], Path]) -> None:
    path, _ = ship("aerial", 1), ship("natural", 2)
    aerial, natural = load("aerial"), load("natural")
    assert {p.dtype for p in aerial.parameters()} == {torch.float32}
    assert torch.equal(aerial(X), load("aerial", weights=path)(X))
    assert not torch.equal(aerial(X), natural(X))
    assert aerial.card.weights_sha256 == sha256_of_file(path) != natural.card.weights_sha256
    again = load(**json.loads(json.dumps(aerial.spec)))
    assert torch.equal(again(X), aerial(X))


def test_other_weights_take_their_place(ship: Callable[[str, int], Path], tmp_path: Path) -> None:
    ship("aerial", 1)
    assert torch.equal(
        load("aerial", weights="random:5")(X), load("haze-unet", weights="random:5")(X)
    )
    mine = tmp_path / "mine.safetensors"
    save_file(load("haze-unet", weights="random:7").state_dict(), mine)
    model = load("aerial", weights=mine)
    assert model.card.weights_sha256 == sha256_of_file(mine)
    # Claims about the shipped weights are not theirs.
    assert (model.card.trained_on, model.card.validated_on) == ("", "")
    assert load("aerial").card.trained_on == "these"
    assert torch.equal(model(X), load("haze-unet", weights="random:7")(X))


def test_what_is_lost_or_damaged_is_told(ship: Callable[[str, int], Path]) -> None:
    path = ship("aerial", 1)
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(BadModel, match=r"aerial are damaged.*Install napari-restore again"):
        load("aerial")
    path.unlink()
    with pytest.raises(MissingWeights, match=r"aerial are missing.*Install napari-restore again"):
        load("aerial")


def test_only_networks_without_weights_ask_for_a_file(ship: Callable[[str, int], Path]) -> None:
    ship("aerial", 1)
    assert card_of("aerial").needs_weights
    assert (is_ready("aerial"), is_ready("inf-dehaze-fast"), is_ready("dcp")) == (True, False, True)


@pytest.mark.parametrize("model_id", model_ids())
def test_shipped_files_belong_to_their_cards(model_id: str) -> None:
    entry = entry_of(model_id)
    if entry.shipped is None:
        assert entry.card.weights_sha256 is None
        return
    assert entry.card.needs_weights
    assert entry.shipped == Path(entry.shipped).name
    assert load(model_id).card.weights_sha256 == entry.card.weights_sha256


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in model_ids() if card_of(n).weights_sha256])
@pytest.mark.ids(
    "nightly",
    "hint-small-lowlight",
    "inf-dehaze-small",
    "haze-unet",
    "atmosphere-aerial",
    "andehazeformer-small",
)
def test_a_copy_of_a_shipped_file_is_described_and_computes_the_same(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / "copy.safetensors"
    path.write_bytes(shipped_weights(entry_of(name)).read_bytes())
    proposal = propose(path)
    own, copy = load(name), load(path)
    sizes = ("multiple_of", "padded_to", "halo", "inputs", "bands", "scope")
    for field in sizes:
        assert getattr(copy.card, field) == getattr(own.card, field), field
        assert getattr(proposal.model.card, field) == getattr(own.card, field), field
    frames = torch.rand(1, 3 * own.card.inputs, 40, 36, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(copy(frames), own(frames))
