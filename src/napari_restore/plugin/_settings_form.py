"""The upper part of the panel: what to restore and how; writes to the viewer's state."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import psygnal
from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget
from superqt import QLabeledSlider
from superqt.utils import signals_blocked

from napari_restore.errors import RestoreError
from napari_restore.plugin.areas.drawing_controller import DrawingController, Tool
from napari_restore.plugin.areas.target_chooser import ExcludeChooser, TargetChooser
from napari_restore.plugin.layers.layer_order import bring_to_front, is_source
from napari_restore.plugin.layers.placing import turn_upright
from napari_restore.plugin.method.advanced_form import AdvancedForm
from napari_restore.plugin.method.airlight_view import AirlightPicker
from napari_restore.plugin.method.band_roles_form import BandRolesForm, add_in_colour, is_needed
from napari_restore.plugin.method.model_chooser import ModelChooser, offered_models
from napari_restore.plugin.method.parameter_form import ParameterForm
from napari_restore.plugin.photos.photos_view import Opener, PhotosView
from napari_restore.plugin.state.preferences import hint_at_async
from napari_restore.plugin.state.request import ChosenMethod, TargetChoice
from napari_restore.plugin.state.state import Connections, RestoreState, image_of, named_as
from napari_restore.plugin.tasks.notices import close_notes, error_text
from napari_restore.plugin.widgets.editors import NarrowComboBox, number_box
from napari_restore.plugin.widgets.folding import Folded, column_of, form_layout, stacked

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.images import Image
    from napari_restore.questions import RestoreKeywords


class PlaneChooser(QWidget):
    """Which plane of a stack the layer shows; hidden where its file is one picture."""

    changed = Signal(int)
    """The number of the plane to show, counted from 0."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.slider = QLabeledSlider(Qt.Orientation.Horizontal, self)
        self.slider.setAccessibleName("Plane")
        self.slider.setToolTip("The page, depth or time that is shown and restored, counted from 0")
        # A plane on the way would be opened for nothing.
        self.slider.setTracking(False)
        self.text = QLabel(self, wordWrap=True)
        column_of(self, self.text, self.slider)
        self.slider.valueChanged.connect(self.changed)
        self.hide()

    def show_running(self, running: bool) -> None:
        """Let no other plane be chosen during a run, which fills the layers of this one."""
        self.slider.setDisabled(running)

    def show_image(self, image: Image | None) -> None:
        """Show which plane `image` is."""
        planes = None if image is None else image.planes
        self.setVisible(planes is not None and planes.count > 1)
        if image is None or planes is None or planes.count < 2:
            return
        places = zip(planes.axes, planes.indices(image.plane), strict=True)
        named = ", ".join(f"{axis.name} {place}" for axis, place in places)
        self.text.setText(f"Plane {image.plane} of 0 to {planes.count - 1} ({named})")
        with signals_blocked(self.slider):
            self.slider.setRange(0, planes.count - 1)
            self.slider.setValue(image.plane)


METHOD_TIP = "How strongly and how finely the method works; the numbers shown suit most pictures"
ADVANCED_TIP = (
    "Device, memory and tiles: how quickly it is done, and what of the image the method sees"
)


