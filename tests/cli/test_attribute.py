"""`attribute` and `rerun` of its record, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from napari_restore.commands import main
from napari_restore.records import read_record

from ._scenes import hazy

BOX = ("--box", "150", "120", "32", "24")


@pytest.fixture(scope="module")
def asked(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Map and record of a question to haze-unet."""
    folder = tmp_path_factory.mktemp("asked")
    out, record = folder / "map.tif", folder / "map.json"
    words = ["attribute", str(sample), "--model", "haze-unet", *BOX, "-o", str(out)]
    words += ["--context-gradient", "stop", "--record", str(record), "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_RESTORE_CACHE", str(folder / "cache"))
        assert main(words) == 0
    return out, record


@pytest.mark.slow
def test_the_map_lies_on_the_images_map_and_adds_up(asked: Any, sample: Path) -> None:
    out, record = asked
    told = read_record(record)
    question = told["attribution"]
    with rasterio.open(out) as found, rasterio.open(sample) as source:
        y0, x0, y1, x1 = question["region"]
        assert (found.height, found.width, found.count) == (y1 - y0, x1 - x0, 4)
        assert found.dtypes == ("float32",) * 4
        assert found.crs == source.crs
        assert found.transform.almost_equals(
            source.transform * source.transform.translation(x0, y0)
        )
        values = found.read()
        assert "not why" in found.tags()["NAPARI_RESTORE"]
    assert np.allclose(values[0], values[1:].sum(axis=0), atol=1e-6)
    complete = question["completeness"]
    assert values[0].sum(dtype=np.float64) == pytest.approx(complete["sum"], rel=1e-3)
    assert complete["reached"] and complete["relative_gap"] <= 0.01
    assert question["box"] == [120, 150, 144, 182]
    assert told["model"]["weights_sha256"]
    assert told["measured"]["peak_ram_bytes"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("size", [("32", "24"), ("32",), ()])
def test_a_box_around_a_centre_is_that_box(
    sample: Path, tmp_path: Path, size: tuple[str, ...]
) -> None:
    record = tmp_path / "map.json"
    words = ["attribute", str(sample), "--model", "identity", "--center", "166", "132"]
    words += ["--size", *size] if size else []
    assert main([*words, "-o", str(tmp_path / "map.npy"), "--record", str(record)]) == 0
    width, height = (int((size or ("128",))[at]) for at in (0, -1))
    x, y = 166 - width // 2, 132 - height // 2
    box = read_record(record)["attribution"]["box"]
    assert box == [y, x, y + height, x + width]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--box", "1", "2", "3", "4", "--size", "9"], "Add --center X Y"),
        (["--center", "9", "9", "--size", "0"], "width and height"),
        (["--center", "9", "9", "--size", "1", "2", "3"], "width and height"),
    ],
)
def test_a_size_without_sense_is_refused(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["attribute", "a.tif", "--model", "dcp", *words, "-o", "b.tif"]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.nightly
def test_the_record_asks_again(asked: Any, tmp_path: Path) -> None:
    out, record = asked
    again = tmp_path / "again.tif"
    assert main(["rerun", str(record), "-o", str(again)]) == 0
    with rasterio.open(out) as one, rasterio.open(again) as other:
        assert np.array_equal(one.read(), other.read())


def test_json_tells_all_and_the_words_what_to_trust(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "map.tif"
    words = ["attribute", str(sample), "--model", "identity", *BOX, "-o", str(out)]
    words += ["--method", "ig", "--baseline", "zero", "--objective", "mean", "--progress", "off"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["attribution"]["identity_share"] == pytest.approx(1)
    assert any("input that passes unchanged" in note for note in told["notes"])
    assert told["attribution"]["rings"]["box"] == pytest.approx(1)
    assert main([*words, "--overwrite"]) == 0
    assert "completeness gap 0.00%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["--box", "9000", "0", "10", "10"], "outside of"),
        (["--method", "magic"], "no method"),
        (["--baseline", "nowhere.tif", "--method", "ig"], "no baseline"),
        (["--steps", "some"], "no number of steps"),
        (["--memory", "20MiB"], "--memory"),
    ],
)
@pytest.mark.ids("slow", "change2-no baseline")
def test_bad_questions_have_one_sentence(
    sample: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    told: str,
) -> None:
    out = tmp_path / "map.tif"
    words = ["attribute", str(sample), "--model", "haze-unet", *BOX, "-o", str(out), *change]
    assert main(words) in (2, 4)
    said = capsys.readouterr().err
    assert told in said and "Traceback" not in said
    assert not out.exists()


def test_an_output_that_exists_is_kept(sample: Path, tmp_path: Path) -> None:
    out = tmp_path / "map.tif"
    out.write_text("mine")
    words = ["attribute", str(sample), "--model", "identity", *BOX, "-o", str(out)]
    assert main(words) == 2
    assert out.read_text() == "mine"


@pytest.mark.slow
def test_an_overview_has_a_level_and_a_place(sample: Path, tmp_path: Path) -> None:
    out, record = tmp_path / "map.tif", tmp_path / "map.json"
    words = ["attribute", str(sample), "--model", "dcp", "--box", "152", "120", "32", "24"]
    assert main([*words, "--level", "1", "-o", str(out), "--record", str(record)]) == 0
    told = read_record(record)["attribution"]
    assert told["scale"] == 2 and told["box"] == [60, 76, 72, 92]
    with rasterio.open(out) as found, rasterio.open(sample) as whole:
        assert found.transform.a == pytest.approx(2 * whole.transform.a)
        y0, x0, *_ = told["region"]
        assert found.transform * (0, 0) == pytest.approx(whole.transform * (2 * x0, 2 * y0))
    again = tmp_path / "again.tif"
    assert main(["rerun", str(record), "-o", str(again)]) == 0
    with rasterio.open(out) as one, rasterio.open(again) as other:
        assert np.array_equal(one.read(), other.read())
    assert main([*words, "--level", "9", "-o", str(tmp_path / "no.tif")]) == 2


def test_shares_of_the_overview_replace_no_file(sample: Path, tmp_path: Path) -> None:
    beside = tmp_path / "map_overview.tif"
    beside.write_text("mine")
    words = [
        "attribute",
        str(sample),
        "--model",
        "atmosphere",
        *BOX,
        "--context-gradient",
        "through",
    ]
    assert main([*words, "-o", str(tmp_path / "map.tif")]) == 2
    assert beside.read_text() == "mine" and not (tmp_path / "map.tif").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("map", "no suffix"),
        ("map.webp", "WebP does not support float32"),
        ("no/map.tif", "not exist"),
    ],
)
def test_a_map_that_cannot_be_written_is_refused_before_it_is_computed(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    words = ["attribute", str(sample), "--model", "haze-unet", *BOX]
    assert main([*words, "-o", str(tmp_path / name)]) == 2
    printed = capsys.readouterr().err
    assert message in printed and " of " not in printed.partition(message)[0]
    assert not list(tmp_path.iterdir())


def test_nothing_that_is_read_is_written(sample: Path, tmp_path: Path) -> None:
    clear = tmp_path / "clear.tif"
    clear.write_bytes(sample.read_bytes())
    before = clear.read_bytes()
    words = ["attribute", str(clear), "--model", "haze-unet", *BOX, "--overwrite"]
    figure = tmp_path / "clear.png"
    figure.write_bytes(before)
    assert main([*words, "-o", str(clear)]) == 2
    out = str(tmp_path / "map.tif")
    assert main([*words[:1], str(figure), *words[2:], "-o", out, "--figure", str(figure)]) == 2
    asked = ["attribute", str(sample), "--model", "haze-unet", *BOX, "--overwrite"]
    asked += ["--method", "ig", "--baseline", str(clear)]
    assert main([*asked, "-o", str(clear)]) == 2
    assert main([*asked, "-o", out, "--figure", str(tmp_path / "figure.gif")]) == 2
    assert clear.read_bytes() == figure.read_bytes() == before
    record = tmp_path / "map.json"
    record.write_text("mine")
    assert main([*words[:-1], "-o", out, "--record", str(record)]) == 2
    assert record.read_text() == "mine" and not Path(out).exists()


@pytest.mark.slow
def test_the_record_of_a_clear_image_knows_it(scene: Path, tmp_path: Path) -> None:
    clear, record = tmp_path / "clear.png", tmp_path / "map.json"
    pixels = np.moveaxis(hazy() // 2, 0, 2)
    Image.fromarray(pixels).save(clear)
    words = ["attribute", str(scene), "--model", "haze-unet", *BOX, "-o", str(tmp_path / "a.tif")]
    words += [
        "--method",
        "ig",
        "--steps",
        "2",
        "--context-gradient",
        "stop",
        "--baseline",
        str(clear),
    ]
    words += ["--record", str(record)]
    assert main(words) == 0
    assert read_record(record)["attribution"]["baseline_fingerprint"]
    Image.fromarray(255 - pixels).save(clear)
    assert main(["rerun", str(record), "-o", str(tmp_path / "b.tif")]) == 2
    assert not (tmp_path / "b.tif").exists()


@pytest.mark.slow
def test_another_method_takes_arguments_and_a_check(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, record = tmp_path / "map.tif", tmp_path / "map.json"
    words = ["attribute", str(sample), "--model", "dcp", *BOX, "-o", str(out)]
    words += ["--method", "smoothgrad", "--argument", "n=2", "--argument", "sigma=0.1"]
    words += ["--check", "insertion-deletion", "--record", str(record)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "by smoothgrad: completeness not claimed by this method" in said
    assert "check: area 0." in said and "under insertion (by distance" in said
    told = read_record(record)["attribution"]
    assert told["arguments"] == {"n": 2, "sigma": 0.1, "seed": 0}
    assert told["checks"]["insertion-deletion"]["insertion"]["area"] > 0.5
    again = tmp_path / "again.tif"
    assert main(["rerun", str(record), "-o", str(again), "--json"]) == 0
    repeated = json.loads(capsys.readouterr().out)
    assert repeated["attribution"]["checks"] == told["checks"]
    with rasterio.open(out) as one, rasterio.open(again) as other:
        assert np.array_equal(one.read(), other.read())


def test_literals_are_what_python_knows_and_else_text() -> None:
    from napari_restore.api import argument_value as literal, arguments_in

    assert literal("(3, 8, 8)") == (3, 8, 8)
    assert literal("False") is False
    assert literal("0.5") == 0.5
    assert literal("riemann_left") == "riemann_left"
    text = " a=(3, 8, 8)  b=x=1 c_d=None "
    assert arguments_in(text) == {"a": (3, 8, 8), "b": "x=1", "c_d": None}
    assert arguments_in(" ") == {}
