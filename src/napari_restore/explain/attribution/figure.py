"""A figure of an attribution with all settings that reproduce it: maps, legends, caption."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypedDict

import numpy as np
import numpy.typing as npt

from napari_restore.engine import Region
from napari_restore.errors import BadParameter
from napari_restore.explain.attribution._overview import OverviewShares
from napari_restore.explain.attribution.figure_file import (
    WIDTH_MM,
    check_figure,
    check_matplotlib,
    drawn_figure,
    figure_file,
    font_points,
    input_lines,
    wrapped_caption,
    write_caption,
)
from napari_restore.explain.attribution.summary import summary_of
from napari_restore.explain.kinds import Kind, kind_of
from napari_restore.questions import CHECK, STOP, THROUGH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Read = Callable[[Region], npt.NDArray[np.float32]]
EXPONENT = 0.5
"""Exponent of the magnitude, which is hardly visible at 1 (the public code of DAM uses 1/8)."""
SIGNED, MAGNITUDE = "PuOr", "viridis"
"""Colour maps that remain distinguishable with colour vision deficiency."""
BOX_COLOURS = ("black", "white")
"""Outline of the box and its halo, visible on any background."""
CONTEXT_TEXT = {STOP: "constant", THROUGH: "gradient goes through it", "none": "none"}
"""Texts for the values of the record's `context.used`."""


class Drawable(Protocol):
    """What is drawn of an attribution; see `Attribution`."""

    @property
    def box(self) -> Region: ...
    @property
    def record(self) -> dict[str, Any]: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def picture(self) -> Read: ...
    @property
    def overview(self) -> OverviewShares | None: ...
    @property
    def output(self) -> Read | None: ...
    @property
    def window(self) -> Region: ...
    def read(self, box: Region) -> npt.NDArray[np.float32]: ...
    def contribution_area(self) -> npt.NDArray[np.float64]: ...


class FigureOptions(TypedDict, total=False):
    """Options of `draw`."""

    width_mm: float
    exponent: float
    overwrite: bool


def draw(
    attribution: Drawable,
    path: str | Path,
    *,
    width_mm: float = WIDTH_MM,
    exponent: float = EXPONENT,
    overwrite: bool = False,
) -> Path:
    """Draw picture, map, magnitude of a signed one, and contribution area; the suffix is one of `SUFFIXES`.

    Maps of a layer have no contribution area. Curves of a check are drawn where the record has them. The magnitude is raised to the power
    `exponent`. Raises `BadOutput`, `BadParameter`.
    """
    target = Path(path)
    check_figure(target, overwrite=overwrite)
    layout = _layout(attribution, width_mm, exponent)
    with figure_file(target, layout.size, layout.points, layout.caption) as parts:
        _fill(parts, attribution, layout, exponent)
    return target


def figure_of(attribution: Drawable, *, width_mm: float, exponent: float) -> Figure:
    """Return what `draw` writes as a matplotlib figure. Raises `BadOutput`, `BadParameter`."""
    check_matplotlib()
    layout = _layout(attribution, width_mm, exponent)
    with drawn_figure(layout.size, layout.points) as (figure, parts):
        _fill(parts, attribution, layout, exponent)
    drawn: Figure = figure
    return drawn


def plot(attribution: Drawable, axes: Axes | None = None) -> Axes:
    """Draw the map, the sum over bands, with its colour bar into matplotlib axes; new ones by default.

    Raises `BadOutput`.
    """
    check_matplotlib()
    if axes is None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
    drawn, total = _map(axes, attribution)
    axes.figure.colorbar(drawn, ax=axes, label=_unit(attribution, total))
    axes.set_title(title(attribution.record), loc="left", parse_math=False)
    _frame([axes], attribution)
    return axes


class _Layout(NamedTuple):
    size: tuple[float, list[float]]
    """Width, and heights of maps, curves where there are any, and caption, in inches."""
    points: float
    caption: str


def _layout(attribution: Drawable, width_mm: float, exponent: float) -> _Layout:
    if not 0 < exponent <= 1:
        raise BadParameter(f"The exponent {exponent} is not in 0 … 1.", "Use for instance 0.5.")
    if not 30 <= width_mm <= 2000:
        raise BadParameter(f"A width of {width_mm} mm is outside 30 … 2000.", "180 is usual.")
    width, points = width_mm / 25.4, font_points(width_mm)
    text, below = wrapped_caption(caption(attribution.record), width, points)
    heights = [(0.75 if attribution.output is None else 0.55) * width, below]
    if is_drawn(_checked(attribution)):
        heights.insert(1, 0.3 * width + 6 * points / 72)
    return _Layout((width, heights), points, text)


