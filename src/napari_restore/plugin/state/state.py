"""The settings of the panel of one viewer; views and controllers listen to its events."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

from psygnal import SignalGroupDescriptor
from qtpy.QtCore import QObject

import napari_restore as nr
from napari_restore import api
from napari_restore.errors import BadRegion, RestoreError, UnreadableImage
from napari_restore.plugin.state.request import (
    Area,
    ChosenMethod,
    ConnectedCluster,
    Exclusion,
    NamedBands,
    NotReady,
    RunRequest,
    TargetChoice,
)
from napari_restore.questions import Restore

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer, Layer

    from napari_restore.images import Image
    from napari_restore.plugin.state.variant import Variant
    from napari_restore.questions import RestoreKeywords


PYRAMID = Restore().replacing(pyramid=True)
"""Options of the window: it shows a result at every zoom."""


@dataclass(eq=False)
class RestoreState:
    """The settings of one viewer. Setting a field emits `events.FIELD` and `events`."""

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor()

    layer: ImageLayer | None = None
    """The layer to restore."""
    named: NamedBands = field(default_factory=NamedBands)
    """What the user has said of the layer's bands."""
    method: ChosenMethod = field(default_factory=ChosenMethod)
    target: TargetChoice = TargetChoice.VISIBLE
    usual_target: TargetChoice = TargetChoice.VISIBLE
    """What `target` is for the layer until the user chooses another."""
    area: Area | None = None
    """The area of the target now; None where there is none."""
    options: Restore = PYRAMID
    """Options of the next plan, without the area and the adjustment of a result."""
    cluster: ConnectedCluster | None = None
    """The cluster whose workers compute runs; None: the child process does."""
    strength_layer: Layer | None = None
    """The layer whose values are the strength of a painted target; None: the topmost labels."""
    crop: bool = True
    """Whether to cut off what some frame of a bracket does not show, where nothing is drawn."""
    exclusion: Exclusion = field(default_factory=Exclusion)
    """Of the mask in `options`."""
    running: bool = False
    """Whether a run, a folder or an attribution is under way: one at a time has the memory."""
    variants: tuple[Variant, ...] = ()
    """All results in the viewer, the oldest first."""
    current: Variant | None = None
    """The result that Compare, Adjust and Export apply to."""

    def set_options(self, **options: Unpack[RestoreKeywords]) -> None:
        """Set some options of the next plan; the others stay."""
        self.options = self.options.replacing(**options)

    @property
    def memory_gib(self) -> float:
        """GiB of RAM that a run may add; 0: the engine decides."""
        return int(self.options.machine.memory or 0) / 2**30

    @memory_gib.setter
    def memory_gib(self, gib: float) -> None:
        self.set_options(memory=int(gib * 2**30) or None)

    @property
    def parameters(self) -> dict[str, Any]:
        """Those of the method."""
        return self.method.parameters

    @parameters.setter
    def parameters(self, parameters: dict[str, Any]) -> None:
        self.method = replace(self.method, parameters=parameters)

    @property
    def not_ready(self) -> NotReady | None:
        """The error of a request while a mask of excluded pixels is made; None otherwise."""
        if not self.exclusion.pending:
            return None
        return NotReady("The mask of excluded pixels is being made.", "It takes a moment.")

    @property
    def image(self) -> Image | None:
        """The `named_image` of the layer; None where there is none: under Image it says why."""
        try:
            return None if self.layer is None else self.named_image(self.layer)
        except RestoreError:
            return None

    def named_image(self, layer: ImageLayer) -> Image:
        """Return the image of `layer` with the roles and the sensor that are set."""
        return named_image(layer, self.named)

    def request(self, area: Area | None = None) -> RunRequest:
        """Return all that a plan needs, of an `area` or the target; raises `RestoreError`, `NotReady`."""
        # The mask of excluded pixels may still be made.
        if self.not_ready is not None:
            raise self.not_ready
        area = self.area if area is None else area
        if self.layer is None:
            raise UnreadableImage(
                "There is no image.", "Open one, for instance File > Open Sample."
            )
        if area is None:
            raise BadRegion("There is nothing to restore in view.", "Pan back to the image.")
        method = self.method
        return RunRequest(
            image=self.named_image(self.layer),
            named=self.named,
            model=method.model,
            weights=method.weights,
            trust=method.trust,
            parameters=tuple(sorted(method.parameters.items())),
            area=area,
            options=self.options,
        )


