"""Rows of channel attention: matrices and maps are those that the network itself used."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.models.hint.test_network import network, picture
from tests.models.hint.test_sweeps import counted
from torch import Tensor
from torch.nn import functional

from napari_restore.models import AttentionRow, Statistics, SweepInput, run_steps
from napari_restore.models.hint.attention import HierarchicalAttention
from napari_restore.models.hint.blocks import cells_valid
from napari_restore.models.hint.config import LEVEL_OF
from napari_restore.models.hint.model import (
    Hint,
    entropy_of,
    logit_map,
    projected_parts,
    similarities,
)
from napari_restore.models.hint.sweeps import layer_statistics_of

SIZE = (40, 56)
PIXEL = (21, 34)
Box = tuple[slice, slice]
ALL_OF_IT = (slice(0, 40), slice(0, 56))
BOX = (slice(8, 40), slice(16, 56))
"""A tile's box at a corner of the image."""
VALUES = {"cache_rounding": "none", "intra_size": 128}


def layer_of(model: Hint, number: int) -> HierarchicalAttention:
    return list(model.blocks())[number].block.attn


def inputs(
    model: Hint, x: Tensor, known: Statistics, box: Box = ALL_OF_IT
) -> dict[str, SweepInput]:
    """What every sweep sees of a box, once all is known."""
    strides = {each.name: each.stride for step in model.steps() for each in step.writes}
    found: dict[str, SweepInput] = {}
    maps: dict[str, Tensor] = {}
    for step in model.steps():
        read = {name: maps[name] for name in step.reads}
        cut = {
            name: each[
                ..., *(slice(s.start // strides[name], s.stop // strides[name]) for s in box)
            ]
            for name, each in read.items()
        }
        found[step.name] = SweepInput(x[..., *box], cut, known, frozenset())
        maps |= step.run(SweepInput(x, read, known, frozenset()))
    return found


class Seen:
    """The queries, keys, values and output of an attention layer while `run` runs a sweep."""

    def __init__(self, layer: HierarchicalAttention) -> None:
        self._layer = layer

    def run(self, step: Any, given: SweepInput) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        outputs: list[Tensor] = []
        handles = [
            module.register_forward_hook(lambda *args: outputs.append(args[2][0]))
            for module in (self._layer.qkv_dwconv, self._layer.project_out)
        ]
        step.run(given)
        for handle in handles:
            handle.remove()
        both, out = outputs
        return *both.chunk(3), out


MODEL = network(VALUES)
ALL = frozenset(site.name for site in MODEL.attention_sites())


@pytest.fixture(scope="module")
def given() -> dict[str, SweepInput]:
    x = picture(3, *SIZE)
    return inputs(MODEL, x, counted(MODEL, x), BOX)


def row_at(given: dict[str, SweepInput], number: int) -> tuple[AttentionRow, Any]:
    """The row of the pixel in layer `number`, and the sweep that computes it."""
    step = next(each for each in MODEL.steps() if each.name == f"block{number + 1}")
    pixel = PIXEL[0] - BOX[0].start, PIXEL[1] - BOX[1].start
    ((name, row),) = MODEL.attention_rows(step.name, given[step.name], pixel, ALL).items()
    stride = next(site.stride for site in MODEL.attention_sites() if site.name == name)
    assert row.query == (pixel[0] // stride, pixel[1] // stride)
    return row, step


@pytest.mark.parametrize("number", range(6))
def test_matrices_times_values_are_the_output(given: dict[str, SweepInput], number: int) -> None:
    row, step = row_at(given, number)
    layer = layer_of(MODEL, number)
    q, k, v, out = Seen(layer).run(step, given[step.name])
    numbers, y, x = row.numbers, *row.query
    heads = [
        torch.einsum("cd,dhw->chw", numbers[f"matrix.{n}"], v[numbers[f"channels.{n}"]])
        for n in range(1, 5)
    ]
    for head, mixed in enumerate(heads):
        # V4, in the cells' places.
        alike = functional.cosine_similarity(mixed, mixed[:, y, x, None, None], dim=0)
        found = torch.full(alike.shape, torch.nan)
        cells = row.cells[head]
        found[cells[:, 0], cells[:, 1]] = row.weights[head]
        torch.testing.assert_close(found.double(), alike, rtol=0, atol=1e-5)
        assert float(found[y, x]) == pytest.approx(1, abs=1e-6)
        # V1.
        channels = numbers[f"channels.{head + 1}"]
        for name, each in (("query", q), ("key", k), ("value", v)):
            torch.testing.assert_close(numbers[name][head], each[channels, y, x].norm())
    mixed = torch.cat(heads)
    # V2, and with what the intra-layer cache adds the output of the sweep.
    parts = projected_parts(layer, mixed)
    torch.testing.assert_close(parts[:, :, y, x].norm(dim=1), numbers["contribution"])
    known = layer_statistics_of(given[step.name].statistics, number)
    added = layer.change(mixed[None], q[None], k[None], known)
    assert added is not None
    added = layer.project_out(added)[0]
    torch.testing.assert_close(added[:, y, x].norm(), numbers["modulator"])
    torch.testing.assert_close(parts.sum(0) + added, out, rtol=0, atol=1e-9)
    ((_, put_out),) = MODEL.attention_outputs(step.name, given[step.name], ALL).items()
    joined = torch.stack(list(put_out.parts())).permute(0, 3, 1, 2)
    torch.testing.assert_close(joined, parts, rtol=0, atol=1e-9)


@pytest.mark.parametrize("number", [0, 1, 3])
def test_softmax_and_its_numbers(given: dict[str, SweepInput], number: int) -> None:
    numbers = row_at(given, number)[0].numbers
    for head in range(4):
        plain, used = numbers[f"softmax.{head + 1}"], numbers[f"matrix.{head + 1}"]
        torch.testing.assert_close(plain.sum(1), torch.ones(len(plain)).double())
        torch.testing.assert_close(numbers["entropy"][head], entropy_of(plain))
        assert float(numbers["diagonal"][head]) == pytest.approx(float(plain.trace()) / len(plain))
        assert float(numbers["least"][head]) == float(used.min())
        assert float(numbers["largest"][head]) == float(used.max())
        assert float(numbers["negative"][head]) == float((used < 0).double().mean())
        # The inter-layer cache has changed it.
        assert float((plain - used).abs().max()) > 1e-3
    assert sorted(torch.cat([numbers[f"channels.{n}"] for n in range(1, 5)]).tolist()) == list(
        range(sum(layer_of(MODEL, number).sizes))
    )


def test_channels_are_sorted_by_their_mean_correlation() -> None:
    x = picture(3, *SIZE)
    given = inputs(MODEL, x, counted(MODEL, x))
    q, _, _, _ = Seen(layer_of(MODEL, 1)).run(
        next(step for step in MODEL.steps() if step.name == "block2"), given["block2"]
    )
    ((_, row),) = MODEL.attention_rows("block2", given["block2"], PIXEL, ALL).items()
    numbers = row.numbers
    found = torch.cat([numbers[f"correlation.{n}"] for n in range(1, 5)])
    order = torch.cat([numbers[f"channels.{n}"] for n in range(1, 5)])
    expected = torch.corrcoef(q.flatten(1)).mean(1)
    torch.testing.assert_close(found, expected[order], rtol=0, atol=1e-9)
    assert (found.diff() <= 0).all()


def test_without_the_cache_the_softmax_is_used() -> None:
    model = network(inter=0)
    x = picture(3, 16, 16)
    statistics = counted(model, x)
    given = SweepInput(x, {"x0": torch.randn(1, 64, 2, 2, dtype=torch.float64)}, statistics)
    numbers = model.attention_rows("block1", given, (9, 9), ALL)["latent.1"].numbers
    for head in range(1, 5):
        assert torch.equal(numbers[f"matrix.{head}"], numbers[f"softmax.{head}"])
    without = network(intra=0)
    given = SweepInput(x, given.maps, counted(without, x))
    numbers = without.attention_rows("block1", given, (9, 9), ALL)["latent.1"].numbers
    assert float(numbers["modulator"]) == 0


@pytest.mark.parametrize("values", [{}, VALUES])
@pytest.mark.parametrize("with_hole", [False, True])
def test_logit_maps_add_up_to_the_logits(values: dict[str, Any], with_hole: bool) -> None:
    model, x = network(values), picture(4, *SIZE)
    valid = torch.ones(1, 1, *SIZE, dtype=torch.bool)
    if with_hole:
        valid[..., :9, 3:40] = False
    statistics = run_steps(model.steps(), x, {}, valid)[1]
    given = inputs(model, x, statistics)
    for number in (0, 2, 4):
        stage, _, block = list(model.blocks())[number]
        layer, known = block.attn, layer_statistics_of(statistics, number)
        q, k, _ = layer.local(block.norm1(given[f"block{number + 1}"].maps[f"x{number}"]))
        share = cells_valid(valid, LEVEL_OF[stage])[0, 0].double()
        order = known.order[0].tolist()
        rows = model.attention_rows(f"block{number + 1}", given[f"block{number + 1}"], (0, 0), ALL)
        (row,) = rows.values()
        for head, part in enumerate(layer.parts):
            own, other = order[part.start], order[part.stop - 1]
            shown = logit_map(layer, q[0], k[0], known, (own, other))
            logit = known.logits[0, part.start, other]
            torch.testing.assert_close((shown * share).sum(), logit, rtol=0, atol=1e-9)
            # Of the softmax that the row tells.
            logits = known.logits[0, part.start][order[part.start : part.stop]]
            plain = row.numbers[f"softmax.{head + 1}"][0]
            torch.testing.assert_close(logits.softmax(0), plain)
    with pytest.raises(ValueError, match="different heads"):
        logit_map(layer, q[0], k[0], known, (order[0], order[-1]))


def test_the_parts_of_heads_are_the_projection() -> None:
    layer = layer_of(MODEL, 0)
    out = torch.randn(layer.channels, 3, 4, dtype=torch.float64)
    parts = projected_parts(layer, out)
    torch.testing.assert_close(parts.sum(0), layer.project_out(out[None])[0], rtol=0, atol=1e-12)
    # Each sees its own slots only.
    changed = out.clone()
    changed[layer.parts[1]] = 0
    again = projected_parts(layer, changed)
    assert [torch.equal(a, b) for a, b in zip(parts, again, strict=True)] == [
        True,
        False,
        True,
        True,
    ]


def test_entropy_is_1_of_equal_weights_and_0_of_one() -> None:
    assert float(entropy_of(torch.full((6, 6), 1 / 6))) == pytest.approx(1)
    assert float(entropy_of(torch.eye(6))) == 0
    assert float(entropy_of(torch.tensor([[0.5, 0.5, 0, 0]] * 4))) == pytest.approx(0.5)


def test_similarities_are_1_at_the_query_and_where_cells_are_alike() -> None:
    layer = layer_of(MODEL, 0)
    out = torch.randn(layer.channels, 3, 5, dtype=torch.float64)
    first, last = layer.parts[0], layer.parts[3]
    out[first, 0, 4] = 3 * out[first, 2, 1]
    out[last, 1, 1] = -out[last, 2, 1]
    out[last, 1, 2] = 0
    alike = similarities(layer, out, (2, 1))
    assert alike.shape == (4, 3, 5)
    torch.testing.assert_close(alike[:, 2, 1], torch.ones(4).double())
    assert float(alike[0, 0, 4]) == pytest.approx(1)
    assert float(alike[3, 1, 1]) == pytest.approx(-1)
    assert float(alike[3, 1, 2]) == 0
    assert int((alike[0] > 1 - 1e-9).sum()) == 2


def test_sites_are_the_blocks_with_attention() -> None:
    sites = MODEL.attention_sites()
    assert [site.name for site in sites] == [
        "latent.1",
        "latent.2",
        "decoder_level3.1",
        "decoder_level2.1",
        "decoder_level1.1",
        "refinement.1",
    ]
    assert [site.title for site in sites][1:3] == ["latent 2", "decoder 3.1"]
    assert [site.stride for site in sites] == [8, 8, 4, 2, 1, 1]
    assert {site.kind for site in sites} == {"channel"}
    names = {step.name: step.reads for step in MODEL.steps()}
    assert [names[site.step][0] for site in sites] == [f"x{n}" for n in range(6)]


def test_only_named_sites_are_computed(given: dict[str, SweepInput]) -> None:
    assert MODEL.attention_rows("block1", given["block1"], (3, 3), frozenset(["latent.2"])) == {}
    assert MODEL.attention_rows("encode1", given["encode1"], (3, 3), ALL) == {}
