"""Rows of attention from a file: what the run itself used, kept once, the same bytes around."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import napari_restore as nr
from napari_restore.engine import Event, Phase, Progress, make_plan
from napari_restore.engine.ledger.kept_layers import LAYERS
from napari_restore.engine.ledger.store_files import STAGED
from napari_restore.engine.rows import AttentionSource, PlacedRow
from napari_restore.errors import Cancelled, DiskFull
from napari_restore.models import card_of, randomise
from napari_restore.models.inf_dehaze.config import InfDehazeConfig
from napari_restore.models.inf_dehaze.network import InfDehaze

SIZE = (150, 277)  # tokens 32 × 48, of which the last ones are padding
WIDTH = 48
ROLES = "red=1,green=2,blue=3"
CONFIG = InfDehazeConfig(
    patch=2,
    widths=(16, 24, 32),
    depths=(2, 2, 1),
    heads=(2, 2, 4),
    layers=("ibssa", "full"),
    tile=128,
    bottleneck_heads=4,
    qk_width=16,
    exact_below=0,
    block_size=16,
    lsh_bits=4,
    experts=(3, 3, 5),
    expert_ratio=1,
    head="haze",
)
PIXELS = [(0, 0), (149, 276), (70, 130), (63, 64)]


@pytest.fixture(scope="module")
def model() -> InfDehaze:
    made = InfDehaze(replace(card_of("inf-dehaze-small"), values={}, needs_context=False), CONFIG)
    randomise(made, 0)
    assert made.head is not None
    made.head.knots.weight.data *= 30
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def image() -> Any:
    pixels = np.random.default_rng(0).random((*SIZE, 3), np.float32)
    return nr.open_image(pixels, bands=ROLES)


def source_of(
    image: Any,
    model: InfDehaze,
    scratch: Path,
    emit: Callable[[Event], None] = lambda event: None,
    stop: threading.Event | None = None,
) -> AttentionSource:
    plan = make_plan(image, model, region=nr.Region(0, 0, 1, 1), scratch=scratch, tile_batch=3)
    source = AttentionSource(plan, emit, stop or threading.Event())
    OPENED.append(source)
    return source


OPENED: list[AttentionSource] = []


@pytest.fixture(autouse=True)
def sources_are_closed() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def layers_of(scratch: Path) -> list[Path]:
    return sorted(scratch.glob(f"**/{STAGED}/{LAYERS}/*"))


@pytest.mark.slow
def test_rows_are_those_of_the_whole_call(model: InfDehaze, image: Any, tmp_path: Path) -> None:
    layers = model.bottleneck.layers_in_order()
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def keep(module: nn.Module, given: Any, out: Tensor) -> None:
        seen[module] = given[1](given[0]).clone(), out.clone()

    handles = [layer.attention.register_forward_hook(keep) for layer in layers]
    x = torch.from_numpy(image.read((0, 0, *SIZE))).permute(2, 0, 1)[None]
    with torch.inference_mode():
        model(x)
    for handle in handles:
        handle.remove()
    source = source_of(image, model, tmp_path)
    source.prepare()
    for pixel in PIXELS:
        rows = {row.site.name: row for row in source.rows(pixel)}
        assert list(rows) == [site.name for site in model.attention_sites()]
        for number, layer in enumerate(layers, start=1):
            row = rows[f"bottleneck.{number}"]
            normed, out = seen[layer.attention]
            query = (pixel[0] // 8) * WIDTH + pixel[1] // 8
            found = values_of(row, layer.attention, normed)
            torch.testing.assert_close(found, out[query], atol=1e-5, rtol=1e-5)
        for row in rows.values():
            stride = row.site.stride
            y, x_ = (at // stride for at in row.origin)
            here = row.row.query[0] + y, row.row.query[1] + x_
            assert here == (pixel[0] // stride, pixel[1] // stride)


def values_of(row: PlacedRow, attention: Any, normed: Tensor) -> Tensor:
    """The attention's output of a cell: weights times values."""
    joined = []
    for head in range(attention.heads):
        cells = row.row.cells[head].clamp(min=0)
        values = normed @ attention.head_weights(head)[2].T
        joined.append(row.row.weights[head] @ values[cells[:, 0] * WIDTH + cells[:, 1]])
    return torch.as_tensor(attention.project(torch.cat(joined)[None])[0])


@pytest.mark.slow
def test_a_look_changes_no_byte_of_a_result(model: InfDehaze, image: Any, tmp_path: Path) -> None:
    plain = np.asarray(nr.restore(image, model, scratch=tmp_path / "a", progress=False).array)
    source = source_of(image, model, tmp_path / "b")
    source.prepare()
    source.rows((70, 130))
    after = np.asarray(nr.restore(image, model, scratch=tmp_path / "b", progress=False).array)
    np.testing.assert_array_equal(after, plain)
    earlier = {
        path: path.read_bytes() for path in (tmp_path / "a").glob("**/c/**/*") if path.is_file()
    }
    source = source_of(image, model, tmp_path / "a")
    source.prepare()
    assert source.finished_record()["measured"]["tiles_encoded"] == 0
    again = np.asarray(nr.restore(image, model, scratch=tmp_path / "a", progress=False).array)
    np.testing.assert_array_equal(again, plain)
    assert all(path.read_bytes() == content for path, content in earlier.items())


