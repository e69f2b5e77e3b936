"""The tab for attention: what each head of a network looks at for a pixel."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import psygnal
from napari.layers import Image as ImageLayer, Points
from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QLabel, QSpinBox
from superqt.utils import signals_blocked

from napari_restore import Region, api
from napari_restore.api import AttentionElsewhere
from napari_restore.errors import RestoreError
from napari_restore.plugin.attention._action_bar import HeadActions, ReferenceBar
from napari_restore.plugin.attention.asked import PreparedAttention, PrepareTask
from napari_restore.plugin.attention.heads_view import ComparedHeads, HeadsView, thumbnails_of
from napari_restore.plugin.attention.layers import AttentionLayers, in_one_go
from napari_restore.plugin.attention.matrix_panel import MatrixPanel, RedundancyPanel
from napari_restore.plugin.layers.layer_order import keep_on_top, keeping_active
from napari_restore.plugin.layers.placing import data_to_world, in_data, in_layer, over, plane_of
from napari_restore.plugin.method.model_chooser import offered_models
from napari_restore.plugin.runs.run_bar import TaskTab
from napari_restore.plugin.state.request import Area, RunRequest
from napari_restore.plugin.state.state import RestoreState, image_of, title_of
from napari_restore.plugin.tasks.notices import error_text, show_problem
from napari_restore.plugin.tasks.task import LatestQuery
from napari_restore.plugin.widgets.editors import combo_of
from napari_restore.plugin.widgets.folding import Folded, flowing, form_layout, in_a_row, page_of
from napari_restore.plugin.widgets.plots import BarChart

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_restore.explain.attention.head_maps import QueryMaps
    from napari_restore.plugin.runs.run_controller import RunController


NAME = "Attention query"
CROSS = 20
"""Size of the cross in screen pixels."""
GRAB = 12
"""Screen pixels around the query within which a press takes hold of it."""
CLICK = 4
"""Screen pixels that the pointer may move in a click."""
ARROWS = {"Up": (-1, 0), "Down": (1, 0), "Left": (0, -1), "Right": (0, 1)}
"""Rows and columns, on the screen where the image is not turned."""


class QueryController(QObject):
    """Puts the query where the image is clicked, and moves it while it is dragged."""

    # A drag that begins elsewhere moves the image, as ever. A click makes its layer the active one:
    # then the arrow keys, which are that layer's, move it by a cell, with Shift by a window.

    moved = psygnal.Signal(int, int)
    """The query is at row y, column x of the image."""

    def __init__(self, viewer: ViewerModel, state: RestoreState, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._state = viewer, state
        self.points: Points | None = None
        """The layer of the cross."""
        self.place: tuple[int, int] | None = None
        """(y, x), or None before the first click."""
        self.is_on = False
        self.steps = (1, 8)
        """Pixels that an arrow key moves it, and one with Shift."""

    def use(self, on: bool) -> None:
        """Take clicks from now on, or leave them to napari."""
        if on and not self.is_on:
            self._viewer.mouse_drag_callbacks.append(self._on_press)
        elif self.is_on and not on:
            self._viewer.mouse_drag_callbacks.remove(self._on_press)
        self.is_on = on
        self._bind()

    def _bind(self) -> None:
        """Bind the arrow keys to the layer of the cross while clicks are taken, else free them."""
        if self.points is None:
            return
        for key, towards in ARROWS.items():
            for keys, number in ((key, 0), (f"Shift-{key}", 1)):
                step = partial(self._step, towards, number) if self.is_on else None
                self.points.bind_key(keys, step, overwrite=True)

    def _step(self, towards: tuple[int, int], number: int, _: Any) -> None:
        if self.place is not None:
            y, x = (
                at + self.steps[number] * by for at, by in zip(self.place, towards, strict=True)
            )
            self.put(y, x)

    def clear(self) -> None:
        """Forget the query and take its layer away."""
        points, self.points, self.place = self.points, None, None
        self._viewer.scene.camera.events.zoom.disconnect(self._on_zoom)
        if points is not None and points in self._viewer.layers:
            self._viewer.layers.remove(points)

    def put(self, y: int, x: int) -> None:
        """Put the query at row `y`, column `x`, within the image."""
        source = self._state.layer
        if source is None:
            return
        image = self._state.named_image(source)
        self.place = (int(np.clip(y, 0, image.height - 1)), int(np.clip(x, 0, image.width - 1)))
        self._show(source)
        self.moved.emit(*self.place)

    def make(self, source: ImageLayer) -> None:
        """Add the layer of the cross, still empty: adding it takes longer than a click should wait."""
        if self.points is not None and self.points in self._viewer.layers:
            return

        self.points = Points(
            np.zeros((0, 2)),
            name=NAME,
            symbol="cross",
            # Only its outline: what lies below is seen.
            face_color="transparent",
            border_color="red",
            border_width=0.1,
            size=in_layer(CROSS, self._viewer, plane_of(source)),
            **over(source),
        )
        with keeping_active(self._viewer):
            self._viewer.layers.append(self.points)
        self._viewer.scene.camera.events.zoom.connect(self._on_zoom)
        self._bind()

    def _on_zoom(self) -> None:
        if self.points is not None:
            size = in_layer(CROSS, self._viewer, plane_of(self.points))
            self.points.size = self.points.current_size = size

    def _show(self, source: ImageLayer) -> None:
        self.make(source)
        points = self.points
        assert points is not None
        with in_one_go(points, rests=False):
            points.data = [self.place]

    def _on_press(self, viewer: ViewerModel, event: Any) -> Iterator[None]:
        source = self._state.layer
        if source is None or event.button != 1:
            return
        start, at = tuple(event.pos), self._pixel(event, source)
        takes_hold = self.place is not None and self._near(at, source)
        # napari moves the picture with a layer's `mouse_pan`.
        active = viewer.layers.selection.active
        panned = getattr(active, "mouse_pan", None)
        if takes_hold and active is not None:
            active.mouse_pan = False
        try:
            yield
            while event.type == "mouse_move":
                if takes_hold:
                    self._move(event, source)
                yield
        finally:
            if takes_hold and active is not None:
                active.mouse_pan = panned
        if not takes_hold and np.hypot(*np.subtract(event.pos, start)) <= CLICK:
            self._move(event, source)
            takes_hold = self.place is not None
        if takes_hold and self.points in viewer.layers:
            # Keys are those of the active layer.
            viewer.layers.selection.active = self.points

    def _move(self, event: Any, source: ImageLayer) -> None:
        y, x = self._pixel(event, source)
        image = self._state.named_image(source)
        inside = -0.5 <= y < image.height - 0.5 and -0.5 <= x < image.width - 0.5
        if inside and self.place != (round(y), round(x)):
            self.put(round(y), round(x))

    def _near(self, at: tuple[float, float], source: ImageLayer) -> bool:
        """Return whether a pixel (y, x) is so near the query that a press takes hold of it."""
        assert self.place is not None
        matrix = data_to_world(source)[-3:-1, -3:-1]
        apart = matrix @ np.subtract(at, self.place)
        return float(np.hypot(*apart) * self._viewer.scene.camera.zoom) <= GRAB

    def _pixel(self, event: Any, source: ImageLayer) -> tuple[float, float]:
        ((y, x),) = in_data(self._viewer, source, [np.array(event.position)[-2:]])
        return float(y), float(x)


BANDS = ("low", "middle", "high")


def numbers_text(query: QueryMaps, site: str, head: str) -> str:
    """Return what is known of one head, in a few lines."""
    maps = query.maps[site]
    number = maps.index(head)
    measured = query.measures[site][number]
    lines = [f"{maps.site.title}, head {head} · {query.query.label}"]
    if maps.site.kind in ("routing", "gate"):
        lines.append(f"{maps.kind.value} {float(maps.weights[number, 0]):.2f}")
    elif maps.site.kind == "channel":
        lines.append(
            f"entropy of its matrix {measured['entropy']:.3f}, contribution here "
            f"{measured['contribution']:.3g}"
        )
    elif measured["entropy"] is not None:
        lines.append(
            f"entropy {measured['entropy']:.3f} (1: equal weights), as "
            f"{measured['effective_cells']:.1f} cells; mean distance {measured['distance_px']:.0f} px"
        )
        shares = [
            f"{measured[name]:.0%} in its own {what}"
            for name, what in (("window_share", "window"), ("tile_share", "tile"))
            if measured[name] is not None
        ]
        lines += [", ".join(shares)] if shares else []
    if "band_weights" in maps.numbers:
        omega: Any = maps.numbers["band_weights"]
        shares = [f"{name} {value:.2f}" for name, value in zip(BANDS, omega, strict=False)]
        lines.append(f"bands: {', '.join(shares)}")
    return "\n".join([*lines, maps.kind.says])


def shares_of(query: QueryMaps, site: str, head: str) -> dict[str, dict[str, float]]:
    """Return the shares of one head for bars by their title, by name; none where it has no places."""
    maps = query.maps[site]
    measured = query.measures[site][maps.index(head)]
    found: dict[str, dict[str, float]] = {}
    if measured.get("rings"):
        found["Weights by distance"] = dict(
            zip(_distances(measured["rings"]), measured["rings"].values(), strict=True)
        )
    if "band_weights" in maps.numbers:
        omega = maps.numbers["band_weights"].tolist()
        found["Share ω of each band"] = dict(zip(BANDS, omega, strict=False))
    if maps.site.kind == "routing":
        shares = maps.weights[:, 0].astype(float).tolist()
        found["Share of each expert"] = dict(zip(maps.site.heads, shares, strict=True))
    return found


def _distances(rings: Iterable[str]) -> list[str]:
    """Return names like "8–32 px" of rings that are called by their outer radius."""
    names, inner = [], "0"
    for ring in rings:
        word, radius, _ = ring.split("_")
        names.append(f"> {radius} px" if word == "beyond" else f"{inner}–{radius} px")
        inner = radius
    return names


HINT = "What each head of the network computed for a pixel. Prepare once, then click the image."
SETTINGS = tuple("layer named method options".split())
"""Fields of the state that belong to the prepared network and image."""
IDLE_MS = 250
"""Pause in dragging after which all layers are computed, not the chosen one alone."""
CELLS = 8
"""That Shift and an arrow key move the query by in a layer without windows."""
DIRECTIONS = {False: "what the query attends to", True: "what attends to the query"}
SCALES = {False: "from 0", True: "least to most"}


class AttentionTab(TaskTab):
    """Prepares image and model of the panel, takes queries, and shows the heads."""

    TITLE: ClassVar[str] = "Attention"
    answered = Signal(object)
    """The `QueryMaps` that came."""

    def __init__(self, viewer: ViewerModel, state: RestoreState, runs: RunController) -> None:
        super().__init__(viewer, state, runs)
        self.make_bar("Prepare")
        self.asked = PreparedAttention()
        self.pointer = QueryController(viewer, state, self)
        self.layers = AttentionLayers(viewer)
        self._answers = LatestQuery("The attention failed", self, self._on_answer, follows=True)
        self._questions = itertools.count()
        self._all_soon = QTimer(self, singleShot=True, interval=IDLE_MS)
        self.heads = HeadsView(self)
        self.head_actions = HeadActions(state, self.asked, self.heads, self.layers, self)
        self._build()
        self._connect()
        self._on_settings()

    @property
    def session(self) -> AttentionElsewhere | None:
        """The prepared network and image."""
        return self.asked.session

    @property
    def query(self) -> QueryMaps | None:
        """The last answer, of all layers that are computed."""
        return self.asked.query

    def _build(self) -> None:
        self.hint = QLabel(HINT, self, wordWrap=True)
        self.column, self.row = QSpinBox(self), QSpinBox(self)
        for box, prefix in ((self.column, "x "), (self.row, "y ")):
            box.setPrefix(prefix)
            box.setKeyboardTracking(False)
            box.setToolTip(
                "The query; the arrow keys move it by a cell of the chosen layer, also over the image"
            )
        tip = "Of the chosen layer: weights that the query gives to cells, or that cells give to it"
        self.direction = combo_of(self, DIRECTIONS, tip)
        tip = "From which weight on colours differ; the largest is the brightest"
        self.scale = combo_of(self, SCALES, tip)
        self.numbers = QLabel(self, wordWrap=True)
        self.chart = BarChart(self)
        self.reference = ReferenceBar(self.state, self.asked, self)
        self.matrix = MatrixPanel(self)
        self.matrix_part = Folded(
            "Matrix of channels", self.matrix, "Which channels of the head listen to each other"
        )
        self.matrix_part.hide()
        self.redundancy = RedundancyPanel(self.asked, self.heads, self)
        self.redundancy_part = Folded(
            "Redundancy of heads", self.redundancy, "How alike the outputs of the heads are"
        )
        form = form_layout()
        form.addRow("Query", in_a_row(self.column, self.row))
        form.addRow("Show", self.direction)
        form.addRow("Scale", self.scale)
        panels = (self.reference, self.heads, self.matrix_part, self.redundancy_part)
        actions = flowing(*self.head_actions.buttons)
        page_of(self, self.hint, self.bar, form, self.numbers, self.chart, *panels, actions)

    def _connect(self) -> None:
        self.pointer.moved.connect(self._on_moved)
        self.heads.chosen.connect(self._on_chosen)
        self.scale.currentIndexChanged.connect(self._on_scale)
        self.direction.currentIndexChanged.connect(self._on_direction)
        self.column.valueChanged.connect(self._on_typed)
        self.row.valueChanged.connect(self._on_typed)
        self._all_soon.timeout.connect(partial(self._ask, None))
        self.reference.changed.connect(self._on_scale)
        self.head_actions.happened.connect(self.bar.show_message)
        self.listen(self._on_settings, *(getattr(self.state.events, name) for name in SETTINGS))
        events = self.viewer.layers.events
        for event in (events.inserted, events.reordered):
            # After napari's own, which make what draws a layer.
            event.connect(self._raise_query, position="last")

    def own_layers(self) -> list[Layer]:
        """Return map, outline and cross: heads that are pinned stay."""
        own = (self.layers.map, self.layers.outline, self.pointer.points)
        return [layer for layer in own if layer is not None]

    def _raise_query(self, _: Any = None) -> None:
        keep_on_top(self.viewer, self.layers.outline, self.pointer.points)

    def leave(self) -> None:
        """End what is under way, take the layers away, and disconnect from the viewer."""
        events = self.viewer.layers.events
        events.inserted.disconnect(self._raise_query)
        events.reordered.disconnect(self._raise_query)
        self._forget()

    def setVisible(self, visible: bool) -> None:
        """Show or hide the tab with its layers: clicks are queries only while it is seen."""
        super().setVisible(visible)
        self.pointer.use(visible and self.session is not None)
        if visible and self.bar.button.isEnabled() and self._runs.questions.process is None:
            api.warm(self._runs.questions)

    # -- the prepared network and image ---------------------------------------------

    def _forget(self) -> None:
        """Forget what was prepared and asked."""
        self.asked.forget()
        self._answers.discard()
        self.pointer.use(False)
        self.pointer.clear()
        self.layers.remove()

    def _on_settings(self) -> None:
        """Begin anew: the panel is set to something else."""
        self._forget()
        if self.task is None:
            self.bar.show_message("")
        self.heads.show_sites(())
        card = next((card for card in api.models() if card.id == self.state.method.model), None)
        has_attention = card is None or bool(card.attention)
        self.bar.allow(self.state.layer is not None and has_attention)
        self.hint.setText(HINT if has_attention else self._others())
        self._show_ready()

    def _others(self) -> str:
        image = None if self.state.layer is None else image_of(self.state.layer)
        able = ", ".join(card.title for card in offered_models(image) if card.attention)
        others = f"Choose a network that has: {able}." if able else "No network for it has."
        return f"{title_of(self.state.method.model)} has no attention. {others}"

    def _show_ready(self) -> None:
        """Enable what needs a prepared image, or an answer."""
        for widget in (self.column, self.row, self.direction, self.scale):
            widget.setEnabled(self.session is not None)
        self.head_actions.allow(self.query is not None)
        self.reference.allow(self.query is not None)
        self.redundancy.allow(self.query is not None)
        if self.query is None:
            self._show_no_head("")

    def _show_no_head(self, why: str) -> None:
        self.numbers.setText(why)
        self.chart.show_groups({})
        self.matrix_part.setVisible(self.matrix.show_head(None, ""))

    def start(self) -> None:
        """Prepare; raises `RestoreError`."""
        request, questions = self._request(), self._runs.questions
        make = partial(PrepareTask, request, questions)
        self.begin(make, "Attention is", "Loading the network …")

    def finish(self, task: PrepareTask, status: str, outcome: Any) -> None:
        """Take queries, where it is prepared."""
        if status == "cancelled":
            self.bar.show_message("Cancelled; what is finished is kept.")
        elif status == "done":
            self._begin(outcome, task.request)

    def _request(self) -> RunRequest:
        return self.state.request(Area((Region(0, 0, 1, 1),)))

    def _begin(self, session: AttentionElsewhere, request: RunRequest) -> None:
        """Take queries from now on."""
        source = self.state.layer
        if source is None or self._request().subject != request.subject:
            # The panel was set to something else meanwhile.
            session.close()
            self.bar.show_message("")
            return
        self.asked.session, self.asked.request = session, request
        self.bar.show_message("Prepared. Click the image; drag the cross.")
        self.heads.show_sites(session.sites)
        image = self.state.named_image(source)
        self.column.setMaximum(image.width - 1)
        self.row.setMaximum(image.height - 1)
        self.layers.make(source)
        self.pointer.make(source)
        self._choose_steps()
        self._show_ready()
        # Whether its page is chosen; the window may be minimised.
        self.pointer.use(not self.isHidden())

    # -- questions and answers --------------------------------------------------------

    def _on_typed(self) -> None:
        place = (self.row.value(), self.column.value())
        if self.session is not None and place != self.pointer.place:
            self.pointer.put(*place)

    def _on_moved(self, y: int, x: int) -> None:
        for box, value in ((self.column, x), (self.row, y)):
            with signals_blocked(box):
                box.setValue(value)
        # While it moves, the chosen layer alone: the others follow when it rests.
        self._ask(self.heads.site)
        if not self.asked.attended_by:
            self._all_soon.start()

    def _on_direction(self) -> None:
        """Ask the other question about the same query, in the chosen layer first."""
        self._all_soon.stop()
        self.asked.attended_by, self.asked.query = self.direction.currentData(), None
        self._show_ready()
        if self.pointer.place is not None:
            self._on_moved(*self.pointer.place)

    def _ask(self, site: str | None) -> None:
        """Compute the maps of one layer, or of all, for the query on another thread."""
        session, place = self.session, self.pointer.place
        if session is None or place is None:
            return
        names = None if site is None else [site]
        query, spread, kept = api.attention_query(*place), self.scale.currentData(), self.asked.kept
        attended_by = self.asked.attended_by

        def look() -> tuple[Any, ...]:
            found = session.attend(query, names, attended_by=attended_by)
            pictures = thumbnails_of(found, spread=spread, reference=kept)
            return attended_by, site, spread, kept, found, pictures

        self._answers.submit(next(self._questions), look)

    def _on_answer(self, _: int, answer: Any) -> None:
        if isinstance(answer, RestoreError):
            show_problem(answer)
            if self.asked.query is None or self.heads.site not in self.asked.query.maps:
                # What lies there is of another layer.
                self.layers.remove()
                self._show_no_head(error_text(answer))
            return
        if self.session is None or self.state.layer is None:
            return
        attended_by, site, spread, kept, query, pictures = answer
        if attended_by != self.asked.attended_by:
            return
        replaces = self.query is None or self.query.query != query.query
        if replaces or site is None:
            self.asked.query = query
        else:
            assert self.query is not None
            self.asked.query = self.query.with_more(query)
        if spread != self.scale.currentData() or kept is not self.asked.kept:
            pictures = self._pictures(query)
        self.heads.show_pictures(pictures, replaces=replaces)
        if replaces:
            self._show_ready()
        self._show_head(rests=site is None)
        self.answered.emit(query)

    # -- what is shown ------------------------------------------------------------

    def _on_chosen(self, site: str, heads: list[str]) -> None:
        self._choose_steps()
        if self.query is not None and site not in self.query.maps:
            self._ask(site)
        self._show_head()

    def _choose_steps(self) -> None:
        """Let keys move the query by a cell of the chosen layer, or by a window."""
        if self.session is None or self.heads.site is None:
            return
        site = self.asked.site(self.heads.site)
        self.pointer.steps = (site.stride, site.stride * (site.window or CELLS))
        for box in (self.column, self.row):
            box.setSingleStep(site.stride)

    def _on_scale(self) -> None:
        """Draw all again, on another scale or beside another reference."""
        self.heads.show_pairs(self.asked.reference is not None)
        self.reference.explain(self.heads.site, self.heads.heads)
        if self.query is not None:
            self.heads.show_pictures(self._pictures(self.query), replaces=False)
            self._show_head()

    def _pictures(self, query: QueryMaps) -> dict[str, ComparedHeads]:
        """Return thumbnails as they are set now."""
        return thumbnails_of(query, spread=self.scale.currentData(), reference=self.asked.kept)

    def _show_head(self, *, rests: bool = True) -> None:
        """Lay the chosen heads over the image, with their numbers."""
        site, source, heads = self.heads.site, self.state.layer, self.heads.heads
        if self.query is None or site is None or source is None or site not in self.query.maps:
            return
        query, other, reference = self.query, None, self.asked.reference
        self.reference.explain(site, heads)
        if reference is not None and not reference.missing(site, heads):
            other = reference.query
            if self.reference.is_shown:
                query, other = other, query
        beside = None if other is None else other.maps[site]
        spread = self.scale.currentData()
        self.layers.show(source, query.maps[site], heads, spread=spread, rests=rests, beside=beside)
        kind = query.maps[site].kind
        # Around 0 there is no other choice.
        self.scale.setEnabled(not kind.is_signed)
        self.numbers.setText(numbers_text(query, site, heads[-1]))
        self.numbers.setToolTip(kind.about)
        self.chart.show_groups(shares_of(query, site, heads[-1]))
        has_matrix = self.matrix.show_head(query.maps[site], heads[-1], beside)
        self.matrix_part.setVisible(has_matrix)
