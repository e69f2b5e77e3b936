"""The Restore panel: where the settings of a viewer, its layers and a run meet."""

from __future__ import annotations

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
from superqt import QCollapsible
from superqt.utils import qdebounced

from napari_restore.api import models as known_models
from napari_restore.engine import Note, Phase, Progress
from napari_restore.errors import RestoreError
from napari_restore.plugin._advanced import AdvancedForm
from napari_restore.plugin._model_chooser import ModelChooser
from napari_restore.plugin._notices import show_note, show_problem
from napari_restore.plugin._parameter_form import ParameterForm
from napari_restore.plugin._planner import Planner
from napari_restore.plugin._run_bar import RunBar
from napari_restore.plugin._running import LayerRun
from napari_restore.plugin._section import Section
from napari_restore.plugin._state import image_of, state_of, unwrapped
from napari_restore.plugin._target_chooser import TargetChooser
from napari_restore.plugin._targets import Area, Target, area_of

if TYPE_CHECKING:
    import napari

    from napari_restore.engine import Event
    from napari_restore.images import Image
    from napari_restore.models import ModelCard
    from napari_restore.plugin._variant import Variant

VIEW_SETTLED_MS = 200
SECTIONS: tuple[type[Section], ...] = ()
"""What the panel offers for results, from top to bottom."""


