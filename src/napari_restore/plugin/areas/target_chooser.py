"""Chooses what of the image is restored."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Layer, Shapes
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QFileDialog, QLabel, QPushButton, QWidget
from superqt.utils import qdebounced, signals_blocked

from napari_restore import api
from napari_restore.errors import BadRegion, RestoreError
from napari_restore.plugin.areas.areas import (
    GRADIENT,
    LayerWatch,
    area_of_layer,
    chosen_strength,
    corners_in_pixels,
    is_strength,
    mark_excluded,
    outlines,
    strength_layers,
)
from napari_restore.plugin.areas.drawing_controller import Tool
from napari_restore.plugin.state.request import Area, Exclusion, TargetChoice
from napari_restore.plugin.state.state import RestoreState, image_of
from napari_restore.plugin.tasks.notices import error_text, with_labels
from napari_restore.plugin.tasks.task import LatestQuery
from napari_restore.plugin.widgets.editors import (
    NarrowComboBox,
    OptionRows,
    combo_of,
    line_edit,
    number_box,
)
from napari_restore.plugin.widgets.folding import (
    add_button,
    column_of,
    flowing,
    form_layout,
    row_of,
)
from napari_restore.plugin.widgets.section import Section
from napari_restore.plugin.widgets.wrapped_label import WrappedLabel
from napari_restore.questions import Reading

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.engine import MaskChoices
    from napari_restore.questions import Restore


CHOOSE = "Choose a band or layer …"


class ExcludeForm(QWidget):
    """The controls that a mask needs; hidden where it has nothing to choose."""

    part_chosen = Signal(str)
    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        tip = "The band, or layer, of the file to exclude by"
        self.part = NarrowComboBox(self, tip=tip, name="Band or layer to exclude by")
        self.product = QLabel(self, wordWrap=True)
        lines = QWidget(self)
        self._lines = form_layout(lines)
        self._editors = OptionRows(Reading, changed=self.changed.emit)
        add, line = partial(self._editors.add, self._lines), partial(line_edit, self)
        self.values = add("Values", "exclude_values", line("3,8,9 or 50..100"))
        self.bits = add("Bits", "exclude_bits", line("3,4 (from 0)"))
        self.where = add("Attributes", "exclude_where", line("class = 'water'"))
        self.names: dict[str, QCheckBox] = {}
        self._boxes = QWidget(self)
        self._column = column_of(self, self.part, self.product, self._boxes, lines)
        self.part.activated.connect(self._on_part)
        self.show_mask(None, None)

    def options(self) -> dict[str, Any]:
        """Return the options of `Reading` that say what of the mask is meant."""
        values = self._editors.values()
        bits = [name for name, box in self.names.items() if box.isChecked()]
        bits += filter(None, [values["exclude_bits"]])
        return {**values, "exclude_bits": ",".join(bits) or None}

    def show_mask(
        self, choices: MaskChoices | None, reading: Reading | None, part: str | None = None
    ) -> None:
        """Show what there is to choose, and what `reading` has chosen; nothing for None."""
        parts = choices.parts if choices is not None else ()
        has_values = choices is not None and choices.is_raster
        has_attributes = choices is not None and choices.has_attributes
        with signals_blocked(self.part):
            self.part.offer([(CHOOSE, ""), *((name, name) for name in parts)], part or "")
        self.part.setVisible(bool(parts))
        names = choices.names if choices is not None else ()
        self._offer_names(names)
        self.product.setText(choices.product if choices is not None else "")
        self.product.setVisible(bool(names))
        for line in (self.values, self.bits):
            self._lines.setRowVisible(line, has_values)
        self._lines.setRowVisible(self.where, has_attributes)
        self.show_chosen(reading)
        self.setVisible(bool(parts) or has_values or has_attributes)

    def show_chosen(self, reading: Reading | None) -> None:
        """Show what `reading` has chosen of the mask."""
        bits = _items(None if reading is None else reading.exclude_bits)
        for name, box in self.names.items():
            with signals_blocked(box):
                box.setChecked(name in bits)
        others = ",".join(item for item in bits if item not in self.names)
        self._editors.show({**vars(reading or Reading()), "exclude_bits": others})

    def _offer_names(self, names: Iterable[str]) -> None:
        if list(names) == list(self.names):
            return
        self.names = {name: QCheckBox(name.replace("_", " "), self._boxes) for name in names}
        for box in self.names.values():
            box.toggled.connect(self.changed)
        old = self._boxes
        self._boxes = QWidget(self)
        column_of(self._boxes, flowing(*self.names.values()))
        self._column.replaceWidget(old, self._boxes)
        old.setParent(None)
        old.deleteLater()
        self._boxes.setVisible(bool(self.names))

    def _on_part(self) -> None:
        self.part_chosen.emit(self.part.currentData())


def _items(text: str | None) -> list[str]:
    return [item.strip() for item in text.split(",")] if text else []


NOTHING, FILE = "Nothing", "A file …"
FILTER = "Masks (*.tif *.tiff *.jp2 *.img *.png *.geojson *.json *.gpkg *.shp *.kml *.fgb);;All files (*)"
DEBOUNCE_MS = 200
MASKING = ("class", "label", "mask", "quality", "probability")
"""Roles of bands that may say which pixels to exclude."""


class ExcludeChooser(Section):
    """Nothing, the shapes or labels of a layer, or a mask file; writes option `exclude`."""

    # From a change of the layer until its mask is made, `state.exclusion` is pending. A mask that
    # others set there is chosen as a file.

    TITLE = "Exclude"
    draw_requested = Signal(object)
    """The button of a `Tool` was pressed."""
    marked = Signal(object)
    """A layer is excluded now, or no longer."""

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self.combo = NarrowComboBox(
            self,
            tip="These pixels stay as they are and do not count when the haze is judged: "
            "clouds, borders, a logo",
        )
        tip = "Draws areas to exclude, in red; those to restore are yellow"
        self.draw = add_button(self, Tool.EXCLUDE.label, tip, checkable=True)
        self.draw.clicked.connect(lambda: self.draw_requested.emit(Tool.EXCLUDE))
        self.choice = ExcludeForm(self)
        self.message = WrappedLabel("", self)
        self.message.hide()
        column_of(self, row_of(self.combo, self.draw), self.choice, self.message)
        self._chosen: Any = None
        """A layer, a path or None."""
        self._set_mask: str | None = None
        """The mask it has set itself."""
        self._is_making = False
        """Whether a mask is pending that it makes itself."""
        self._update_soon = qdebounced(self._update, timeout=DEBOUNCE_MS, parent=self)
        self._watch = LayerWatch(self, self._on_change)
        self._query = LatestQuery("The mask cannot be made", self, self._on_mask)
        self._choices = LatestQuery("The mask cannot be opened", self, self._on_choices)
        self._own: list[Path] = []
        """The bands of the image itself that may say what to exclude."""
        self.choice.part_chosen.connect(self._on_part)
        self.choice.changed.connect(self._on_choice)
        self.combo.activated.connect(self._on_activated)
        self.listen(self._offer, viewer.layers.events.inserted, viewer.layers.events.removed)
        self.listen(self._on_layer, state.events.layer)
        self.listen(self._on_options, state.events.options)
        self.listen(self._on_exclusion, state.events.exclusion)
        # An earlier panel may have been closed over a mask, or over one being made.
        self._choose_of_state()

    def choose(self, mask: Any) -> None:
        """Exclude what a layer or a file marks; None excludes nothing."""
        self._update_soon.cancel()
        self._mark(False)
        own = next((own for own in self._own if own == mask), None)
        self._chosen = mask if own is None else own
        self._mark(True)
        self._offer()
        self._update()

    def show_drawing(self, tool: Tool | None, layer: Any) -> None:
        """Show whether areas to exclude are drawn, and choose the `layer` they are drawn in."""
        self.draw.setChecked(tool is Tool.EXCLUDE)
        if tool is Tool.EXCLUDE and layer is not self._chosen:
            self.choose(layer)

    def _mark(self, excluded: bool) -> None:
        """Mark a layer of excluded areas, so that these are not restored as well."""
        if isinstance(self._chosen, Layer):
            mark_excluded(self._chosen, excluded)
            self.marked.emit(self._chosen)

    def _on_layer(self) -> None:
        """Offer the bands of the image; one of another image is nothing of this one."""
        layer, names = self.state.layer, list[str]()
        if layer is not None:
            image = image_of(layer)
            kinds = zip(image.descriptions, image.roles, strict=True)
            names = [f":{name}" for name, role in kinds if name and role in MASKING]
        self._own = [Path(name) for name in names]
        if _is_own(self._chosen):
            self._chosen = next((own for own in self._own if own == self._chosen), None)
        self._offer()
        self._update()

    def _on_part(self, part: str) -> None:
        if isinstance(self._chosen, Path):
            file = api.mask_file(str(self._chosen)) or ""
            self.choose(Path(f"{file}:{part}" if part else file))

    def _on_choice(self) -> None:
        self.state.set_options(**self.choice.options())

    def _ask_choices(self) -> None:
        """Show what there is to choose of the mask, once its file is opened."""
        mask, layer = self._set_mask, self.state.layer
        if not isinstance(self._chosen, Path) or mask is None or layer is None:
            self._choices.discard()
            self.choice.show_mask(None, None)
            return
        image = image_of(layer)
        self._choices.submit((mask, id(layer)), lambda: api.mask_choices(image, mask))

    def _on_choices(self, key: Any, answer: Any) -> None:
        if key[0] != self._set_mask:
            return
        if isinstance(answer, RestoreError):
            # The plan says what is wrong with it.
            self.choice.show_mask(None, None)
            return
        file, _, part = key[0].rpartition(":")
        named = part if file and api.mask_file(key[0]) == file else None
        self.choice.show_mask(answer, self.state.options.reading, named)

    def _offer(self) -> None:
        """Offer the layers there are; a chosen one that has gone is nothing."""
        layers = [layer for layer in self.viewer.layers if _is_mask(layer)]
        gone = self._chosen not in (None, *layers) and not isinstance(self._chosen, Path)
        choices: list[tuple[str, Any]] = [(NOTHING, None), *((x.name, x) for x in layers)]
        choices += [(f"Band {own.name[1:]} of the image", own) for own in self._own]
        if isinstance(self._chosen, Path) and self._chosen not in self._own:
            choices.append((self._chosen.name, self._chosen))
        if gone:
            self._chosen = None
            self._update()
        self.combo.offer([*choices, (FILE, FILE)], self._chosen)

    def _on_activated(self) -> None:
        what = self.combo.currentData()
        if what == FILE:
            name, _ = QFileDialog.getOpenFileName(self, "A mask of pixels to exclude", "", FILTER)
            what = Path(name) if name else self._chosen
        self.choose(what)

    def _on_options(self, options: Restore) -> None:
        if options.reading.exclude != self._set_mask:
            self._choose_of_state()
        elif self.choice.isVisibleTo(self):
            self.choice.show_chosen(options.reading)

    def _on_exclusion(self, exclusion: Exclusion) -> None:
        # The mask that others have set may be the one before.
        if self._is_making and not exclusion.pending:
            self._choose_of_state()

    def _choose_of_state(self) -> None:
        mask = self.state.options.reading.exclude
        self.choose(None if mask is None else Path(mask))

    def _on_change(self) -> None:
        self._set_pending()
        self._update_soon()

    def _set_pending(self) -> None:
        self._is_making = True
        self.state.exclusion = Exclusion(pending=True)

    def _update(self) -> None:
        chosen, layer = self._chosen, self.state.layer
        self._watch.follow(None if isinstance(chosen, Path) else chosen)
        self._query.discard()
        if chosen is None or isinstance(chosen, Path) or layer is None:
            self._set(str(chosen) if isinstance(chosen, Path) else None)
            return
        try:
            image = image_of(layer)
            if isinstance(chosen, Shapes):
                self._set_drawn(image, outlines(self.viewer, chosen, layer))
            else:
                make = area_of_layer(chosen, layer, image)
                self._set_pending()
                self._query.submit((id(layer), id(chosen), self._watch.version), make)
        except RestoreError as error:
            self._fail(error)

    def _set_drawn(self, image: Any, drawn: list[Any]) -> None:
        if drawn:
            mask = api.mask_of_polygons(image, [[corners_in_pixels(points)] for points in drawn])
            self._set(str(mask))
        else:
            hint = Tool.EXCLUDE.hint if self.draw.isChecked() else "Draw one over the image."
            self._fail(BadRegion("no area is drawn there yet.", hint))

    def _on_mask(self, _: Any, result: Any) -> None:
        if isinstance(result, RestoreError):
            self._fail(result)
        else:
            self._set(result.mask)

    def _fail(self, error: RestoreError) -> None:
        self._set(None, BadRegion(f"Nothing is excluded: {error.message.marked}", error.hint))

    def _set(self, mask: str | None, problem: RestoreError | None = None) -> None:
        self.message.setText("" if problem is None else error_text(problem))
        self.message.setVisible(problem is not None)
        self._set_mask, self._is_making = mask, False
        before = self.state.options.reading.exclude
        if mask == before:
            self.state.set_options(exclude=mask)
        else:
            # What was chosen of one mask means nothing of another.
            self.state.set_options(
                exclude=mask, exclude_values=None, exclude_bits=None, exclude_where=None
            )
        self.state.exclusion = Exclusion(problem=problem)
        self._ask_choices()


def _is_own(chosen: Any) -> bool:
    """Return whether a band of the image itself is chosen."""
    return isinstance(chosen, Path) and str(chosen).startswith(":")


def _is_mask(layer: Any) -> bool:
    if isinstance(layer, Shapes):
        return GRADIENT not in layer.metadata
    return is_strength(layer)


FEATHER_LIMIT = 4096
TIPS = {
    TargetChoice.VISIBLE: "The part of the image on the screen",
    TargetChoice.DRAWN: "Rectangles and polygons of a Shapes layer: the selected ones, else all",
    TargetChoice.PAINTED: "Where a Labels layer is painted, or as strong as a grey layer says",
    TargetChoice.GRADIENT: "Nothing at one end of a line, everything at the other",
    TargetChoice.WHOLE: "Every pixel",
}


class TargetChooser(Section):
    """The targets, the tools to draw with, and which pixels are restored now."""

    draw_requested = Signal(object)
    """The button of a `Tool` was pressed."""

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        titles = {target: target.value.capitalize() for target in TargetChoice}
        self.combo = combo_of(self, titles, "What of the image is restored")
        for number, target in enumerate(TargetChoice):
            self.combo.setItemData(number, TIPS[target], Qt.ItemDataRole.ToolTipRole)
        tip = "Painted labels count in full; grey values from 0 to 1"
        self.strength = NarrowComboBox(self, tip=tip, name="Layer of strengths")
        self.tools = {tool: self._button(tool) for tool in Tool if tool.target is not None}
        tip = "Pixels over which the effect fades inside the edge"
        self.feather = number_box(self, (0, FEATHER_LIMIT), tip, step=8, suffix=" px")
        self.feather.setPrefix("Feather ")
        self.hint = QLabel(self, wordWrap=True)
        self.pixels = QLabel(self, wordWrap=True)
        tools = flowing(*self.tools.values(), self.feather)
        column_of(self, self.combo, self.strength, tools, self.hint, self.pixels)
        self.show_tool(None)
        self.choose(state.target)
        self._on_options(state.options)
        self.combo.currentIndexChanged.connect(self._on_chosen)
        self.strength.currentIndexChanged.connect(self._on_strength)
        self.feather.valueChanged.connect(lambda pixels: state.set_options(feather=pixels))
        self.listen(self.choose, state.events.target)
        self.listen(self._on_options, state.events.options)
        self._show_what_fits()

    def target(self) -> TargetChoice:
        return TargetChoice(self.combo.currentData())

    def choose(self, target: TargetChoice) -> None:
        self.combo.setCurrentIndex(list(TargetChoice).index(target))

    def show_area(self, area: Area | None, problem: RestoreError | None = None) -> None:
        """Show which pixels the target is, or why there are none."""
        if area is not None:
            self.pixels.setText(area_text(area, self.target()))
        elif problem is not None:
            # The drawing tool shows what to do next.
            text = problem.sentence if self.hint.isHidden() else problem.message
            self.pixels.setText(with_labels(text))
        else:
            self.pixels.setText("")
        # A strength with grades of its own has no edge that could fade.
        self.feather.setVisible(self.target().fades and not (area is not None and area.soft))

    def show_tool(self, tool: Tool | None) -> None:
        for each, button in self.tools.items():
            button.setChecked(each is tool)
        own = tool in self.tools
        self.hint.setText(f"{tool.hint} Esc ends drawing." if own and tool is not None else "")
        self.hint.setVisible(own)

    def offer_strengths(self) -> None:
        """Offer the layers that the strength of a painted target may be taken from."""
        layer = self.state.layer
        offered, chosen = strength_layers(self.viewer, layer), None
        if layer is not None:
            chosen = chosen_strength(self.viewer, self.state.strength_layer, layer)
        self.strength.offer(((each.name, each) for each in offered), chosen)
        self._show_what_fits()

    def _button(self, tool: Tool) -> QPushButton:
        button = add_button(self, tool.label, tool.hint, checkable=True)
        button.clicked.connect(lambda: self.draw_requested.emit(tool))
        return button

    def _on_chosen(self) -> None:
        self._show_what_fits()
        self.state.target = self.target()

    def _on_strength(self) -> None:
        self.state.strength_layer = self.strength.currentData()

    def _on_options(self, options: Restore) -> None:
        self.feather.setValue(options.target.feather)

    def _show_what_fits(self) -> None:
        target = self.target()
        for tool, button in self.tools.items():
            button.setVisible(tool.target is target)
        self.feather.setVisible(target.fades)
        self.strength.setVisible(target is TargetChoice.PAINTED and self.strength.count() > 1)


def area_text(area: Area, target: TargetChoice) -> str:
    """Return an area in one line: how many, how large, where."""
    box = area.region
    # Unbreakable within, so that no lonely number begins a line.
    corner = _unbroken(f"at x {box.x0}, y {box.y0}")
    size = _unbroken(f"{box.width} × {box.height}")
    if area.mask is None or target is TargetChoice.GRADIENT:
        return f"{size} pixels {corner}"
    count = len(area.targets)
    parts = [f"{count} areas"] if count > 1 else []
    if area.pixels is not None:
        # Thin spaces: a million is easier to read in groups.
        parts.append(
            _unbroken(f"≈ {area.pixels:,} pixels".replace(",", "\N{NARROW NO-BREAK SPACE}"))
        )
    return f"{', '.join([*parts, f'within {size}'])} {corner}"


def _unbroken(text: str) -> str:
    return text.replace(" ", "\N{NO-BREAK SPACE}")
