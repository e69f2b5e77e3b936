"""What a start must not load: it would make `--help` and every import slow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "torch", "rasterio", "napari", "dask", "zarr", "tifffile", "imagecodecs", "rawpy", "numpy",
    "scipy", "skimage", "qtpy", "magicgui", "pydantic",
}  # fmt: skip


def loaded_after(code: str, *arguments: str, whole: bool = False) -> set[str]:
    """The modules a fresh interpreter has loaded after `code`: the top-level ones, or with `whole` all."""
    name = "m" if whole else "m.partition('.')[0]"
    report = (
        f"; import json, sys; print('\\n' + json.dumps(sorted({{{name} for m in sys.modules}})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code + report, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_check_sees_a_heavy_library():
    assert "numpy" in loaded_after("import numpy")


@pytest.mark.parametrize(
    "code",
    [
        "import napari_restore",
        "import napari_restore; dir(napari_restore)",
        "import napari_restore.errors, napari_restore.records, napari_restore.sample",
        "import napari_restore.commands",
        "import napari_restore.commands; napari_restore.commands.main(['--help'])",
        "import napari_restore.commands; napari_restore.commands.main(['restore', '--help'])",
        "import napari_restore.commands; napari_restore.commands.main(['restore'])",
    ],
)
def test_start_loads_nothing_heavy(code: str):
    assert loaded_after(code) & HEAVY == set()


MAIN = "import napari_restore.commands; napari_restore.commands.main"


def test_the_first_help_loads_no_command():
    loaded = loaded_after(f"{MAIN}(['--help'])", whole=True)
    ours = {name for name in loaded if name.startswith("napari_restore.")}
    assert "napari_restore.commands._main" in ours
    assert not {
        name
        for name in ours
        if name.split(".")[1] not in ("_heap", "_points", "commands", "errors", "questions")
    }
    assert (
        not {f"napari_restore.commands.{name}" for name in ("_info", "_restore", "_arguments")}
        & ours
    )
    assert not {"http.client", "tomllib", "importlib.metadata"} & loaded


@pytest.mark.slow
def test_info_loads_what_reads_the_file():
    from napari_restore.sample import SAMPLE

    loaded = loaded_after(f"import sys; {MAIN}(sys.argv[1:])", "info", str(SAMPLE))
    assert "rasterio" in loaded
    assert loaded & (HEAVY - {"rasterio", "numpy"}) == set()


def test_engine_and_cards_load_without_the_raster_library():
    loaded = loaded_after("import napari_restore.engine, napari_restore.models")
    assert loaded & {"rasterio", "napari", "qtpy"} == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", ["atmosphere", pytest.param("inf-dehaze-small", marks=pytest.mark.nightly)]
)
def test_runs_and_an_attribution_do_not_load_the_compiler_of_torch(model: str, tmp_path: Path):
    """It takes most of a second, and sympy comes with it."""
    loaded = loaded_after(
        "import sys, numpy as np, napari_restore as nr; "
        "pixels = np.random.default_rng(0).integers(90, 255, (70, 90, 3), 'uint8'); "
        "image = nr.open_image(pixels, bands='red=1,green=2,blue=3'); "
        "[nr.restore(image, model, scratch=sys.argv[1]) for model in ('dcp', 'hot', 'htm')]; "
        f"nr.attribute(image, '{model}', nr.Region(0, 0, 32, 32), method='ig', steps=1, scratch=sys.argv[1])",
        str(tmp_path),
    )
    assert "torch" in loaded
    assert "sympy" not in loaded


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "napari_restore", "--version"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("napari-restore ")
