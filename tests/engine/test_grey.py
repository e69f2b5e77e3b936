"""Grey photos: a model of several bands sees the one in all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import napari_restore as nr
from napari_restore import Region


class Mixed(torch.nn.Module):
    """Changes each of three bands otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.05 * torch.tanh(self.layer(x))


@pytest.fixture
def grey(tmp_path: Path) -> Path:
    y, x = np.mgrid[:40, :56]
    values = (60 + 2 * x + y + 20 * np.sin(x * y / 40)).astype(np.uint8)
    path = tmp_path / "grey.png"
    Pillow.fromarray(values).save(path)
    return path


def test_the_mean_of_the_changes_counts(grey: Path) -> None:
    torch.manual_seed(0)
    network = Mixed().eval()
    result = nr.restore(grey, nr.load_model(network))
    stored = np.asarray(Pillow.open(grey))
    x = torch.from_numpy(stored.astype(np.float32) / 255).expand(1, 3, -1, -1)
    with torch.no_grad():
        change = (network(x) - x).mean(dim=1)[0].numpy()
    assert result.array.shape == (40, 56, 1) and result.array.dtype == np.uint8
    expected = stored + 255 * change
    np.testing.assert_allclose(np.asarray(result.array)[..., 0], expected, atol=0.51)


@pytest.mark.parametrize(
    "model", ["hot", "htm", pytest.param("hint-small-denoise", marks=pytest.mark.slow)]
)
def test_models_of_colours_run_on_grey_photos(grey: Path, model: str, tmp_path: Path) -> None:
    result = nr.restore(grey, model)
    result.save(tmp_path / "out.jpg")
    assert nr.open_image(tmp_path / "out.jpg").shape == (40, 56, 1)
    plan = nr.plan(nr.open_image(grey), model)
    assert model == "htm" or any("is grey" in str(note) for note in plan.notes)


@pytest.mark.nightly
def test_grey_photos_are_attributed(grey: Path, tmp_path: Path) -> None:
    box = Region(10, 10, 18, 18)
    found = nr.attribute(grey, "atmosphere", box=box, steps=8)
    assert np.isfinite(np.asarray(found.map)).all()
    found.save(tmp_path / "map.tif")


@pytest.mark.slow
def test_grey_brackets_are_fused(grey: Path, tmp_path: Path) -> None:
    stored = np.asarray(Pillow.open(grey)).astype(np.float32)
    paths = []
    for number, gain in enumerate((0.5, 1.0, 1.6)):
        paths.append(tmp_path / f"{number}.jpg")
        Pillow.fromarray((stored * gain).clip(0, 255).astype(np.uint8)).save(paths[-1])
    for model in ("mertens", "ipl-small"):
        fused = nr.fuse(paths, model=model, exposures=[-1, 0, 1], align="off")
        assert fused.array.shape == (40, 56, 1)
        assert 20 < np.asarray(fused.array).mean() < 235
