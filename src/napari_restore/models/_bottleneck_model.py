"""Base of models that encode tiles, relate all of them, and decode tiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from napari_restore.models._layers import pad_to_multiple
from napari_restore.models._model import Statistics, each_image, one_shot_statistics
from napari_restore.models._steps import (
    RESTORED,
    Map,
    Routing,
    Step,
    Steps,
    Sweep,
    SweepInput,
    Tick,
    WholeStep,
)
from napari_restore.models._sweeps import SweptModel, on_whole_map

ENCODED = "encoded"
"""Map of the encoder's tokens."""
RELATED = "related"
"""Map of the bottleneck's tokens."""


class EncodedImages(NamedTuple):
    """Output of a model's encoder and bottleneck, before decoding.

    Tiles (M, …) are in order row by row and image by image.
    """

    tiles: Tensor
    encoded: Tensor
    residuals: tuple[Tensor, ...]
    grids: Tensor
    """(N, width, H, W): each image's tokens from the bottleneck, with the margin."""
    tokens: Tensor
    """(M, width, h, w): the same by tiles, as `decode` is given them."""


class BottleneckModel(SweptModel):
    """encode → bottleneck over the stitched grid of tokens → decode, plus the input.

    Two sweeps, and a step between them that takes the tokens of all tiles. Tiles lie on a grid of `tile` pixels from the image's origin, without overlap; an image is first
    grown to whole tiles by reflection at bottom and right. Information between tiles passes through
    the bottleneck only, so the parts can be run tile by tile: that equals ``model(x)`` but for
    rounding.
    """

    tile: int
    """Side of a tile in pixels."""
    stride: int
    """Pixels per token along a side."""
    width: int
    """Channels of a token."""
    residuals: tuple[Map, ...]
    """Maps of features that `encode` leaves for `decode`, fine to coarse. The encoder's last feature is
    the tokens."""
    layers: int
    """Layers of the bottleneck."""
    margin: int = 0
    """Tokens around a tile's own in the input of `decode`; replicated at the image's edges."""

    def steps(self) -> tuple[Step, ...]:
        encoded = Map(ENCODED, self.width, self.stride, "float32")
        related = Map(RELATED, self.width, self.stride, "float32")
        names = [each.name for each in self.residuals]
        return (
            Sweep("encode", "Encoding", self._encoded, writes=(*self.residuals, encoded)),
            WholeStep(
                "bottleneck",
                "Global bottleneck",
                reads=encoded,
                writes=related,
                margin=self.margin,
                layers=self.layers,
                begin=self.place_tokens,
                layer=self.bottleneck_layer,
                peak_bytes=self.bottleneck_bytes,
                operations=self.bottleneck_operations,
            ),
            Sweep(
                "decode",
                "Decoding",
                self._decoded,
                reads=(RELATED, ENCODED, *names),
                writes=(Map(RESTORED, self.card.bands or 3),),
            ),
        )

    def _encoded(self, given: SweepInput) -> Mapping[str, Tensor]:
        assert given.view is not None
        first, *rest = [each.name for each in self.residuals]
        if not given.wants(ENCODED, *rest):
            return {first: self.encode_first(given.view)}
        tokens, residuals = self.encode(given.view)
        return {ENCODED: tokens, **dict(zip((first, *rest), residuals, strict=True))}

    def _decoded(self, given: SweepInput) -> Mapping[str, Tensor]:
        assert given.view is not None
        residuals = self.residuals_in(given.maps)
        tokens, encoded = given.maps[RELATED], given.maps[ENCODED]
        return {RESTORED: self.decode(tokens, encoded, residuals, given.view)}

    def residuals_in(self, maps: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Return the residuals among the maps that the decoder reads, fine to coarse."""
        return tuple(maps[each.name] for each in self.residuals)

    def encode(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return tokens (N, width, tile/stride, tile/stride) and residuals of tiles from `view`."""
        raise NotImplementedError

    def encode_first(self, x: Tensor) -> Tensor:
        """Return only the first of `residuals`, with the same values as from `encode`."""
        raise NotImplementedError

    def place_tokens(self, grid: Tensor) -> Tensor:
        """Add their positions to the tokens of `grid` (H, W, width); may overwrite `grid`."""
        raise NotImplementedError

    def bottleneck_layer(
        self,
        index: int,
        grid: Tensor,
        tick: Tick | None = None,
        routing: Routing | None = None,
    ) -> Tensor:
        """Apply layer `index` to the tokens (H, W, width) of a whole image; may overwrite `grid`.

        Works in strips and head by head, so that its peak is about two grids. Its decisions are
        stored in `routing`, or taken from there; see `Routing`.
        """
        raise NotImplementedError

    def bottleneck_bytes(self, height: int, width: int) -> int:
        """Return the peak bytes of a layer for a grid of `height` × `width` float32 tokens, the grid included."""
        raise NotImplementedError

    def bottleneck_operations(self, index: int, height: int, width: int) -> float:
        """Return roughly the multiplications of layer `index` for `height` × `width` tokens."""
        raise NotImplementedError

    def decode(
        self, tokens: Tensor, encoded: Tensor, residuals: tuple[Tensor, ...], x: Tensor
    ) -> Tensor:
        """Return restored tiles (N, C, tile, tile).

        `tokens` (N, width, side + 2 · margin, …) come from the bottleneck; `encoded` and
        `residuals` are the output of `encode`, `x` its input.
        """
        raise NotImplementedError

    def forward_with_maps(
        self, x: Tensor, statistics: Statistics | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        height, width = x.shape[2:]
        whole = self.viewed(x, statistics, valid)
        rows, columns = whole.shape[2] // self.tile, whole.shape[3] // self.tile
        encoded_images = self.encode_images(whole)
        restored = self.decode(
            encoded_images.tokens,
            encoded_images.encoded,
            encoded_images.residuals,
            encoded_images.tiles,
        )
        parts = torch.split(restored, rows * columns)
        images = torch.stack([stitch(part, rows, columns) for part in parts])
        return images[..., :height, :width], {}

    def viewed(
        self, x: Tensor, statistics: Statistics | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return the view of images (N, C, h, w) padded to whole tiles."""
        whole = pad_to_multiple(x, self.tile)
        # Statistics are computed before padding.
        if statistics is not None or not self.card.needs_context:
            return self.view(whole, statistics)
        known = (one_shot_statistics(self, one, own) for one, own in each_image(x, valid))
        views = zip(torch.split(whole, 1), known, strict=True)
        return torch.cat([self.view(*view) for view in views])

    def encode_images(self, whole: Tensor) -> EncodedImages:
        """Return the output of the parts before decoding, for views (N, C, H, W) of whole tiles."""
        # Tiles of all images at once: a crop in training is often a single one.
        tiles = torch.cat([cut(image, self.tile) for image in whole])
        rows, columns = whole.shape[2] // self.tile, whole.shape[3] // self.tile
        encoded, residuals = self.encode(tiles)
        parts = torch.split(encoded, rows * columns)
        grids = [self.related(part, rows, columns) for part in parts]
        side = self.tile // self.stride
        tokens = torch.cat([cut(grid, side, self.margin) for grid in grids])
        return EncodedImages(tiles, encoded, residuals, torch.stack(grids), tokens)

    def related(self, encoded: Tensor, rows: int, columns: int) -> Tensor:
        """Return an image's grid (width, H, W) from the bottleneck, with the margin, of its tokens by tile."""
        bottleneck = Steps(self.steps()).whole
        assert bottleneck is not None
        return on_whole_map(bottleneck, stitch(encoded, rows, columns))


def cut(image: Tensor, side: int, margin: int = 0) -> Tensor:
    """Return the tiles of an image (C, H, W), row by row: (rows · columns, C, side, side).

    With a `margin`, which the image has on every side, each tile is larger by it on every side.
    """
    size = side + 2 * margin
    return image.unfold(1, size, side).unfold(2, size, side).flatten(1, 2).transpose(0, 1)


def stitch(tiles: Tensor, rows: int, columns: int) -> Tensor:
    """Return the image (C, H, W) of these tiles."""
    _, channels, side, _ = tiles.shape
    image = tiles.reshape(rows, columns, channels, side, side).permute(2, 0, 3, 1, 4)
    return image.reshape(channels, rows * side, columns * side)
