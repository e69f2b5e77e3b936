"""Sampled queries: where they lie, what is said of heads over them, and beside random weights."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.explain._attention import SITE, LooksRight, looked

import napari_restore as nr
from napari_restore.engine import Note, Region
from napari_restore.errors import BadOutput, BadParameter, BadRegion
from napari_restore.explain.attention.attend import sampled, strata
from napari_restore.explain.attention.measures import AVERAGED, SUMMARY_COLUMNS

SIZE = 101, 142


def scene(seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((*SIZE, 3), np.float32)


def everywhere(pixel: tuple[int, int]) -> bool:
    return True


@pytest.mark.parametrize("count", [1, 2, 7, 16, 97, 256])
@pytest.mark.parametrize("box", [Region(0, 0, 101, 142), Region(30, 50, 630, 90)])
def test_strata_divide_a_box(box: Region, count: int) -> None:
    found = strata(box, count)
    assert len(found) == count
    covered = np.zeros(box.shape, int)
    for each in found:
        covered[each.within(box)] += 1
    np.testing.assert_array_equal(covered, 1)
    mean = box.pixels / count
    # Edges lie between pixels: by less than one pixel a side.
    assert all(abs(each.pixels - mean) < sum(each.shape) + 1 for each in found)


def test_tiny_boxes_have_fewer_strata() -> None:
    assert 1 <= len(strata(Region(0, 0, 2, 3), 9)) <= 6
    assert len(strata(Region(0, 0, 1, 50), 50)) == 50


def test_a_sample_follows_from_its_seed() -> None:
    box = Region(10, 20, 110, 220)
    first = sampled(box, 40, 3, everywhere)
    assert sampled(box, 40, 3, everywhere) == first != sampled(box, 40, 4, everywhere)
    for query, stratum in zip(first, strata(box, 40), strict=True):
        assert query.is_point and query.box.intersect(stratum) == query.box
    # Known numbers: the same on every machine.
    assert [tuple(each.box[:2]) for each in sampled(box, 2, 0, everywhere)] == EXPECTED


EXPECTED = [(95, 83), (62, 208)]


def test_a_pixel_that_is_not_valid_is_drawn_again_in_its_stratum() -> None:
    box = Region(0, 0, 80, 80)
    plain = sampled(box, 16, 0, everywhere)
    refused = tuple(plain[5].box[:2])
    found = sampled(box, 16, 0, lambda pixel: pixel != refused)
    assert [a == b for a, b in zip(found, plain, strict=True)] == [n != 5 for n in range(16)]
    assert found[5].box.intersect(strata(box, 16)[5]) == found[5].box
    # A stratum without a valid pixel has no query.
    assert len(sampled(box, 16, 0, lambda pixel: pixel[0] >= 20)) == 12


@pytest.mark.slow
def test_a_sample_is_asked_and_summed_up(tmp_path: Path) -> None:
    found = looked(scene(), sample=30, seed=2)
    attention = found.record["attention"]
    assert len(found.queries) == len(attention["queries"]) == 30
    assert "measures" not in attention["queries"][0]
    assert (attention["sample"], attention["seed"]) == (30, 2)
    right, every = attention["summary"]
    assert (right["layer"], right["head"], every["head"]) == (SITE.name, "right", "all")
    numbers = [each.measures[SITE.name] for each in found.queries]
    for number, head in enumerate((right, every)):
        for name in AVERAGED:
            known = [each[number][name] for each in numbers if each[number][name] is not None]
            assert head[name]["n"] == len(known)
            if known:
                assert head[name]["mean"] == pytest.approx(np.mean(known))
    # Equal weights look as far as equal weights do.
    assert every["distance_px"]["mean"] == pytest.approx(every["equal_distance_px"]["mean"])
    again = looked(scene(), sample=30, seed=2)
    assert again.record["attention"] == attention
    rows = list(csv.DictReader(found.save(tmp_path / "a.csv").read_text().splitlines()))
    assert len(rows) == 60 and rows[1]["query"] == "1" and rows[2]["query"] == "2"
    table = list(csv.DictReader(found.save_summary(tmp_path / "s.csv").read_text().splitlines()))
    assert tuple(table[0]) == SUMMARY_COLUMNS and len(table) == 2
    assert float(table[1]["entropy"]) == every["entropy"]["mean"]
    for path, message in (("s.csv", "exists"), ("s.npz", "no table"), ("no/s.csv", "written")):
        with pytest.raises(BadOutput, match=message):
            found.save_summary(tmp_path / path)
    with pytest.raises(BadOutput, match="no summary"):
        looked(scene(), (1, 1)).save_summary(tmp_path / "t.csv")


def notes_of(pixels: Any, *queries: Any, **options: Any) -> tuple[Any, list[str]]:
    events: list[Any] = []
    found = looked(pixels, *queries, emit=events.append, **options)
    return found, [event.text for event in events if isinstance(event, Note)]


def test_queries_avoid_pixels_without_data() -> None:
    pixels = scene()
    pixels[:60] = np.nan
    found, notes = notes_of(pixels, sample=24)
    assert all(each.query.box.y0 >= 60 for each in found.queries) and len(found.queries) < 24
    (note,) = notes
    assert f"so that {len(found.queries)} queries are asked in place of 24" in note
    with pytest.raises(BadRegion, match="None of the pixels drawn in x 0–49, y 0–39 is valid"):
        looked(pixels, Region(0, 0, 40, 50), sample=4)


def test_a_box_is_sampled_by_its_cells() -> None:
    box = Region(8, 8, 20, 24)  # 3 × 4 cells
    found, (note,) = notes_of(scene(), box, sample=100)
    assert "There are 12 cells, so that 12 queries" in note and len(found.queries) == 12
    assert all(each.query.box.intersect(box) == each.query.box for each in found.queries)
    assert not notes_of(scene(), box, sample=12)[1]


@pytest.mark.parametrize(
    ("queries", "options", "message"),
    [
        ([(1, 1)], {"sample": 4}, "draws its own queries"),
        ([Region(0, 0, 9, 9)] * 2, {"sample": 4}, "draws its own queries"),
        ([], {"sample": 0}, "sample= takes no 0"),
        ([], {"sample": True}, "sample= takes no True"),
        ([], {"sample": 2.5}, "sample= takes no 2.5"),
        ([], {"sample": 4, "seed": -1}, "seed= takes no -1"),
        ([], {}, "no query"),
    ],
)
def test_samples_that_cannot_be_drawn(queries: Any, options: Any, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        looked(scene(), *queries, **options)


class TwoFaced(LooksRight):
    """It looks to the right with its own weights only; with others both heads look at everything."""

    def attention_rows(self, *arguments: Any) -> Any:
        rows = super().attention_rows(*arguments)
        if float(self.out.weight.abs().max()) < 0.1:  # random weights end small
            row = rows[SITE.name]
            row.weights[0], row.cells[0] = row.weights[1], row.cells[1]
        return rows


@pytest.mark.slow
def test_the_twin_has_random_weights_and_the_same_queries(tmp_path: Path) -> None:
    model = TwoFaced()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    image = nr.open_image(scene(), bands="red=1,green=2,blue=3")
    found = nr.attend(
        image, model, [(50, 60), (3, 4)], random_twin=True, device="cpu", progress=False
    )
    assert all(bool((model.state_dict()[name] == before[name]).all()) for name in before)
    assert [each.query for each in found.twin] == [each.query for each in found.queries]
    own, other = (each[0].measures[SITE.name][0] for each in (found.queries, found.twin))
    assert own["effective_cells"] == pytest.approx(1) and other["entropy"] == pytest.approx(1)
    first = found.record["attention"]["queries"][0]
    assert first["random_twin"][SITE.name][0] == other
    rows = list(csv.DictReader(found.save(tmp_path / "a.csv").read_text().splitlines()))
    assert [row["weights"] == "random:0" for row in rows] == [False, False, True, True] * 2
    assert [row["query"] for row in rows] == ["1"] * 4 + ["2"] * 4
    sample = nr.attend(
        image, model, sample=6, random_twin=True, device="cpu", progress=False
    ).record["attention"]["summary"]
    assert [head["weights"] == "random:0" for head in sample] == [False, False, True, True]
    assert sample[0]["effective_cells"]["mean"] < 2 < sample[2]["effective_cells"]["mean"]
