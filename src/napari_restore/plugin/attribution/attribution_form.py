"""The settings of an attribution: target, method, baseline, objective and the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QFileDialog, QLabel, QPushButton, QSpinBox, QWidget

from napari_restore import api
from napari_restore.errors import RestoreError
from napari_restore.plugin.tasks.task import in_background
from napari_restore.plugin.widgets.editors import NarrowComboBox, combo_of, line_edit, number_box
from napari_restore.plugin.widgets.folding import add_button, flowing, form_layout, in_a_row
from napari_restore.questions import AUTO, CHECK, STOP, THROUGH, Attribute

if TYPE_CHECKING:
    from napari_restore.explain import MethodInfo
    from napari_restore.images import Image
    from napari_restore.models import ModelCard

METHODS = {
    "": "Automatic",
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
    "": "Automatic",
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
    "": "Fixed, as for the image",
    "recomputed": "Recomputed at every point",
}
PIXELS, SUPERPIXELS = "", "slic"
SEGMENTS = {PIXELS: "Pixels", SUPERPIXELS: "Superpixels, about"}
"""What has a share of its own, beside the layers of labels."""
TOOLS = {
    "rectangle": ("Box", "Drag a box over the target; Escape leaves it"),
    "click": ("Click", "Click the image: a box is put there, as large as said below"),
    "polygon": ("Polygon", "Click the corners; a double click closes it"),
}


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
        self.method = combo_of(
            self,
            METHODS,
            "Automatic: along thinner haze for methods that remove haze, else integrated gradients, "
            "of a bracket those of its mean from zeros. "
            'Those of captum are offered where it is installed: pip install "napari-restore[captum]"',
        )
        self._offers: dict[str, Any] | None = None
        tip = "name=value name=value: settings of the method, with spaces between"
        self.settings = line_edit(self, "", tip)
        self._add_parts()
        self.baseline = combo_of(self, {**BASELINES, FILE: NO_FILE})
        self.clear_image = ""
        self.objective = combo_of(
            self,
            OBJECTIVES,
            "The number that is made of the box. Automatic: the one that belongs to the method, "
            "mostly the change",
        )
        self.channel = QSpinBox(self)
        self.context_gradient = combo_of(
            self,
            CONTEXT_GRADIENTS,
            "What the model draws from the whole image, such as the airlight: a constant, or a "
            "function of the pixels, which networks that map the image allow. Automatic: a function where that is "
            "predicted to add less than ten seconds",
        )
        self._routes = False
        self.routing = combo_of(
            self,
            ROUTINGS,
            "Which experts and tokens the network chooses. Fixed, the network is smooth along the path "
            "and the map complete",
        )
        tip = "The true pixels, or an overview, which is attributed faster. The map says which"
        self.level = NarrowComboBox(self, tip=tip)
        tip = "Points are added until the shares make up what the model did so well"
        self.gap = number_box(self, (0.01, 100), tip, 1, decimals=2, suffix=" %")
        self.check = QCheckBox("Insertion and deletion", self)
        self.check.setToolTip(
            "Whether the map ranks pixels better than chance and than distance from the box: 192 "
            "more pictures. It takes the context as a constant"
        )
        self._build()
        self._connect()

    def _add_parts(self) -> None:
        """Add what has shares in place of pixels."""
        tip = "A layer of the network by its name in PyTorch; a wrong name is answered by those there are"
        self.layer = line_edit(self, "its dotted name, such as encoder.2", tip)
        self.segments = combo_of(
            self,
            SEGMENTS,
            "What has a share: each pixel, each superpixel (SLIC), or each label of a Labels layer, whose 0 "
            "has none. Automatic then ablates one after the other: as many passes as there are segments",
        )
        tip = "How many superpixels the pixels are cut into that the box depends on"
        self.superpixels = number_box(self, (2, 5000), tip, 60)

    def _build(self) -> None:
        form = self._form = form_layout(self)
        # Across the whole panel, which is narrow.
        form.addRow(flowing(*self.tools.values()))
        form.addRow("Target", self.box)
        form.addRow("Clicked box", self.side)
        form.addRow("Method", self.method)
        form.addRow("Settings", self.settings)
        form.addRow("Layer", self.layer)
        form.addRow("Attribute to", in_a_row(self.segments, self.superpixels))
        form.addRow("Baseline", self.baseline)
        form.addRow("Objective", in_a_row(self.objective, self.channel))
        form.addRow("Context", self.context_gradient)
        form.addRow("Routing", self.routing)
        form.addRow("Level", self.level)
        form.addRow("Largest gap", self.gap)
        form.addRow("Check", self.check)

    def _connect(self) -> None:
        self.method.currentIndexChanged.connect(self._on_method)
        for combo in (self.segments, self.objective, self.context_gradient):
            combo.currentIndexChanged.connect(self._show_what_fits)
        self.check.toggled.connect(self._show_what_fits)
        self.baseline.activated.connect(self._on_baseline)
        self.side.valueChanged.connect(self.side_changed)
        self._on_method()

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
        titles = {**SEGMENTS, **layers}
        self.segments.offer(
            ((title, key) for key, title in titles.items()), self.segments.currentData()
        )
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
        method, objective = self.method.currentData(), self.objective.currentData()
        baseline = None
        if self.baseline.isEnabled():
            chosen = self.baseline.currentData()
            baseline = self.clear_image if chosen == FILE else chosen
        if objective == CHANNEL:
            objective = f"{CHANNEL}:{self.channel.value()}"
        return Attribute(
            method=method or None,
            arguments=self._arguments(),
            objective=objective or None,
            baseline=baseline,
            context_gradient=self.context_gradient.currentData(),
            routing=self.routing.currentData() or None if self._can_fix_routing else None,
            gap=self.gap.value() / 100,
            layer=(self.layer.text().strip() or None) if self._of_layer else None,
            segments=f"slic:{self.superpixels.value()}" if self._segmented == SUPERPIXELS else None,
            check=CHECK if self.check.isEnabled() and self.check.isChecked() else None,
        )

    def _arguments(self) -> dict[str, Any]:
        if self._offered is None:
            return {}
        given = api.arguments_in(self.settings.text())
        if self._segmented != PIXELS:
            return {k: v for k, v in given.items() if k not in self._offered.patch_arguments}
        return given

    @property
    def _offered(self) -> Any:
        """The explainer of a method that goes along no path; else None."""
        return (self._offers or {}).get(self.method.currentData())

    @property
    def _of_layer(self) -> bool:
        return self._offered is not None and bool(self._offered.of_layer)

    @property
    def _segmented(self) -> str:
        """What has a share of its own; of methods of a layer its cells have, and this is `PIXELS`."""
        chosen: str = self.segments.currentData()
        return chosen if self.segments.isEnabled() else PIXELS

    @property
    def _can_fix_routing(self) -> bool:
        """Whether the model routes and the method goes along a path."""
        return self._routes and self._offered is None

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
        method, offered = self.method.currentData(), self._offered
        self._form.setRowVisible(self.settings, offered is not None)
        self._form.setRowVisible(self.layer, self._of_layer)
        self._form.setRowVisible(self.routing, self._can_fix_routing)
        self.segments.setEnabled(not self._of_layer)
        self.superpixels.setVisible(self._segmented == SUPERPIXELS)
        self.channel.setVisible(self.objective.currentData() == CHANNEL)
        self.check.setEnabled(self.context_gradient.currentData() != THROUGH)
        takes = method in WITH_BASELINE or (offered is not None and offered.takes_baseline)
        # Automatic is then occlusion.
        takes |= not method and self._segmented != PIXELS
        # A check needs it where the method has none.
        self.baseline.setEnabled(takes or (offered is not None and self.check.isChecked()))

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
