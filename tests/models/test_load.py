"""Models from names, files and modules; bad files end in one sentence."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from napari_restore.api import load_described
from napari_restore.errors import BadModel, BadParameter, MissingWeights
from napari_restore.models import (
    ModelCard,
    RestorationModel,
    _script,
    card_of,
    load,
    sha256_of_file,
)

X = torch.rand(1, 3, 21, 30, generator=torch.Generator().manual_seed(0))


class Half(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 2


class Pool(nn.Module):
    """Needs sizes that are multiples of four."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        assert x.shape[2] % 4 == x.shape[3] % 4 == 0
        return self.conv(x), x


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "Gewichte für Haze.safetensors"
    save_file(load("haze-unet", weights="random:7").state_dict(), path)
    return path


def test_network_without_weights() -> None:
    with pytest.raises(MissingWeights, match=r"random:0"):
        load("inf-dehaze-fast")


def test_seed_decides() -> None:
    one, same, other = (load("haze-unet", weights=f"random:{s}") for s in (1, 1, 2))
    assert torch.equal(one(X), same(X))
    assert one.card.weights_sha256 == same.card.weights_sha256 != other.card.weights_sha256
    assert not torch.equal(one(X), other(X))
    assert float((one(X) - X).abs().max()) < 2


def test_random_weights_are_pinned() -> None:
    """The same seed means the same network on every machine and in every version."""
    model = load("haze-unet", weights="random:0")
    assert float(model.stem.weight.sum()) == pytest.approx(STEM_SUM, rel=1e-5)


STEM_SUM = 0.8461066484451294


@pytest.mark.parametrize("bad", ["random:", "random:x", "random:-1"])
def test_bad_seed(bad: str) -> None:
    with pytest.raises(BadParameter, match="seed"):
        load("haze-unet", weights=bad)


def test_weights_file(weights: Path) -> None:
    model = load("haze-unet", weights=weights)
    assert torch.equal(model(X), load("haze-unet", weights="random:7")(X))
    assert model.card.weights_sha256 == sha256_of_file(weights)
    assert not model.training
    again = load(**json.loads(json.dumps(model.spec)))
    assert torch.equal(again(X), model(X))


def test_pickled_weights_with_nested_names(tmp_path: Path) -> None:
    state = load("haze-unet", weights="random:7").state_dict()
    path = tmp_path / "net.pth"
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    assert torch.equal(load("haze-unet", weights=path)(X), load("haze-unet", weights="random:7")(X))


def test_width_follows_the_weights(tmp_path: Path) -> None:
    from napari_restore.models.haze_unet.network import HazeUNet

    wide = HazeUNet(card_of("haze-unet"), width=24, blocks=1).eval()
    path = tmp_path / "wide.safetensors"
    save_file(wide.state_dict(), path)
    model = load("haze-unet", weights=path)
    assert torch.equal(model(X), wide(X))
    assert model.card.halo == wide.card.halo < load("haze-unet", weights="random:0").card.halo


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("touched"),)


def test_pickles_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(BadModel, match="could run code"):
        load("haze-unet", weights="evil.pth")
    assert not (tmp_path / "touched").exists()


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@pytest.mark.parametrize(
    "nested",
    [
        lambda state: state,
        lambda state: {"state_dict": {f"model.{k}": v for k, v in state.items()}},
        lambda state: {f"_orig_mod.module.{k}": v for k, v in state.items()},
        lambda state: {"params": {k.removeprefix("net."): v for k, v in state.items()}},
        lambda state: {"epoch": 3, "netG": state, "optimizer": {"state": {0: torch.ones(2)}}},
        lambda state: {"ema": {"shadow": state}, "step": 7},
        lambda state: {
            **{f"generator.{k}": v for k, v in state.items()},
            **{f"critic.{n}": torch.ones(3) for n in range(3)},
        },
        lambda state: {k: v for k, v in state.items() if "num_batches" not in k},
    ],
)
def test_weights_are_found_under_usual_names(tmp_path: Path, nested) -> None:
    source, path = Two(), tmp_path / "w.pth"
    torch.save(nested(source.state_dict()), path)
    model = load(Two(), card={}, weights=path)
    assert torch.equal(model(X), source.eval()(X))


