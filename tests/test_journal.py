"""Journals: one JSON entry a line, with checksums keyed by what they are about."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from napari_restore._journal import DamagedJournal, Journal

ABOUT = {"of": "test"}
ENTRIES = [{"number": 1, "box": (0, 2)}, {"number": float("inf")}, {"text": "a\nü"}]
READ = [{"number": 1, "box": [0, 2]}, *ENTRIES[1:]]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    journal = Journal(tmp_path / "j.jsonl", ABOUT)
    for entry in ENTRIES:
        journal.append(entry, durable=True)
    return journal


def test_entries_come_back(journal: Journal) -> None:
    assert journal.read() == journal.read_known() == READ
    assert len(journal.path.read_text().splitlines()) == 3
    journal.clear()
    assert journal.read() == []


@pytest.mark.parametrize("cut", [1, 2, 30])
def test_a_torn_last_line_is_cut_off(journal: Journal, cut: int) -> None:
    journal.path.write_bytes(journal.path.read_bytes()[:-cut])
    assert journal.read() == READ[:2]
    journal.mend()
    journal.append({"number": 4})
    assert journal.read() == [*READ[:2], {"number": 4}]


def test_entries_of_another_question_do_not_count(journal: Journal) -> None:
    other = Journal(journal.path, {"of": "another"})
    with pytest.raises(DamagedJournal):
        other.read()
    assert other.read_known() == []
    other.append({"number": 5})
    assert other.read_known() == [{"number": 5}]
    assert journal.read_known() == READ


@pytest.mark.parametrize(
    "line",
    [b"{}", b"[1]", b"\xff", b"", b"[" * 100_000, b'{"number": 1}', b'{"digest": "0"}'],
    ids=["empty", "list", "text", "blank", "deep", "unsigned", "signed"],
)
def test_lines_that_nobody_appended_do_not_count(journal: Journal, line: bytes) -> None:
    first, *rest = journal.path.read_bytes().splitlines()
    journal.path.write_bytes(b"\n".join([first, line, *rest, b""]))
    assert journal.read_known() == READ
    with pytest.raises(DamagedJournal):
        journal.read()


def test_a_changed_entry_does_not_count(journal: Journal) -> None:
    lines = [json.loads(line) for line in journal.path.read_text().splitlines()]
    lines[0]["number"] = 2
    journal.path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert journal.read_known() == READ[1:]


def test_an_entry_of_another_shape_is_refused(journal: Journal) -> None:
    with_number = Journal(journal.path, ABOUT, lambda entry: entry["number"] == 1)
    assert with_number.read_known() == READ[:1]


def test_a_full_disk_leaves_no_torn_line(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            journal.append({"number": 6}, durable=True)
    journal.append({"number": 7})
    assert journal.read() == [*READ, {"number": 7}]
