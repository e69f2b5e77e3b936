"""`attribute` through what the sweeps of a model count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from safetensors.torch import save_file
from tests.models.hint.test_network import network

from napari_restore.records import read_record

BOX = ("--box", "20", "30", "16", "16")


@pytest.fixture
def weights(tmp_path: Path, measured_on: Callable[..., None]) -> Path:
    """A network of the smallest sizes, whose tiles are tried on small ones."""
    measured_on(32, 48, gradients=16)
    state = network({"cache_rounding": "none"}, width=4, latent=1).float().state_dict()
    path = tmp_path / "tiny.safetensors"
    small = {name: each * 0.5 if each.ndim > 1 else each for name, each in state.items()}
    save_file({name: each.contiguous() for name, each in small.items()}, path)
    return path


@pytest.mark.nightly
def test_a_map_through_sweeps_has_its_record_and_is_repeated(
    cli: Any, scene: Path, weights: Path, tmp_path: Path
) -> None:
    words = ("attribute", scene, *BOX, "--model", "hint-small", "--weights", weights)
    words += ("--device", "cpu", "--steps", "2", "--bands", "red=1,green=2,blue=3")
    out, record, again = tmp_path / "a.tif", tmp_path / "a.json", tmp_path / "again.tif"
    run = cli(*words, "-o", out, "--record", record, "--context-gradient", "through")
    assert run.code == 0, run.err
    assert "gradient through the context (requested): " in run.out
    saved: Any = read_record(record)
    attribution = saved["attribution"]
    assert (attribution["method"], attribution["path"]) == ("ig", "straight")
    assert "blurred" in attribution["baseline"] and len(attribution["nodes"]) == 2
    assert attribution["completeness"]["relative_gap"] is not None
    assert attribution["context"]["used"] == "through" and attribution["routing"] == "fixed"
    assert saved["model"]["id"] == "hint-small" and len(saved["model"]["weights_sha256"]) == 64
    assert saved["plan"]["predicted_peak_ram_bytes"] > saved["measured"]["idle_ram_bytes"]
    assert saved["task"]["question"]["context_gradient"] == "through"
    assert cli("rerun", record, "-o", again).code == 0
    with rasterio.open(out) as one, rasterio.open(again) as other:
        values = one.read()
        assert np.array_equal(values, other.read())
        # The sum over the bands, and they; all of the image counts.
        assert values.shape == (4, 160, 200) and values[0, :, 180:].any()
    assert not (tmp_path / "a_overview.tif").exists()
