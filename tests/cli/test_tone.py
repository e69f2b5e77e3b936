"""Tone and colour on the command line."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
from PIL import Image as Picture
from tests.models.test_mertens import frames

import napari_restore as nr
from napari_restore import api
from napari_restore.records import problems

from ._scenes import hazy, read

TONE = [
    "--adjust=temperature=5600",
    "--adjust=tint=-12.5",
    "--adjust=saturation=20",
    "--adjust=highlights=-40",
    "--adjust=shadows=30",
    "--adjust=local-contrast=25",
    "--adjust=curve=0,0:0.25,0.2:1,1",
]
KEYWORDS = {
    "temperature": 5600.0,
    "tint": -12.5,
    "saturation": 20.0,
    "highlights": -40.0,
    "shadows": 30.0,
    "local_contrast": 25.0,
    "curve": "0,0:0.25,0.2:1,1",
}


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Picture.fromarray(hazy().transpose(1, 2, 0)).save(path)
    return path


@pytest.mark.slow
def test_record_rerun_python_and_copied_command_give_equal_bytes(cli, photo, tmp_path):
    out, again, record = tmp_path / "o.png", tmp_path / "again.png", tmp_path / "r.json"
    run = cli("restore", photo, "-o", out, "--model", "dcp", *TONE, "--record", record, "--json")
    assert run.code == 0, run.err
    assert problems(run.json) == []
    assert KEYWORDS.items() <= run.json["adjustment"].items()
    assert cli("rerun", record, "-o", again).code == 0
    assert again.read_bytes() == out.read_bytes()
    plan = nr.plan(photo, "dcp", **KEYWORDS)
    command = shlex.split(api.command_of(plan, tmp_path / "copied.png"))
    assert cli(*command[1:]).code == 0
    assert (tmp_path / "copied.png").read_bytes() == out.read_bytes()
    restored = np.asarray(nr.restore(photo, "dcp", progress=False, **KEYWORDS))
    np.testing.assert_array_equal(restored, np.asarray(Picture.open(out)))
    told = json.loads(record.read_text(encoding="utf-8"))
    told["task"]["options"]["shadows"] = 0
    record.write_text(json.dumps(told), encoding="utf-8")
    assert cli("rerun", record, "-o", tmp_path / "other.png").code == 0
    assert (read(tmp_path / "other.png") != read(out)).any()


def test_identity_is_an_editor_and_neutral_settings_leave_every_byte(cli, photo, tmp_path):
    plain, neutral, edited = (tmp_path / f"{name}.png" for name in ("plain", "neutral", "edited"))
    words = ["restore", photo, "--model", "identity"]
    nothing = [
        "--adjust",
        "temperature=6500",
        "--adjust",
        "saturation=0",
        "--adjust",
        "curve=0,0:1,1",
    ]
    assert cli(*words, "-o", plain).code == 0
    assert cli(*words, "-o", neutral, *nothing).code == 0
    assert neutral.read_bytes() == plain.read_bytes()
    assert cli(*words, "-o", edited, "--adjust", "saturation=-100").code == 0
    assert np.ptp(read(edited), axis=0).max() == 0 < np.ptp(read(photo), axis=0).max()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mertens", "radiance"])
def test_a_fused_picture_has_it_too(cli, tmp_path, model):
    paths = []
    for number, frame in enumerate(frames(150, 170)):
        paths.append(tmp_path / f"{number}.png")
        Picture.fromarray((frame * 255).astype(np.uint8)).save(paths[-1])
    suffix = "tif" if model == "radiance" else "png"
    plain, toned, again = (tmp_path / f"{name}.{suffix}" for name in ("plain", "toned", "again"))
    record = tmp_path / "r.json"
    words = ["fuse", *paths, "--model", model, "--align", "off", "--ev", -2, 0, 2]
    assert cli(*words, "-o", plain).code == 0
    run = cli(*words, "-o", toned, *TONE, "--record", record)
    assert run.code == 0, run.err
    assert (read(toned) != read(plain)).any()
    assert cli("rerun", record, "-o", again).code == 0
    assert again.read_bytes() == toned.read_bytes()


@pytest.mark.parametrize(
    "option",
    ["temperature=5000", "shadows=20", "curve=0,0:0.5,0.6:1,1"],
)
def test_the_values_of_a_map_are_no_tones(cli, scene, tmp_path, option):
    run = cli("restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp", "--adjust", option)
    assert run.code == 2 and "measurements" in run.err
    assert not (tmp_path / "o.tif").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--adjust", "temperature=500"], "Temperature"),
        (["--adjust", "tint=200"], "Tint"),
        (["--adjust", "saturation=101"], "Saturation"),
        (["--adjust", "local-contrast=-101"], "local-contrast"),
        (["--adjust", "shadows=much"], "shadows"),
        (["--adjust", "curve=0,0:0.5,2"], "curve"),
        (["--adjust", "curve=0.5,0:0.4,1"], "increase"),
    ],
)
def test_values_beyond_the_limits_are_bad_input(cli, photo, tmp_path, words, told):
    run = cli("restore", photo, "-o", tmp_path / "o.png", "--model", "dcp", *words)
    assert run.code == 2 and told in run.err
    assert not (tmp_path / "o.png").exists()
