from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from napari_restore.errors import BadParameter, InputError, RestoreError, UnreadableImage
from napari_restore_lab.data import Recipe
from napari_restore_lab.loop import Every, config_of, load_config, objective_of

WHOLE = """
[model]
id = "haze-unet"
[data]
index = "pictures"
[run]
output = "run"
steps = 100
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "train.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_paths_lie_beside_the_configuration_and_defaults_are_filled_in(tmp_path: Path):
    config = load_config(written(tmp_path, WHOLE))
    assert config.run.output == tmp_path / "run"
    assert config.data.index == tmp_path / "pictures"
    assert config.name == "haze-unet"
    (stage,) = config.stages
    assert stage.recipe == Recipe()
    assert (stage.steps, stage.minutes) == (100, None)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("steps = 100", "stepps = 100", "[run] has no key 'stepps'. Did you mean steps?"),
        ("steps = 100", 'steps = "many"', "[run] steps cannot be 'many'. It takes a whole number."),
        ("steps = 100", "steps = 0", "[run] steps = 0 is below 1. Write 1 or more."),
        ("steps = 100", "", "[run] has no length. Give steps, or minutes."),
        ("steps = 100", "steps = 9\nminutes = 5", "[run] has both steps and minutes. Give"),
        ("steps = 100", "steps = 9\nscore_every = '2 h'", "[run] score_every cannot be '2 h'."),
        ("steps = 100", "steps = 9\n[optimizer]", "There is no table [optimizer]."),
        ("steps = 100", "steps = 9\n[optimiser]\nlr = -1", "[optimiser] lr = -1.0 is not above 0."),
        ("steps = 100", "steps = 9\n[recipe]\nbatch = 0", "[recipe]: A batch of 0 crops"),
        ("steps = 100", "steps = 9\n[recipe]\nspectra = 3", "[recipe] spectra is 3"),
        (
            "steps = 100",
            "steps = 9\n[recipe]\nspectra = { even = 1, plumes = 1 }",
            "[score] spectrum plumes is one that [recipe] spectra trains on.",
        ),
        (
            "steps = 100",
            "steps = 9\n[score]\nspectrum = 'fog'",
            "[score] spectrum = 'fog' is none.",
        ),
        ("steps = 100", "steps = 9\n[score]\nsplit = 'train'", "[score] split is train."),
        ("steps = 100", "steps = 9\n[recipe]\nwide = 2", "[recipe]: The share wide is 2."),
        ("steps = 100", "steps = 9\n[[stage]]\nrecipe = { sise = 9 }", "[recipe] has no key"),
        (
            "steps = 100",
            "steps = 9\ntrain_only = ['(']",
            "[run] train_only '(' is not a regular expression",
        ),
        ("steps = 100", "steps = 9\n[optimiser]\nlr = inf", "[optimiser] lr cannot be inf."),
        ("steps = 100", "steps = 9\n[loss]\nl1 = inf", "[loss] l1 cannot be inf."),
        ("steps = 100", "steps = 9\nskip_above = -1", "[run] skip_above = -1.0 is below 0."),
        ("steps = 100", f"steps = 9\nseed = {2**70}", "[run] seed = 1180591620717411303424 is too"),
        ("steps = 100", "steps = 9\nname = 'best'", "[run] name = 'best' is taken."),
        ("[model]", "stage = []\n[model]", "There is no stage in stage = []."),
        ("[model]", "stage = [1]\n[model]", "[[stage]] 1 is 1 and not a table."),
        ("[model]", "recipe = 3\n[model]", "[recipe] is 3 and not a table."),
        ("[model]", "optimiser = 3\n[model]", "[optimiser] is 3 and not a table."),
        ('[run]\noutput = "run"\nsteps = 100', "", "The table [run] is missing."),
        ("[data]", "[data", "train.toml cannot be read as TOML"),
        ('id = "haze-unet"', "", "[model] names no network. Give id or factory."),
        ('[model]\nid = "haze-unet"', "", "The table [model] is missing."),
    ],
)
def test_a_bad_configuration_is_refused_in_one_sentence(
    tmp_path: Path, old: str, new: str, told: str
):
    assert old in WHOLE
    with pytest.raises(BadParameter) as caught:
        load_config(written(tmp_path, WHOLE.replace(old, new)))
    assert str(caught.value).startswith(told)
    assert caught.value.exit_code == InputError.exit_code


def test_a_table_that_is_a_number_is_refused(tmp_path: Path):
    tables = {"model": {"id": "haze-unet"}, "data": {"index": "pictures"}, "run": 5}
    with pytest.raises(BadParameter, match=r"\[run\] is 5 and not a table"):
        config_of(tables, tmp_path)


def test_the_configuration_in_the_documentation_shows_the_defaults():
    path = Path(__file__).parents[3] / "docs" / "training.md"
    text = path.read_text("utf-8").partition("```toml\n")[2].partition("```")[0]
    assert "[optimiser]" in text
    shown, least = tomllib.loads(text), {"id": "haze-unet"}
    loss = shown.pop("loss")
    given = {"model": least, "data": {"index": shown["data"]["index"]}}
    given["run"] = {name: shown["run"][name] for name in ("output", "steps")}
    assert config_of(shown, Path()) == config_of(given, Path())
    assert loss == objective_of("haze-unet").weights


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("atmosphere", "atmosphere"),
        ("atmosphere-wide", "atmosphere"),
        ("atmosphere-places", "atmosphere"),
        ("haze-unet", "haze-unet"),
        ("hint-small-denoise", "hint-small"),
        ("hint-small-lowlight", "hint-small-lowlight"),
        ("andehazeformer-small", "andehazeformer-small"),
        ("ipl-small", "ipl-small"),
    ],
)
def test_a_recipe_of_the_documentation_can_be_read(name: str, network: str):
    config = load_config(Path(__file__).parents[3] / "docs" / "models" / f"{name}.toml")
    assert config.model.id == network
    assert all(path.is_file() for path in config.model.parts.values())


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UnreadableImage, match=r"no configuration .*nowhere\.toml"):
        load_config(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("value", "every"),
    [(500, Every(steps=500)), ("40 steps", Every(steps=40)), ("2.5 min", Every(minutes=2.5))],
)
def test_intervals_are_steps_or_minutes(value: Any, every: Every):
    assert Every.from_toml(value) == every


def test_stages_override_the_tables_above_them(tmp_path: Path):
    stages = """
