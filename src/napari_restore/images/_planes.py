"""The planes of a stack: pages, depths or times of one file, of which an image is one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from napari_restore.errors import BadParameter, StackOfPlanes, UnreadableImage, option

MOST_PLANES = 1_000_000


class PlaneAxis(NamedTuple):
    """An axis along which a file has several pictures of one size."""

    name: str
    """``t``, ``z``, ``c`` (channels that are no bands of a picture) or ``page``."""
    length: int
    step: float = 1.0
    """From one to the next, in `unit`."""
    unit: str = ""
    """As OME-Zarr names it; empty if unknown."""


@dataclass(frozen=True)
class Planes:
    """What a file has beside rows, columns and bands."""

    axes: tuple[PlaneAxis, ...] = ()
    """The outermost first; none of length 1, none where the file is one picture."""
    order: str = ""
    """All axes of the file but rows and columns, channels among them: ``t c z``."""
    other: int | None = None
    """The first plane of another size or kind than plane 0, as pages may be."""

    @property
    def count(self) -> int:
        return math.prod(axis.length for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.length for axis in self.axes)

    def indices(self, number: int) -> tuple[int, ...]:
        """Return the index along each axis of plane `number`; the last axis runs fastest."""
        indices = []
        for length in reversed(self.shape):
            number, index = divmod(number, length)
            indices.append(index)
        return tuple(reversed(indices))

    def check(self, name: str, number: int) -> None:
        """Raise `BadParameter` without a plane `number` in the file `name`, `UnreadableImage` for too many planes."""
        if self.count > MOST_PLANES:
            raise UnreadableImage(
                f"{name} claims {self.count} planes ({self}), more than {MOST_PLANES}.",
                "It seems damaged; else save a part of it as a file of its own.",
            )
        if 0 <= number < self.count:
            return
        if self.count == 1:
            raise BadParameter(
                f"{name} has one plane, not several.", f"Leave {option('plane')} out."
            )
        raise BadParameter(
            f"{name} has no plane {number}.", f"Its planes are 0 to {self.count - 1}, {self}."
        )

    def unchosen(self, name: str) -> StackOfPlanes:
        """Return the error of a file that is opened as one picture."""
        return StackOfPlanes(
            f"{name} has {self.count} planes ({self}), and one is needed.",
            f"Name one, 0 to {self.count - 1}, with {option('plane')}, or restore all of them with "
            f"{option('planes', 'all')}; where there is no such option, save it as a file of its own.",
        )

    def has_channel_pages(self, bands: int) -> bool:
        """Return whether the channels of a plane of so many bands lie in pages of their own."""
        order = self.order.split()
        among = {axis.name for axis in self.axes}
        return bands > 1 and "c" in order and "s" not in order and "c" not in among

    def measured(self, steps: Mapping[str, tuple[float, str]]) -> Planes:
        """Return the planes with distances and units along the axes named in `steps`, where they are some."""
        axes = tuple(
            axis._replace(step=known[0], unit=known[1])
            if (known := steps.get(axis.name)) and 0 < known[0] < math.inf
            else axis
            for axis in self.axes
        )
        return replace(self, axes=axes)

    def part(self, numbers: range) -> Planes:
        """Return the planes `numbers` of the only axis."""
        (axis,) = self.axes
        return replace(self, axes=(axis._replace(length=len(numbers)),))

    def __str__(self) -> str:
        return " × ".join(f"{axis.length} along {axis.name}" for axis in self.axes)


ONE = Planes()
"""Those of a file that is one picture."""


def planes_asked(text: str, planes: Planes, name: str) -> range:
    """Return the planes that ``all`` or ``A:B`` (without B) names; raises `BadParameter`."""
    if planes.count == 1:
        raise BadParameter(f"{name} has one plane.", f"Leave {option('planes')} out.")
    if planes.other is not None:
        raise BadParameter(
            f"Plane {planes.other} of {name} is of another size or kind than the first one, so that "
            "they are no stack.",
            f"Restore one with {option('plane', planes.other)}.",
        )
    if text == "all":
        return range(planes.count)
    first, colon, last = text.partition(":")
    try:
        start, stop = int(first or 0), int(last) if last else planes.count
    except ValueError:
        start, stop = 0, 0
    if not colon or not 0 <= start < stop <= planes.count:
        raise BadParameter(
            f"{text!r} names no planes of {name}.",
            f"Give all or A:B with 0 ≤ A < B ≤ {planes.count}, for instance "
            f"{option('planes', f'0:{planes.count}')}.",
        )
    if len(planes.axes) > 1 and len(range(start, stop)) < planes.count:
        raise BadParameter(
            f"The planes of {name} have several axes ({planes}), so that a part of them is no stack.",
            f"Restore {option('planes', 'all')} of them, or one with {option('plane')}.",
        )
    return range(start, stop)
