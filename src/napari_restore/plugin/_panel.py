"""The Restore panel: where the settings of a viewer, its layers and a run meet."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari.layers import Image as ImageLayer
from psygnal import Signal
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QFrame,
    QLabel,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import qdebounced

from napari_restore.api import is_ready
from napari_restore.api import models as known_models
from napari_restore.errors import RestoreError
from napari_restore.plugin import _actions
from napari_restore.plugin._folding import folded, one_at_a_time, stacked
from napari_restore.plugin._handover import make_handover_safe
from napari_restore.plugin._keys import KeyBindings, with_key
from napari_restore.plugin._notices import show_problem, words_of
from napari_restore.plugin._preferences import PreferenceLink, hint_at_async
from napari_restore.plugin._section import Section
from napari_restore.plugin._state import image_of, state_of, unwrapped
from napari_restore.plugin._words import describe
from napari_restore.plugin.areas._area_finder import AreaFinder
from napari_restore.plugin.areas._drawing import Drawing
from napari_restore.plugin.areas._exclude import ExcludeChooser
from napari_restore.plugin.areas._strength import chosen_strength, strength_layers
from napari_restore.plugin.areas._target_chooser import TargetChooser
from napari_restore.plugin.areas._targets import Area, NotReady, Target
from napari_restore.plugin.compare import CompareSection
from napari_restore.plugin.method._advanced import AdvancedForm
from napari_restore.plugin.method._airlight import AirlightPicker
from napari_restore.plugin.method._band_roles import BandRolesForm
from napari_restore.plugin.method._model_chooser import ModelChooser
from napari_restore.plugin.method._model_drop import ModelFiles
from napari_restore.plugin.method._parameter_form import ParameterForm
from napari_restore.plugin.results._export import ExportSection
from napari_restore.plugin.results._look import LookSection
from napari_restore.plugin.results._results import ResultsSection
from napari_restore.plugin.runs._batch import BatchSection
from napari_restore.plugin.runs._live_control import LiveControl
from napari_restore.plugin.runs._planner import Planner
from napari_restore.plugin.runs._run_bar import RunBar
from napari_restore.plugin.runs._run_control import RunControl

if TYPE_CHECKING:
    import napari

    from napari_restore.models import ModelCard
    from napari_restore.plugin._request import Request
    from napari_restore.plugin._state import RestoreState
    from napari_restore.plugin.runs._running import LayerRun

VIEW_SETTLED_MS = 200
SECTIONS: tuple[type[Section], ...] = (
    LookSection,
    CompareSection,
    ResultsSection,
    ExportSection,
    BatchSection,
)
"""What the panel offers for results, from top to bottom."""


class RestorePanel(QWidget):
    """Chooses what to restore and how, and runs it.

    Widgets write to the viewer's `RestoreState`; what follows from a setting
    (region, plan, forms) listens to the state. Closing the panel ends its run.
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
        self._view_settled = qdebounced(self.update_region, timeout=VIEW_SETTLED_MS)
        self._planner = Planner(self)
        self._areas = AreaFinder(self.viewer, self.state, self)
        self.drawing = Drawing(self.viewer, self.state, self)
        self.files = ModelFiles(self)
        self._build()
        self.live = LiveControl(self.viewer, self.state, self.bar, self._planner, self._title, self)
        self.runs = RunControl(self.viewer, self.state, self.bar, self.live, self)
        self._connect()
        self._preferences = PreferenceLink(self.state)
        self._show_settings()
        self._preferences.live_changed.connect(self.bar.set_live)
        self._keys = KeyBindings(self.viewer, _actions.BOUND)
        _actions.opened(self.viewer, self)
        before = replace(self.state)
        self._on_layers()
        self._take_up(before)

    # -- building ----------------------------------------------------------------

    def _build(self) -> None:
        self.image = QComboBox(self)
        self.image.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.facts = QLabel(self)
        self.facts.setWordWrap(True)
        self.bands = BandRolesForm(self)
        self.models = ModelChooser(self)
        self.parameters = ParameterForm()
        self.airlight = AirlightPicker(self.viewer, self.state)
        self.target = TargetChooser(self)
        self.exclude = ExcludeChooser(self.viewer, self.state)
        self.memory = QDoubleSpinBox(self)
        self.memory.setRange(0, 4096)
        self.memory.setSingleStep(0.5)
        self.memory.setSuffix(" GiB")
        self.memory.setSpecialValueText("automatic")
        self.memory.setKeyboardTracking(False)
        self.memory.setToolTip("What a run may take beyond what napari holds already")
        self.advanced = AdvancedForm()
        self.bar = RunBar(self)
        self.bar.button.setToolTip(
            f"{with_key('Restore what is set', 'run')}; {with_key('cancel', 'cancel')}"
        )

        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Image", stacked(self.image, self.facts, self.bands))
        self.models.add_rows(form)
        form.addRow("Area", self.target)
        form.addRow(ExcludeChooser.TITLE, self.exclude)
        form.addRow("Memory", self.memory)
        inner = QWidget()
        layout = QVBoxLayout(inner)
        layout.addLayout(form)
        layout.addWidget(folded("Method settings", stacked(self.parameters, self.airlight)))
        layout.addWidget(folded("Advanced", self.advanced))
        layout.addWidget(self.bar)
        self.sections = [section(self.viewer, self.state) for section in SECTIONS]
        for section in self.sections:
            section.asked.connect(self.start)
            if isinstance(section, BatchSection):
                section.stop_asked.connect(self.cancel)
                self.ended.connect(section.run_ended)
        parts = [folded(section.TITLE, section) for section in self.sections]
        for part in parts:
            layout.addWidget(part)
        layout.addStretch(1)
        scroll = QScrollArea(self)
        one_at_a_time(parts, scroll)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inner)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        self.setMinimumWidth(340)

    def _connect(self) -> None:
        self.image.currentIndexChanged.connect(self._on_image)
        self.models.changed.connect(self._on_model)
        self.models.file_wanted.connect(self.files.ask_for_file)
        self.files.looking.connect(self.bar.show_message)
        self.files.added.connect(self.models.add)
        self.bands.changed.connect(self._set("bands"))
        self.parameters.changed.connect(self._set("parameters"))
        self.airlight.picked.connect(self._on_airlight)
        self.target.changed.connect(self._on_target)
        self.target.feather_changed.connect(self._set("feather"))
        self.target.strength_changed.connect(self._set("strength_layer"))
        self.target.draw_requested.connect(self.drawing.toggle)
        self.drawing.changed.connect(self.target.show_tool)
        self.drawing.changed.connect(self._on_drawn)
        self._areas.changed.connect(self._on_drawn)
        self._areas.found.connect(self.update_region)
        self.memory.valueChanged.connect(self._on_memory)
        self.advanced.changed.connect(self._on_advanced)
        self.bar.run_requested.connect(self.run)
        self.bar.cancel_requested.connect(self.cancel)
        self.runs.planned.connect(self.advanced.show_plan)
        self.runs.ended.connect(self._on_ended)
        self._planner.planned.connect(self._on_planned)
        self._planner.settled.connect(self.advanced.show_plan)
        for signal in self._state_signals():
            signal.connect(self._on_settings)
        for event, slot in (*self._viewer_events(), *self._followers()):
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

    def _followers(self) -> list[tuple[Any, Any]]:
        """What brings widgets up to date when others than they set the state."""
        events = self.state.events
        return [
            (events.layer, self._show_layer),
            (events.model, self._show_model),
            (events.parameters, self.parameters.set_values),
            (events.target, self.target.choose),
            (events.feather, self._show_feather),
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
        ]

    # -- settings ----------------------------------------------------------------

    def _set(self, field: str) -> Any:
        def assign(value: Any) -> None:
            setattr(self.state, field, value)

        return assign

    def _on_target(self, target: Target) -> None:
        self.drawing.end()
        self.state.target = target

    def _on_memory(self, gib: float) -> None:
        self.state.memory = gib or None

    def _on_advanced(self, settings: dict[str, Any]) -> None:
        for name, value in settings.items():
            setattr(self.state, name, value)

    def _on_model(self, _: str) -> None:
        choice = self.models.choice()
        if choice is None:
            return
        self.parameters.show_card(choice.card)
        self.airlight.show_card(choice.card)
        self.advanced.show_card(choice.card)
        self.bands.ask(self.state.layer, choice.card)
        self.state.weights, self.state.trust = choice.weights, choice.trust
        self.state.parameters = self.parameters.values()
        self.state.model = choice.model

    def _on_airlight(self, value: str) -> None:
        self.parameters.set_value("airlight", value)

    def _show_layer(self, layer: ImageLayer | None) -> None:
        number = self.image.findData(layer) if layer is not None else -1
        if number >= 0:
            self.image.setCurrentIndex(number)

    def _show_feather(self, feather: int) -> None:
        self.target.feather.setValue(feather)

    def _show_model(self, model: str) -> None:
        self.models.choose(self.state.weights or model)

    def _show_settings(self) -> None:
        """What the state says now, by whomever it was set."""
        state = self.state
        self.memory.setValue(state.memory or 0)
        names = ("device", "tile", "tile_batch", "extent", "residuals")
        self.advanced.show_settings({name: getattr(state, name) for name in names})

    def _take_up(self, before: RestoreState) -> None:
        """Go on with what an earlier panel of this viewer was set to."""
        self.target.choose(self.state.target)
        self._show_feather(self.state.feather)
        if before.model and self.state.layer is before.layer:
            self.models.choose(before.weights or before.model)
            if self.state.model == before.model:
                self.state.parameters = before.parameters

    def _on_settings(self) -> None:
        self._show_settings()
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
        """Offer the images there are; keep the choice where it still exists."""
        self._forget_removed()
        offered = [layer for layer in self.viewer.layers if _is_source(layer)]
        chosen = self.state.layer if self.state.layer in offered else None
        self.image.blockSignals(True)
        self.image.clear()
        for layer in offered:
            self.image.addItem(layer.name, layer)
        if offered:
            self.image.setCurrentIndex(offered.index(chosen) if chosen else len(offered) - 1)
        else:
            self.image.addItem("Open an image first", None)
        self.image.blockSignals(False)
        self._on_image()
        self._offer_strengths()
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
        number = self.image.findData(active) if active is not None else -1
        if number >= 0:
            self.image.setCurrentIndex(number)
        else:
            self._on_drawn()

    def _on_image(self) -> None:
        layer = self.image.currentData()
        if layer is None:
            self.facts.setText("File > Open Sample > Restore has one to try.")
            self.state.layer = None
            self.models.offer(offered_models(), "aerial")
        else:
            try:
                image = image_of(layer)
            except RestoreError as error:
                self.facts.setText(words_of(error))
                layer = None
                self.bands.ask(None, None)
            else:
                self.facts.setText(describe(image))
                if layer is not self.state.layer:
                    # What was said of another layer's bands means nothing here.
                    self.state.bands = None
                    self.state.layer = layer
                self.models.offer(offered_models(), "aerial" if image.crs else "natural", image)
                hint_at_async(image)
        self.bar.allow(layer is not None)
        self.state.layer = layer
        if layer is not None and not self._begun:
            self._begun = True
            self.bar.live.setChecked(self._preferences.live)

    def _on_drawn(self, _: Any = None) -> None:
        if self.state.target.is_drawn:
            self._view_settled()

    def _offer_strengths(self) -> None:
        layer, state = self.state.layer, self.state
        offered = strength_layers(self.viewer, layer)
        chosen = None
        if layer is not None:
            chosen = chosen_strength(self.viewer, state.strength_layer, layer)
        self.target.offer_strength(offered, chosen)

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
        self.ended.emit(status, outcome, request)
        self.update_region()

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
        for section in self.sections:
            section.leave()
        for part in (self._keys, self._preferences, self.files, self.airlight):
            part.leave()
        _actions.closed(self.viewer, self)
        self.live.close()
        self._planner.close()
        self._areas.leave()
        self.drawing.leave()
        self.exclude.leave()
        self._view_settled.cancel()
        for signal in self._state_signals():
            signal.disconnect(self._on_settings)
        for source, slot in (*self._viewer_events(), *self._followers()):
            source.disconnect(slot)


def offered_models() -> list[ModelCard]:
    """The models that run as they are: those whose weights are missing are left out."""
    return [card for card in known_models() if is_ready(card.id)]


def _is_source(layer: Any) -> bool:
    return isinstance(layer, ImageLayer) and "napari_restore_source" not in layer.metadata
