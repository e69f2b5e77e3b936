"""The Restore panel: where the settings of a viewer, its layers and a run meet."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget
from superqt.utils import qdebounced

from napari_restore.errors import RestoreError
from napari_restore.plugin import _actions
from napari_restore.plugin._keys import KeyBindings, with_key
from napari_restore.plugin._notices import show_problem, words_of
from napari_restore.plugin._preferences import PreferenceLink
from napari_restore.plugin._settings_form import SettingsForm
from napari_restore.plugin._state import state_of, unwrapped
from napari_restore.plugin.areas._area_controller import AreaFinder
from napari_restore.plugin.areas._targets import Area, NotReady, Target
from napari_restore.plugin.attribution import AttributionTab
from napari_restore.plugin.compare import CompareSection
from napari_restore.plugin.method._model_files_dialog import ModelFiles
from napari_restore.plugin.results._adjust_section import AdjustSection
from napari_restore.plugin.results._export_section import ExportSection
from napari_restore.plugin.results._results_section import ResultsSection
from napari_restore.plugin.runs._batch_section import BatchSection
from napari_restore.plugin.runs._plan_controller import Planner
from napari_restore.plugin.runs._run_bar import RunBar
from napari_restore.plugin.runs._run_controller import RunControl
from napari_restore.plugin.runs._worker_warmup import LiveControl
from napari_restore.plugin.threads._handover import make_handover_safe
from napari_restore.plugin.widgets._dock_width import DockWidth
from napari_restore.plugin.widgets._folding import folded, one_at_a_time
from napari_restore.plugin.widgets._pages import Pages
from napari_restore.plugin.widgets._section import Section
from napari_restore.plugin.widgets._wheel_filter import WheelFilter

if TYPE_CHECKING:
    import napari
    from napari.layers import Image as ImageLayer

    from napari_restore.plugin._request import Request
    from napari_restore.plugin.results._variant import Variant
    from napari_restore.plugin.runs._layer_run import LayerRun

VIEW_SETTLED_MS = 200
NARROWEST, USUAL = 210, 340
"""Widths in pixels: what napari 0.9 leaves on a screen 800 wide (1600 at 200 %), and the minimum asked for."""
SECTIONS: tuple[type[Section], ...] = (
    AdjustSection,
    CompareSection,
    ResultsSection,
    ExportSection,
    BatchSection,
)
"""What the panel offers for results, from top to bottom."""


class RestorePanel(QWidget):
    """Chooses what to restore and how, and runs it.

    Its form writes to the viewer's `RestoreState`; what follows from a setting
    (region, plan, live result) listens to the state. Closing the panel ends its run.
    """

    planned = Signal(str)
    """The plan's line was brought up to date."""
    ended = Signal(str, object, object)
    """A run ended; as `Run.ended`, and its `Request`."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        make_handover_safe()
        self.viewer = unwrapped(napari_viewer)
        self.state = state_of(napari_viewer)
        self._left = False
        self._begun = False
        """Whether there has been an image yet."""
        self._problem: RestoreError | None = None
        """Why the target means nothing now."""
        self._told_of: Variant | None = None
        """The result that the bar's message is about."""
        self._view_settled = qdebounced(self.update_region, timeout=VIEW_SETTLED_MS)
        self._planner = Planner(self)
        self._areas = AreaFinder(self.viewer, self.state, self)
        self.files = ModelFiles(self)
        self._build()
        self.live = LiveControl(self.viewer, self.state, self.bar, self._planner, self._title, self)
        self.runs = RunControl(self.viewer, self.state, self.bar, self.live, self)
        self._connect()
        self._preferences = PreferenceLink(self.state)
        self.form.show_settings()
        self._preferences.live_changed.connect(self.bar.set_live)
        self._keys = KeyBindings(self.viewer, _actions.BOUND)
        _actions.opened(self.viewer, self)
        before = replace(self.state)
        self._on_layers()
        self.form.take_up(before)

    # -- building ----------------------------------------------------------------

    def _build(self) -> None:
        form = self.form = SettingsForm(self.viewer, self.state, self)
        # Whoever has the panel finds what is in its form here.
        self.image, self.summary, self.bands = form.image, form.summary, form.bands
        self.models, self.parameters, self.airlight = form.models, form.parameters, form.airlight
        self.target, self.drawing, self.exclude = form.target, form.drawing, form.exclude
        self.memory, self.advanced = form.memory, form.advanced
        inner = QWidget()
        layout = QVBoxLayout(inner)
        layout.setContentsMargins(6, 6, 4, 6)
        form.add_to(layout)
        self.tabs = Pages(layout, inner)
        restore = QWidget(inner)
        page = QVBoxLayout(restore)
        page.setContentsMargins(0, 4, 0, 0)
        form.add_area_to(page)
        self.sections = [section(self.viewer, self.state) for section in SECTIONS]
        for section in self.sections:
            section.run_requested.connect(self.start)
            if isinstance(section, BatchSection):
                section.stop_asked.connect(self.cancel)
                self.ended.connect(section.run_ended)
        parts = [folded(section.TITLE, section) for section in self.sections]
        for section, part in zip(self.sections, parts, strict=True):
            page.addWidget(part)
            if isinstance(section, AdjustSection):
                section.heading_changed.connect(part.setText)
        # After these, as Tab goes through the widgets of `inner` in the order of their making.
        self.bar = RunBar(inner)
        self.bar.button.setToolTip(
            f"{with_key('Restore what is set', 'run')}; {with_key('cancel', 'cancel')}"
        )
        self.attribution = AttributionTab(self.viewer, self.state)
        self.tabs.add("Restore", restore)
        self.tabs.add(AttributionTab.TITLE, self.attribution)
        layout.addStretch(1)
        scroll = QScrollArea(self)
        one_at_a_time(parts, scroll)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inner)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll, 1)
        # Not in what scrolls: Run stays visible on low screens, whatever is unfolded.
        self.bar.setContentsMargins(10, 4, 10, 8)
        outer.addWidget(self.bar)
        self.tabs.currentChanged.connect(lambda number: self.bar.setVisible(number == 0))
        self.setMinimumWidth(NARROWEST)
        self._wheel = WheelFilter(self)
        self._width = DockWidth(self.viewer, self, USUAL)

    def _connect(self) -> None:
        self.form.image_shown.connect(self._on_image)
        self.models.file_wanted.connect(self.files.ask_for_file)
        self.files.looking.connect(self.bar.show_message)
        self.files.added.connect(self.models.add)
        self.drawing.changed.connect(self._on_drawn)
        self._areas.changed.connect(self._on_drawn)
        self._areas.found.connect(self.update_region)
        self.bar.run_requested.connect(self.run)
        self.bar.cancel_requested.connect(self.cancel)
        self.runs.planned.connect(self.advanced.show_plan)
        self.runs.ended.connect(self._on_ended)
        self._planner.planned.connect(self._on_planned)
        self._planner.settled.connect(self.advanced.show_plan)
        for signal in self._state_signals():
            signal.connect(self._on_settings)
        # Last: planners get a setting before a widget changes others because of it.
        self.form.follow()
        for event, slot in self._viewer_events():
            event.connect(slot)
        for section in self.sections:
            if isinstance(section, BatchSection):
                section.make_room = self.live.worker.rest

    def _state_signals(self) -> list[Any]:
        events = self.state.events
        return [
            events.layer,
            events.bands,
            events.model,
            events.weights,
            events.parameters,
            events.target,
            events.feather,
            events.strength_layer,
            events.exclude,
            events.exclude_pending,
            events.memory,
            events.device,
            events.tile,
            events.tile_batch,
            events.extent,
            events.residuals,
            events.maps,
        ]

    def _viewer_events(self) -> list[tuple[Any, Any]]:
        viewer = self.viewer
        camera = viewer.scene.camera.events
        return [
            (viewer.layers.events.inserted, self._on_layers),
            (viewer.layers.events.removed, self._on_layers),
            (viewer.layers.selection.events.active, self._on_active),
            (camera.center, self._on_view),
            (camera.zoom, self._on_view),
            (viewer.canvas.events.size, self._on_view),
            (viewer.dims.events.ndisplay, self._on_view),
            (self.state.events.current, self._on_current),
        ]

    # -- what is set, and its plan -----------------------------------------------

    def _on_settings(self) -> None:
        if self.running is None:
            # What it says of the last run is not about these settings.
            self.bar.show_message("")
        self.form.show_settings()
        self.update_region()

    def update_region(self) -> None:
        """Find out what the target means now, and plan it."""
        layer = self.state.layer
        area: Area | None = None
        self._problem = None
        if layer is not None:
            try:
                area = self._areas.area(layer)
            except RestoreError as error:
                self._problem = error
        self.state.area = area
        self.target.show_area(area, self._problem)
        if self._problem is None:
            self._problem = self.bands.problem() or self.state.not_ready
        problem = self._problem
        if area is None or problem is not None:
            self._planner.forget()
            # Beside the target stands already why it means nothing.
            self.bar.show_plan("" if area is None or problem is None else words_of(problem))
        elif self.running is None:
            self.bar.show_plan("Planning …")
            self._planner.plan(self.state.request())

    def _on_planned(self, line: str) -> None:
        if self.running is None:
            self.bar.show_plan(line)
            if self.bar.message.text() == line:
                # Why a run failed is why there is no plan: once is enough.
                self.bar.show_message("")
        self.planned.emit(line)

    # -- the viewer --------------------------------------------------------------

    def _on_view(self) -> None:
        if self.state.target is Target.VISIBLE:
            self._view_settled()

    def _on_layers(self) -> None:
        self._forget_removed()
        self.form.offer_layers()
        self._on_drawn()

    def _forget_removed(self) -> None:
        """Results whose layer has left the viewer are no more; they can do without their source."""
        layers = self.viewer.layers
        kept = tuple(variant for variant in self.state.variants if variant.layer in layers)
        if kept != self.state.variants:
            self.state.variants = kept
        if self.state.current not in kept:
            self.state.current = kept[-1] if kept else None

    def _on_active(self) -> None:
        """The layer the user clicked is the one meant, if it can be restored."""
        active = self.viewer.layers.selection.active
        for variant in self.state.variants:
            if variant.layer is active:
                self.state.current = variant
        if not self.form.choose_image(active):
            self._on_drawn()

    def _on_current(self, current: Variant | None) -> None:
        if self.running is None and current is not self._told_of:
            self.bar.show_message("")

    def _on_image(self, possible: bool) -> None:
        self.bar.allow(possible)
        if possible and not self._begun:
            self._begun = True
            self.bar.live.setChecked(self._preferences.live)

    def _on_drawn(self, _: Any = None) -> None:
        if self.state.target.is_drawn:
            self._view_settled()

    # -- running -----------------------------------------------------------------

    def run(self) -> None:
        """Restore what is set, in a layer of its own."""
        if self.running is not None:
            return
        self.update_region()
        if isinstance(self._problem, NotReady):
            waited_for = self.exclude if self.state.not_ready else self._areas
            waited_for.when_found(self.run)
            return
        try:
            if self._problem is not None:
                raise self._problem
            request = self.state.request()
        except RestoreError as error:
            show_problem(error)
            return
        layer, card = self.state.layer, self.models.card()
        assert layer is not None and card is not None
        self.drawing.rest()
        self.start(request, layer, card.title, self.state.target.value)

    def start(self, request: Request, layer: ImageLayer, title: str, where: str = "again") -> None:
        """Run `request` on `layer`, whatever the panel is set to, unless a run is going on."""
        if not self.state.running:
            self._planner.forget()
        self.runs.start(request, layer, title, where)

    def cancel(self) -> None:
        """Stop the run within a tile."""
        self.runs.cancel()

    @property
    def running(self) -> LayerRun | None:
        """The run under way."""
        return self.runs.running

    def _title(self) -> str:
        card = self.models.card()
        return self.state.model if card is None else card.title

    def _on_ended(self, status: str, outcome: Any, request: Request) -> None:
        self._told_of = self.state.current
        self.ended.emit(status, outcome, request)
        self.update_region()

    def sizeHint(self) -> QSize:
        """As wide as is comfortable; a narrow window makes it `NARROWEST`."""
        return super().sizeHint().expandedTo(QSize(USUAL, 0))

    def showEvent(self, event: Any) -> None:
        """Be as wide as is usual."""
        super().showEvent(event)
        self._width.later()

    # -- leaving -----------------------------------------------------------------

    def closeEvent(self, event: Any) -> None:
        """Leave when the widget itself is closed."""
        self._leave()
        super().closeEvent(event)

    def changeEvent(self, event: Any) -> None:
        """Leave also when napari takes it out of its dock, which closes no widget."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._leave()
            # Nothing shows it again, and its connections would keep it.
            self.deleteLater()
        super().changeEvent(event)

    def _leave(self) -> None:
        """End the run and let go of the viewer."""
        if self._left:
            return
        self._left = True
        self.runs.leave()
        for section in (*self.sections, self.attribution):
            section.leave()
        for part in (self._keys, self._preferences, self.files, self.form, self._width):
            part.leave()
        _actions.closed(self.viewer, self)
        self.live.close()
        self._planner.close()
        self._areas.leave()
        self._view_settled.cancel()
        for signal in self._state_signals():
            signal.disconnect(self._on_settings)
        for source, slot in self._viewer_events():
            source.disconnect(slot)