class SettingsForm(QObject):
    """Image, method, area and memory: what the user sets goes to the viewer's `RestoreState`.

    After `follow` the widgets, which are `panel`'s, show what others set there.
    """

    image_shown = psygnal.Signal(bool)
    """The form shows an image, the same or another; true if it can be restored."""

    def __init__(self, viewer: ViewerModel, state: RestoreState, panel: QWidget) -> None:
        super().__init__(panel)
        self.viewer = viewer
        self.state = state
        self.drawing = DrawingController(viewer, state, self)
        self.opener = Opener(viewer, panel)
        self.photos = PhotosView(viewer, state)
        self.image = NarrowComboBox(panel, tip="The image that is shown and restored")
        self.summary = QLabel(panel, wordWrap=True)
        self.plane = PlaneChooser(panel)
        self.bands = BandRolesForm(panel)
        self.models = ModelChooser(panel)
        self.parameters = ParameterForm()
        self.airlight = AirlightPicker(viewer, state)
        self.target = TargetChooser(viewer, state)
        self.exclude = ExcludeChooser(viewer, state)
        tip = "What a run may take beyond what napari uses already"
        self.memory = number_box(
            panel, (0, 4096), tip, step=0.5, decimals=2, suffix=" GiB", zero="automatic"
        )
        self.advanced = AdvancedForm()
        self._connect()

    def add_to(self, layout: QVBoxLayout) -> None:
        """Add the rows, and below them what is folded away."""
        # Not as one widget: Qt would cut off wrapped lines.
        layout.addWidget(self.opener)
        layout.addWidget(self.photos)
        form = form_layout()
        form.addRow("Image", stacked(self.image, self.summary, self.plane, self.bands))
        self.models.add_rows(form)
        form.addRow(ExcludeChooser.TITLE, self.exclude)
        form.addRow("Memory", self.memory)
        layout.addLayout(form)
        of_method = stacked(self.parameters, self.airlight)
        self.method_part = Folded("Method settings", of_method, METHOD_TIP)
        layout.addWidget(self.method_part)
        layout.addWidget(Folded("Advanced", self.advanced, ADVANCED_TIP))

    def add_area_to(self, layout: QVBoxLayout) -> None:
        form = form_layout()
        form.addRow("Area", self.target)
        layout.addLayout(form)

    def _connect(self) -> None:
        self.image.currentIndexChanged.connect(self._on_image)
        self.image.activated.connect(self._on_chosen)
        self.models.changed.connect(self._on_model)
        self.bands.changed.connect(self._set("named"))
        self.bands.named_bands.connect(self._on_named)
        self.bands.values_changed.connect(self._on_options)
        self.parameters.changed.connect(self._set("parameters"))
        self.airlight.picked.connect(partial(self.parameters.set_value, "airlight"))
        self.target.draw_requested.connect(self.drawing.toggle)
        self.drawing.changed.connect(self._on_tool)
        self.exclude.draw_requested.connect(self.drawing.toggle)
        self.exclude.marked.connect(self.drawing.follow_purpose)
        self.memory.valueChanged.connect(self._set("memory_gib"))
        self.advanced.changed.connect(self._on_options)

    def follow(self) -> None:
        """Connect the widgets to the state, so that they show what others set."""
        events = self.state.events
        Connections(
            self,
            (events.layer, self.choose_image),
            (events.method, self._show_method),
            (events.options, self.bands.show_values),
        )

    # -- the user sets -----------------------------------------------------------

    def _set(self, field: str) -> Callable[[Any], None]:
        return partial(setattr, self.state, field)

    def _on_tool(self, tool: Tool | None) -> None:
        self.target.show_tool(tool)
        self.exclude.show_drawing(tool, self.drawing.layer)

    def _on_options(self, options: RestoreKeywords) -> None:
        self.state.set_options(**options)

    def _on_model(self, _: str) -> None:
        choice = self.models.choice()
        if choice is None:
            return
        self.parameters.show_card(choice.card)
        self.airlight.show_card(choice.card)
        self.advanced.show_card(choice.card)
        self.bands.show_missing(self.state.layer, choice.card)
        self.state.method = ChosenMethod(
            choice.model, choice.card, choice.weights, choice.trust, self.parameters.values()
        )

    def _on_named(self) -> None:
        """Show the image in the colours the user has named, in the place of its layer."""
        before = self.state.layer
        assert before is not None
        shown = add_in_colour(self.viewer, before, self.state.named_image(before))
        if shown is None:
            return
        camera = self.viewer.scene.camera
        view = camera.center, camera.zoom
        self.choose_image(shown)
        self.viewer.layers.selection.active = shown
        if self.state.running or is_needed(self.viewer, before):
            # Its results are compared with it as it was.
            before.visible = False
        else:
            self.viewer.layers.remove(before)
        # napari shows all of the image where the number of axes changes.
        camera.center, camera.zoom = view

    def _on_chosen(self) -> None:
        """Show the image that the user has chosen in the widget."""
        if self.state.layer is not None:
            self.state.layer.visible = True
            self.photos.show_chosen()
            bring_to_front(self.viewer, self.state.layer)

    def _on_image(self) -> None:
        layer = self.image.currentData()
        self.plane.show_image(None)
        if layer is None:
            self.summary.setText("File > Open Sample > Restore has one to try.")
            self.state.layer = None
            self.models.offer(offered_models(), "aerial")
        else:
            try:
                image = image_of(layer)
            except RestoreError as error:
                self.summary.setText(error_text(error))
                layer = None
                self.bands.show_missing(None, None)
            else:
                self.summary.setText(describe(image))
                self.plane.show_image(image)
                if layer is not self.state.layer:
                    close_notes(image.name)
                    self._choose(layer, image)
                    turn_upright(self.viewer, image)
                self.models.offer(
                    offered_models(image), "aerial" if image.crs else "natural", image
                )
                hint_at_async(image)
        self.image_shown.emit(layer is not None)
        self.state.layer = layer

    def _choose(self, layer: Any, image: Image) -> None:
        """Set the layer with what belongs to it, of which nobody hears before: it fits no other."""
        state, events = self.state, self.state.events
        with (
            events.named.paused(),
            events.options.paused(),
            events.target.paused(),
        ):
            state.named = named_as(layer)
            state.set_options(black=None, white=None, other_bands=None, context=None)
            self.advanced.show_options(state.options)
            self._offer_area(image)
            state.layer = layer

    def _offer_area(self, image: Image) -> None:
        """Choose the usual area of an image, unless the user has chosen one: photos are done whole."""
        state = self.state
        is_usual = state.target is state.usual_target
        state.usual_target = TargetChoice.WHOLE if image.is_photo else TargetChoice.VISIBLE
        if is_usual:
            state.target = state.usual_target

    # -- others set --------------------------------------------------------------

    def show_settings(self) -> None:
        """Show the state's memory and what is under Advanced."""
        self.memory.setValue(self.state.memory_gib)
        self.advanced.show_options(self.state.options)

    def show_earlier(self, before: RestoreState) -> None:
        """Show the settings of an earlier panel of this viewer."""
        method = before.method
        if method.model and self.state.layer is before.layer:
            self.models.choose(method.weights or method.model)
            if self.state.method.model == method.model:
                self.state.parameters = method.parameters

    def choose_image(self, layer: Any) -> bool:
        """Choose a layer as a click would; False where it is not offered."""
        number = self.image.findData(layer) if layer is not None else -1
        if number >= 0:
            self.image.setCurrentIndex(number)
        return number >= 0

    def offer_layers(self) -> None:
        """Offer the image and strength layers of the viewer; keep the chosen image if it still exists."""
        offered = [layer for layer in self.viewer.layers if is_source(layer)]
        chosen = self.state.layer if self.state.layer in offered else None
        names = [(layer.name, layer) for layer in offered] or [("Open an image first", None)]
        self.image.offer(names, chosen or names[-1][1])
        self._on_image()
        self.target.offer_strengths()

    def _show_method(self, method: ChosenMethod) -> None:
        # Not that of the state now: where layers go because of it, the form has set its own again.
        self.models.choose(method.weights or method.model)
        self.parameters.set_values(method.parameters)


def describe(image: Image) -> str:
    """Return an image's size, bands, type and map in one line; of a photo its size and depth."""
    size = f"{image.width} × {image.height}"
    if image.is_photo:
        parts = [size, f"{8 * image.dtype.itemsize} bit"]
    else:
        bands = f"{image.bands} band{'s' if image.bands > 1 else ''}"
        parts = [size, bands, str(image.dtype)]
    if image.companions is not None:
        parts.insert(0, "bracket")
    if image.crs:
        # WKT begins with the system's name in quotes.
        parts.append(image.crs.split('"')[1])
    return " · ".join(parts)
