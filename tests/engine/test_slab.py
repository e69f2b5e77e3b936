"""The slab file: records whole or not there, after a crash, on a full disk, from two threads."""

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_restore.engine.ledger import slab as _slab
from napari_restore.engine.ledger.slab import SlabFile, journal_of, key_of
from napari_restore.errors import DiskFull

BYTES = 1000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ä folder" / "r.slab"


@pytest.fixture(params=["pread", "seek"])
def way(request, monkeypatch):
    """With the calls of POSIX, and as on Windows without them."""
    if request.param == "seek":
        for name in ("preadv", "pwrite", "posix_fallocate", "posix_fadvise"):
            monkeypatch.delattr(os, name, raising=False)


def record(seed, size=BYTES):
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


def reopened(path, count=5, **options):
    return SlabFile(path, **{"record_bytes": BYTES, "count": count, "key": "k", **options})


def test_what_is_put_is_got_and_is_there_after_reopening(path, way):
    slab = reopened(path)
    assert path.stat().st_size == slab.nbytes == 5 * BYTES
    for index in (3, 0):
        slab.put(index, record(index))
    slab.put(3, memoryview(record(33)))
    slab.close()
    slab = reopened(path)
    assert slab.done.tolist() == [True, False, False, True, False]
    assert [slab.has(i) for i in range(5)] == slab.done.tolist()
    out = np.empty(BYTES, np.uint8)
    assert slab.get(0, out) is out
    np.testing.assert_array_equal(out, record(0))
    np.testing.assert_array_equal(slab.get(3), record(33))
    assert slab.get(1) is None
    slab.remove()
    assert list(path.parent.iterdir()) == []


def test_large_records_are_moved_in_parts(path, way, monkeypatch):
    monkeypatch.setattr(_slab, "_AT_ONCE", 300)
    slab = reopened(path)
    slab.put(1, record(1))
    slab.put(2, record(2))
    np.testing.assert_array_equal(slab.get(1), record(1))
    np.testing.assert_array_equal(slab.get(2), record(2))
    slab.close()


def test_a_record_of_another_size_or_place_is_refused(path):
    slab = reopened(path)
    with pytest.raises(ValueError, match="1000 bytes"):
        slab.put(0, record(0, 999))
    for index in (-1, 5):
        with pytest.raises(IndexError):
            slab.put(index, record(0))
        with pytest.raises(IndexError):
            slab.get(index)
    assert not slab.done.any()
    slab.close()


@pytest.mark.parametrize(
    "other", [{"key": "l"}, {"count": 6}, {"record_bytes": 500}], ids=lambda o: next(iter(o))
)
def test_a_file_made_for_something_else_is_made_anew(path, other):
    slab = reopened(path)
    slab.put(0, record(0))
    slab.close()
    slab = reopened(path, **other)
    assert not slab.done.any()
    assert path.stat().st_size == slab.nbytes
    assert key_of(path) == other.get("key", "k")
    slab.close()


def test_a_damaged_record_is_none_and_no_longer_there(path, way):
    slab = reopened(path)
    for index in range(5):
        slab.put(index, record(index))
    with open(path, "r+b") as file:
        file.seek(2 * BYTES + 700)
        file.write(bytes([record(2)[700] ^ 1]))
    assert slab.get(2) is None
    assert not slab.has(2)
    np.testing.assert_array_equal(slab.get(1), record(1))
    np.testing.assert_array_equal(slab.get(3), record(3))
    slab.put(2, record(22))
    np.testing.assert_array_equal(slab.get(2), record(22))
    slab.close()


def test_parts_of_a_record_are_read_and_checked_by_themselves(path, way):
    parts = (700, 50, 250)
    slab = reopened(path, parts=parts)
    slab.put(1, record(1))
    slab.close()
    slab = reopened(path, parts=(500, 500))
    assert not slab.has(1)
    slab.close()
    slab = reopened(path, parts=parts)
    slab.put(1, record(1))
    slab.close()
    slab = reopened(path, parts=parts)
    out = np.empty(50, np.uint8)
    assert slab.get_part(1, 1, out)
    np.testing.assert_array_equal(out, record(1)[700:750])
    np.testing.assert_array_equal(slab.get(1), record(1))
    assert not slab.get_part(0, 1, out)
    with pytest.raises(ValueError, match="50"):
        slab.get_part(1, 1, np.empty(49, np.uint8))
    with open(path, "r+b") as file:
        file.seek(BYTES + 720)
        file.write(bytes([record(1)[720] ^ 1]))
    # The others are still whole, until the damage is met.
    assert slab.get_part(1, 0, np.empty(700, np.uint8))
    assert not slab.get_part(1, 1, out)
    assert not slab.has(1)
    slab.close()