def test_weights_of_known_networks_are_found_too(tmp_path: Path) -> None:
    state = load("haze-unet", weights="random:7").state_dict()
    path = tmp_path / "net.pth"
    torch.save({"state_dict": {f"generator.{k}": v for k, v in state.items()}}, path)
    assert torch.equal(load("haze-unet", weights=path)(X), load("haze-unet", weights="random:7")(X))


def test_the_first_keys_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path, state = tmp_path / "w.pth", dict(Two().state_dict())
    state["net.0.weight"] = torch.ones(8, 3, 1, 1)
    del state["net.2.bias"], state["net.1.bias"]
    torch.save(state | {f"extra.{n}": torch.ones(1) for n in range(5)}, path)
    with pytest.raises(BadModel) as caught:
        load(Two(), card={}, weights=path)
    assert caught.value.message == (
        "w.pth lacks net.1.bias, net.2.bias; it has the unknown extra.0, extra.1, extra.2 and 2 more; "
        "it has net.0.weight of 8 × 3 × 1 × 1 in place of 4 × 3 × 1 × 1."
    )
    both = {f"{name}.{k}": v for name in ("g", "g_ema") for k, v in Two().state_dict().items()}
    torch.save(both, path)
    with pytest.raises(BadModel, match=r"several networks that fit: g\., g_ema\."):
        load(Two(), card={}, weights=path)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 4096])
def test_damaged_weights(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadModel, match=name):
        load("haze-unet", weights=tmp_path / name)


def test_missing_weights_file(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match="no weights file"):
        load("haze-unet", weights=tmp_path / "none.safetensors")


def test_weights_of_another_network(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"conv.weight": torch.zeros(3, 3, 3, 3)}, path)
    with pytest.raises(BadModel, match="not those of haze-unet"):
        load("haze-unet", weights=path)


def test_incomplete_and_broken_weights(weights: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    state = load_file(weights)
    path = tmp_path / "w.safetensors"
    save_file({k: v for k, v in state.items() if k != "head.bias"}, path)
    with pytest.raises(BadModel, match=r"lacks head\.bias"):
        load("haze-unet", weights=path)
    save_file({**state, "extra": torch.zeros(1)}, path)
    with pytest.raises(BadModel, match="unknown extra"):
        load("haze-unet", weights=path)
    save_file({**state, "head.bias": torch.full((3,), torch.nan)}, path)
    with pytest.raises(BadModel, match="NaN"):
        load("haze-unet", weights=path)


def test_classical_models_take_no_weights() -> None:
    with pytest.raises(BadModel, match="takes no weights"):
        load("dcp", weights="random:0")


def test_parameters() -> None:
    model = load("dcp", parameters={"omega": "0.5", "patch_radius": 3})
    assert model.card.values["omega"] == 0.5
    assert model.card.values["t0"] == 0.1
    assert model.card.halo < load("dcp").card.halo
    assert load(**model.spec).card == model.card
    with pytest.raises(BadParameter, match="omega"):
        load("dcp", parameters={"omga": 0.5})
    with pytest.raises(BadParameter, match="outside"):
        load("dcp", parameters={"omega": 2})


def test_plain_module() -> None:
    model = load(Half(), card={"id": "half", "halo": 0})
    assert isinstance(model, RestorationModel)
    assert torch.equal(model(X), X / 2)
    assert model.spec == {}
    assert load(model) is model


def test_plain_module_is_padded() -> None:
    model = load(Pool(), card={"multiple_of": 4, "halo": 1}, weights="random:0")
    assert model(X).shape == X.shape
    assert model(X[..., :1, :1]).shape == (1, 3, 1, 1)
    assert model.card.weights_sha256


def test_a_module_without_a_card_is_tried_out() -> None:
    half, pool = load(Half()), load(Pool(), weights="random:0")
    assert (half.card.bands, half.card.multiple_of) == (3, 1)
    assert (pool.card.bands, pool.card.multiple_of) == (3, 4)
    assert pool.measured and not load(Pool(), card={"multiple_of": 4}).measured


def test_trying_leaves_batch_statistics_alone() -> None:
    module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).train()
    load(module)
    assert torch.equal(module[1].running_mean, torch.zeros(3))


def test_a_module_that_makes_no_image_is_refused() -> None:
    with pytest.raises(BadModel, match="Conv2d has no card, and gives no image"):
        load(nn.Conv2d(3, 6, 3))


