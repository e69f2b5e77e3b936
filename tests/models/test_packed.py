"""Packed weights: equal to the bit or rounded as said, and never those of another file."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from napari_restore.errors import BadModel
from napari_restore.models import card_of, entry_of, read_state, shipped_weights

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "ship_weights.py"))
pack, pack_metadata, ship_as_stored = (
    SCRIPT[name] for name in ("pack", "pack_metadata", "ship_as_stored")
)

PACKED, BASES = "napari_restore.packed", "napari_restore.bases"
G = torch.Generator().manual_seed(0)
STATE = {
    "a.weight": torch.randn(6, 4, 3, 3, generator=G).half(),
    "a.bias": torch.randn(6, generator=G).half(),
    "large": (torch.randn(40, 50, generator=G) * torch.logspace(-6, 1, 40)[:, None]).half(),
    "one": torch.tensor(0.7).half(),
    "count": torch.tensor([3]),
    "wide": torch.tensor([1e30]),
}
STATE["large"][3] = 0


def write(path: Path, state: dict[str, torch.Tensor], bases: dict[str, Path] | None = None) -> Path:
    save_file(state, path, pack_metadata(bases or {}))
    return path


def test_bytes_by_significance_lose_nothing(tmp_path: Path) -> None:
    stored = pack(STATE)
    assert {"low.a.weight", "high.a.weight", "count", "wide"} <= stored.keys()
    read = read_state(write(tmp_path / "a.safetensors", stored))
    assert read.keys() == STATE.keys()
    for name, tensor in STATE.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


@pytest.mark.parametrize(
    ("given", "largest"), [({"one_byte": 2000}, 127), ({"two_bytes": 2000}, 511)]
)
def test_whole_numbers_are_within_half_a_step_of_their_row(
    tmp_path: Path, given: dict[str, int], largest: int
) -> None:
    read = read_state(write(tmp_path / "a.safetensors", pack(STATE, **given)))
    exact = STATE["large"].float()
    step = exact.abs().amax(1, keepdim=True) / largest
    assert ((read["large"] - exact).abs() <= step * 0.5001).all()
    assert not torch.equal(read["large"], exact)
    # Smaller ones stay.
    assert torch.equal(read["a.weight"], STATE["a.weight"])


def test_tensors_of_another_file_are_those_of_its_digest(tmp_path: Path) -> None:
    base = write(tmp_path / "base.safetensors", pack({"w": STATE["a.weight"]}))
    own = write(tmp_path / "own.safetensors", pack({"v": STATE["a.bias"]}), {"first.": base})
    read = read_state(own)
    assert read.keys() == {"v", "first.w"}
    assert torch.equal(read["first.w"], STATE["a.weight"])
    write(base, pack({"w": STATE["a.weight"] + 1}))
    with pytest.raises(BadModel, match=r"takes weights of base\.safetensors.* is another"):
        read_state(own)
    base.unlink()
    with pytest.raises(BadModel, match=r"base\.safetensors, which is missing.*beside it"):
        read_state(own)


def test_another_file_of_the_name_beside_it_does_not_hide_the_shipped_one(tmp_path: Path) -> None:
    shipped = shipped_weights(entry_of("haze-unet"))
    own = tmp_path / "haze-unet.safetensors"
    own.write_bytes(shipped.read_bytes())
    write(tmp_path / "atmosphere.safetensors", {"w": STATE["count"]})
    read, expected = read_state(own), read_state(shipped)
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    "bases",
    [
        "{",
        "[]",
        "{}",
        json.dumps({"a.": {"file": "../own.safetensors", "sha256": "0"}}),
        json.dumps({"a.": {"file": "..\\own.safetensors", "sha256": "0"}}),
        json.dumps({"a.": {"file": "/etc/own.safetensors", "sha256": "0"}}),
        json.dumps({"a.": {"file": "C:own.safetensors", "sha256": "0"}}),
        json.dumps({"a.": {"file": "..", "sha256": "0"}}),
        json.dumps({"a.": {"file": ".", "sha256": "0"}}),
        json.dumps({"a.": {"file": "", "sha256": "0"}}),
        json.dumps({"a.": {"sha256": "0"}}),
    ],
)
def test_a_file_names_no_file_elsewhere(tmp_path: Path, bases: str) -> None:
    path = tmp_path / "own.safetensors"
    save_file({"w": torch.ones(2)}, path, {PACKED: "1", BASES: bases})
    with pytest.raises(BadModel, match=r"does not say whose weights it takes"):
        read_state(path)


def test_words_of_other_programs_mean_nothing(tmp_path: Path) -> None:
    state = {"low.w": torch.ones(2), "scale.w": torch.ones(3), "high.v": torch.zeros(1)}
    path = tmp_path / "own.safetensors"
    save_file(state, path, {"packed": "1", "bases": "{", "format": "pt"})
    read = read_state(path)
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in state.items())


def test_a_later_form_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_file({"w": torch.ones(2)}, path, {PACKED: "2"})
    with pytest.raises(BadModel, match=r"own\.safetensors is packed .* '2'\. Use a newer version"):
        read_state(path)


@pytest.mark.parametrize("name", ["low.w", "high.w", "scale.w"])
def test_a_name_of_a_part_is_refused_before_it_is_packed(name: str) -> None:
    with pytest.raises(BadModel, match=rf"A tensor is named {name}"):
        pack({name: STATE["a.bias"]})


def test_stored_tensors_are_shipped_again_with_the_present_base(tmp_path: Path) -> None:
    base = write(tmp_path / "base.safetensors", pack({"w": STATE["a.weight"]}))
    own = write(tmp_path / "own.safetensors", pack({"v": STATE["a.bias"]}), {"first.": base})
    write(base, pack({"w": STATE["a.weight"] + 1}))
    ship_as_stored(own, own, {"first.": base})
    read = read_state(own)
    assert torch.equal(read["v"], STATE["a.bias"])
    assert torch.equal(read["first.w"], STATE["a.weight"] + 1)


@pytest.mark.parametrize("given", [{}, {"second.": "base"}, {"first.": "other"}])
def test_stored_tensors_keep_the_bases_they_were_written_for(
    tmp_path: Path, given: dict[str, str]
) -> None:
    base = write(tmp_path / "base.safetensors", pack({"w": STATE["a.weight"]}))
    write(tmp_path / "other.safetensors", pack({"w": STATE["a.weight"]}))
    own = write(tmp_path / "own.safetensors", pack({"v": STATE["a.bias"]}), {"first.": base})
    before = own.read_bytes()
    bases = {prefix: tmp_path / f"{name}.safetensors" for prefix, name in given.items()}
    with pytest.raises(SystemExit, match=r"has the bases .*'base\.safetensors'"):
        ship_as_stored(own, own, bases)
    assert own.read_bytes() == before


def test_stored_tensors_are_those_of_a_packed_file(tmp_path: Path) -> None:
    plain, target = tmp_path / "plain.safetensors", tmp_path / "target.safetensors"
    save_file(STATE, plain)
    with pytest.raises(SystemExit, match=r"plain\.safetensors is not packed"):
        ship_as_stored(plain, target, {})
    assert not target.exists()


LOW = torch.zeros(2, 3, dtype=torch.uint8)


@pytest.mark.parametrize(
    "stored",
    [
        {"high.w": LOW},
        {"scale.w": torch.ones(2)},
        {"low.v": LOW, "high.v": LOW, "high.w": LOW},
        {"w": LOW, "high.w": LOW},
    ],
)
def test_parts_of_no_tensor_are_refused(tmp_path: Path, stored: dict[str, torch.Tensor]) -> None:
    stored = {name: tensor.clone() for name, tensor in stored.items()}
    with pytest.raises(BadModel, match=r"a\.safetensors has \w+\.w, but not low\.w"):
        read_state(write(tmp_path / "a.safetensors", stored))


@pytest.mark.parametrize(
    "stored",
    [
        {"low.w": LOW},
        {"low.w": LOW.float(), "high.w": LOW},
        {"low.w": LOW, "high.w": LOW[:1].clone()},
        {"low.w": LOW, "high.w": LOW.float()},
        {"low.w": LOW, "scale.w": torch.ones(3)},
        {"low.w": LOW, "scale.w": torch.ones(2, dtype=torch.float64)},
        {"low.w": LOW[0, 0].clone(), "scale.w": torch.ones(1)},
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path: Path, stored: dict[str, torch.Tensor]) -> None:
    with pytest.raises(BadModel, match=r"a\.safetensors has no readable w\."):
        read_state(write(tmp_path / "a.safetensors", stored))


@pytest.mark.parametrize(
    ("model", "prefix", "base"),
    [
        ("hint-small-lowlight", "denoise.", "hint-small-denoise"),
        ("inf-dehaze-small", "atmosphere.", "atmosphere"),
        ("andehazeformer-small", "atmosphere.", "atmosphere"),
        ("haze-unet", "atmosphere.", "atmosphere"),
    ],
)
def test_shipped_files_name_the_networks_within_them(model: str, prefix: str, base: str) -> None:
    own = read_state(shipped_weights(entry_of(model)))
    part = read_state(shipped_weights(entry_of(base)))
    found = {name.removeprefix(prefix) for name in own if name.startswith(prefix)}
    assert found == part.keys()
    for name, tensor in part.items():
        assert torch.equal(own[prefix + name], tensor)
    # So the digest on the card is that of both.
    written = shipped_weights(entry_of(model)).read_bytes()
    assert str(card_of(base).weights_sha256).encode() in written
