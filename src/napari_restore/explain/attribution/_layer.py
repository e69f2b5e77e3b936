"""A layer of the model as methods see it: what it puts out, and D as a function of that."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from napari_restore.engine import Region
from napari_restore.engine.gradients.gradient_source import Picture
from napari_restore.engine.gradients.layer import LayerGradients
from napari_restore.engine.gradients.swept import SweptGradients
from napari_restore.errors import BadModel, BadParameter, option
from napari_restore.explain.attribution.attribution_run import AttributionRun
from napari_restore.explain.attribution.objectives import derivative

MAPS = 10
"""Maps of a layer that a method has in memory at once: those of image, baseline and a point of the
path, gradients and sums, each with a copy."""
NEAREST = "nearest"
INTERPOLATIONS = (NEAREST, "bilinear", "bicubic")
"""Those of captum's `LayerAttribution.interpolate` that maps have."""


class AttributedLayer:
    """One layer, where the model needs no more than a halo around the box."""

    def __init__(self, run: AttributionRun, name: str) -> None:
        """Raise `BadModel`, `BadParameter`, or `BudgetTooSmall` where maps do not fit the budget."""
        source, plan = run.source, run.source.plan
        if isinstance(run.gradients, SweptGradients):
            raise BadModel(
                f"{plan.model.card.id} is computed in sweeps over the whole image, and its layers only in one pass.",
                f"Choose another model, or leave {option('layer')} out.",
            )
        if plan.image.companions is not None:
            raise BadParameter(
                "Layers are attributed for images, not for the frames of a bracket.",
                f"Leave {option('layer')} out.",
            )
        self._run = run
        self._gradients = LayerGradients(source, run.objective_region, name)
        self.name, self.stride = name, self._gradients.stride
        most = max(run.needed_bytes, self._gradients.bytes) + 4 * MAPS * self._gradients.values
        what = f"The maps of layer {name}, of {self._gradients.channels} channels,"
        run.need(most, f"{what} do", "a smaller box")

    def map_of(self, image: Tensor) -> Tensor:
        """Return the layer's map (1, K, rows, columns) of (1, C, h, w) over the region of the run."""
        # Around the region lies the image itself.
        return self._gradients.map_of(self._picture(image))

    def value(
        self, image: Tensor, cells: Tensor, needs_gradient: bool
    ) -> tuple[float, Tensor | None]:
        """Return D of an image with `cells` in place of the layer's own map, and ∂D/∂ of these."""
        run, gradients = self._run, self._gradients
        picture, part = self._picture(image), gradients.part(cells)
        gradients.see(picture)
        with torch.no_grad():
            x = picture(run.objective_region)[:, run.own]
        y = gradients.forward(part, keep=needs_gradient)
        if not needs_gradient:
            with torch.no_grad():
                return float(run.objective(y, x, run.counts)), None
        value, by_y, _ = derivative(run.objective, y, x, run.counts)
        total = torch.zeros_like(cells)
        for box, by_cells in gradients.backward(part, by_y):
            gradients.add(total, box, by_cells)
        run.note_gradient(y, by_y, total)
        return value, total

    def upsampled(self, shares: Tensor, mode: str) -> Tensor:
        """Return the sum over channels of (1, K, rows, columns) in pixels of the region, (1, 1, h, w).

        By captum's `LayerAttribution.interpolate`: with "nearest" a pixel has the value of its cell.
        """
        cells, (height, width) = shares.sum(dim=1, keepdim=True), self._run.region.shape
        size = [side * self.stride for side in cells.shape[2:]]
        made = cells if self.stride == 1 else interpolate(cells, size, mode=mode)
        down, across = max(0, height - size[0]), max(0, width - size[1])
        if down or across:
            # The network leaves out the last pixels of an image.
            made = pad(made, (0, across, 0, down), mode="replicate")
        return made[..., :height, :width]

    def to_dict(self) -> dict[str, Any]:
        """Return what the record has of it."""
        return {
            "name": self.name,
            "kind": self._gradients.kind,
            "channels": self._gradients.channels,
            "stride": self.stride,
        }

    def _picture(self, image: Tensor) -> Picture:
        """Return a reader of the source in which `image` lies over the region of the run."""
        source, region = self._run.source.image, self._run.region

        def read(box: Region) -> Tensor:
            inside = box.intersect(region)
            if inside == box:
                return image[(..., *box.within(region))]
            whole = source(box).clone()
            if not inside.is_empty:
                whole[(..., *inside.within(box))] = image[(..., *inside.within(region))]
            return whole

        return read
