"""Factors of a cell: each is what the network itself multiplied its features with."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.models.ipl.test_network import bracket, network
from torch import Tensor, nn

from napari_restore.models import AttentionRow, SweepInput, pad_to_multiple, placed_at, run_steps
from napari_restore.models.ipl.network import IplNetwork
from napari_restore.models.ipl.sweeps import Ipl

SIZE = (90, 301)
CORNER = (0, 256)
"""Of the second tile. It has a part of a block, at the right edge of the image."""
PIXELS = [(33, 275), (0, 256), (89, 300)]
BLOCKS = 3


def model_of(values: dict[str, Any] | None = None, **sizes: int) -> IplNetwork:
    return network(values, shared=0, **sizes)


def inputs(model: Any, x: Tensor) -> dict[str, tuple[Any, SweepInput, tuple[int, int]]]:
    """Every sweep with what it sees of the second tile, and the corner of its box."""
    known = run_steps(model.steps(), x, {})[1]
    found, maps = {}, {}
    strides = {each.name: each.stride for step in model.steps() for each in step.writes}
    for step in model.steps():
        read = {name: maps[name] for name in step.reads}
        y, left = CORNER[0], CORNER[1] - step.halo
        cut = {name: each[..., left // strides[name] :] for name, each in read.items()}
        here = placed_at(known, [(y, left)], 1.0, x)
        view = x[..., left:] if step.sees_image else None
        found[step.name] = step, SweepInput(view, cut, here, frozenset()), (y, left)
        given = SweepInput(x, read, placed_at(known, [(0, 0)], 1.0, x), frozenset())
        maps |= {each.name: step.run(given)[each.name] for each in step.writes}
    return found


class Seen:
    """First inputs and outputs of modules while a sweep runs."""

    def __init__(self, *modules: nn.Module) -> None:
        self._modules = modules

    def run(self, step: Any, given: SweepInput) -> list[tuple[Tensor, Tensor]]:
        seen: list[tuple[Tensor, Tensor]] = []
        handles = [
            module.register_forward_hook(lambda _, x, y: seen.append((x[0][0], y[0])))
            for module in self._modules
        ]
        step.run(given)
        for handle in handles:
            handle.remove()
        return seen


def row_at(
    model: Any, found: tuple[Any, SweepInput, tuple[int, int]], name: str, pixel: tuple[int, int]
) -> AttentionRow:
    step, given, (y, x) = found
    row = model.attention_rows(step.name, given, (pixel[0] - y, pixel[1] - x), frozenset([name]))
    return row[name]


def product(row: AttentionRow) -> Tensor:
    return (row.numbers["factors"] * row.numbers["features"]).sum(0)


@pytest.mark.parametrize(
    "values",
    [{}, {"kept": "int8"}, {"cache": "positional", "turns": "mixnet"}],
    ids=["float", "int8", "cubes in 8 bits"],
)
@pytest.mark.parametrize("sizes", [{"mixes": 0}, {"mixes": 1, "curves": 1}], ids=["gate", "mixes"])
def test_factors_times_features_are_what_the_sweeps_compute(
    values: dict[str, Any], sizes: dict[str, int]
) -> None:
    model = model_of(values, **sizes)
    x = pad_to_multiple(bracket(*SIZE), 4)
    found = inputs(model, x)
    for block in range(BLOCKS):
        mine = found[f"block{block + 1}"]
        following = found[f"block{block + 2}" if block + 1 < BLOCKS else "fuse"]
        ((seen, attended),) = Seen(model.attention[block]).run(*mine[:2])
        if block + 1 < BLOCKS:
            ((related, _),) = Seen(model.attention[block + 1]).run(*following[:2])
        else:
            last = model.mix if sizes["mixes"] else model.up
            ((related, _),) = Seen(last).run(*following[:2])
            seen_there = model.seen(following[1].view, None, following[1].statistics.get("curves"))
            related = related - model.features(seen_there)[0]
            related = related[..., (CORNER[1] - following[2][1]) // 4 :]
        for pixel in PIXELS:
            at = pixel[0] // 4, (pixel[1] - CORNER[1]) // 4
            row = row_at(model, mine, f"attention.{block + 1}", pixel)
            assert row.query == ((pixel[0] - mine[2][0]) // 4, (pixel[1] - mine[2][1]) // 4)
            assert row.cells.tolist() == [[list(row.query)]] * 3
            torch.testing.assert_close(row.numbers["features"], seen[:, *at], rtol=0, atol=1e-9)
            torch.testing.assert_close(product(row), attended[:, *at], rtol=0, atol=1e-9)
            cube = row_at(model, following, f"cubes.{block + 1}", pixel)
            # D is rounded where it is kept in 8 bits.
            torch.testing.assert_close(product(cube), related[:, *at], rtol=1e-9, atol=1e-9)
            for each in (row, cube):
                mean = each.numbers["factors"].mean(1, keepdim=True)
                torch.testing.assert_close(each.weights, mean.float())
    assert float((product(cube) - product(row)).abs().max()) > 1e-3


def test_a_cell_beyond_whole_blocks_is_left_out() -> None:
    model = model_of()
    found = inputs(model, pad_to_multiple(bracket(*SIZE), 4))
    row = row_at(model, found["block1"], "attention.1", (33, 253))
    assert row.weights.shape == (3, 1) and (row.weights == 0).all() and (row.cells == -1).all()
    assert row.numbers["factors"].shape == (3, 16)


def test_sites_are_slices_and_cubes_in_turn() -> None:
    model = model_of()
    sites = model.attention_sites()
    assert [(site.name, site.step) for site in sites] == [
        ("attention.1", "block1"),
        ("cubes.1", "block2"),
        ("attention.2", "block2"),
        ("cubes.2", "block3"),
        ("attention.3", "block3"),
        ("cubes.3", "fuse"),
    ]
    assert isinstance(model, Ipl)
    assert {site.step for site in sites} <= {step.name for step in model.steps()}
    assert {site.kind for site in sites} == {"gate"} and {site.stride for site in sites} == {4}
    assert sites[0].heads == ("channels", "columns", "rows") and sites[1].heads == ("cube",)
    # Readings that average have no sweeps.
    assert network({"reading": "R1"}).attention_sites() == ()


def test_only_named_sites_are_computed() -> None:
    model = model_of()
    found = inputs(model, pad_to_multiple(bracket(*SIZE), 4))
    _, given, _ = found["block2"]
    assert set(model.attention_rows("block2", given, (3, 3), frozenset(["cubes.1"]))) == {"cubes.1"}
    assert model.attention_rows("block2", given, (3, 3), frozenset(["attention.1"])) == {}


def test_the_rows_of_a_cell_read_its_own_slices_only() -> None:
    model = model_of()
    slices, generator = model.attention[0], torch.Generator().manual_seed(0)
    x = torch.randn(1, 16, 70, 90, generator=generator, dtype=torch.float64)
    expected = slices.factors_at(x, (66, 30))
    changed = x + 1
    changed[..., 66, :64] = x[..., 66, :64]
    changed[..., 64:, 30] = x[..., 64:, 30]
    torch.testing.assert_close(slices.factors_at(changed, (66, 30)), expected)
    changed[..., 66, 63] += 1
    apart = (slices.factors_at(changed, (66, 30)) - expected).abs().amax(1)
    assert (apart > 1e-6).tolist() == [False, True, False]
