"""Maps that do not fit memory: sums on disk, paths made box by box, read in strips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from tests.engine._staged_model import ToyStaged
from tests.explain._models import scene

from napari_restore import Region, api, open_image
from napari_restore.engine import as_json, from_json
from napari_restore.engine.machine import Device
from napari_restore.explain import Attribution, OverviewShares, attribute
from napari_restore.explain.attribution import (
    _attribution,
    _attribution_run,
    _baselines,
    _sums,
)
from napari_restore.explain.attribution._baselines import PathInputs, Recent

BOX = Region(120, 100, 150, 140)


def ask(tmp_path: Path, **options: Any) -> Any:
    # As a module of its own, so that the second question does not find the first one's plan.
    return attribute(
        open_image(scene(200, 260)), ToyStaged(), BOX, scratch=tmp_path, device="cpu", **options
    )


@pytest.mark.parametrize(
    "options",
    [
        {"baseline": "blur"},
        pytest.param({"baseline": "zero"}, marks=pytest.mark.slow),
        pytest.param({"method": "haze"}, marks=pytest.mark.slow),
    ],
)
def test_on_disk_it_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    options = {"method": "ig", "steps": 3, **options}
    small = ask(tmp_path, **options)
    for module, name, value in (
        (_attribution_run, "SMALL", 0),
        (_attribution, "LARGEST", 0),
        (_attribution, "STRIP", 1000),
        (_sums, "ROWS", 128),
        (_sums, "COLUMNS", 96),
    ):
        monkeypatch.setattr(module, name, value)
    large = ask(tmp_path, **options)
    kept = list(tmp_path.glob("attribution-*"))
    assert len(kept) == 1
    assert not isinstance(large.map, np.ndarray)
    assert np.allclose(large.map.compute(), small.map, atol=1e-9, rtol=1e-5)
    for name in ("diffusion_index", "identity_share"):
        one, other = (found.record["attribution"][name] for found in (small, large))
        assert other == pytest.approx(one, rel=1e-4)
    # As a window opens it, whose child has computed it.
    shares = OverviewShares(np.arange(12, dtype=np.float32).reshape(2, 2, 3), 4, (8, 0))
    data = as_json(replace(large, overview=shares).to_parts(), tmp_path)
    parts = from_json(data, tmp_path, api.message_types())
    opened = Attribution.of_parts(parts, large.image, large.picture)
    np.testing.assert_array_equal(opened.map.compute(), large.map.compute())
    assert opened.record == large.record and opened.overview.corner == (8, 0)
    np.testing.assert_array_equal(opened.overview.values, shares.values)
    for name in ("map.npy", "map.npz"):
        read = np.load(large.save(tmp_path / name))
        array = read if name == "map.npy" else read["map"]
        np.testing.assert_array_equal(array, large.map.compute())
    out = large.save(tmp_path / "map.tif")
    with rasterio.open(out) as written:
        assert np.allclose(written.read(1), small.map.sum(axis=2), atol=1e-7)
    del large
    assert kept[0].exists() and opened.read(opened.window).any()
    del opened
    assert not kept[0].exists()


def test_a_baseline_is_read_once_while_its_box_is_recent() -> None:
    read: list[Region] = []

    def planes(box: Region) -> torch.Tensor:
        read.append(box)
        return torch.full((1, 3, *box.shape), float(box.x0))

    first, second, third = (Region(0, x, 10, x + 10) for x in (0, 10, 20))
    recent = Recent(planes, 2 * 1200)
    for box in (first, second, first, third, first):
        np.testing.assert_array_equal(recent(box), planes(box))
        read.pop()
    assert read == [first, second, third]
    recent(second)
    assert read == [first, second, third, second]
    large = Region(0, 0, 100, 100)
    assert recent(large).shape == recent(large).shape == (1, 3, 100, 100)
    assert read[-2:] == [large, large]


@pytest.mark.parametrize(("device", "most"), [("cpu", 2**30), ("cuda", 2**28)])
def test_on_an_accelerator_less_of_a_baseline_is_kept(device: str, most: int) -> None:
    """Twenty parts of 64 MiB; the budget is of the processor's memory."""
    parts = [Region(0, 16 * n, 16, 16 * n + 16) for n in range(20)]
    read: list[Region] = []

    def planes(box: Region) -> torch.Tensor:
        read.append(box)
        return torch.zeros(1).expand(2**24)

    source: Any = SimpleNamespace(
        plan=SimpleNamespace(memory=64 * 2**30, device=Device(device, ""))
    )
    inputs = PathInputs(source, parts[0], planes, lambda _: source, is_small=False)
    recent = inputs.in_memory(planes)
    for part in (*parts, *reversed(parts)):
        recent(part)
    assert len(read) == 2 * len(parts) - most // 2**26


def test_the_blur_of_a_tile_is_computed_once_for_a_backward_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_attribution_run, "SMALL", 0)
    boxes: list[Region] = []
    blurred = _baselines.blurred

    def counted(image: Any, box: Region, *rest: Any) -> Any:
        boxes.append(box)
        return blurred(image, box, *rest)

    monkeypatch.setattr(_baselines, "blurred", counted)
    ask(tmp_path, method="ig", steps=3, baseline="blur")
    # What is small enough stays for all points.
    assert len(boxes) == len(set(boxes))