def _checked(attribution: Drawable) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None
    found = attribution.record["attribution"].get("checks", {}).get(CHECK)
    return found


def _fill(parts: Sequence[Any], attribution: Drawable, layout: _Layout, exponent: float) -> None:
    above, *between, below = parts
    _panels(above, attribution, exponent)
    above.suptitle(title(attribution.record), x=0.02, ha="left", fontsize="medium")
    checked = _checked(attribution)
    for part in between:
        assert checked is not None
        draw_curves(part, checked)
    write_caption(below, layout.caption, layout.points)


def title(record: Mapping[str, Any]) -> str:
    """Return method, steps and completeness gap in one line."""
    attribution = record["attribution"]
    steps, gap = len(attribution["nodes"]), attribution["completeness"]["relative_gap"]
    parts = [f"{record['model']['id']}: {attribution['method']}"]
    if steps:
        parts.append(f"{steps} steps")
    if gap is not None:
        parts.append(f"gap {gap:.2%}")
    return ", ".join(parts)


def caption(record: Mapping[str, Any]) -> str:
    """Return all settings that reproduce the attribution, one per line."""
    attribution = record["attribution"]
    y0, x0, y1, x1 = attribution.get("output_box", attribution["box"])
    polygon = attribution["polygon"]
    shape = "" if polygon is None else f"a polygon of {len(polygon)} vertices in "
    kind, summary = kind_of(attribution), summary_of(attribution)
    bands = (
        "" if attribution.get("layer") or len(record["model"]["bands"]) == 1 else ", sum over bands"
    )
    lines = [
        *input_lines(record),
        f"box        {shape}x {x0} y {y0}, {x1 - x0} x {y1 - y0} pixels of the result; D = "
        f"{attribution['objective']}",
        *_method_lines(attribution),
        f"shows      {kind.title}{bands}: {kind.legend}",
        f"complete   {_completeness_text(attribution)}",
        *(
            [f"undefined  {attribution['not_finite']} values that are not finite, white above"]
            if attribution.get("not_finite")
            else []
        ),
        f"spread     {summary.spread}",
        f"place      of all magnitudes {attribution['rings']['box']:.1%} in the box, "
        f"{summary.far_share:.1%} beyond {summary.far} pixels from it",
        *(
            f"check      {check_text(checked)}"
            for checked in attribution.get("checks", {}).values()
        ),
        f"napari-restore {record['version']}. {kind.says}",
    ]
    return "\n".join(lines)


def _method_lines(record: Mapping[str, Any]) -> list[str]:
    """Return the lines on method, steps or arguments, and context."""
    if record["path"] is not None:
        return [
            f"method     {record['method']}, {record['path']} path from {record['baseline']}",
            f"steps      {len(record['nodes'])} {record['rule']}"
            + ("" if record["routing"] == "none" else f"; routing {record['routing']}"),
            f"context    {_context(record)}",
            *_part_lines(record),
        ]
    start = "" if record["baseline"] is None else f" from {record['baseline']}"
    given = ", ".join(f"{name}={value}" for name, value in record["arguments"].items())
    return [
        f"method     {record['method']}{start}",
        *_part_lines(record),
        f"arguments  {given or 'none'}",
        f"context    {_context(record)}",
    ]


def _part_lines(record: Mapping[str, Any]) -> list[str]:
    """Return the lines on the layer or the segments that have shares in place of pixels."""
    layer, segments = record.get("layer"), record.get("segments")
    lines = []
    if layer is not None:
        lines.append(
            f"of         layer {layer['name']} ({layer['kind']}), {layer['channels']} channels, "
            f"cells of {layer['stride']} x {layer['stride']} pixels"
        )
    if segments is not None:
        done = segments["evaluations"]
        lines.append(
            f"of         {segments['count']} segments, the share of each spread evenly: {segments['source']}"
            + ("" if done is None else f"; D computed {done} times")
        )
    return lines


def _context(record: Mapping[str, Any]) -> str:
    """Return how the context was treated, and the share of the change that came through it."""
    context = record["context"]
    if context["used"] == "none" or context["share"] is None:
        return CONTEXT_TEXT[context["used"]]
    left_out = "" if context["used"] == THROUGH else ", and is not in this map"
    return f"{CONTEXT_TEXT[context['used']]}; {context['share']:.0%} of the change came through it{left_out}"


def _completeness_text(attribution: Mapping[str, Any]) -> str:
    """Return sum, difference and gap as one line."""
    complete, summary = attribution["completeness"], summary_of(attribution)
    trust = summary.completeness + (": NOT complete" if summary.is_complete is False else "")
    if complete["sum"] is None:
        return trust
    free = complete["recomputed_difference"]
    apart = "" if free is None else f" ({free:.6g} with recomputed routing)"
    change = complete["difference"]
    shown = "not finite" if change is None else f"{change:.6g}"
    return f"sum {complete['sum']:.6g}, D(x) - D(x') {shown}{apart}, {trust}"


