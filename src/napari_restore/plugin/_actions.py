"""Commands of menus and the command palette; each acts on the viewer's panel."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from napari_restore.plugin.attribution.attribution_tab import AttributionTab
from napari_restore.plugin.compare.compare_section import CompareSection
from napari_restore.plugin.layers.placing import plane_of, scale_and_affine, widen
from napari_restore.plugin.layers.reader import layer_of
from napari_restore.plugin.results.adjust_section import AdjustSection
from napari_restore.plugin.results.export_section import ExportSection
from napari_restore.plugin.state.state import unwrapped
from napari_restore.plugin.tasks.notices import show_note

if TYPE_CHECKING:
    import napari
    from qtpy.QtWidgets import QAbstractButton

    from napari_restore.plugin._panel import RestorePanel
    from napari_restore.plugin.widgets.section import Section

S = TypeVar("S", bound="Section")
NO_CHANGE = "There is nothing to undo: no change of this result's look is left."
NO_RESULT = "There is no result yet. Run a method first."
_panels: weakref.WeakKeyDictionary[Any, weakref.ref[RestorePanel]] = weakref.WeakKeyDictionary()


def opened(viewer: Any, panel: RestorePanel) -> None:
    """Register `panel` as the one of `viewer`."""
    _panels[unwrapped(viewer)] = weakref.ref(panel)


def closed(viewer: Any, panel: RestorePanel) -> None:
    """Forget `panel`, which is closed."""
    if panel_of(viewer) is panel:
        del _panels[unwrapped(viewer)]


def panel_of(viewer: Any) -> RestorePanel | None:
    """Return the open panel of a viewer, or None."""
    found = _panels.get(unwrapped(viewer))
    return None if found is None else found()


def run_restoration(viewer: napari.viewer.Viewer) -> None:
    """Run what is set; opens the panel where there is none."""
    _panel(viewer).runs.run()


def cancel_restoration(viewer: napari.viewer.Viewer) -> None:
    """Cancel the run of this viewer."""
    panel = panel_of(viewer)
    if panel is None or panel.runs.running is None:
        show_note("Nothing is being restored.")
    else:
        panel.runs.cancel()


def add_model_file(viewer: napari.viewer.Viewer) -> None:
    """Let the user choose a model file; opens the panel where there is none."""
    _panel(viewer).files.ask_for_file()


def toggle_live(viewer: napari.viewer.Viewer) -> None:
    """Begin or end to restore what is in view; opens the panel where there is none."""
    _press(_panel(viewer).bar.live, "There is no image to restore.")


def compare_swipe(viewer: napari.viewer.Viewer) -> None:
    """Show or hide the line between source and result."""
    section = _section(viewer, CompareSection)
    if section is None:
        show_note(NO_RESULT)
    else:
        _press(section.swipe, section.hint.text())


def export_result(viewer: napari.viewer.Viewer) -> None:
    """Export the current result as the panel's Export does."""
    section = _section(viewer, ExportSection)
    _press(None if section is None else section.export, NO_RESULT)


def undo_look(viewer: napari.viewer.Viewer) -> None:
    """Take the last change of the look of the current result back."""
    section = _section(viewer, AdjustSection)
    if section is None or section.state.current is None:
        show_note(NO_RESULT)
    else:
        _press(section.undo_button, NO_CHANGE)


def show_attribution(viewer: napari.viewer.Viewer) -> None:
    """Show the Attribution tab; opens the panel where there is none."""
    _panel(viewer).tabs.choose(AttributionTab.TITLE)


def show_bands(viewer: napari.viewer.Viewer) -> None:
    """Show the chosen image a second time, with a slider through all its bands."""
    layer = _panel(viewer).state.layer
    image = None if layer is None else layer.metadata.get("napari_restore")
    if layer is None or image is None or image.bands == 1 or not layer.rgb:
        show_note("There is no colour image with bands to show.")
        return
    data, arguments, _ = layer_of(image, viewer, band_by_band=True)
    arguments |= {
        "name": f"{layer.name} (bands)",
        **scale_and_affine(widen(plane_of(layer), 3)),
        "units": ("pixel", *layer.units[-2:]),
    }
    viewer.add_image(data, **arguments)
    # What is restored stays the same.
    viewer.layers.selection.active = layer


BOUND = {
    "run": run_restoration,
    "cancel": cancel_restoration,
    "live": toggle_live,
    "swipe": compare_swipe,
    "undo": undo_look,
    "export": export_result,
}
"""What the keys of the same name do."""


def _panel(viewer: napari.viewer.Viewer) -> RestorePanel:
    """Return the panel of a viewer, opened if need be."""
    panel = panel_of(viewer)
    if panel is None:
        viewer.window.add_plugin_dock_widget("napari-restore", "Restore")
        panel = panel_of(viewer)
        assert panel is not None
    return panel


def _section(viewer: Any, kind: type[S]) -> S | None:
    panel = panel_of(viewer)
    sections = [] if panel is None else panel.sections
    return next((section for section in sections if isinstance(section, kind)), None)


def _press(button: QAbstractButton | None, otherwise: str) -> None:
    """Press a button of the panel as the mouse would; where it cannot be, say why."""
    if button is None or not button.isEnabled():
        show_note(otherwise)
    else:
        button.click()
