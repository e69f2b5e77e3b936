from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from itertools import pairwise

import pytest

from napari_restore.commands import _streams, reporter
from napari_restore.engine import Note, Phase, Progress, Region, TileDone

EVENTS = [
    Note("One band is empty."),
    Phase("Restoring"),
    *(
        event
        for done in range(1, 101)
        for event in (TileDone(Region(0, 0, 1, 1)), Progress(done, 100, 100.0 - done))
    ),
    Note("Größe ≈ 2."),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(mode: str, stream: io.StringIO) -> str:
    report = reporter(mode, stream)
    for event in EVENTS:
        report(event)
    return stream.getvalue()


def test_a_file_gets_one_line_per_tenth_and_every_note():
    lines = told("auto", io.StringIO()).splitlines()
    assert lines[0] == "note: One band is empty."
    assert lines[1] == "Restoring: 1 of 100, 1 min 39 s left"
    assert lines[-2] == "Restoring: 100 of 100, 0 s left"
    assert lines[-1] == "note: Größe ≈ 2."
    assert len(lines) == 2 + 11


def test_a_terminal_gets_one_line_drawn_anew_that_notes_do_not_break():
    text = told("auto", Terminal())
    assert text.startswith("note: One band is empty.\n\rRestoring …\rRestoring: 1 of 100")
    assert text.count("\n") == 2
    assert text.endswith("\rnote: Größe ≈ 2.\n")
    # A shorter text must cover a longer one completely.
    drawn = text.split("\r")[1:-2]
    assert all(len(after) >= len(before.rstrip()) for before, after in pairwise(drawn))


@pytest.mark.parametrize("write", [_streams.write_out, _streams.write_error])
def test_results_and_errors_begin_on_an_empty_line(
    monkeypatch: pytest.MonkeyPatch, write: Callable[[str], object]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(_streams, "status", None)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    drawing = reporter("auto")
    # One that has drawn nothing, as of loading the model.
    reporter("auto")
    drawing(Progress(1, 2))
    write("Done.")
    before, drawn, blanks, after = terminal.getvalue().split("\r")
    assert (before, drawn, blanks.strip()) == ("", "working: 1 of 2", "")
    assert len(blanks) == len(drawn) and after.endswith("Done.\n")


def test_json_gives_every_event_as_a_line():
    lines = [json.loads(line) for line in told("json", io.StringIO()).splitlines()]
    assert len(lines) == len(EVENTS)
    assert lines[0] == {"event": "Note", "text": "One band is empty."}
    assert lines[3] == {"event": "Progress", "done": 1, "total": 100, "seconds_left": 99.0}


def test_off_says_nothing():
    assert told("off", io.StringIO()) == ""


def test_a_phase_without_steps_does_not_fail():
    stream = io.StringIO()
    report = reporter("auto", stream)
    report(Progress(0, 0))
    assert stream.getvalue() == "working: 0 of 0\n"


@pytest.mark.parametrize("error", [OSError("gone"), BrokenPipeError()])
def test_a_terminal_that_went_away_stops_nothing(error):
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    told("auto", Gone())


def test_letters_that_a_terminal_cannot_show_are_replaced():
    raw = io.BytesIO()
    terminal = io.TextIOWrapper(raw, encoding="ascii")
    reporter("auto", terminal)(Note("Größe ≈ 2."))
    assert b"Gr??e ? 2." in raw.getvalue()


def test_a_phase_is_named_in_a_terminal_before_its_first_step(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(_streams, "status", None)
    reporter("auto", terminal)(Phase("Loading"))
    assert terminal.getvalue().rstrip() == "\rLoading …"
    # Another one, as of the run itself, draws over it.
    reporter("auto", terminal)(Progress(1, 2))
    *_, blanks, _, drawn = terminal.getvalue().split("\r")
    assert (blanks.strip(), len(blanks), drawn) == ("", len("Loading …"), "working: 1 of 2")
