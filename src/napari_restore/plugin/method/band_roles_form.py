"""The form for the sensor of an image, its bands, and what their values mean."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari.layers import Image as ImageLayer
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import (
    QFileDialog,
    QHeaderView,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QToolButton,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_restore import api
from napari_restore.errors import RestoreError, UnknownBands, escape_controls
from napari_restore.plugin.areas.areas import PAINT, TARGETS_OF
from napari_restore.plugin.layers.display import colour_bands
from napari_restore.plugin.layers.layer_order import SOURCE, place_above
from napari_restore.plugin.layers.reader import layer_of
from napari_restore.plugin.state.request import NamedBands
from napari_restore.plugin.state.state import (
    NAMED_AS,
    UNNAMED,
    image_of,
    named_as,
    named_image,
    unnamed_image,
)
from napari_restore.plugin.tasks.notices import error_text
from napari_restore.plugin.tasks.task import LatestQuery
from napari_restore.plugin.widgets.editors import (
    NarrowComboBox,
    OptionRows,
    combo_of,
    number_in,
    number_line,
)
from napari_restore.plugin.widgets.folding import Folded, flowing, form_layout
from napari_restore.plugin.widgets.plots import pixmap_of
from napari_restore.questions import Reading

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.api import SensorBands
    from napari_restore.images import Image
    from napari_restore.models import ModelCard
    from napari_restore.questions import Restore


COLOUR = " (colour)"


def add_in_colour(viewer: ViewerModel, layer: ImageLayer, named: Image) -> ImageLayer | None:
    """Add a layer that shows `named`, the image of `layer` with the user's roles, in colour; None if it is."""
    # It lies above the layer and what was made of it, for napari cannot turn a layer into one in
    # colour.
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
Order = tuple[int, int, int]
Pictures = dict[Order, Any]
"""(h, w, 3) uint8, or None, by the order of bands."""
ORDERS: tuple[Order, ...] = ((1, 2, 3), (3, 2, 1), (4, 3, 2))
"""The bands that are red, green and blue of files without names, the most frequent first."""
THUMBNAIL = 60
"""Pixels of a side of the pictures to choose from."""
FROM_FILE = "from a file"
OTHERS = {None: "automatic", "correct": "corrected", "copy": "copied", "drop": "left out"}
"""Treatment of bands that the model does not see, in words; see `napari_restore.plan`."""
COLUMNS = ("Band", "Role", "nm", "Kind")
MOST_ROWS = 9
"""Rows of the table that are seen at once."""


