"""`evaluate` of networks whose results have another size than their input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scaling_networks
from PIL import Image

from napari_restore.metrics import psnr, ssim

NETWORKS = """
import sys
sys.path.insert(0, {folder!r})
from scaling_networks import enlarging, shrinking

def x2():
    return enlarging(2)

def half():
    return shrinking(2)
"""


@pytest.fixture
def network(tmp_path: Path) -> str:
    """A file of networks: ×2 and ×1/2."""
    path = tmp_path / "own.py"
    path.write_text(NETWORKS.format(folder=str(Path(scaling_networks.__file__).parent)))
    return str(path)


def smooth(height: int, width: int, seed: int) -> np.ndarray:
    """(h, w, 3) bytes without fine detail."""
    small = np.random.default_rng(seed).integers(20, 230, (height // 6, width // 6, 3))
    picture = Image.fromarray(small.astype(np.uint8))
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))


def save(folder: Path, kind: str, name: str, pixels: np.ndarray) -> None:
    (folder / kind).mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / kind / name)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Inputs of 36 × 30 and 30 × 24 pixels, truths of twice that."""
    folder = tmp_path / "pairs"
    for number, (height, width) in enumerate([(60, 72), (48, 60)]):
        truth = smooth(height, width, number)
        save(folder, "clear", f"{number}.png", truth)
        small = Image.fromarray(truth).resize((width // 2, height // 2), Image.Resampling.BICUBIC)
        save(folder, "input", f"{number}.png", np.asarray(small))
    return folder


def values_of(run: Any, image: str, method: str) -> dict[str, float]:
    rows = {row["image"]: row["methods"] for row in run.json["evaluation"]["images"]}
    found: dict[str, float] = rows[image][method]
    return found


@pytest.mark.slow
def test_scores_are_on_the_grid_of_the_results(cli, network, pairs, tmp_path: Path) -> None:
    model = f"{network}:x2"
    run = cli(
        *("evaluate", "--model", model, "--yes", "--pairs", pairs, "--metrics", "psnr,ssim"),
        *("-o", tmp_path / "out", "--json"),
    )
    assert run.code == 0, run.err
    (label,) = [m["label"] for m in run.json["evaluation"]["methods"] if m["kind"] == "model"]
    assert [m["label"] for m in run.json["evaluation"]["methods"]] == ["input", "bicubic", label]
    truth, small = (np.asarray(Image.open(pairs / k / "0.png")) for k in ("clear", "input"))
    assert (
        cli(
            "restore", pairs / "input/0.png", "-o", tmp_path / "r.png", "--model", model, "--yes"
        ).code
        == 0
    )
    restored = np.asarray(Image.open(tmp_path / "r.png"))
    nearest = small.repeat(2, 0).repeat(2, 1)
    planes = [
        Image.fromarray(small[..., n].astype(np.float32)).resize((72, 60), Image.Resampling.BICUBIC)
        for n in range(3)
    ]
    larger = np.rint(np.clip(np.stack(planes, -1), 0, 255)).astype(np.uint8)
    for method, pixels in ((label, restored), ("input", nearest), ("bicubic", larger)):
        found = values_of(run, "0", method)
        assert found["psnr"] == pytest.approx(psnr(pixels, truth, 255), abs=1e-4), method
        assert found["ssim"] == pytest.approx(ssim(pixels, truth, 255), abs=1e-4), method
    assert values_of(run, "0", "bicubic")["psnr"] > values_of(run, "0", "input")["psnr"] + 3
    strips = list((tmp_path / "out/strips").glob("*.jpg"))
    assert len(strips) == 2


@pytest.mark.slow
def test_of_half_the_size(cli, network, tmp_path: Path) -> None:
    folder = tmp_path / "half"
    large = smooth(61, 73, 4)
    save(folder, "input", "a.png", large)
    save(folder, "clear", "a.png", np.ascontiguousarray(large[1:60:2, 1:72:2]))
    run = cli(
        *("evaluate", "--model", f"{network}:half", "--yes", "--pairs", folder),
        *("--metrics", "psnr", "--json"),
    )
    assert run.code == 0, run.err
    # The truth is the lower right pixel of each block, as nearest neighbours are.
    assert float(values_of(run, "a", "input")["psnr"]) == np.inf
    assert values_of(run, "a", "bicubic")["psnr"] < 60


@pytest.mark.slow
def test_inputs_are_made_of_clear_scenes(cli, network, tmp_path: Path) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir()
    truth = smooth(61, 73, 2)
    Image.fromarray(truth).save(folder / "scene.png")
    run = cli(
        *("evaluate", "--model", f"{network}:x2", "--yes", "--data", folder, "--metrics", "psnr"),
        *("-o", tmp_path / "out", "--keep", "--json", "--scene", "natural"),
    )
    assert run.code == 0, run.err
    assert run.json["source"]["degradation"] == "size" and run.json["source"]["level"] == 2
    kept = {
        k: np.asarray(Image.open(tmp_path / "out" / k / "scene.png")) for k in ("clear", "hazy")
    }
    np.testing.assert_array_equal(kept["clear"], truth[:60, :72])
    expected = Image.fromarray(truth[:60, :72]).resize((36, 30), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(kept["hazy"], np.asarray(expected))
    nearest = kept["hazy"].repeat(2, 0).repeat(2, 1)
    assert values_of(run, "scene", "input")["psnr"] == pytest.approx(
        psnr(nearest, kept["clear"], 255), abs=1e-4
    )


@pytest.mark.slow
def test_another_size_is_an_error_of_that_image(cli, network, pairs, tmp_path: Path) -> None:
    save(pairs, "clear", "1.png", smooth(48, 72, 1))
    run = cli(
        *("evaluate", "--model", f"{network}:x2", "--yes", "--pairs", pairs, "--metrics", "psnr"),
        "--json",
    )
    assert run.code != 0
    (failed,) = run.json["evaluation"]["failed"]
    assert failed["image"] == "1"
    assert failed["message"] == (
        "Results of scale 2 of 1.png (30 × 24 pixels) have 60 × 48, "
        "but its clear picture 1.png has 72 × 48."
    )
    assert run.json["evaluation"]["n"] == 1


@pytest.mark.parametrize(
    ("models", "words", "sentence"),
    [
        (["x2", "half"], [], "have scale 2, those of"),
        (["x2", "haze-unet"], [], "have scale 2, those of"),
        (["haze-unet"], ["--degradation", "size"], "have the size of their input"),
        (["x2"], ["--degradation", "size", "--level", "4"], "have scale 2, not 4"),
        (["x2"], ["--degradation", "noise", "--level", "15"], "have another size than its input"),
        (["x2"], ["--clear"], "not compared with results of another size"),
        ([], ["--degradation", "size"], "no scale is known"),
        ([], ["--degradation", "size", "--level", "0"], "0 is no scale"),
        ([], ["--degradation", "size", "--level", "-2"], "-2 is no scale"),
        ([], ["--degradation", "size", "--level", "0.3"], "0.3 is no scale"),
        ([], ["--degradation", "size", "--level", "1"], "1 is no scale"),
    ],
)
def test_what_cannot_be_scored_is_said(
    cli, network, pairs, models: list[str], words: list[str], sentence: str
) -> None:
    named = [m if m == "haze-unet" else f"{network}:{m}" for m in models]
    chosen = [word for name in named for word in ("--model", name)]
    run = cli("evaluate", *chosen, "--yes", "--pairs", pairs, *words)
    assert run.code == 2 and sentence in run.err


def test_of_clear_scenes_none_is_made_larger(cli, network, pairs) -> None:
    run = cli("evaluate", "--model", f"{network}:half", "--yes", "--data", pairs / "clear")
    assert run.code == 2
    assert "made smaller by a whole number, not by 0.5. Give --pairs FOLDER in place" in run.err


def test_bicubic_alone(cli, pairs) -> None:
    run = cli("evaluate", "--degradation", "size", "--level", "2", "--pairs", pairs, "--json")
    assert run.code == 0, run.err
    labels = [m["label"] for m in run.json["evaluation"]["methods"]]
    assert labels == ["input", "bicubic"]
    assert json.dumps(run.json)  # strict
