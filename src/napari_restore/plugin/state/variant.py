"""One result of an image: how it was made and the layer that shows it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psygnal

from napari_restore import api
from napari_restore.errors import BadParameter

if TYPE_CHECKING:
    from napari.layers import Image as ImageLayer

    from napari_restore.engine import Plan, Result
    from napari_restore.plugin.layers.result_layer import ResultLayer
    from napari_restore.plugin.state.request import RunRequest
    from napari_restore.questions import Adjustment

VARIANT = "napari_restore_variant"
"""Entry of a layer's metadata: the variant that it shows."""


@dataclass(eq=False)
class Variant:
    """A result with its settings. A re-run makes another one, never replaces this."""

    request: RunRequest
    source: ImageLayer
    """The layer it was made from."""
    title: str
    """The model's title."""
    shown: ResultLayer
    record: dict[str, Any] | None = None
    """Once the run has ended, whole or not."""
    result: Result | None = None
    """Once it is complete and can be saved."""
    saving: bool = False
    """Whether it is being written to a file."""

    _before: list[Adjustment] = field(default_factory=list)
    """Earlier adjustments, the oldest first."""
    _changed: frozenset[str] = frozenset()
    """The fields that the last change was of: more changes of these are the same step."""

    adjusted = psygnal.Signal()
    """It is shown and would be written otherwise."""
    completed = psygnal.Signal()
    """It can be saved, and measured: `result` is there, or another one."""

    @property
    def adjustment(self) -> Adjustment:
        """How its pixels are applied to the source."""
        return self.shown.result.adjustment

    @property
    def is_adjusted(self) -> bool:
        """Whether somebody has adjusted it."""
        return self.adjustment != self.shown.result.usual

    @property
    def look(self) -> Adjustment:
        """The adjustment, without an exposure that is the usual one: that differs by image and method."""
        usual = self.adjustment.exposure == self.shown.result.usual.exposure
        return replace(self.adjustment, exposure=None) if usual else self.adjustment

    def __deepcopy__(self, memo: dict[int, Any]) -> Variant:
        """Return itself: a copy of its layer has the pixels, and is no result."""
        return self

    def adjust(self, adjustment: Adjustment) -> None:
        """Show it otherwise, and write and record it so; runs nothing. Raises `BadParameter`, `SourceChanged`."""
        before = self.adjustment
        adjustment = self.shown.result.with_adjustment(adjustment).adjustment
        old, new = before.to_dict(), adjustment.to_dict()
        changed = frozenset(name for name in new if new[name] != old.get(name))
        # A slider on its way is one step.
        is_step = bool(changed) and changed != self._changed
        self._apply(adjustment, check=is_step)
        if is_step:
            self._before.append(before)
            self._changed = changed
        self.adjusted.emit()

    def try_adjust(self, look: Adjustment) -> None:
        """Adjust it, unless it looks so, or that is undefined, as it may be with other band roles."""
        if look != self.look:
            with suppress(BadParameter):
                self.adjust(look)

    @property
    def can_undo(self) -> bool:
        return bool(self._before)

    def undo(self) -> None:
        """Take the last step back. Raises as `adjust`."""
        if self._before:
            self._apply(self._before[-1], check=True)
            self._changed = frozenset()
            self._before.pop()
            self.adjusted.emit()

    def look_as(self, former: Variant) -> None:
        """Be adjusted as `former`, whose place this takes, with its steps to undo."""
        if former.adjustment != self.adjustment:
            self._apply(former.adjustment, check=False)
        self._before, self._changed = [*former._before], former._changed

    @property
    def entry(self) -> tuple[Path, str]:
        """Its store, and its name in there."""
        return self.shown.result.store.path, api.kept_name(self.shown.result.plan)

    def has_pixels_of(self, plan: Plan) -> bool:
        """Return whether it is made with the settings of `plan`, whatever the area."""
        own = self.shown.result
        return own.store.path == plan.store and own.plan.key == plan.key

    def is_of(self, plan: Plan) -> bool:
        """Return whether it is the whole result of `plan`."""
        own = self.shown.result.plan
        is_same = own.read == plan.read and api.kept_name(own) == api.kept_name(plan)
        return is_same and self.result is not None and self.has_pixels_of(plan)

    def shows(self, plan: Plan) -> bool:
        """Return whether all that `plan` makes is finished in this."""
        shown, area = self.shown, plan.region
        # Of drawn areas only a part is shown.
        is_within = shown.result.mask is None and area.intersect(shown.region) == area
        return is_within and shown.covers(area) and self.has_pixels_of(plan)

    def _apply(self, adjustment: Adjustment, *, check: bool) -> None:
        self.shown.adjust(adjustment, check=check)
        if self.result is not None:
            self.result = self.shown.result
            self.record = self.result.record
        elif self.record is not None:
            self.record = {**self.record, "adjustment": adjustment.to_dict()}

    def complete(self, result: Result) -> None:
        """Show the whole result; it stays adjusted as it is."""
        self.shown.finish(result)
        self.result = self.shown.result
        self.record = self.result.record
        self.completed.emit()

    @property
    def layer(self) -> ImageLayer:
        return self.shown.layer

    @property
    def name(self) -> str:
        """Its name: that of its layer."""
        return str(self.layer.name)
