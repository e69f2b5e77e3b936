"""Results of an image that lie in the cache from earlier, to show or resume."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget
from superqt import QElidingLabel

from napari_restore import Region, api
from napari_restore.errors import RestoreError, escape_controls
from napari_restore.plugin.layers.layer_order import LIVE, insert_above
from napari_restore.plugin.layers.result_layer import ResultLayer
from napari_restore.plugin.method.model_files_dialog import TrustDialog
from napari_restore.plugin.results.variant_text import is_whole, target_of_mask
from napari_restore.plugin.state.request import (
    Area,
    ChosenMethod,
    Exclusion,
    NamedBands,
    RunRequest,
    TargetChoice,
)
from napari_restore.plugin.state.state import NAMED_AS, RestoreState
from napari_restore.plugin.state.variant import Variant
from napari_restore.plugin.tasks.notices import show_problem
from napari_restore.plugin.tasks.task import LatestQuery, in_background
from napari_restore.plugin.widgets.folding import add_button, column_of, row_of
from napari_restore.questions import Computing, Reading, Restore, part_of

if TYPE_CHECKING:
    from napari.components import LayerList, ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.engine import KeptResult, Result
    from napari_restore.images import Image


def record_of(variant: Variant) -> dict[str, Any]:
    """Return the record with all that repeats it: its task, and the command for its pixels."""
    result = variant.shown.result
    record = dict(variant.record or {})
    task = record.get("task") or api.task_of(result.plan)
    record["task"] = None if task is None else api.portable_task(task)
    if not record["command"]:
        written = record["output"] or {}
        record["command"] = api.known_command(
            result.plan,
            written.get("path") or "OUT.tif",
            device=variant.request.options.machine.device,
            **written.get("options", {}),
        )
    return record


def store_result(variant: Variant) -> None:
    """List a result in its store, for a later window; one that is live by the name of a run."""
    result = variant.shown.result
    task = api.task_of(result.plan)
    if task is not None:
        name = variant.name.removeprefix(LIVE)
        api.keep_result(result.store.path, task, name, variant.title, variant.record)


def variant_of_stored(
    kept: KeptResult, result: Result, viewer: ViewerModel, source: ImageLayer
) -> Variant:
    """Show a stored result, or as much as there is of it, above its source."""
    shown = ResultLayer(result, source, kept.title)
    shown.mark_all([Region(*line["region"]) for line in result.store.journal])
    whole = result if kept.complete else None
    if whole is not None:
        shown.finish(whole)
    # The user consented when the model was loaded.
    trust = api.code_file(str(kept.task["model"]["model"])) is not None
    request = request_of_stored(kept, result.image.given, trust=trust)
    variant = Variant(
        request, source, kept.method, shown, record=result.record or None, result=whole
    )
    insert_above(viewer, source, shown.layer)
    return variant


def request_of_stored(kept: KeptResult, image: Image, *, trust: bool = False) -> RunRequest:
    """Return the request of a kept result; `trust` is the user's consent of today."""
    model, options = kept.task["model"], kept.task["options"]
    return RunRequest(
        image=image,
        model=model["model"],
        weights=model["weights"],
        trust=trust,
        parameters=tuple(sorted(model["parameters"].items())),
        area=Area(tuple(Region(*box) for box in options["region"]), options["mask"]),
        # The plan has decided the tiles.
        options=Restore.of(part_of(options, Reading, Computing)).replacing(
            feather=options["feather"],
            tile=None,
            tile_batch=options["tile_batch"] if (options["tile_batch"] or 1) > 1 else None,
            maps=bool(options["maps"]),
            pyramid=True,
        ),
        named=names_of_stored(kept),
    )


def names_of_stored(kept: KeptResult) -> NamedBands:
    """Return what the user had said of the image's bands."""
    spec = kept.task["image"]
    roles = spec.get("bands")
    if isinstance(roles, dict):
        roles = ",".join(f"{role}={number}" for role, number in roles.items())
    return NamedBands(None if roles is None else str(roles), spec.get("sensor"))


def apply_settings(state: RestoreState, variant: Variant, layers: LayerList) -> None:
    """Set the state as it was for a result; the panel's widgets follow the state."""
    # The view stays: of the area only its kind comes back. Where its source is no longer among the
    # `layers`, the settings are for the image that is chosen.
    request = variant.request
    known: dict[str, Any] = {}
    if variant.source in layers:
        # The form takes them from there, whenever it shows this layer.
        variant.source.metadata[NAMED_AS] = request.named
        known |= {"layer": variant.source, "named": request.named}
    known["method"] = ChosenMethod(
        request.model,
        weights=request.weights,
        trust=request.trust,
        parameters=dict(request.parameters),
    )
    target = target_of(variant)
    if target is not None:
        known["target"] = target
    # Last: a run that waits for a mask starts with all of these.
    known |= {"options": request.options, "exclusion": Exclusion()}
    for name, value in known.items():
        setattr(state, name, value)


