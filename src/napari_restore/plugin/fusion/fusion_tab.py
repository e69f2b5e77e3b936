"""The tab for exposure fusion: frames of a bracket in, one picture out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QPixmap
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QFileDialog,
    QGridLayout,
    QLabel,
    QProgressBar,
    QRadioButton,
    QToolButton,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_restore.api import IMAGE_SUFFIXES
from napari_restore.errors import RestoreError, escape_controls
from napari_restore.plugin.fusion._weights_controller import WeightsController, colours_of
from napari_restore.plugin.fusion.frame_group import (
    FrameGroup,
    FrameLayers,
    OpenBracket,
    OpenFrames,
    name_of,
)
from napari_restore.plugin.fusion.fusion_controller import FusionController
from napari_restore.plugin.method.parameter_form import ParameterForm
from napari_restore.plugin.tasks.notices import error_text, show_problem, with_labels
from napari_restore.plugin.widgets.editors import NarrowComboBox
from napari_restore.plugin.widgets.folding import (
    add_button,
    bring_into_view,
    flowing,
    page_of,
    row_of,
)
from napari_restore.plugin.widgets.plots import pixmap_of
from napari_restore.plugin.widgets.section import Section
from napari_restore.plugin.widgets.wrapped_label import WrappedLabel

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from napari.components import ViewerModel

    from napari_restore.plugin.state.state import RestoreState


THUMBNAIL = 56
"""Width in pixels of a thumbnail on the screen."""


class FrameRow(NamedTuple):
    """What a row shows."""

    number: int
    """The frame's number in its group."""
    name: str
    exposure: str
    remark: str
    """How it lies, or why it is left out."""
    used: bool
    is_reference: bool
    colour: str | None
    """Of its weights on the canvas; None while these are not shown."""
    thumbnail: npt.NDArray[np.uint8] | None


class FramesView(QWidget):
    """Rows with a tick, a thumbnail, name and EV, the mark of the reference, and Show."""

    used_changed = Signal(int, bool)
    reference_changed = Signal(int)
    show_toggled = Signal(int, bool)
    """The frame itself shall be on the canvas, or no more."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.ticks: dict[int, QCheckBox] = {}
        self.references: dict[int, QRadioButton] = {}
        self.shows: dict[int, QToolButton] = {}
        self.texts: dict[int, QLabel] = {}
        self._pictures: dict[int, QLabel] = {}
        self._numbers: list[int] = []
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(6)
        self._grid.setVerticalSpacing(4)
        self._grid.setColumnStretch(2, 1)
        self._only = QButtonGroup(self)

    def show_rows(self, rows: list[FrameRow]) -> None:
        """Show rows; widgets stay where the frames are the same."""
        numbers = [row.number for row in rows]
        if numbers != self._numbers:
            self._numbers = numbers
            self._clear()
            for at, row in enumerate(rows):
                self._add(at, row)
        for row in rows:
            self._fill(row)

    def hide_shown(self, number: int) -> None:
        """Release Show: the frame's layer is gone."""
        button = self.shows.get(number)
        if button is not None:
            with signals_blocked(button):
                button.setChecked(False)

    def _clear(self) -> None:
        for widgets in (self.ticks, self.references, self.shows, self.texts, self._pictures):
            for widget in widgets.values():
                self._grid.removeWidget(widget)
                widget.hide()
                widget.deleteLater()
            widgets.clear()

    def _add(self, at: int, row: FrameRow) -> None:
        number = row.number
        tick = QCheckBox(self)
        tick.setToolTip("Fuse this frame")
        tick.setAccessibleName(f"Fuse {row.name}")
        tick.toggled.connect(partial(self.used_changed.emit, number))
        picture = QLabel(self)
        picture.setFixedWidth(THUMBNAIL)
        text = WrappedLabel(parent=self)
        # Names are no markup.
        text.setTextFormat(Qt.TextFormat.PlainText)
        reference = QRadioButton(self)
        reference.setToolTip(
            "Reference: the result replaces this frame and keeps its EXIF and colour profile"
        )
        reference.setAccessibleName(f"{row.name} is the reference")
        self._only.addButton(reference)
        reference.clicked.connect(lambda *_: self.reference_changed.emit(number))
        shown = QToolButton(self)
        shown.setText("Show")
        shown.setCheckable(True)
        shown.setToolTip("Show this frame as it lies, above the bracket")
        shown.setAccessibleName(f"Show {row.name}")
        shown.toggled.connect(partial(self.show_toggled.emit, number))
        for column, widget in enumerate((tick, picture, text, reference, shown)):
            self._grid.addWidget(widget, at, column)
            # Rows may be added to a tab that is open.
            widget.show()
        self.ticks[number], self.references[number] = tick, reference
        self.shows[number], self.texts[number] = shown, text
        self._pictures[number] = picture

    def _fill(self, row: FrameRow) -> None:
        number = row.number
        tick, reference = self.ticks[number], self.references[number]
        for button, on in ((tick, row.used), (reference, row.is_reference)):
            with signals_blocked(button):
                button.setChecked(on)
        # The reference is what the result replaces.
        tick.setEnabled(not row.is_reference)
        text = self.texts[number]
        text.setText("\n".join(filter(None, (row.name, row.exposure, row.remark))))
        about = " (estimated from the pixels)" if row.exposure.startswith("≈") else ""
        text.setToolTip(f"{row.name}\n{row.exposure}{about}")
        text.setEnabled(row.used)
        picture = self._pictures[number]
        if row.thumbnail is not None and picture.pixmap().isNull():
            picture.setPixmap(_pixmap(row.thumbnail))
        edge = "transparent" if row.colour is None else row.colour
        picture.setStyleSheet(f"border-left: 4px solid {edge}")
        picture.setEnabled(row.used)


