"""Locked files: freed with their process, whatever the clock and process ids do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil
import pytest

from napari_restore.images import is_locked, is_used, lock_file, mark_use, owner_in, users_of
from napari_restore.images.cache.lock import is_own, used_by_others


def test_one_of_two_locks_a_file(tmp_path: Path, lock_elsewhere: Any) -> None:
    path = tmp_path / "writer"
    other = lock_elsewhere(path)
    assert lock_file(path) is None
    assert is_locked(path) and not is_own(path)
    assert owner_in(path) == other.pid
    other.kill()
    other.wait()
    assert path.exists() and not is_locked(path)
    locked = lock_file(path)
    assert locked is not None and owner_in(path) == os.getpid()
    # Also not twice in one process.
    assert is_own(path) and is_locked(path) and lock_file(path) is None
    locked.release()
    locked.release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", [-86400.0, 86400.0])
def test_a_step_of_the_clock_frees_no_lock(
    tmp_path: Path, lock_elsewhere: Any, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    path = tmp_path / "writer"
    lock_elsewhere(path)
    # What psutil makes of a clock that was set: every process began at another time.
    began = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: began(self) + step)
    os.utime(path, (0, 0))
    assert is_locked(path)
    assert lock_file(path) is None


def test_whoever_asks_does_not_keep_anybody_from_taking(tmp_path: Path) -> None:
    path = tmp_path / "writer"
    path.touch()
    for _ in range(20):
        assert not is_locked(path)
        locked = lock_file(path)
        assert locked is not None
        locked.release()


def test_users_of_a_folder_are_counted(tmp_path: Path, lock_elsewhere: Any) -> None:
    assert not is_used(tmp_path)
    first, second = mark_use(tmp_path), mark_use(tmp_path)
    assert (users_of(tmp_path), used_by_others(tmp_path)) == (2, 0)
    first()
    first()
    assert users_of(tmp_path) == 1
    other = lock_elsewhere(tmp_path / "in-use.other")
    assert (users_of(tmp_path), used_by_others(tmp_path)) == (2, 1)
    second()
    assert is_used(tmp_path)
    other.kill()
    other.wait()
    assert not is_used(tmp_path)
    assert list(tmp_path.iterdir()) == []
