"""Chooses a method: by task and scene first, then by its title."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFormLayout, QLabel, QWidget

from napari_restore import api
from napari_restore.errors import UnknownBands, escape_controls
from napari_restore.plugin.tasks.notices import error_text
from napari_restore.plugin.widgets.editors import NarrowComboBox
from napari_restore.plugin.widgets.folding import add_button, column_of, row_of

if TYPE_CHECKING:
    from napari_restore.images import Image
    from napari_restore.models import ModelCard

MARK = "★ "
"""Before the title and the summary of a recommended model."""
TASKS = {
    "dehaze": "Remove haze",
    "fuse": "Fuse exposures",
    "lowlight": "Brighten",
    "denoise": "Remove noise",
    "derain": "Remove rain",
    "desnow": "Remove snow",
    "deblur": "Sharpen",
    "other": "Not listed here",
}
LETTERS = 10
"""Of a choice that are seen at least."""
SCENES = {"aerial": "Aerial or satellite image", "natural": "Photo from the ground"}


@dataclass(frozen=True)
class ModelChoice:
    """A model that can be run: one that is known, or a file of the user's."""

    card: ModelCard
    model: str
    """What `load_model` takes: an id, or a path."""
    weights: str | None = None
    trust: bool = False
    """Whether the user has allowed the file's code to run."""

    @property
    def key(self) -> str:
        """Tells it from all others."""
        return self.weights or self.model


