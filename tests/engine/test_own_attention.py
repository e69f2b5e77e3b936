"""Rows of plain modules from an image: those of the run's own tiles, at their place."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import attending_networks as networks
import attention_forms as forms
import numpy as np
import pytest
import torch
from torch import Tensor

import napari_restore as nr
from napari_restore.engine import Event, Note, make_plan
from napari_restore.engine.rows import AttentionSource, PlacedRow
from napari_restore.errors import BadModel
from napari_restore.models import CutModel, load

SIZE = (300, 420)
CARD = {"bands": 3, "multiple_of": 32, "halo": 32}
TILE = 128


@pytest.fixture(scope="module")
def image() -> Any:
    pixels = np.random.default_rng(0).random((*SIZE, 3), np.float32)
    return nr.open_image(pixels, bands="red=1,green=2,blue=3")


def source_of(image: Any, model: Any, scratch: Path, events: list[Event]) -> AttentionSource:
    plan = make_plan(image, model, scratch=scratch, tile=TILE)
    source = AttentionSource(plan, events.append, threading.Event())
    source.prepare()
    return source


def on_image(row: PlacedRow, head: int) -> Tensor:
    """The weights of a head on the cells of the image."""
    values = torch.zeros(SIZE[0] // 4, SIZE[1] // 4)
    there = row.row.cells[head, :, 0] >= 0
    cells = row.row.cells[head, there] + torch.tensor(row.origin) // 4
    values[tuple(cells.T)] = row.row.weights[head, there]
    return values


@pytest.mark.slow
def test_rows_are_those_of_the_tile_of_a_run(image: Any, tmp_path: Path) -> None:
    model = load(networks.Windows(), card=CARD)
    net = model.module
    source = source_of(image, model, tmp_path, [])
    halo = source.plan.layout.halo
    assert source.plan.layout.tile == TILE
    for pixel in ((0, 0), (140, 200), (299, 419), (127, 128)):
        rows = source.rows(pixel)
        (top, left), (high, wide) = rows[0].origin, rows[0].shape
        core = [at // TILE * TILE for at in pixel]
        assert top <= max(0, core[0] - halo)
        assert left <= max(0, core[1] - halo)
        box = image.read((top, left, min(top + 4 * high, SIZE[0]), min(left + 4 * wide, SIZE[1])))
        net.matrices = []
        with torch.no_grad():
            model(torch.from_numpy(box).permute(2, 0, 1)[None])
        matrices, net.matrices = net.matrices, None
        size = [-(-n // 32) * 8 for n in box.shape[:2]]
        cells = torch.cartesian_prod(*map(torch.arange, size)).view(1, *size, 2).float()
        at = torch.tensor([(pixel[0] - top) // 4, (pixel[1] - left) // 4])
        for number, row in enumerate(rows):
            places = net.split(cells, 4 * (number % 2)).long()
            item, token = (places == at).all(-1).nonzero()[0]
            there = row.row.cells[0, :, 0] >= 0
            kept = matrices[number][item, 0, token][there]
            torch.testing.assert_close(row.row.weights[0, there], kept, atol=1e-6, rtol=0)
            assert torch.equal(row.row.cells[0, there], places[item][there])
            # Windows are counted from the image's corner.
            assert row.site.shift == (source.sites[number].shift + top // 4) % 8


@pytest.mark.slow
def test_a_look_changes_no_byte_of_a_result(image: Any, tmp_path: Path) -> None:
    model = load(networks.Encoder(8, layer=True), card={"bands": 3, "multiple_of": 64})
    before = np.asarray(nr.restore(image, model, scratch=tmp_path / "a", progress=False).array)
    looked = nr.attend(image, model, [(150, 260)], progress=False)
    after = np.asarray(nr.restore(image, model, scratch=tmp_path / "b", progress=False).array)
    np.testing.assert_array_equal(after, before)
    maps = looked.maps("attention.1")
    assert maps.map("2").region == nr.Region(16, 32, 24, 40)
    np.testing.assert_allclose(maps.weights.sum(1), 1, atol=1e-6)


@pytest.mark.slow
def test_what_is_not_shown_is_a_note(image: Any, tmp_path: Path) -> None:
    class Both(networks.Windows):
        def forward(self, x: Tensor) -> Tensor:
            networks.Sorted()(x)  # type: ignore[no-untyped-call]
            return super().forward(x)  # type: ignore[no-any-return, no-untyped-call]

    events: list[Event] = []
    source = source_of(image, load(Both(), card=CARD), tmp_path, events)
    assert [site.name for site in source.sites] == ["attention.2", "attention.3", "attention.4"]
    assert any(isinstance(e, Note) and "attention.1 is not shown" in e.text for e in events)


@pytest.mark.measured
@pytest.mark.slow
def test_tiles_begin_with_windows_whatever_the_card_says(tmp_path: Path) -> None:
    class Padding(networks.Windows):
        def forward(self, x: Tensor) -> Tensor:
            grown = torch.nn.functional.pad(x, (0, -x.shape[3] % 4, 0, -x.shape[2] % 4))
            y = super().forward(grown)
            return y[..., : x.shape[2], : x.shape[3]]  # type: ignore[no-any-return]

    model = load(Padding(), card={"bands": 3, "halo": 141})
    image = nr.open_image(np.zeros((300, 900, 3), np.float32), bands="red=1,green=2,blue=3")
    source = source_of(image, model, tmp_path, [])
    assert source.plan.step % 32 == 0
    assert any("measured and used: 32" in note for note in source.plan.notes)
    # A plan that does not know it is refused.
    plan = replace(source.plan, layout=replace(source.plan.layout, halo=36))
    with pytest.raises(BadModel, match=r"within a window of attention.1, which has 32 pixels"):
        AttentionSource(plan, [].append, threading.Event()).prepare()


@pytest.mark.slow
def test_rows_of_sweeps_are_those_of_one_pass(image: Any, tmp_path: Path) -> None:
    def network() -> Any:
        return load(forms.Form("channels"), card={"bands": 3, "multiple_of": 4})

    plan = make_plan(image, network(), scratch=tmp_path / "whole", tile="whole")
    whole = AttentionSource(plan, [].append, threading.Event())
    whole.prepare()
    source = source_of(image, network(), tmp_path, [])
    assert isinstance(source.plan.model, CutModel)
    pixel = (140, 290)
    for row, expected in zip(source.rows(pixel), whole.rows(pixel), strict=True):
        stride, there = row.site.stride, row.row.cells[0, :, 0] >= 0
        cells = row.row.cells[0, there] + torch.tensor(row.origin) // stride
        # The cells of its own tile, which its halo makes exact.
        assert cells.min(0).values.tolist() == [128 // stride, 256 // stride]
        assert cells.max(0).values.tolist() == [256 // stride - 1, 384 // stride - 1]
        columns = 105
        numbers = cells[:, 0] * columns + cells[:, 1]
        found, kept = row.row.weights[:, there], expected.row.weights[:, numbers]
        torch.testing.assert_close(found, kept, atol=1e-5, rtol=0)
        for name in expected.row.numbers:
            torch.testing.assert_close(
                row.row.numbers[name], expected.row.numbers[name], atol=1e-6, rtol=0
            )
