from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_restore.metrics import metric_of
from napari_restore.models import load
from napari_restore_lab.score import (
    LONGEST,
    EvaluatedMethod,
    Outcome,
    ScoreJournal,
    beside,
    csv_table,
    file_name,
    methods_of,
    select_extremes,
    summary_of,
    text_table,
)

METRICS = {name: metric_of(name) for name in ("psnr", "ciede2000")}


def row(image: str, method: str, psnr: float, ciede: float, group: str = "") -> dict[str, Any]:
    return {
        "image": image,
        "group": group,
        "scene": image,
        "method": method,
        "values": {"psnr": psnr, "ciede2000": ciede},
        "valid_share": 1.0,
        "seconds": 0.5,
    }


def evaluation(rows: list[dict[str, Any]], *models: str) -> dict[str, Any]:
    blank = load("identity")
    kinds = {"input": "input", "dcp": "classical", "hot": "classical"}
    methods = [EvaluatedMethod(label, kinds.get(label, "model"), blank) for label in models]  # type: ignore[arg-type]
    return summary_of(Outcome(rows), methods, METRICS)


ROWS = [
    row("a", "input", 10, 20, "L1"), row("b", "input", 12, 18, "L2"),
    row("a", "dcp", 15, 9, "L1"), row("b", "dcp", 17, 8, "L2"),
    row("a", "hot", 14, 3, "L1"), row("b", "hot", 13, 4, "L2"),
    row("a", "my_net", 16, 9, "L1"), row("b", "my_net", 20.004, 7, "L2"),
]  # fmt: skip


def test_the_summary_by_hand():
    told = evaluation(ROWS, "input", "dcp", "hot", "my_net")
    assert told["classical"] == "dcp"
    mean = {"psnr": 18.002, "ciede2000": 8, "input_psnr": 11, "classical_psnr": 16}
    assert told["mean"] == pytest.approx(mean)
    net = told["methods"][-1]
    assert net["metrics"]["psnr"]["median"] == pytest.approx(18.002)
    assert net["groups"]["L2"]["psnr"] == pytest.approx(20.004)
    pair = next(c for c in told["comparisons"] if c["other"] == "dcp" and c["metric"] == "psnr")
    assert pair["difference"] == pytest.approx(2.002) and (pair["better"], pair["n"]) == (2, 2)
    assert pair["p"] == 0.5
    lower = [c for c in told["comparisons"] if c["metric"] == "ciede2000"]
    assert [(c["other"], c["better"]) for c in lower] == [("dcp", 1), ("input", 2)]


def test_means_are_over_the_images_that_all_methods_finished():
    told = evaluation(ROWS[:-1], "input", "dcp", "hot", "my_net")
    assert told["n"] == 1
    assert told["mean"]["psnr"] == 16 and told["mean"]["input_psnr"] == 10
    assert len(told["images"]) == 2
    # A classical method that misses an image has no figures, and takes it from nobody.
    told = evaluation(ROWS[:3] + ROWS[4:], "input", "dcp", "hot", "my_net", "none")
    assert told["n"] == 2 and told["classical"] == "hot"
    assert [m["metrics"]["psnr"]["n"] for m in told["methods"]] == [2, 0, 2, 2, 0]
    assert "–" in text_table(told)
    empty = evaluation([], "input", "dcp", "my_net")
    assert empty["n"] == 0 and empty["classical"] is None
    text_table(empty)


def test_groups_have_their_own_block_on_the_terminal():
    told = evaluation(ROWS, "input", "dcp", "hot", "my_net")
    text = text_table(told)
    told = "my_net against dcp, the best classical: PSNR +2.00 dB, better on 2 of 2 scenes, p = 0.5"
    assert told in text
    assert "L2:" in text and "means over 2 images" in text


def test_levels_of_one_scene_count_once():
    rows = [row(f"{i}_{g}", m, v, 9, g) for i in "ab" for g in ("L1", "L2")
            for m, v in (("input", 9), ("dcp", 10), ("net", 12))]  # fmt: skip
    for one in rows:
        one["scene"] = one["image"][0]
    told = evaluation(rows, "input", "dcp", "net")
    assert (told["n"], told["scenes"]) == (4, 2)
    pair = next(c for c in told["comparisons"] if c["other"] == "dcp" and c["metric"] == "psnr")
    assert (pair["n"], pair["images"], pair["better"], pair["p"]) == (2, 4, 2, 0.5)
    text = text_table(told)
    assert "better on 2 of 2 scenes, p = 0.5" in text and "means over 4 images of 2 scenes" in text