def _panels(figure: Any, attribution: Drawable, exponent: float) -> None:
    """Draw image, result where it is known, map, magnitude, and overview or contribution area."""
    shown, extent = attribution.window, _extent(attribution)
    pictures = {"image": np.clip(attribution.picture(shown), 0, 1)}
    if attribution.output is not None:
        pictures["result"] = np.clip(attribution.output(shown), 0, 1)
    kind, overview = attribution.kind, attribution.overview
    is_of_layer = attribution.record["attribution"].get("layer") is not None
    maps = 1 + kind.is_signed + (overview is not None or not is_of_layer)
    axes = _axes(figure, len(pictures), maps, has_overview=overview is not None)
    for axis, (name, picture) in zip(axes, pictures.items(), strict=False):
        axis.imshow(
            picture if picture.shape[2] == 3 else picture[..., 0], cmap="gray", extent=extent
        )
        axis.set_title(name)
    of_map, of_magnitude, of_area = axes[len(pictures)], axes[len(pictures) + 1], axes[-1]
    drawn, total = _map(of_map, attribution)
    of_map.set_title(kind.title)
    _add_bar(of_map, drawn, _unit(attribution, total))
    if kind.is_signed:
        most = drawn.norm.vmax
        power = (np.abs(np.asarray(drawn.get_array())) / most) ** exponent
        drawn = of_magnitude.imshow(power, cmap=MAGNITUDE, vmin=0, vmax=1, extent=extent)
        of_magnitude.set_title("magnitude")
        _add_bar(of_magnitude, drawn, f"(|a| / {most:.3g})^{exponent:g}")
    if overview is None and not is_of_layer:
        area, grey = attribution.contribution_area(), pictures["image"].mean(axis=2)
        of_area.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=extent)
        drawn = of_area.imshow(area, cmap=MAGNITUDE, vmin=0, vmax=1, alpha=0.6, extent=extent)
        of_area.set_title("contribution area")
        _add_bar(of_area, drawn, "density / its largest")
    elif overview is not None:
        share = attribution.record["attribution"]["overview_share"]
        drawn, total = _draw_overview(of_area, overview, of_map.images[0].norm.vmax)
        of_area.set_title(f"overview, means of blocks: {share:.1%} of all magnitudes")
        _add_bar(of_area, drawn, _unit(attribution, total))
    _frame(axes if overview is None else axes[:-1], attribution)
    if overview is not None:
        _label(of_area, attribution)


def _axes(figure: Any, pictures: int, maps: int, *, has_overview: bool) -> list[Any]:
    """Return axes for so many pictures and maps."""
    across = 1 + pictures
    grid = figure.add_gridspec(2, across)
    places = [(row, column) for row in (0, 1) for column in range(across)][: pictures + maps]
    axes = [figure.add_subplot(grid[place]) for place in places[: pictures + maps - has_overview]]
    if has_overview:
        # The whole image takes what is left of its row.
        row, column = places[-1]
        axes.append(figure.add_subplot(grid[row, column:]))
    return axes


def _add_bar(axis: Any, drawn: Any, label: str) -> None:
    """Add a colour bar beside a panel, as high as that."""
    axis.figure.colorbar(drawn, cax=axis.inset_axes((1.03, 0, 0.05, 1)), label=label)


def _extent(attribution: Drawable) -> tuple[int, int, int, int]:
    shown = attribution.window
    return shown.x0, shown.x1, shown.y1, shown.y0


def _map(axis: Any, attribution: Drawable) -> tuple[Any, float]:
    """Draw the sum of the map over its bands; return the drawn image, and the sum over pixels."""
    values = attribution.read(attribution.window).sum(axis=2, dtype=float)
    # Map and overview have one scale.
    most = 0.0 if attribution.overview is None else _largest(attribution.overview.density())
    extent, is_signed = _extent(attribution), attribution.kind.is_signed
    return _shown(axis, values, extent, max(most, _largest(values)) or 1.0, is_signed=is_signed)


def _shown(
    axis: Any, values: Any, extent: Sequence[int], most: float, *, is_signed: bool
) -> tuple[Any, float]:
    """Draw values (h, w), colours around 0 or from there; return the drawn image, and their sum."""
    low, colours = (-most, SIGNED) if is_signed else (0, MAGNITUDE)
    drawn = axis.imshow(values, cmap=colours, vmin=low, vmax=most, extent=extent)
    return drawn, float(values[np.isfinite(values)].sum())


