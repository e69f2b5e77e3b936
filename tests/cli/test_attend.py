"""`attend` and `rerun` of its record, through the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import rasterio

from napari_restore.commands import main
from napari_restore.records import read_record

from ._scenes import hazy, write_tiff

MODEL = ("--model", "inf-dehaze-small")
QUERY = ("--query", "130", "70")
LAYER = "decoder.4.2"


class Asked(NamedTuple):
    """A scene, and the files of two questions about it."""

    scene: Path
    raster: Path
    raster_record: Path
    arrays: Path
    arrays_record: Path
    cache: Path


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    folder = tmp_path_factory.mktemp("asked")
    files = Asked(
        write_tiff(folder / "scene.tif", hazy()),
        *(folder / name for name in ("map.tif", "map.json", "all.npz", "all.json", "cache")),
    )
    words = ["attend", files.scene, *MODEL, *QUERY, "--device", "cpu"]
    one = [*words, "--layer", LAYER, "-o", files.raster, "--record", files.raster_record]
    every = [*words, "--query", "3", "5", "-o", files.arrays, "--record", files.arrays_record]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_RESTORE_CACHE", str(files.cache))
        assert main([str(word) for word in one]) == 0
        assert main([str(word) for word in every]) == 0
    return files


@pytest.fixture
def prepared(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The same with its cache: nothing has to be prepared."""
    monkeypatch.setenv("NAPARI_RESTORE_CACHE", str(asked.cache))
    return asked


@pytest.mark.nightly
def test_the_maps_lie_on_the_images_map(asked: Asked) -> None:
    record = read_record(asked.raster_record)
    with rasterio.open(asked.raster) as found, rasterio.open(asked.scene) as scene:
        values = found.read()
        assert found.crs == scene.crs
        # The window of 8 × 8 cells of 4 pixels around x 130, y 70, moved by half of it.
        assert values.shape == (2, 8, 8)
        x, y = ~scene.transform * (found.transform * (0, 0))
        assert x <= 130 < x + 32 and y <= 70 < y + 32
        assert found.tags()["NAPARI_RESTORE_LAYER"] == LAYER
    np.testing.assert_allclose(values.sum(axis=(1, 2)), 1, atol=1e-6)
    (query,) = record["attention"]["queries"]
    assert query["box"] == [70, 130, 71, 131]
    first = query["measures"][LAYER][0]
    assert 0 < first["entropy"] <= 1 and first["sum"] == pytest.approx(1)
    assert record["output"]["sha256"] and record["output"]["head"] == "all"
    assert record["model"]["weights_sha256"] and record["measured"]["peak_ram_bytes"] > 0


