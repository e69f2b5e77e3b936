"""A model's file: what decides what it runs changes the digest of its code, and nothing else does."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

from napari_restore.errors import BadModel, InputError
from napari_restore.models import code_digest, code_files, load, run_script

FILES = {
    "net.py": '''"""A network."""
import torch
from torch import nn
import helper
from pack.ops import blur
from pack import more as other
SIZE = 3


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.c = nn.Conv2d(3, 3, SIZE, padding=1)

    def forward(self, x):
        import late
        return late.last(blur(helper.scale(self.c(x)))) + other.ADD


def make():
    return Net()
''',
    "helper.py": "from deep import GAIN\n\n\ndef scale(x):\n    return x * GAIN\n",
    "deep.py": "GAIN = 0.5\n",
    "late.py": "def last(x):\n    return x.clamp(-1, 2)\n",
    "pack/__init__.py": "LEVEL = 1\n",
    "pack/more.py": "ADD = 0.25\n",
    "pack/ops.py": "from .kernels import side\n\n\ndef blur(x):\n    return x / side()\n",
    "pack/kernels.py": "from . import tables\n\n\ndef side():\n    return tables.SIDE\n",
    "pack/tables.py": "SIDE = 3\n",
    "unused.py": "NONE = 1\n",
}
CODE_CHANGES = {
    "main constant": ("net.py", "SIZE = 3", "SIZE = 1 + 2"),
    "main operator": ("net.py", " + other.ADD", " - other.ADD"),
    "main seed": ("net.py", "manual_seed(0)", "manual_seed(1)"),
    "main padding": ("net.py", "padding=1", "padding=1, padding_mode='reflect'"),
    "factory": ("net.py", "return Net()", "return Net().requires_grad_(False)"),
    "helper": ("helper.py", "x * GAIN", "x / GAIN"),
    "helper's helper": ("deep.py", "0.5", "0.9"),
    "late import": ("late.py", "2)", "3)"),
    "package": ("pack/__init__.py", "1", "2"),
    "member": ("pack/more.py", "0.25", "0.5"),
    "submodule": ("pack/ops.py", "x / side()", "x * side()"),
    "relative": ("pack/kernels.py", "tables.SIDE", "tables.SIDE + 1"),
    "relative to the package": ("pack/tables.py", "3", "5"),
}
SAME_CODE = {
    "comment": ("helper.py", "\n\n\n", "\n# A comment.\n\n\n"),
    "docstring": ("helper.py", "    return", '    """Words."""\n    return'),
    "other docstring": ("net.py", "A network.", "Another text."),
    "blank lines": ("pack/ops.py", "\n\n\n", "\n\n\n\n\n"),
    "spaces": ("deep.py", "GAIN = 0.5", "GAIN   =   0.5"),
    "parentheses": ("helper.py", "x * GAIN", "(x * GAIN)"),
    "no import": ("unused.py", "1", "2"),
}


@pytest.fixture
def written(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def replaced(folder, name, old, new):
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("name", [*CODE_CHANGES, *SAME_CODE])
def test_what_a_model_file_runs_decides(name, written):
    before = code_digest(written / "net.py")
    replaced(written, *{**CODE_CHANGES, **SAME_CODE}[name])
    assert (code_digest(written / "net.py") == before) == (name in SAME_CODE)


def test_moved_files_of_another_name_are_the_same_code(written, tmp_path):
    before = code_digest(written / "net.py")
    assert set(code_files(written / "net.py")) == {written / name for name in FILES} - {
        written / "unused.py"
    }
    moved = written.rename(tmp_path.with_name("elsewhere"))
    (moved / "net.py").rename(moved / "mine.py")
    assert code_digest(moved / "mine.py") == before


def test_names_of_imports_that_are_computed_take_the_folder(written):
    replaced(written, "late.py", "def last", "import importlib\n\n\ndef last")
    replaced(written, "late.py", "return", "importlib.import_module('unu' + 'sed')\n    return")
    before = code_digest(written / "net.py")
    replaced(written, "unused.py", "1", "2")
    assert code_digest(written / "net.py") != before


REPOSITORY = {
    "README.md": "",
    "common/units.py": "STEP = 2\n",
    "light/utils/registry.py": "def register(made):\n    return made\n",
    "light/archs/blocks.py": """\
from torch import nn

from common.units import STEP


class Block(nn.Module):
    def forward(self, x):
        return x * STEP
""",
    "light/archs/arch.py": """\
from light.utils.registry import register

from .blocks import Block


@register
class Net(Block):
    def __init__(self, width=3, depths=(1, 1)):
        super().__init__()
        self.ends = Block()

    def forward(self, x):
        return self.ends(super().forward(x))


def reads_a_line():
    raise SystemExit(2)
""",
}
"""Files as authors of a network publish them: run from the folder, some imports by the package's name."""


@pytest.fixture(params=["with __init__.py", "without"])
def repository(tmp_path, request):
    for name, text in REPOSITORY.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if request.param != "without":
        for folder in ("light", "light/archs", "light/utils"):
            (tmp_path / folder / "__init__.py").touch()
    return tmp_path