@pytest.mark.parametrize("thing", [None, 3, Half])
def test_what_is_no_model_is_refused(thing: object) -> None:
    with pytest.raises(BadModel, match="A model cannot be made of"):
        load(thing)  # type: ignore[arg-type]


def test_a_python_file_needs_a_factory(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("class Net: ...\ndef _hidden(): ...\ndef make(): ...\n", "utf-8")
    with pytest.raises(BadModel, match=r"mine\.py:make\. It also has Net\."):
        load(path, trust=True)


@pytest.mark.parametrize(
    "card, message",
    [
        ({"hallo": 3}, "no field 'hallo'"),
        ({"halo": -1}, "impossible sizes"),
        ({"multiple_of": 256}, "impossible sizes.*1 to 128"),
        ({"halo": "wide"}, "halo is 'wide', but it should be a valid integer"),
        ({"attention": {"attention.1": {"stride": 4}}}, 'Delete its field "attention"'),
        ({"scope": "all"}, "scope is 'all'"),
    ],
)
def test_bad_card(card: dict[str, object], message: str) -> None:
    with pytest.raises(BadModel, match=message):
        load(Half(), card=card)


def test_module_of_another_output_size() -> None:
    model = load(nn.Conv2d(3, 1, 1), card={})
    with pytest.raises(BadModel, match="returns"):
        model(X)


SCRIPT = """
import torch
class Mine(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 3, 1)
    def forward(self, x):
        return self.conv(x)
def make():
    return Mine()
def broken():
    raise RuntimeError("no luck")
def number():
    return 3
"""


def test_script(tmp_path: Path) -> None:
    path = tmp_path / "mein modell.py"
    path.write_text(SCRIPT, "utf-8")
    with pytest.raises(BadModel, match="trust"):
        load(f"{path}:make", card={"halo": 0})
    model = load(f"{path}:make", card={"halo": 0}, weights="random:1", trust=True)
    assert model.card.id == "mein modell"
    # A description may come from a file: it says what to load, never that its code may run.
    with pytest.raises(BadModel, match="trust"):
        load_described(model.spec)
    with pytest.raises(BadModel, match="trust"):
        load_described({**model.spec, "trust": True})
    assert torch.equal(load_described(model.spec, trust=True)(X), model(X))
    for name, message in (
        ("broken", "no luck"),
        ("number", "returns int"),
        ("none", "no function or class none"),
    ):
        with pytest.raises(BadModel, match=message):
            load(f"{path}:{name}", card={}, trust=True)
    with pytest.raises(BadModel, match="no file"):
        load(f"{tmp_path / 'missing.py'}:make", trust=True)


def folder_with(tmp_path: Path, name: str, bias: float) -> Path:
    """A folder with mine.py, a module and a package beside it."""
    folder = tmp_path / name
    (folder / "parts").mkdir(parents=True)
    (folder / "net.py").write_text(
        f"from parts.layers import Shift\nclass Net(Shift):\n    bias = {bias}\n", "utf-8"
    )
    (folder / "parts" / "layers.py").write_text(
        "import torch\nclass Shift(torch.nn.Module):\n    bias = 9.0\n"
        "    def forward(self, x): return x + self.bias * self.scale\n",
        "utf-8",
    )
    (folder / "mine.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport net\n"
        "@dataclass\nclass Config:\n    scale: int\n"
        "def make(scale: int = 1, *, twice=False, factor=1.0):\n"
        "    made = net.Net()\n    made.scale = Config(scale).scale * (1 + twice) * factor\n"
        "    return made\n"
        "def needing(width): return make(width)\n",
        "utf-8",
    )
    return folder / "mine.py"


def test_scripts_import_their_neighbours_and_not_those_of_others(tmp_path: Path) -> None:
    paths = [folder_with(tmp_path, name, bias) for name, bias in (("a", 1.0), ("b", 2.0))]
    before = list(sys.path), set(sys.modules)
    for path, bias in (*zip(paths, (1.0, 2.0), strict=True), (paths[0], 1.0)):
        made = load(f"{path}:make", card={"halo": 0}, trust=True)
        assert torch.equal(made(X), X + bias)
    assert before[0] == sys.path
    assert not {"net", "parts", "parts.layers", "mine"} & (set(sys.modules) - before[1])
    # Of a package, too: what it imports relative to itself.
    (tmp_path / "a" / "__init__.py").write_text("", "utf-8")
    relative = paths[0].read_text("utf-8").replace("import net", "from . import net")
    paths[0].write_text(relative, "utf-8")
    assert torch.equal(load(f"{paths[0]}:make", card={}, trust=True)(X), X + 1)
    (paths[1].parent / "net.py").unlink()
    with pytest.raises(BadModel, match=r"mine\.py:make needs the module net, which is not found"):
        load(f"{paths[1]}:make", card={}, trust=True)


def test_scripts_run_while_other_threads_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, taken = f"{folder_with(tmp_path, 'a', 1.0)}:make", _script._taken

    def imported_meanwhile(*arguments: Any) -> set[str]:
        monkeypatch.setitem(sys.modules, "imported_meanwhile", ModuleType("imported_meanwhile"))
        return taken(*arguments)

    monkeypatch.setattr(_script, "_taken", imported_meanwhile)
    assert torch.equal(load(source, card={"halo": 0}, trust=True)(X), X + 1)


def test_factories_take_arguments(tmp_path: Path) -> None:
    source = f"{folder_with(tmp_path, 'a', 1.0)}:make"
    given = {"scale": "3", "twice": "true", "factor": "0.5"}  # as a command line gives them
    model = load(source, card={}, parameters=given, trust=True)
    assert torch.equal(model(X), X + 3)
    assert model.card.values == {"scale": 3, "twice": True, "factor": 0.5}
    assert torch.equal(load_described(model.spec, trust=True)(X), X + 3)
    for name, parameters, message in (
        ("make", {"scale": "wide"}, "Parameter scale takes a int, not 'wide'"),
        ("make", {"width": 3}, "has no parameter 'width'"),
        ("needing", {}, "mine.py:needing needs a value for width"),
    ):
        with pytest.raises(BadParameter, match=message):
            load(source.replace("make", name), card={}, parameters=parameters, trust=True)
    assert torch.equal(
        load(source.replace("make", "needing"), card={}, parameters={"width": "2"}, trust=True)(X),
        X + 2,
    )


def test_script_with_a_card_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(SCRIPT, "utf-8")
    (tmp_path / "mine.json").write_text(
        json.dumps({"title": "Mine", "halo": 4, "roles": ["red", "green", "blue"]}), "utf-8"
    )
    model = load(f"{path}:make", trust=True)
    assert (model.card.title, model.card.halo) == ("Mine", 4)
    assert model.card.roles == ("red", "green", "blue")


def test_dropped_weights_are_known_or_named(weights: Path) -> None:
    assert load(weights).card.id == "haze-unet"
    card = {"model": "haze-unet", "title": "Trained by me", "trained_on": "My scenes."}
    weights.with_suffix(".json").write_text(json.dumps(card), "utf-8")
    model = load(weights)
    assert model.card.title == "Trained by me"
    assert model.card.roles == ("red", "green", "blue")
    assert torch.equal(load(**model.spec)(X), model(X))


@pytest.mark.slow
def test_exported_program(tmp_path: Path) -> None:
    path = tmp_path / "half.pt2"
    size = {2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    program = torch.export.export(
        Half(), (torch.rand(1, 3, 16, 24),), dynamic_shapes=(size,), strict=False
    )
    torch.export.save(program, path)
    with pytest.raises(BadModel, match="trust"):
        load(path, card={"halo": 0})
    measured = load(path, trust=True)
    assert measured.measured and (measured.card.bands, measured.card.multiple_of) == (3, 1)
    assert torch.equal(measured(X), X / 2)
    (tmp_path / "half.json").write_text('{"halo": 0, "bands": 3}', "utf-8")
    model = load(path, trust=True)
    assert torch.equal(model(X), X / 2)
    assert model.card.weights_sha256 == sha256_of_file(path)


def test_a_program_of_one_image_at_a_time_takes_batches(tmp_path: Path) -> None:
    path = tmp_path / "half.pt2"
    size = {2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    program = torch.export.export(
        Half(), (torch.rand(2, 3, 16, 24),), dynamic_shapes=(size,), strict=False
    )
    torch.export.save(program, path)
    model = load(path, trust=True)
    for count in (1, 2, 3):
        batch = torch.rand(count, 3, 20, 28)
        assert torch.equal(model(batch), batch / 2)


def test_card_object_is_kept() -> None:
    card = ModelCard("half", "Half", "Halves.")
    assert load(Half(), card=card).card.title == "Half"
