"""The Restore panel: makes views and controllers of a viewer, and connects them."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QDialog,
    QDockWidget,
    QFileDialog,
    QFrame,
    QLabel,
    QLineEdit,
    QMainWindow,
    QScrollArea,
    QScrollBar,
    QTabBar,
    QVBoxLayout,
    QWidget,
)

from napari_restore.plugin import _actions
from napari_restore.plugin._settings_form import SettingsForm
from napari_restore.plugin.attention.attention_tab import AttentionTab
from napari_restore.plugin.attribution.attribution_tab import AttributionTab
from napari_restore.plugin.compare.compare_section import CompareSection
from napari_restore.plugin.fusion.fusion_tab import FusionTab
from napari_restore.plugin.layers.display import free_in_canvas
from napari_restore.plugin.method.model_files_dialog import ModelFiles
from napari_restore.plugin.results.adjust_section import AdjustSection
from napari_restore.plugin.results.export_section import ExportSection
from napari_restore.plugin.results.results_section import ResultsSection
from napari_restore.plugin.results.tone_section import ToneSection
from napari_restore.plugin.runs.batch_section import BatchSection
from napari_restore.plugin.runs.plan_controller import PLANNING, PlanController
from napari_restore.plugin.runs.run_bar import RunBar
from napari_restore.plugin.runs.run_controller import RunController
from napari_restore.plugin.spectral.spectral_section import SpectralSection
from napari_restore.plugin.state.disk_watch import DiskWatch
from napari_restore.plugin.state.preferences import PreferenceLink
from napari_restore.plugin.state.state import Connections, image_of, state_of, unwrapped
from napari_restore.plugin.state.variant import VARIANT, Variant
from napari_restore.plugin.tasks.main_thread import patch_superqt
from napari_restore.plugin.widgets.folding import Folded, one_at_a_time
from napari_restore.plugin.widgets.keys import (
    KeyBindings,
    follow_focus,
    name_controls,
    order_tab,
    with_key,
)
from napari_restore.plugin.widgets.section import Section, end_all

if TYPE_CHECKING:
    import napari
    from napari.layers import Image as ImageLayer

    from napari_restore.engine import KeptResult, Plan
    from napari_restore.plugin.state.request import RunRequest


NUMBERS = (QAbstractSpinBox, QAbstractSlider)
"""Follow the wheel while they have the focus."""
CHOICES = (QComboBox, QTabBar)
"""Never follow it: one that was just chosen keeps the focus, and lies in the way of scrolling."""
TABS = (Qt.Key.Key_Tab, Qt.Key.Key_Backtab)
FOCUS = (QEvent.Type.FocusIn, QEvent.Type.FocusOut)


class ControlFilter(QObject):
    """Lets the controls of `root` be used by wheel, keyboard and screen reader."""

    # The wheel scrolls what they lie in; Tab goes through them in the order in which one sees them,
    # and scrolls to them; each has a name. It covers the widgets there are and those that are shown
    # later, and dialogs.
    def __init__(self, root: QWidget) -> None:
        super().__init__(root)
        self._root = root
        self._name_soon = QTimer(self, singleShot=True)
        self._name_soon.timeout.connect(self._name)
        self._watch(root)
        self._name()

    def _name(self) -> None:
        name_controls(self._root)

    def _watch(self, widget: QWidget) -> None:
        if isinstance(widget, (QLabel, QScrollBar)):
            return
        widget.installEventFilter(self)
        if isinstance(widget, (*NUMBERS, *CHOICES)):
            # By default spin boxes and combo boxes take the focus when the wheel turns.
            if widget.focusPolicy() == Qt.FocusPolicy.WheelFocus:
                widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            # superqt's sliders have spin boxes inside; the list of a combo box is a window.
            if not isinstance(widget, QAbstractSlider):
                return
            if widget.findChild(QAbstractSlider) is not None:
                # Else Tab stops twice, and the keys of the first stop do nothing.
                widget.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        for child in widget.children():
            if isinstance(child, QWidget) and not child.isWindow():
                self._watch(child)

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Keep wheel events from controls, follow Tab, and watch widgets shown for the first time."""
        kind = event.type()
        if kind == QEvent.Type.Wheel:
            unfocused = isinstance(watched, NUMBERS) and not watched.hasFocus()
            if unfocused or isinstance(watched, CHOICES):
                # Ignored, it goes on to the parent.
                event.ignore()
                return True
        elif kind == QEvent.Type.KeyPress and event.matches(QKeySequence.StandardKey.Undo):
            line = watched if isinstance(watched, QLineEdit) else watched.findChild(QLineEdit)
            if line is not None and not line.isUndoAvailable():
                # Nothing was typed: it is the picture that is meant.
                event.ignore()
                return True
        elif kind == QEvent.Type.ChildPolished:
            child = event.child()
            if isinstance(child, QDialog) and not isinstance(child, QFileDialog):
                ControlFilter(child)
            elif isinstance(child, QWidget) and not child.isWindow():
                self._watch(child)
                self._name_soon.start(0)
        elif kind in FOCUS or (kind == QEvent.Type.Resize and watched.hasFocus()):
            follow_focus(watched, event)
        elif kind == QEvent.Type.ShortcutOverride and watched.isWindow() and event.key() in TABS:
            # Whatever has the focus: just before Qt moves it.
            order_tab(self._root)
        return False