class RestorePanel(QWidget):
    """Chooses what to restore and how, and runs it.

    Widgets write to the viewer's `RestoreState`; what follows from a setting
    (region, plan, forms) listens to the state. Closing the panel ends its run.
    """

    planned = Signal(str)
    """The plan's line was brought up to date."""
    ended = Signal(str, object)
    """A run ended; as `Run.ended`."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = unwrapped(napari_viewer)
        self.state = state_of(napari_viewer)
        self.running: LayerRun | None = None
        self._left = False
        self._problem: RestoreError | None = None
        """Why the target means nothing now."""
        self._view_settled = qdebounced(self.update_region, timeout=VIEW_SETTLED_MS)
        self._planner = Planner(self)
        self._build()
        self._connect()
        self._on_layers()

    # -- building ----------------------------------------------------------------

    def _build(self) -> None:
        self.image = QComboBox(self)
        self.image.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.facts = QLabel(self)
        self.facts.setWordWrap(True)
        self.models = ModelChooser(self)
        self.parameters = ParameterForm()
        self.target = TargetChooser(self)
        self.memory = QDoubleSpinBox(self)
        self.memory.setRange(0, 4096)
        self.memory.setSingleStep(0.5)
        self.memory.setSuffix(" GiB")
        self.memory.setSpecialValueText("automatic")
        self.memory.setKeyboardTracking(False)
        self.memory.setToolTip("What a run may take beyond what napari holds already")
        self.advanced = AdvancedForm()
        self.bar = RunBar(self)

        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Image", _stacked(self.image, self.facts))
        form.addRow("Method", self.models)
        form.addRow("Area", self.target)
        form.addRow("Memory", self.memory)
        inner = QWidget()
        layout = QVBoxLayout(inner)
        layout.addLayout(form)
        layout.addWidget(_collapsible("Method settings", self.parameters))
        layout.addWidget(_collapsible("Advanced", self.advanced))
        layout.addWidget(self.bar)
        self.sections = [section(self.viewer, self.state) for section in SECTIONS]
        for section in self.sections:
            layout.addWidget(_collapsible(section.TITLE, section))
        layout.addStretch(1)
        scroll = QScrollArea(self)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inner)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        self.setMinimumWidth(320)

    def _connect(self) -> None:
        self.image.currentIndexChanged.connect(self._on_image)
        self.models.changed.connect(self._on_model)
        self.parameters.changed.connect(self._set("parameters"))
        self.target.changed.connect(self._set("target"))
        self.target.draw_requested.connect(self.draw_rectangle)
        self.memory.valueChanged.connect(self._on_memory)
        self.advanced.changed.connect(self._on_advanced)
        self.bar.run_requested.connect(self.run)
        self.bar.cancel_requested.connect(self.cancel)
        self._planner.planned.connect(self._on_planned)
        for signal in self._state_signals():
            signal.connect(self._on_settings)
        for event, slot in self._viewer_events():
            event.connect(slot)

    def _state_signals(self) -> list[Any]:
        events = self.state.events
        return [
            events.layer,
            events.model,
            events.parameters,
            events.target,
            events.feather,
            events.exclude,
            events.memory,
            events.device,
            events.tile,
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

    def _on_memory(self, gib: float) -> None:
        self.state.memory = gib or None

    def _on_advanced(self, device: str, tile: int | None) -> None:
        self.state.device = device
        self.state.tile = tile

    def _on_model(self, model: str) -> None:
        card = self.models.card()
        if card is not None:
            self.parameters.show_card(card)
        self.state.parameters = self.parameters.values()
        self.state.model = model

    def _on_settings(self) -> None:
        self.update_region()

    def update_region(self) -> None:
        """Find out what the target means now, and plan it."""
        layer = self.state.layer
        area: Area | None = None
        self._problem = None
        if layer is not None:
            try:
                image = image_of(layer)
                size = (image.height, image.width)
                area = area_of(self.state.target, self.viewer, layer, size)
            except RestoreError as error:
                self._problem = error
        self.state.area = area
        self.target.show_region(area.region if area else None, str(self._problem or ""))
        if area is None:
            self._planner.forget()
            self.bar.show_plan("")
        elif self.running is None:
            self.bar.show_plan("Planning …")
            self._planner.plan(self.state.request())

    def _on_planned(self, line: str) -> None:
        if self.running is None:
            self.bar.show_plan(line)
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

    def _forget_removed(self) -> None:
        """Results whose layer or source has left the viewer are no more."""
        layers = self.viewer.layers
        kept = tuple(v for v in self.state.variants if v.layer in layers and v.source in layers)
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
        elif self.state.target is Target.RECTANGLE:
            self._view_settled()

    def _on_image(self) -> None:
        layer = self.image.currentData()
        if layer is None:
            self.facts.setText("File > Open Sample > Restore has one to try.")
            self.models.offer(offered_models(), "aerial")
        else:
            try:
                image = image_of(layer)
            except RestoreError as error:
                self.facts.setText(str(error))
                layer = None
            else:
                self.facts.setText(describe(image))
                self.models.offer(offered_models(), "aerial" if image.crs else "natural")
        self.bar.allow(layer is not None)
        self.state.layer = layer

    def draw_rectangle(self) -> None:
        """Let the user drag a rectangle; it becomes the target."""
        from napari.layers import Shapes

        areas = next((x for x in self.viewer.layers if isinstance(x, Shapes)), None)
        if areas is None:
            areas = self.viewer.add_shapes(
                name="Areas to restore",
                ndim=2,
                face_color="transparent",
                edge_color="yellow",
                edge_width=2 / self.viewer.scene.camera.zoom,
            )
            areas.events.data.connect(self._on_drawn)
        self.viewer.layers.selection.active = areas
        areas.mode = "add_rectangle"

    def _on_drawn(self) -> None:
        if self.state.target is Target.RECTANGLE:
            self._view_settled()

    # -- running -----------------------------------------------------------------

    def run(self) -> None:
        """Restore what is set, in a layer of its own."""
        if self.running is not None:
            return
        self.update_region()
        try:
            if self._problem is not None:
                raise self._problem
            request = self.state.request()
        except RestoreError as error:
            show_problem(error)
            return
        layer, card = self.state.layer, self.models.card()
        assert layer is not None and card is not None
        where = self.state.target.value
        self._planner.forget()
        self.running = LayerRun(self.viewer, layer, request, card.title, where)
        self.running.planned.connect(self._on_run_planned)
        self.running.happened.connect(self._on_event)
        self.running.shown.connect(self._on_shown)
        self.running.ended.connect(self._on_ended)
        # Closing the window destroys its widgets without closing them.
        self.destroyed.connect(self.running.stop)
        self.state.running = True
        self.bar.show_running(True)
        self.bar.show_message("Loading the method …")
        self.running.start()

    def cancel(self) -> None:
        """Stop the run within a tile."""
        if self.running is not None:
            self.bar.show_message("Stopping after the tiles in hand …")
            self.running.cancel()

    def _on_run_planned(self, plan: Any) -> None:
        self.bar.show_plan(plan.summary())

    def _on_shown(self, variant: Variant) -> None:
        self.state.variants = (*self.state.variants, variant)
        self.state.current = variant

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Progress):
            self.bar.show_progress(event.done, event.total, event.seconds_left)
        elif isinstance(event, Phase):
            self.bar.show_message(f"{event.name} …")
        elif isinstance(event, Note):
            show_note(event.text)

    def _on_ended(self, status: str, outcome: Any) -> None:
        if self.running is not None:
            self.destroyed.disconnect(self.running.stop)
        self.running = None
        self.state.running = False
        self.bar.show_running(False)
        if status == "failed":
            self.bar.show_message(str(outcome))
            show_problem(outcome)
        elif status == "cancelled":
            self.bar.show_message("Cancelled. Run again to go on from the finished tiles.")
        else:
            self.bar.show_message(account(outcome))
        self.ended.emit(status, outcome)
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
        super().changeEvent(event)

    def _leave(self) -> None:
        """End the run and let go of the viewer."""
        if self._left:
            return
        self._left = True
        if self.running is not None:
            self.running.stop()
        for section in self.sections:
            section.leave()
        self._planner.close()
        self._view_settled.cancel()
        for signal in self._state_signals():
            signal.disconnect(self._on_settings)
        for source, slot in self._viewer_events():
            source.disconnect(slot)


def offered_models() -> list[ModelCard]:
    """The models that run as they are: those whose weights are missing are left out."""
    return [card for card in known_models() if not card.needs_weights or card.weights_sha256]


def describe(image: Image) -> str:
    """An image's size, bands, depth and map in one line."""
    bands = f"{image.bands} band{'s' if image.bands > 1 else ''}"
    parts = [f"{image.width} × {image.height}", bands, str(image.dtype)]
    if image.crs:
        # WKT begins with the system's name in quotes.
        parts.append(image.crs.split('"')[1])
    return " · ".join(parts)


def account(record: dict[str, Any]) -> str:
    """What a finished run took, in one line."""
    measured = record["measured"]
    return (
        f"Done in {measured['seconds']:.1f} s, {measured['megapixels_per_second']:.1f} MP/s. "
        "File > Save Selected Layers writes the result."
    )


def _is_source(layer: Any) -> bool:
    return isinstance(layer, ImageLayer) and "napari_restore_source" not in layer.metadata


def _stacked(*widgets: QWidget) -> QWidget:
    """Widgets one below the other."""
    column = QWidget()
    layout = QVBoxLayout(column)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget)
    return column


def _collapsible(title: str, content: QWidget) -> QCollapsible:
    folded = QCollapsible(title, expandedIcon="▾", collapsedIcon="▸")
    folded.addWidget(content)
    # superqt's margins are for a widget that stands alone; this one is a row of the panel.
    for widget, margins in ((folded, (0, 0, 0, 0)), (folded.content(), (8, 4, 0, 4))):
        if (layout := widget.layout()) is not None:
            layout.setContentsMargins(*margins)
    return folded
