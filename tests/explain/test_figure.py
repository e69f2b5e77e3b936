"""Figures hold what is needed to ask again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.explain._models import Small, scene, wrapped

import napari_restore as nr
from napari_restore.errors import BadOutput, BadParameter
from napari_restore.explain import Attribution, draw
from napari_restore.explain._figure import caption

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def found() -> Attribution:
    box = (40, 60, 56, 84)
    return nr.attribute(scene(), wrapped(Small()), box, method="ig", device="cpu")


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_every_format_holds_the_caption(found: Attribution, tmp_path: Path, suffix: str) -> None:
    path = draw(found, tmp_path / f"figure{suffix}")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    if suffix == ".png":
        with Image.open(path) as drawn:
            assert drawn.width == pytest.approx(180 / 25.4 * 300, abs=2)
            assert drawn.info["Description"] == caption(found.record)
            assert len(np.unique(np.asarray(drawn.convert("L")))) > 100
    elif suffix == ".svg":
        assert "not why" in path.read_text(encoding="utf-8")


def test_the_caption_says_what_was_asked(found: Attribution) -> None:
    text = caption(found.record)
    told = found.record["attribution"]
    for word in ("mine", "x 60 y 40, 24 x 16", "change", "straight", "blurred", "clenshaw-curtis"):
        assert word in text
    assert f"{told['diffusion_index']:.2f}" in text
    lacking: dict[str, Any] = {**told["completeness"], "relative_gap": 0.2, "reached": False}
    record = {**found.record, "attribution": {**told, "completeness": lacking}}
    assert "NOT complete" in caption(record)


def test_what_cannot_be_drawn(found: Attribution, tmp_path: Path) -> None:
    with pytest.raises(BadOutput, match="no figure"):
        draw(found, tmp_path / "figure.gif")
    with pytest.raises(BadParameter, match="exponent"):
        draw(found, tmp_path / "figure.png", exponent=0)
    taken = tmp_path / "figure.png"
    taken.write_text("mine")
    with pytest.raises(BadOutput, match="exists"):
        draw(found, taken)
    assert taken.read_text() == "mine"
    with pytest.raises(BadOutput, match="cannot be written"):
        draw(found, tmp_path / "no" / "figure.png")
