"""Models as files for other programs, run there by onnxruntime and PyTorch alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import napari_restore as nr
from napari_restore.errors import BadModel, BadOutput, BadParameter, BadRegion
from napari_restore.models import Exported, load
from napari_restore.sample import SAMPLE


@pytest.fixture(scope="module")
def picture() -> Any:
    """A part of the sample, (200, 264, 3) in [0, 1]."""
    pixels = np.asarray(nr.open_image(SAMPLE).levels[0])[900:1100, 1200:1464]
    return pixels.astype(np.float32) / 255


def restored(image: Any, model: Any) -> Any:
    return np.asarray(nr.restore(image, model, tile=64, white=1.0, black=0.0))


def by_onnxruntime(path: Any, inputs: dict[str, Any]) -> Any:
    """The image (h, w, 3) that a file makes."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["restored"], inputs)[0][0].transpose(1, 2, 0)


class Blur(torch.nn.Module):
    """A network of someone else, two pixels around."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 3, 5, padding=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.1 * self.conv(x)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["atmosphere", "haze-unet"])
def test_what_takes_a_context_equals_a_run_in_tiles(tmp_path, picture, name):
    path = tmp_path / "net.onnx"
    made = nr.export_model(name, path)
    assert made["difference"] <= 1e-4
    assert list(made["inputs"]) == ["image", "haze", "numbers"]
    whole = restored(picture, name)
    np.testing.assert_allclose(
        by_onnxruntime(path, nr.exported_inputs(name, picture)), whole, atol=1e-4
    )
    # A part with its halo, as another program would cut it.
    box = (40, 64, 136, 192)
    part = by_onnxruntime(path, nr.exported_inputs(name, picture, box))
    halo = 24
    inner = part[halo:-halo, halo:-halo]
    wanted = whole[box[0] + halo : box[2] - halo, box[1] + halo : box[3] - halo]
    np.testing.assert_allclose(inner, wanted, atol=1e-4)
    assert np.abs(whole - picture).max() > 0.05
    with pytest.raises(BadModel, match=f"is {name} with its context as inputs"):
        load(path)


@pytest.mark.slow
def test_hint_small_as_a_model_of_ones_own_equals_its_sweeps(tmp_path, picture):
    path = tmp_path / "noise.onnx"
    nr.export_model("hint-small-denoise", path)
    whole = restored(picture, "hint-small-denoise")
    model = nr.load_model(path, card={"multiple_of": 8, "bands": 3})
    again = np.asarray(nr.restore(picture, model, tile="whole", white=1.0, black=0.0))
    np.testing.assert_allclose(again, whole, atol=1e-4)
    np.testing.assert_allclose(
        by_onnxruntime(path, nr.exported_inputs("hint-small-denoise", picture)), whole, atol=1e-4
    )


@pytest.mark.slow
def test_ipl_small_of_one_size(tmp_path):
    with pytest.raises(BadParameter, match=r"one size only.*size=512"):
        nr.export_model("ipl-small", tmp_path / "fuse.onnx")
    made = nr.export_model("ipl-small", tmp_path / "fuse.onnx", size=64)
    assert made["difference"] <= 1e-4 and made["inputs"] == {"image": [1, 9, 64, 64]}


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_network_of_ones_own_goes_out_and_in_again(tmp_path, picture, suffix):
    model, path = nr.load_model(Blur()), tmp_path / f"net{suffix}"
    made = nr.export_model(model, path)
    again = nr.load_model(path, trust=True)
    assert made["difference"] <= 1e-6 and again.card.halo == 2
    np.testing.assert_allclose(restored(picture, again), restored(picture, model), atol=1e-6)


@pytest.mark.slow
def test_the_file_says_what_it_is(tmp_path):
    path = tmp_path / "net.onnx"
    made = nr.export_model(Blur(), path, size=64)
    said = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert said == made["metadata"]
    assert said["napari_restore.model"] == "Blur" and said["napari_restore.halo"] == "2"
    assert len(said["napari_restore.weights_sha256"]) == 64
    # What QGIS's Deepness reads, as JSON.
    assert json.loads(said["model_type"]) == "Superresolution"
    assert json.loads(said["tile_size"]) == 64 and json.loads(said["tiles_overlap"]) == 25
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == session.get_outputs()[0].shape == [1, 3, 64, 64]


@pytest.mark.slow
def test_the_pt2_says_the_same(tmp_path):
    made = nr.export_model(Blur(), tmp_path / "net.pt2", size=64)
    extra = {"napari_restore.json": ""}
    torch.export.load(tmp_path / "net.pt2", extra_files=extra)
    assert json.loads(extra["napari_restore.json"]) == made["metadata"]


@pytest.mark.slow
def test_a_file_that_differs_is_not_kept(tmp_path, monkeypatch):
    class Other(Blur):
        pass

    model = load(Other())
    right = model.exported()
    wrong = Exported(Blur(), right.planes)
    torch.nn.init.ones_(wrong.module.conv.weight)
    monkeypatch.setattr(type(model), "exported", lambda self: wrong)
    with pytest.raises(BadModel, match=r"differs from the model by \d.*not kept"):
        nr.export_model(model, tmp_path / "net.onnx", size=64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("model", "name", "size", "error", "sentence"),
    [
        ("dcp", "a.onnx", None, BadModel, "dcp cannot be exported: it computes pixels from"),
        ("haze-unet", "a.tif", None, BadOutput, r"must end in \.onnx or \.pt2"),
        ("haze-unet", "no/a.onnx", None, BadOutput, "no folder"),
        ("haze-unet", "there.onnx", None, BadOutput, "exists already"),
        ("haze-unet", "a.onnx", 100, BadParameter, r"multiples of 8 pixels.*size=104"),
        ("haze-unet", "a.onnx", 8000, BadParameter, "16 to 4096"),
        ("haze-unet", "a.onnx", "64", BadParameter, "no whole number"),
    ],
)
def test_bad_input(tmp_path, model, name, size, error, sentence):
    (tmp_path / "there.onnx").write_text("x")
    with pytest.raises(error, match=sentence):
        nr.export_model(model, tmp_path / name, size=size)
    assert [path.name for path in tmp_path.iterdir()] == ["there.onnx"]


@pytest.mark.parametrize(
    ("box", "sentence"),
    [
        ((300, 300, 400, 400), r"no pixel of the image of 264 × 200"),
        ((9, 9, 9, 9), "no pixel"),
        ((1, 2, 3), "no box"),
    ],
)
def test_boxes_without_pixels(picture, box, sentence):
    with pytest.raises(BadRegion, match=sentence):
        nr.exported_inputs("haze-unet", picture, box)
