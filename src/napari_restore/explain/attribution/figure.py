"""A figure of an attribution with all settings that reproduce it: maps, legends, caption."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Unpack

import numpy as np
import numpy.typing as npt

from napari_restore.engine import Region
from napari_restore.errors import BadParameter
from napari_restore.explain.attribution._overview import OverviewShares
from napari_restore.explain.attribution.figure_file import (
    EXPONENT,
    FigureStyle,
    StyleOptions,
    check_matplotlib,
    drawn_figure,
    input_lines,
)
from napari_restore.explain.attribution.measures import largest
from napari_restore.explain.attribution.summary import attribution_summary, map_error_text
from napari_restore.explain.kinds import Kind, kind_of
from napari_restore.questions import CHECK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = npt.NDArray[Any]
Size = tuple[int, int]
Corners = Sequence[Sequence[float]]
Read = Callable[[Region], npt.NDArray[np.float32]]
SIGNED, MAGNITUDE = "PuOr", "viridis"
"""Colour maps that remain distinguishable with colour vision deficiency."""
PANEL_MM = 40
"""Least width of a panel with its ticks and its colour bar."""
INSET = 0.34
"""Share of a panel that the inset takes along its longer side."""


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
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def whole(self) -> npt.NDArray[np.uint8] | None: ...
    def read(self, box: Region) -> npt.NDArray[np.float32]: ...
    def contribution_area(self) -> npt.NDArray[np.float64]: ...


def draw(
    attribution: Drawable,
    path: str | Path,
    *,
    overwrite: bool = False,
    **style: Unpack[StyleOptions],
) -> Path:
    """Draw picture, map, magnitude of a signed one, and contribution area; the suffix is one of `SUFFIXES`.

    Maps of a layer have no contribution area. Curves of a check are drawn where the record has them, and
    no panels are named. `style` is as in `FigureStyle`. Raises `BadOutput`, `BadParameter`.
    """
    target = Path(path)
    _drawn(attribution, FigureStyle(**style), target, overwrite=overwrite)
    return target


def figure_of(attribution: Drawable, **style: Unpack[StyleOptions]) -> Figure:
    """Return what `draw` writes as a matplotlib figure. Raises `BadOutput`, `BadParameter`."""
    return _drawn(attribution, FigureStyle(**style), None)


def _drawn(
    attribution: Drawable, style: FigureStyle, target: Path | None, *, overwrite: bool = False
) -> Figure:
    heights, text = _heights(attribution, style), caption(attribution.record)
    with drawn_figure(style, heights, text, target, overwrite=overwrite) as (figure, parts):
        above, *below = parts
        _panels(above, attribution, style)
        if style.caption:
            above.suptitle(title(attribution.record), x=0.02, ha="left", fontsize="medium")
        for part in below:
            draw_curves(part, attribution.record["attribution"]["checks"][CHECK])
    return figure


def plot(attribution: Drawable, axes: Axes | None = None) -> Axes:
    """Draw the map, the sum over bands, with its colour bar into matplotlib axes; raises `BadOutput`."""
    check_matplotlib()
    if axes is None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
    part = _Part(attribution, FigureStyle())
    axes.figure.colorbar(_map(axes, part), ax=axes, label=_unit(attribution, part.total))
    axes.set_title(title(attribution.record), loc="left", parse_math=False)
    _label(axes, attribution)
    frame(axes, attribution.window)
    return axes


def _heights(attribution: Drawable, style: FigureStyle) -> list[float]:
    """Return the heights in inches of the panels, and of the curves of a check where there are any."""
    width = style.width_mm / 25.4
    rows, across = _grid(style.panels or _usual(attribution), style)
    has_curves = is_drawn(attribution.record["attribution"].get("checks", {}).get(CHECK))
    curves = [0.3 * width + 6 * style.points / 72] * (has_curves and not style.panels)
    return [(0.75 * rows / across + 0.05) * width, *curves]


def _usual(attribution: Drawable) -> list[str]:
    """Return the panels that are drawn where none are named."""
    last = "area" if attribution.overview is None else "overview"
    has_last = last == "overview" or not attribution.record["attribution"].get("layer")
    names = ["image", *(["result"] if attribution.output is not None else []), "map"]
    return names + ["magnitude"] * attribution.kind.is_signed + [last] * has_last


def _grid(names: Sequence[str], style: FigureStyle) -> tuple[int, int]:
    """Return the rows of so many panels, and how many stand side by side."""
    most = max(1, int(style.width_mm // PANEL_MM))
    rows = max(1 if len(names) < 4 else 2, -(-len(names) // most))
    return rows, -(-len(names) // rows)


def title(record: Mapping[str, Any]) -> str:
    """Return method, steps and completeness gap in one line."""
    attribution = record["attribution"]
    steps, gap = len(attribution["nodes"]), attribution["completeness"]["relative_gap"]
    parts = [
        f"{record['model']['id']}: {attribution['method']}",
        f"{steps} steps" if steps else "",
        "" if gap is None else f"gap {gap:.2%}",
        map_error_text(attribution["completeness"]),
    ]
    return ", ".join(filter(None, parts))


def caption(record: Mapping[str, Any]) -> str:
    """Return all settings that reproduce the attribution, one per line."""
    about = record["attribution"]
    y0, x0, y1, x1 = about.get("output_box", about["box"])
    polygon, path, lost = about["polygon"], about["path"], about.get("not_finite")
    shape = "" if polygon is None else f"a polygon of {len(polygon)} vertices in "
    kind, summary = kind_of(about), attribution_summary(about)
    is_sum = not about.get("layer") and len(record["model"]["bands"]) > 1
    along = "" if path is None else f", {path} path"
    start = "" if about["baseline"] is None else f" from {about['baseline']}"
    routing = "" if about["routing"] == "none" else f"; routing {about['routing']}"
    given = ", ".join(f"{name}={value}" for name, value in about["arguments"].items())
    fields = {
        "box": f"{shape}x {x0} y {y0}, {x1 - x0} x {y1 - y0} pixels of the result; D = "
        f"{about['objective']}",
        "method": f"{about['method']}{along}{start}",
        "of": summary.parts,
        "steps": f"{len(about['nodes'])} {about['rule']}{routing}" if path else "",
        "arguments": "" if path else given or "none",
        "context": summary.context or "none",
        "shows": f"{kind.title}{', sum over bands' * is_sum}: {kind.legend}",
        "complete": _completeness_text(about),
        "undefined": f"{lost} values that are not finite, white above" if lost else "",
        "spread": summary.spread,
        "place": f"of all magnitudes {about['rings']['box']:.1%} in the box, "
        f"{summary.far_share:.1%} beyond {summary.far} pixels from it",
        "check": ", ".join(summary.checks),
    }
    lines = [f"{name:11}{text}" for name, text in fields.items() if text]
    last = f"napari-restore {record['version']}. {kind.says}"
    return "\n".join([*input_lines(record), *lines, last])


def _completeness_text(attribution: Mapping[str, Any]) -> str:
    """Return sum, difference and gap as one line."""
    complete, summary = attribution["completeness"], attribution_summary(attribution)
    trust = summary.completeness + (": NOT complete" if summary.is_complete is False else "")
    if complete["sum"] is None:
        return trust
    free = complete["recomputed_difference"]
    apart = "" if free is None else f" ({free:.6g} with recomputed routing)"
    change = complete["difference"]
    shown = "not finite" if change is None else f"{change:.6g}"
    return f"sum {complete['sum']:.6g}, D(x) - D(x') {shown}{apart}, {trust}"


def _panels(figure: Any, attribution: Drawable, style: FigureStyle) -> None:
    """Draw the panels, each with its colour bar."""
    names = style.panels or _usual(attribution)
    for name in {*names} - {*_usual(attribution), "over"}:
        raise BadParameter(f"This map has no panel {name}.", "Leave it out.")
    part = _Part(attribution, style)
    for name, axis in zip(names, _axes(figure, names, style), strict=True):
        drawn, label = _panel(axis, name, part)
        if drawn is not None:
            extend = "neither" if name in ("magnitude", "area") else style.extend
            beside = axis.inset_axes((1.03, 0, 0.05, 1))
            axis.figure.colorbar(drawn, cax=beside, label=label, extend=extend)
        _label(axis, attribution)
        if name != "overview":
            frame(axis, part.around)


def _panel(axis: Any, name: str, part: _Part) -> tuple[Any, str]:
    """Draw one panel; return what its colour bar describes, None without one, and its label."""
    attribution, shown = part.attribution, part.shown
    extent = extent_of(shown)
    axis.set_title(name)
    if name == "image":
        target, (whole, size) = outline_of(attribution), (attribution.whole, attribution.size)
        draw_inset(axis, attribution.picture(shown), shown, whole, size, target)
        return None, ""
    if name == "result":
        assert attribution.output is not None
        draw_picture(axis, attribution.output(shown), shown)
        return None, ""
    if name == "area":
        grey = np.clip(attribution.picture(shown), 0, 1).mean(axis=2)
        axis.set_title("contribution area")
        axis.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=extent)
        area = attribution.contribution_area()
        near = extent_of(attribution.window)
        drawn = axis.imshow(area, cmap=MAGNITUDE, vmin=0, vmax=1, alpha=0.6, extent=near)
        return drawn, "density / its largest"
    if name == "overview":
        assert attribution.overview is not None
        overview, share = attribution.overview, attribution.record["attribution"]["overview_share"]
        (y, x), step, (height, width) = overview.corner, overview.step, overview.values.shape[:2]
        around = extent_of(Region(y, x, y + height * step, x + width * step))
        drawn = axis.imshow(overview.density(), cmap=SIGNED, norm=part.norm, extent=around)
        axis.set_title(f"overview, means of blocks: {share:.1%} of all magnitudes")
        return drawn, _unit(attribution, float(overview.values.sum(dtype=float)))
    if name == "magnitude":
        most, exponent = part.norm.vmax, part.style.exponent
        power = np.clip(np.abs(part.values) / most, 0, 1) ** exponent
        drawn = axis.imshow(power, cmap=MAGNITUDE, vmin=0, vmax=1, extent=extent)
        return drawn, f"(|a| / {most:.3g})^{exponent:g}"
    axis.set_title(attribution.kind.title)
    if name == "map":
        drawn = _map(axis, part)
    else:
        picture = np.clip(attribution.picture(shown), 0, 1)
        drawn = draw_over(axis, picture, part.values, shown, part.norm, attribution.kind)
    return drawn, _unit(attribution, part.total)


def draw_picture(axis: Any, picture: Values, shown: Region) -> None:
    """Draw a picture (h, w, C) of `shown`, which is grey unless it has three bands."""
    colours = picture if picture.shape[2] == 3 else picture[..., 0]
    axis.imshow(np.clip(colours, 0, 1), cmap="gray", vmin=0, vmax=1, extent=extent_of(shown))


def extent_of(shown: Region) -> tuple[int, int, int, int]:
    """Return where matplotlib draws an array over a box."""
    return shown.x0, shown.x1, shown.y1, shown.y0


def draw_inset(
    axis: Any, picture: Values, shown: Region, whole: Values | None, size: Size, target: Corners
) -> None:
    """Draw a picture of `shown`, and in its corner where the target lies in the `whole` of this size."""
    draw_picture(axis, picture, shown)
    height, width = size
    if whole is None or shown.pixels > 0.5 * height * width:
        return
    tall, wide = (INSET * min(1, each) for each in (height / width, width / height))
    y, x = np.mean(target, axis=0)
    # In the corner that is farthest from the target.
    left = 0.02 if x > (shown.x0 + shown.x1) / 2 else 0.98 - wide
    bottom = 0.98 - tall if y > (shown.y0 + shown.y1) / 2 else 0.02
    inset = axis.inset_axes((left, bottom, wide, tall))
    inset.imshow(whole, extent=(0, width, height, 0), aspect="auto")
    inset.set(xticks=[], yticks=[])
    for side in inset.spines.values():
        side.set_color("white")
    outline(inset, target)


def draw_over(
    axis: Any, picture: Values, values: Values, shown: Region, norm: Any, kind: Kind
) -> Any:
    """Draw values (h, w) over the grey picture, the clearer the nearer to 0; return their colours."""
    from matplotlib.cm import ScalarMappable

    extent = extent_of(shown)
    colours = ScalarMappable(norm, SIGNED if kind.is_signed else MAGNITUDE)
    axis.imshow(picture.mean(axis=2), cmap="gray", vmin=-0.5, vmax=1, extent=extent)
    drawn = colours.to_rgba(np.nan_to_num(values))
    reach = max(abs(norm.vmin), abs(norm.vmax))
    drawn[..., 3] = np.clip(np.abs(np.nan_to_num(values)) / reach, 0, 1) ** EXPONENT
    axis.imshow(drawn, extent=extent)
    return colours


def _axes(figure: Any, names: Sequence[str], style: FigureStyle) -> list[Any]:
    """Return axes for panels."""
    rows, across = _grid(names, style)
    grid = figure.add_gridspec(rows, across)
    places: list[Any] = [(row, column) for row in range(rows) for column in range(across)]
    places = places[: len(names)]
    if names[-1] == "overview":
        # The whole image takes what is left of its row.
        row, column = places[-1]
        places[-1] = row, slice(column, None)
    return [figure.add_subplot(grid[place]) for place in places]


def shown_around(attribution: Drawable, margin: tuple[int, int]) -> tuple[Region, Region]:
    """Return a box around the target with `margin` rows and columns, and its part in the image."""
    box, (height, width), (down, across) = attribution.box, attribution.size, margin
    around = Region(box.y0 - down, box.x0 - across, box.y1 + down, box.x1 + across)
    return around, around.intersect(Region(0, 0, height, width))


class _Part:
    """What the panels of a figure show of a map, read once."""

    def __init__(self, attribution: Drawable, style: FigureStyle) -> None:
        self.attribution, self.style = attribution, style
        box, window = attribution.box, attribution.window
        self.around = self.shown = window
        """What panels show, and its part in the image: chosen ones have the target in their middle."""
        if style.panels is not None:
            down = max(box.y0 - window.y0, window.y1 - box.y1)
            across = max(box.x0 - window.x0, window.x1 - box.x1)
            self.around, self.shown = shown_around(attribution, (down, across))

    @cached_property
    def values(self) -> npt.NDArray[np.float64]:
        return values_in(self.attribution, self.shown)

    @cached_property
    def total(self) -> float:
        """The sum of the finite values."""
        return float(self.values[np.isfinite(self.values)].sum())

    @cached_property
    def norm(self) -> Any:
        """The scale of the values, which is that of the overview, too."""
        overview = self.attribution.overview
        beside = 0.0 if overview is None else largest(overview.density())
        most = max(largest(self.values), beside)
        return self.style.norm(most, is_signed=self.attribution.kind.is_signed)


def _map(axis: Any, part: _Part) -> Any:
    """Draw the sum of the map over its bands; return the drawn image."""
    colours = SIGNED if part.attribution.kind.is_signed else MAGNITUDE
    return axis.imshow(part.values, cmap=colours, norm=part.norm, extent=extent_of(part.shown))


def values_in(attribution: Drawable, part: Region) -> npt.NDArray[np.float64]:
    """Return the sum of the map over its bands in a part of the image, (h, w); outside its window 0."""
    values = np.zeros(part.shape)
    near = part.intersect(attribution.window)
    values[near.within(part)] = attribution.read(near).sum(axis=2, dtype=float)
    return values


def _unit(attribution: Drawable, total: float) -> str:
    """Return what a value is, and of which sum in all `total` is that of the values drawn."""
    recorded, kind = attribution.record["attribution"], attribution.kind
    whole = recorded["completeness"]["sum"]
    if recorded.get("layer") is not None or not kind.total or whole is None:
        return kind.value
    rest = "" if np.isclose(total, whole, rtol=1e-3) else f" of {whole:.4g}"
    return f"{kind.value}\nsum {total:.4g}{rest}"


def frame(axis: Any, around: Region) -> None:
    """Limit a panel to a box."""
    axis.set_xlim(around.x0, around.x1)
    axis.set_ylim(around.y1, around.y0)


def outline_of(attribution: Drawable) -> Corners:
    """Return the corners (y, x) of the target, in pixels of the image."""
    about = attribution.record["attribution"]
    # Drawn in pixels of the results.
    ratio = float(Fraction(about.get("ratio", 1)))
    polygon = [(y / ratio, x / ratio) for y, x in about["polygon"] or ()]
    return polygon or corners_of(attribution.box)


def corners_of(box: Region) -> Corners:
    """Return the corners (y, x) of a box."""
    y0, x0, y1, x1 = box
    return [(y0, x0), (y0, x1), (y1, x1), (y1, x0)]


def _label(axis: Any, attribution: Drawable) -> None:
    outline(axis, outline_of(attribution))
    axis.locator_params(nbins=5)
    axis.set_xlabel("x [pixels]")
    axis.set_ylabel("y [pixels]")


def outline(axis: Any, vertices: Corners, colour: str = "black") -> None:
    """Draw a polygon of vertices (y, x), in white around a colour: visible on any background."""
    from matplotlib.patches import Polygon

    corners = [(x, y) for y, x in vertices]
    for edge, width in (("white", 1.8), (colour, 0.8)):
        axis.add_patch(Polygon(corners, fill=False, ec=edge, lw=width))


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
