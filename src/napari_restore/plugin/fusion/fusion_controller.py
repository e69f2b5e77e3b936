"""Groups of frames in a viewer, and the layer of the bracket that is made of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import psygnal
from qtpy.QtCore import QObject, QTimer
from superqt.utils import qdebounced

import napari_restore as nr
from napari_restore import api
from napari_restore.api import FUSION_MODEL
from napari_restore.errors import BadParameter, Cancelled, RestoreError
from napari_restore.plugin.fusion.frame_group import (
    FrameGroup,
    OpenBracket,
    OpenFrames,
    groups_among,
    name_of,
    numbers_in,
)
from napari_restore.plugin.layers.layer_order import bring_to_front, is_source
from napari_restore.plugin.layers.placing import show_whole
from napari_restore.plugin.layers.reader import STAMPS, layer_of, stamps_of
from napari_restore.plugin.state.disk_watch import DiskWatch
from napari_restore.plugin.state.state import Connections, RestoreState, image_of
from napari_restore.plugin.tasks.notices import show_problem
from napari_restore.plugin.tasks.task import Task, in_background

if TYPE_CHECKING:
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer, Layer

    from napari_restore.images import Image


THREADS = 4
THUMBNAIL = 96
"""Longest side in pixels of a thumbnail."""


class OpeningStep(NamedTuple):
    """How far the opening is."""

    text: str
    done: int
    total: int


class BracketTask(Task):
    """Opens the frames of a group unless they are open, then makes the bracket of those used."""

    def __init__(
        self, group: FrameGroup, opened: OpenFrames | None, *, rough: bool, again: bool = False
    ) -> None:
        """Prepare to open `group`; `opened` are its frames, `rough` aligns for a quick look.

        With `again` frames that are open in the viewer are opened again, too.
        """
        super().__init__(name="bracket", failure="The bracket cannot be opened")
        self._group, self._opened, self._rough = group, opened, rough
        self._again = again

    def work(self) -> None:
        group, opened = self._group, self._opened
        if opened is None:
            opened = self._open_frames()
            self.send(opened)
        reference = opened.reference if group.reference is None else group.reference
        used = [n for n in opened.order if group.used[n] or n == reference]
        if len(used) < 2:
            raise BadParameter("One frame is used: there is nothing to fuse.", "Tick two or more.")
        image = nr.open_bracket(
            [opened.images[number] for number in used],
            reference=used.index(reference),
            exposures=[opened.exposures[number] for number in used],
            align="off" if not group.align else "rough" if self._rough else "auto",
            progress=self._on_aligned,
        )
        # The window asks for it on its own thread, where it must be known.
        api.common_region(image)
        there = numbers_in(opened.images, image.frames)
        missing = tuple(number for number in used if number not in there)
        self.send(OpenBracket(image, there, missing, group.align and self._rough))

    def receive(self, item: Any) -> None:
        """Report what happens, unless it was cancelled."""
        if not self.stop.is_set():
            super().receive(item)

    def _on_aligned(self, done: int, total: int) -> None:
        if self.stop.is_set():
            raise Cancelled("Aligning the frames was cancelled.")
        self.send(OpeningStep("Aligning …", done, total))

    def _open_frames(self) -> OpenFrames:
        """Open the frames, with all their levels made: then a draft of any view comes at once."""
        group, is_cancelled = self._group, self.stop.is_set
        total = len(group.sources)
        if total < 2:
            raise BadParameter(
                "A bracket of one frame has nothing to fuse.", "Add two photos of a scene, or more."
            )
        images: list[Image] = []
        for source in group.sources:
            self.send(OpeningStep(f"Opening {name_of(source)} …", len(images), total))
            # Images of the viewer are open already.
            is_open = hasattr(source, "level_view")
            if is_open and self._again and source.spec is not None:
                source = type(source).from_spec(source.spec)
            images.append(source if is_open else nr.open_image(source, cancelled=is_cancelled))
        # Before their pixels are read.
        stamps = stamps_of(*images)
        with ThreadPoolExecutor(THREADS, thread_name_prefix="napari-restore-frame") as pool:
            waiting = [pool.submit(_make_levels, image, is_cancelled) for image in images]
            for done, future in enumerate(as_completed(waiting)):
                future.result()
                self.send(OpeningStep("Reading frames …", done + 1, total))
        whole = nr.open_bracket(images, exposures=group.exposures, align="off")
        others = whole.companions
        assert others is not None
        numbers = numbers_in(images, whole.frames)
        exposures = dict(zip(numbers, others.exposures, strict=True))
        return OpenFrames(
            tuple(images),
            tuple(exposures.get(number, 0.0) for number in range(total)),
            numbers[others.reference],
            tuple(thumbnail(image) for image in images),
            any("estimated" in note for note in whole.notes),
            stamps,
        )


def _make_levels(image: Image, cancelled: Callable[[], bool]) -> None:
    image.prepare(cancelled=cancelled)
    image.build_pyramid(cancelled=cancelled)


def thumbnail(image: Image) -> npt.NDArray[np.uint8]:
    """Return a small picture (h, w, 3) of an image whose levels are made."""
    number = len(image.level_shapes) - 1
    pixels = image.read((0, 0, *image.level_shapes[number]), number)
    step = -(-max(pixels.shape[:2]) // THUMBNAIL)
    small = pixels[::step, ::step, list(image.data_bands)[:3]]
    if small.shape[2] < 3:
        small = np.repeat(small[..., :1], 3, axis=2)
    most = np.iinfo(small.dtype).max if small.dtype.kind in "iu" else 1.0
    shown = np.nan_to_num(small.astype(np.float32) / most).clip(0, 1)
    return np.ascontiguousarray((shown * 255).astype(np.uint8))


REFINE_MS = 20_000
"""How long the alignment waits for a draft of the rough bracket."""
DEBOUNCE_MS = 250
"""How long ticks must not change before the bracket is made again."""


@dataclass(eq=False)
class ShownGroup:
    """A group of frames in a viewer, and what has been made of it."""

    group: FrameGroup | None = None
    """None: none is chosen."""
    frames: OpenFrames | None = None
    bracket: OpenBracket | None = None
    layer: ImageLayer | None = None
    changed: Any = None
    """The stamp of its files where they have changed, to be opened again."""


class FusionController(QObject):
    """Opens one group of frames at a time, and shows the bracket as a layer to be restored."""

    # As long as the reference is the same frame its layer stays, with the results made of it: the
    # image behind it is another one.

    groups_changed = psygnal.Signal()
    """There are other groups, or another one is chosen."""
    frames_changed = psygnal.Signal()
    """The frames of the chosen group are open, or its settings or its bracket have changed."""
    progressed = psygnal.Signal(str, int, int)
    """What is done, how many frames are done, and of how many."""
    busy_changed = psygnal.Signal(bool)
    """Whether a bracket is being opened."""
    failed = psygnal.Signal(object)
    """The `RestoreError` for which a bracket is not opened."""
    preloading = psygnal.Signal()
    """Frames are expected."""
    opened = psygnal.Signal()
    """A group is shown for the first time."""

    def __init__(self, viewer: ViewerModel, state: RestoreState, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._state = viewer, state
        self.groups: list[ShownGroup] = []
        self.chosen = ShownGroup()
        self._task: BracketTask | None = None
        self._disk: DiskWatch | None = None
        self._is_closed = self._is_loaded = self._is_due = False
        self._then: Callable[[], object] | None = None
        """What waits for the bracket."""
        # One per object: a decorated method would share one timer among all.
        self._open_soon = qdebounced(self._open, timeout=DEBOUNCE_MS, parent=self)
        self._refine_later = QTimer(self, singleShot=True, interval=REFINE_MS)
        self._refine_later.timeout.connect(self.refine)
        removed = viewer.layers.events.removed
        Connections(self, (state.events.layer, self._on_layer), (removed, self._on_removed))

    def leave(self) -> None:
        self._is_closed = True
        self._abandon()

    # -- what is shown ---------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        return self._task is not None

    def defers(self, then: Callable[[], object]) -> bool:
        """Return whether the bracket to restore is being opened or aligned; `then` is called once it is there."""
        layer = self.chosen.layer
        is_shown = layer is not None and layer is self._state.layer
        self._then = then if is_shown and self._is_coming else None
        return self._then is not None

    @property
    def _is_coming(self) -> bool:
        is_rough = self.chosen.bracket is not None and self.chosen.bracket.is_rough
        return self.is_busy or self._is_due or (is_rough and self._refine_later.isActive())

    def preload(self) -> None:
        """Load what a draft needs before there are frames: it must come at once."""
        if not self._is_loaded:
            self._is_loaded = True
            self.preloading.emit()
            in_background(_preload, lambda _: None)

    # -- the user chooses --------------------------------------------------------------

    def add_paths(self, paths: Sequence[Any]) -> None:
        """Find the brackets among photos and folders, and open the first."""
        if paths:
            self.progressed.emit("Looking for brackets …", 0, 0)
            in_background(partial(_groups_in, list(paths)), self._on_groups)

    def add_layers(self, layers: Sequence[Any]) -> None:
        """Make a group of the images that layers show, and open it."""
        try:
            images = [image_of(layer) for layer in layers if is_source(layer)]
            if not images:
                raise BadParameter(
                    "No image is selected.", "Select the frames in napari's list of layers."
                )
        except RestoreError as error:
            show_problem(error)
            return
        images = [image.frames[0] for image in images]
        if len(images) == 1:
            # Its exposures follow from its pixels.
            in_background(partial(_groups_in, images), self._on_groups)
            return
        self._on_groups([FrameGroup.of(images)])

    def choose(self, number: int) -> None:
        """Show a group; opens it the first time."""
        if not 0 <= number < len(self.groups) or self.groups[number] is self.chosen:
            return
        self._then = None
        self._choose(self.groups[number])
        if self.chosen.layer is None or self.chosen.changed is not None:
            self._open()
        else:
            self._abandon()
            self._bring_up(self.chosen.layer)

    def _choose(self, chosen: ShownGroup) -> None:
        self.chosen = chosen
        self.groups_changed.emit()
        self.frames_changed.emit()

    def set_used(self, number: int, used: bool) -> None:
        """Fuse a frame or leave it out."""
        assert self.chosen.group is not None
        self._change(self.chosen.group.using(number, used))

    def set_reference(self, number: int) -> None:
        """Choose the frame that the result replaces."""
        assert self.chosen.group is not None
        self._change(replace(self.chosen.group.using(number, True), reference=number))

    def set_align(self, align: bool) -> None:
        """Choose whether frames are brought onto the grid of the reference."""
        if self.chosen.group is not None:
            self._change(replace(self.chosen.group, align=align))

    def forget(self) -> None:
        """Remove all groups; layers stay."""
        self._open_soon.cancel()
        self._is_due, self._then = False, None
        self._abandon()
        self.groups = []
        self._choose(ShownGroup())

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _change(self, group: FrameGroup) -> None:
        if group != self.chosen.group:
            self.chosen.group = group
            self.frames_changed.emit()
            self._is_due = True
            self._open_soon()

    def _on_groups(self, found: list[FrameGroup] | RestoreError) -> None:
        if self._is_closed:
            return
        if isinstance(found, RestoreError):
            self.failed.emit(found)
            return
        if not found:
            return
        known = {each.group.sources: n for n, each in enumerate(self.groups) if each.group}
        new = [group for group in found if group.sources not in known]
        if not new:
            self._show_again(known[found[0].sources])
            return
        # The note of the first says what was found.
        new[0] = replace(new[0], note=found[0].note)
        self.groups += map(ShownGroup, new)
        self.choose(len(self.groups) - len(new))

    def _show_again(self, number: int) -> None:
        """Show a group that the user has added before; its layer may have been removed."""
        again = self.groups[number]
        if again is not self.chosen:
            self.choose(number)
        elif again.layer is not None:
            self._bring_up(again.layer)
        elif self._task is None:
            self._open()
        self.progressed.emit("What you added is in the list already.", 0, 0)

    # -- files that change -------------------------------------------------------------

    def follow(self, disk: DiskWatch) -> None:
        """Open brackets again whose frames change on disk."""
        self._disk = disk
        disk.reopen = self.reopen

    def reopen(self, layer: ImageLayer, stamp: Any) -> bool:
        """Begin to open the bracket of `layer` again, of files with `stamp`; False for other layers."""
        own = self._of(layer)
        if own is None or own.group is None or self._is_closed:
            return False
        # One that is not chosen is opened once it is.
        if own.changed == stamp and own is self.chosen and self.is_busy:
            return True
        if not any(hasattr(source, "level_view") for source in own.group.sources):
            # The camera's, of the new files.
            own.group = replace(own.group, exposures=None)
        own.changed, own.frames, own.bracket = stamp, None, None
        if own is self.chosen:
            self.frames_changed.emit()
            self._open()
        return True

    def _of(self, layer: Layer | None) -> ShownGroup | None:
        """Return the group whose bracket a layer shows."""
        return next((x for x in self.groups if layer is not None and x.layer is layer), None)

    # -- opening -----------------------------------------------------------------------

    def refine(self) -> None:
        """Align the frames of a rough bracket: its draft is shown, or has been waited for."""
        bracket = self.chosen.bracket
        if self._task is None and bracket is not None and bracket.is_rough:
            self._open()

    def _open(self) -> None:
        self._open_soon.cancel()
        self._is_due = False
        self._abandon()
        own = self.chosen
        if own.group is None:
            return
        rough, again = own.bracket is None, own.changed is not None
        task = self._task = BracketTask(own.group, own.frames, rough=rough, again=again)
        task.sent.connect(partial(self._on_sent, own))
        task.ended.connect(self._on_ended)
        task.start(self)
        self.busy_changed.emit(True)

    def _abandon(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.abandon()
            if not self._is_closed:
                self.busy_changed.emit(False)

    def _on_sent(self, own: ShownGroup, what: Any) -> None:
        if isinstance(what, OpeningStep):
            self.progressed.emit(*what)
        elif isinstance(what, OpenFrames):
            own.frames = what
            self.frames_changed.emit()
        elif isinstance(what, OpenBracket):
            is_first, is_again = own.bracket is None, own.changed is not None
            own.changed, own.bracket = None, what
            self._show(own, what, again=is_again)
            self.frames_changed.emit()
            if is_first:
                # A draft comes first: both at once would take twice as long.
                self._refine_later.start()
            if is_first and not is_again:
                self.opened.emit()

    def _on_ended(self, status: str, outcome: Any) -> None:
        self._task = None
        self.busy_changed.emit(False)
        then, self._then = self._then, None
        if status == "failed":
            self.failed.emit(outcome)
        elif status == "done" and then is not None and self.chosen.layer is self._state.layer:
            if not self.defers(then):
                then()

    # -- the layer ---------------------------------------------------------------------

    def _show(self, own: ShownGroup, bracket: OpenBracket, *, again: bool) -> None:
        """Put a bracket behind its layer, read `again` or not, or make one where the reference is another frame."""
        assert own.frames is not None
        stamps, layer = dict(own.frames.stamps), own.layer
        known = None if layer is None else layer.metadata.get("napari_restore")
        if again and layer is not None and self._disk is not None:
            if known is not None and known.path == bracket.image.path:
                own.layer = self._disk.put(layer, bracket.image, stamps)
                own.bracket = bracket
                return
        if layer is not None and known is not None and known.reader is bracket.image.reader:
            layer.metadata["napari_restore"] = bracket.image
            # What is planned and shown is about the image, which the layer only names.
            if layer is self._state.layer:
                self._state.events.layer.emit(layer, layer)
            return
        show_whole(self._viewer, bracket.image)
        data, arguments, _ = layer_of(bracket.image, self._viewer)
        arguments["name"] = f"Bracket {arguments['name']}"
        if stamps:
            arguments["metadata"][STAMPS] = stamps
        own.layer = self._viewer.add_image(data, **arguments)
        if layer is not None:
            self._put_away(layer)

    def _bring_up(self, layer: ImageLayer) -> None:
        layer.visible = True
        bring_to_front(self._viewer, layer)
        self._viewer.layers.selection.active = layer

    def _put_away(self, layer: ImageLayer) -> None:
        """Hide the layer of the former reference with its results, or remove it where it has none."""
        if layer not in self._viewer.layers:
            return
        own = [variant for variant in self._state.variants if variant.source is layer]
        if not own:
            self._viewer.layers.remove(layer)
            return
        for each in (layer, *(variant.layer for variant in own)):
            each.visible = False

    def _on_layer(self, layer: ImageLayer | None) -> None:
        """Show the frames of the bracket that the user has chosen among the images."""
        own = self._of(layer)
        if own is not None and own is not self.chosen and not self._is_closed:
            self._abandon()
            self._choose(own)
            if own.changed is not None:
                self._open()

    def _on_removed(self, event: Any) -> None:
        if (own := self._of(event.value)) is not None:
            own.layer = own.bracket = own.changed = None
            if own is self.chosen:
                # What is being opened would bring it back.
                self._abandon()
            self.frames_changed.emit()


def _preload() -> None:
    """Load the libraries that planning needs, and let the method be measured."""
    tiny = [np.full((64, 64, 3), light, np.uint8) for light in (60, 120, 180)]
    with suppress(RestoreError):
        nr.plan(nr.open_bracket(tiny, align="off"), FUSION_MODEL)


def _groups_in(paths: list[Any]) -> list[FrameGroup]:
    found = groups_among(paths)
    if not found:
        raise RestoreError(
            "The photos show no bracket by their times and exposures.",
            "Choose the frames of one themselves.",
        )
    return found