def test_a_network_in_a_repository_is_loaded_from_anywhere(repository, tmp_path):
    before = set(sys.modules)
    model = load(f"{repository}/light/archs/arch.py:Net", card={"halo": 0}, trust=True)
    x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(x), x * 4)
    assert not {name for name in set(sys.modules) - before if name.startswith(("light", "common"))}


@pytest.mark.parametrize("name", [name for name in REPOSITORY if name.endswith(".py")])
def test_all_files_of_a_repository_that_a_network_runs_count(repository, name):
    path = repository / "light/archs/arch.py"
    before = code_digest(path)
    with (repository / name).open("a") as file:
        file.write("\n\nMORE = 1\n")
    assert code_digest(path) != before


@pytest.mark.parametrize(
    ("factory", "parameters", "sentence"),
    [
        ("Nett", {}, r"arch.py has no function or class Nett\. Did you mean Net\?"),
        ("Net", {"opt": 1}, "no parameter 'opt'. It has: width, depths"),
        (
            "reads_a_line",
            {},
            "ends the program.* Name the function or class that makes the network",
        ),
    ],
)
def test_what_is_wrong_with_a_factory_is_named(repository, factory, parameters, sentence):
    with pytest.raises(InputError, match=sentence):
        load(f"{repository}/light/archs/arch.py:{factory}", parameters=parameters, trust=True)


def test_a_module_that_is_missing_is_named(repository):
    replaced(
        repository, "light/archs/blocks.py", "from torch", "import nowhere_to_be_found\nfrom torch"
    )
    with pytest.raises(BadModel, match="needs the module nowhere_to_be_found, which is not found"):
        load(f"{repository}/light/archs/arch.py:Net", trust=True)


def test_arguments_are_named_where_weights_do_not_fit(repository, tmp_path):
    replaced(
        repository, "light/archs/arch.py", "self.ends = Block()", "self.ends = Block()\n"
        "        from torch import nn\n        self.last = nn.Conv2d(width, width, 1)",
    )  # fmt: skip
    weights = tmp_path / "net_g.pth"
    torch.save(
        {"params": torch.nn.ModuleDict({"last": torch.nn.Conv2d(8, 8, 1)}).state_dict()}, weights
    )
    with pytest.raises(BadModel, match=r"Give Net the arguments .* takes width, depths"):
        load(
            f"{repository}/light/archs/arch.py:Net", weights=weights, card={"bands": 3}, trust=True
        )


ARCHS = """
import importlib
from os import path as osp
from basicsr.utils import scandir
folder = osp.dirname(osp.abspath(__file__))
modules = [
    importlib.import_module(f"basicsr.models.archs.{name[:-3]}")
    for name in scandir(folder) if name.endswith("_arch.py")
]
"""


def test_a_repository_in_the_layout_of_basicsr_loads_as_it_is(tmp_path: Path) -> None:
    """Its top folder has no ``__init__.py``; those below import by the name of the top folder."""
    archs = tmp_path / "basicsr" / "models" / "archs"
    archs.mkdir(parents=True)
    (archs.parent / "__init__.py").write_text("")
    (archs / "__init__.py").write_text(ARCHS)
    utils = tmp_path / "basicsr" / "utils"
    utils.mkdir()
    (utils / "__init__.py").write_text(
        "import os\ndef scandir(folder): return sorted(os.listdir(folder))"
    )
    path = archs / "net_arch.py"
    path.write_text(
        "from torch import nn\nfrom basicsr.models.archs.other_arch import Other\n"
        "class Net(nn.Sequential):\n    def __init__(self): super().__init__(Other())\n"
    )
    (archs / "other_arch.py").write_text(
        "from torch import nn\nclass Other(nn.Conv2d):\n"
        "    def __init__(self): super().__init__(3, 3, 3, padding=1)\n"
    )
    model = load(f"{path}:Net", trust=True)
    assert type(model.module).__name__ == "Net"
    # What the packages run belongs to the model as well.
    before = code_digest(path)
    (utils / "__init__.py").write_text("import os\ndef scandir(folder): return os.listdir(folder)")
    assert code_digest(path) != before


def test_all_packages_that_are_missing_are_named(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text("import nowhere_einops\nfrom nowhere_timm.layers import x\nimport torch\n")
    with pytest.raises(BadModel, match=r"nowhere_einops, which is not found, nor nowhere_timm\."):
        load(f"{path}:make", trust=True)


def test_a_neighbour_that_has_changed_runs_as_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sides_of_mine.py").write_text("SIDE = 3\n")
    (tmp_path / "measure.py").write_text("from sides_of_mine import SIDE\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.import_module("sides_of_mine").SIDE == 3
    (tmp_path / "sides_of_mine.py").write_text("SIDE = 5\n")
    with run_script(tmp_path / "measure.py") as module:
        assert module.SIDE == 5
    monkeypatch.delitem(sys.modules, "sides_of_mine", raising=False)