[recipe]
size = 64
[optimiser]
lr = 1e-3
[loss]
ssim = 0.5
[[stage]]
[[stage]]
steps = 30
recipe = { size = 128, batch = 2 }
optimiser = { lr = 1e-4 }
loss = { l1 = 2.0 }
train_only = ["middle"]
"""
    first, second = load_config(written(tmp_path, WHOLE + stages)).stages
    assert (first.recipe.size, first.optimiser.lr, first.steps) == (64, 1e-3, 100)
    assert (first.loss, first.train_only) == ({"ssim": 0.5}, ())
    assert (second.recipe.size, second.recipe.batch) == (128, 2)
    assert (second.optimiser.lr, second.steps) == (1e-4, 30)
    assert (second.loss, second.train_only) == ({"ssim": 0.5, "l1": 2.0}, ("middle",))


def test_time_limits_and_intervals_decide_nothing(tmp_path: Path):
    config = load_config(written(tmp_path, WHOLE))
    more = 'steps = 100\nstop_after = 3\nscore_every = 7\ncheckpoint_every = "1 min"'
    other = load_config(written(tmp_path, WHOLE.replace("steps = 100", more)))
    assert other.deciding() == config.deciding()
    changed = load_config(written(tmp_path, WHOLE.replace("100", "101")))
    assert {
        name for name, value in config.deciding().items() if changed.deciding()[name] != value
    } == {"run.steps"}


def test_all_stages_have_one_degradation(tmp_path: Path):
    tables: dict[str, Any] = {
        "model": {"id": "haze-unet"},
        "data": {"index": "pictures"},
        "run": {"output": "run", "steps": 5},
        "stage": [{}, {"recipe": {"degradation": "noise"}}],
    }
    with pytest.raises(BadParameter, match=r"more than one .* degradation"):
        config_of(tables, tmp_path)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices")
def test_neither_a_pipe_nor_an_endless_device_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    for name in ("pipe.toml", "zero.toml"):
        with pytest.raises(RestoreError, match=name):
            load_config(tmp_path / name)
