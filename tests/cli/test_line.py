"""The line of a plan, read by the real parser, is the plan again."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest

from napari_restore import Region, api
from napari_restore.api import EXPORT_OPTIONS
from napari_restore.api._command_line import MAX_COMMAND_LENGTH, quoted
from napari_restore.commands import build_parser, load_model, main, open_image, plan_arguments
from napari_restore.errors import InputError
from napari_restore.questions import Restore, options_of

from ._scenes import hazy, read, write_tiff


def parsed(line: str):
    program, *words = shlex.split(line)
    assert program == "napari-restore"
    return build_parser().parse_args(words)


def plan_of_line(line: str, **options):
    asked = parsed(line)
    image = open_image(asked, asked.paths)
    return api.plan(image, load_model(asked), **{**plan_arguments(asked, image), **options})


@pytest.fixture
def mask(tmp_path):
    ring = [[20, 20], [150, 30], [120, 140], [20, 20]]
    shape = {
        "type": "Polygon",
        "coordinates": [[[500_000 + 2 * x, 40_000 - 2 * y] for x, y in ring]],
    }
    path = tmp_path / "ein 'Wald' & more.geojson"
    crs = {"type": "name", "properties": {"name": "EPSG:32636"}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [
        {"type": "Feature", "properties": {}, "geometry": shape}]}))  # fmt: skip
    return path


WAYS = {
    "nothing set": {},
    "a region": {"region": Region(10, 20, 90, 120)},
    "a strength": {"strength": 0.7},
    "a long number": {"strength": 0.1 + 0.2},
    "a range": {"black": -1e-05, "white": 251.5},
    "a tile": {"tile": 128, "tile_batch": 2},
    "other bands": {"other_bands": "copy"},
    "levels": {"pyramid": True},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("parameters", [{}, {"omega": 0.8123456789, "patch_radius": 5}])
def test_the_plan_comes_back(scene, way, parameters):
    options = WAYS[way]
    model = api.load_model("dcp", parameters=parameters)
    made = api.plan(api.open_image(scene), model, device="cpu", **options)
    line = api.command_of(made, "out dir/größe.tif")
    again = plan_of_line(line, pyramid=made.pyramid, device="cpu")
    assert again.key == made.key
    assert again.targets == made.targets
    options_read = parsed(line)
    assert options_read.output == "out dir/größe.tif"
    assert options_read.memory is None


WHOLE = Region(0, 0, 160, 200)
TARGETS = {
    "whole": [WHOLE],
    "one": [Region(10, 20, 90, 120)],
    "two apart": [Region(0, 0, 64, 64), Region(90, 70, 150, 190)],
    "two that meet": [Region(0, 0, 100, 100), Region(50, 50, 150, 200)],
    "one in the whole": [Region(5, 5, 20, 20), WHOLE],
}


@pytest.mark.parametrize("extent", ["image", "region"])
@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("boxes", TARGETS)
def test_the_command_does_what_is_shown_or_is_refused(tmp_path, mask, boxes, masked, level, extent):
    # Small images have no levels.
    size = (1300, 2100) if level else WHOLE.shape
    image = api.open_image(write_tiff(tmp_path / "s.tif", hazy(*size)))
    if level:
        image = image.level_view(level)
    options = {"mask": mask, "feather": 9} if masked else {}
    made = api.plan(
        image, "dcp", region=TARGETS[boxes], extent=extent, device="cpu", pyramid=True, **options
    )
    if level:
        with pytest.raises(InputError, match="no option for"):
            api.command_of(made, "o.tif")
        return
    again = plan_of_line(api.command_of(made, tmp_path / "o.tif"), device="cpu", pyramid=True)
    assert api.task_of(again) == api.task_of(made)
    assert again.key == made.key
    assert api.output_box(again) == api.output_box(made)


@pytest.mark.slow
def test_several_boxes_give_the_same_pixels_as_the_command(scene, mask, tmp_path, cli):
    for options in ({}, {"mask": mask}):
        made = api.plan(scene, "dcp", region=TARGETS["two apart"], device="cpu", **options)
        shown, copied = tmp_path / "shown.tif", tmp_path / "copied.tif"
        api.start(made).result().save(shown, overwrite=True)
        words = shlex.split(api.command_of(made, copied))[1:]
        assert cli(*words, "--overwrite", "--fresh").code == 0
        np.testing.assert_array_equal(read(shown), read(copied))


def test_exclusions_come_back(scene, mask, tmp_path):
    other = write_tiff(tmp_path / "x.tif", np.zeros((1, 160, 200), np.uint8))
    options = {"mask": mask, "feather": 9, "exclude": other, "region": Region(0, 0, 100, 150)}
    made = api.plan(scene, "dcp", device="cpu", **options)
    again = plan_of_line(api.command_of(made, "o.tif"), device="cpu")
    assert api.task_of(again) == api.task_of(made)
    assert again.key == made.key


@pytest.mark.slow
def test_bands_sensor_and_weights_come_back(tmp_path):
    source = write_tiff(tmp_path / "s.tif", hazy(bands=5, dtype="uint16"))
    for bands in ({"red": 3, "green": 2, "blue": 1}, "3,2,1", ["blue", "green", "red", None, None]):
        image = api.open_image(source, bands=bands, sensor="landsat8")
        for how in ("drop", "copy"):
            made = api.plan(image, "dcp", other_bands=how, device="cpu")
            again = plan_of_line(api.command_of(made, "o.tif"), device="cpu")
            assert again.key == made.key
    network = api.load_model("haze-unet", weights="random:3")
    scene = write_tiff(tmp_path / "t.tif", hazy())
    made = api.plan(scene, network, device="cpu")
    assert plan_of_line(api.command_of(made, "o.tif"), device="cpu").key == made.key


def test_several_files_of_one_image_come_back(tmp_path):
    paths = [write_tiff(tmp_path / f"b{n}.tif", hazy(bands=1, seed=n)) for n in range(3)]
    image = api.open_image(paths, stack=True, bands="red,green,blue")
    made = api.plan(image, "dcp", device="cpu")
    line = api.command_of(made, "o.tif")
    assert plan_of_line(line, device="cpu").key == made.key


def test_the_options_of_the_file_are_those_of_the_command(scene):
    made = api.plan(scene, "identity", device="cpu")
    options = {
        "cog": True, "compress": "zstd", "bit_depth": 8, "quality": 90, "clip": "box",
        "subsampling": "4:2:2", "profile": "display-p3", "resize": 900, "sharpen": True,
        "overwrite": True,
    }  # fmt: skip
    options_read = parsed(api.command_of(made, "o.tif", **options))
    assert {name: getattr(options_read, name) for name in EXPORT_OPTIONS} == {
        name: options[name] for name in EXPORT_OPTIONS
    }


def test_the_parser_has_every_option_of_a_plan_with_its_default():
    options_read = build_parser().parse_args(["restore", "a.tif", "-o", "b.tif", "--model", "dcp"])
    shared = {name: each for name, each in options_of(Restore).items() if each.has_flag}
    # Boxes, files and the folder of maps have options of their own; the others are for Python.
    assert options_of(Restore).keys() - shared == {
        *("region", "workers", "pyramid", "maps", "output", "shared")
    }
    for name, each in shared.items():
        assert getattr(options_read, name) == each.default


def test_a_device_is_named_only_where_it_was_chosen(scene):
    made = api.plan(scene, "identity", device="cpu")
    assert "--device" not in api.command_of(made, "o.tif")
    assert parsed(api.command_of(made, "o.tif", device="cpu")).device == "cpu"


def test_what_has_no_words_is_refused_with_a_sentence(scene):
    array = api.plan(hazy().transpose(1, 2, 0), "identity", device="cpu")
    with pytest.raises(InputError, match="files"):
        api.command_of(array, "o.tif")


def test_a_record_gives_the_line_of_its_plan(scene):
    made = api.plan(scene, "dcp", strength=0.5, device="cpu")
    result = api.start(made).result()
    record = {"task": api.task_of(made), **result.record}
    assert api.command_of(record, "o.tif") == api.command_of(made, "o.tif")


PROGRAM = "napari-restore"


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("scene.tif", "scene.tif"),
        ("C:\\scenes\\a_b-1.tif", "C:\\scenes\\a_b-1.tif"),
        ("--srcwin", "--srcwin"),
        ("my scene.tif", '"my scene.tif"'),
        ("größe.tif", '"größe.tif"'),
        *((f"a{sign}b.tif", f'"a{sign}b.tif"') for sign in "&|<>()^;,'@#!{}[]=+~"),
        ("100%.tif", '"100%.tif"'),
        ("50% of 60%.tif", '"50% of 60%.tif"'),
        ("\\\\server\\c$\\a.tif", '"\\\\server\\c$\\a.tif"'),
        ("5 $.tif", '"5 $.tif"'),
        ("a$", '"a$"'),
        # PowerShell cuts an unquoted flag at its dot.
        ("--black=-1.5", '"--black=-1.5"'),
        # The backslash must not take the quote with it.
        ("my dir\\", '"my dir\\\\"'),
    ],
)
def test_what_is_not_plainly_safe_stands_in_quotes_on_windows(word, line):
    assert quoted([PROGRAM, word, "-o"], "nt") == f"{PROGRAM} {line} -o"


@pytest.mark.parametrize(
    "word",
    ["a$b", "$HOME", "$(calc)", "${x}", "a$ö", "a`b", 'a"b', "„a“", "%TEMP%", "a%Path%b", "a\nb",
     "%ProgramFiles(x86)%", "%PATH:~0,3%"],
)  # fmt: skip
def test_what_no_quotes_carry_to_both_shells_of_windows_is_refused(word):
    with pytest.raises(InputError, match="a Windows shell would change"):
        quoted([PROGRAM, word], "nt")
    assert shlex.split(quoted([PROGRAM, word], "posix")) == [PROGRAM, word]


def test_windows_takes_lines_of_a_certain_length():
    word = "a" * (MAX_COMMAND_LENGTH - len(PROGRAM) - 1)
    assert len(quoted([PROGRAM, word], "nt")) == MAX_COMMAND_LENGTH
    with pytest.raises(InputError, match="Windows takes 8191"):
        quoted([PROGRAM, word + "a"], "nt")
    assert len(quoted([PROGRAM, word + "a"], "posix")) > MAX_COMMAND_LENGTH


def test_examples_of_the_help_are_arguments(cli):
    found = 0
    for command in ("restore", "attribute", "attend", "fuse", "plan", "inspect"):
        start = f"  napari-restore {command} "
        lines = cli(command, "--help").out.splitlines()
        for words in (line.removeprefix(start) for line in lines if line.startswith(start)):
            found += 1
            assert parsed(f"{start.strip()} {words}").paths == words.split(" -")[0].split()
    assert found > 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["restor", "a.tif"], "There is no 'restor'. Did you mean restore?"),
        (["info", "a.tif", "--progress", "loud"], "Choose from: auto, json, off."),
        (
            ["restore", "a.tif", "-o", "b.tif"],
            "--model; models are listed by napari-restore models",
        ),
        (
            ["restore", "a.tif", "-o", "b.tif", "--model", "dcp", "--bands", "red=3", "green=2"],
            "green=2; several values of one option are joined by commas",
        ),
    ],
)
def test_wrong_words_are_answered_with_the_next_step(cli, words, said):
    run = cli(*words)
    assert run.code == 2 and said in run.err


def test_a_command_of_the_lab_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: [])
    assert main(["train", "a.toml"]) == 2
    wanted = (
        "napari-restore train is a command of napari-restore-lab: pip install napari-restore-lab"
    )
    assert capsys.readouterr().err == f"{wanted}\n"