def _pixmap(pixels: npt.NDArray[np.uint8]) -> QPixmap:
    smooth = Qt.TransformationMode.SmoothTransformation
    return pixmap_of(pixels).scaledToWidth(THUMBNAIL - 6, smooth)


HINT = (
    "Photos of one scene with different exposures become one picture. Add them, or drop a folder "
    "here. One picture of linear light (.hdr, .exr, float TIFF) is enough."
)
AFTER = (
    "Compare, adjust and export the picture under Restore; Several images there fuses all brackets "
    "of a folder."
)


class FusionTab(Section):
    """Chooses frames, and sets the method that fuses them; the panel's bar runs it."""

    TITLE: ClassVar[str] = "Fuse"

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self.controller = FusionController(viewer, state, self)
        self.weights = WeightsController(viewer, state, self)
        self.shown_frames = FrameLayers(viewer, self)
        self._left_out = ""
        """What of the last drop is no photo."""
        self._build()
        self._connect()
        self.setAcceptDrops(True)
        self._on_groups()
        self._on_frames()
        self._on_method()
        self._on_busy(False)
        self.crop.setChecked(state.crop)

    def _build(self) -> None:
        self.hint = QLabel(HINT, self, wordWrap=True)
        self.add_files = add_button(self, "Photos …", "The frames of one scene, or of several")
        self.add_folder = add_button(self, "Folder …", "All brackets in a folder", self._ask_folder)
        tip = "The images selected in the layer list as frames"
        self.add_layers = add_button(self, "Layers", tip, self._add_selected)
        self.group = NarrowComboBox(self, 12, "The bracket that is shown", "Bracket")
        self.clear = add_button(self, "Clear", "Remove all brackets from this list; layers stay")
        self.frames = FramesView(self)
        self.align = QCheckBox("Align the frames", self)
        self.align.setToolTip("Brings hand-held frames onto the grid of the reference")
        self.crop = QCheckBox("Crop to all frames", self)
        self.crop.setToolTip("Cuts off what some frame does not show, where no area is drawn")
        tip = "A layer for each frame: how much it gives to each pixel, before blending"
        self.show_weights = add_button(self, "Show weights", tip, checkable=True)
        self.progress = QProgressBar(self)
        self.cancel = add_button(self, "Cancel", "Stop opening the frames")
        self.message = WrappedLabel("", self)
        self.parameters = ParameterForm(sliders=True)
        self.after = QLabel(AFTER, self, wordWrap=True)
        page_of(
            self,
            self.hint,
            flowing(self.add_files, self.add_folder, self.add_layers, self.clear),
            row_of(self.progress, self.cancel),
            self.message,
            self.group,
            self.frames,
            row_of(self.align, self.show_weights),
            self.crop,
            self.parameters,
            self.after,
        )

    def _connect(self) -> None:
        controller = self.controller
        self.add_files.clicked.connect(self._ask_files)
        self.group.currentIndexChanged.connect(controller.choose)
        self.clear.clicked.connect(controller.forget)
        self.frames.used_changed.connect(controller.set_used)
        self.frames.reference_changed.connect(controller.set_reference)
        self.frames.show_toggled.connect(self._on_show)
        self.shown_frames.removed.connect(self.frames.hide_shown)
        self.align.toggled.connect(controller.set_align)
        self.crop.toggled.connect(partial(setattr, self.state, "crop"))
        self.cancel.clicked.connect(controller.cancel)
        self.show_weights.toggled.connect(self.weights.switch)
        self.weights.changed.connect(self._on_weights)
        self.parameters.changed.connect(partial(setattr, self.state, "parameters"))
        controller.groups_changed.connect(self._on_groups)
        controller.frames_changed.connect(self._on_frames)
        controller.progressed.connect(self._on_progress)
        controller.busy_changed.connect(self._on_busy)
        controller.failed.connect(self._on_failed)
        self.listen(self._on_method, self.state.events.method)
        self.listen(self._on_state_crop, self.state.events.crop)

    def leave(self) -> None:
        self.controller.leave()

    def setVisible(self, visible: bool) -> None:
        """Show or hide the tab; what a draft needs is loaded when it is shown."""
        super().setVisible(visible)
        if visible:
            self.controller.preload()

    # -- adding frames -----------------------------------------------------------------

    def add(self, paths: list[str]) -> None:
        """Add photos and folders, as the buttons and a drop do."""
        self._left_out = ""
        self._say("")
        self.controller.add_paths(paths)

    def _ask_files(self) -> None:
        patterns = " ".join(f"*{suffix}" for suffix in sorted(IMAGE_SUFFIXES))
        dialog = QFileDialog(self, "Add photos", "", f"Photos ({patterns})")
        dialog.setFileMode(QFileDialog.FileMode.ExistingFiles)
        dialog.filesSelected.connect(self.add)
        dialog.open()

    def _ask_folder(self) -> None:
        dialog = QFileDialog(self, "Add a folder of brackets")
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.filesSelected.connect(self.add)
        dialog.open()

    def _add_selected(self) -> None:
        # In the order of the list: that of a selection is none.
        chosen = [layer for layer in self.viewer.layers if layer in self.viewer.layers.selection]
        self._left_out = ""
        self.controller.add_layers(chosen)

    def dragEnterEvent(self, event: Any) -> None:
        """Accept all files: what is no photo is told."""
        if any(url.isLocalFile() for url in event.mimeData().urls()):
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        photos = [p for p in paths if p.is_dir() or p.suffix.lower() in IMAGE_SUFFIXES]
        others = [escape_controls(p.name) for p in paths if p not in photos]
        if not paths:
            return
        event.acceptProposedAction()
        self._left_out = ""
        if others:
            more = f" and {len(others) - 1} more are no photos" if others[1:] else " is no photo"
            self._left_out = f"{others[0]}{more}: left out."
        self._say(self._left_out)
        # What is said of them stands at its top.
        bring_into_view(self)
        if photos:
            self.controller.add_paths([str(path) for path in photos])

    # -- what is shown -----------------------------------------------------------------

    def _on_groups(self) -> None:
        controller = self.controller
        self.group.offer(
            ((each.group.title, each) for each in controller.groups if each.group is not None),
            controller.chosen,
        )
        some = bool(controller.groups)
        self.group.setVisible(len(controller.groups) > 1)
        for widget in (
            self.clear,
            self.frames,
            self.align,
            self.crop,
            self.show_weights,
            self.after,
        ):
            widget.setVisible(some)
        self.hint.setVisible(not some)
        self._on_busy(controller.is_busy)

    def _on_frames(self) -> None:
        shown = self.controller.chosen
        group, opened, bracket = shown.group, shown.frames, shown.bracket
        if group is None:
            self.frames.show_rows([])
            self.shown_frames.clear()
            return
        with signals_blocked(self.align):
            self.align.setChecked(group.align)
        weighed = bracket is not None and self.weights.is_on
        self.frames.show_rows(_rows(group, opened, bracket, weighed=weighed))
        self.shown_frames.follow(shown.layer, opened, bracket)

    def _on_show(self, number: int, on: bool) -> None:
        self.shown_frames.show(number, on)
        if on and number not in self.shown_frames.numbers:
            self.frames.hide_shown(number)

    def _on_weights(self) -> None:
        self.show_weights.setChecked(self.weights.is_on)
        self._on_frames()

    def _on_state_crop(self, on: bool) -> None:
        self.crop.setChecked(on)

    def _on_progress(self, text: str, done: int, total: int) -> None:
        self._say(text)
        self.progress.setRange(0, total)
        self.progress.setValue(done)

    def _on_busy(self, busy: bool) -> None:
        self.progress.setVisible(busy)
        self.cancel.setVisible(busy)
        if not busy:
            group, bracket = self.controller.chosen.group, self.controller.chosen.bracket
            note = None if group is None else group.note
            # As the command tells them; those of a run are told when it runs.
            notes = [] if bracket is None else map(with_labels, bracket.image.notes)
            self._say("\n".join(filter(None, (self._left_out, note, *notes))))

    def _say(self, text: str) -> None:
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def _on_failed(self, error: RestoreError) -> None:
        self._say(error_text(error))
        show_problem(error)

    # -- the method --------------------------------------------------------------------

    def _on_method(self) -> None:
        card = self.state.method.card
        fuses = card is not None and card.inputs != 1
        self.parameters.setVisible(fuses)
        if card is not None and fuses:
            self.parameters.show_card(card)
            self.parameters.set_values(self.state.parameters)


