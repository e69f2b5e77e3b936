"""Interface between engine and restoration models: a module with a card."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from napari_restore.errors import BadParameter
from napari_restore.models._attention import AttentionRow, AttentionSite
from napari_restore.models._card import ModelCard
from napari_restore.models._context import Context, context_of
from napari_restore.models._frozen import frozen_copy

WITHOUT = "without_heads"
"""Key of a `spec` that lists heads which are left out: [site, head] each."""
Statistics = Mapping[str, Tensor]
"""Tensors that `prepare` computes from the whole image: airlight, tables …

They are small unless the card says `placed`; then they may be maps of the whole image, and each
call's statistics also hold

- ``origin`` (N, 2) int64: y, x of each item's top left pixel, in pixels of the image it
  is cut from, counted from the corner of the context's image (may be negative);
- ``scale`` () float64, on the CPU: pixels of the context along a side of one of those
  (1 but for coarser levels);
- ``image_size`` (2,) int64, on the CPU: height and width of all that the origins are counted in.

Statistics read by name elsewhere: ``airlight_all`` (C,) in model range, of all bands of the image,
and ``exponent`` (), how haze's optical depth falls with wavelength, for the bands the model does
not take.
"""

ToModel = Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]
"""Maps source values (..., C), all bands of the image, into the model's range."""