def target_of(variant: Variant) -> TargetChoice | None:
    """Return the target a result was made for; None where it is unknown."""
    mask = variant.request.area.mask
    if mask is not None:
        target = target_of_mask(mask)
        return None if target is TargetChoice.PAINTED else target
    return TargetChoice.WHOLE if is_whole(variant.request) else TargetChoice.VISIBLE


FAILURE = "The earlier result cannot be opened"
ROWS_SHOWN = 6
"""The newest; older ones follow when these are deleted or shown."""


class EarlierResults(QWidget):
    """One row per earlier result: Show or Go on, and Delete."""

    # Searching, planning and deleting happen on other threads; a result for an image that is no
    # longer the chosen one is dropped.

    shown = Signal(object, object)
    """The `KeptResult` to show, or to go on with, and its `Result`."""
    delete_requested = Signal(object)
    """The `KeptResult` whose Delete was clicked."""
    found = Signal(object)
    """The results that a search has found."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rows: list[EarlierRow] = []
        self._image: Image | None = None
        self._is_listed: Callable[[KeptResult], bool] = lambda kept: False
        self._query = LatestQuery(FAILURE, self, self._on_found)
        self.dialog: TrustDialog | None = None
        self.title = QLabel("From earlier", self)
        self.title.setToolTip("Results of this image that are kept in the cache")
        self._list = QVBoxLayout()
        column_of(self, self.title, self._list)
        self.hide()

    def search(self, image: Image | None, known: Callable[[KeptResult], bool]) -> None:
        """Find what the cache has of `image`, less what is `known`; soon, on another thread."""
        if image is not self._image:
            self._show([])
            self.found.emit([])
        self._image, self._is_listed = image, known
        self._query.discard()
        if image is not None and image.spec is not None:
            self._query.submit(object(), partial(api.kept_results, image))

    def discard(self) -> None:
        """Drop the results of searches under way."""
        self._query.discard()
        self._image = None

    def _on_found(self, _: Any, result: list[KeptResult] | RestoreError) -> None:
        # That an image cannot be read is reported elsewhere.
        kept = [] if isinstance(result, RestoreError) else result
        kept = [one for one in kept if not self._is_listed(one)]
        self._show(kept)
        self.found.emit(kept)

    def _show(self, kept: list[KeptResult]) -> None:
        for row in self.rows:
            self._list.removeWidget(row)
            row.hide()
            row.deleteLater()
        self.rows = [EarlierRow(one, self) for one in kept[:ROWS_SHOWN]]
        more = len(kept) - len(self.rows)
        self.title.setText(f"From earlier, and {more} older" if more else "From earlier")
        for row in self.rows:
            row.open.clicked.connect(lambda *_, row=row: self._on_open(row))
            row.delete.clicked.connect(lambda *_, row=row: self.delete_requested.emit(row.kept))
            self._list.addWidget(row)
        self.setVisible(bool(kept))

    def _on_open(self, row: EarlierRow) -> None:
        model = str(row.kept.task["model"]["model"])
        code = api.code_file(model)
        if code is None:
            self._open(row, trust=False)
            return
        # An entry in the cache is no consent of the user's.
        self.dialog = TrustDialog(Path(code), [], self)
        self.dialog.accepted.connect(partial(self._open, row, trust=True))
        self.dialog.open()

    def _open(self, row: EarlierRow, *, trust: bool) -> None:
        image, kept = self._image, row.kept
        if image is None or row not in self.rows:
            return
        row.setEnabled(False)
        in_background(
            partial(api.result_of_kept, kept, image, trust=trust),
            self._on_opened,
            image,
            kept,
            failure=FAILURE,
            hint="Run it again.",
        )

    def _on_opened(self, image: Image, kept: KeptResult, result: Result | RestoreError) -> None:
        for row in self.rows:
            if row.kept is kept:
                row.setEnabled(True)
        if image is not self._image:
            return
        if isinstance(result, RestoreError):
            show_problem(result)
        else:
            self.shown.emit(kept, result)


class EarlierRow(QWidget):
    """One earlier result."""

    def __init__(self, kept: KeptResult, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.kept = kept
        label = QElidingLabel(_description(kept), self)
        label.setToolTip(_description(kept))
        if kept.complete:
            self.open = add_button(self, "Show", "Show it again, without running")
        else:
            self.open = add_button(self, "Go on", "Run what is left of it")
        self.delete = add_button(self, "Delete …", "Remove it from the cache")
        self.setLayout(row_of(label, self.open, self.delete))


def _description(kept: KeptResult) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept.used))
    state = "" if kept.complete else f" · {kept.finished:.0%} finished"
    return f"{escape_controls(kept.title)} · {when}{state}"