@pytest.mark.slow
@pytest.mark.nightly
def test_arrays_have_all_queries_and_layers(asked: Asked, capsys: Any) -> None:
    assert main(["models", "inf-dehaze-small", "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["attention_layers"]
    with np.load(asked.arrays) as arrays:
        for query in (0, 1):
            for layer in layers:
                name = layer.partition(" ")[0]
                weights, cells = (arrays[f"{query}/{name}/{part}"] for part in ("weights", "cells"))
                assert cells.shape == (*weights.shape, 2)
                assert f"{len(weights)} heads" in layer
                if "routing" not in layer:
                    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
        record = json.loads(str(arrays["record"]))
    assert [each["name"] for each in record["attention"]["layers"]] == [
        layer.partition(" ")[0] for layer in layers
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["raster", "arrays"])
def test_the_record_writes_the_same_bytes_again(prepared: Asked, tmp_path: Path, kind: str) -> None:
    first, record = getattr(prepared, kind), getattr(prepared, f"{kind}_record")
    again = tmp_path / f"again{first.suffix}"
    assert main(["rerun", str(record), "-o", str(again)]) == 0
    assert again.read_bytes() == first.read_bytes()


@pytest.mark.slow
def test_without_the_cache_too(asked: Asked, tmp_path: Path) -> None:
    again = tmp_path / "again.npz"
    assert main(["rerun", str(asked.arrays_record), "-o", str(again)]) == 0
    assert again.read_bytes() == asked.arrays.read_bytes()


@pytest.mark.slow
def test_json_is_the_record_and_a_table_has_names(
    prepared: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = tmp_path / "queries.csv", tmp_path / "numbers.csv"
    table.write_text("x,y,name\n130,70,roof\n3,5,\n")
    words = ["attend", prepared.scene, *MODEL, "--queries", table, "--layer", "bottleneck.1"]
    words += ["--layer", LAYER, "-o", out, "--json", "--record", tmp_path / "record.json"]
    assert main([str(word) for word in words]) == 0
    printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert printed == read_record(tmp_path / "record.json")
    assert [each["name"] for each in printed["attention"]["layers"]] == ["bottleneck.1", LAYER]
    rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    assert {row["query"] for row in rows} == {"roof", "2"}
    assert len(rows) == 2 * (8 + 2)


@pytest.mark.slow
def test_a_sample_beside_random_weights_is_repeated(
    prepared: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, record, summary = (tmp_path / name for name in ("a.csv", "a.json", "summary.csv"))
    words = ["attend", prepared.scene, *MODEL, "--sample", "5", "--seed", "3", "--random-twin"]
    words += ["--layer", LAYER, "-o", out, "--record", record, "--summary", summary]
    assert main([str(word) for word in words]) == 0
    printed = capsys.readouterr().out
    assert "Means over 5 queries" in printed and printed.count("random weights") == 2
    rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 5 * 2 * 2 and len({(row["x"], row["y"]) for row in rows}) == 5
    known = read_record(record)
    weights = known["model"]["weights_sha256"]
    assert [row["weights"] for row in rows[:4]] == [weights] * 2 + ["random:0"] * 2
    means = list(csv.DictReader(summary.read_text(encoding="utf-8").splitlines()))
    assert [row["weights"] for row in means] == [weights] * 2 + ["random:0"] * 2
    own = [
        float(row["entropy"]) for row in rows if row["weights"] == weights and row["head"] == "1"
    ]
    assert float(means[0]["entropy"]) == pytest.approx(np.mean(own))
    again = tmp_path / "again.csv"
    assert main(["rerun", str(record), "-o", str(again)]) == 0
    assert again.read_bytes() == out.read_bytes()
    assert "Means over 5 queries" in capsys.readouterr().out
    # Of one query, below the numbers of each layer.
    words = ["attend", prepared.scene, *MODEL, *QUERY, "--layer", LAYER, "--random-twin"]
    assert main([str(word) for word in [*words, "-o", tmp_path / "one.tif"]]) == 0
    assert capsys.readouterr().out.count("random weights") == 2


@pytest.mark.nightly
def test_a_rollout_is_a_map_of_one_band(prepared: Asked, tmp_path: Path) -> None:
    out, record = tmp_path / "rollout.tif", tmp_path / "rollout.json"
    words = ["attend", prepared.scene, *MODEL, *QUERY, "--layer", LAYER, "--rollout"]
    words += ["--residual-weight", "0.25", "-o", out, "--record", record]
    assert main([str(word) for word in words]) == 0
    with rasterio.open(out) as found:
        assert found.count == 1 and found.tags()["NAPARI_RESTORE_HEADS"] == "rollout"
        values = found.read(1)
    # The shifted window and those before it that it meets.
    assert values.shape == (16, 16) and np.nansum(values) == pytest.approx(1, abs=1e-5)
    again = tmp_path / "again.tif"
    assert main(["rerun", str(record), "-o", str(again)]) == 0
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.slow
def test_heads_are_ranked_beside_an_attribution(
    prepared: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box, path, record = (
        ("--box", "120", "60", "16", "16"),
        tmp_path / "why.tif",
        tmp_path / "a.json",
    )
    words = ["attribute", prepared.scene, "--model", "atmosphere", *box, "--steps", "2"]
    assert main([str(word) for word in [*words, "--device", "cpu", "-o", path]]) == 0
    words = ["attend", prepared.scene, *MODEL, *box, "--layer", LAYER, "--attribution", path]
    assert main([str(word) for word in [*words, "-o", tmp_path / "a.csv", "--record", record]]) == 0
    assert "Spearman" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()))
    found = [float(row["attribution_rank"]) for row in rows]
    assert len(set(found)) == 2 and all(-1 <= rank <= 1 for rank in found)
    again = tmp_path / "again.csv"
    assert main(["rerun", str(record), "-o", str(again)]) == 0
    assert again.read_bytes() == (tmp_path / "a.csv").read_bytes()
    path.write_bytes(path.read_bytes() + b" ")
    assert main(["rerun", str(record), "-o", str(again), "--overwrite"]) == 2
    assert "why.tif" in capsys.readouterr().err


@pytest.mark.slow
def test_the_other_way_around(
    prepared: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "by.npz"
    words = ["attend", str(prepared.scene), *MODEL, *QUERY, "--attended-by", "-o", str(out)]
    assert main(words) == 0
    assert "not why" in capsys.readouterr().out
    with np.load(out) as by, np.load(prepared.arrays) as to:
        assert {name.split("/")[1] for name in by.files if "/" in name} == {
            "bottleneck.1",
            "bottleneck.2",
        }
        # What the query's own cell gives to itself is the same number.
        for layer in ("bottleneck.1", "bottleneck.2"):
            own = [70 // 32, 130 // 32]
            given = [
                (arrays[f"0/{layer}/weights"] * (arrays[f"0/{layer}/cells"] == own).all(-1)).sum(1)
                for arrays in (by, to)
            ]
            np.testing.assert_allclose(*given, rtol=1e-5)


@pytest.mark.slow
def test_a_figure_is_drawn_beside_the_map(prepared: Asked, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("matplotlib")
    words = ["attend", prepared.scene, *MODEL, *QUERY, "--layer", LAYER, "--head", "mean"]
    words += ["-o", tmp_path / "mean.tif", "--figure", tmp_path / "figure.svg"]
    words += ["--width", "85mm", "--limits", "0", "1", "--no-caption"]
    assert main([str(word) for word in words]) == 0
    drawn = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    assert "decoder 4.2, shifted" in drawn and 'width="240.94' in drawn and ">1.00<" in drawn
    assert "monospace" not in drawn
    assert "H          entropy of the weights, 1 where all are equal" in capsys.readouterr().out
    with rasterio.open(tmp_path / "mean.tif") as mean, rasterio.open(prepared.raster) as every:
        assert mean.count == 1
        np.testing.assert_allclose(mean.read(1), every.read().mean(axis=0), atol=1e-7)


BAD = {
    "outside": (["--query", "200", "10", "-o", "a.csv"], "lies outside of"),
    "outside, negative": (["--query", "-1", "10", "-o", "a.csv"], "lies outside of"),
    "no place": ([], "No place is given"),
    "box without pixels": (["--box", "5", "5", "0", "9", "-o", "a.csv"], "A box of 0 × 9 pixels"),
    "layer": ([*QUERY, "--layer", "decoder.4.9"], "Did you mean decoder.4."),
    "head": ([*QUERY, "--layer", LAYER, "--head", "3"], "has no head '3'"),
    "head of no raster": ([*QUERY, "--head", "1", "-o", "a.csv"], "--head"),
    "all layers": (QUERY, "one query and one layer"),
    "several layers": ([*QUERY, "--layer", LAYER, "--layer", "decoder.4.1"], "one layer"),
    "several queries": ([*QUERY, *QUERY, "--layer", LAYER], "one query and one layer"),
    "no such table": (["--queries", "none.csv", "-o", "a.csv"], "cannot be read"),
    "table without columns": (["--queries", "bad.csv", "-o", "a.csv"], "no column x"),
    "no attention": ([*QUERY, "--model", "dcp", "-o", "a.csv"], "inf-dehaze-small"),
    "attended by": (
        [*QUERY, "--layer", "encoder.3.bands", "--attended-by"],
        "is not known in encoder.3.bands",
    ),
    "places of a sample": ([*QUERY, "--sample", "4", "-o", "a.csv"], "--sample draws its own"),
    "table of a sample": (
        ["--queries", "good.csv", "--sample", "4", "-o", "a.csv"],
        "its own queries",
    ),
    "sample of none": (["--sample", "0", "-o", "a.csv"], "--sample takes no 0"),
    "seed": (["--sample", "4", "--seed", "-1", "-o", "a.csv"], "--seed takes no -1"),
    "raster of a sample": (["--sample", "4", "--layer", LAYER], "one query and one layer"),
    "summary of a query": ([*QUERY, "-o", "a.csv", "--summary", "s.csv"], "is that of a sample"),
    "summary exists": (
        ["--sample", "4", "-o", "a.csv", "--summary", "mine.csv"],
        "mine.csv exists",
    ),
    "summary is no table": (["--sample", "4", "-o", "a.csv", "--summary", "s.npz"], "is no table"),
    "summary is the output": (
        ["--sample", "4", "-o", "a.csv", "--summary", "a.csv"],
        "would be written twice",
    ),
    "attribution of several": (
        [*QUERY, *QUERY, "--attribution", "mine.tif", "-o", "a.csv"],
        "there are several queries",
    ),
    "no attribution": (
        [*QUERY, "--attribution", "scene.tif", "-o", "a.csv"],
        "no map that attribute",
    ),
    "no such attribution": ([*QUERY, "--attribution", "none.tif", "-o", "a.csv"], "none.tif"),
    "attribution is the output": (
        [*QUERY, "--layer", LAYER, "--attribution", "mine.tif", "-o", "mine.tif", "--overwrite"],
        "is an input",
    ),
    "rollout of experts": (
        [*QUERY, "--layer", "bottleneck.1.experts", "--rollout", "-o", "a.csv"],
        "bottleneck.1.experts has no rollout",
    ),
    "rollout of all": ([*QUERY, "--rollout", "-o", "a.csv"], "Choose among encoder.1.1"),
    "rollout without a head": (
        [*QUERY, "--layer", LAYER, "--rollout", "--ablate", "-o", "a.csv"],
        "Leave out --ablate",
    ),
    "residual weight": (
        [*QUERY, "--layer", LAYER, "--rollout", "--residual-weight", "2", "-o", "a.csv"],
        "--residual-weight takes no 2",
    ),
    "no twin": (
        [*QUERY, "--weights", "random:0", "--random-twin", "-o", "a.csv"],
        "has the weights random:0 itself",
    ),
    "no heads": (
        [*QUERY, "--layer", "bottleneck.1.experts", "--ablate"],
        "bottleneck.1.experts has no heads",
    ),
    "level": ([*QUERY, "--layer", LAYER, "--level", "3"], "no level 3"),
    "exists": ([*QUERY, "-o", "mine.csv"], "exists"),
    "arrays exist": ([*QUERY, "-o", "mine.npz"], "exists"),
    "raster exists": ([*QUERY, "--layer", LAYER, "-o", "mine.tif"], "exists"),
    "figure exists": ([*QUERY, "-o", "a.csv", "--figure", "mine.png"], "exists"),
    "record exists": ([*QUERY, "-o", "a.csv", "--record", "mine.json"], "exists"),
    "no figure": ([*QUERY, "-o", "a.csv", "--figure", "a.gif"], "is no figure"),
    "no suffix": ([*QUERY, "--layer", LAYER, "-o", "map"], "no suffix"),
    "no float": ([*QUERY, "--layer", LAYER, "-o", "map.png"], "does not support float32"),
    "no folder": ([*QUERY, "-o", "no/a.csv"], "no"),
    "is a folder": ([*QUERY, "-o", "folder.csv", "--overwrite"], "is a folder"),
    "input": ([*QUERY, "-o", "scene.tif", "--layer", LAYER, "--overwrite"], "is an input"),
    "table": (["--queries", "good.csv", "-o", "good.csv", "--overwrite"], "is an input"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.ids(
    "slow",
    "box without pixels",
    "outside, negative",
    "outside",
    "residual weight",
    "rollout of all",
    "rollout of experts",
    "rollout without a head",
)
def test_bad_questions_have_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiff(tmp_path / "scene.tif", hazy())
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    (tmp_path / "good.csv").write_text("x,y\n1,2\n")
    for suffix in ("csv", "npz", "tif", "png", "json"):
        (tmp_path / f"mine.{suffix}").write_text("mine")
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.iterdir()}
    change, message = BAD[case]
    words = ["attend", "scene.tif", *MODEL, "-o", "map.tif", *change, "--progress", "off"]
    assert main(words) == 2
    printed = capsys.readouterr().err
    assert message in printed and "Traceback" not in printed
    assert "Encoding" not in printed
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.slow
def test_a_record_of_another_image_or_network_is_refused(
    prepared: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "again.tif"
    record = json.loads(prepared.raster_record.read_text("utf-8"))
    other = write_tiff(tmp_path / "other.tif", hazy(seed=8))
    changes: dict[str, Any] = {
        "is not the image of the record": lambda it: it["task"]["image"].update(source=str(other)),
        "weights of inf-dehaze-small are not those": lambda it: it["model"].update(
            weights_sha256="0" * 64
        ),
        "does not contain enough": lambda it: it.update(task=None),
    }
    for message, change in changes.items():
        changed = json.loads(json.dumps(record))
        change(changed)
        path = tmp_path / "changed.json"
        path.write_text(json.dumps(changed), encoding="utf-8")
        assert main(["rerun", str(path), "-o", str(out)]) == 2
        printed = capsys.readouterr().err
        assert message in printed and "Traceback" not in printed
        assert not out.exists()


@pytest.mark.slow
def test_a_rerun_replaces_nothing(
    prepared: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = prepared.raster.read_bytes()
    assert main(["rerun", str(prepared.raster_record)]) == 2
    assert "exists" in capsys.readouterr().err
    assert prepared.raster.read_bytes() == before


@pytest.mark.slow
def test_without_one_head_and_its_likeness_to_others(
    prepared: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["attend", prepared.scene, *MODEL, *QUERY, "--layer", LAYER]
    out, record = tmp_path / "without.tif", tmp_path / "without.json"
    one = [*words, "--ablate", "--head", "2", "-o", out, "--record", record]
    assert main([str(word) for word in one]) == 0
    with rasterio.open(out) as found, rasterio.open(prepared.scene) as scene:
        assert found.count == 1 and found.tags()["NAPARI_RESTORE_HEADS"] == "2"
        difference = found.read(1)
        assert found.crs == scene.crs and found.res == scene.res
    (query,) = read_record(record)["attention"]["queries"]
    head = next(each for each in query["measures"][LAYER] if each["head"] == "2")
    assert 0 < np.nanmax(np.abs(difference)) <= head["without_largest"] * 1.001
    again = tmp_path / "again.tif"
    assert main(["rerun", str(record), "-o", str(again)]) == 0
    assert again.read_bytes() == out.read_bytes()
    refused = [*words, "--ablate", "--head", "mean", "-o", tmp_path / "mean.tif"]
    assert main([str(word) for word in refused]) == 2
    assert "without the mean of its heads" in capsys.readouterr().err
    arrays = tmp_path / "alike.npz"
    assert main([str(word) for word in [*words, "--redundancy", "-o", arrays]]) == 0
    with np.load(arrays) as found:
        matrix = found[f"{LAYER}/redundancy"]
    np.testing.assert_allclose(np.diag(matrix), 1, atol=1e-6)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