class Pages(QTabBar):
    """Shows one of several widgets below itself."""

    # Not a QTabWidget, which is as high as the highest of its pages.
    def __init__(self, layout: QVBoxLayout, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layout = layout
        self._pages: list[QWidget] = []
        self.setExpanding(False)
        # Fusion draws a white line from the last tab to the edge of the panel.
        self.setDrawBase(False)
        self.setAccessibleName("Tabs")
        layout.addWidget(self)
        self.currentChanged.connect(self._on_changed)

    def add(self, title: str, page: QWidget, tip: str) -> None:
        """Add a tab with a tooltip; the first is shown."""
        self._layout.addWidget(page)
        page.setAccessibleName(title)
        self._pages.append(page)
        page.setVisible(len(self._pages) == 1)
        self.setTabToolTip(self.addTab(title), tip)

    def choose(self, title: str) -> None:
        """Show the page of a title, as a click would."""
        for number in range(self.count()):
            if self.tabText(number) == title:
                self.setCurrentIndex(number)

    def _on_changed(self, number: int) -> None:
        for at, page in enumerate(self._pages):
            page.setVisible(at == number)


NARROWEST, USUAL = 210, 328
"""Widths in pixels: what napari 0.9 leaves on a screen 800 wide (1600 at 200 %), and the usual one."""
SETTINGS = tuple("layer named method target strength_layer crop options exclusion".split())
"""Fields of the state that a result depends on."""


class RestorePanel(QWidget):
    """Chooses what to restore and how, and runs it.

    Its form writes to the viewer's `RestoreState`; `plans` and `runs` follow the state.
    Closing the panel ends what is under way.
    """

    planned = Signal(str)
    """The plan's line was brought up to date."""
    ended = Signal(str, object, object)
    """A run ended; as `RunController.ended`."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        patch_superqt()
        self.viewer = unwrapped(napari_viewer)
        free_in_canvas(self.viewer)
        self.state = state_of(napari_viewer)
        self._is_closed = False
        self._begun = time.time()
        self._had_image = False
        """Whether there has been an image yet."""
        self._reported: Variant | None = None
        """The result that the bar's message is about."""
        self.files = ModelFiles(self)
        self.form = SettingsForm(self.viewer, self.state, self)
        self.plans = PlanController(self.viewer, self.state, self.form.bands.problem, self)
        self.disk = DiskWatch(self.viewer, self)
        self.runs = RunController(self.viewer, self.state, self.plans, self.disk, self)
        self._build()
        self._connect()
        self._preferences = PreferenceLink(self.state, self)
        # Where a window goes without closing its widgets, preferences must not reach what is gone.
        self.destroyed.connect(self._preferences.leave)
        self.form.show_settings()
        self._preferences.live_changed.connect(self.bar.set_live)
        self._keys = KeyBindings(self.viewer, _actions.BOUND)
        _actions.opened(self.viewer, self)
        before = replace(self.state)
        self._on_layers()
        self.form.show_earlier(before)

    # -- building ------------------------------------------------------------------

    def _build(self) -> None:
        form = self.form
        # Short names of what is in the form.
        self.opener, self.image, self.summary = form.opener, form.image, form.summary
        self.models, self.parameters, self.airlight = form.models, form.parameters, form.airlight
        self.target, self.drawing, self.exclude = form.target, form.drawing, form.exclude
        self.memory, self.advanced, self.bands = form.memory, form.advanced, form.bands
        inner = QWidget()
        layout = QVBoxLayout(inner)
        layout.setContentsMargins(6, 6, 4, 6)
        form.add_to(layout)
        self.tabs = Pages(layout, inner)
        scroll = QScrollArea(self)
        restore = self._restore_page(inner, scroll)
        self.bar = RunBar(inner, pinned=True)
        self.bar.results.clicked.connect(lambda: self._results_part.open())
        self.bar.button.setToolTip(
            f"{with_key('Restore what is set', 'run')}; {with_key('cancel', 'cancel')}"
        )
        self.fusion = FusionTab(self.viewer, self.state)
        self.attribution = AttributionTab(self.viewer, self.state, self.runs)
        self.attention = AttentionTab(self.viewer, self.state, self.runs)
        self.tabs.add("Restore", restore, "Restore the image, adjust the result and save it")
        self.tabs.add(
            FusionTab.TITLE, self.fusion, "Make one picture of photos with different exposures"
        )
        self.tabs.add(
            AttributionTab.TITLE,
            self.attribution,
            "For researchers: on which pixels of the image a part of the result depends",
        )
        self.tabs.add(AttentionTab.TITLE, self.attention, "For researchers: where a network looks")
        layout.addStretch(1)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inner)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll, 1)
        # Not in what scrolls: Run stays visible on low screens, whatever is unfolded.
        self.bar.setContentsMargins(10, 4, 10, 8)
        outer.addWidget(self.bar)
        self.tabs.currentChanged.connect(self._show_what_applies)
        self.setMinimumWidth(NARROWEST)
        self._controls = ControlFilter(self)
        # Once what happens at the first show is laid out. PyQt's `singleShot` takes no object
        # that the call ends with.
        self._shown = QTimer(self, singleShot=True)
        self._shown.timeout.connect(self._take_usual_width)
        self._had_width = False

    def _show_what_applies(self) -> None:
        """Show no method and no Run under Fuse without a bracket; other tabs have bars of their own."""
        tab, layer = self.tabs.tabText(self.tabs.currentIndex()), self.state.layer
        fuses = layer is not None and image_of(layer).companions is not None
        applies = tab != FusionTab.TITLE or fuses
        self.form.models.show_rows(applies)
        self.form.method_part.setVisible(applies)
        self.bar.setVisible(applies and tab not in (AttributionTab.TITLE, AttentionTab.TITLE))

    def _restore_page(self, parent: QWidget, scroll: QScrollArea) -> QWidget:
        """Build the area and the folded sections for results, from top to bottom."""
        page = QWidget(parent)
        layout = QVBoxLayout(page)
        layout.setContentsMargins(0, 4, 0, 0)
        self.form.add_area_to(layout)
        viewer, state = self.viewer, self.state
        adjust, results = AdjustSection(viewer, state), ResultsSection(viewer, state)
        tone = ToneSection(viewer, state)
        export = ExportSection(viewer, state)
        self.sections: list[Section] = [
            adjust,
            tone,
            CompareSection(viewer, state),
            SpectralSection(viewer, state),
            results,
            export,
            BatchSection(viewer, state, self.runs),
        ]
        parts = [Folded(section.TITLE, section, section.TIP) for section in self.sections]
        for part in parts:
            layout.addWidget(part)
        adjust.heading_changed.connect(parts[0].setText)
        tone.heading_changed.connect(parts[1].setText)
        results.run_requested.connect(self.runs.start)
        results.earlier.found.connect(self._on_earlier)
        self._results_part = parts[self.sections.index(results)]
        export.run_requested.connect(self.runs.start)
        one_at_a_time(parts)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        return page

    def _connect(self) -> None:
        form, bar, plans, runs = self.form, self.bar, self.plans, self.runs
        form.image_shown.connect(self._on_image)
        self.disk.reread.connect(self._on_reread)
        self.fusion.controller.follow(self.disk)
        form.plane.changed.connect(self._on_plane)
        self.models.file_requested.connect(self.files.ask_for_file)
        self.files.message.connect(bar.show_message)
        self.files.added.connect(self.models.add)
        self.drawing.changed.connect(plans.update_drawn)
        self.fusion.controller.preloading.connect(runs.expect_image)
        runs.defers = self.fusion.controller.defers
        # A draft of a bracket that was opened just now.
        self.fusion.controller.opened.connect(partial(bar.set_live, True))
        runs.live.updated.connect(self.fusion.controller.refine)
        plans.area_changed.connect(self.target.show_area)
        plans.line_changed.connect(self._on_line)
        plans.planned.connect(self._on_planned)
        plans.plan_ready.connect(self.advanced.show_plan)
        form.opener.fused.connect(self._on_fused)
        bar.pressed.connect(runs.toggle)
        bar.live_toggled.connect(runs.live.switch)
        runs.starting.connect(self.drawing.finish)
        runs.started.connect(partial(bar.show_running, True))
        runs.planned.connect(self._on_run_planned)
        runs.progressed.connect(bar.show_progress)
        runs.message.connect(bar.show_message)
        runs.draft_message.connect(bar.show_draft)
        runs.live.message.connect(bar.show_message)
        runs.live.stopped.connect(partial(bar.set_live, False))
        runs.ended.connect(self._on_ended)
        self._connect_cluster()
        events = self.state.events
        connections = Connections(
            self, *((getattr(events, name), self._on_settings) for name in SETTINGS)
        )
        # Planners get a setting before a widget changes others because of it.
        form.follow()
        layers = self.viewer.layers
        connections.add(
            (layers.events.inserted, self._on_layers),
            (layers.events.removed, self._on_layers),
            (layers.selection.events.active, self._on_active),
            (events.current, self._on_current),
            (events.layer, self._show_what_applies),
            (events.running, self.advanced.cluster.show_running),
            (events.running, form.plane.show_running),
            (events.cluster, self._update_plan),
        )

    def _connect_cluster(self) -> None:
        shown, clusters = self.advanced.cluster, self.runs.clusters
        shown.connect_requested.connect(clusters.connect_to)
        shown.disconnect_requested.connect(clusters.disconnect_now)
        clusters.connecting.connect(shown.show_connecting)
        clusters.connected.connect(shown.show_connected)
        clusters.disconnected.connect(shown.show_disconnected)

    # -- settings and their plan -----------------------------------------------------

    def _on_settings(self) -> None:
        if self.runs.running is None:
            # The message of the last run is not about these settings.
            self.bar.show_message("")
        self._update_plan()

    def _update_plan(self) -> None:
        self.form.show_settings()
        self.plans.update()

    def _on_line(self, line: str) -> None:
        # A run that is over is told of, and its settings are planned again.
        waits = line.startswith(PLANNING) and self.bar.message.text()
        self.bar.plan_line.setText("" if waits else line)

    def _on_planned(self, line: str) -> None:
        if self.runs.running is None:
            self.bar.plan_line.setText(line)
            if self.bar.message.text() == line:
                # Why a run failed is why there is no plan: shown once.
                self.bar.show_message("")
        self.planned.emit(line)

    # -- the viewer ------------------------------------------------------------------

    def _on_layers(self) -> None:
        self._follow_results()
        self.form.offer_layers()
        self.plans.update_drawn()

    def _follow_results(self) -> None:
        """Forget results whose layer was removed, until it is put back; they do not need their source."""
        layers, known = self.viewer.layers, self.state.variants
        for variant in known:
            variant.layer.metadata[VARIANT] = variant
        marks = [(layer, layer.metadata.get(VARIANT)) for layer in layers if layer.metadata]
        back = [x for layer, x in marks if x is not None and x.layer is layer and x not in known]
        kept = tuple(variant for variant in (*known, *back) if variant.layer in layers)
        if kept != self.state.variants:
            self.state.variants = kept
        if self.state.current not in kept:
            self.state.current = kept[-1] if kept else None

    def _on_active(self) -> None:
        """Choose the layer or the result that the user has made active."""
        active = self.viewer.layers.selection.active
        for variant in self.state.variants:
            if variant.layer is active:
                self.state.current = variant
        if not self.form.choose_image(active):
            self.plans.update_drawn()

    def _on_current(self, current: Variant | None) -> None:
        if self.runs.running is None and current is not self._reported:
            self.bar.show_message("")

    def _on_earlier(self, kept: list[KeptResult]) -> None:
        """Say outside of the folded section that there are runs to go on with, and results."""
        # Those of another window: after a crash as after closing it. Whoever has removed one of
        # this window knows of it.
        whole = sum(each.complete and each.used < self._begun for each in kept)
        self.bar.show_earlier(sum(not each.complete for each in kept), whole)

    def _on_reread(self, layer: ImageLayer) -> None:
        """Show and plan the image that a layer has from now on."""
        plane = image_of(layer).plane
        for variant in self.state.variants:
            if variant.source is layer and image_of(layer).planes.count > 1:
                variant.layer.visible = variant.request.image.plane == plane
        self.form.offer_layers()
        if self.state.layer is layer:
            self.state.events.layer.emit(layer, layer)

    def _on_plane(self, number: int) -> None:
        """Show another plane of the stack; the results of the others are hidden."""
        if self.state.layer is not None:
            self.disk.show_plane(self.state.layer, number)

    def _on_image(self, possible: bool) -> None:
        self.bar.allow(possible)
        if possible and not self._had_image:
            self._had_image = True
            self.bar.live.setChecked(self._preferences.live)

    # -- running -----------------------------------------------------------------------

    def _on_run_planned(self, plan: Plan) -> None:
        self.bar.plan_line.setText(plan.summary())
        self.advanced.show_plan(plan)

    def _on_ended(self, status: str, outcome: Any, request: RunRequest) -> None:
        self.bar.show_running(False)
        self._reported = self.state.current
        self.ended.emit(status, outcome, request)
        self.plans.update()

    def sizeHint(self) -> QSize:
        """Return the usual width; a narrow window makes it `NARROWEST`."""
        return super().sizeHint().expandedTo(QSize(USUAL, 0))

    def showEvent(self, event: Any) -> None:
        """Take the usual width at first, and watch the window for its end."""
        super().showEvent(event)
        for each in (self, self._controls):
            self.window().installEventFilter(each)
        if isinstance(window := self.window(), QMainWindow):
            self.opener.watch(window)
        if not self._had_width:
            self._shown.start(0)

    def _take_usual_width(self) -> None:
        """Take what Qt leaves to the canvas of the usual width, but no more than half of the window."""
        window = self.window()
        if not isinstance(window, QMainWindow):
            return
        canvas = window.centralWidget()
        for dock in window.findChildren(QDockWidget):
            if canvas is not None and dock.isAncestorOf(self) and not dock.isFloating():
                width = min(USUAL, dock.width() + canvas.width() - window.width() // 2)
                window.resizeDocks([dock], [width], Qt.Orientation.Horizontal)
                self._had_width = True

    def dragEnterEvent(self, event: Any) -> None:
        """Accept files and folders anywhere; see `ModelFiles` for models."""
        self.fusion.dragEnterEvent(event)

    def dropEvent(self, event: Any) -> None:
        """Add photos to Fuse while that is shown, else open what is dropped."""
        if self.fusion.isHidden():
            self.opener.take(event)
        else:
            self.fusion.dropEvent(event)

    def _on_fused(self, paths: list[str]) -> None:
        self.tabs.choose(FusionTab.TITLE)
        self.fusion.add(paths)

    # -- closing -----------------------------------------------------------------

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Disconnect before the window goes, which destroys its widgets without closing them."""
        if event.type() == QEvent.Type.DeferredDelete:
            self._close()
        return bool(super().eventFilter(watched, event))

    def closeEvent(self, event: Any) -> None:
        self._close()
        super().closeEvent(event)

    def changeEvent(self, event: Any) -> None:
        """Disconnect also when napari takes it out of its dock, which closes no widget."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._close()
            # Nothing shows it again, and its connections would keep it alive.
            self.deleteLater()
        super().changeEvent(event)

    def _close(self) -> None:
        """End what is under way and disconnect from the viewer."""
        if self._is_closed:
            return
        self._is_closed = True
        self.runs.close()
        self.opener.stop()
        parts: tuple[Any, ...] = (self._keys, self._preferences, self.files, self.disk)
        # First: what goes now concerns no other part.
        end_all(self)
        for part in (*self.findChildren(Section), *parts):
            part.leave()
        _actions.closed(self.viewer, self)
