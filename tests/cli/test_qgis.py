"""The Processing script of QGIS: its models, and the algorithm in QGIS itself where it is there."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ._scenes import hazy, read, write_tiff

SCRIPT = Path(__file__).parents[2] / "docs" / "qgis" / "napari_restore_qgis.py"
# Debian's `qgis_process` passes an option that it does not know itself.
PROCESS = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
in_qgis = pytest.mark.skipif(PROCESS is None, reason="QGIS is not installed")


def test_it_offers_shipped_models_against_haze_and_all_of_them(cli):
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))
    values = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}
    models = cli("models", "--json").json
    against_haze = [m["id"] for m in models if m["task"] == "dehaze" and m["weights"] != "yours"]
    assert sorted(ast.literal_eval(values["MODELS"])) == sorted(against_haze)


def run(tmp_path: Path, *parameters: str) -> subprocess.CompletedProcess[str]:
    scripts = tmp_path / "qgis" / "profiles" / "default" / "processing" / "scripts"
    scripts.mkdir(parents=True, exist_ok=True)
    shutil.copy(SCRIPT, scripts)
    program = Path(sys.executable).with_name("napari-restore")
    environment = {
        **os.environ,
        "QGIS_CUSTOM_CONFIG_PATH": str(tmp_path / "qgis"),
        "QT_QPA_PLATFORM": "offscreen",
    }
    # QGIS's Python is another one.
    sources = environment.pop("PYTHONPATH", None)
    if sources is not None:
        wrapper = tmp_path / "program"
        wrapper.write_text(f'#!/bin/sh\nPYTHONPATH="{sources}" exec "{program}" "$@"\n')
        wrapper.chmod(0o755)
        program = wrapper
    enable = [PROCESS, "plugins", "enable", "processing"]
    subprocess.run(enable, env=environment, capture_output=True, check=True, timeout=120)
    words = [PROCESS, "run", "script:restore", "--", f"PROGRAM={program}", *parameters]
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)


@in_qgis
@pytest.mark.slow
def test_a_raster_equals_that_of_the_command_line(cli, tmp_path):
    source = write_tiff(tmp_path / "scene.tif", hazy())
    box = "EXTENT=500040,500300,39800,39960 [EPSG:32636]"
    out, other = tmp_path / "out.tif", tmp_path / "other.tif"
    done = run(tmp_path, f"INPUT={source}", "MODEL=dcp", "STRENGTH=0.5", box, f"OUTPUT={out}")
    assert done.returncode == 0, done.stdout + done.stderr
    corners = ("--projwin", 500040, 39960, 500300, 39800)
    words = ("restore", source, "-o", other, "--model", "dcp", "--strength", 0.5, *corners)
    assert cli(*words).code == 0
    assert (read(out) == read(other)).all()


@in_qgis
@pytest.mark.slow
def test_an_error_is_the_sentence_of_the_command_line(tmp_path):
    source = write_tiff(tmp_path / "scene.tif", hazy())
    done = run(tmp_path, f"INPUT={source}", "SENSOR=nosuch", f"OUTPUT={tmp_path / 'out.tif'}")
    assert "There is no preset for the sensor 'nosuch'" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "out.tif").exists()
