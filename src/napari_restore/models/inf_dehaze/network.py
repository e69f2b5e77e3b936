"""Inf-Dehaze: tiles are encoded, related in a global bottleneck, and decoded."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from napari_restore.errors import BadParameter
from napari_restore.models._attention import AttentionRow, AttentionSite, HeadOutputs, LayerTokens
from napari_restore.models._bottleneck_model import ENCODED, RELATED, BottleneckModel, EncodedImages
from napari_restore.models._card import ModelCard
from napari_restore.models._model import Statistics
from napari_restore.models._steps import Map, Routing, SweepInput, Tick
from napari_restore.models.atmosphere.model import Atmosphere, BehindAtmosphere
from napari_restore.models.inf_dehaze.attention import (
    layer_column,
    layer_rows,
    layer_sites,
    silence,
    window_outputs,
    window_rows,
    window_sites,
)
from napari_restore.models.inf_dehaze.bottleneck import Bottleneck
from napari_restore.models.inf_dehaze.config import (
    BANDS,
    FAST,
    LITE,
    PAPER,
    RELEASED,
    SEEN,
    SMALL,
    InfDehazeConfig,
    operations,
)
from napari_restore.models.inf_dehaze.head import AIRLIGHT, MARGIN, HazeHead, restored
from napari_restore.models.inf_dehaze.rows import kept_bytes, kept_of, outputs_of
from napari_restore.models.inf_dehaze.stages import (
    CellStatistics,
    DecoderStage,
    EncoderStage,
    PatchEmbed,
    PatchExpand,
    Visit,
    initialise,
)


class Encoder(nn.Module):
    """Stages from fine to coarse, the map halved between two."""

    def __init__(self, config: InfDehazeConfig, planes: int = BANDS) -> None:
        super().__init__()
        self.embed = PatchEmbed(config.patch, config.widths[0], planes)
        self.stages = nn.ModuleList(
            EncoderStage(config, index) for index in range(len(config.widths))
        )
        self.cells = None
        if config.head == "haze":
            self.cells = CellStatistics(config.stride, config.widths[-1], planes)

    def forward(self, x: Tensor, visit: Visit | None = None) -> list[Tensor]:
        """Return the map (N, h, w, C) at the end of each stage for tiles (N, planes, T, T)."""
        tiles, x = x, self.embed(x)
        maps = []
        for stage in self.in_order():
            maps.append(stage(x, visit))
            x = stage.merge(maps[-1])
        if self.cells is not None:
            maps[-1] = maps[-1] + self.cells(tiles)
        return maps

    def in_order(self) -> list[EncoderStage]:
        """Return the stages in the order of computation."""
        return cast("list[EncoderStage]", list(self.stages))


class Decoder(nn.Module):
    """Stages from coarse to fine, each with the encoder's map of its size."""

    def __init__(self, config: InfDehazeConfig) -> None:
        super().__init__()
        coarse_first = reversed(range(len(config.widths)))
        self.stages = nn.ModuleList(DecoderStage(config, index) for index in coarse_first)
        self.unembed = PatchExpand(config.widths[0], BANDS, config.patch)

    def forward(self, tokens: Tensor, maps: list[Tensor], visit: Visit | None = None) -> Tensor:
        """Return the head's input (N, T, T, …) for tokens and the encoder's maps (N, h, w, C)."""
        x = tokens
        for stage, residual in zip(self.in_order(), reversed(maps), strict=True):
            x = stage(x, residual, visit)
        out: Tensor = self.unembed(x)
        return out

    def in_order(self) -> list[DecoderStage]:
        """Return the stages in the order of computation, the coarsest first."""
        return cast("list[DecoderStage]", list(self.stages))


class Veil(NamedTuple):
    """Input of the head: (N, 3, H, W) pixels, airlight, and the largest removable share."""

    pixels: Tensor
    airlight: Tensor | float
    gate: Tensor | float


