from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_restore.errors import BadOutput, BadParameter, InputError
from napari_restore_lab._questions import Evaluate
from napari_restore_lab.score import Case, HazedCase, drop_others, scene_cases


@pytest.fixture
def index(tmp_path: Path) -> Path:
    rows = ["file,kind,split"]
    for number, (name, kind, split) in enumerate(
        [("a/one", "aerial", "dev"), ("b/one", "aerial", "dev"), ("b/two", "natural", "dev"),
         ("b/three", "natural", "train"), ("b/flowers", "natural", "dev")]
    ):  # fmt: skip
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        codes = np.random.default_rng(number).integers(30, 90, (40, 60, 3), np.uint8)
        codes[:, :6] = 0
        Image.fromarray(codes).save(path)
        rows.append(f"{name}.png,{kind},{split}")
    (tmp_path / "INDEX.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def cases(index: Path, **choices: object) -> list[HazedCase]:
    settings: dict = {"split": "dev", "spectrum": "plumes", "seed": 7, **choices}
    return scene_cases(Evaluate(data=index, **settings))  # type: ignore[return-value]


def degraded(index: Path, degradation: str, level: float | None, **choices: object) -> list[Case]:
    settings: dict = {"split": "train", "seed": 7, **choices}
    return scene_cases(
        Evaluate(data=index, degradation=degradation, level=level, **settings)  # type: ignore[arg-type]
    )


def test_scenes_of_a_split_with_names_of_their_own(index: Path):
    assert [(c.group, c.name) for c in cases(index)] == [
        ("aerial", "a_one"),
        ("aerial", "b_one"),
        ("natural", "two"),
    ]
    assert [c.name for c in cases(index, scene="natural")] == ["two"]
    assert [c.name for c in cases(index, split="train")] == ["three"]


def test_haze_follows_from_seed_and_scene_alone(index: Path):
    all_of_them, one = cases(index), cases(index, scene="natural")
    first, again = all_of_them[2].pixels(), one[0].pixels()
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a, b)
    clear, hazy, valid = first
    assert hazy.dtype == np.uint8 and hazy[valid].mean() > clear[valid].mean() + 5
    assert not np.array_equal(cases(index, seed=8)[2].pixels()[1], hazy)
    other = cases(index)[0].pixels()
    assert not np.array_equal(other[1].astype(int) - other[0], hazy.astype(int) - clear)


def test_the_border_of_a_mosaic_stays_black_and_does_not_count(index: Path):
    clear, hazy, valid = cases(index)[0].pixels()
    assert not valid[:, :6].any() and valid[:, 9:].all()
    assert np.array_equal(clear[~valid], hazy[~valid])
    opened = cases(index)[0].open()
    assert opened.valid is not None and np.array_equal(opened.valid, valid)
    assert opened.hazy.roles == ("red", "green", "blue")


def test_scenes_may_be_reduced(index: Path):
    assert cases(index, longest=30)[0].pixels()[1].shape == (20, 30, 3)
    assert cases(index, longest=None)[0].pixels()[1].shape == (40, 60, 3)


def test_pictures_are_kept_once(index: Path, tmp_path: Path):
    case = cases(index)[1]
    case.keep(tmp_path / "out")
    paths = sorted((tmp_path / "out").rglob("*.png"))
    assert [path.parent.name for path in paths] == ["clear", "hazy"]
    clear, hazy, _ = case.pixels()
    assert np.array_equal(np.asarray(Image.open(paths[0])), clear)
    assert np.array_equal(np.asarray(Image.open(paths[1])), hazy)
    written = [path.stat().st_mtime_ns for path in paths]
    case.keep(tmp_path / "out")
    assert [path.stat().st_mtime_ns for path in paths] == written
    other = cases(index, seed=8)
    drop_others(tmp_path / "out", cases(index))
    assert all(path.is_file() for path in paths)
    other[1].keep(tmp_path / "out")
    assert not np.array_equal(np.asarray(Image.open(paths[1])), hazy)
    drop_others(tmp_path / "out", cases(index))
    assert not any(path.exists() for path in paths)
    paths[1].write_bytes(b"mine")
    drop_others(tmp_path / "out", cases(index))
    with pytest.raises(BadOutput, match="not from an evaluation"):
        case.keep(tmp_path / "out")
    assert paths[1].read_bytes() == b"mine"
    case.keep(tmp_path / "out", overwrite=True)


def test_what_cannot_be_is_said(index: Path):
    with pytest.raises(BadParameter, match="no spectrum 'smoke'"):
        cases(index, spectrum="smoke")
    with pytest.raises(InputError, match="split night"):
        cases(index, split="night")


def test_other_degradations_are_cases_by_level(index: Path):
    found = degraded(index, "noise", None, split="dev")
    assert [c.group for c in found][::4] == ["noise 15", "noise 25", "noise 50"]
    assert len({c.name for c in found}) == 12, "also of scenes in which haze would be wrong"
    (one,) = degraded(index, "noise", 20.0, scene="natural")
    clear, noisy, valid = one.pixels()
    difference = (noisy.astype(float) - clear)[valid]
    assert difference.std() == pytest.approx(20, rel=0.05)
    assert np.array_equal(noisy[~valid], clear[~valid])
    assert one.open().hazy.shape == (40, 60, 3)
    assert one.open().level == 20
    again = degraded(index, "noise", 20.0, seed=8)
    assert not np.array_equal(again[0].pixels()[1], noisy)
    dark = degraded(index, "lowlight", 5.0)
    assert dark[0].pixels()[1].mean() < 0.6 * clear.mean()


@pytest.mark.parametrize("degradation, level", [("noise", -1.0), ("lowlight", 0.5)])
def test_a_level_that_cannot_be_is_refused(index: Path, degradation: str, level: float):
    with pytest.raises(BadParameter, match=f"of {degradation} is outside"):
        degraded(index, degradation, level, split="dev")