def test_csv_comes_back_as_it_went_in():
    name = 'größe, "a"\nb'
    rows = [row(name, "input", float("inf"), float("nan"), "L,1"), row(name, "dcp", 12.5, 3, "L,1")]
    told = evaluation(rows, "input", "dcp")
    read = list(
        csv.DictReader(io.StringIO(csv_table(told, {"input": "input", "dcp": "classical"})))
    )
    assert [line["image"] for line in read] == [name, name]
    assert [line["group"] for line in read] == ["L,1", "L,1"]
    assert (read[0]["psnr"], read[0]["ciede2000"], read[1]["psnr"]) == ("inf", "", "12.5")


def test_a_journal_goes_on_after_a_line_that_was_cut_off(tmp_path):
    journal = ScoreJournal(tmp_path)
    for key in ("one", "two"):
        journal.add({"key": key, "values": {"psnr": float("inf"), "ssim": float("nan")}})
    path = tmp_path / "scores.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    journal = ScoreJournal(tmp_path)
    assert journal.row("one")["values"]["psnr"] == float("inf")
    assert np.isnan(journal.row("one")["values"]["ssim"])
    assert journal.row("two") is None
    journal.add({"key": "three", "values": {}, "clear_key": "c", "clear_values": {"clear_psnr": 3}})
    again = ScoreJournal(tmp_path)
    assert again.row("three") is not None and again.row("one") is not None
    assert again.values_of_clear("c") == {"clear_psnr": 3.0}
    # Strict JSON: infinity is text there.
    assert json.loads(path.read_text().splitlines()[0])["values"] == {"psnr": "inf", "ssim": "nan"}


def test_rows_without_a_checksum_are_scored_again(tmp_path):
    (tmp_path / "scores.jsonl").write_text('{"key": "one", "values": {"psnr": 1.0}}\n')
    journal = ScoreJournal(tmp_path)
    assert journal.row("one") is None
    journal.add({"key": "one", "values": {"psnr": 2.0}})
    assert ScoreJournal(tmp_path).row("one")["values"] == {"psnr": 2.0}


def test_methods_stand_in_order_and_none_twice():
    labels = [m.label for m in methods_of(["dcp:omega=0.85", "htm", "htm"])]
    assert labels == ["input", "dcp:omega=0.95", "hot", "dcp:omega=0.85", "htm", "htm (2)"]
    (_, net) = methods_of(["haze-unet"], weights="random:1", baselines=False)
    assert net.label == "haze-unet:random:1"
    (_, dcp) = methods_of(["dcp"], parameters={"omega": "0.5"}, baselines=False)
    assert dcp.model.card.values["omega"] == 0.5 and dcp.label == "dcp:omega=0.5"


def test_the_worst_the_middle_and_the_best_are_chosen():
    gains = {"a": 1.0, "b": 5.0, "c": 3.0, "d": float("nan"), "e": 2.0, "f": 4.0}
    assert select_extremes(gains, 1) == {"a": "worst_1", "c": "median_1", "b": "best_1"}
    assert set(select_extremes(gains, 9)) == set("abcef")
    assert select_extremes(gains, 0) == {}


def test_a_strip_is_not_too_large_and_shows_all_in_order():
    colours = ["red", "lime", "blue"]
    sheet = beside([(Image.new("RGB", (900, 500), c), "long name " * 30) for c in colours])
    assert max(sheet.size) <= LONGEST and sheet.width > 2000
    middle = [sheet.getpixel((sheet.width * (2 * n + 1) // 6, sheet.height // 2)) for n in range(3)]
    assert middle == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    tall = beside([(Image.new("RGB", (300, 4000)), "x")] * 2)
    assert max(tall.size) <= LONGEST


def test_file_names_are_plain_and_differ():
    assert file_name("L1", "a-b_c.d") == "L1+a-b_c.d"
    parts = [("a/b",), ("a b",), ("a", "b"), ("a_b",), ("../x",), ("a+b",), ("é",)]
    names = {file_name(*each) for each in parts}
    assert len(names) == len(parts)
    assert all("/" not in name and not name.startswith(".") for name in names)
