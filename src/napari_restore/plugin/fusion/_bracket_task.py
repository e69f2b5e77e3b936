"""Opening and aligning the frames of a bracket, on other threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import napari_restore as nr
from napari_restore import api
from napari_restore.errors import BadParameter, Cancelled, RestoreError
from napari_restore.plugin.fusion._frame_group import (
    FrameGroup,
    OpenBracket,
    OpenFrames,
    name_of,
    numbers_in,
)
from napari_restore.plugin.threads._stoppable_task import StoppableTask, messages_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_restore.images import Image

THREADS = 4
THUMBNAIL = 96
"""Longest side in pixels of a thumbnail."""


class Step(NamedTuple):
    """How far the opening is."""

    text: str
    done: int
    total: int


class BracketTask(StoppableTask):
    """Opens the frames of a group unless they are open, then makes the bracket of those used.

    `happened` gives each `Step`, the `OpenFrames` and an `OpenBracket`.
    """

    def __init__(self, group: FrameGroup, opened: OpenFrames | None, *, rough: bool) -> None:
        """Prepare to open `group`; `opened` are its frames, `rough` aligns for a quick look."""
        super().__init__("bracket")
        self._group, self._opened, self._rough = group, opened, rough

    def work(self) -> Iterator[Any]:
        """Yield what happens, and at last the error or "done"."""

        def compute(send: Emit) -> None:
            _open(self._group, self._opened, self._rough, send, self._stop)
            send("done")

        return messages_of(compute, self._stop, "bracket", "The bracket cannot be opened")

    def receive(self, item: Any) -> None:
        """Report what happens."""
        if item == "done":
            self._outcome = ("done", None)
        elif isinstance(item, RestoreError):
            if not isinstance(item, Cancelled):
                self._outcome = ("failed", item)
        elif not self._stop.is_set():
            self.happened.emit(item)


Emit = Callable[[Any], None]


def _open(
    group: FrameGroup,
    opened: OpenFrames | None,
    rough: bool,
    emit: Emit,
    stop: threading.Event,
) -> None:
    """Open a group; `emit` what is done."""
    if opened is None:
        opened = _open_frames(group, emit, stop)
        emit(opened)
    reference = opened.reference if group.reference is None else group.reference
    used = [n for n in opened.order if group.used[n] or n == reference]
    if len(used) < 2:
        raise BadParameter("One frame is used: there is nothing to fuse.", "Tick two or more.")
    images = [opened.images[number] for number in used]
    exposures = [opened.exposures[number] for number in used]

    def progress(done: int, total: int) -> None:
        if stop.is_set():
            raise Cancelled("Aligning the frames was cancelled.")
        emit(Step("Aligning …", done, total))

    def bracket(align: Any) -> OpenBracket:
        image = nr.open_bracket(
            images,
            reference=used.index(reference),
            exposures=exposures,
            align=align,
            progress=progress,
        )
        # The window asks for it on its own thread, where it must be known.
        api.common_region(image)
        there = numbers_in(opened.images, image.frames)
        missing = tuple(number for number in used if number not in there)
        return OpenBracket(image, there, missing, align == "rough")

    if group.align:
        emit(bracket("rough" if rough else "auto"))
    else:
        emit(bracket("off"))


def _open_frames(group: FrameGroup, emit: Emit, stop: threading.Event) -> OpenFrames:
    """Open the frames, with all their levels made: then a draft of any view comes at once."""
    total = len(group.sources)
    if total < 2:
        raise BadParameter(
            "A bracket of one frame has nothing to fuse.", "Add two photos of a scene, or more."
        )
    images: list[Image] = []
    for source in group.sources:
        emit(Step(f"Opening {name_of(source)} …", len(images), total))
        # Images of the viewer are open already.
        is_open = hasattr(source, "level_view")
        images.append(source if is_open else nr.open_image(source, cancelled=stop.is_set))
    with ThreadPoolExecutor(THREADS, thread_name_prefix="napari-restore-frame") as pool:
        waiting = [pool.submit(_make_levels, image, stop.is_set) for image in images]
        for done, future in enumerate(as_completed(waiting)):
            future.result()
            emit(Step("Reading frames …", done + 1, total))
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
