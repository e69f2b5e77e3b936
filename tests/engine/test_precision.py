"""Precision: what "auto" chooses, and that pixels do not depend on tiles in bfloat16 either."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from points import patience
from torch import nn

import napari_restore as nr
from napari_restore import errors
from napari_restore.engine import choose_device
from napari_restore.engine.machine.device import Device
from napari_restore.engine.machine.precision import computing
from napari_restore.engine.planning.decided import TileInvariance
from napari_restore.engine.planning.tile_invariance import tile_invariance

PICTURE = np.random.default_rng(0).integers(30, 250, (300, 340, 3), np.uint8)
RGB = "red=1,green=2,blue=3"


@pytest.fixture
def with_bfloat16(monkeypatch):
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True, raising=False)


def precision_of(pixels, model, **options):
    plan = nr.plan(pixels, model, bands=RGB, device="cpu", **options)
    return plan.computing.precision, plan.notes


@pytest.mark.nightly
def test_auto_is_bfloat16_for_8_bits_where_the_card_says_it_is_close(with_bfloat16):
    chosen, notes = precision_of(PICTURE, "haze-unet", precision="auto")
    assert chosen == "bfloat16"
    assert any("bfloat16" in note for note in notes)
    for pixels in (PICTURE.astype(np.uint16), PICTURE / np.float32(255)):
        assert precision_of(pixels, "haze-unet", precision="auto")[0] == "float32"
    for name in ("dcp", "andehazeformer-small"):
        chosen, notes = precision_of(PICTURE, name, precision="auto")
        assert chosen == "float32" and not any("bfloat16" in note for note in notes)


def test_the_default_is_float32(with_bfloat16):
    assert precision_of(PICTURE, "haze-unet")[0] == "float32"


def test_auto_is_float32_where_the_processor_lacks_it(monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert precision_of(PICTURE, "haze-unet", precision="auto")[0] == "float32"


@pytest.mark.slow
@pytest.mark.nightly
def test_the_plan_and_the_record_contain_what_was_chosen(with_bfloat16, tmp_path):
    chosen = nr.plan(PICTURE, "haze-unet", bands=RGB, device="cpu", precision="auto")
    asked = nr.plan(PICTURE, "haze-unet", bands=RGB, device="cpu", precision="bfloat16")
    plain = nr.plan(PICTURE, "haze-unet", bands=RGB, device="cpu")
    assert chosen.key == asked.key != plain.key
    result = nr.start(chosen, fresh=True).result()
    assert result.record["plan"]["precision"] == "bfloat16"
    exact = nr.start(plain, fresh=True).result()
    steps = np.abs(np.asarray(result).astype(int) - np.asarray(exact))
    assert steps.max() <= 3 and np.quantile(steps, 0.99) <= 1


def test_an_unknown_precision_is_refused():
    with pytest.raises(errors.BadParameter, match="no precision 'int8'"):
        precision_of(PICTURE, "haze-unet", precision="int8")
    with pytest.raises(errors.BadParameter, match="does not compute in bfloat16"):
        precision_of(PICTURE, "dcp", precision="bfloat16")


class FollowsShapeInBfloat16(nn.Module):
    """Its kernels follow the shape in one precision only."""

    def forward(self, x):
        step = 1e-3 if torch.is_autocast_enabled("cpu") else 0.0
        return 0.9 * x + step * (x.shape[-1] % 7)


@pytest.mark.measured
def test_invariance_is_measured_in_the_precision_of_the_run(own_cache):
    card = {"id": "two-faced", "title": "Toy", "summary": "", "bands": 3, "halo": 8}
    card["precisions"] = ["float32", "bfloat16"]
    model = nr.load_model(FollowsShapeInBfloat16(), card=card)
    device = choose_device("cpu")
    assert tile_invariance(model, device, 8) is TileInvariance.FULL
    assert tile_invariance(model, device, 8, "bfloat16") is TileInvariance.FIXED_TILES


@pytest.mark.parametrize("options", [{"tile": 128}, {"tile": 256, "tile_batch": 2}], ids=str)
@pytest.mark.slow
@pytest.mark.ids("nightly", "{'tile': 256, 'tile_batch': 2}")
def test_tiled_equals_whole_in_bfloat16(options):
    def pixels(**cut):
        plan = nr.plan(PICTURE, "haze-unet", bands=RGB, device="cpu", precision="bfloat16", **cut)
        return np.asarray(nr.start(plan, fresh=True).result())

    np.testing.assert_array_equal(pixels(**options), pixels(tile=1024))


def test_float32_on_a_gpu_is_not_tf32():
    conv, product = torch.backends.cudnn, torch.backends.cuda.matmul
    before = conv.allow_tf32, product.allow_tf32
    conv.allow_tf32, product.allow_tf32 = True, False
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with computing(Device("cuda", ""), "float32"):
            entered.set()
            leave.wait(patience())

    try:
        with computing(Device("cpu", ""), "float32"):
            assert conv.allow_tf32
        with computing(Device("cuda", ""), "float32"):
            assert not conv.allow_tf32
            thread = threading.Thread(target=other)
            thread.start()
            assert entered.wait(patience())
        # The other thread still computes.
        assert not conv.allow_tf32
        leave.set()
        thread.join()
        assert (conv.allow_tf32, product.allow_tf32) == (True, False)
    finally:
        leave.set()
        conv.allow_tf32, product.allow_tf32 = before


@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="from PyTorch 2.9 on"
)
def test_a_program_that_set_the_newer_switches_of_tf32_keeps_them():
    conv, product = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = conv.fp32_precision, product.fp32_precision
    try:
        # Then the older ones cannot be read.
        conv.fp32_precision, product.fp32_precision = "ieee", "tf32"
        with computing(Device("cuda", ""), "float32"):
            assert (conv.fp32_precision, product.fp32_precision) == ("ieee", "ieee")
        assert (conv.fp32_precision, product.fp32_precision) == ("ieee", "tf32")
    finally:
        conv.fp32_precision, product.fp32_precision = before
