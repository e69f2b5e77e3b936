"""Progress of a run on stderr."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any, TextIO

from napari_restore._format import format_seconds
from napari_restore.commands import _streams
from napari_restore.commands._flags import with_flags
from napari_restore.errors import escape_controls
from napari_restore.records import strict_json

EventCallback = Callable[[Any], None]
"""Callback for the events of a job."""


def reporter(mode: str, stream: TextIO | None = None) -> EventCallback:
    """Return the callback of `--progress auto|json|off`; `auto` draws a status line in a terminal."""
    out = sys.stderr if stream is None else stream
    if mode == "json":
        return lambda event: _write(out, strict_json(with_flags(event.to_dict())) + "\n")
    if mode == "off":
        return lambda event: None
    return _Lines(out, live=out.isatty())


class _Lines:
    """Progress as a redrawn status line, or in a file as one line per tenth of a phase."""

    def __init__(self, out: TextIO, *, live: bool) -> None:
        self._out, self._live = out, live
        self._phase = ""
        self._tenth = -1
        self._drawn = 0

    def __call__(self, event: Any) -> None:
        # By name, to avoid an import of the engine.
        kind = type(event).__name__
        if kind == "Note":
            self._line(f"note: {with_flags(event.text)}")
        elif kind == "ImageStarted":
            self._line(f"image {event.number} of {event.images}: {event.name}")
        elif kind == "Phase":
            self._phase, self._tenth = event.name, -1
            if self._live:
                self._draw(f"{event.name} …")
        elif kind == "Progress":
            self._progress(event.done, event.total, event.seconds_left, event.detail)
        elif kind == "Trained":
            self._trained(event)
        elif kind == "Scored":
            self._line(f"step {event.step}: {event.text}" + (", the best" if event.best else ""))
        elif kind in ("Finished", "Stopped"):
            self._clear()

    def _progress(self, done: int, total: int, seconds_left: float | None, detail: str) -> None:
        tenth = 10 * done // total if total else 10
        if not self._live and tenth == self._tenth:
            return
        self._tenth = tenth
        left = "" if seconds_left is None else f", {format_seconds(seconds_left)} left"
        beside = f" ({detail})" if detail else ""
        text = f"{self._phase or 'working'}: {done} of {total}{left}{beside}"
        if not self._live:
            self._line(text)
            return
        self._draw(text)

    def _trained(self, event: Any) -> None:
        if not self._live:
            # In a file the scores are enough.
            return
        left = "" if event.seconds_left is None else f", {format_seconds(event.seconds_left)} left"
        of = "" if event.steps is None else f" of {event.steps}"
        score = "" if event.score is None else f", dev {event.score:.2f} dB"
        self._draw(
            f"training {event.stage}: {event.step}{of}, loss {event.loss:.4f}{score}, "
            f"{event.pairs_per_second:.1f} pairs/s{left}"
        )

    def _draw(self, text: str) -> None:
        text = escape_controls(text)
        if _streams.status != self._clear:
            # Another one has drawn, as of loading the model.
            _streams.clear_status()
        _streams.status = self._clear
        _write(self._out, "\r" + text.ljust(self._drawn))
        self._drawn = len(text)

    def _line(self, text: str) -> None:
        _streams.clear_status()
        _write(self._out, escape_controls(text) + "\n")

    def _clear(self) -> None:
        if self._drawn:
            _write(self._out, "\r" + " " * self._drawn + "\r")
            self._drawn = 0


def _write(out: TextIO, text: str) -> None:
    """Write text; ignore a closed terminal, and replace characters it cannot show."""
    with contextlib.suppress(OSError):
        try:
            out.write(text)
        except UnicodeEncodeError:
            out.write(text.encode("ascii", "replace").decode("ascii"))
        out.flush()