@pytest.mark.slow
def test_kept_layers_are_used_again(model: InfDehaze, image: Any, tmp_path: Path) -> None:
    first = source_of(image, model, tmp_path)
    first.prepare()
    files = {path: path.stat().st_mtime_ns for path in layers_of(tmp_path)}
    kept = sum(path.stat().st_size for path in files if path.suffix != ".json")
    assert first.kept_bytes == kept
    # Two layers: tokens, description; and of the sparse one keys and places of four heads.
    assert len([path for path in files if path.suffix in (".tokens", ".json")]) == 4
    second = source_of(image, model, tmp_path)
    second.prepare()
    assert {path: path.stat().st_mtime_ns for path in layers_of(tmp_path)} == files
    for one, other in zip(first.rows((70, 130)), second.rows((70, 130)), strict=True):
        assert torch.equal(one.row.weights, other.row.weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["0.tokens", "1.tokens", "0.keys-2", "1.json"])
@pytest.mark.ids("nightly", "1.tokens")
def test_damaged_layers_are_made_again(
    model: InfDehaze, image: Any, tmp_path: Path, name: str
) -> None:
    first = source_of(image, model, tmp_path)
    first.prepare()
    before = {path.name: path.read_bytes() for path in layers_of(tmp_path)}
    (path,) = [path for path in layers_of(tmp_path) if path.name == name]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(bytes(content))
    source_of(image, model, tmp_path).prepare()
    assert {path.name: path.read_bytes() for path in layers_of(tmp_path)} == before


@pytest.mark.slow
def test_a_cancelled_preparation_goes_on(model: InfDehaze, image: Any, tmp_path: Path) -> None:
    whole = source_of(image, model, tmp_path / "whole")
    whole.prepare()
    expected = {path.name: path.read_bytes() for path in layers_of(tmp_path / "whole")}
    # While encoding, in the first and in the second layer.
    for phase, most in (("Encoding", 3), ("Global", 2), ("Global", 8)):
        stop, reports, current = threading.Event(), 0, ""

        def count(
            event: Event, stop: threading.Event = stop, phase: str = phase, most: int = most
        ) -> None:
            nonlocal reports, current
            if isinstance(event, Phase):
                current = event.name
            reports += isinstance(event, Progress) and current.startswith(phase)
            if reports >= most:
                stop.set()

        with pytest.raises(Cancelled):
            source_of(image, model, tmp_path / "cut", count, stop).prepare()
    source_of(image, model, tmp_path / "cut").prepare()
    assert {path.name: path.read_bytes() for path in layers_of(tmp_path / "cut")} == expected


def test_a_disk_too_small_is_named_before_the_start(
    model: InfDehaze, image: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(image, model, tmp_path)
    free = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: free)
    with pytest.raises(DiskFull, match=r"2 layers take .* each"):
        source.prepare()


def test_a_query_reads_little(model: InfDehaze, image: Any, tmp_path: Path) -> None:
    source = source_of(image, model, tmp_path)
    source.prepare()
    column = source.column((70, 130), "bottleneck.1")
    rows = {pixel: source.rows(pixel, ["bottleneck.1"])[0] for pixel in PIXELS}
    for pixel, row in rows.items():
        at = row.row.cells == torch.tensor([70 // 8, 130 // 8])
        given = (row.row.weights * at.all(-1)).sum(1)
        cell = torch.tensor([pixel[0] // 8, pixel[1] // 8])
        found = (column.row.weights * (column.row.cells == cell).all(-1)).sum(1)
        torch.testing.assert_close(found, given)


@pytest.mark.parametrize(
    ("name", "head"),
    [("encoder.2.1", 1), ("encoder.2.bands", 3), ("bottleneck.1", 2), ("decoder.3.2", 0)],
)
@pytest.mark.slow
@pytest.mark.ids("nightly", "bottleneck.1-2", "decoder.3.2-0", "encoder.2.1-1")
def test_without_a_head_is_the_whole_network_without_it(
    model: InfDehaze, image: Any, tmp_path: Path, name: str, head: int
) -> None:
    source = source_of(image, model, tmp_path)
    source.prepare()
    region = nr.Region(40, 60, 150, 200)
    there, left_out = source.without_head(region, name, head, lambda done, total: None)
    x = torch.from_numpy(image.read((0, 0, *SIZE))).permute(2, 0, 1)[None]
    with torch.inference_mode():
        whole = model(x)[0][(slice(None), *region.within(nr.Region(0, 0, *SIZE)))]
        other = model.without_head(name, head)(x)[0]
    expected = other[(slice(None), *region.within(nr.Region(0, 0, *SIZE)))]
    assert float((expected - whole).abs().max()) > 1e-4
    torch.testing.assert_close(there, whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(left_out, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_a_silent_head_changes_nothing(model: InfDehaze, image: Any, tmp_path: Path) -> None:
    silent = model.without_head("bottleneck.1", 2)
    source = source_of(image, silent, tmp_path)
    source.prepare()
    region = nr.Region(0, 0, 100, 100)
    there, left_out = source.without_head(region, "bottleneck.1", 2, lambda done, total: None)
    # Not to the bit: the run may have used another number of threads.
    torch.testing.assert_close(there, left_out, atol=1e-6, rtol=1e-6)
