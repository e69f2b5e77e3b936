"""The tab for attributions: which pixels of the image made a part of the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from psygnal import Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout

from napari_restore import api
from napari_restore.errors import BadParameter, RestoreError
from napari_restore.plugin.attribution._attribution_form import CLEAR, AttributionForm
from napari_restore.plugin.attribution._attribution_request import AttributionRequest
from napari_restore.plugin.attribution._attribution_task import AttributionResult, AttributionTask
from napari_restore.plugin.attribution._results_section import AttributionResultsSection
from napari_restore.plugin.attribution._target_controller import TargetController
from napari_restore.plugin.runs._run_bar import RunBar
from napari_restore.plugin.state._targets import Area
from napari_restore.plugin.tasks._notices import error_text, show_problem
from napari_restore.plugin.widgets._folding import bring_into_view
from napari_restore.plugin.widgets._section import Section

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.plugin.runs._run_controller import RunController
    from napari_restore.plugin.state._state import RestoreState

HINT = "Which pixels of the image made what the method does in a box: where it looked, not why."


class AttributionTab(Section):
    """Chooses a target and a method for image and model of the panel, and shows the maps."""

    TITLE: ClassVar[str] = "Attribution"
    ended = Signal(str, object)
    """As `AttributionTask.ended`."""

    def __init__(self, viewer: ViewerModel, state: RestoreState, runs: RunController) -> None:
        super().__init__(viewer, state)
        self._runs = runs
        self._begun = 0
        """How many attributions there have been: layers are numbered."""
        self.task: AttributionTask | None = None
        self.target = TargetController(viewer, state, self)
        self.form = AttributionForm(self)
        self.bar = RunBar(self)
        self.bar.live.hide()
        self.bar.plan_line.hide()
        self.results = AttributionResultsSection(viewer, state)
        hint = QLabel(HINT, self)
        hint.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        for widget in (hint, self.form, self.bar, self.results):
            layout.addWidget(widget)
        layout.addStretch(1)
        self.form.tool_requested.connect(self.target.use)
        self.form.side_changed.connect(self._on_side)
        self.target.changed.connect(self.show_target)
        self.bar.pressed.connect(self.toggle)
        self.results.rerun_requested.connect(self._on_rerun)
        self.listen(state.events.layer, self._on_layer)
        self.listen(state.events.model, self._on_model)
        self._on_layer()
        self._on_model()

    def leave(self) -> None:
        """End the attribution, and disconnect from the viewer."""
        task, self.task = self.task, None
        if task is not None:
            task.layers.remove()
        self.target.leave()
        self.results.leave()
        super().leave()

    def setVisible(self, visible: bool) -> None:
        """Show or hide the tab; when it is shown, list the methods there are."""
        super().setVisible(visible)
        if visible:
            self.form.list_methods()

    # -- the request ---------------------------------------------------------------

    def _on_layer(self) -> None:
        self.target.use(None)
        layer = self.state.layer
        self.bar.allow(layer is not None)
        self.form.show_image(None if layer is None else self.state.named_image(layer))
        self.show_target()

    def _on_model(self) -> None:
        cards = (card for card in api.models() if card.id == self.state.model)
        self.form.show_card(next(cards, None))

    def _on_side(self, side: int) -> None:
        self.target.side = side

    def show_target(self) -> None:
        """Show the target's size and place, or why there is none."""
        self.form.show_tool(self.target.tool)
        try:
            y0, x0, y1, x1 = self.target.target().box
        except RestoreError as error:
            self.form.box.setText(error_text(error))
        else:
            self.form.box.setText(f"{x1 - x0} × {y1 - y0} pixels at x {x0}, y {y0}")

    def request(self) -> AttributionRequest:
        """Return what the form is set to; raises `RestoreError` where something is missing."""
        target, settings = self.target.target(), self.form.method_settings()
        run = self.state.request(Area((target.box,)))
        alone = run.image.companions is None
        if alone and settings.method in CLEAR and not settings.baseline:
            raise BadParameter(
                "This method goes from a clear image of the same scene.",
                "Choose one under Baseline.",
            )
        level = self.form.level.currentData() or 0
        return AttributionRequest(run, target.box, target.polygon, settings, level)

    # -- the attribution -------------------------------------------------------------

    def toggle(self) -> None:
        """Compute an attribution of the target, or cancel the one under way."""
        if self.task is not None:
            self.task.cancel()
            return
        try:
            request = self.request()
        except RestoreError as error:
            show_problem(error)
            return
        assert self.state.layer is not None
        self._start(request, self.state.layer)

    def cancel(self) -> None:
        """Stop after the present point of the path."""
        if self.task is not None:
            self.task.cancel()

    def _on_rerun(self, request: AttributionRequest) -> None:
        current = self.results.current
        if current is not None:
            self._start(request, current.source)

    def _start(self, request: AttributionRequest, source: ImageLayer) -> None:
        number = self._begun + 1
        task = self._runs.begin(
            lambda: AttributionTask(self.viewer, source, request, number), "Attributions are"
        )
        if task is None:
            return
        self._begun = number
        self.task = task
        self.target.use(None)
        task.view = self.results.view.currentData()
        task.exponent = self.results.exponent.currentData()
        task.happened.connect(self.bar.show_event)
        task.appeared.connect(self.results.hide_layers)
        task.ended.connect(self._on_ended)
        self.bar.show_running(True)
        self.bar.show_message("Loading the method …")

    def _on_ended(self, status: str, outcome: Any) -> None:
        task, self.task = self.task, None
        assert task is not None
        self.bar.show_running(False)
        if status != "done":
            self.results.show_layers()
        if status == "failed":
            self.bar.show_message(error_text(outcome))
            show_problem(outcome)
        elif status == "cancelled":
            self.bar.show_message("Cancelled.")
        else:
            measured = outcome.record["measured"]
            self.bar.show_message(f"Done in {measured['seconds']:.1f} s.")
            self.results.add(AttributionResult(outcome, task.layers, task.source, task.request))
            if self.isVisible():
                # The form fills a low window: the results are below.
                bring_into_view(self.results)
        self.ended.emit(status, outcome)
