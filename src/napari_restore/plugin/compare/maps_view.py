"""Buttons that show side maps, the meaning of their colours, and shares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Labels, Layer
from qtpy.QtWidgets import QCheckBox, QLabel, QPushButton

from napari_restore import Region
from napari_restore.plugin.compare.compared_layers import FAILURE
from napari_restore.plugin.layers.layer_order import keeping_active, place_above, take_away
from napari_restore.plugin.layers.placing import over, plane_of
from napari_restore.plugin.layers.result_layer import Box, LevelOfCells
from napari_restore.plugin.layers.status import VALUE
from napari_restore.plugin.tasks.notices import show_problem
from napari_restore.plugin.tasks.task import DebouncedQuery
from napari_restore.plugin.widgets.folding import add_button, column_of, flowing
from napari_restore.plugin.widgets.section import Section
from napari_restore.questions import Adjustment

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.engine import Result
    from napari_restore.errors import RestoreError
    from napari_restore.plugin.state.state import RestoreState
    from napari_restore.plugin.state.variant import Variant


Pixels = npt.NDArray[Any]
MAPS = ("change", "transmission", "ghosts", "quality")
MODEL_MAPS = {"transmission": "viridis", "ghosts": "magma"}
"""Maps that a model may leave, 0 to 1, with their colormaps."""
KEPT_SIDE = 2048
"""Maps that the run kept have one level on disk: the others of at most this side lie in memory."""
STRIP = 256
"""Rows of a level in memory that are made at a time."""
NOTHING = Adjustment(strength=0.0)


def available(variant: Variant) -> tuple[str, ...]:
    """Return the maps of `variant`: change and quality always, stored ones once it is finished."""
    kept = variant.shown.result.store.map_names if variant.result is not None else ()
    return tuple(name for name in MAPS if name not in MODEL_MAPS or name in kept)


class SideMap:
    """One map of a result, with the levels its layer needs; `build` must be called before `layer`."""

    # Change and, where the run kept no map of it, quality are made from source and result when they
    # are drawn, at every level.

    def __init__(self, variant: Variant, name: str) -> None:
        self.variant, self.below = variant, variant.layer
        self.name = name
        self.is_kept = name in variant.shown.result.store.map_names and variant.result is not None
        """Whether the run has stored it, at one level."""
        count = len(variant.layer.level_shapes) if variant.layer.multiscale else 1
        self._levels = [MapLevel(self, level) for level in range(count)]
        small = [n for n, x in enumerate(self._levels) if max(x.shape) <= KEPT_SIDE and n > 0]
        self._in_memory = range(small[0] if self.is_kept and small else count - 1, count)
        self._coarse: list[Pixels] = []
        self.limit = 1.0
        """The largest change there is, near enough."""

    def build(self) -> SideMap:
        """Make the coarse levels, which napari 0.9 needs in memory; not in the GUI thread."""
        first = self._levels[self._in_memory[0]]
        made = [np.concatenate(list(first.strips()))]
        for level in self._levels[self._in_memory[0] + 1 :]:
            rows, columns = level.shape
            made.append(np.ascontiguousarray(made[-1][::2, ::2][:rows, :columns]))
        if self._coarse:
            for kept, new in zip(self._coarse, made, strict=True):
                kept[:] = new
        else:
            self._coarse = made
        if self.name == "change" and np.isfinite(made[-1]).any():
            self.limit = float(np.nanpercentile(np.abs(made[-1]), 99)) or 1.0
        return self

    def layer(self) -> Layer:
        from napari.utils.colormaps import DirectLabelColormap

        finer = self._levels[: self._in_memory[0]]
        arrays = [*(level.lazy() for level in finer), *self._coarse]
        arguments: dict[str, Any] = {
            "name": f"{self.name.capitalize()}: {self.variant.name}",
            "multiscale": len(arrays) > 1,
            "cache": False,
            **over(
                self.variant.source,
                plane_of(self.variant.layer),
                napari_restore_record=self.variant.record,
            ),
        }
        data = arrays if len(arrays) > 1 else arrays[0]
        if self.name == "quality":
            colours: dict[int | None, Any] = {None: (0, 0, 0, 0), 0: (0, 0, 0, 0)}
            colours |= {c.label: c.colour for c in CATEGORIES}
            arguments["metadata"][VALUE] = {c.label: c.title for c in CATEGORIES}
            return Labels(data, colormap=DirectLabelColormap(color_dict=colours), **arguments)
        if self.name in MODEL_MAPS:
            colormap = MODEL_MAPS[self.name]
            return Image(data, colormap=colormap, contrast_limits=(0, 1), **arguments)
        limits = (-self.limit, self.limit)
        return Image(data, colormap="PiYG", contrast_limits=limits, **arguments)

    def compared(self, before: Pixels, after: Pixels, box: Box, level: int) -> Pixels:
        """Return the map (h, w) of the pixels (h, w, C) of a box of `level`."""
        if self.name == "quality":
            return categories(self.variant.shown.result.quality_of(before, after, box, level))
        with np.errstate(invalid="ignore"):
            change: Pixels = (after.astype(np.float64) - before).mean(2)
        return change


class MapLevel(LevelOfCells):
    """One level of a map as an array that can be cut."""

    def __init__(self, made: SideMap, level: int) -> None:
        shown, self._map = made.variant.shown, made
        is_quality = made.name == "quality"
        self.dtype = np.dtype(np.uint8 if is_quality else np.float32)
        self.nothing = 0 if is_quality else np.nan
        super().__init__(shown.result, shown.done, shown.box, level)

    @property
    def result(self) -> Result:  # type: ignore[override]
        """The result as it is adjusted now."""
        return self._map.variant.shown.result

    def strips(self) -> Iterator[Pixels]:
        """Yield some rows after the others."""
        rows, columns = self.shape
        for y in range(0, rows, STRIP):
            yield self[y : min(rows, y + STRIP), 0:columns]

    def _read(self, result: Result, box: Box, done: npt.NDArray[np.bool_]) -> Pixels:
        made = np.full(done.shape, self.nothing, self.dtype)
        if self._map.is_kept:
            return self._of_store(result, box, done, made)
        # Compute from source and result, in the image's own values.
        after = result.read_landed(box, self._level)
        # At strength 0 a result is its source, made smaller in the same way.
        before = result.with_adjustment(NOTHING).read_landed(box, self._level)
        np.copyto(made, self._map.compared(before, after, box, self._level), "same_kind", done)
        return made

    def _of_store(
        self, result: Result, box: Box, done: npt.NDArray[np.bool_], made: Pixels
    ) -> Pixels:
        """Read the map the run has stored, at its one level: of a coarser one one pixel of several."""
        step = 1 << self._level
        inside = Region(*(edge * step for edge in box)).intersect(result.region)
        rows, columns = (np.arange(a, b) * step + step // 2 for a, b in (box[::2], box[1::2]))
        own_y = (rows >= inside.y0) & (rows < inside.y1)
        own_x = (columns >= inside.x0) & (columns < inside.x1)
        values = result.read_map(self._map.name, inside)[..., 0]
        values = values[np.ix_(rows[own_y] - inside.y0, columns[own_x] - inside.x0)]
        places = np.ix_(own_y, own_x)
        if self._map.name == "quality":
            values = np.where(done[places], categories(values), 0)
        made[places] = values
        return made


class Category(NamedTuple):
    """What a label of the quality layer means."""

    label: int
    bit: int
    """Of the quality map."""
    name: str
    """As in the record's `quality_shares`."""
    title: str
    colour: str


