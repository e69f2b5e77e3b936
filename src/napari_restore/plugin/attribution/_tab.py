"""The tab that asks which pixels made a result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from psygnal import Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout

from napari_restore import api
from napari_restore.engine import Note, Phase, Progress
from napari_restore.errors import BadParameter, RestoreError
from napari_restore.plugin._folding import bring_into_view
from napari_restore.plugin._notices import show_note, show_problem, words_of
from napari_restore.plugin._section import Section
from napari_restore.plugin._state import image_of
from napari_restore.plugin.areas._targets import Area
from napari_restore.plugin.attribution._attribution_job import AttributionJob
from napari_restore.plugin.attribution._beside import Found
from napari_restore.plugin.attribution._box_tool import BoxTool
from napari_restore.plugin.attribution._found import FoundSection
from napari_restore.plugin.attribution._question import Question
from napari_restore.plugin.attribution._question_form import CLEAR, QuestionForm
from napari_restore.plugin.runs._run_bar import RunBar

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.engine import Event
    from napari_restore.plugin._state import RestoreState

HINT = "Which pixels of the image made what the method does in a box: where it looked, not why."


class AttributionTab(Section):
    """Puts a question about the image and model of the panel, and shows the answers."""

    TITLE: ClassVar[str] = "Attribution"
    ended = Signal(str, object)
    """As `AttributionJob.ended`."""

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self.asking: AttributionJob | None = None
        self._asked = 0
        self.box = BoxTool(viewer, state, self)
        self.form = QuestionForm(self)
        self.bar = RunBar(self)
        self.bar.live.hide()
        self.bar.plan_line.hide()
        self.found = FoundSection(viewer, state)
        hint = QLabel(HINT, self)
        hint.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        for widget in (hint, self.form, self.bar, self.found):
            layout.addWidget(widget)
        layout.addStretch(1)
        self.form.tool_wanted.connect(self.box.use)
        self.form.side_changed.connect(self._on_side)
        self.box.changed.connect(self.show_box)
        self.bar.run_requested.connect(self.run)
        self.bar.cancel_requested.connect(self.cancel)
        self.found.follow_wanted.connect(self._follow)
        self.listen(state.events.layer, self._on_layer)
        self.listen(state.events.model, self._on_model)
        self._on_layer()
        self._on_model()

    def leave(self) -> None:
        """End the attribution, and release the viewer."""
        if self.asking is not None:
            self.asking.abandon()
            self.asking.layers.remove()
            self.asking = None
            self.state.running = False
        self.box.leave()
        self.found.leave()
        super().leave()

    def setVisible(self, visible: bool) -> None:
        """The tab was chosen, or left."""
        super().setVisible(visible)
        if visible:
            self.form.look_for_methods()

    # -- the question -----------------------------------------------------------

    def _on_layer(self) -> None:
        self.box.use(None)
        layer = self.state.layer
        self.bar.allow(layer is not None)
        self.form.show_image(None if layer is None else image_of(layer, self.state.bands))
        self.show_box()

    def _on_model(self) -> None:
        cards = (card for card in api.models() if card.id == self.state.model)
        self.form.show_card(next(cards, None))

    def _on_side(self, side: int) -> None:
        self.box.side = side

    def show_box(self) -> None:
        """Say which box counts now."""
        self.form.show_tool(self.box.tool)
        try:
            y0, x0, y1, x1 = self.box.target().box
        except RestoreError as error:
            self.form.box.setText(words_of(error))
        else:
            self.form.box.setText(f"{x1 - x0} × {y1 - y0} pixels at x {x0}, y {y0}")

    def question(self) -> Question:
        """Return the question as the form has it; raises `RestoreError` where something is missing."""
        target, options = self.box.target(), self.form.values()
        if options["method"] in CLEAR and not options["baseline"]:
            raise BadParameter(
                "This method goes from a clear image of the same scene.",
                "Choose one under Baseline.",
            )
        request = self.state.request(Area((target.box,)))
        return Question(request, target.box, target.polygon, **options)

    # -- asking ------------------------------------------------------------------

    def run(self) -> None:
        """Ask, unless something is under way."""
        if self._is_busy():
            return
        try:
            question = self.question()
        except RestoreError as error:
            show_problem(error)
            return
        assert self.state.layer is not None
        self._ask(question, self.state.layer)

    def _follow(self, question: Question) -> None:
        """Ask about the image of the current answer again."""
        current = self.found.current
        if current is not None and not self._is_busy():
            self._ask(question, current.source)

    def _is_busy(self) -> bool:
        if self.state.running:
            show_note("A run is going on. Wait for its end, or press Cancel.")
        return bool(self.state.running)

    def _ask(self, question: Question, layer: ImageLayer) -> None:
        self.box.use(None)
        self._asked += 1
        asking = self.asking = AttributionJob(self.viewer, layer, question, self._asked)
        asking.view = self.found.view.currentData()
        asking.exponent = self.found.exponent.currentData()
        asking.happened.connect(self._on_event)
        asking.appeared.connect(self.found.make_room)
        asking.ended.connect(self._on_ended)
        # Closing the window destroys its widgets without closing them.
        self.destroyed.connect(asking.abandon)
        self.state.running = True
        self.bar.show_running(True)
        self.bar.show_message("Loading the method …")
        asking.start()

    def cancel(self) -> None:
        """Stop after the point in hand."""
        if self.asking is not None:
            self.asking.cancel()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Progress):
            self.bar.show_progress(event.done, event.total, event.seconds_left)
        elif isinstance(event, Phase):
            self.bar.show_message(f"{event.name} …")
        elif isinstance(event, Note):
            show_note(event.text)

    def _on_ended(self, status: str, outcome: Any) -> None:
        asking, self.asking = self.asking, None
        assert asking is not None
        self.destroyed.disconnect(asking.abandon)
        self.state.running = False
        self.bar.show_running(False)
        if status != "done":
            self.found.show_again()
        if status == "failed":
            self.bar.show_message(words_of(outcome))
            show_problem(outcome)
        elif status == "cancelled":
            self.bar.show_message("Cancelled.")
        else:
            measured = outcome.record["measured"]
            self.bar.show_message(f"Done in {measured['seconds']:.1f} s.")
            self.found.add(Found(outcome, asking.layers, asking.source, asking.question))
            if self.isVisible():
                # The question fills a low window: its answer is below.
                bring_into_view(self.found)
        self.ended.emit(status, outcome)
