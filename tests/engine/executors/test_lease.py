"""A lease on a store that several machines see."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from points import patience

from napari_restore.engine import StoreBusy, lock_exclusive
from napari_restore.engine.ledger import folder
from napari_restore.engine.ledger.folder import LEASE, Lease, holder_of


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(folder, "STALE_SECONDS", 0.5)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Lease]:
    """Takes a lease as if on another machine."""

    def take(path: Path) -> Lease:
        with monkeypatch.context() as patch:
            patch.setattr("platform.node", lambda: "other")
            return Lease(path, lambda: None)

    return take


class Owner:
    """What holds a lock: it must be possible to refer to it weakly."""


def test_no_one_holds_a_new_store(tmp_path: Path) -> None:
    assert holder_of(tmp_path) is None


def test_a_lease_of_another_machine_is_held_while_it_is_renewed(
    tmp_path: Path, elsewhere: Callable[[Path], Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "STALE_SECONDS", 60.0)
    lease = elsewhere(tmp_path)
    found = holder_of(tmp_path)
    assert found is not None
    assert found.name == f"other, process {os.getpid()}"
    with pytest.raises(StoreBusy, match=r"Another run \(other, process"):
        lock_exclusive(Owner(), tmp_path)
    lease.release()
    assert holder_of(tmp_path) is None
    lock_exclusive(Owner(), tmp_path)()


def test_a_lease_of_a_killed_process_is_free(tmp_path: Path) -> None:
    """It is not renewed; on this machine, there is no such process."""
    for host in ("other", platform.node()):
        about = {"id": "x", "host": host, "process": 2**30, "beat": 7}
        (tmp_path / LEASE).write_text(json.dumps(about))
        assert holder_of(tmp_path) is None


def test_a_lease_that_another_machine_took_is_lost(
    tmp_path: Path, elsewhere: Callable[[Path], Lease]
) -> None:
    lost = threading.Event()
    lease = Lease(tmp_path, lost.set)
    taken, end = elsewhere(tmp_path), time.monotonic() + patience()
    # Where both write at once, the one that was later has it: then it is taken again.
    while not lost.wait(1) and time.monotonic() < end:
        taken.release()
        taken = elsewhere(tmp_path)
    assert lost.is_set()
    lease.release()
    # It is not this one's to remove.
    assert (tmp_path / LEASE).exists()
    taken.release()


def test_a_damaged_lease_is_none(tmp_path: Path) -> None:
    (tmp_path / LEASE).write_text("{")
    assert holder_of(tmp_path) is None