Connection = tuple[Any, Callable[..., object]]
"""A signal, of Qt, psygnal or napari, and its slot."""


class Connections(QObject):
    """Slots of `owner` on signals of viewers, layers and states, which live longer."""

    def __init__(self, owner: QObject | None = None, *connections: Connection) -> None:
        super().__init__(owner)
        self._made: list[Connection] = []
        self.add(*connections)

    def add(self, *connections: Connection) -> None:
        for signal, slot in connections:
            signal.connect(slot)
        self._made += connections

    def turn(self, *connections: Connection) -> None:
        """Make these in place of those before."""
        if [*connections] != self._made:
            self.end()
            self.add(*connections)

    def end(self) -> None:
        """Disconnect all; may be called again."""
        for signal, slot in self._made:
            signal.disconnect(slot)
        self._made.clear()


def view_events(viewer: ViewerModel) -> tuple[Any, ...]:
    """Return the events after which a viewer shows another part, or shows it otherwise."""
    camera = viewer.scene.camera.events
    return camera.center, camera.zoom, viewer.canvas.events.size


ARRAY = "napari_restore_array"
"""In a layer's metadata: the identity of the array its image was made of."""
UNNAMED = "napari_restore_unnamed"
"""In a layer's metadata: its image without the roles and the sensor that the user gave."""
NAMED = "napari_restore_named"
"""In a layer's metadata: its image with them, and what they were."""
NAMED_AS = "napari_restore_named_as"
"""In a layer's metadata: the `NamedBands`."""


def unnamed_image(layer: ImageLayer) -> Image:
    """Return the image of a layer with the roles that the file names, and no others."""
    known: Image | None = layer.metadata.get(UNNAMED)
    return image_of(layer) if known is None else known


def named_as(layer: ImageLayer) -> NamedBands:
    """Return what the user has said of the bands of a layer."""
    return NamedBands(*layer.metadata.get(NAMED_AS, ()))


def named_image(layer: ImageLayer, said: NamedBands | None = None) -> Image:
    """Return the image of a layer with what the user has `said`, or is known, and nothing named before."""
    said = named_as(layer) if said is None else said
    # In an entry of its own: what the layer shows stays as it is.
    shown, plain = image_of(layer), unnamed_image(layer)
    *of, named = layer.metadata.get(NAMED, (None, None, None))
    if of != [said, plain]:
        named = nr.open_image(plain, **said._asdict())
        layer.metadata[NAMED] = said, plain, named
    named.take_levels(shown)
    return named


def image_of(layer: ImageLayer) -> Image:
    """Return the image a layer was opened from, else of its own array; raises `UnreadableImage` for others."""
    known = layer.metadata.get("napari_restore")
    pixels = layer.data[0] if layer.multiscale else layer.data
    # An array that was put in the place of another is another image.
    if known is not None and layer.metadata.get(ARRAY, id(pixels)) == id(pixels):
        return known
    if layer.ndim != 2:
        raise UnreadableImage(
            f"{layer.name} has {layer.ndim} axes.",
            "Open the file itself with napari-restore."
            if layer.source.path
            else "Right-click it in the list of layers, Split Stack, and choose one of the slices.",
        )
    roles = ("red", "green", "blue", "alpha")[: pixels.shape[-1]] if layer.rgb else ()
    shown_as = {role: number for number, role in enumerate(roles, start=1)}
    image = nr.open_image(pixels, bands=shown_as or None)
    layer.metadata["napari_restore"], layer.metadata[ARRAY] = image, id(pixels)
    return image


_states: weakref.WeakKeyDictionary[Any, RestoreState] = weakref.WeakKeyDictionary()


def state_of(viewer: ViewerModel) -> RestoreState:
    """Return the one state of a viewer; made at its first use."""
    viewer = unwrapped(viewer)
    state = _states.get(viewer)
    if state is None:
        state = _states[viewer] = RestoreState()
    return state


def unwrapped(thing: Any) -> Any:
    """Return the object of a proxy, as napari gives them to plugins: proxies are many and short-lived."""
    return getattr(thing, "__wrapped__", thing)


def title_of(model: str) -> str:
    """Return the title of a known model, else its id or file."""
    return next((card.title for card in api.models() if card.id == model), PurePath(model).name)
