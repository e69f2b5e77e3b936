"""`--bit-depth 16`: a photo of 8 bits gets what the method computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from tests.models.test_mertens import as_input, frames

import napari_restore as nr
from napari_restore.engine import Region
from napari_restore.images import in_8_bits
from napari_restore.models import for_frames

pytestmark = pytest.mark.slow

CODE = """
import torch

class Net(torch.nn.Module):
    def forward(self, x):
        return 0.9 * x

def make():
    return Net()
"""
DEEP = ("--bit-depth", "16")


def written(path: Path) -> np.ndarray:
    image = nr.open_image(path)
    return image.read(Region(0, 0, image.height, image.width))


@pytest.fixture
def pixels() -> np.ndarray:
    """A smooth picture, (h, w, 3)."""
    across = np.linspace(0, 255, 620)[None, :, None]
    down = np.linspace(0.5, 1, 530)[:, None, None]
    return np.rint(across * down * np.array([1.0, 0.95, 0.8])).astype(np.uint8)


@pytest.fixture
def words(tmp_path: Path, pixels: np.ndarray) -> list[Any]:
    """A command with a module that is known."""
    Pillow.fromarray(pixels).save(tmp_path / "photo.png")
    (tmp_path / "net.py").write_text(CODE, "utf-8")
    model = f"{tmp_path / 'net.py'}:make"
    return ["restore", tmp_path / "photo.png", "--model", model, "--yes", "--tile", "256"]


@pytest.mark.nightly
def test_files_and_records_have_16_bits(
    cli: Any, tmp_path: Path, words: list[Any], pixels: np.ndarray
):
    out, record = tmp_path / "o.tif", tmp_path / "r.json"
    run = cli(*words, "-o", out, *DEEP, "--record", record)
    assert run.code == 0, run.err
    exact = 0.9 * 257 * pixels.astype(np.float64)
    assert np.abs(written(out) - exact).max() < 0.51
    again = tmp_path / "again.tif"
    assert cli("rerun", record, "-o", again, "--yes").code == 0
    assert again.read_bytes() == out.read_bytes()
    # With tiles that would go to the file itself, and with few bits afterwards.
    for name, more in (("o.zarr", DEEP), ("o.png", ())):
        run = cli(*words, "-o", tmp_path / name, *more)
        assert run.code == 0, run.err
    assert np.array_equal(written(tmp_path / "o.zarr"), written(out))
    assert np.array_equal(written(tmp_path / "o.png"), in_8_bits(written(out)))


@pytest.mark.nightly
def test_workers_of_a_cluster_leave_16_bits(cli: Any, tmp_path: Path, words: list[Any]):
    distributed = pytest.importorskip("distributed")
    assert cli(*words, "-o", tmp_path / "alone.tif", *DEEP).code == 0
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0", protocol="tcp"
    ) as cluster:
        address = ("--cluster", f"insecure+{cluster.scheduler_address}")
        run = cli(*words, "-o", tmp_path / "spread.tif", *DEEP, *address)
    assert run.code == 0, run.err
    assert (tmp_path / "alone.tif").read_bytes() == (tmp_path / "spread.tif").read_bytes()


def test_brackets_of_8_bits_are_fused_to_16(cli: Any, tmp_path: Path):
    folder, out = tmp_path / "bracket", tmp_path / "fused.tif"
    folder.mkdir()
    bracket = np.rint(frames(150, 170) * 255).astype(np.uint8)
    for number, frame in enumerate(bracket):
        Pillow.fromarray(frame).save(folder / f"{number}.png")
    words = ("fuse", folder, "--align", "off", "-o")
    run = cli(*words, out, *DEEP)
    assert run.code == 0, run.err
    # The method itself, on all pixels at once.
    model = for_frames(nr.load_model("mertens"), 3, 1, (), (), 1 / 255)
    exact = model(as_input(bracket / np.float32(255)))[0].permute(1, 2, 0).double().numpy()
    fused = written(out)
    assert fused.dtype == np.uint16
    assert np.abs(fused - 65535 * exact.clip(0, 1)).max() < 1
    assert (fused % 257 != 0).mean() > 0.9
    assert cli(*words, tmp_path / "8.png").code == 0
    assert np.array_equal(written(tmp_path / "8.png"), in_8_bits(fused))
