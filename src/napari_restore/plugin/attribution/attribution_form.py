"""The settings of an attribution: target, method, baseline, objective and the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QFileDialog, QLabel, QPushButton, QSpinBox, QWidget

from napari_restore import api
from napari_restore.errors import RestoreError
from napari_restore.plugin.tasks.task import in_background
from napari_restore.plugin.widgets.editors import (
    NarrowComboBox,
    OptionRows,
    combo_of,
    line_edit,
    number_box,
)
from napari_restore.plugin.widgets.folding import add_button, flowing, form_layout, in_a_row
from napari_restore.questions import AUTO, CHECK, STOP, THROUGH, Attribute

if TYPE_CHECKING:
    from napari_restore.explain import MethodInfo
    from napari_restore.images import Image
    from napari_restore.models import ModelCard

METHODS = {
    None: "Automatic",
    "haze": "Haze path: along thinner haze",
    "ig": "Integrated gradients: from a baseline",
    "lam": "LAM: from a blur",
    "dam": "DAM: from a clear image",
    "occlusion": "Occlusion: patch by patch, a cross-check",
    "smoothgrad": "SmoothGrad: gradients under noise, a cross-check",
    "lam-2021": "LAM as published (2021)",
    "dam-paper": "DAM as in its paper",
    "dam-released": "DAM as its code: NOT a path integral",
}
WITH_BASELINE = ("ig", "occlusion", "dam", "dam-paper", "dam-released")
BASELINES = {
    "blur": "the image, blurred",
    "dehazed": "dehazed by dark channel",
    "output": "the model's own output",
    "zero": "zeros",
}
BRACKET_BASELINES = {
    "zero": "zeros",
    "blur": "all frames, blurred",
    "reference": "the reference in place of every frame",
}
CLEAR = ("dam", "dam-paper", "dam-released")
"""Methods that begin at a clear image."""
FILE, CHANNEL = "file", "channel"
NO_FILE = "a clear image …"
"""Title of the choice of a file, until one is chosen."""
OBJECTIVES = {
    None: "Automatic",
    "change": "Change: output − input",
    "mean": "Mean of the output",
    "sum": "Sum of the output",
    "gradient": "Edges: length of its gradient",
    "mean+variance": "Mean and variance",
    CHANNEL: "Mean of one band:",
}
CONTEXT_GRADIENTS = {
    AUTO: "Automatic",
    STOP: "Constant",
    THROUGH: "Gradient goes through",
}
ROUTINGS = {
    None: "Fixed, as for the image",
    "recomputed": "Recomputed at every point",
}
SUPERPIXELS = "slic"
SEGMENTS = {None: "Pixels", SUPERPIXELS: "Superpixels, about"}
"""What has a share of its own, beside the layers of labels."""
TOOLS = {
    "rectangle": ("Box", "Drag a box over the target; Escape leaves it"),
    "click": ("Click", "Click the image: a box is put there, as large as said below"),
    "polygon": ("Polygon", "Click the corners; a double click closes it"),
}


TIPS = {
    "method": "Automatic: along thinner haze for methods that remove haze, else integrated gradients, "
    "of a bracket those of its mean from zeros. "
    'Those of captum are offered where it is installed: pip install "napari-restore[captum]"',
    "arguments": "name=value name=value: settings of the method, with spaces between",
    "layer": "A layer of the network by its name in PyTorch; a wrong name is answered by those there are",
    "segments": "What has a share: each pixel, each superpixel (SLIC), or each label of a Labels layer, whose 0 "
    "has none. Automatic then ablates one after the other: as many passes as there are segments",
    "objective": "The number that is made of the box. Automatic: the one that belongs to the method, "
    "mostly the change",
    "context_gradient": "What the model draws from the whole image, such as the airlight: a constant, or a "
    "function of the pixels, which networks that map the image allow. Automatic: a function where that is "
    "predicted to add less than ten seconds",
    "routing": "Which experts and tokens the network chooses. Fixed, the network is smooth along the path "
    "and the map complete",
    "gap": "Points are added until the shares make up what the model did so well",
    "check": "Whether the map ranks pixels better than chance and than distance from the box: 192 "
    "more pictures. It takes the context as a constant",
}
ALWAYS = frozenset({"method", "objective", "context_gradient", "gap"})
"""Options that every method has."""


def applicable(
    values: Mapping[str, Any], offered: MethodInfo | None, routes: bool
) -> frozenset[str]:
    """Return the options that apply to what a form is set to.

    `offered` is the explainer of a method that goes along no path, `routes` whether the model
    chooses experts or tokens, which is fixed along a path.
    """
    method, of_layer = values["method"], offered is not None and bool(offered.of_layer)
    # Of a layer its cells have shares.
    in_parts = not of_layer and values["segments"] is not None
    takes_baseline = method in WITH_BASELINE if offered is None else offered.takes_baseline
    applies = {
        "arguments": offered is not None,
        "routing": offered is None and routes,
        "layer": of_layer,
        "segments": not of_layer,
        "check": values["context_gradient"] != THROUGH,
        # Automatic is occlusion for parts. A check needs one where the method has none.
        "baseline": takes_baseline
        or (method is None and in_parts)
        or (offered is not None and values["check"]),
    }
    return ALWAYS | {name for name, is_so in applies.items() if is_so}


class AttributionForm(QWidget):
    """The settings of an attribution; `values` are fields of an `AttributionRequest`."""

    tool_requested = Signal(object)
    """``rectangle``, ``polygon``, ``click``, or None to end."""
    side_changed = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.tools = {name: self._tool(name) for name in TOOLS}
        self.side = number_box(self, (1, 4096), "Side of a box that is clicked", 128, suffix=" px")
        self.box = QLabel(self, wordWrap=True)
        self.clear_image = ""
        self._offers: dict[str, MethodInfo] | None = None
        self._routes = False
        self._rows = OptionRows(Attribute, changed=self._show_what_fits, tips=TIPS)
        self._build()
        self.method.currentIndexChanged.connect(self._on_method)
        self.baseline.activated.connect(self._on_baseline)
        self.side.valueChanged.connect(self.side_changed)
        self._on_method()

    def _build(self) -> None:
        form = self._form = form_layout(self)
        # Across the whole panel, which is narrow.
        form.addRow(flowing(*self.tools.values()))
        form.addRow("Target", self.box)
        form.addRow("Clicked box", self.side)
        add, combo = partial(self._rows.add, form), partial(combo_of, self)
        self.method = add("Method", "method", combo(METHODS))
        self.settings = add("Settings", "arguments", line_edit(self, ""))
        empty = "its dotted name, such as encoder.2"
        self.layer = add("Layer", "layer", line_edit(self, empty))
        tip = "How many superpixels the pixels are cut into that the box depends on"
        self.segments, self.superpixels = combo(SEGMENTS), number_box(self, (2, 5000), tip, 60)
        of_segments = in_a_row(self.segments, self.superpixels)
        add("Attribute to", "segments", self.segments, of_segments)
        self.baseline = add("Baseline", "baseline", combo({**BASELINES, FILE: NO_FILE}))
        self.objective, self.channel = combo(OBJECTIVES), QSpinBox(self)
        of_objective = in_a_row(self.objective, self.channel)
        add("Objective", "objective", self.objective, of_objective)
        self.context_gradient = add("Context", "context_gradient", combo(CONTEXT_GRADIENTS))
        self.routing = add("Routing", "routing", combo(ROUTINGS))
        tip = "The true pixels, or an overview, which is attributed faster. The map says which"
        self.level = NarrowComboBox(self, tip=tip)
        form.addRow("Level", self.level)
        gap = number_box(self, (0.01, 100), value=1, decimals=2, suffix=" %")
        self.gap = add("Largest gap", "gap", gap)
        self.check = add("Check", "check", QCheckBox("Insertion and deletion", self))

    def _tool(self, name: str) -> QPushButton:
        title, tip = TOOLS[name]
        button = add_button(self, title, tip, checkable=True)
        button.clicked.connect(lambda checked: self.tool_requested.emit(name if checked else None))
        return button

    def show_tool(self, tool: str | None) -> None:
        """Press the button of the tool in use."""
        for name, button in self.tools.items():
            button.setChecked(name == tool)

    def show_card(self, card: ModelCard | None) -> None:
        """Offer what a model of this card has; None where there is no card."""
        self._routes = card is not None and bool(card.routing)
        self._show_what_fits()

    def show_image(self, image: Image | None) -> None:
        """Offer the levels and bands of an image."""
        self.level.clear()
        self.level.addItem("true pixels", 0)
        self._offer_baselines(image is not None and image.companions is not None)
        if image is None:
            return
        self.channel.setRange(1, max(1, image.bands))
        for number, level in enumerate(image.planned_levels):
            scale = image.level_scale(number)
            if number and scale is not None:
                size = f"{level.width} × {level.height}"
                self.level.addItem(f"overview 1:{scale} ({size})", number)

    def show_labels(self, layers: dict[str, str]) -> None:
        """Offer layers of labels, names by their keys, as segments."""
        titles = [*SEGMENTS.items(), *layers.items()]
        self.segments.offer(((title, key) for key, title in titles), self.segments.currentData())
        self._show_what_fits()

    @property
    def labels(self) -> str | None:
        """The key of the layer of labels that is chosen; None where none is."""
        return None if self._segmented in SEGMENTS else self._segmented

    def _offer_baselines(self, of_bracket: bool) -> None:
        """Offer those of an image, or of a bracket."""
        choices = BRACKET_BASELINES if of_bracket else {**BASELINES, FILE: NO_FILE}
        if list(choices) != [self.baseline.itemData(n) for n in range(self.baseline.count())]:
            self.clear_image = ""
            self.baseline.offer((title, value) for value, title in choices.items())
            self._on_method()

    def list_methods(self, explainers: Callable[[], list[MethodInfo]]) -> None:
        """Offer the methods of other packages, as soon as they are known; called when it is shown."""
        if self._offers is None:
            self._offers = {}
            in_background(explainers, self._on_listed)

    def _on_listed(self, answer: Any) -> None:
        if isinstance(answer, RestoreError):
            # Asked again when the tab is shown again.
            self._offers = None
        else:
            self.offer(answer)

    def offer(self, explainers: list[MethodInfo]) -> None:
        """Offer methods without a path."""
        self._offers = {each.name: each for each in explainers}
        for name, each in self._offers.items():
            at = self.method.findData(name)
            if at < 0:
                at = self.method.count()
                self.method.addItem(name.replace(":", ": "), name)
            self.method.setItemData(at, each.source, Qt.ItemDataRole.ToolTipRole)
        self._on_method()

    def method_settings(self) -> Attribute:
        """Return the settings of the method; raises `BadParameter` for arguments that are none."""
        values = self._rows.values()
        if values["baseline"] == FILE:
            values["baseline"] = self.clear_image
        if values["objective"] == CHANNEL:
            values["objective"] = f"{CHANNEL}:{self.channel.value()}"
        by_slic = values["segments"] == SUPERPIXELS
        values["arguments"] = self._arguments()
        values["segments"] = f"{SUPERPIXELS}:{self.superpixels.value()}" if by_slic else None
        values["gap"] /= 100
        values["check"] = CHECK if values["check"] else None
        return Attribute(**{name: values[name] for name in self._applicable})

    def _arguments(self) -> dict[str, Any]:
        if self._offered is None:
            return {}
        given = api.arguments_in(self.settings.text())
        if self._segmented is not None:
            return {k: v for k, v in given.items() if k not in self._offered.patch_arguments}
        return given

    @property
    def _offered(self) -> MethodInfo | None:
        """The explainer of a method that goes along no path; else None."""
        return (self._offers or {}).get(self.method.currentData())

    @property
    def _applicable(self) -> frozenset[str]:
        return applicable(self._rows.values(), self._offered, self._routes)

    @property
    def _segmented(self) -> str | None:
        """What has a share of its own; None for pixels."""
        return self.segments.currentData() if "segments" in self._applicable else None

    def _on_method(self) -> None:
        method, offered = self.method.currentData(), self._offered
        self.settings.setText("" if offered is None else offered.settings)
        self._show_what_fits()
        if method in CLEAR and self.baseline.currentData() != FILE:
            self.baseline.setCurrentIndex(self.baseline.findData(FILE))
        elif method not in CLEAR and not self.clear_image:
            self.baseline.setCurrentIndex(0)

    def _show_what_fits(self) -> None:
        """Show and enable what method, model and the other settings leave to choose."""
        applies = self._applicable
        for row in ("arguments", "layer", "routing"):
            self._form.setRowVisible(self._rows.widgets[row], row in applies)
        for name in ("segments", "check", "baseline"):
            self._rows.widgets[name].setEnabled(name in applies)
        self.superpixels.setVisible(self._segmented == SUPERPIXELS)
        self.channel.setVisible(self.objective.currentData() == CHANNEL)

    def _on_baseline(self) -> None:
        if self.baseline.currentData() == FILE:
            path, _ = QFileDialog.getOpenFileName(self, "A clear image of the same scene")
            self.name_clear_image(path)

    def name_clear_image(self, path: str) -> None:
        """Begin at the clear image of a file; at a blur without one."""
        self.clear_image = path
        at = self.baseline.findData(FILE)
        self.baseline.setItemText(at, path.rpartition("/")[2] or NO_FILE)
        self.baseline.setCurrentIndex(at if path else 0)