def test_entries_of_another_file_do_not_count(path):
    slab = reopened(path)
    slab.put(0, record(0))
    slab.close()
    entry = journal_of(path).read_bytes().splitlines(keepends=True)[1]
    journal_of(path).unlink()
    other = reopened(path, key="other")
    other.close()
    with open(journal_of(path), "ab") as journal:
        journal.write(entry)
    other = reopened(path, key="other")
    assert not other.done.any()
    other.close()


def test_a_file_of_an_earlier_version_is_made_anew(path):
    path.parent.mkdir()
    path.write_bytes(record(0, 5 * BYTES).tobytes())
    header = '{"format": 1, "key": "k", "record_bytes": 1000, "count": 5}'
    journal_of(path).write_text(f"{header}\n0 00000000\n")
    assert key_of(path) is None
    slab = reopened(path)
    assert not slab.done.any() and slab.get(0) is None
    slab.close()


def test_a_file_cut_short_is_made_anew(path):
    slab = reopened(path)
    slab.put(0, record(0))
    slab.close()
    os.truncate(path, 3 * BYTES)
    slab = reopened(path)
    assert not slab.done.any()
    slab.put(4, record(4))
    np.testing.assert_array_equal(slab.get(4), record(4))
    slab.close()


# -- crashes -------------------------------------------------------------------------


@pytest.mark.parametrize("torn", [b"{", b'{"record": 2, "crc32c": [0]}', b"\xff\xfe"])
def test_a_journal_torn_in_mid_line_names_only_what_stands_before(path, torn):
    slab = reopened(path)
    slab.put(0, record(0))
    slab.close()
    with open(journal_of(path), "ab") as journal:
        journal.write(torn)
    slab = reopened(path)
    assert slab.done.tolist() == [True, False, False, False, False]
    slab.put(1, record(1))
    slab.close()
    slab = reopened(path)
    assert slab.done.tolist() == [True, True, False, False, False]
    np.testing.assert_array_equal(slab.get(1), record(1))
    slab.close()


def test_a_journal_without_a_whole_first_line_is_no_journal(path):
    reopened(path).close()
    content = journal_of(path).read_bytes()
    for left in (b"", content[:-1], content[:7] + b"\n"):
        journal_of(path).write_bytes(left)
        slab = reopened(path)
        slab.put(0, record(0))
        assert slab.has(0)
        slab.close()
        assert journal_of(path).read_bytes().startswith(content)


def test_killed_while_writing_over_a_record_neither_is_there(path, monkeypatch):
    slab = reopened(path)
    slab.put(0, record(0))
    slab.put(1, record(1))

    def half(content, offset):
        os.pwrite(slab._file.fileno(), content[:500].data, offset)
        raise KeyboardInterrupt

    monkeypatch.setattr(slab, "_write", half)
    with pytest.raises(KeyboardInterrupt):
        slab.put(0, record(9))
    slab.close()
    slab = reopened(path)
    assert slab.done.tolist() == [False, True, False, False, False]
    slab.close()