class OrderChooser(QWidget):
    """The usual orders of bands without names, as pictures of the image."""

    chosen = Signal(str)
    """The roles of its bands, as ``"red=3,green=2,blue=1"``."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.buttons = {order: self._button(order) for order in ORDERS}
        """By the bands of red, green and blue, counted from 1."""
        self.setLayout(flowing(*self.buttons.values()))
        self._image: Image | None = None
        """What the pictures are of."""
        self._query = LatestQuery("There are no pictures", self, self._show_pictures)

    def show_orders(self, image: Image, named: Image) -> None:
        """Offer the orders that `image` may have, and show which is that of `named`."""
        present = tuple(band + 1 for band in colour_bands(named)[:3])
        for order, button in self.buttons.items():
            button.setVisible(max(order) <= image.bands)
            button.setChecked(order == present)
        if image is not self._image:
            self._image = image
            self._show_pictures(None, {})
            orders = [order for order in ORDERS if max(order) <= image.bands]
            self._query.submit(id(image), partial(_pictures_of, image, orders))

    def _button(self, order: Order) -> QToolButton:
        button = QToolButton(self)
        button.setText(", ".join(map(str, order)))
        button.setCheckable(True)
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
        button.setIconSize(QSize(THUMBNAIL, THUMBNAIL))
        button.setToolTip("The image if band {} shows red, {} green and {} blue".format(*order))
        button.clicked.connect(lambda: self.chosen.emit(_roles_in(order)))
        return button

    def _show_pictures(self, _: object, pictures: Pictures | RestoreError) -> None:
        for order, button in self.buttons.items():
            pixels = None if isinstance(pictures, RestoreError) else pictures.get(order)
            button.setIcon(QIcon() if pixels is None else QIcon(pixmap_of(pixels)))


def _roles_in(order: Order) -> str:
    return ",".join(f"{role}={number}" for role, number in zip(IN_ORDER, order, strict=True))


def _pictures_of(image: Image, orders: list[Order]) -> Pictures:
    """Return small pictures of an image by the order of its bands; None where that takes long."""
    return {order: api.picture_in(image, _roles_in(order)) for order in orders}


class BandRolesForm(QWidget):
    """What the bands of an image are: their sensor, and a table of roles and wavelengths to edit.

    A sensor sets zero, wavelengths and roles, as the option of the command does; pictures show the
    usual orders of bands without names. A band that has the role chosen for another changes places with it. Hidden for
    photos of which everything is known.
    """

    named_bands = Signal()
    """The user has named the bands; emitted after `changed`."""
    changed = Signal(object)
    """The `NamedBands` of the layer."""
    values_changed = Signal(dict)
    """The `RestoreKeywords` of zero, white and other bands."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layer: ImageLayer | None = None
        self._card: ModelCard | None = None
        self._shown: tuple[Image | None, tuple[str, ...], NamedBands] = (None, (), NamedBands())
        """The image, the roles that are asked for, and what is said of its bands."""
        self._sensors: dict[str, SensorBands] = {}
        """By id, those to choose from."""
        self._prompt = QLabel(self, wordWrap=True)
        self.orders = OrderChooser(self)
        self.orders.chosen.connect(self._name)
        self.sensor = NarrowComboBox(self, 14, "Sets zero, wavelengths and roles of the bands")
        self.sensor.activated.connect(self._on_sensor)
        self.sets = QLabel(self, wordWrap=True)
        self.sets.setToolTip("What names, the sensor and the settings below say of the values")
        self.table = QTableWidget(0, len(COLUMNS), self)
        self._prepare_table()
        values = QWidget(self)
        rows = form_layout(values)
        rows.addRow(self.table)
        self._editors = OptionRows(Reading, changed=self._on_values)
        self.zero = self._editors.add(rows, "Zero", "black", number_line(self, "automatic"))
        self.white = self._editors.add(rows, "White", "white", number_line(self, "automatic"))
        self.others = combo_of(self, OTHERS, letters=8)
        self._editors.add(rows, "Other bands", "other_bands", self.others)
        tip = "What each band shows, zero and white, and what happens to other bands"
        self.details = Folded("Bands", values, tip)
        self._form = form_layout(self)
        self._form.addRow(self._prompt)
        self._form.addRow(self.orders)
        self._form.addRow("Sensor", self.sensor)
        self._form.addRow(self.sets)
        self._form.addRow(self.details)
        self.hide()

    def _prepare_table(self) -> None:
        self.table.setHorizontalHeaderLabels(COLUMNS)
        self.table.setSelectionMode(QTableWidget.SelectionMode.NoSelection)
        self.table.setTabKeyNavigation(False)
        self.table.setWordWrap(False)
        self.table.verticalHeader().hide()
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Fixed)
        # The usual roles, and the arrow of a list.
        self.table.setColumnWidth(1, self.fontMetrics().horizontalAdvance("rededge") + 44)
        self.table.itemChanged.connect(self._on_wavelength)

    def show_missing(self, layer: ImageLayer | None, card: ModelCard | None) -> None:
        """Show what names tell, and ask for the roles that `card` needs and the image lacks."""
        self._layer, self._card = layer, card
        image: Image | None = None
        roles: tuple[str, ...] = ()
        named = NamedBands() if layer is None else named_as(layer)
        if layer is not None and card is not None:
            image, roles = unnamed_image(layer), _missing_roles(unnamed_image(layer), card)
        if (image, roles) != self._shown[:2]:
            self._sensors = {} if image is None else _sensors(image, roles)
        if (image, roles, named) != self._shown:
            self._shown = image, roles, named
            self._build()
        self.setVisible(image is not None and bool(roles or not _is_picture(image)))
        self.changed.emit(named)

    def show_values(self, options: Restore) -> None:
        """Show zero, white and other bands of `options`, without a signal."""
        self._editors.show(vars(options.reading))
        self._show_sets()

    def problem(self) -> UnknownBands | None:
        """Return the error of a run while roles are missing; None otherwise."""
        if self._layer is None or self._card is None or not self._shown[1]:
            return None
        missing = _missing_roles(named_image(self._layer), self._card)
        if not missing:
            return None
        return UnknownBands(
            f"It is not known which bands are {_listed(missing)}.", "Choose them under Image."
        )

    def role_of(self, number: int) -> NarrowComboBox:
        """Return the combo box with the role of a band, counted from 1."""
        box = self.table.cellWidget(number - 1, 1)
        assert isinstance(box, NarrowComboBox)
        return box

    def _build(self) -> None:
        image, roles, said = self._shown
        if image is None or self._card is None or self._layer is None:
            return
        named = named_image(self._layer)
        missing = _missing_roles(named, self._card)
        if missing:
            self._prompt.setText(
                f"{self._card.title} must know which bands are {_listed(missing)}; the image does not tell."
            )
        self._form.setRowVisible(self._prompt, bool(missing))
        is_free = bool(roles) and set(roles) <= {*IN_ORDER} and api.is_in_usual_order(image)
        self._form.setRowVisible(self.orders, is_free)
        if is_free:
            self.orders.show_orders(image, named)
        preset, sensor = image.preset, said.sensor
        none = "choose …" if roles or preset is not None else "not named"
        if preset is not None and not _is_unordered(image):
            none = f"{preset.title} – from the {preset.named_by}"
        choices = [(none, None), *((each.title, each.id) for each in self._sensors.values())]
        if sensor is not None and sensor not in self._sensors and named.preset is not None:
            choices.append((named.preset.title, sensor))
        self.sensor.offer([*choices, ("From a file …", FROM_FILE)], sensor)
        self._fill(named)
        if roles:
            self.details.open()
        self._show_sets()

    def _fill(self, image: Image) -> None:
        """Fill the table with the bands of `image`."""
        with signals_blocked(self.table):
            self.table.setRowCount(image.bands)
            for band, (role, wave) in enumerate(zip(image.roles, image.wavelengths, strict=True)):
                name = escape_controls(image.descriptions[band] or "")
                title = QTableWidgetItem(f"{band + 1} {name}".strip())
                kind = QTableWidgetItem(image.described.kinds[band])
                for item in (title, kind):
                    item.setFlags(Qt.ItemFlag.ItemIsEnabled)
                origin = (image.described.origins or (None,) * image.bands)[band]
                title.setToolTip(f"From: {origin}" if origin else "Nothing tells what it is")
                self.table.setItem(band, 0, title)
                if self.table.cellWidget(band, 1) is None:
                    # Not anew each time: one of them may be what the user clicks.
                    tip = f"What band {band + 1} shows"
                    box = NarrowComboBox(self.table, 5, tip, f"Role of band {band + 1}")
                    box.activated.connect(partial(self._on_role, band))
                    self.table.setCellWidget(band, 1, box)
                choices = [("–", api.UNKNOWN), *((each, each) for each in api.ROLES)]
                self.role_of(band + 1).offer(choices, role)
                self.table.setItem(band, 2, QTableWidgetItem("" if wave is None else f"{wave:g}"))
                self.table.setItem(band, 3, kind)
        rows = min(image.bands, MOST_ROWS)
        height = self.table.verticalHeader().defaultSectionSize()
        header = self.table.horizontalHeader().sizeHint().height()
        self.table.setFixedHeight(rows * height + header + 2 * self.table.frameWidth())

    def _show_sets(self) -> None:
        """Show what the values mean by the names, the sensor and the settings."""
        if self._layer is None or self._shown[0] is None:
            return
        named = named_image(self._layer)
        values = self._editors.values()
        try:
            told = api.info(named, black=values["black"], white=values["white"])
        except RestoreError as error:
            self.sets.setText(error_text(error))
            return
        zeros = {f"{told['black'][band]:g}" for band in named.data_bands}
        full = "99.9 % of the image" if told["white"] is None else f"{told['white']:g}"
        kinds = named.described.kinds
        light, unknown = kinds.count("light"), kinds.count("unknown")
        known = sum(wave is not None for wave in named.wavelengths)
        preset, of_names = named.preset, ""
        if preset is not None and not preset.is_given:
            of_names = f"{preset.title} – from the {preset.named_by}. "
        shown = f"{light} of {named.bands} bands are pictures, not masks or classes; the wavelength of {known} is known"
        if unknown:
            shown = f"what is in {unknown} of {named.bands} bands is not known"
        if preset is not None and _is_unordered(named):
            shown = "its bands have no names"
            if preset.of_count(len(named.data_bands)):
                shown += ": choose the sensor here if they are in its usual order"
        self.sets.setText(
            f"{of_names}Zero {', '.join(sorted(zeros))} ({told['black_reason']}) · white {full} · {shown}"
        )

    def _on_values(self) -> None:
        self.values_changed.emit(self._editors.values())
        self._show_sets()

    def _on_sensor(self) -> None:
        assert self._layer is not None
        chosen = self.sensor.currentData()
        if chosen == FROM_FILE:
            path, _ = QFileDialog.getOpenFileName(
                self, "A sensor file", "", "Sensor files (*.toml)"
            )
            try:
                chosen = api.sensor_text(path) if path else named_as(self._layer).sensor
                named_image(self._layer, NamedBands(sensor=chosen))
            except RestoreError as error:
                self.sets.setText(error_text(error))
                self.sensor.choose(named_as(self._layer).sensor)
                return
        # It names all of them anew.
        self._store(NamedBands(sensor=chosen))

    def _on_role(self, band: int, _: int) -> None:
        """Give a band the role chosen; one that has it changes places: no two show one light."""
        assert self._layer is not None
        role = self.role_of(band + 1).currentData()
        roles = named_image(self._layer).roles
        given = f"{role}={band + 1}"
        if role in api.LIGHT and role in roles:
            before = roles[band] if roles[band] in api.LIGHT else api.UNKNOWN
            given = f"{before}={roles.index(role) + 1},{given}"
        self._name(given)

    def _on_wavelength(self, item: QTableWidgetItem) -> None:
        if item.column() != COLUMNS.index("nm"):
            return
        band = item.row()
        role = self.role_of(band + 1).currentData()
        wave = number_in(item.text())
        self._name(f"{role}={band + 1}" + ("" if wave is None or wave <= 0 else f"@{wave:.10g}"))

    def _name(self, given: str) -> None:
        """Add what the user says of some bands to what he has said."""
        assert self._layer is not None
        bands, sensor = named_as(self._layer)
        self._store(NamedBands(api.merged_bands(bands, given), sensor))

    def _store(self, named: NamedBands) -> None:
        assert self._layer is not None
        self._layer.metadata[NAMED_AS] = named
        self._shown = *self._shown[:2], named
        self._build()
        self.changed.emit(named)
        self.named_bands.emit()


