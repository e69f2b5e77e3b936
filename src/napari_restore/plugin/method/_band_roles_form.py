"""The form for the sensor of an image, and for roles of bands that the model needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QLabel, QWidget
from superqt.utils import signals_blocked

from napari_restore import api
from napari_restore.errors import RestoreError, UnknownBands, escape_controls
from napari_restore.plugin.areas import PAINT, TARGETS_OF
from napari_restore.plugin.layers import SOURCE, colour_bands, layer_of, place_above
from napari_restore.plugin.state import (
    NAMED_ROLES,
    NAMED_SENSOR,
    UNNAMED,
    image_of,
    named_as,
    unnamed_image,
)
from napari_restore.plugin.widgets import NarrowComboBox, add_button, form_layout

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.api import SensorBands
    from napari_restore.images import Image
    from napari_restore.models import ModelCard


COLOUR = " (colour)"


def add_in_colour(viewer: ViewerModel, layer: ImageLayer, named: Image) -> ImageLayer | None:
    """Add a layer that shows `named`, the image of `layer` with the user's roles, in colour.

    It lies above `layer` and what was made of it, for napari cannot turn a layer into one in
    colour. None where not all three are named, or `layer` shows them already.
    """
    from napari.layers import Image as ImageLayer

    shown = image_of(layer)
    found = colour_bands(named)
    if not found or (layer.rgb and colour_bands(shown) == found):
        return None
    data, arguments, _ = layer_of(named, viewer)
    arguments["metadata"] = {
        **layer.metadata,
        **arguments["metadata"],
        UNNAMED: unnamed_image(layer),
    }
    name = arguments["name"] = str(layer.name)
    if is_needed(viewer, layer):
        arguments["name"] = name.removesuffix(COLOUR) + COLOUR
    else:
        # Names are unique, and the new layer is what the old one was.
        layer.name = f"{name} (bands)"
    made = ImageLayer(data, **arguments)
    viewer.layers.insert(place_above(viewer, layer), made)
    return made


def is_needed(viewer: ViewerModel, layer: ImageLayer) -> bool:
    """Return whether results, attribution targets or paint in the viewer belong to `layer`."""
    known = layer.unique_id
    return any(
        known in (other.metadata.get(key) for key in (SOURCE, TARGETS_OF, PAINT))
        for other in viewer.layers
    )


IN_ORDER = ("red", "green", "blue")
"""What bands 1, 2 and 3 of most files are."""


class BandRolesForm(QWidget):
    """The sensor, where one may be named, and one combo box per role that is missing.

    A sensor sets zero, wavelengths and roles, as the option of the command does; a button names the
    first three bands. A band that another role has changes places with it. Hidden where there is
    nothing to name.
    """

    named_bands = Signal()
    """The user has named the bands; emitted after `changed`."""
    changed = Signal(object, object)
    """The roles of the layer's bands, as ``"red=3,green=2"``, and the id of its sensor, or None."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layer: ImageLayer | None = None
        self._shown: tuple[object, ...] = ()
        self.combos: dict[str, QComboBox] = {}
        self._prompt = QLabel(self, wordWrap=True)
        self._form = form_layout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.addRow(self._prompt)
        tip = "The first band shows red, the second green, the third blue"
        self.in_order = add_button(self, "1, 2, 3 = red, green, blue", tip)
        self.in_order.clicked.connect(self._on_in_order)
        self.sensor = NarrowComboBox(self, 14, "Sets zero, wavelengths and roles of the bands")
        self.sensor.activated.connect(self._on_sensor)
        self._form.addRow(self.in_order)
        self._form.addRow("Sensor", self.sensor)
        self._sensors: dict[str, SensorBands] = {}
        """By id, those to choose from."""
        self._before: dict[str, int | None] = {}
        """Band number by role, as the combo boxes were."""
        self.hide()

    def show_missing(self, layer: ImageLayer | None, card: ModelCard | None) -> None:
        """Show what can be named: the sensor, and the roles that `card` needs and the image lacks."""
        self._layer = layer
        image: Image | None = None
        roles: tuple[str, ...] = ()
        bands, sensor = (None, None) if layer is None else named_as(layer)
        if layer is not None and card is not None:
            image, roles = unnamed_image(layer), _missing_roles(layer, card)
        if (image, roles) != self._shown[:2]:
            self._sensors = {} if image is None else _sensors(image, roles)
        if (image, roles, bands, sensor) != self._shown:
            self._shown = image, roles, bands, sensor
            self._build(image, roles, card)
        self.setVisible(bool(roles or self._sensors))
        self.changed.emit(bands, sensor)

    def problem(self) -> UnknownBands | None:
        """Return the error of a run while roles are missing; None otherwise."""
        if all(number is not None for number in self._numbers().values()):
            return None
        return UnknownBands(
            f"It is not known which bands are {_listed(tuple(self.combos))}.",
            "Choose them under Image.",
        )

    def _build(self, image: Image | None, roles: tuple[str, ...], card: ModelCard | None) -> None:
        while self._form.rowCount() > 3:
            self._form.removeRow(3)
        self.combos, self._before = {}, {}
        if image is None or card is None or self._layer is None:
            return
        self._prompt.setText(
            f"{card.title} must know which bands are {_listed(roles)}; the image does not tell."
            if roles
            else ""
        )
        bands, sensor = named_as(self._layer)
        known = _pairs(bands)
        of_sensor = self._sensors[sensor].roles if sensor in self._sensors else {}
        for role in roles:
            combo = NarrowComboBox(self, tip=f"The band that shows {role}")
            bands_free = [(_title(image, number), number) for number in _free(image)]
            chosen = int(known[role]) if role in known else of_sensor.get(role)
            combo.offer([("choose …", None), *bands_free], chosen)
            combo.currentIndexChanged.connect(self._on_chosen)
            self.combos[role] = combo
            self._form.addRow(role.capitalize(), combo)
        self._before = self._numbers()
        in_order = {role: number for number, role in enumerate(IN_ORDER, start=1)}
        self._form.setRowVisible(self._prompt, bool(roles))
        self._form.setRowVisible(self.in_order, bool(roles) and _fits(image, roles, in_order))
        none = "choose …" if roles else "not named"
        sensors = [(each.title, each.id) for each in self._sensors.values()]
        self.sensor.offer([(none, None), *sensors], sensor)
        self._form.setRowVisible(self.sensor, bool(self._sensors))

    def _numbers(self) -> dict[str, int | None]:
        return {role: combo.currentData() for role, combo in self.combos.items()}

    def _on_in_order(self) -> None:
        self._name({role: number for number, role in enumerate(IN_ORDER, start=1)})

    def _on_sensor(self) -> None:
        chosen = self._chosen_sensor()
        if chosen is None:
            self._name({})
            return
        assert self._layer is not None
        # It names all of them anew.
        self._layer.metadata[NAMED_ROLES] = None
        self._name(chosen.roles)

    def _chosen_sensor(self) -> SensorBands | None:
        return self._sensors.get(self.sensor.currentData())

    def _name(self, roles: dict[str, int]) -> None:
        for role, combo in self.combos.items():
            if role in roles:
                self._show(combo, roles[role])
        self._store()

    def _show(self, combo: QComboBox, number: int | None) -> None:
        with signals_blocked(combo):
            combo.setCurrentIndex(0 if number is None else combo.findData(number))

    def _on_chosen(self) -> None:
        """Exchange the bands of two roles: no band has both."""
        numbers = self._numbers()
        for role, number in numbers.items():
            if number is None or number == self._before[role]:
                continue
            for other, combo in self.combos.items():
                if other != role and numbers[other] == number:
                    self._show(combo, self._before[role])
        self._store()

    def _store(self) -> None:
        """Store sensor and roles in the layer, the roles once all are given."""
        assert self._layer is not None
        numbers = self._before = self._numbers()
        taken = [number for number in numbers.values() if number is not None]
        if len(taken) < len(numbers) or len(set(taken)) < len(taken):
            return
        sensor = self._chosen_sensor()
        named = {
            role: int(number)
            for role, number in _pairs(named_as(self._layer)[0]).items()
            if int(number) not in taken
        }
        named |= {role: number for role, number in numbers.items() if number is not None}
        if sensor is not None and named.items() <= sensor.roles.items():
            # Its preset says as much.
            named = {}
        bands = ",".join(f"{role}={number}" for role, number in named.items()) or None
        chosen = None if sensor is None else sensor.id
        self._layer.metadata[NAMED_ROLES] = bands
        self._layer.metadata[NAMED_SENSOR] = chosen
        self._shown = (*self._shown[:2], bands, chosen)
        self.changed.emit(bands, chosen)
        self.named_bands.emit()