def _rows(
    group: FrameGroup, opened: OpenFrames | None, bracket: OpenBracket | None, *, weighed: bool
) -> list[FrameRow]:
    """Return the rows of a group, dark to bright once its frames are open."""
    if opened is None:
        return [
            FrameRow(number, name_of(source), "", "", group.used[number], False, None, None)
            for number, source in enumerate(group.sources)
        ]
    reference = opened.reference if group.reference is None else group.reference
    zero = opened.exposures[reference]
    about = "≈ " if opened.is_estimated else ""
    colours = {}
    if bracket is not None and weighed:
        found = colours_of(len(bracket.numbers))
        colours = {
            number: "#" + "".join(f"{round(255 * part):02x}" for part in colour)
            for number, colour in zip(bracket.numbers, found, strict=True)
        }
    return [
        FrameRow(
            number,
            name_of(group.sources[number]),
            about + _in_ev(opened.exposures[number] - zero),
            _remark(number, group, reference, bracket),
            group.used[number] or number == reference,
            number == reference,
            colours.get(number),
            opened.thumbnails[number],
        )
        for number in opened.order
    ]


def _remark(number: int, group: FrameGroup, reference: int, bracket: OpenBracket | None) -> str:
    """Return how a frame lies on the grid of the reference, or why it is not fused."""
    if number == reference:
        return "reference"
    if not group.used[number]:
        return "not used"
    if bracket is None:
        return ""
    if number in bracket.left_out:
        return "left out: it does not fit"
    # One that was left out is used again, in the bracket that comes.
    if bracket.is_rough or number not in bracket.numbers:
        return "aligning …"
    if not group.align:
        return ""
    if bracket.is_in_place(number):
        return "in place"
    residual, corner = bracket.off_by(number)
    if corner is not None:
        return f"aligned, perhaps {corner:.0f} px off at a corner"
    return "" if residual is None else f"aligned, {residual:.1f} px off"


def _in_ev(value: float) -> str:
    """Return an exposure relative to the reference."""
    return f"{value:+.1f} EV".replace("-", "−") if abs(value) >= 0.05 else "0 EV"