def _largest(values: Any) -> float:
    return float(np.abs(values[np.isfinite(values)]).max(initial=0))


def _unit(attribution: Drawable, total: float) -> str:
    """Return what a value is, and of which sum in all `total` is that of the values drawn."""
    recorded, kind = attribution.record["attribution"], attribution.kind
    whole = recorded["completeness"]["sum"]
    if recorded.get("layer") is not None or not kind.total or whole is None:
        return kind.value
    rest = "" if np.isclose(total, whole, rtol=1e-3) else f" of {whole:.4g}"
    return f"{kind.value}\nsum {total:.4g}{rest}"


def _frame(axes: Sequence[Any], attribution: Drawable) -> None:
    """Limit panels to the map's window, outline the target in each, and label their axes."""
    window = attribution.window
    for axis in axes:
        axis.set_xlim(window.x0, window.x1)
        axis.set_ylim(window.y1, window.y0)
        _label(axis, attribution)


def _label(axis: Any, attribution: Drawable) -> None:
    y0, x0, y1, x1 = attribution.box
    about = attribution.record["attribution"]
    # Drawn in pixels of the results.
    ratio = float(Fraction(about.get("ratio", 1)))
    polygon = [(y / ratio, x / ratio) for y, x in about["polygon"] or ()]
    _outline(axis, polygon or [(y0, x0), (y0, x1), (y1, x1), (y1, x0)])
    axis.locator_params(nbins=5)
    axis.set_xlabel("x [pixels]")
    axis.set_ylabel("y [pixels]")


def _draw_overview(axis: Any, overview: OverviewShares, most: float) -> tuple[Any, float]:
    """Draw the means of blocks of an overview; return the drawn image, and the sum of all shares."""
    (y, x), step, (height, width) = overview.corner, overview.step, overview.values.shape[:2]
    extent = (x, x + width * step, y + height * step, y)
    drawn, _ = _shown(axis, overview.density(), extent, most, is_signed=True)
    return drawn, float(overview.values.sum(dtype=float))


def _outline(axis: Any, vertices: Sequence[Sequence[float]]) -> None:
    """Draw a polygon of vertices (y, x)."""
    from matplotlib.patches import Polygon

    corners = [(x, y) for y, x in vertices]
    for colour, width in zip(reversed(BOX_COLOURS), (1.8, 0.8), strict=True):
        axis.add_patch(Polygon(corners, fill=False, ec=colour, lw=width))


TITLES = {
    "insertion": "insertion: pixels inserted",
    "deletion": "deletion: pixels deleted",
}
ORDERS = {
    "curve": ("area", "by the map", "#0072B2", "-"),
    "nearest_curve": ("nearest_area", "by distance", "#D55E00", "--"),
    "random_curve": ("random_area", "at random", "#555555", ":"),
}
"""Key of the area, label, colour (Okabe and Ito) and line style of each curve."""
CHANCE = "0.8"
"""Grey of the reference lines at 0 and 1."""


def draw_curves(figure: Any, checked: Mapping[str, Any]) -> None:
    """Draw a recorded result of `insertion_deletion` into a matplotlib figure."""
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (name, title) in zip(axes, TITLES.items(), strict=True):
        curves = checked[name]
        for level in (0, 1):
            axis.axhline(level, color=CHANCE, lw=0.6, zorder=0)
        for curve, (area, order, colour, line) in ORDERS.items():
            # Records of earlier versions have only the curve of the map's order.
            if curves.get(curve) is not None:
                label = f"{order}, area {curves[area]:.3f}"
                axis.plot(checked["at"], curves[curve], line, color=colour, lw=1.2, label=label)
        axis.set_xlim(0, 1)
        axis.set_xlabel("share of the pixels")
        # Above the axes, where it covers no curve.
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
        axis.legend(title=title, alignment="left", frameon=False, **place)
    axes[0].set_ylabel("share of D(x) − D(x′)")


def is_drawn(checked: Mapping[str, Any] | None) -> bool:
    """Return whether the check has curves: there are none where D of image and baseline is equal."""
    return checked is not None and checked["insertion"]["curve"] is not None


def check_text(checked: Mapping[str, Any]) -> str:
    """Return one line on the check for the caption."""
    if not is_drawn(checked):
        return "undefined: image and baseline hardly differ in D"
    areas = [
        f"{name} {checked[name]['area']:.3f} (by distance {checked[name]['nearest_area']:.3f}, "
        f"random {checked[name]['random_area']:.3f})"
        for name in TITLES
    ]
    return f"{', '.join(areas)}, from {checked['baseline']}"
