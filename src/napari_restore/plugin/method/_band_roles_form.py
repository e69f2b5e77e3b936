"""The form for roles of bands that the model needs and the image does not name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QLabel, QPushButton, QWidget

from napari_restore import api
from napari_restore.errors import RestoreError, UnknownBands, escape_controls
from napari_restore.plugin.layers._named_bands import unnamed_image
from napari_restore.plugin.widgets._combo_box import NarrowComboBox
from napari_restore.plugin.widgets._folding import form_layout

if TYPE_CHECKING:
    from napari.layers import Image as ImageLayer

    from napari_restore.images import Image
    from napari_restore.models import ModelCard

IN_ORDER = ("red", "green", "blue")
"""What bands 1, 2 and 3 of most files are."""
NAMED_ROLES = "napari_restore_bands"
"""In the metadata of a layer: the roles that the user gave its bands."""


class BandRolesForm(QWidget):
    """One combo box per role that is missing; hidden while none is.

    A button names the first three bands, `sensor` the bands of a known sensor. A band
    that another role has changes places with it.
    """

    named_bands = Signal(str)
    """The user has named the bands; emitted after `changed`, with the same."""
    changed = Signal(object)
    """The roles of the layer's bands, as ``"red=3,green=2"``; None while none were given."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layer: ImageLayer | None = None
        self._shown: tuple[object, ...] = ()
        self.combos: dict[str, QComboBox] = {}
        self._prompt = QLabel(self)
        self._prompt.setWordWrap(True)
        self._form = form_layout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.addRow(self._prompt)
        self.in_order = QPushButton("1, 2, 3 = red, green, blue", self)
        self.in_order.setToolTip("The first band shows red, the second green, the third blue")
        self.in_order.clicked.connect(self._on_in_order)
        self.sensor = NarrowComboBox(self, letters=14)
        self.sensor.setToolTip("Name the bands in the order of a sensor's usual files")
        self.sensor.activated.connect(self._on_sensor)
        self._form.addRow(self.in_order)
        self._form.addRow("Sensor", self.sensor)
        self._before: dict[str, int | None] = {}
        """Band number by role, as the combo boxes were."""
        self.hide()

    def show_missing(self, layer: ImageLayer | None, card: ModelCard | None) -> None:
        """Show the roles that `card` needs and the image of `layer` does not name; given ones stay."""
        self._layer = layer
        roles_text = None if layer is None else layer.metadata.get(NAMED_ROLES)
        roles = () if layer is None or card is None else _missing_roles(layer, card)
        image = None if layer is None or not roles else unnamed_image(layer)
        if (image, roles, roles_text) != self._shown:
            self._shown = image, roles, roles_text
            self._build(image, roles, card)
        self.setVisible(bool(roles))
        self.changed.emit(roles_text)

    def problem(self) -> UnknownBands | None:
        """Return the error of a run while roles are missing; None otherwise."""
        roles_text = None if self._layer is None else self._layer.metadata.get(NAMED_ROLES)
        if not self.combos or (
            roles_text is not None and set(self.combos) <= set(_pairs(roles_text))
        ):
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
        )
        known = _pairs(self._layer.metadata.get(NAMED_ROLES))
        for role in roles:
            combo = NarrowComboBox(self)
            combo.setToolTip(f"The band that shows {role}")
            combo.addItem("choose …", None)
            for number in image.data_bands:
                if image.roles[number] is None:
                    combo.addItem(
                        escape_controls(_title(number, image.descriptions[number])), number + 1
                    )
            if role in known:
                combo.setCurrentIndex(max(0, combo.findData(int(known[role]))))
            combo.currentIndexChanged.connect(self._on_chosen)
            self.combos[role] = combo
            self._form.addRow(role.capitalize(), combo)
        self._before = self._numbers()
        in_order = {role: number for number, role in enumerate(IN_ORDER, start=1)}
        self.in_order.setVisible(self._fits(in_order))
        self.sensor.clear()
        self.sensor.addItem("choose …", None)
        for title, named in api.sensor_bands(image).items():
            if self._fits(named):
                self.sensor.addItem(title, named)
        self._form.setRowVisible(self.sensor, self.sensor.count() > 1)

    def _numbers(self) -> dict[str, int | None]:
        return {role: combo.currentData() for role, combo in self.combos.items()}

    def _fits(self, named: dict[str, int]) -> bool:
        """Return whether it names all missing roles, with bands that are free."""
        return all(
            role in named and combo.findData(named[role]) >= 0
            for role, combo in self.combos.items()
        )

    def _on_in_order(self) -> None:
        self._name({role: number for number, role in enumerate(IN_ORDER, start=1)})

    def _on_sensor(self) -> None:
        named = self.sensor.currentData()
        if named is not None:
            self._name(named)

    def _name(self, named: dict[str, int]) -> None:
        """Name all roles at once."""
        for role, combo in self.combos.items():
            self._show(combo, named[role])
        self._store()

    def _show(self, combo: QComboBox, number: int | None) -> None:
        combo.blockSignals(True)
        combo.setCurrentIndex(0 if number is None else combo.findData(number))
        combo.blockSignals(False)

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
        """Store the roles in the layer once all are given."""
        assert self._layer is not None
        numbers = self._before = self._numbers()
        named = self.sensor.currentData()
        if named is not None and any(named[role] != n for role, n in numbers.items()):
            self.sensor.setCurrentIndex(0)
        taken = [number for number in numbers.values() if number is not None]
        if len(taken) < len(numbers) or len(set(taken)) < len(taken):
            return
        earlier = {
            role: number
            for role, number in _pairs(self._layer.metadata.get(NAMED_ROLES)).items()
            if int(number) not in taken
        }
        named = {**earlier, **{role: str(number) for role, number in numbers.items()}}
        roles_text = ",".join(f"{role}={number}" for role, number in named.items())
        self._layer.metadata[NAMED_ROLES] = roles_text
        self._shown = (*self._shown[:2], roles_text)
        self.changed.emit(roles_text)
        self.named_bands.emit(roles_text)


def _missing_roles(layer: ImageLayer, card: ModelCard) -> tuple[str, ...]:
    """Return the roles that `card` needs and the image by itself does not name."""
    try:
        return api.missing_roles(unnamed_image(layer), card)
    except RestoreError:
        # It cannot run, and a run reports why.
        return ()


def _pairs(roles_text: str | None) -> dict[str, str]:
    """Return band number by role."""
    return dict(pair.split("=") for pair in roles_text.split(",")) if roles_text else {}


def _title(number: int, description: str | None) -> str:
    return f"{number + 1}: {description}" if description else f"band {number + 1}"


def _listed(roles: tuple[str, ...]) -> str:
    return roles[0] if len(roles) == 1 else f"{', '.join(roles[:-1])} and {roles[-1]}"
