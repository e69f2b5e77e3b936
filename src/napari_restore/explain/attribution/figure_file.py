"""The style of figures, and their files: size, fonts, caption and metadata."""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from napari_restore.errors import BadOutput, BadParameter
from napari_restore.explain.attribution.files import write_by

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".pdf", ".svg")
WIDTH_MM = 180.0
"""Two-column width of most journals; one column is 88."""
POINTS, LEAST_POINTS = 7, 5
"""Font size, and the smallest that journals accept, used at one-column width."""
DPI = 300
EXPONENT = 0.5
"""Exponent of the magnitude, which is hardly visible at 1 (the public code of DAM uses 1/8)."""
PANELS = ("image", "result", "map", "over", "magnitude", "area", "overview")
"""What may be drawn of an attribution; "over" is the map over the grey image."""


class StyleOptions(TypedDict, total=False):
    """Keywords of `FigureStyle`."""

    width_mm: float
    exponent: float
    limits: Sequence[float] | None
    panels: Sequence[str] | None
    caption: bool


class FigureOptions(StyleOptions, total=False):
    """Options of `draw`."""

    overwrite: bool


@dataclass(frozen=True)
class FigureStyle:
    """The style of a figure; raises `BadParameter`."""

    width_mm: float = WIDTH_MM
    exponent: float = EXPONENT
    """Power to which the magnitude is raised."""
    limits: Sequence[float] | None = None
    """Least and largest value that colours span; None: those of the map."""
    panels: Sequence[str] | None = None
    """Some of `PANELS`, in this order; None: all but "over"."""
    caption: bool = True
    """Whether the settings stand below."""

    def __post_init__(self) -> None:
        if not 0 < self.exponent <= 1:
            raise BadParameter(
                f"The exponent {self.exponent} is not in 0 … 1.", "Use for instance 0.5."
            )
        if not 30 <= self.width_mm <= 2000:
            raise BadParameter(
                f"A width of {self.width_mm:g} mm is outside 30 … 2000.", "180 is usual."
            )
        for name in set(self.panels or ()) - set(PANELS):
            raise BadParameter(f"There is no panel {name}.", f"Choose from {', '.join(PANELS)}.")
        if self.limits is not None and not self.limits[0] < self.limits[1]:
            raise BadParameter("The limits are not in order.", "Give the lower one first.")

    @property
    def points(self) -> float:
        """The size of the font."""
        return min(POINTS, max(LEAST_POINTS, POINTS * self.width_mm / 130))

    def norm(self, most: float, *, is_signed: bool) -> Any:
        """Return what gives values up to `most` their place on the scale, where 0 stays in the middle."""
        from matplotlib.colors import Normalize, TwoSlopeNorm

        most = most or 1.0
        low, high = self.limits or (-most if is_signed else 0.0, most)
        if not is_signed:
            return Normalize(low, high)
        if not low < 0 < high:
            raise BadParameter(
                f"This map has both signs, and limits of {low:g} and {high:g} leave one out.",
                f"Give one on each side of 0, as -{abs(high):g} {abs(high):g}.",
            )
        return TwoSlopeNorm(0, low, high)

    @property
    def extend(self) -> str:
        """Ends of a colour bar beyond which values may lie."""
        return "neither" if self.limits is None else "both"


@contextmanager
def drawn_figure(
    style: FigureStyle,
    heights: Sequence[float],
    text: str,
    target: Path | None = None,
    *,
    overwrite: bool = False,
) -> Iterator[tuple[Figure, list[Any]]]:
    """Give a matplotlib figure and its parts, one below the other; the caption is below them.

    `heights`: of each part, in inches. At the end it is written to `target`, with the caption in its
    metadata. Raises `BadOutput`, also without matplotlib.
    """
    if target is None:
        check_matplotlib()
    else:
        check_figure(target, overwrite=overwrite)
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, points = style.width_mm / 25.4, style.points
    fonts: Any = {"font.size": points, "axes.titlesize": "medium", "axes.titlelocation": "left"}
    # Text as text, so that it can be searched and edited; names of files may have dollars.
    settings: Any = {**fonts, "svg.fonttype": "none", "pdf.fonttype": 42, "text.parse_math": False}
    small = max(LEAST_POINTS, points - 1.5)
    wrapped = _wrapped(text, int(width * 72 * 0.96 / (0.61 * small)))
    if style.caption:
        heights = [*heights, (wrapped.count("\n") + 2) * 1.25 * small / 72]
    with rc_context(settings):
        figure = Figure(figsize=(width, sum(heights)), layout="constrained")
        FigureCanvasAgg(figure)
        rows: Any = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=list(heights))
        parts = list(rows.ravel())
        if style.caption:
            parts.pop().text(0.02, 0.98, wrapped, va="top", family="monospace", fontsize=small)
        yield figure, parts
        if target is not None:
            kind = target.suffix.lower()[1:]
            about = {"Subject" if kind == "pdf" else "Description": text}
            save = partial(figure.savefig, format=kind, dpi=DPI, metadata=about)
            write_by(target, save, overwrite=overwrite)


def check_figure(path: Path, *, overwrite: bool = False) -> None:
    """Raise `BadOutput` for a figure that could not be written, before anything is computed."""
    if path.suffix.lower() not in SUFFIXES:
        raise BadOutput(
            f"{path.name} is no figure.", f"Its name must end in {', '.join(SUFFIXES)}."
        )
    if path.exists() and not overwrite:
        raise BadOutput(f"{path} exists.", "Choose another name, or replace it.")
    check_matplotlib()


def check_matplotlib() -> None:
    """Raise `BadOutput` where figures cannot be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise BadOutput(
            "Figures are drawn by matplotlib, which is missing.",
            'Install it: pip install "napari-restore[figures]".',
        )


def input_lines(record: Mapping[str, Any]) -> list[str]:
    """Return the lines of a caption on the image and the model of a record."""
    image, model = record["input"], record["model"]
    parameters = "".join(f" {name} {value}," for name, value in model["parameters"].items())
    return [
        # The file name only: folders of one machine mean nothing on another.
        f"image      {Path(image['path'] or 'an array').name}, "
        f"{image['size'][1]} x {image['size'][0]}, {image['fingerprint'][:12]}",
        f"model      {model['id']},{parameters} weights {(model['weights_sha256'] or 'none')[:12]}",
    ]


def _wrapped(text: str, columns: int) -> str:
    """Wrap long lines, with continuation lines indented to the text column."""
    indent = 11 * " "
    return "\n".join(
        textwrap.fill(line, columns, subsequent_indent=indent, drop_whitespace=True)
        for line in text.splitlines()
    )
