from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_restore.errors import BadParameter, Cancelled, InputError
from napari_restore.models import load
from napari_restore_lab.data import Pack, compact
from napari_restore_lab.loop import Validator, config_of, open_pictures, sentence


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Two sources to train on, one of doubtful licence, and dev scenes of both kinds."""
    rng = np.random.default_rng(0)
    rows = []
    for name, kind, split, licence in (
        ("field_1.png", "aerial", "train", "CC0-1.0"),
        ("coast_1.png", "natural", "train", "GPL-3.0"),
        ("town_1.png", "aerial", "dev", "CC0-1.0"),
        ("town_2.png", "aerial", "dev", "CC0-1.0"),
        ("wood_1.png", "aerial", "dev", "CC0-1.0"),
        ("hills_1.png", "natural", "dev", "CC0-1.0"),
        ("night_1.png", "natural", "dev", "CC0-1.0"),
    ):
        codes = rng.integers(30, 220, (6, 8, 3), np.uint8)
        Image.fromarray(codes).resize((128, 96)).save(tmp_path / name)
        rows.append({"file": name, "kind": kind, "split": split, "licence": licence, "note": ""})
    path = tmp_path / "INDEX.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def opened(index: Path, tmp_path: Path) -> Callable[..., Any]:
    def open_(score: dict[str, Any] | None = None, **data: Any) -> tuple[Any, Any, list[str]]:
        tables = {
            "model": {"id": "haze-unet"},
            "data": {"index": str(index), **data},
            "recipe": {"size": 32, "batch": 2},
            "run": {"output": "run", "steps": 1, "workers": 0},
            "score": {"scenes": 2, "side": 64, **(score or {})},
        }
        config = config_of(tables, tmp_path)
        told: list[Any] = []
        found = open_pictures(config, told.append)
        return config, found, [event.text for event in told if hasattr(event, "text")]

    return open_


def test_only_what_the_licence_allows_is_trained_on(opened: Callable[..., Any]):
    config, pictures, _ = opened(licences="free")
    assert [row["name"] for row in pictures.rows] == ["field_1.png"]
    batch = next(pictures.feed(config.stages[0].recipe).batches(0))
    assert batch.hazy.shape == (2, 3, 32, 32)
    assert len(opened(licences="any")[1].rows) == 2
    with pytest.raises(InputError, match="no scene of these kinds and licences"):
        opened(licences="free", kinds=["natural"])


def test_dev_scenes_take_sources_in_turn_and_none_where_haze_is_wrong(opened: Callable[..., Any]):
    _, pictures, _ = opened()
    assert {scene.name for scene in pictures.dev} == {"town_1.png", "wood_1.png", "hills_1.png"}
    assert {scene.clear.shape for scene in pictures.dev} == {(48, 64, 3)}


def test_a_wrong_index_of_scores_is_refused_and_a_stop_is_heard(
    opened: Callable[..., Any], tmp_path: Path
):
    with pytest.raises(InputError, match="nowhere"):
        opened(score={"index": "nowhere"})
    config, _, _ = opened()
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(Cancelled, match="while pictures were read"):
        open_pictures(config, lambda event: None, lambda: True)


def test_without_dev_scenes_it_says_that_nothing_is_scored(
    opened: Callable[..., Any], tmp_path: Path
):
    assert opened(score={"scenes": 0})[2] == []
    path = tmp_path / "INDEX.csv"
    path.write_text(path.read_text().replace(",dev,", ",test,"))
    _, pictures, notes = opened(kinds=["aerial"])
    assert pictures.dev == ()
    assert notes == ["There are no dev scenes: the last average is saved, without a score."]


def test_what_was_packed_before_must_hold_no_dev_scene(opened: Callable[..., Any], tmp_path: Path):
    opened()
    packs = tmp_path / "run" / "pictures"
    compact(Pack(packs / "train"), tmp_path / "train.zip")
    _, pictures, _ = opened(index="train.zip", score={"index": str(packs / "dev")})
    assert len(pictures.rows) == 2
    assert len(pictures.dev) == 3
    with pytest.raises(InputError, match=r"which .* excludes"):
        opened(index=str(packs / "dev"))


def test_figures_are_the_same_every_time_and_stand_beside_dcp(opened: Callable[..., Any]):
    config, pictures, _ = opened()
    one, other = (Validator(scenes, config.score) for scenes in (pictures.dev, pictures.dev[:2]))
    figures = one.baselines()
    assert set(figures) == {
        f"{kind}_{name}"
        for kind in ("aerial", "natural")
        for name in ("input", "dcp_0.95", "dcp_0.85")
    }
    assert set(figures) < set(one.columns)
    # One scene less leaves the haze of the others as it is.
    assert other.baselines()["aerial_input"] == figures["aerial_input"]


def test_rows_can_be_left_out_by_name(opened: Callable[..., Any], index: Path):
    _, pictures, _ = opened(leave_out=["coast_*"])
    assert [row["name"] for row in pictures.rows] == ["field_1.png"]
    assert pictures.left_out == ("coast_1.png",)
    with pytest.raises(BadParameter, match=r"'town_\*' matches no training file"):
        # A dev scene is not trained on anyhow.
        opened(leave_out=["town_*"])
    with pytest.raises(InputError, match="no scene"):
        opened(leave_out=["*.png"])


def test_scenes_too_small_for_the_crops_are_counted_and_stand_in_no_card(
    opened: Callable[..., Any], index: Path
):
    # Half of a crop is enlarged, less is not.
    for name, side in (("field_2.png", 16), ("field_3.png", 15)):
        Image.fromarray(np.full((side, 40, 3), 90, np.uint8)).save(index.parent / name)
    with index.open("a", newline="") as file:
        file.write("field_2.png,aerial,train,CC0-1.0,\nfield_3.png,aerial,train,CC0-1.0,\n")
    _, pictures, notes = opened(licences="free")
    assert notes[-1] == "Pictures excluded as too small for the crops: 1."
    assert [row["name"] for row in pictures.rows] == ["field_1.png", "field_2.png"]
    assert pictures.left_out == ("field_3.png",)


def test_another_split_can_be_scored_on(opened: Callable[..., Any], index: Path):
    text = index.read_text().replace("wood_1.png,aerial,dev", "wood_1.png,aerial,unseen")
    index.write_text(text)
    _, pictures, _ = opened(score={"split": "unseen"})
    assert [scene.name for scene in pictures.dev] == ["wood_1.png"]
    assert {row["name"] for row in pictures.rows} == {"field_1.png", "coast_1.png"}
    _, _, notes = opened(score={"split": "elsewhere"})
    assert notes[-1] == "There are no elsewhere scenes: the last average is saved, without a score."


def test_a_plain_folder_is_all_for_training_or_all_for_scores(
    opened: Callable[..., Any], tmp_path: Path
):
    for folder in ("one", "aerial_other"):
        (tmp_path / folder).mkdir()
        codes = np.random.default_rng(1).integers(30, 220, (64, 64, 3), np.uint8)
        Image.fromarray(codes).save(tmp_path / folder / "a.png")
    _, pictures, notes = opened(index=str(tmp_path / "one"))
    assert len(pictures.rows) == 1
    assert notes == ["There are no dev scenes: the last average is saved, without a score."]
    _, pictures, _ = opened(score={"index": str(tmp_path / "aerial_other")})
    assert [(scene.name, scene.kind) for scene in pictures.dev] == [("a.png", "aerial")]


@pytest.mark.parametrize(
    ("degradation", "levels"), [("noise", (15, 25, 50)), ("lowlight", (5, 12))]
)
def test_other_degradations_are_scored_by_level(
    opened: Callable[..., Any], degradation: str, levels: tuple[int, ...]
):
    config, pictures, _ = opened()
    validator = Validator(pictures.dev, config.score, degradation)
    groups = [f"{degradation}_{level}" for level in levels]
    cameras, clean = ["iso_3200", "iso_12800"], ["clean"]
    if degradation != "noise":
        cameras, clean = [], []
    assert validator.groups == [*groups, *cameras, *clean]
    inputs = validator.baselines()
    figures = validator.score(load("identity"))
    assert {*figures, *inputs} == set(validator.columns)
    scored = [figures[f"{group}_model"] for group in (*groups, *cameras)]
    assert figures["score"] == pytest.approx(np.mean(scored))
    # The stronger the worse, and an identity gives its input.
    own = scored[: len(groups)]
    assert own == sorted(own, reverse=True) == [inputs[f"{group}_input"] for group in groups]
    assert all(figures[f"{name}_model"] == 60 for name in clean)
    assert f"{degradation} {levels[0]} " in sentence(figures | inputs, validator.groups)
