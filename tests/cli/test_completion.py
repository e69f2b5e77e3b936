"""`--print-completion`: what bash offers after the Tab key, and that zsh gets a script."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from napari_restore.commands import main


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    path = tmp_path_factory.mktemp("completion") / "script"
    with pytest.MonkeyPatch.context() as patch:
        with path.open("w", encoding="utf-8") as file:
            patch.setattr("sys.stdout", file)
            assert main(["--print-completion", "bash"]) == 0
    return path


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["at"], {"attribute", "attend"}),
        (["restore", "--srcw"], {"--srcwin"}),
        (["restore", "scene.tif", "--other-bands", "c"], {"correct", "copy"}),
        (["restore", "scene.tif", "--model", "atm"], {"atmosphere", "atmosphere-aerial"}),
        (["restore", "sce"], {"scene.tif"}),
        (["rerun", "sce"], {"scene.tif"}),
    ],
)
def test_bash_offers(
    bash_script: Path, tmp_path: Path, words: list[str], offered: set[str]
) -> None:
    (tmp_path / "scene.tif").touch()
    asked = """source "$0"
COMP_WORDS=(napari-restore "$@"); COMP_CWORD=$#
_shtab_napari_restore
printf '%s\\n' "${COMPREPLY[@]}"
"""
    done = subprocess.run(
        ["bash", "-c", asked, bash_script, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (set(done.stdout.split()), done.stderr) == (offered, "")


def test_zsh_gets_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--print-completion", "zsh"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef napari-restore")
    assert "haze-unet" in script