class InfDehaze(BehindAtmosphere, BottleneckModel):
    """y = head(x, decoder(bottleneck(encoder(x)), residuals)), the source's head being a sum.

    Encoder and decoder take one tile, the bottleneck the tokens of the whole image. With `context`
    above 0, which is ours, an atmosphere network of that width, with so many `looks`, runs on the
    overview first, and the rest works on its result: it corrects the context's haze, and changes
    nothing where the context finds none. Arithmetic is in the dtype of the weights, that of the
    head in the dtype of the tiles. Source: supplement of Inf-Dehaze; our choices where it is silent
    are in `InfDehazeConfig`.
    """

    gives_head_outputs = True

    def __init__(
        self, card: ModelCard, config: InfDehazeConfig, context: int = 0, looks: int = 2
    ) -> None:
        # Whether there is a context depends on the weights.
        super().__init__(replace(card, needs_context=context > 0, placed=context > 0))
        self.config = config
        self.tile, self.stride = config.tile, config.stride
        self.width, self.layers = config.widths[-1], len(config.layers)
        self.batch = config.batch
        # The last stage's map is the tokens themselves, which the engine keeps anyway.
        self.residuals = tuple(
            Map(f"residual{index}", width, config.patch << index)
            for index, width in enumerate(config.widths[:-1])
        )
        self.encoder = Encoder(config, SEEN if context else BANDS)
        self.bottleneck = Bottleneck(config)
        self.routing_bytes = self.bottleneck.routing_bytes
        self.decoder = Decoder(config)
        self.head: HazeHead | None = None
        if config.head == "haze":
            self.head = HazeHead(self.width, self.stride, context > 0)
            self.ends = ("decoder.unembed.weight", "head.knots.weight")
            self.margin = MARGIN
        self._balances: list[Tensor] = []
        initialise(self)
        if self.head is not None:
            nn.init.zeros_(self.head.knots.weight)
        if self.encoder.cells is not None:
            # As if they were absent.
            nn.init.zeros_(self.encoder.cells.out.weight)
        # An untrained network changes nothing.
        nn.init.zeros_(self.decoder.unembed.weight)
        self.atmosphere = Atmosphere(self.card, context, looks) if context else None
        self.amount = float(card.values.get("amount", 1.0))

    def __getstate__(self) -> dict[str, Any]:
        # A tensor that is still part of a graph can be neither copied nor saved.
        return {**self.__dict__, "_balances": []}

    def view(self, x: Tensor, statistics: Statistics | None = None) -> Tensor:
        """Return planes (N, 3 or 10, h, w): see `SEEN`."""
        if self.atmosphere is None:
            return x
        left, maps = self.atmosphere.forward_with_maps(x, statistics)
        return torch.cat([x, left, maps["transmission"], maps["airlight"]], dim=1)

    def encode(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        *residuals, tokens = (
            as_planes(feature) for feature in self.encoder(self._encoder_planes(x))
        )
        return tokens, tuple(residuals)

    def encode_first(self, x: Tensor) -> Tensor:
        return as_planes(self.encoder.stages[0](self.encoder.embed(self._encoder_planes(x))))

    def place_tokens(self, grid: Tensor, origin: tuple[int, int] = (0, 0)) -> Tensor:
        return self.bottleneck.place(grid, origin)

    def bottleneck_layer(
        self,
        index: int,
        grid: Tensor,
        tick: Tick | None = None,
        routing: Routing | None = None,
    ) -> Tensor:
        return self.bottleneck.layer(index, grid, tick, routing)

    def bottleneck_operations(self, index: int, height: int, width: int) -> float:
        return operations(self.config, index, height * width)

    def bottleneck_bytes(self, height: int, width: int) -> int:
        return self.bottleneck.peak_bytes(height, width)

    def decode(
        self, tokens: Tensor, encoded: Tensor, residuals: tuple[Tensor, ...], x: Tensor
    ) -> Tensor:
        out = as_planes(self.decoder(*self._decoder_input(tokens, encoded, residuals))).to(x.dtype)
        if self.head is None:
            return self._veil(x).pixels + out
        return self.unveiled(x, self._cast(tokens), out)[0]

    def auxiliary_loss(self) -> Tensor:
        """Return how unevenly experts were used, a scalar for the loss of training.

        The mean over the images of the last call, or over the layers for their last grid when the
        parts were called one by one. 0 once it was returned. Layers under checkpointing need
        ``use_reentrant=False`` for it.
        """
        last, self._balances = self._balances, []
        return torch.stack(last).mean() if last else self.bottleneck.auxiliary_loss()

    def unveiled(
        self,
        x: Tensor,
        tokens: Tensor,
        detail: Tensor | None,
        rows: slice = slice(None),
        columns: slice = slice(None),
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return restored pixels of a view, and the optical depth and airlight removed."""
        assert self.head is not None
        veil = self._veil(x)
        depth, tint = self.head(veil.pixels, tokens, detail, rows, columns)
        if isinstance(veil.gate, Tensor):
            depth = veil.gate[..., rows, columns] * depth
        if self.amount != 1:
            depth = self.amount * depth
        known = veil.airlight
        airlight = tint + (known[..., rows, columns] if isinstance(known, Tensor) else known)
        return restored(veil.pixels[..., rows, columns], depth, airlight), depth, airlight

    def _veil(self, x: Tensor) -> Veil:
        if self.atmosphere is None:
            return Veil(x, AIRLIGHT, 1.0)
        _, left, transmission, airlight = torch.split(x, [BANDS, BANDS, 1, BANDS], dim=1)
        return Veil(left, airlight, self.atmosphere.gate(transmission))

    def encode_images(self, whole: Tensor) -> EncodedImages:
        self._balances = []
        return super().encode_images(whole)

    def related(self, encoded: Tensor, rows: int, columns: int) -> Tensor:
        grid = super().related(encoded, rows, columns)
        if self.training:
            self._balances.append(self.bottleneck.auxiliary_loss())
        return grid

    def attention_sites(self) -> tuple[AttentionSite, ...]:
        encoded = [each for each in self._window_sites.values() if each.step == "encode"]
        decoded = [each for each in self._window_sites.values() if each.step == "decode"]
        return (*encoded, *layer_sites(self.config, self.bottleneck), *decoded)

    def attention_rows(
        self, step: str, given: SweepInput, pixel: tuple[int, int], names: frozenset[str]
    ) -> dict[str, AttentionRow]:
        return window_rows(self._window_sites, self._block_inputs(step, given), pixel, names)

    def attention_outputs(
        self, step: str, given: SweepInput, names: frozenset[str]
    ) -> dict[str, HeadOutputs]:
        return window_outputs(self._window_sites, self._block_inputs(step, given), names)

    def layer_outputs(
        self, index: int, kept: LayerTokens, cells: Tensor, names: frozenset[str]
    ) -> dict[str, HeadOutputs]:
        layer = self.bottleneck.layers_in_order()[index]
        name = f"bottleneck.{index + 1}"
        known = name in names
        return {name: outputs_of(layer.attention, kept, cells, layer.norm1)} if known else {}

    def _block_inputs(self, step: str, given: SweepInput) -> dict[nn.Module, Tensor]:
        """Return the input (H, W, C) of every block of the encoder or the decoder for one tile."""
        inputs: dict[nn.Module, Tensor] = given.remembered.setdefault(step, {})
        if not inputs:
            self._visit_blocks(step, given, lambda block, x: inputs.update({block: x[0]}))
        return inputs

    def _visit_blocks(self, step: str, given: SweepInput, visit: Visit) -> None:
        """Run the encoder or the decoder on one tile; `visit` is given the input of every block."""
        assert given.view is not None
        if step == "encode":
            self.encoder(self._encoder_planes(given.view), visit)
        else:
            maps = given.maps
            residuals = self.residuals_in(maps)
            self.decoder(*self._decoder_input(maps[RELATED], maps[ENCODED], residuals), visit)

    def layer_rows(
        self, index: int, kept: LayerTokens, cell: tuple[int, int], names: frozenset[str]
    ) -> dict[str, AttentionRow]:
        layer = self.bottleneck.layers_in_order()[index]
        return layer_rows(layer, f"bottleneck.{index + 1}", kept, cell, names)

    def layer_column(self, index: int, kept: LayerTokens, cell: tuple[int, int]) -> AttentionRow:
        return layer_column(self.bottleneck.layers_in_order()[index], kept, cell)

    def kept_of_layer(self, index: int, routing: Routing) -> dict[Hashable, Tensor]:
        layer = self.bottleneck.layers_in_order()[index]
        kept = kept_of(layer.attention, routing)
        if "centre" in routing.made:
            kept["centre"] = routing.made["centre"]
        return kept

    def kept_bytes_of_layer(self, index: int, cells: int) -> int:
        layer = self.bottleneck.layers_in_order()[index]
        centre = 4 * self.width if layer.centred_gate else 0
        return kept_bytes(layer.attention, cells) + centre

    def without_head(self, site: str, head: int) -> InfDehaze:
        model = self._copy_without(site, head)
        modules = model._modules_of_sites()
        if site not in modules:
            raise BadParameter(
                f"{site} has no heads that could be left out.", "Choose a layer of attention."
            )
        silence(modules[site], head)
        return model

    def _modules_of_sites(self) -> dict[str, nn.Module]:
        """Return the module that computes each site of attention; none for experts."""
        found = {site.name: module for module, site in self._window_sites.items()}
        for index, layer in enumerate(self.bottleneck.layers_in_order(), start=1):
            found[f"bottleneck.{index}"] = layer.attention
        return found

    @property
    def _window_sites(self) -> dict[nn.Module, AttentionSite]:
        return window_sites(self.config, self.encoder.in_order(), self.decoder.in_order())

    def _decoder_input(
        self, tokens: Tensor, encoded: Tensor, residuals: tuple[Tensor, ...]
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the tokens of the tiles alone, and the encoder's maps, each (N, h, w, C)."""
        maps = [as_map(self._cast(feature)) for feature in (*residuals, encoded)]
        inner = slice(self.margin, tokens.shape[2] - self.margin)
        return as_map(self._cast(tokens[..., inner, inner])), maps

    def _encoder_planes(self, x: Tensor) -> Tensor:
        """Return the planes of a view that the encoder takes."""
        return self._cast(x if self.atmosphere is None else x[:, :SEEN])

    def _cast(self, x: Tensor) -> Tensor:
        return x.to(self.encoder.embed.weight.dtype)


def as_planes(feature: Tensor) -> Tensor:
    """Return (N, H, W, C) viewed as (N, C, H, W); nothing is copied."""
    return feature.permute(0, 3, 1, 2)


def as_map(feature: Tensor) -> Tensor:
    """Return (N, C, H, W) as (N, H, W, C), with a cell's channels contiguous in memory."""
    return feature.permute(0, 2, 3, 1).contiguous()


def make(
    card: ModelCard,
    config: InfDehazeConfig,
    released: bool = False,
    context: int = 0,
    looks: int = 2,
) -> InfDehaze:
    """Return the network of a preset; `released` selects the public release's shape instead."""
    return InfDehaze(card, RELEASED if released else config, context, looks)


make_paper = partial(make, config=PAPER)
make_lite = partial(make, config=LITE)
make_fast = partial(make, config=FAST)
make_small = partial(make, config=SMALL)
