"""A model as one graph of tensors, which other programs can run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

Tensors = Callable[[Tensor, Mapping[str, Tensor]], tuple[Tensor, ...]]
"""Returns the inputs of an `Exported` for an image (1, C, H, W) and its statistics, placed there."""


class InOnePass(nn.Module):
    """A network whose `whole` restores a whole image in one pass, as a module of that image alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, image: Tensor) -> Tensor:
        """Return the restored image (1, 3, H, W) of one (1, C, H, W)."""
        restored: Tensor = self.network.whole(image)
        return restored


@dataclass(frozen=True)
class Exported:
    """What `RestorationModel.exported` gives: a module of tensors, one image at a time."""

    module: nn.Module
    """Called with the `inputs`; returns the restored image (1, C, H, W) in [0, 1]."""
    planes: int
    """Planes of the first input, an image (1, C, H, W) in [0, 1]."""
    multiple_of: int = 1
    """Sides of images must be multiples of this many pixels."""
    whole: bool = False
    """Whether a pixel depends on all of the image: parts of it then differ from the whole."""
    one_size: bool = False
    """Whether the graph holds for the size that it was made for only."""
    inputs: Mapping[str, str] | None = None
    """Names and descriptions of further inputs; those of ``H × W`` are maps."""
    tensors: Tensors = lambda x, _: (x,)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all inputs in their order."""
        return ("image", *(self.inputs or {}))
