"""Rows of attention from a file beside the network called on the whole image.

    python benchmarks/attention_rows.py IMAGE --sizes 777x1291 4096x4096 --queries 50

The image is cut, or repeated, to each size and written as GeoTIFF. `inf-dehaze-small` is prepared on the
file, tile by tile, and asked for seeded pixels; then it is called on the whole image in memory, where
hooks see what every attention takes and gives. Prints for each kind of site: rows compared; the largest
difference of the sum of weights from 1; the largest difference of weights times values from the output
of that attention in the call, absolute and relative to its largest value; and of how many rows the
candidates differ from those of the call.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from torch import Tensor, nn

import napari_restore as nr
from napari_restore.engine import make_plan
from napari_restore.engine.rows import AttentionSource, PlacedRow
from napari_restore.images import Image
from napari_restore.models import Routing, load
from napari_restore.models.inf_dehaze.ibssa import HeadwiseAttention
from napari_restore.models.inf_dehaze.network import InfDehaze
from napari_restore.models.inf_dehaze.rows import kept_of, output_of, row_of
from napari_restore.models.inf_dehaze.sfca import HEADS, SpatialFrequencyAttention

SEED = 0
TILE = 256
"""Pixels along a side of a tile of `inf-dehaze-small`."""
Hook = Callable[[nn.Module, Any, Tensor], None]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path)
    parser.add_argument("--sizes", nargs="+", default=["777x1291", "4096x4096"], metavar="HxW")
    parser.add_argument("--queries", type=int, default=50)
    options = parser.parse_args()
    print("| image | kind | rows | sum − 1 | weights · values | relative | other candidates |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for text in options.sizes:
        height, width = (int(side) for side in text.split("x"))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "image.tif"
            write(options.image, (height, width), path)
            comparison = Comparison(path, options.queries, Path(folder) / "scratch")
            comparison.run()
        for kind, found in comparison.found.items():
            sums, difference, relative, others = np.array(found).T
            print(
                f"| {height} × {width} | {kind} | {len(found)} | {sums.max():.1e} "
                f"| {difference.max():.1e} | {relative.max():.1e} | {int(others.sum())} |",
                flush=True,
            )


def write(source: Path, size: tuple[int, int], path: Path) -> None:
    """Write 8-bit RGB pixels of a size, the source repeated by reflection."""
    with rasterio.open(source) as file:
        pixels = file.read((1, 2, 3))
    beyond = [(0, 0), *((0, max(0, a - b)) for a, b in zip(size, pixels.shape[1:], strict=True))]
    pixels = np.pad(pixels, beyond, mode="reflect")[:, : size[0], : size[1]]
    options = {"driver": "GTiff", "tiled": True, "compress": "deflate", "photometric": "rgb"}
    with rasterio.open(
        path, "w", height=size[0], width=size[1], count=3, dtype="uint8", **options
    ) as out:
        out.write(pixels)


class Comparison:
    """Rows of seeded queries from a file, and the outputs of one call on all of it."""

    def __init__(self, path: Path, queries: int, scratch: Path) -> None:
        model = load("inf-dehaze-small")
        assert isinstance(model, InfDehaze)
        self.model = model
        self.image: Image = nr.open_image(path)
        self.found: dict[str, list[tuple[float, float, float, float]]] = defaultdict(list)
        plan = make_plan(self.image, model, region=nr.Region(0, 0, 1, 1), scratch=scratch)
        source = AttentionSource(plan, lambda event: None, threading.Event())
        random = np.random.default_rng(SEED)
        self.rows: dict[str, list[PlacedRow]] = defaultdict(list)
        with source:
            source.prepare()
            for _ in range(queries):
                y, x = random.integers((self.image.height, self.image.width))
                for row in source.rows((int(y), int(x))):
                    self.rows[row.site.name].append(row)

    @torch.inference_mode()
    def run(self) -> None:
        """Call the network on the whole image and compare at every attention."""
        model, handles = self.model, []
        for module, site in model._window_sites.items():
            inner = module if site.kind == "band" else module.attention
            handles.append(inner.register_forward_hook(self._on_tiles(self.rows[site.name])))
        for index, layer in enumerate(model.bottleneck.layers_in_order()):
            rows = self.rows[f"bottleneck.{index + 1}"]
            handles.append(layer.attention.register_forward_hook(self._on_tokens(rows)))
        pixels = self.image.read((0, 0, self.image.height, self.image.width)) / np.float32(255)
        x = torch.from_numpy(np.ascontiguousarray(pixels, np.float32)).permute(2, 0, 1)[None]
        model(x)
        for handle in handles:
            handle.remove()

    def _on_tiles(self, rows: list[PlacedRow]) -> Hook:
        """Return a hook on an attention whose input and output are maps of all tiles."""
        across = -(-self.image.width // TILE)

        def compare(module: nn.Module, given: Any, out: Tensor) -> None:
            for each in rows:
                y, x = each.origin
                tile = y // TILE * across + x // TILE
                of_kind = of_bands if each.site.kind == "band" else of_window
                found = of_kind(module, given[0][tile], each)
                self._note(each, found, out[tile][each.row.query], others=0)

        return compare

    def _on_tokens(self, rows: list[PlacedRow]) -> Hook:
        """Return a hook on an attention of the bottleneck, from all tokens to all tokens."""
        side = self.model.config.stride
        across = -(-self.image.width // TILE) * TILE // side

        def compare(attention: nn.Module, given: Any, out: Tensor) -> None:
            assert isinstance(attention, HeadwiseAttention)
            normed = given[1](given[0])
            routing = Routing(records=True)
            attention.forward(given[0], given[1], None, routing)
            tokens = InMemory(normed, across, kept_of(attention, routing))
            for each in rows:
                own = each.origin[0] // side + each.row.query[0], each.row.query[1]
                query = own[0] * across + own[1] + each.origin[1] // side
                numbers = each.row.cells[..., 0] * across + each.row.cells[..., 1]
                numbers = numbers.masked_fill(each.row.cells[..., 0] < 0, -1)
                _, candidates = row_of(attention, tokens, query, nn.Identity())
                found = output_of(attention, tokens, (each.row.weights, numbers), nn.Identity())
                self._note(each, found, out[query], others=int(not numbers.equal(candidates)))

        return compare

    def _note(self, row: PlacedRow, found: Tensor, expected: Tensor, others: int) -> None:
        difference = float((found - expected).abs().max())
        sums = float((row.row.weights.sum(1) - 1).abs().max())
        relative = difference / float(expected.abs().max())
        self.found[row.site.kind].append((sums, difference, relative, others))


def of_window(attention: Any, given: Tensor, row: PlacedRow) -> Tensor:
    """Return the attention's output of the row's cell: its weights times the values, projected."""
    values = attention.qkv(given)[..., 2 * given.shape[-1] :].unflatten(-1, (attention.heads, -1))
    cells = row.row.cells.clamp(min=0)
    joined = [
        weights @ values[at[:, 0], at[:, 1], head]
        for head, (weights, at) in enumerate(zip(row.row.weights, cells, strict=True))
    ]
    output: Tensor = attention.projection(torch.cat(joined))
    return output


def of_bands(attention: nn.Module, given: Tensor, row: PlacedRow) -> Tensor:
    """Return the output of the row's cell: of each band its weights times the values, mixed by ω."""
    assert isinstance(attention, SpatialFrequencyAttention)
    mixed: Tensor | float = 0.0
    for number, band in enumerate(attention.bands(given[None])):
        values = torch.nn.functional.linear(band[0], attention.value_weights(number))
        values = values.unflatten(-1, (HEADS, -1))
        heads = []
        for head in range(HEADS):
            weights, at = (part[HEADS * number + head] for part in (row.row.weights, row.row.cells))
            heads.append(weights @ values[at[:, 0], at[:, 1], head])
        mixed = mixed + row.row.numbers["band_weights"][number] * torch.cat(heads)
    output: Tensor = given[row.row.query] + attention.restore(mixed)
    return output


class InMemory:
    """The tokens (L, C) of a layer, and what its run decided; see `LayerTokens`."""

    def __init__(self, tokens: Tensor, width: int, kept: dict[Hashable, Tensor]) -> None:
        self._tokens, self._kept = tokens, kept
        self.shape = len(tokens) // width, width, tokens.shape[1]

    def tokens(self, numbers: Tensor) -> Tensor:
        """Return the tokens (n, C) of these numbers."""
        return self._tokens[numbers.long()]

    def kept(self, name: Hashable) -> Tensor:
        """Return what the run decided under this name."""
        return self._kept[name]


if __name__ == "__main__":
    main()
