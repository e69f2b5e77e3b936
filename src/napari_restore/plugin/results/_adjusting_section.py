"""The base of the sections that adjust the current result without a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLayout
from superqt.utils import qthrottled

from napari_restore.errors import BadParameter, InputError
from napari_restore.plugin.tasks.notices import error_text, listed, show_note, show_problem
from napari_restore.plugin.widgets.editors import OptionRows
from napari_restore.plugin.widgets.folding import add_button, flowing
from napari_restore.plugin.widgets.keys import with_key
from napari_restore.plugin.widgets.section import Section
from napari_restore.questions import Adjustment

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.plugin.state.state import RestoreState
    from napari_restore.plugin.state.variant import Variant

ADJUST_MS = 50
"""While a slider moves the picture follows this often."""
NOTHING = "There is no result yet. Run first; changing its look then runs nothing again."


class AdjustingSection(Section):
    """Sets some fields of the adjustment of the state's current result, at once.

    A subclass adds its rows, calls `_begin`, and has `_enable`.
    """

    FIELDS: ClassVar[tuple[str, ...]] = ()
    """The fields of an `Adjustment` that it sets."""
    TIPS: ClassVar[Mapping[str, str]] = {}
    """The tooltips of their rows."""
    heading_changed = Signal(str)
    """The heading, with whether these are set."""

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self._variant: Variant | None = None
        self._shown_values: dict[str, Any] = {}
        """What the widgets say of the adjustment that they show; sliders round it."""
        self._adjust = qthrottled(self._apply, timeout=ADJUST_MS, parent=self)
        self._rows = OptionRows(Adjustment, changed=self._adjust, tips=self.TIPS)

    @property
    def values(self) -> dict[str, Any]:
        """What the widgets say of `FIELDS`."""
        return self._rows.values()

    def _show(self, adjustment: Adjustment) -> None:
        """Set the widgets without applying their values."""
        self._rows.show(adjustment.to_dict())

    def _enable(self) -> None:
        """Enable only what the current result allows."""
        raise NotImplementedError

    def _begin(self) -> None:
        self._on_adjusted()
        events, selection = self.state.events, self.viewer.layers.selection.events
        self.listen(self._on_current, events.current)
        self.listen(self._enable, events.running)
        self.listen(self._on_adjusted, events.layer)
        self.listen(self._offer_alike, events.variants, selection.changed)
        self._on_current()

    def _back_row(self) -> QLayout:
        self.undo_button = add_button(
            self, "Undo", with_key("Take the last change of the look back", "undo"), self.undo
        )
        self.reset_button = add_button(self, "Reset", "Set all of these back", self.reset)
        tip = (
            "Set these alike in the results that are selected in the layer list or among the photos"
        )
        self.same_button = add_button(self, "", tip, self.set_alike)
        return flowing(self.undo_button, self.reset_button, self.same_button)

    def _others(self) -> list[Variant]:
        """Return the other results that are selected, or whose image is."""
        chosen, own = self.viewer.layers.selection, self.state.current
        found = [x for x in self.state.variants if x.layer in chosen or x.source in chosen]
        return [] if own is None else [x for x in found if x is not own]

    def _offer_alike(self) -> None:
        count = len(self._others())
        self.same_button.setText(f"Same for {count} selected")
        self.same_button.setVisible(count > 0)

    def set_alike(self) -> None:
        """Set the fields of the results that are selected as they are in the current one."""
        self._adjust.flush()
        look = Adjustment() if self._variant is None else self._variant.look
        values = {name: getattr(look, name) for name in self.FIELDS}
        others, problems = self._others(), []
        for each in others:
            try:
                each.adjust(replace(each.adjustment, **values))
            except InputError as error:
                problems.append((each.name, error_text(error)))
        done = len(others) - len(problems)
        show_note(listed(f"{self.TITLE}: {done} of {len(others)} set alike.", problems))

    @property
    def adjustment(self) -> Adjustment:
        """That of the current result; the neutral one where there is none."""
        return Adjustment() if self._variant is None else self._variant.adjustment

    @property
    def _usual(self) -> Adjustment:
        return Adjustment() if self._variant is None else self._variant.shown.result.usual

    @property
    def chosen(self) -> Adjustment:
        """The adjustment with what has been set; what has not been touched keeps all its digits."""
        changed = {k: v for k, v in self.values.items() if v != self._shown_values[k]}
        return replace(self.adjustment, **changed)

    def _refusal(self, **values: Any) -> BadParameter | None:
        """Return why the image of the current result cannot be adjusted so; None where it can."""
        if self._variant is not None:
            image = self._variant.shown.result.image
            try:
                Adjustment(**values).check(image.name, image.roles, is_photo=image.is_photo)
            except BadParameter as error:
                return error
        return None

    def reset(self) -> None:
        usual = {name: getattr(self._usual, name) for name in self.FIELDS}
        self._set(replace(self.adjustment, **usual))

    def undo(self) -> None:
        self._adjust.flush()
        if self._variant is not None:
            self._try(self._variant.undo)

    def _apply(self) -> None:
        self._set(self.chosen)

    def _set(self, chosen: Adjustment) -> None:
        if self._variant is None or chosen == self._variant.adjustment:
            return
        self._try(partial(self._variant.adjust, chosen))

    def _try(self, change: Callable[[], None]) -> None:
        try:
            change()
        except InputError as error:
            show_problem(error)
            self._on_adjusted()

    def _on_current(self) -> None:
        self._offer_alike()
        if self.state.current is self._variant:
            self._enable()
            return
        # The last values of the widgets are those of the result before.
        self._adjust.flush()
        variant = self._variant = self.state.current
        self.follow_result(variant, adjusted=self._on_adjusted, completed=self._enable)
        self._enable()
        self._on_adjusted()

    def _on_adjusted(self) -> None:
        variant, own, usual = self._variant, self.adjustment, self._usual
        self._show(own)
        self._shown_values = self.values
        self.undo_button.setEnabled(variant is not None and variant.can_undo)
        is_set = any(getattr(own, name) != getattr(usual, name) for name in self.FIELDS)
        self.reset_button.setEnabled(is_set)
        heading = self.TITLE
        if variant is not None and self.state.layer not in (None, variant.source):
            heading += " · of another image"
        elif is_set:
            heading += f" · adjusted{', with undo' if self.undo_button.isEnabled() else ''}"
        self.heading_changed.emit(heading)
