"""Files of figures: their size, fonts, caption and metadata."""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_restore._replacing import replacing
from napari_restore.errors import BadOutput

SUFFIXES = (".png", ".pdf", ".svg")
WIDTH_MM = 180.0
"""Two-column width of most journals; one column is 88."""
POINTS, LEAST_POINTS = 7, 5
"""Font size, and the smallest that journals accept, used at one-column width."""
DPI = 300


@contextmanager
def drawn_figure(
    size: tuple[float, Sequence[float]], points: float
) -> Iterator[tuple[Any, list[Any]]]:
    """Give a matplotlib figure and its parts, one below the other; `size` as in `figure_file`."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, heights = size
    fonts: Any = {"font.size": points, "axes.titlesize": "medium", "axes.titlelocation": "left"}
    # Text as text, so that it can be searched and edited; names of files may have dollars.
    settings: Any = {**fonts, "svg.fonttype": "none", "pdf.fonttype": 42, "text.parse_math": False}
    with rc_context(settings):
        figure = Figure(figsize=(width, sum(heights)), layout="constrained")
        FigureCanvasAgg(figure)
        parts: Any = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=list(heights))
        yield figure, list(parts.ravel())


@contextmanager
def figure_file(
    target: Path, size: tuple[float, Sequence[float]], points: float, text: str
) -> Iterator[list[Any]]:
    """Give the parts of a figure, one below the other; write it at the end. Raises `BadOutput`.

    `size`: the width, and the height of each part, in inches. `text` becomes its metadata.
    """
    with drawn_figure(size, points) as (figure, parts):
        yield parts
        name = "Subject" if target.suffix.lower() == ".pdf" else "Description"
        try:
            with replacing(target) as beside:
                figure.savefig(beside, dpi=DPI, metadata={name: text})
        except OSError as error:
            raise BadOutput(
                f"{target} cannot be written: {error.strerror or error}.", "Choose another folder."
            ) from None


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


def font_points(width_mm: float) -> float:
    """Return the font size of a figure of this width."""
    return min(POINTS, max(LEAST_POINTS, POINTS * width_mm / 130))


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


def wrapped_caption(text: str, width: float, points: float) -> tuple[str, float]:
    """Return a caption wrapped to `width` inches, and its height in inches."""
    small = _small(points)
    wrapped = _wrapped(text, int(width * 72 * 0.96 / (0.61 * small)))
    return wrapped, (wrapped.count("\n") + 2) * 1.25 * small / 72


def write_caption(part: Any, text: str, points: float) -> None:
    """Write a wrapped caption into a part of a figure."""
    part.text(0.02, 0.98, text, va="top", family="monospace", fontsize=_small(points))


def _wrapped(text: str, columns: int) -> str:
    """Wrap long lines, with continuation lines indented to the text column."""
    indent = 11 * " "
    return "\n".join(
        textwrap.fill(line, columns, subsequent_indent=indent, drop_whitespace=True)
        for line in text.splitlines()
    )


def _small(points: float) -> float:
    """Return the font size of the caption for a figure of so many points."""
    return max(LEAST_POINTS, points - 1.5)