def _is_picture(image: Image) -> bool:
    """Return whether it is known what all bands of an image show: those of a photo, of a bracket."""
    is_on_map = image.georeference is not None and not image.is_display
    few = len(image.data_bands) <= len(IN_ORDER)
    return image.companions is not None or (few and not is_on_map)


def _is_unordered(image: Image) -> bool:
    """Return whether nothing says which band is which, whatever sensor it is of."""
    return "light" not in image.described.kinds and not any(image.wavelengths)


def _missing_roles(image: Image, card: ModelCard) -> tuple[str, ...]:
    """Return the roles that `card` needs and the image does not name."""
    try:
        return api.missing_roles(image, card)
    except RestoreError:
        # It cannot run, and a run reports why.
        return ()


def _sensors(image: Image, roles: tuple[str, ...]) -> dict[str, SensorBands]:
    """Return the sensors to choose from by id: they name all `roles` with bands that are free."""
    if not roles and _is_picture(image):
        return {}
    free = [number + 1 for number in image.data_bands if image.roles[number] is None]
    found = api.sensor_bands(image)
    return {e.id: e for e in found if all(e.roles.get(role) in free for role in roles)}


def _listed(roles: tuple[str, ...]) -> str:
    return roles[0] if len(roles) == 1 else f"{', '.join(roles[:-1])} and {roles[-1]}"
