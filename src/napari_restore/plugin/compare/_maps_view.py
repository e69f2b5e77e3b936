"""Buttons that show side maps, the meaning of their colours, and shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QCheckBox, QLabel, QPushButton, QVBoxLayout

from napari_restore.plugin.compare._maps import MAPS, SideMap, available
from napari_restore.plugin.compare._pixels import FAILURE
from napari_restore.plugin.compare._quality import legend
from napari_restore.plugin.threads._latest_query import DebouncedQuery
from napari_restore.plugin.widgets._folding import flowing
from napari_restore.plugin.widgets._section import Section

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_restore.plugin._state import RestoreState
    from napari_restore.plugin.results._variant import Variant

DEBOUNCE_MS = 200
TIPS = {
    "change": "Result − source in the image's units, mean of the bands: pink darker, green brighter",
    "transmission": "How much of the light of the ground came through the haze: 0 none, 1 all",
    "ghosts": "Where the reference takes the place of what moved between the frames: 0 not, 1 entirely",
    "quality": "What happened to each pixel; the legend is below",
}


class MapsView(Section):
    """One button per map of the current result: pressed, its layer is there."""

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self._shown: dict[tuple[int, str], tuple[SideMap, Layer]] = {}
        """By the result's identity and the map's name."""
        self._queries: dict[tuple[int, str], DebouncedQuery] = {}
        self._followed: Variant | None = None
        self.buttons = {name: self._button(name) for name in MAPS}
        self.legend = QLabel(self)
        self.legend.setWordWrap(True)
        # Its entries do not break; without this the longest would widen the panel.
        self.legend.setMinimumWidth(1)
        self.keep = QCheckBox("Keep maps of runs", self)
        self.keep.setToolTip(
            "Transmission, ghosts of a bracket, and all quality bits. A result then takes about twice the space on disk"
        )
        self._show_keep()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(QLabel("Maps", self))
        layout.addLayout(flowing(*self.buttons.values()))
        layout.addWidget(self.legend)
        layout.addWidget(self.keep)
        self.keep.toggled.connect(self._on_keep)
        self.listen(state.events.current, self._on_current)
        self.listen(state.events.running, self._on_current)
        self.listen(state.events.options, self._show_keep)
        self.listen(viewer.layers.events.removed, self._on_removed)
        self._on_current()

    def leave(self) -> None:
        """Disconnect; the layers stay and are drawn no more."""
        for query in self._queries.values():
            query.discard()
        self._follow(None)
        self._shown.clear()
        super().leave()

    def _button(self, name: str) -> QPushButton:
        button = QPushButton(name.capitalize(), self)
        button.setCheckable(True)
        button.clicked.connect(lambda checked: self._on_clicked(name, checked))
        return button

    # -- the current result ------------------------------------------------------

    def _on_current(self) -> None:
        current = self.state.current
        self._follow(current)
        names = available(current) if current is not None else ()
        for name, button in self.buttons.items():
            button.setEnabled(name in names)
            button.setChecked(current is not None and self._key(current, name) in self._shown)
            button.setToolTip(TIPS[name])
        # Of brackets only.
        self.buttons["ghosts"].setVisible("ghosts" in names)
        if "transmission" not in names:
            self.buttons["transmission"].setToolTip(
                "This result has none. Methods that estimate it keep it when the box below is ticked"
            )
        self._show_shares(current)

    def _show_shares(self, current: Variant | None) -> None:
        if current is None:
            self.legend.clear()
        elif current.record is None:
            self.legend.setText("Shares are shown once the run has ended.")
        else:
            self.legend.setText(legend(current.record))

    def _follow(self, variant: Variant | None) -> None:
        """Draw the maps of just this result again when its pixels change."""
        if variant is self._followed:
            return
        if self._followed is not None:
            self._followed.layer.events.set_data.disconnect(self._on_pixels)
            self._followed.adjusted.disconnect(self._draw_again)
        if variant is not None:
            variant.layer.events.set_data.connect(self._on_pixels)
            variant.adjusted.connect(self._draw_again)
        self._followed = variant

    def _on_pixels(self) -> None:
        """Draw again; also called when the user pans, which changes no pixel."""
        if self.state.running:
            self._draw_again()

    def _draw_again(self) -> None:
        variant = self._followed
        if variant is None:
            return
        for name in MAPS:
            key = self._key(variant, name)
            if key in self._shown:
                self._request(key, self._shown[key][0])

    # -- layers ------------------------------------------------------------------

    def _on_clicked(self, name: str, checked: bool) -> None:
        current = self.state.current
        if current is None:
            return
        key = self._key(current, name)
        if checked:
            self._request(key, SideMap(current, name), now=True)
        elif key in self._shown:
            self.viewer.layers.remove(self._shown[key][1])

    def _request(self, key: tuple[int, str], side_map: SideMap, now: bool = False) -> None:
        """Make its coarse levels on another thread, then show it."""
        if key not in self._queries:
            self._queries[key] = DebouncedQuery(
                SideMap.build, lambda made: self._show(key, made), DEBOUNCE_MS, FAILURE, self
            )
        query = self._queries[key]
        (query.request_now if now else query.request)(side_map)

    def _show(self, key: tuple[int, str], made: SideMap) -> None:
        if key in self._shown:
            self._shown[key][1].refresh(extent=False)
            return
        variant = made.variant
        layers = self.viewer.layers
        if variant.layer not in layers or not self.buttons[made.name].isChecked():
            return
        layer = made.layer()
        self._shown[key] = made, layer
        active = layers.selection.active
        layers.insert(layers.index(variant.layer) + 1, layer)
        if active is not None:
            layers.selection.active = active

    def _on_removed(self, event: Any) -> None:
        """Forget a map whose layer or result was removed."""
        for key, (made, layer) in list(self._shown.items()):
            if event.value is layer:
                del self._shown[key]
            elif event.value is made.variant.layer:
                del self._shown[key]
                if layer in self.viewer.layers:
                    self.viewer.layers.remove(layer)
        self._on_current()

    def _show_keep(self) -> None:
        self.keep.setChecked(bool(self.state.options.storing.maps))

    def _on_keep(self, checked: bool) -> None:
        self.state.set_options(maps=checked)

    @staticmethod
    def _key(variant: Variant, name: str) -> tuple[int, str]:
        return id(variant), name