CATEGORIES = (
    Category(1, 1, "unchanged", "unchanged", "#8a8a8a"),
    Category(2, 8, "low_transmission", "low transmission", "#e69f00"),
    Category(3, 2, "clipped_low", "now black", "#0072b2"),
    Category(4, 4, "clipped_high", "now white", "#cc79a7"),
    Category(5, 16, "excluded", "excluded", "#009e73"),
    Category(6, 32, "nodata", "no data", "#000000"),
)
"""In the order in which a later one hides an earlier one of the same pixel."""


def categories(bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the labels of quality bits; 0 where none is set."""
    labels = np.zeros(bits.shape, np.uint8)
    for category in CATEGORIES:
        labels[(bits & category.bit) > 0] = category.label
    return labels


def legend(record: dict[str, Any]) -> str:
    """Return the meaning of the colours, shares of a finished run, and its airlight, as rich text."""
    shares = record["measured"].get("quality_shares") or {}
    words = [
        swatch(category.colour, f"{category.title} {percent(share)}")
        for category in CATEGORIES
        if (share := shares.get(category.name)) is not None
    ]
    return " ".join([*words, *airlight_of(record)])


def airlight_of(record: dict[str, Any]) -> list[str]:
    """Return the colour of the haze that the method found, if it is one for the whole image."""
    colour = (record.get("context") or {}).get("airlight")
    if not isinstance(colour, list) or not 1 <= len(colour) <= 4:
        return []
    shown = colour if len(colour) == 3 else [sum(colour) / len(colour)] * 3
    codes = [round(255 * min(1.0, max(0.0, value))) for value in shown]
    numbers = ", ".join(f"{100 * value:.0f}" for value in colour)
    return [swatch("#" + bytes(codes).hex(), f"colour of the haze: {numbers} % of white")]


def swatch(colour: str, words: str) -> str:
    """Return a square of a colour and its meaning, not parted at a line's end."""
    return f'<span style="color:{colour}">■</span>' + f" {words}".replace(" ", "\N{NO-BREAK SPACE}")


def percent(share: float) -> str:
    """Return ``"12.3 %"``; a tiny share is not 0."""
    if 0 < share < 0.0005:
        return "&lt; 0.1 %"
    return f"{share:.1%}".replace("%", "\N{NO-BREAK SPACE}%")


DEBOUNCE_MS = 200
TIPS = {
    "change": "Result − source in the image's units, mean of the bands: pink darker, green brighter",
    "transmission": "How much of the light of the ground came through the haze: 0 none, 1 all",
    "ghosts": "Where the reference takes the place of what moved between the frames: 0 not, 1 entirely",
    "quality": "What happened to each pixel; the legend is below",
}


Key = tuple[Any, str]
"""The identity of the layer that a map is of, and the map's name."""


class MapLayers(Section):
    """Layers of maps of others: made on a thread, drawn again with their result, gone with their layer."""

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self._shown: dict[Key, tuple[Any, Layer]] = {}
        """`SideMap` or the like, and its layer."""
        self._queries: dict[Key, DebouncedQuery] = {}
        self._variant: Variant | None = None
        """Whose maps are drawn again."""
        self.listen(self._on_removed, viewer.layers.events.removed)

    def _on_current(self) -> None:
        """Draw the maps of just the current result again when its pixels change."""
        variant = self._variant = self.state.current
        for made, layer in list(self._shown.values()):
            # A run that takes a layer over has other pixels.
            if variant is not None and made.below is variant.layer and made.variant is not variant:
                take_away(self.viewer, layer)
        if variant is None:
            self.follow()
        else:
            pixels = variant.layer.events.set_data
            self.follow((pixels, self._on_pixels), (variant.adjusted, self._draw_again))

    def _is_wanted(self, made: Any) -> bool:
        """Return whether a map that has been made is still to be shown."""
        raise NotImplementedError

    def _on_pixels(self) -> None:
        """Draw again; also called when the user pans, which changes no pixel."""
        if self.state.running:
            self._draw_again()

    def _draw_again(self) -> None:
        for key, (made, _) in list(self._shown.items()):
            if made.variant is self._variant:
                self._request(key, made)

    def _switch(self, key: Key, made: Any, on: bool) -> None:
        """Show a map, or remove its layer."""
        if on:
            self._request(key, made, now=True)
        elif key in self._shown:
            self.viewer.layers.remove(self._shown[key][1])

    def _request(self, key: Key, made: Any, now: bool = False) -> None:
        """Make its coarse levels on another thread, then show it."""
        if key not in self._queries:
            self._queries[key] = DebouncedQuery(
                lambda made: made.build(),
                lambda made: self._show(key, made),
                DEBOUNCE_MS,
                FAILURE,
                self,
                self._on_failed,
            )
        query = self._queries[key]
        (query.request_now if now else query.request)(made)

    def _on_failed(self, error: RestoreError) -> None:
        show_problem(error)
        self._on_current()

    def _show(self, key: Key, made: Any) -> None:
        if key in self._shown:
            self._shown[key][1].refresh(extent=False)
            return
        layers = self.viewer.layers
        if made.below not in layers or not self._is_wanted(made):
            return
        layer = made.layer()
        self._shown[key] = made, layer
        with keeping_active(self.viewer):
            layers.insert(place_above(self.viewer, made.below), layer)

    def _on_removed(self, event: Any) -> None:
        for key, (made, layer) in list(self._shown.items()):
            if event.value is layer:
                del self._shown[key]
            elif event.value is made.below:
                del self._shown[key]
                take_away(self.viewer, layer)
        self._on_current()

    @staticmethod
    def _key(below: Layer, name: str) -> Key:
        return below.unique_id, name


class MapsView(MapLayers):
    """One button per map of the current result: pressed, its layer is there."""

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self.buttons = {name: self._button(name) for name in MAPS}
        self.legend = QLabel(self, wordWrap=True)
        # Its entries do not break; without this the longest would widen the panel.
        self.legend.setMinimumWidth(1)
        self.keep = QCheckBox("Keep maps of runs", self)
        self.keep.setToolTip(
            "Transmission, ghosts of a bracket, and all quality bits. A result then takes about twice the space on disk"
        )
        self._show_keep()
        buttons = flowing(*self.buttons.values())
        column_of(self, QLabel("Maps", self), buttons, self.legend, self.keep)
        self.keep.toggled.connect(self._on_keep)
        self.listen(self._on_current, state.events.current, state.events.running)
        self.listen(self._show_keep, state.events.options)
        self._on_current()

    def _button(self, name: str) -> QPushButton:
        button = add_button(self, name.capitalize(), checkable=True)
        button.clicked.connect(lambda checked: self._on_clicked(name, checked))
        return button

    # -- the current result ------------------------------------------------------

    def _on_current(self) -> None:
        super()._on_current()
        current = self.state.current
        names = available(current) if current is not None else ()
        for name, button in self.buttons.items():
            button.setEnabled(name in names)
            button.setChecked(current is not None and self._key(current.layer, name) in self._shown)
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
            before = "" if current.adjustment.is_neutral else "Before it was adjusted: "
            self.legend.setText(before + legend(current.record))

    # -- layers ------------------------------------------------------------------

    def _on_clicked(self, name: str, checked: bool) -> None:
        current = self.state.current
        if current is not None:
            self._switch(self._key(current.layer, name), SideMap(current, name), checked)

    def _show_keep(self) -> None:
        self.keep.setChecked(bool(self.state.options.storing.maps))

    def _draw_again(self) -> None:
        super()._draw_again()
        self._show_shares(self._variant)

    def _is_wanted(self, made: SideMap) -> bool:
        return self.buttons[made.name].isChecked()

    def _on_keep(self, checked: bool) -> None:
        self.state.set_options(maps=checked)
