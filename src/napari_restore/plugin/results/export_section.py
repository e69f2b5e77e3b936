"""Saves what is shown, and gives the command that writes the same."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QFileDialog, QProgressBar, QWidget
from superqt.utils import signals_blocked

from napari_restore import api
from napari_restore._format import format_seconds, format_size
from napari_restore.errors import InputError
from napari_restore.plugin.areas.areas import area_of as area_of_target
from napari_restore.plugin.layers.layer_order import LIVE
from napari_restore.plugin.results.save_dialog import SaveTask, ask_save_path, copy_command
from napari_restore.plugin.results.variant_text import adjustment_of, area_of, part_of, phrase
from napari_restore.plugin.state.request import TargetChoice
from napari_restore.plugin.state.state import RestoreState, image_of
from napari_restore.plugin.tasks.notices import error_text, listed, show_problem
from napari_restore.plugin.tasks.waiting_dialog import ask
from napari_restore.plugin.widgets.editors import NarrowComboBox, OptionRows, combo_of, number_box
from napari_restore.plugin.widgets.folding import (
    Folded,
    add_button,
    bring_into_view,
    column_of,
    flowing,
    form_layout,
    row_of,
)
from napari_restore.plugin.widgets.keys import with_key
from napari_restore.plugin.widgets.section import Section
from napari_restore.plugin.widgets.settled_button import SettledPresses
from napari_restore.plugin.widgets.wrapped_label import WrappedLabel
from napari_restore.questions import Format

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.engine import Result
    from napari_restore.images import Image
    from napari_restore.plugin.state.variant import Variant


@dataclass(frozen=True)
class ExportFormat:
    """A kind of file, and which of the options it has."""

    title: str
    suffix: str
    options: frozenset[str] = frozenset()
    always: dict[str, Any] = field(default_factory=dict)


_TIFF_OPTIONS = frozenset({"compress", "quality", "bit_depth"})
_PHOTO_OPTIONS = frozenset({"profile", "resize", "sharpen"})
_ZARR = ExportFormat("OME-Zarr", ".zarr")
_PHOTOS = (
    ExportFormat("PNG", ".png", frozenset({"bit_depth"})),
    ExportFormat("JPEG", ".jpg", frozenset({"quality", "bit_depth", "subsampling"})),
    ExportFormat("WebP", ".webp", frozenset({"quality", "bit_depth"})),
)
FORMATS = (
    ExportFormat("GeoTIFF", ".tif", _TIFF_OPTIONS),
    ExportFormat("Cloud-optimised GeoTIFF", ".tif", _TIFF_OPTIONS, {"cog": True}),
    _ZARR,
    *_PHOTOS,
)
PHOTO_FORMATS = (
    *(
        replace(form, options=form.options | _PHOTO_OPTIONS)
        for form in (ExportFormat("TIFF", ".tif", _TIFF_OPTIONS), *_PHOTOS)
    ),
    _ZARR,
)
"""The same files by the names that photographers have for them, with what is for photos."""
MORE, MORE_OPTIONS = "More", _PHOTO_OPTIONS | {"subsampling"}
PROFILES = {
    None: "as in the photo",
    "sRGB": "sRGB",
    "adobe-rgb": "Adobe RGB",
    "display-p3": "Display P3",
}
SUBSAMPLINGS = {
    None: "usual",
    "4:4:4": "4:4:4 (all colours)",
    "4:2:2": "4:2:2",
    "4:2:0": "4:2:0 (smallest)",
}
LARGEST_SIDE = 65535
EIGHT_BITS = (".jpg", ".webp")
COMPRESSIONS = {
    None: "deflate (usual)",
    "zstd": "zstd (smaller)",
    "lzw": "lzw",
    "jpeg": "jpeg (loses detail)",
    "none": "none",
}
EXTENTS = {
    None: "whole image",
    "box": "box around the area",
    "mask": "area, nodata outside",
}
DEPTHS = {None: "as in the image", 8: "8 bit", 16: "16 bit"}


class ExportSection(Section):
    """Format, options, Export, and the command line that does the same.

    Applies to `state.current` as it is shown: adjusted, with its mask and feather.
    """

    TITLE: ClassVar[str] = "Export"
    TIP: ClassVar[str] = "Save the result as a file"
    ended = Signal(str, object)
    """An export ended; as `SaveTask.ended`."""
    run_requested = Signal(object, object, str, str)
    """A `Request` to run, its layer, the title of its model and where."""

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self.saving: SaveTask | None = None
        self._all: list[Variant] | None = None
        """The results that are still to be written into `_folder`; None while one is exported."""
        self._folder = Path()
        self._count = self._done = 0
        self._problems: list[tuple[str, str]] = []
        self._variant: Variant | None = None
        """What is being saved."""
        self._saved: tuple[Variant, Path] | None = None
        """What was saved last, and where."""
        self._like: Image | None = None
        """The image that what is saved is of."""
        self._chosen = False
        """Whether the user has chosen the format."""
        self._watched: Variant | None = None
        """What the message is about."""
        self._build()
        events = state.events
        self.listen(self._on_current, events.current, events.variants, events.running, events.layer)
        self._on_current()

    def _build(self) -> None:
        self.what = WrappedLabel("", self)
        self.whole = add_button(
            self,
            "Restore the whole image",
            "This result is a part of its image: runs the same on all of it",
        )
        self.format = NarrowComboBox(self, 12, "The type of the file")
        self._formats: tuple[ExportFormat, ...] = FORMATS
        self.format.offer((form.title, form) for form in FORMATS)
        self._build_options()
        tip = with_key("Save what is shown: this result with its look, mask and feather", "export")
        self.export = add_button(self, "Export …", tip, self._on_export)
        tip = "Every finished result into one folder, as it is shown and with the options above"
        self.export_all = add_button(self, "Export all …", tip, self._on_export_all)
        self.copy = add_button(
            self, "Copy command", "The napari-restore line that writes the same file", self._on_copy
        )
        self.progress = QProgressBar(self)
        # As narrow as the panel may be.
        self.progress.setMinimumWidth(1)
        self.cancel = add_button(self, "Cancel", "Stop writing; no file is left", self._on_cancel)
        self._presses = SettledPresses(self.cancel)
        self.message = WrappedLabel("", self)
        self.message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._arrange()
        self._show_saving(False)
        self.format.currentIndexChanged.connect(self._on_format)
        self.whole.clicked.connect(self._on_whole)
        self._show_options()

    def _build_options(self) -> None:
        """Make the editors of the options; what is for photos is folded away."""
        self._editors = OptionRows(Format, changed=self._on_option)
        self.form = form_layout()
        self.form.addRow("Format", self.format)
        add, combo = partial(self._editors.add, self.form), partial(combo_of, self)
        self.compress = add("Compression", "compress", combo(COMPRESSIONS, letters=12))
        self.quality = number_box(self, (1, 100), value=Format.USUAL_QUALITY)
        add("Quality", "quality", self.quality)
        self.bit_depth = add("Bit depth", "bit_depth", combo(DEPTHS, letters=12))
        self.clip = add("Extent", "clip", combo(EXTENTS, letters=12))
        inner = QWidget()
        self.more_form = form_layout(inner)
        add = partial(self._editors.add, self.more_form)
        self.profile = add("Colours", "profile", combo(PROFILES, letters=10))
        self.longer_side = number_box(
            self, (0, LARGEST_SIDE), step=256, suffix=" pixels", zero="as in the photo"
        )
        add("Longer side", "resize", self.longer_side)
        self.sharpen = add("", "sharpen", QCheckBox("Sharpen for a screen", self))
        self.subsampling = add("Subsampling", "subsampling", combo(SUBSAMPLINGS, letters=10))
        tip = "Colour profile, size, sharpening and subsampling of the file"
        self.more = Folded(MORE, inner, tip)

    def _arrange(self) -> None:
        # What a result is comes below: Export stays where it is when another one is shown.
        column_of(
            self,
            self.form,
            self.more,
            flowing(self.export, self.export_all, self.copy),
            row_of(self.progress, self.cancel),
            self.message,
            self.what,
            flowing(self.whole),
        )
        for widget in (self.progress, self.cancel):
            # Their place is theirs: nothing else is pressed where Cancel will be.
            policy = widget.sizePolicy()
            policy.setRetainSizeWhenHidden(True)
            widget.setSizePolicy(policy)

    # -- the options ----------------------------------------------------------

    def options(self, variant: Variant | None = None) -> dict[str, Any]:
        """Return the options of `Result.save` that a result has: the chosen ones, by default of the current one."""
        form: ExportFormat = self.format.currentData()
        chosen = self._editors.values()
        if chosen["quality"] == Format.USUAL_QUALITY:
            del chosen["quality"]
        set_here = {k: v for k, v in chosen.items() if v and self._has(k, variant)}
        return {**form.always, **set_here}

    def _has(self, name: str, variant: Variant | None = None) -> bool:
        """Return whether there is such an option for the format, and for a result as for `options`."""
        variant, options = variant or self.state.current, self.format.currentData().options
        result = None if variant is None else variant.result
        like = self._like if variant is None else variant.request.image
        if name == "clip":
            # Its file would be of more than the areas that the result is of.
            return result is not None and result.mask is not None
        if name == "quality" and "compress" in options and self.compress.currentData() != "jpeg":
            return False
        if name in MORE_OPTIONS and (like is None or not like.is_photo):
            return False
        is_grey = like is None or len(like.data_bands) == 1
        return name in options and not (is_grey and name in ("profile", "subsampling"))

    def command(self) -> str:
        """Return the command that writes what is shown; raises `InputError` where there is none."""
        variant = self.state.current
        if variant is None or variant.result is None:
            raise InputError("There is no finished result.", "Run one to its end.")
        return api.command_of(
            variant.result.plan,
            self._output(),
            device=variant.request.options.machine.device,
            **self.options(),
        )

    def _output(self) -> Path:
        """Return the file of the command: that of the last export, where that was of what is shown."""
        variant, form = self.state.current, self.format.currentData()
        assert variant is not None and variant.result is not None
        if self._saved is not None and self._saved[0] is variant:
            path = self._saved[1]
            return path if _usual_suffix(path) == form.suffix else path.with_suffix(form.suffix)
        return self.proposed_path(variant.result)

    def proposed_path(self, result: Result, folder: Path | None = None) -> Path:
        """Return a name that is free, in `folder`: that of its last export, at first beside its image."""
        form: ExportFormat = self.format.currentData()
        source = result.like.path
        if folder is None:
            folder = Path.home() if source is None else Path(source).parent
            if self._saved is not None and self._saved[0].request.image.path == source:
                folder = self._saved[1].parent
        stem = (result.like.name if source is None else Path(source).stem) + "_clear"
        path, number = folder / f"{stem}{form.suffix}", 2
        while path.exists():
            path, number = folder / f"{stem}_{number}{form.suffix}", number + 1
        return path

    def ask_path(self, proposed: Path) -> Path | None:
        """Return the name the user chooses; None when there is none."""
        form: ExportFormat = self.format.currentData()
        variant = self.state.current
        # That a result is a part of its image is asked about first, unless areas were drawn.
        part = None if variant is None else part_of(variant.result)
        if variant is not None and part is not None and not self._has("clip"):
            if not self._takes_part(variant, part):
                return None
        return ask_save_path(self, f"Export {part or ''}".rstrip(), proposed, form.title)

    def _takes_part(self, variant: Variant, part: str) -> bool:
        """Ask whether to export a part; runs the whole image where that is wanted."""
        take, whole = "Export the part", self.whole.text()
        answers = [take, "Cancel"] if self.whole.isHidden() else [take, whole, "Cancel"]
        # Parts of maps are often meant.
        usual = whole if whole in answers and variant.request.image.is_photo else take
        text = f"This result is {part}."
        about = "The rest of the image is not restored, and not in the file."
        answer = ask(self.window(), "Export", text, about, *answers, usual=usual)
        if answer == whole:
            self._on_whole()
        return answer == take

    # -- what is shown -----------------------------------------------------------

    def _on_current(self) -> None:
        variant = self.state.current
        if variant is not self._watched:
            self._forget_message()
        self._watched = variant
        self.follow_result(variant, adjusted=self._on_adjusted, completed=self._on_current)
        ready = variant is not None and variant.result is not None
        if variant is None:
            self.what.setText("There is no result yet. Press Run first.")
        elif variant.result is None:
            self.what.setText(f"{variant.name} is not finished. Run it to its end to save it.")
        else:
            self.what.setText(_description(variant))
        self._choose_format(variant)
        self._show_options()
        part = None if variant is None else part_of(variant.result)
        can_be_whole = variant is not None and variant.source in self.viewer.layers
        self.whole.setVisible(can_be_whole and part is not None)
        self.export.setEnabled(ready and self.saving is None)
        self.copy.setEnabled(ready)
        self.export_all.setVisible(len(self._finished()) > 1)
        self.export_all.setEnabled(self.saving is None)

    def _forget_message(self) -> None:
        """Clear the message: what was copied or saved is no longer what would be."""
        if self.saving is None:
            self.message.setText("")
            self.message.setToolTip("")

    def _on_whole(self) -> None:
        """Run what is shown on the whole image."""
        variant = self.state.current
        if variant is None:
            return
        request, settings = variant.request, replace(self.state, target=TargetChoice.WHOLE)
        find = area_of_target(settings, self.viewer, variant.source, request.image)
        request = replace(request, area=find())
        self.run_requested.emit(request, variant.source, variant.title, TargetChoice.WHOLE.value)

    def _on_adjusted(self) -> None:
        self._forget_message()
        if self._watched is not None and self._watched.result is not None:
            self.what.setText(_description(self._watched))

    def _choose_format(self, variant: Variant | None) -> None:
        """Offer what fits the image; choose its own format, while the user has not chosen another."""
        # Of an image without a result, too: then the form is the same when there is one.
        layer = self.state.layer
        if variant is not None:
            like = variant.request.image
        elif layer is not None and layer in self.viewer.layers:
            like = image_of(layer)
        else:
            return
        before: ExportFormat = self.format.currentData()
        formats: tuple[ExportFormat, ...] = PHOTO_FORMATS if like.is_photo else FORMATS
        self._like = like
        if self._chosen:
            wanted = before.suffix
        else:
            wanted = "" if like.path is None else _usual_suffix(like.path)
            if like.georeference is not None and wanted != ".zarr":
                wanted = ".tif"
        fitting = [form for form in formats if form.suffix == wanted] or [formats[0]]
        chosen = before if self._chosen and before in fitting else fitting[0]
        with signals_blocked(self.format):
            if formats != self._formats:
                self._formats = formats
                self.format.offer((form.title, form) for form in formats)
            self.format.setCurrentIndex(formats.index(chosen))

    def _on_format(self) -> None:
        self._chosen = True
        self._on_option()

    def _on_option(self) -> None:
        self._forget_message()
        self._show_options()

    def _show_options(self) -> None:
        """Show what the format has, and in the heading of what is for photos whether that is set."""
        form: ExportFormat = self.format.currentData()
        for name in ("compress", "quality", "bit_depth", "clip"):
            self.form.setRowVisible(getattr(self, name), self._has(name))
        for name in ("profile", "subsampling"):
            self.more_form.setRowVisible(getattr(self, name), self._has(name))
        self.more.setVisible(bool(form.options & _PHOTO_OPTIONS))
        self.more.setText(f"{MORE} · set" if self.options().keys() & MORE_OPTIONS else MORE)
        deep = self.bit_depth.findData(16)
        depths: Any = self.bit_depth.model()
        depths.item(deep).setEnabled(form.suffix not in EIGHT_BITS)
        if form.suffix in EIGHT_BITS and self.bit_depth.currentIndex() == deep:
            self.bit_depth.setCurrentIndex(0)

    # -- saving ------------------------------------------------------------------

    def _on_export(self) -> None:
        variant = self.state.current
        if variant is None or variant.result is None or self.saving is not None:
            return
        path = self.ask_path(self.proposed_path(variant.result))
        if path is not None:
            self.save(variant, path)

    def _finished(self) -> list[Variant]:
        """Return the results that can be saved, but for those that follow the view."""
        known = self.state.variants
        return [x for x in known if x.result is not None and not x.name.startswith(LIVE)]

    def _on_export_all(self) -> None:
        current = self.state.current
        near = None if current is None or current.result is None else current.result.like.path
        beside = "" if near is None else str(Path(near).parent)
        folder = QFileDialog.getExistingDirectory(self, "Export all results into", beside)
        if folder:
            self.save_all(Path(folder))

    def save_all(self, folder: Path) -> None:
        """Write every finished result into `folder`, one after another; returns at once."""
        self._all, self._folder, self._problems = self._finished(), folder, []
        self._count, self._done = len(self._all), 0
        self._save_next()

    def _save_next(self, *, cancelled: bool = False) -> None:
        """Write the next of all results, or say how they ended."""
        while self._all and not cancelled:
            variant = self._all.pop(0)
            if variant.result is not None and variant in self.state.variants:
                self.save(variant, self.proposed_path(variant.result, self._folder))
                number = self._count - len(self._all)
                self.message.setText(f"{number} of {self._count}: {self.message.text()}")
                return
            self._problems.append((variant.name, "It was removed."))
        self._all = None
        text = f"{self._done} of {self._count} results saved in {self._folder}."
        text = f"Cancelled. {text}" if cancelled else text
        self.message.setText(listed(text, self._problems))
        self.ended.emit("cancelled" if cancelled else "done", self._folder)

    def save(self, variant: Variant, path: Path) -> None:
        """Write a finished result to `path` with the chosen options; returns at once."""
        assert variant.result is not None
        self._variant, variant.saving = variant, True
        self.saving = SaveTask(variant.result, path, self.options(variant))
        self.saving.sent.connect(self._on_progress)
        self.saving.ended.connect(self._on_ended)
        self._show_saving(True)
        self.message.setText(f"Writing {path.name} …")
        if self.export.visibleRegion().isEmpty():
            # By its key. Where the button is seen, nothing moves under the pointer.
            bring_into_view(self.message)
        self.saving.start(self)

    def _on_progress(self, progress: tuple[int, int, float | None]) -> None:
        if self.saving is None:
            return
        done, total, seconds_left = progress
        self.progress.setRange(0, max(1, total))
        self.progress.setValue(done)
        self.progress.setFormat(
            "%p %" + (f" · {format_seconds(seconds_left)} left" if seconds_left else "")
        )

    def _on_cancel(self) -> None:
        if self.saving is not None:
            self.cancel.setEnabled(False)
            self.message.setText("Stopping …")
            self.saving.cancel()

    def _on_ended(self, status: str, outcome: Any) -> None:
        if self.saving is None or self._variant is None:
            return
        variant = self._variant
        variant.saving = False
        size, part = self.saving.size, part_of(self.saving.result)
        like = self.saving.result.image
        self.saving = self._variant = None
        self._show_saving(False)
        # First, for it ends earlier messages.
        self._on_current()
        if self._all is not None:
            self._done += status == "done"
            if status == "failed":
                self._problems.append((variant.name, error_text(outcome)))
            self._save_next(cancelled=status == "cancelled")
            return
        if status == "done":
            self._saved = variant, Path(outcome)
            about = f": {part}" if part else ""
            notes = " ".join(api.notes_on_output(outcome, like))
            self.message.setText(f"Saved {outcome} ({format_size(size)}){about}. {notes}".rstrip())
        elif status == "cancelled":
            self.message.setText("Cancelled; nothing was written.")
        else:
            self.message.setText(error_text(outcome))
            show_problem(outcome)
        self.ended.emit(status, outcome)

    def _show_saving(self, saving: bool) -> None:
        self._presses.turn()
        self.export.setEnabled(not saving)
        self.export_all.setEnabled(not saving)
        self.cancel.setEnabled(True)
        self.progress.setVisible(saving)
        self.cancel.setVisible(saving)
        self.progress.setRange(0, 0)
        self.progress.setFormat("")

    def _on_copy(self) -> None:
        sentence, line = copy_command(self.command, self._output)
        if line and self.state.current and (part := part_of(self.state.current.result)):
            sentence += f" The file will be {part}."
        self.message.setText(sentence)
        self.message.setToolTip(line)

    def leave(self) -> None:
        if self.saving is not None and self._variant is not None:
            self.saving.abandon()
            self._all = None
            self._variant.saving = False
            self.saving = self._variant = None


def _usual_suffix(path: str | Path) -> str:
    suffix = Path(path).suffix.lower()
    return {".tiff": ".tif", ".jpeg": ".jpg"}.get(suffix, suffix)


def _description(variant: Variant) -> str:
    """Return what will be saved, in one or two lines."""
    assert variant.result is not None
    result = variant.result
    plan = result.plan
    height, width = result.region.shape
    area = area_of(plan)
    size = f"{width} × {height}"
    parts = [area] if area.startswith(size) else [f"{size} pixels", area]
    if (part := part_of(result)) is not None:
        parts = [part, *filter(None, [area.removeprefix(size).strip()])]
    if plan.target.mask is not None and plan.target.feather:
        parts.append(f"feather {plan.target.feather} px")
    parts += [phrase(name, value) for name, value in adjustment_of(plan).items()]
    return f"{variant.name}\n{' · '.join(parts)}"
