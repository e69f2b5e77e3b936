"""The bandwidth probe: plausible figures, once per disk, nothing left behind."""

import errno
import os
import shutil
import subprocess
import tempfile
from types import SimpleNamespace

import pytest

from napari_restore.engine.machine import MIB
from napari_restore.engine.planning import _bandwidth, probe, ram_bandwidth
from napari_restore.errors import DiskFull


@pytest.fixture(autouse=True)
def nothing_measured(monkeypatch):
    monkeypatch.setattr(_bandwidth, "_MEASURED", {})


@pytest.fixture
def sizes(monkeypatch):
    """The sizes that probes were really made with."""
    sizes = []
    measure = _bandwidth._write_and_read

    def note(folder, size):
        sizes.append(size)
        return measure(folder, size)

    monkeypatch.setattr(_bandwidth, "_write_and_read", note)
    return sizes


def test_a_folder_is_measured_and_nothing_stays(tmp_path):
    (tmp_path / "new" / "scratch").mkdir(parents=True)
    found = probe(tmp_path / "new" / "scratch", 5 * MIB + 3)
    assert 0 < found.write_bytes_per_second < 1e13
    assert 0 < found.read_bytes_per_second < 1e13
    assert list((tmp_path / "new" / "scratch").iterdir()) == []


def test_the_bytes_are_on_the_disk_before_the_clock_stops(tmp_path, monkeypatch):
    seen = []
    for name in ("fsync", "posix_fadvise"):
        if (call := getattr(os, name, None)) is None:
            pytest.skip(f"no {name} here")

        def note(handle, *rest, name=name, call=call):
            seen.append((name, os.fstat(handle).st_size))
            return call(handle, *rest)

        monkeypatch.setattr(os, name, note)
    probe(tmp_path, 5 * MIB + 3)
    assert seen == [("fsync", 5 * MIB + 3), ("posix_fadvise", 5 * MIB + 3)]


def test_a_disk_is_measured_once(tmp_path, sizes):
    first = probe(tmp_path, MIB)
    (tmp_path / "other").mkdir()
    assert probe(tmp_path / "other", 2 * MIB) is first
    assert sizes == [MIB]


def test_where_little_is_free_the_probe_is_smaller(tmp_path, monkeypatch, sizes):
    def usage(_):
        return SimpleNamespace(free=6 * MIB)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    probe(tmp_path)
    assert sizes == [3 * MIB]


def test_a_quota_halves_the_probe_until_it_fits(tmp_path, monkeypatch, sizes):
    write = _bandwidth._write_and_read

    def quota(folder, size):
        found = write(folder, size)
        if size > 2 * MIB:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return found

    monkeypatch.setattr(_bandwidth, "_write_and_read", quota)
    probe(tmp_path, 8 * MIB)
    assert sizes == [8 * MIB, 4 * MIB, 2 * MIB]
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_with_a_next_step(tmp_path, monkeypatch):
    def full(**_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(DiskFull, match=r"no space in .*scratch= elsewhere"):
        probe(tmp_path, 4 * MIB)
    assert _bandwidth._MEASURED == {}


def test_another_failure_is_not_called_a_full_disk(tmp_path, monkeypatch):
    def broken(**_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(tempfile, "TemporaryFile", broken)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        probe(tmp_path, 4 * MIB)


def test_on_a_disk_that_is_really_small(tmp_path, sizes):
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no disk may be mounted")
    try:
        probe(tmp_path)
        assert sizes == [2 * MIB]
        _bandwidth._MEASURED.clear()
        (tmp_path / "other").write_bytes(bytes(3 * MIB))
        with pytest.raises(DiskFull):
            probe(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["other"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_memory_is_faster_than_a_disk_could_be():
    assert 1e8 < ram_bandwidth() < 1e13
    assert ram_bandwidth() == ram_bandwidth()
