from __future__ import annotations

from pathlib import Path

import pytest

from napari_restore.errors import InputError
from napari_restore_lab.score import find_pairs


def tree(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def found(folder: Path) -> list[tuple[str, str, str, str]]:
    return [
        (p.group, p.name, p.hazy.relative_to(folder).as_posix(), p.clear.name)
        for p in find_pairs(folder).pairs
    ]


def test_the_same_names(tmp_path: Path):
    tree(tmp_path, "hazy/b.png", "hazy/a.tif", "clear/a.png", "clear/b.png", "clear/.x.png")
    tree(tmp_path, "hazy/notes.txt")
    assert found(tmp_path) == [("", "a", "hazy/a.tif", "a.png"), ("", "b", "hazy/b.png", "b.png")]
    assert find_pairs(tmp_path).note == ""


@pytest.mark.parametrize("gt", ["clear", "gt", "GT"])
def test_reside_names_many_hazy_ones_of_one_clear_one(tmp_path: Path, gt: str):
    tree(tmp_path, "hazy/0001_0.8_0.2.jpg", "hazy/0001_1_0.08.jpg", "hazy/0002_1.jpg")
    tree(tmp_path, f"{gt}/0001.png", f"{gt}/0002.png")
    assert [(name, clear) for _, name, _, clear in found(tmp_path)] == [
        ("0001_0.8_0.2", "0001.png"),
        ("0001_1_0.08", "0001.png"),
        ("0002_1", "0002.png"),
    ]


def test_a_name_that_ends_in_a_number_is_itself_first(tmp_path: Path):
    tree(tmp_path, "hazy/scene_1.png", "hazy/scene_2.png", "clear/scene_1.png", "clear/scene.png")
    clear = [pair.clear.stem for pair in find_pairs(tmp_path).pairs]
    assert clear == ["scene_1", "scene"]


def test_o_haze_rice_and_both_in_one_folder(tmp_path: Path):
    ohaze = tree(tmp_path / "o", "hazy/01_outdoor_hazy.jpg", "GT/01_outdoor_GT.jpg")
    assert [pair.clear.name for pair in find_pairs(ohaze).pairs] == ["01_outdoor_GT.jpg"]
    rice = tree(tmp_path / "r", "cloud/0.png", "label/0.png", "mask/0.png")
    assert found(rice) == [("", "0", "cloud/0.png", "0.png")]
    flat = tree(tmp_path / "n", "01_hazy.png", "01_GT.png", "02_hazy.png", "02_GT.png", "info.png")
    assert [pair.clear.name for pair in find_pairs(flat).pairs] == ["01_GT.png", "02_GT.png"]


def test_levels_are_groups(tmp_path: Path):
    tree(tmp_path, *(f"cloud_L{n}/{name}.tif" for n in range(1, 5) for name in "ab"))
    tree(tmp_path, "clear/a.tif", "clear/b.tif")
    told = found(tmp_path)
    assert [(group, name) for group, name, *_ in told] == [
        (f"L{n}", name) for n in range(1, 5) for name in "ab"
    ]
    assert {clear for *_, clear in told} == {"a.tif", "b.tif"}


def test_test_is_taken_and_train_is_not(tmp_path: Path):
    for part in ("test", "train"):
        tree(tmp_path / part, f"hazy/{part}.png", f"clear/{part}.png")
    assert found(tmp_path) == [("", "test", "test/hazy/test.png", "test.png")]
    assert [pair.name for pair in find_pairs(tmp_path / "train").pairs] == ["train"]
    for file in sorted((tmp_path / "test").rglob("*.png")):
        file.unlink()
    assert found(tmp_path) == [("", "train", "train/hazy/train.png", "train.png")]


def test_parts_are_groups(tmp_path: Path):
    tree(
        tmp_path / "SOTS",
        *(f"{p}/{k}/1.png" for p in ("indoor", "outdoor") for k in ("hazy", "gt")),
    )
    assert [(group, name) for group, name, *_ in found(tmp_path / "SOTS")] == [
        ("indoor", "1"),
        ("outdoor", "1"),
    ]


def test_what_has_no_partner_is_named_in_one_sentence(tmp_path: Path):
    tree(tmp_path, "hazy/a.png", "hazy/x.png", "clear/a.png", *(f"clear/{n}.png" for n in "uvw"))
    told = find_pairs(tmp_path)
    assert [pair.name for pair in told.pairs] == ["a"]
    assert told.note == (
        "4 pictures have no partner and are left out: hazy/x.png, clear/u.png, clear/v.png "
        "and 1 more."
    )
    (tmp_path / "hazy/x.png").unlink()
    for name in "vw":
        (tmp_path / f"clear/{name}.png").unlink()
    assert find_pairs(tmp_path).note == "1 picture has no partner and is left out: clear/u.png."


def test_names_that_would_meet(tmp_path: Path):
    tree(tmp_path, "hazy/a.png", "hazy/a.jpg", "clear/a.png")
    assert [pair.name for pair in find_pairs(tmp_path).pairs] == ["hazy/a.jpg", "hazy/a.png"]
    tree(tmp_path, "clear/a.jpg")
    with pytest.raises(InputError, match="are both the clear picture a"):
        find_pairs(tmp_path)


def test_a_table(tmp_path: Path):
    tree(tmp_path, "in/a.png", "in/b, c.png", "out.png")
    table = tmp_path / "pairs.csv"
    table.write_text(
        '\ufeffHazy,clear,Group\nin/a.png,out.png,L1\n"in/b, c.png",out.png,\n', "utf-8"
    )
    pairs = find_pairs(table).pairs
    assert [(p.name, p.group, p.clear) for p in pairs] == [
        ("a", "L1", tmp_path / "out.png"),
        ("b, c", "", tmp_path / "out.png"),
    ]
    table.write_text("hazy;clear\nin/a.png;out.png\n")
    assert [pair.name for pair in find_pairs(table).pairs] == ["a"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hazy,clear\nno.png,a.png\nnope.png,a.png\n", "do not exist: .*no.png, .*nope.png"),
        ("hazy,truth\na.png,a.png\n", "no column clear"),
        ("hazy,clear\na.png,\n", "no column clear filled"),
        ("hazy,clear\n", "contains no pairs"),
        ("hazy,clear\na.png,a.png\na.png,a.png\n", "named twice"),
    ],
)
def test_a_table_that_is_none(tmp_path: Path, text: str, says: str):
    tree(tmp_path, "a.png")
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(InputError, match=says) as refused:
        find_pairs(tmp_path / "pairs.csv")
    assert refused.value.hint


def test_no_pairs_at_all(tmp_path: Path):
    tree(tmp_path, "hazy/a.png", "clear/b.png", "photos/c.png")
    with pytest.raises(InputError, match="no pairs of a hazy and a clear picture"):
        find_pairs(tmp_path)
    with pytest.raises(InputError, match="There is no"):
        find_pairs(tmp_path / "gone")
