"""What is done with the chosen heads: kept as layers, left out of the network, written to files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psygnal
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QLabel, QWidget

from napari_restore import api
from napari_restore.errors import InputError, RestoreError
from napari_restore.plugin.attention.asked import KeptAnswer, PreparedAttention
from napari_restore.plugin.results.save_dialog import FileSaver, copy_command
from napari_restore.plugin.state.state import RestoreState, title_of
from napari_restore.plugin.tasks.notices import show_problem
from napari_restore.plugin.tasks.task import in_background
from napari_restore.plugin.widgets.editors import combo_of
from napari_restore.plugin.widgets.folding import add_button, column_of, in_a_row

if TYPE_CHECKING:
    from napari_restore.plugin.attention.heads_view import HeadsView
    from napari_restore.plugin.attention.layers import AttentionLayers


OVERLAYS = {False: "show the present query", True: "show the reference"}


class ReferenceBar(QWidget):
    """Keeps the present answer as the reference of a tab, and chooses which of both is shown."""

    changed = Signal()
    """Another reference, or none, or the other one of both is to be shown."""

    def __init__(self, state: RestoreState, asked: PreparedAttention, parent: QWidget) -> None:
        super().__init__(parent)
        self._state, self._asked = state, asked
        tip = "Show this answer beside those of other queries or networks, on one scale"
        self.keep = add_button(self, "Keep as reference", tip, self._on_keep)
        self.forget = add_button(self, "Forget", "Compare with nothing", self._on_forget)
        tip = "Which of both is laid over the image"
        self.overlay = combo_of(self, OVERLAYS, tip, name="Over the image")
        self.caption = QLabel(self, wordWrap=True)
        column_of(self, in_a_row(self.keep, self.forget), self.overlay, self.caption)
        self.overlay.currentIndexChanged.connect(self.changed)
        self._show()

    @property
    def is_shown(self) -> bool:
        """Whether the reference is laid over the image."""
        return self._asked.reference is not None and bool(self.overlay.currentData())

    def allow(self, allowed: bool) -> None:
        """Allow to keep the present answer, or not; a reference of another image goes."""
        self.keep.setEnabled(allowed)
        reference, source = self._asked.reference, self._state.layer
        if reference is not None and (source is None or source.unique_id != reference.image):
            self._on_forget()

    def explain(self, site: str | None, heads: list[str]) -> None:
        """Say what both thumbnails of a pair are, or why there is but one."""
        reference = self._asked.reference
        if reference is None:
            self.caption.setText("")
            return
        label = f"{reference.title}, {reference.query.query.label}"
        missing = "" if site is None else reference.missing(site, heads)
        self.caption.setText(
            f"Left: the reference ({label}). Right: the present. {missing}".strip()
        )

    def _on_keep(self) -> None:
        query, source, request = self._asked.query, self._state.layer, self._asked.request
        if query is None or source is None or request is None:
            return
        title = title_of(request.model)
        self._asked.reference = KeptAnswer(query, title, source.unique_id)
        self._show()
        self.changed.emit()

    def _on_forget(self) -> None:
        self._asked.reference = None
        self.overlay.setCurrentIndex(0)
        self._show()
        self.changed.emit()

    def _show(self) -> None:
        for widget in (self.forget, self.overlay, self.caption):
            widget.setVisible(self._asked.reference is not None)


class HeadActions(QObject):
    """Buttons that act on the heads chosen in a view."""

    happened = psygnal.Signal(str)
    """What is under way or came of it, as a sentence."""

    def __init__(
        self,
        state: RestoreState,
        asked: PreparedAttention,
        heads: HeadsView,
        layers: AttentionLayers,
        parent: QWidget,
    ) -> None:
        super().__init__(parent)
        self._state, self._asked, self._heads, self._layers = state, asked, heads, layers
        self._files = FileSaver(parent, "attention")
        tip = "Keep the chosen head as a layer of its own"
        self.pin = add_button(parent, "Pin", tip, self._on_pin)
        self.without = add_button(
            parent,
            "Leave out",
            "Run the network without the chosen head around the query, and show what changes",
            self._on_without,
        )
        self.map = add_button(
            parent,
            "Map …",
            "The chosen layer's heads as a georeferenced float32 raster, or .npz",
            partial(self._save, "Map", (".tif", ".npz")),
        )
        self.figure = add_button(
            parent,
            "Figure …",
            "A figure of the chosen layer's heads, with all settings",
            partial(self._save, "Figure", (".png", ".pdf", ".svg")),
        )
        self.table = add_button(
            parent,
            "Numbers …",
            "Entropy, distance and shares of every head of every layer",
            partial(self._save, "Numbers", (".csv",)),
        )
        tip = "The napari-restore line that writes the chosen layer's heads for this query"
        self.copy = add_button(parent, "Copy command", tip, self._on_copy)
        self.buttons = (self.pin, self.without, self.map, self.figure, self.table, self.copy)

    def allow(self, allowed: bool) -> None:
        """Enable all buttons, or none."""
        for button in self.buttons:
            button.setEnabled(allowed)

    # -- layers -------------------------------------------------------------------

    def _on_pin(self) -> None:
        query, site, source = self._asked.query, self._heads.site, self._state.layer
        if query is None or source is None or site is None or site not in query.maps:
            return
        for head in self._heads.heads:
            self._layers.pin(source, query.maps[site], head, query)

    def _on_without(self) -> None:
        """Run the network without the chosen head, on another thread."""
        session, query, site = self._asked.session, self._asked.query, self._heads.site
        if session is None or query is None or site is None:
            return
        head = self._heads.heads[-1]
        self.happened.emit(f"Running without head {head} …")
        self.without.setEnabled(False)
        in_background(partial(session.without_head, query.query, site, head), self._on_effect)

    def _on_effect(self, effect: Any) -> None:
        self.without.setEnabled(self._asked.query is not None)
        if isinstance(effect, RestoreError):
            self.happened.emit("")
            show_problem(effect)
            return
        source = self._state.layer
        if self._asked.session is None or source is None:
            return
        title = self._asked.title(effect.layer)
        self._layers.add_effect(source, effect, title)
        numbers = effect.to_dict()
        decibels = numbers["without_db"]
        self.happened.emit(
            f"Without head {effect.head} of {title} the result changes by "
            f"{numbers['without_mean']:.2g} of its range on average"
            + ("." if decibels is None else f" ({decibels:.0f} dB).")
        )

    # -- files --------------------------------------------------------------------

    def _save(self, title: str, suffixes: tuple[str, ...], *_: Any) -> None:
        session, request, query = self._asked.session, self._asked.request, self._asked.query
        site = self._heads.site
        if session is None or request is None or query is None or site is None:
            return
        other = self._asked.attended_by
        whole = title == "Numbers" and not other
        layers = [each.name for each in session.sites] if whole else [site]
        draws = title == "Figure"
        write = partial(session.write, query.query, layers, draws=draws, attended_by=other)
        self._files.save(request.image, title, suffixes, write)

    def _on_copy(self) -> None:
        sentence, line = copy_command(self.command, self._output)
        self.happened.emit(sentence)
        self.copy.setToolTip(line)

    def command(self) -> str:
        """Return the command that writes the chosen layer's heads; raises `InputError`."""
        request, query, site = self._asked.request, self._asked.query, self._heads.site
        if request is None or query is None or site is None:
            raise InputError("There is no answer yet.", "Click the image.")
        device = request.options.machine.device
        other = self._asked.attended_by
        return api.attention_command(
            request.subject, query.query, [site], self._output(), device=device, attended_by=other
        )

    def _output(self) -> Path:
        assert self._asked.request is not None
        return self._files.proposed(self._asked.request.image, ".tif")