WRITER = """
import sys, numpy as np
from pathlib import Path
from napari_restore.engine.ledger.slab import SlabFile
size, count = 1 << 20, 8
slab = SlabFile(Path(sys.argv[1]), size, count, key="k")
for turn in range(10**9):
    for index in range(count):
        slab.put(index, np.full(size, (index + count * turn) % 251, np.uint8))
        print(index + count * turn, flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kill -9 is of POSIX")
@pytest.mark.parametrize("puts", [2, 9, 29])
def test_after_kill_9_each_record_of_the_journal_is_whole(path, puts):
    """Within the first round, while written over, and later; the last put is cut anywhere."""
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(_slab.__file__).parents[3])},
    )
    with child:
        assert child.stdout is not None
        for _ in range(puts):
            assert child.stdout.readline()
        child.kill()
        last = puts - 1
        for line in child.stdout:
            last = int(line) if line.endswith(b"\n") else last
    size, count = 1 << 20, 8
    slab = SlabFile(path, size, count, key="k")
    # All but the one (or, before its line was printed, two) that the kill came upon.
    assert slab.done.sum() >= min(last + 1, count) - 1
    for index in np.flatnonzero(slab.done):
        found = slab.get(int(index))
        assert found is not None
        value = int(found[0])
        assert (found == value).all()
        turns = range(last // count + 3)
        assert value in {(index + count * turn) % 251 for turn in turns}
        if last + 1 < count:
            assert value == index
    slab.put(0, np.full(size, 7, np.uint8))
    assert (slab.get(0) == 7).all()
    slab.close()


# -- full disks ----------------------------------------------------------------------


def test_a_full_disk_shows_at_once_and_leaves_nothing(path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(DiskFull, match=r"900 KiB of records.*scratch= elsewhere"):
        SlabFile(path, 1 << 10, 900, key="k")
    assert list(path.parent.iterdir()) == []


def test_where_space_cannot_be_set_aside_the_free_space_is_looked_at(path, monkeypatch):
    def not_offered(*_):
        raise OSError(errno.EOPNOTSUPP, "not offered")

    monkeypatch.setattr(os, "posix_fallocate", not_offered, raising=False)
    reopened(path).remove()
    free = SimpleNamespace(free=5 * BYTES - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(DiskFull):
        reopened(path)
    assert not path.exists()
    free.free += 1
    reopened(path).close()
    assert path.stat().st_size == 5 * BYTES


def test_a_disk_that_fills_up_later_raises_and_keeps_what_was_written(path, monkeypatch):
    slab = reopened(path)
    slab.put(0, record(0))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(slab, "_write", full)
        with pytest.raises(DiskFull):
            slab.put(1, record(1))
    assert slab.done.tolist() == [True, False, False, False, False]
    slab.put(2, record(2))
    slab.close()
    slab = reopened(path)
    assert slab.done.tolist() == [True, False, True, False, False]
    slab.close()


def test_a_journal_line_that_a_full_disk_cut_harms_no_later_one(path, monkeypatch):
    slab = reopened(path)

    def full(entry):
        with open(journal_of(path), "ab") as journal:
            journal.write(b'{"rec')
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(slab, "_note", full)
        with pytest.raises(DiskFull):
            slab.put(1, record(1))
    slab.close()
    slab = reopened(path)
    slab.put(2, record(2))
    slab.close()
    slab = reopened(path)
    assert slab.done.tolist() == [False, False, True, False, False]
    slab.close()


@pytest.fixture
def tiny_disk(mount_disk):
    """A disk of 1 MiB, where one may be mounted."""
    return mount_disk("1m")


def test_on_a_disk_that_is_really_too_small(tiny_disk):
    with pytest.raises(DiskFull):
        SlabFile(tiny_disk / "r.slab", 1 << 20, 2, key="k")
    assert list(tiny_disk.iterdir()) == []
    slab = SlabFile(tiny_disk / "r.slab", 1 << 18, 3, key="k")
    (tiny_disk / "other").write_bytes(bytes((1 << 18) - 8192))
    for index in range(3):
        # Set aside beforehand: another program cannot take it.
        slab.put(index, record(index, 1 << 18))
    np.testing.assert_array_equal(slab.get(2), record(2, 1 << 18))
    slab.close()


def test_a_file_larger_than_the_file_system_takes(path):
    resource = pytest.importorskip("resource")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, old[1]))
    try:
        with pytest.raises(DiskFull, match="does not take a file as large as"):
            SlabFile(path, 1 << 20, 2, key="k")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


# -- threads -------------------------------------------------------------------------


@pytest.mark.nightly
def test_one_writes_while_others_read_and_none_sees_half_a_record(path, way):
    size, count, turns = 20_000, 4, 60
    slab = SlabFile(path, size, count, key="k")
    stop = threading.Event()
    torn: list[int] = []

    def read(who):
        rng = np.random.default_rng(who)
        while not stop.is_set():
            index = int(rng.integers(count))
            found = slab.get(index)
            if found is None:
                continue
            if not (found == found[0]).all() or found[0] % count != index:
                torn.append(index)

    readers = [threading.Thread(target=read, args=(who,)) for who in (0, 1)]
    for reader in readers:
        reader.start()
    for turn in range(turns):
        for index in range(count):
            slab.put(index, np.full(size, index + count * turn, np.uint8))
    stop.set()
    for reader in readers:
        reader.join()
    assert torn == []
    for index in range(count):
        np.testing.assert_array_equal(slab.get(index), index + count * (turns - 1))
    slab.close()
