"""How far a map is from that of many points: what is told of it, against what is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import torch
from tests.explain._models import Small, scene, wrapped
from torch import Tensor, nn

import napari_restore as nr
from napari_restore import Region, api
from napari_restore.explain import attribute
from napari_restore.explain.attribution._sums import BINS, sketched
from napari_restore.explain.attribution.quadrature import NESTED, clenshaw_curtis, fejer

BOX = Region(14, 18, 30, 34)
CC = "clenshaw-curtis"


class Smooth(nn.Module):
    """Convolutions with curves between them, and a largest value of neighbours."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        inner = nn.functional.gelu(self.a(4 * x))
        y: Tensor = x + self.b(nn.functional.max_pool2d(inner, 3, 1, 1))
        return y


def ask(module: nn.Module, pixels: Any = None, **options: Any) -> Any:
    image = nr.open_image(scene(48, 56) if pixels is None else pixels)
    given = {"device": "cpu", "method": "ig", "baseline": "zero", **options}
    return attribute(image, wrapped(module), BOX, **given)


def told(found: Any) -> Any:
    return found.record["attribution"]["completeness"]


def apart(one: Any, other: Any) -> float:
    first, second = (each.map.sum(axis=2, dtype=float) for each in (one, other))
    return float(np.linalg.norm(first - second) / np.linalg.norm(second))


@pytest.mark.parametrize("network", [Small, Smooth])
def test_the_error_that_is_told_is_the_measured_one_within_a_factor_of_two(network: Any) -> None:
    fine = ask(network(), steps=257, rule=CC)
    for points in NESTED:
        found = ask(network(), steps=points, rule=CC)
        measured = apart(found, fine)
        assert measured / 2 < told(found)["map_error"] < 2 * measured, points


def test_automatic_steps_stop_where_the_map_is_known_too() -> None:
    found = ask(Small(), gap=0.02)
    error, points = told(found)["map_error"], len(found.record["attribution"]["nodes"])
    assert told(found)["reached"] and told(found)["map_settled"] and error <= 0.1
    coarse = ask(Small(), steps=points // 2 + 1, rule=CC)
    assert told(coarse)["map_error"] > 0.1 or told(coarse)["relative_gap"] > 0.02
    # As many points by name are the same map.
    same = ask(Small(), steps=points, rule=CC)
    assert same.map.tobytes() == found.map.tobytes() and told(same)["map_error"] == error
    assert told(ask(Small(), steps=8))["map_error"] is None


def test_a_record_made_by_the_gap_alone_gives_the_same_map(tmp_path: Path) -> None:
    path = tmp_path / "scene.tif"
    tifffile.imwrite(path, scene(48, 56), photometric="rgb")
    found = nr.attribute(path, "haze-unet", box=BOX, method="ig", gap=10.0, device="cpu")
    record = found.record
    assert len(record["attribution"]["nodes"]) == NESTED[0]
    for name in ("map_error", "map_settled"):
        del record["attribution"]["completeness"][name]
    # More points would be taken today.
    record["task"]["question"]["gap"] = 1e-9
    again = api.repeat_attribution(record, device="cpu")
    assert again.map.tobytes() == found.map.tobytes()


def test_a_rule_is_halved_where_the_next_has_its_nodes() -> None:
    for rule in (*map(clenshaw_curtis, NESTED), *(fejer(count - 2) for count in NESTED)):
        half = rule.halved()
        assert half is not None and half.weights.sum() == pytest.approx(1)
        assert set(half.nodes) < set(rule.nodes)
    assert clenshaw_curtis(7).halved() is None


def values(region: Region, seed: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(1, 2, *region.shape)).astype(np.float32)


def test_a_sketch_keeps_the_length_of_a_map_in_whatever_parts_it_comes() -> None:
    for region, far in ((Region(5, 7, 69, 71), 1e-6), (Region(5, 7, 305, 407), 0.07)):
        assert (region.pixels <= BINS) == (far < 0.01)
        whole = values(region, 0)
        found = sketched(region, region, torch.from_numpy(whole))
        length = np.linalg.norm(whole.sum(axis=1))
        assert np.linalg.norm(found) == pytest.approx(length, rel=far)
        parts = [Region(5, 7, 30, region.x1), Region(30, 7, region.y1, region.x1)]
        pieces = [whole[(..., *part.within(region))] for part in parts]
        summed = sum(
            sketched(region, part, torch.from_numpy(piece))
            for part, piece in zip(parts, pieces, strict=True)
        )
        assert np.allclose(summed, found)