class ModelChooser(QWidget):
    """Titles to choose from, the recommended one marked, what it is for below."""

    # Methods that cannot run on the image are shown but cannot be chosen; their tooltip says why.
    # Those of the task "other" belong to every task; a file of the user's that has this task is
    # chosen under none of the others.

    changed = Signal(str)
    """The key of the chosen model; also when only its card has changed."""
    file_requested = Signal()
    """The user wants to add a model file."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._choices: dict[str, ModelChoice] = {}
        self._added: list[ModelChoice] = []
        self._known: Sequence[ModelCard] = ()
        self._image: Image | None = None
        self._guess = ""
        self._not_chosen = ""
        """Why the recommended method is not the default, while the user has not chosen."""
        self._picked = False
        """Whether the user chose, rather than what stands first."""
        self._form: QFormLayout | None = None
        self._applies = True
        self.task = NarrowComboBox(self, LETTERS, "What shall be done")
        tip = "What the image shows decides which methods come first"
        self.scene = NarrowComboBox(self, LETTERS, tip)
        tip = "How it is done; the star marks what is recommended"
        self.combo = NarrowComboBox(self, LETTERS, tip)
        self._summary = QLabel(self, wordWrap=True)
        self._summary.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.add_button = add_button(
            self,
            "+",
            "Add a model file: weights (.safetensors, .pth), a network (.onnx, .pt2) or "
            "Python (.py). It can also be dropped onto this panel",
        )
        self.add_button.setAccessibleName("Add a model file")
        self.add_button.setFixedWidth(2 * self.add_button.fontMetrics().height())
        column_of(self, row_of(self.combo, self.add_button))
        self.task.currentIndexChanged.connect(self._fill)
        self.scene.currentIndexChanged.connect(self._fill)
        self.combo.currentIndexChanged.connect(self._on_picked)
        self.add_button.clicked.connect(self.file_requested)

    def add_rows(self, form: QFormLayout) -> None:
        """Add the rows Task, Scene and Method, and what that is for."""
        self._form = form
        form.addRow("Task", self.task)
        form.addRow("Scene", self.scene)
        form.addRow("Method", self)
        form.addRow(self._summary)

    def show_rows(self, applies: bool) -> None:
        """Show the rows of which there is a choice, or none where no method `applies`."""
        self._applies = applies
        if self._form is not None:
            for each in (self.task, self.scene):
                self._form.setRowVisible(each, applies and each.count() > 1)
            for other in (self, self._summary):
                self._form.setRowVisible(other, applies)

    def offer(self, cards: Sequence[ModelCard], scene: str, image: Image | None = None) -> None:
        """Offer `cards` and the user's own files for `image`, which looks like a `scene`."""
        self._known, self._image = cards, image
        # The user's choices stay where they can; another guess of the scene replaces his.
        if scene != self._guess:
            self._guess = scene
        else:
            scene = self.scene.currentData() or scene
        own = [choice.card for choice in self._added]
        offered = [*cards, *own]
        found = dict.fromkeys(s for card in offered for s in card.scenes)
        self.scene.offer(((SCENES.get(s, s.capitalize()), s) for s in found), scene)
        tasks = dict.fromkeys(str(card.task) for card in cards if card.task != "other")
        tasks |= dict.fromkeys(str(card.task) for card in own)
        names = [(TASKS.get(task, task.capitalize()), task) for task in tasks]
        self.task.offer(names, self.task.currentData())
        self.show_rows(self._applies)
        self._fill()

    def add(self, choice: ModelChoice) -> None:
        """Offer a file of the user's, now and with every image, and choose it."""
        self._added = [other for other in self._added if other.key != choice.key]
        self._added.append(choice)
        self.offer(self._known, self._guess, self._image)
        self.choose(choice.key)

    def choose(self, key: str) -> None:
        """Choose as clicks would, its task first; a key that is not offered changes nothing."""
        choice = next((choice for choice in self._offered() if choice.key == key), None)
        if choice is not None:
            self.task.choose(choice.card.task)
        self.combo.choose(key)

    def model(self) -> str:
        """Return the chosen key, "" while nothing is offered."""
        return self.combo.currentData() or ""

    def choice(self) -> ModelChoice | None:
        return self._choices.get(self.model())

    def card(self) -> ModelCard | None:
        choice = self.choice()
        return None if choice is None else choice.card

    def _offered(self) -> list[ModelChoice]:
        return [*(ModelChoice(card, card.id) for card in self._known), *self._added]

    def _fill(self) -> None:
        """Offer what task and scene ask for, the recommended first."""
        task, scene = self.task.currentData(), self.scene.currentData()
        chosen = self.model()
        shown = [c for c in self._offered() if c.card.task in (task, "other", None)]
        shown.sort(key=lambda choice: _rank(choice.card, scene))
        self._choices = {choice.key: choice for choice in shown}
        found = {choice.key: self._why_not(choice.card) for choice in shown}
        usable = [key for key, (reason, _) in found.items() if not reason]
        named = [key for key in usable if not found[key][1]]
        self._not_chosen = ""
        if usable and (chosen not in usable or not self._picked):
            # Missing roles are shown only once a model that needs them is chosen.
            chosen = (named or usable)[0]
            first = shown[0]
            if scene in first.card.recommended_for and first.key != chosen:
                self._not_chosen = self._reason_against(first.card)
        self.combo.offer(((_title(choice.card, scene), choice.key) for choice in shown), chosen)
        for number, choice in enumerate(shown):
            reason, _ = found[choice.key]
            if reason:
                # The only model Qt gives a combo box by itself.
                self.combo.model().item(number).setEnabled(False)  # type: ignore[attr-defined]
            tip = reason or choice.card.summary
            self.combo.setItemData(number, tip, Qt.ItemDataRole.ToolTipRole)
        self._on_chosen()

    def _why_not(self, card: ModelCard) -> tuple[str, bool]:
        """Return why `card` cannot run on the image ("" if it can), and whether its bands must be named first."""
        if self._image is None:
            return "", False
        try:
            return "", bool(api.missing_roles(self._image, card))
        except UnknownBands as error:
            return error_text(error), False

    def _reason_against(self, card: ModelCard) -> str:
        """Return why the recommended method is not chosen."""
        reason, needs_roles = self._why_not(card)
        if not needs_roles:
            return f"{MARK}{card.title} is recommended, but cannot run here: {reason}"
        return (
            f"{MARK}{card.title} is recommended, but must know which bands are red, green "
            "and blue. Choose it to name them."
        )

    def _on_picked(self) -> None:
        self._picked = True
        self._not_chosen = ""
        self._on_chosen()

    def _on_chosen(self) -> None:
        card = self.card()
        if card is None:
            return
        recommended = self.scene.currentData() in card.recommended_for
        lines = [(f"{MARK}Recommended. " if recommended else "") + card.summary]
        if card.validated_on:
            # Without the figures, which follow a colon.
            lines.append(f"Tested on {card.validated_on.partition(':')[0].rstrip('.')}.")
        scene = self.scene.currentData()
        if scene is not None and scene not in card.scenes:
            made_for = " or ".join(SCENES.get(s, s).lower() for s in card.scenes)
            lines.insert(0, f"Made for another scene ({made_for}): check the colours of the sky.")
        if self._not_chosen:
            lines.insert(0, self._not_chosen)
        self._summary.setText("\n".join(lines))
        lines = [
            card.caveats,
            card.validated_on and f"Tested on {card.validated_on}",
            card.source,
        ]
        self._summary.setToolTip("\n\n".join(filter(None, lines)))
        self.changed.emit(self.model())


def offered_models(image: Image | None = None) -> list[ModelCard]:
    """Return the models that run as they are on `image`, not those whose weights are missing."""
    # For the frames of a bracket those that fuse so many, else those of a single image.
    frames = 1 if image is None else len(image.frames)
    fitting = (0, frames) if frames > 1 else (1,)
    return [card for card in api.models() if api.is_ready(card.id) and card.inputs in fitting]


def _title(card: ModelCard, scene: str) -> str:
    return (MARK if scene in card.recommended_for else "") + escape_controls(card.title)


def _rank(card: ModelCard, scene: str) -> tuple[bool, bool, bool]:
    """Return the sort key: recommended for the scene, made for it, made for the task."""
    return scene not in card.recommended_for, scene not in card.scenes, card.task == "other"
