"""The cache folder: whole or not, in use or not, and never anybody else's files."""

from __future__ import annotations

import gc
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from napari_restore.errors import BadOutput
from napari_restore.images import cache_dir, cache_entries, clear_cache, mark_entry, trim_cache
from napari_restore.images.cache.folder import OpenEntry


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "Zwischen lager ü"
    monkeypatch.setenv("NAPARI_RESTORE_CACHE", str(folder))
    return folder


def filled(key: str, size: int, age: float = 0) -> Path:
    """A finished entry of `size` bytes that was last used `age` seconds ago."""
    entry = OpenEntry.open("pyramids", key, {"of": key})
    (entry.path / "data").write_bytes(b"x" * size)
    entry.finish()
    entry.close()
    marker = entry.path / "entry.json"
    then = marker.stat().st_mtime - age
    os.utime(marker, (then, then))
    return entry.path


def test_folder_is_made_where_the_variable_says(root: Path) -> None:
    assert cache_dir() == root
    assert root.is_dir()


def test_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NAPARI_RESTORE_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(BadOutput, match="NAPARI_RESTORE_CACHE"):
        cache_dir()


def test_default_is_the_platforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NAPARI_RESTORE_CACHE")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: str(tmp_path / "p"))
    assert cache_dir() == tmp_path / "p"


def test_entry_is_whole_only_when_finished() -> None:
    entry = OpenEntry.open("streams", "k", {"a": 1})
    assert not entry.complete
    entry.close()
    again = OpenEntry.open("streams", "k", {"a": 1})
    assert not again.complete
    again.finish()
    again.close()
    assert OpenEntry.open("streams", "k", {"a": 1}).complete


def test_entry_about_something_else_is_built_again() -> None:
    path = filled("k", 10)
    entry = OpenEntry.open("pyramids", "k", {"of": "another format"})
    assert entry.path == path
    assert not entry.complete
    assert not (path / "data").exists()


def test_damaged_marker_is_not_taken_for_whole() -> None:
    path = filled("k", 10)
    (path / "entry.json").write_text("{broken")
    entry = OpenEntry.open("pyramids", "k", {"of": "k"})
    assert not entry.complete
    assert not (path / "data").exists()


def test_one_entry_per_process_and_key() -> None:
    assert OpenEntry.open("streams", "k", {}) is OpenEntry.open("streams", "k", {})


def test_entry_another_process_builds_is_left_to_it(lock_elsewhere: Any) -> None:
    theirs = cache_dir() / "streams" / "k"
    mark_entry(theirs, {}, complete=False)
    lock_elsewhere(theirs / "in-use.other")
    entry = OpenEntry.open("streams", "k", {})
    assert entry.path != theirs and entry.private
    path = entry.path
    assert path.is_dir()
    del entry
    gc.collect()
    assert not path.exists() and theirs.is_dir()


def test_entry_of_a_dead_process_is_taken_over(lock_elsewhere: Any) -> None:
    theirs = cache_dir() / "streams" / "k"
    mark_entry(theirs, {}, complete=False)
    dead = lock_elsewhere(theirs / "in-use.other")
    dead.kill()
    dead.wait()
    # Its process id may be another one's by now.
    (theirs / "in-use.other").write_text(str(os.getppid()))
    assert OpenEntry.open("streams", "k", {}).path == theirs
    assert not (theirs / "in-use.other").exists()


@pytest.mark.parametrize(
    "marker", ["", "[]", '{"signature": "napari-restore cache entry", "about": 3}', "\xff"]
)
def test_a_damaged_marker_stops_nobody(marker: str) -> None:
    entry = cache_dir() / "streams" / "k"
    mark_entry(entry, {})
    (entry / "entry.json").write_bytes(marker.encode("latin-1"))
    (entry / "in-use.7").mkdir()
    (entry / f"in-use.{2**80}").write_bytes(b"\xff")
    cache_entries()
    assert OpenEntry.open("streams", "k", {}).path == entry
    clear_cache()


def test_clear_follows_no_link(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for path in (elsewhere / "kept", root / "streams" / "gone"):
        path.mkdir(parents=True)
        marker = {"signature": "napari-restore cache entry", "complete": True, "about": {}}
        (path / "entry.json").write_text(json.dumps(marker))
    (root / "linked").symlink_to(elsewhere)
    (root / "streams" / "one").symlink_to(elsewhere / "kept")
    (root / "streams" / "gone" / "inner").symlink_to(elsewhere)
    clear_cache()
    assert (elsewhere / "kept" / "entry.json").is_file()
    assert not (root / "streams" / "gone").exists()


def test_a_removal_that_was_cut_off_is_finished_next_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = filled("a", 100)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *args, **options: None)
        clear_cache()
    assert not entry.exists()
    assert [path.name for path in (root / "pyramids").rglob("*") if path.is_file()] == [
        "entry.json"
    ]
    clear_cache()
    assert not list((root / "pyramids").iterdir())


def test_a_folder_that_others_may_write_to_is_refused(root: Path) -> None:
    assert stat.S_IMODE(cache_dir().stat().st_mode) == 0o700
    root.chmod(0o770)
    with pytest.raises(BadOutput, match="Other users may write"):
        cache_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user")
def test_a_folder_of_another_user_is_refused(root: Path) -> None:
    root.mkdir()
    os.chown(root, 65534, 65534)
    with pytest.raises(BadOutput, match="belongs to another user"):
        cache_dir()


def test_list_tells_size_and_state() -> None:
    filled("old", 1000, age=50)
    held = OpenEntry.open("streams", "new", {"n": 1})
    first, second = cache_entries()
    assert (first.kind, first.key, first.complete, first.in_use) == ("streams", "new", False, True)
    assert (second.kind, second.key, second.complete) == ("pyramids", "old", True)
    assert not second.in_use and second.size >= 1000
    assert held.path == first.path


def test_trim_removes_the_longest_unused() -> None:
    old, middle, new = filled("a", 9000, 30), filled("b", 9000, 20), filled("c", 9000, 10)
    freed = trim_cache(20_000)
    assert 9000 <= freed < 10_000
    assert not old.exists() and middle.exists() and new.exists()


def test_clear_spares_what_is_open_and_what_is_not_ours(root: Path) -> None:
    closed = filled("a", 100)
    held = OpenEntry.open("streams", "b", {})
    foreign = root / "photos" / "2026"
    foreign.mkdir(parents=True)
    (foreign / "only copy.jpg").write_bytes(b"x")
    (foreign / "entry.json").write_text(json.dumps({"complete": True}))
    assert clear_cache() >= 100
    assert not closed.exists()
    assert held.path.is_dir()
    assert (foreign / "only copy.jpg").exists()


def test_clear_of_one_kind() -> None:
    path = filled("a", 100)
    assert trim_cache(0, ["results"]) == 0
    assert path.exists()