class RestorationModel(nn.Module):
    """A network or classical method behind one interface.

    ``model(x)`` with ``x`` (N, C, H, W) float32, nominally in [0, 1] (values outside are kept, not
    clipped), is the one-shot reference: statistics are then taken from ``x`` itself. The engine
    calls `prepare` once per image and `forward` per tile, and both agree.
    """

    routing_bytes: int = 0
    """Most bytes per token of the `Routing` of a layer; 0: it has none."""
    reference: int | None = None
    """Place among the frames of a bracket of the one that the result replaces; None: the middle one."""
    exposures: tuple[float, ...] = ()
    """EV of the frames of a bracket relative to the reference, dark to bright; empty: not known."""
    step: float = 0.0
    """Distance of the display values of frames, whose white is 1; 0: they are floats."""
    grey: bool = False
    """Whether frames are of one band, which the model is given for each of its colours."""
    measured: bool = False
    """Whether the sizes on its card were measured, because it came without a card."""
    structure: str = ""
    """The published structure by which its weights were known, and its sizes; empty: it is of none."""
    claimed_step: int | None = None
    """`multiple_of` of the card it came with, where another was measured; None: that on its card."""
    takes_whole: bool = False
    """Whether it can be given the whole image in one pass; else its card says what a tile must see."""
    is_swept: bool = False
    """Whether it is one of sweeps over all of the image, a `SweptModel`."""
    gives_head_outputs: bool = False
    """Whether what each head of attention puts out can be asked for."""
    reads_overview: bool = True
    """Whether `prepare` reads the overview of the context, not its counts alone."""
    derived: tuple[str, ...] = ()
    """Statistics that `derive` makes of the others, which alone are kept on disk."""
    code: str = ""
    """Digest of the Python files it was loaded from; empty where there are none."""

    def __init__(self, card: ModelCard) -> None:
        super().__init__()
        self.card = card
        self.spec: dict[str, Any] = {}
        """Arguments of `load` that make this model again; empty when it cannot."""

    @property
    def described(self) -> RestorationModel:
        """The model by whose description it is known: itself, or the one that it computes in parts."""
        return self

    @property
    def weighted(self) -> nn.Module:
        """The module whose tensors weights files hold."""
        return self

    def haze_cell(self, height: int, width: int) -> int:
        """Return the side of the cells on which it judges the haze of an image by its overview; 0: on none.

        Parameters
        ----------
        height, width
            Pixels of the image.

        Returns
        -------
        int
            Pixels of the image.
        """
        return 0

    @property
    def fixed_tile(self) -> int | None:
        """Side in pixels that tiles must have; None: that is open."""
        return None

    @property
    def least_box(self) -> int:
        """Side in pixels to which the boxes of an image that it is given are grown within the image."""
        return self.card.min_size

    def shape_for(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of the output for an input of some shape.

        Parameters
        ----------
        shape
            (N, C, H, W) of the input; of a bracket, C counts the bands of all frames.

        Returns
        -------
        tuple of int
            (N, C, H, W) of the output.
        """
        count, planes, *size = shape
        return (count, planes // max(1, self.card.inputs), *size)

    @property
    def counted(self) -> tuple[str, ...]:
        """Names of all statistics that sweeps count; none but those of a swept model."""
        return ()

    def named_layers(self) -> dict[str, nn.Module]:
        """Return the modules of its network by dotted name, in their order.

        Raises `BadModel` where it is computed without them.

        Returns
        -------
        dict
            Modules by name, as ``torch.nn.Module.named_modules`` names them.
        """
        return layers_in(self)

    def attention_sites(self) -> tuple[AttentionSite, ...]:
        """Return where attention is computed, in the order of computation; none by default.

        Returns
        -------
        tuple of AttentionSite
            Layers of attention with their heads.
        """
        return ()

    def without_head(self, site: str, head: int) -> RestorationModel:
        """Return a copy in which one head of a site of attention adds nothing.

        Raises `BadParameter` where a head cannot be left out.

        Parameters
        ----------
        site
            Name of the site.
        head
            Number of the head, from 0.

        Returns
        -------
        RestorationModel
            The copy, frozen.
        """
        raise BadParameter(
            f"{self.card.id} cannot be run without a head.", "Choose another model for that."
        )

    def _copy_without(self, site: str, head: int) -> Self:
        """Return a frozen copy, in which the head is to be left out; its `spec` names the head."""
        model = frozen_copy(self)
        if model.spec:
            model.spec = model.spec | {WITHOUT: [*model.spec.get(WITHOUT, ()), [site, head]]}
        return model

    weights_note: str = ""
    """Which weights of a file with several were taken."""

    @property
    def attention_notes(self) -> tuple[str, ...]:
        """Sentences on attention that is computed, but not among the sites."""
        return ()

    def tile_attention_rows(
        self,
        x: Tensor,
        statistics: Statistics | None,
        pixels: Sequence[tuple[int, int]],
        names: frozenset[str],
    ) -> list[dict[str, AttentionRow]]:
        """Return the rows of each pixel in those sites that are named; for models without sweeps.

        Cells are counted from the corner of the tile.

        Parameters
        ----------
        x
            A tile with its halo, (1, C, h, w) in model range.
        statistics
            Those of `prepare`; None: of the tile itself.
        pixels
            (row, column) of the queries in the tile.
        names
            Names of the sites that are asked for.

        Returns
        -------
        list of dict
            For each pixel the rows of its heads, by the name of the site.
        """
        raise NotImplementedError

    def tile_attention_times_gradient(
        self,
        x: Tensor,
        statistics: Statistics | None,
        pixel: tuple[int, int],
        names: frozenset[str],
    ) -> dict[str, Callable[[tuple[int, int]], AttentionRow]]:
        """Return for each named site what gives rows of weights times gradient, where that is positive.

        Raises `BadParameter` for a model whose attention is not seen with gradients.

        Parameters
        ----------
        x
            A tile with its halo, (1, C, h, w) in model range.
        statistics
            Those of `prepare`; None: of the tile itself.
        pixel
            (row, column) in the tile at which the result is differentiated.
        names
            Names of the sites that are asked for.

        Returns
        -------
        dict
            By the name of the site, the row of a pixel.
        """
        raise BadParameter(
            f"Attention times gradient is not known of {self.card.id}.",
            "It is of networks of your own that see a tile, or the whole image, in one pass.",
        )

    @property
    def routes(self) -> bool:
        """Whether the model makes discrete decisions that can be fixed; see `Routing`."""
        return self.routing_bytes > 0

    def extra_repr(self) -> str:
        """Return the id and the parameter values, before the layers that torch prints.

        Returns
        -------
        str
            One line.
        """
        values = ", ".join(f"{name}={value!r}" for name, value in self.card.values.items())
        summary = f"{self.card.id!r}, scope={self.card.scope!r}, halo={self.card.halo}"
        return f"{summary}, {values}" if values else summary

    def prepare(self, context: Context, to_model: ToModel, bands: tuple[int, ...]) -> Statistics:
        """Return statistics of one image.

        Parameters
        ----------
        context
            What was computed once from the whole image.
        to_model
            Maps values (..., C) of the image, all bands, into the model's range.
        bands
            Numbers in the image, from 0, of the channels of the model's input.

        Returns
        -------
        dict
            Tensors by name, as `forward` takes them; none by default.
        """
        return {}

    def derive(self, statistics: Statistics, context: Context) -> Statistics:
        """Return the statistics of `prepare` from those that are not `derived`, to the bit.

        Parameters
        ----------
        statistics
            Those that are kept on disk.
        context
            That of the image; its overview may be missing.

        Returns
        -------
        dict
            All statistics.
        """
        return statistics

    @property
    def can_follow(self) -> bool:
        """Whether `follow` is supported; by default for models that define it."""
        return type(self).follow is not RestorationModel.follow

    def follow(self, overview: Tensor, valid: Tensor, statistics: Statistics) -> Statistics:
        """Return the statistics that `prepare` would compute from another overview, with gradients.

        Called only where `can_follow`.

        Parameters
        ----------
        overview
            (1, C, h, w) in model range.
        valid
            (1, 1, h, w) float, 0 or 1.
        statistics
            Those of the image itself: values without a gradient are taken from there.

        Returns
        -------
        dict
            Statistics that depend on `overview`.
        """
        raise NotImplementedError

    def after_step(self) -> None:
        """Restore what the weights must satisfy, after every step of an optimiser."""

    def forward_with_maps(
        self, x: Tensor, statistics: Statistics | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the restored image and the side maps that the card names.

        Parameters
        ----------
        x
            (N, C, H, W) float32, nominally in [0, 1]; of a bracket the bands of all frames, dark to
            bright.
        statistics
            Those of `prepare`; None: of each image of ``x`` itself.
        valid
            (N, 1, H, W) bool, the pixels that count; invalid ones may have any finite value, and
            their results are discarded.

        Returns
        -------
        tuple
            The image (N, C, H, W) and maps by name, each (N, 1 or C, H, W).
        """
        raise NotImplementedError

    def side_maps(
        self, x: Tensor, statistics: Statistics | None = None, valid: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the maps of `forward_with_maps` alone, for less where the model can.

        Parameters
        ----------
        x
            (N, C, H, W) float32, as for `forward_with_maps`.
        statistics
            Those of `prepare`; None: of each image of ``x`` itself.
        valid
            (N, 1, H, W) bool, the pixels that count.

        Returns
        -------
        dict
            Maps by name, each (N, 1 or C, H, W).
        """
        return self.forward_with_maps(x, statistics, valid)[1]

    def forward(
        self, x: Tensor, statistics: Statistics | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """Return the restored image.

        Parameters
        ----------
        x
            (N, C, H, W) float32, nominally in [0, 1]; of a bracket the bands of all frames, dark to
            bright.
        statistics
            Those of `prepare`; None: of each image of ``x`` itself.
        valid
            (N, 1, H, W) bool, the pixels that count; None: all.

        Returns
        -------
        torch.Tensor
            (N, C, H, W); the size is that of ``x`` times the card's `scale`.
        """
        return self.forward_with_maps(x, statistics, valid)[0]


def layers_in(network: nn.Module) -> dict[str, nn.Module]:
    """Return the modules within a network by dotted name, in their order."""
    return {name: module for name, module in network.named_modules() if name}


def placed_at(
    statistics: Statistics,
    origins: Sequence[tuple[int, int]],
    scale: float,
    like: Tensor,
    size: tuple[int, int] | None = None,
) -> Statistics:
    """Return `statistics` with the positions of one call's items (y, x), on `like`'s device.

    `size` is the height and width of the image; None: those of `like` (N, C, h, w).
    """
    origin = torch.tensor(origins, dtype=torch.int64, device=like.device)
    # Numbers on the CPU go with tensors of any device, also of one without float64.
    return {
        **statistics,
        "origin": origin,
        "scale": torch.tensor(scale, dtype=torch.float64),
        "image_size": torch.tensor(size or like.shape[-2:], dtype=torch.int64),
    }


def example_image(model: RestorationModel, height: int, width: int) -> Tensor:
    """Return noise (1, C, height, width) in [0.1, 0.9] that `model` takes, on its device."""
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 + 0.8 * torch.rand(1, model.card.planes_tried, height, width, generator=generator)
    weight = next(iter((*model.parameters(), *model.buffers())), noise)
    return noise.to(weight.device)


def each_image(x: Tensor, valid: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield the images (1, C, H, W) of a batch, each with its part of `valid`."""
    masks = [None] * len(x) if valid is None else torch.split(valid, 1)
    yield from zip(torch.split(x, 1), masks, strict=True)


def one_shot_statistics(
    model: RestorationModel, x: Tensor, valid: Tensor | None = None
) -> Statistics:
    """Return the statistics of ``x`` (1, C, H, W) taken as a whole image."""
    pixels = x[0].permute(1, 2, 0).contiguous().numpy(force=True)
    mask = None if valid is None else valid[0, 0].numpy(force=True)
    context = context_of(pixels, mask)
    bands = tuple(range(x.shape[1]))
    statistics = model.prepare(context, lambda v: np.asarray(v, np.float64), bands)
    return placed_at(statistics, [(0, 0)], 1.0, x) if model.card.placed else statistics


def for_frames(
    model: RestorationModel,
    frames: int,
    reference: int | None = None,
    names: Sequence[str] = (),
    exposures: Sequence[float] = (),
    step: float = 0.0,
    grey: bool = False,
) -> RestorationModel:
    """Return `model` for images of so many frames: itself, or a copy that shares its weights.

    `reference` is the place of the frame that the result replaces; `names` and `exposures`, in EV
    relative to the reference, are those of the frames, dark to bright; `step` is the distance of
    their display values, whose white is 1 (0: floats); `grey` says that they have one band, given
    for each colour. Raises `BadParameter` where the model takes another number.
    """
    card = model.card
    if card.inputs == frames:
        return model
    if card.inputs == 1:
        raise BadParameter(
            f"Model {card.id} restores a single image, not the {frames} frames of a bracket.",
            "Choose a model for exposure fusion, such as mertens.",
        )
    if frames == 1:
        raise BadParameter(
            f"Model {card.id} fuses the frames of a bracket; this is one image.",
            (f"Give {card.inputs} frames" if card.inputs else "Give two frames or more")
            + "; on the command line, to napari-restore fuse.",
        )
    if card.inputs != 0:
        raise BadParameter(
            f"Model {card.id} takes {card.inputs} frames, not {frames}.",
            f"{_other_choice(card.inputs, frames, names)}, or choose a model that takes any number, "
            "such as mertens.",
        )
    bound = copy.copy(model)
    bound.reference = reference
    bound.exposures, bound.step, bound.grey = tuple(exposures), step, grey
    bound.card = replace(card, inputs=frames)
    return bound


def _other_choice(wanted: int, frames: int, names: Sequence[str]) -> str:
    """Return what to do for as many frames as are wanted."""
    if frames < wanted:
        return f"Give {wanted - frames} more"
    if len(names) < frames:
        return f"Give {wanted} of them"
    # Evenly by their order, from the darkest to the brightest.
    last = max(1, wanted - 1)
    chosen = [names[round(number * (frames - 1) / last)] for number in range(wanted)]
    return f"Give {wanted} of them, such as {', '.join(chosen)}"