def _missing_roles(layer: ImageLayer, card: ModelCard) -> tuple[str, ...]:
    """Return the roles that `card` needs and the image by itself does not name."""
    try:
        return api.missing_roles(unnamed_image(layer), card)
    except RestoreError:
        # It cannot run, and a run reports why.
        return ()


def _sensors(image: Image, roles: tuple[str, ...]) -> dict[str, SensorBands]:
    """Return the sensors to choose from by id: they name all `roles` with bands that are free."""
    is_picture = image.is_display or image.georeference is None
    if image.companions is not None or (
        not roles and is_picture and len(image.data_bands) <= len(IN_ORDER)
    ):
        # What photos show is known.
        return {}
    found = api.sensor_bands(image)
    return {each.id: each for each in found if _fits(image, roles, each.roles)}


def _free(image: Image) -> list[int]:
    """Return the bands, from 1, that the image does not name."""
    return [number + 1 for number in image.data_bands if image.roles[number] is None]


def _fits(image: Image, roles: tuple[str, ...], named: dict[str, int]) -> bool:
    """Return whether `named` has all `roles`, with bands that are free."""
    free = _free(image)
    return all(named.get(role) in free for role in roles)


def _pairs(roles_text: str | None) -> dict[str, str]:
    """Return band number by role."""
    return dict(pair.split("=") for pair in roles_text.split(",")) if roles_text else {}


def _title(image: Image, number: int) -> str:
    """Return the title of a band, counted from 1."""
    description = image.descriptions[number - 1]
    return escape_controls(f"{number}: {description}" if description else f"band {number}")


def _listed(roles: tuple[str, ...]) -> str:
    return roles[0] if len(roles) == 1 else f"{', '.join(roles[:-1])} and {roles[-1]}"
