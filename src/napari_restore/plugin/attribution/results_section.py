"""The finished attributions: choosing one, its plots and measures, files, two side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import psygnal
from qtpy.QtCore import QRectF, Qt, Signal
from qtpy.QtWidgets import QLabel, QWidget

from napari_restore import Region, api
from napari_restore.errors import BadOutput, RestoreError
from napari_restore.plugin.attribution.layers import VIEWS
from napari_restore.plugin.compare.compared_layers import SideBySide
from napari_restore.plugin.layers.display import signed_colours
from napari_restore.plugin.layers.placing import axes_of, plane_of, resampled, shifted
from napari_restore.plugin.results.save_dialog import FileSaver, copy_command
from napari_restore.plugin.results.variant_text import table_of
from napari_restore.plugin.state.state import RestoreState, title_of
from napari_restore.plugin.tasks.notices import box_text, show_note, show_problem
from napari_restore.plugin.tasks.task import in_background
from napari_restore.plugin.widgets import plots
from napari_restore.plugin.widgets.editors import NarrowComboBox, combo_of
from napari_restore.plugin.widgets.folding import (
    add_button,
    column_of,
    flowing,
    form_layout,
    in_a_row,
    stacked,
)
from napari_restore.plugin.widgets.section import Section
from napari_restore.questions import CHECK, THROUGH
from napari_restore.records import write_record

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.explain import Attribution
    from napari_restore.plugin.attribution.attribution_task import AttributionResult


MIN_SHARE = 0.01
"""Smallest share of the unchanged input that has a row."""
Row = tuple[str, str]


def leaves_out_context(record: Mapping[str, Any]) -> bool:
    """Return whether the gradient through the context would add to the map."""
    attribution = record["attribution"]
    return attribution["path"] is not None and api.attribution_summary(attribution).omits_context


def report(found: Attribution) -> list[Row]:
    """Return how complete a map is, what it omits, how spread it is, and what it is of."""
    attribution, model = found.record["attribution"], found.record["model"]
    complete = attribution["completeness"]
    summary = api.attribution_summary(attribution)
    word = {True: "yes: ", False: "NO: ", None: ""}[summary.is_complete]
    rows = [("Complete", word + summary.completeness)]
    if complete["sum"] is not None:
        known = complete["difference"]
        change = "not finite" if known is None else f"{known:.4g}"
        change += f", shares add up to {complete['sum']:.4g}"
        rows.append(("Difference", change))
    if frames := attribution.get("frames"):
        shares = (f"{Path(each['path'] or 'array').name} {each['sum']:+.4f}" for each in frames)
        rows.append(("Shares of the frames", ", ".join(shares)))
    if complete["recomputed_difference"] is not None:
        free = f"{complete['recomputed_difference']:.4g}"
        rows.append(("Routing", f"{attribution['routing']}; recomputed, the difference is {free}"))
    known_by = {"Of": summary.parts, "Context": summary.context, "Box": _target(attribution)}
    known_by |= {"Method": _method(attribution), "Shows": found.kind.about}
    near = attribution["window"]["diffusion_index"]
    if near is not None:
        window = tuple(attribution["window"]["region"])
        is_whole = window == tuple(attribution["region"])
        beside = "" if is_whole else f"; within 512 px of the box index {near:.2f}"
        known_by["Spread"] = summary.spread + beside
        known_by[f"Beyond {summary.far} px"] = f"{summary.far_share:.1%} of all magnitudes"
    if (attribution["identity_share"] or 0) >= MIN_SHARE:
        known_by["Input unchanged"] = f"{attribution['identity_share']:.0%} of the map"
    weights = model["weights_sha256"]
    known_by["Check"] = "; ".join(summary.checks)
    known_by["Model"] = title_of(model["id"]) + (f", weights {weights[:12]}" if weights else "")
    return [*rows, *((name, text) for name, text in known_by.items() if text)]


def _target(attribution: Mapping[str, Any]) -> str:
    scale = attribution["scale"]
    pixels = "px" if scale == 1 else f"px of the overview 1:{scale}"
    within = "a polygon in " if attribution["polygon"] else ""
    return f"{attribution['objective']} of {within}{box_text(Region(*attribution['box']), pixels)}"


def _method(attribution: Mapping[str, Any]) -> str:
    way = "" if attribution["path"] is None else f": {attribution['path']} path"
    start = "" if attribution["baseline"] is None else f" from {attribution['baseline']}"
    return f"{attribution['method']}{way}{start}"


CROWDED = 1.5
"""The widest step over the narrowest from which on points crowd towards the ends."""
MIN_RING = 5e-4
"""Share that is more than 0.0 %."""


class PathPlot(QWidget):
    """D along the path, and the attribution added up so far: one line if the map is complete."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFixedHeight(120)
        self._nodes: npt.NDArray[np.float64] = np.zeros((0, 3))
        self.setToolTip(
            "D at the points of the path from the baseline (0) to the image (1), and the integral of "
            "the attributions up to there. They part where the map is not complete"
        )

    def show_nodes(self, nodes: Sequence[Sequence[float]]) -> None:
        """Show (α, D, dD/dα) of each point in the order of α; none clears the plot."""
        known = np.array(nodes, float).reshape(-1, 3)
        self._nodes = known[np.isfinite(known).all(axis=1)]
        self.setVisible(len(self._nodes) > 1)
        self.update()

    def lines(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return (n,) D − D at the first point, and the slopes' integral up to each point."""
        alpha, value, slope = self._nodes.T
        return value - value[0], _integral(alpha, slope)

    def paintEvent(self, _: Any) -> None:
        if len(self._nodes) < 2:
            return
        alpha, (value, added) = self._nodes[:, 0].tolist(), self.lines()
        dashed = Qt.PenStyle.DashLine
        lines = (
            plots.Line("D(γ) − D(x′)", alpha, value.tolist(), plots.BLUE, has_dots=True),
            plots.Line("attribution", alpha, added.tolist(), plots.VERMILION, dashed),
        )
        painter, _text = plots.begin(self)
        plots.draw_plot(painter, self, lines, *plots.limits_of(lines), ends=("α 0", "1"))
        painter.end()


def rings_of(attribution: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return the shares of all magnitudes by distance for bars, without empty ones at the end."""
    rings = {
        name if name == "box" else f"{name} px" if name[-1] != "-" else f"> {name[:-1]} px": share
        for name, share in attribution["rings"].items()
    }
    last = max((n for n, share in enumerate(rings.values()) if share >= MIN_RING), default=0)
    shown = dict(list(rings.items())[: last + 1])
    return {"Magnitudes by distance from the box": shown} if shown else {}


TITLES = {"insertion": "brought in", "deletion": "taken away"}
ORDERS = {
    "": ("by the map", plots.BLUE, Qt.PenStyle.SolidLine),
    "nearest_": ("by distance", plots.VERMILION, Qt.PenStyle.DashLine),
    "random_": ("at random", plots.GREY, Qt.PenStyle.DotLine),
}
"""Of each curve, as the record begins its keys: name, colour and line."""
ROW, BESIDE, GAP, HEIGHT = 15, 26, 8, 84
"""Of the legend, of what is written beside a plot, and of a plot, in pixels."""


class CurvePlot(QWidget):
    """Insertion and deletion beside each other, their areas above; hidden where there is no check."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFixedHeight(ROW * (1 + len(ORDERS)) + HEIGHT + ROW + 4)
        self._checked: Mapping[str, Any] | None = None
        self.setToolTip(
            "The share of D(x) − D(x′) over the share of pixels that are brought in, or taken away, "
            "those with the largest shares first. A map that ranks pixels well has an area near 1 "
            "under the left curve, near 0 under the right one, and beats distance from the box"
        )
        self.setVisible(False)

    def show_check(self, checked: Mapping[str, Any] | None) -> None:
        """Show a check of the record; None, or one without curves, hides the plot."""
        self._checked = checked
        if checked is not None and checked["insertion"]["curve"] is None:
            self._checked = None
        self.setVisible(self._checked is not None)
        self.update()

    def legend(self, name: str) -> list[str]:
        """Return the text above the plot of ``insertion`` or ``deletion``."""
        assert self._checked is not None, "nothing is shown"
        curves = self._checked[name]
        return [f"{title} {curves[f'{key}area']:.3f}" for key, (title, _, _) in ORDERS.items()]

    def paintEvent(self, _: Any) -> None:
        if self._checked is None:
            return
        painter, text = plots.begin(self)
        width = (self.width() - 2 * BESIDE - GAP - 2) / 2
        # Records of earlier versions have the map's alone.
        drawn = {
            name: [
                plots.Line(title, self._checked["at"], curve, colour, style)
                for key, (title, colour, style) in ORDERS.items()
                if (curve := self._checked[name].get(f"{key}curve")) is not None
            ]
            for name in TITLES
        }
        limits = plots.limits_of([line for lines in drawn.values() for line in lines])
        for number, (name, title) in enumerate(TITLES.items()):
            left = BESIDE + number * (width + BESIDE + GAP)
            words = [(f"Pixels {title}", text)]
            colours = [colour for _, colour, _ in ORDERS.values()]
            words += zip(self.legend(name), colours, strict=True)
            for row, (word, colour) in enumerate(words):
                painter.setPen(colour)
                painter.drawText(QRectF(left, row * ROW, width, ROW), plots.LEFT_OF, word)
            painter.setPen(text)
            box = QRectF(left, ROW * (1 + len(ORDERS)) + 2, width, HEIGHT)
            ticks = {0.0: "0", 1.0: "1"}
            plots.draw_lines(painter, box, drawn[name], limits, ticks=ticks, ends=("0", "1"))
        painter.end()


def _integral(
    alpha: npt.NDArray[np.float64], slope: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return (n,) the integral of the slopes from 0 to each point."""
    # Of the polynomial that meets them, as the rules of Clenshaw-Curtis and Gauss have it, where
    # the points crowd towards the ends; else by trapezoids.
    steps = np.diff(alpha)
    if steps.max() > CROWDED * steps.min():
        series = np.polynomial.Chebyshev.fit(alpha, slope, len(alpha) - 1, domain=[0, 1]).integ()
        found: npt.NDArray[np.float64] = series(alpha) - series(0.0)
        return found
    parts = steps * (slope[1:] + slope[:-1]) / 2
    return np.concatenate([[0.0], np.cumsum(parts)])


MARGIN = 64
"""Pixels around a box that are shown at least."""
FONT_SIZE = 8
"""Points of the name of each on the canvas, half of which is as wide as the name."""


class MapComparison:
    """Shows the maps of two attributions over their images under one camera, until `end`."""

    ended = psygnal.Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._pair: tuple[AttributionResult, AttributionResult] | None = None
        self._grid: SideBySide | None = None
        self._made: list[ImageLayer] = []

    def show(self, one: AttributionResult, other: AttributionResult) -> None:
        """Begin; the pictures are made on another thread."""
        pair = self._pair = one, other
        in_background(partial(_pictures, one.attribution, other.attribution), self._show, pair)

    def end(self) -> None:
        """Show one view again."""
        self._pair = None
        if self._grid is not None:
            self._grid.end()

    def _show(self, pair: tuple[AttributionResult, AttributionResult], pictures: Any) -> None:
        if pair is not self._pair:
            return
        if isinstance(pictures, RestoreError):
            show_problem(pictures)
            return
        place = pair[0].attribution.box
        matrix = resampled(plane_of(pair[0].source), Fraction(1, pair[0].scale))
        for result, picture in zip(pair, pictures, strict=True):
            # Box on box: the camera shows the same place of both.
            (y, x, *_), (y0, x0, *_) = _around(result.attribution), result.attribution.box
            layer = self._viewer.add_image(
                picture,
                rgb=True,
                name=result.title,
                affine=shifted(matrix, place.y0 + y - y0, place.x0 + x - x0),
                **axes_of(result.source),
                metadata={"napari_restore_source": "attribution"},
            )
            label = layer.name_overlay
            label.font_size, label.box, label.visible = FONT_SIZE, True, True
            self._made.append(layer)
        self._grid = SideBySide(self._viewer, *self._made)
        self._grid.ended.connect(self._on_ended)
        middle = matrix @ [(place.y0 + place.y1 - 1) / 2, (place.x0 + place.x1 - 1) / 2, 1]
        camera = self._viewer.scene.camera
        camera.center = (*camera.center[:-2], *middle[:2])

    def _on_ended(self) -> None:
        self._grid = None
        made, self._made = self._made, []
        for layer in made:
            if layer in self._viewer.layers:
                # Drivers in software can crash where a text is drawn as its layer goes.
                layer.name_overlay.visible = False
                self._viewer.layers.remove(layer)
        self.ended.emit()


def _pictures(*attributions: Attribution) -> list[Any]:
    """Return (h, w, 3) uint8 of each: the map over the grey image `_around` the box."""
    colours = signed_colours()
    pictures = []
    for attribution in attributions:
        around = _around(attribution)
        values = np.zeros(around.shape, np.float32)
        near = around.intersect(attribution.region)
        values[near.within(around)] = attribution.read(near).sum(axis=2)
        # Each by its own largest: objectives and models differ in size, the places matter.
        values[~np.isfinite(values)] = 0
        most = float(np.abs(values).max(initial=0.0)) or 1.0
        drawn = colours.map((values / most / 2 + 0.5).ravel()).reshape(*values.shape, 4)
        grey = np.clip(attribution.picture(around), 0, 1).mean(axis=2, keepdims=True)
        alpha = drawn[..., 3:]
        picture = np.round(255 * (alpha * drawn[..., :3] + (1 - alpha) * grey)).astype("u1")
        _outline(picture, attribution.box.within(around))
        pictures.append(picture)
    return pictures


def _around(attribution: Attribution) -> Region:
    """Return the part that is shown: the box and as much around it."""
    image, box = attribution.image, attribution.box
    wide = box.expand(max(MARGIN, *box.shape))
    return wide.intersect(Region(0, 0, image.height, image.width))


def _outline(picture: Any, where: tuple[slice, slice]) -> None:
    """Draw a white line around a box of the picture, and a dark one around that."""
    rows, columns = where
    for far, value in ((2, 0), (1, 255)):
        top, left = max(0, rows.start - far), max(0, columns.start - far)
        part = picture[top : rows.stop + far, left : columns.stop + far]
        part[[0, -1]] = value
        part[:, [0, -1]] = value


EXPONENTS = {1.0: "exponent 1", 0.5: "exponent 1/2", 0.25: "exponent 1/4", 0.125: "exponent 1/8"}


class AttributionResultsSection(Section):
    """All attributions of a viewer; the chosen one is reported, and it alone is on the canvas."""

    rerun_requested = Signal(object)
    """The `AttributionRequest` of the chosen one, with its gradient through the context."""

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self.all: list[AttributionResult] = []
        self._comparison = MapComparison(viewer)
        self._set_aside: list[AttributionResult] = []
        """Those that are hidden while another one is computed."""
        self._files = FileSaver(self, "attribution")
        self.which = NarrowComboBox(self)
        self.other = NarrowComboBox(self)
        self.measures = QLabel(self, wordWrap=True)
        self.measures.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.path, self.rings, self.curves = PathPlot(self), plots.BarChart(self), CurvePlot(self)
        self.rings.setToolTip("Where all magnitudes lie, with those of the overview")
        self.through_context = add_button(
            self,
            "Go through the context",
            "Ask again, with the share that came through what the model draws from the whole image",
            self._on_through_context,
        )
        tip = "What the layer shows: the values, their magnitude, or a smooth area of where it lies"
        self.view = combo_of(self, VIEWS, tip)
        self.exponent = combo_of(
            self,
            EXPONENTS,
            "The magnitude is (|a| / its largest) to this power: the smaller, the more of "
            "what is weak is seen",
            name="Exponent",
        )
        self.exponent.setCurrentIndex(1)
        tip = "Both maps over their pictures, under one camera"
        self.side_by_side = add_button(self, "Side by side", tip, checkable=True)
        files = (
            ("Figure", "Maps, legends and all settings", (".png", ".pdf", ".svg"), _draw),
            ("Map", "The values as a float32 raster", (".tif",), _save_map),
            ("Record", "All that repeats the attribution", (".json",), _save_record),
        )
        self.figure, self.map, self.record = (
            add_button(self, f"{title} …", tip, partial(self._save, title, suffixes, write))
            for title, tip, suffixes, write in files
        )
        tip = "The napari-restore line that writes the same map"
        self.copy = add_button(self, "Copy command", tip, self._copy)
        self._build()
        self.which.currentIndexChanged.connect(self._on_chosen)
        self.view.currentIndexChanged.connect(self._on_view)
        self.exponent.currentIndexChanged.connect(self._on_view)
        self.side_by_side.clicked.connect(self._on_side_by_side)
        self._comparison.ended.connect(lambda: self.side_by_side.setChecked(False))
        self.listen(self._on_removed, viewer.layers.events.removed)
        self._offer()

    def _build(self) -> None:
        form = form_layout()
        form.addRow("Attribution", self.which)
        form.addRow("Show", in_a_row(self.view, self.exponent))
        # Names are long, and the panel is narrow.
        form.addRow("Compare with", stacked(self.other, self.side_by_side))
        shown = (self.measures, self.through_context, self.path, self.rings, self.curves)
        column_of(self, form, *shown, flowing(self.figure, self.map, self.record, self.copy))

    def leave(self) -> None:
        """Disconnect; the layers stay."""
        self._comparison.end()

    # -- choosing -------------------------------------------------------------------

    @property
    def current(self) -> AttributionResult | None:
        """The attribution that is chosen."""
        result: AttributionResult | None = self.which.currentData()
        return result

    def add(self, result: AttributionResult) -> None:
        """Offer and choose a new attribution; the others are offered to be compared with."""
        self.all.append(result)
        self._offer()

    def end_comparison(self) -> None:
        """Show one view again."""
        self._comparison.end()

    def hide_layers(self) -> None:
        """Hide what is on the canvas: another attribution comes there."""
        self.end_comparison()
        self._set_aside = [result for result in self.all if result.layers.visible]
        for result in self._set_aside:
            result.layers.visible = False

    def show_layers(self) -> None:
        """Undo `hide_layers`: the attribution was not finished."""
        for result in self._set_aside:
            result.layers.visible = True
        self._set_aside = []

    def _offer(self) -> None:
        """Choose the newest."""
        newest = self.all[-1] if self.all else None
        self.which.offer(((result.title, result) for result in self.all), newest)
        self._on_chosen()

    def _on_chosen(self) -> None:
        current = self.current
        self.setVisible(current is not None)
        others = [result for result in reversed(self.all) if result is not current]
        self.other.offer((result.title, result) for result in others)
        self.side_by_side.setEnabled(bool(others))
        if current is not None:
            self._comparison.end()
            for result in self.all:
                result.layers.visible = result is current
            self._set_aside = []
            # The chosen view stays where it can.
            views = ((VIEWS[view], view) for view in current.layers.views)
            self.view.offer(views, self.view.currentData())
            record = current.attribution.record
            attribution = record["attribution"]
            self.measures.setText(table_of(report(current.attribution)))
            self.through_context.setVisible(leaves_out_context(record))
            self.path.show_nodes(attribution["nodes"])
            self.rings.show_groups(rings_of(attribution))
            self.curves.show_check(attribution.get("checks", {}).get(CHECK))
            self._on_view()

    def _on_view(self) -> None:
        self.exponent.setVisible(self.view.currentData() == "magnitude")
        if self.current is not None:
            self.current.layers.show(self.view.currentData(), self.exponent.currentData())

    def _on_through_context(self) -> None:
        if self.current is not None:
            # The check takes the context as a constant.
            request = self.current.request
            settings = replace(request.settings, context_gradient=THROUGH, check=None)
            self.rerun_requested.emit(replace(request, settings=settings))

    def _on_removed(self, event: Any) -> None:
        for result in self.all:
            if event.value is result.layers.map:
                self.all.remove(result)
                result.layers.remove()
                self._offer()
                return

    def _on_side_by_side(self, checked: bool) -> None:
        self._comparison.end()
        one, other = self.current, self.other.currentData()
        if checked and one is not None and other is not None:
            self._comparison.show(one, other)

    # -- files -------------------------------------------------------------------

    def _copy(self) -> None:
        if self.current is not None:
            output = self._files.proposed(self.current.attribution.image, ".tif")
            command = partial(self._command, self.current, output)
            sentence, line = copy_command(command, lambda: output)
            if line:
                show_note(sentence)
            self.copy.setToolTip(line)

    def _command(self, result: AttributionResult, output: Path) -> str:
        """Return the command that writes the map; raises `InputError`."""
        device = result.request.run.options.machine.device
        return api.command_of(result.attribution.record, output, device=device)

    def _save(self, title: str, suffixes: Sequence[str], write: Any, *_: Any) -> None:
        if self.current is not None:
            write = partial(write, self.current, self.exponent.currentData())
            self._files.save(self.current.attribution.image, title, suffixes, write)


def _draw(result: AttributionResult, exponent: float, path: Path) -> None:
    api.draw_attribution(result.attribution, path, exponent=exponent, overwrite=True)


def _save_record(result: AttributionResult, _: float, path: Path) -> None:
    """Write the record, with the command; raises `BadOutput`."""
    record, written = result.attribution.record, result.attribution.record["output"] or {}
    device = result.request.run.options.machine.device
    command = api.known_command(record, written.get("path") or "OUT.tif", device=device)
    write_record(path, {**record, "command": command})


def _save_map(result: AttributionResult, _: float, path: Path) -> None:
    """Write it; raises `BadOutput` rather than replace a file without consent."""
    attribution = result.attribution
    overview = api.overview_path(path)
    if attribution.overview is not None and overview is not None and overview.exists():
        raise BadOutput(f"{overview} exists.", "Choose another name for the map.")
    attribution.save(path, overwrite=True)
