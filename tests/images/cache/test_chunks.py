"""The cache of decoded chunks: bounded, joined, forgetful."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest
from points import patience

from napari_restore.images import ChunkCache, Level, Source


class Nothing(Source):
    levels = (Level(1, 1, 1, 1),)
    bands = 1
    dtype = np.dtype(np.uint8)

    def read_chunk(self, level: int, row: int, column: int) -> Any:
        raise AssertionError


def chunk(size: int) -> np.ndarray:
    return np.zeros(size, np.uint8)


def test_the_longest_unused_goes_first() -> None:
    cache, source = ChunkCache(100), Nothing()
    for key in "ab":
        cache.get(source, key, lambda: chunk(40))
    cache.get(source, "a", lambda: pytest.fail("was there"))
    cache.get(source, "c", lambda: chunk(40))
    assert cache.bytes == 80
    cache.get(source, "a", lambda: pytest.fail("was used last"))
    decodes = cache.decodes
    cache.get(source, "b", lambda: chunk(40))
    assert cache.decodes == decodes + 1


def test_resize_and_too_large_chunks() -> None:
    cache, source = ChunkCache(100), Nothing()
    cache.get(source, 1, lambda: chunk(90))
    cache.resize(50)
    assert cache.bytes == 0
    assert cache.get(source, 2, lambda: chunk(60)).nbytes == 60
    assert cache.bytes == 0


def test_chunks_are_read_only() -> None:
    kept = ChunkCache().get(Nothing(), 1, lambda: chunk(4))
    with pytest.raises(ValueError, match="read-only"):
        kept[0] = 1


def test_equal_requests_are_joined() -> None:
    cache, source = ChunkCache(), Nothing()
    begun, go_on = threading.Event(), threading.Event()
    calls, results = [], []

    def decode() -> np.ndarray:
        calls.append(1)
        begun.set()
        go_on.wait(patience())
        return chunk(4)

    threads = [
        threading.Thread(target=lambda: results.append(cache.get(source, "x", decode)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    begun.wait(patience())
    go_on.set()
    for thread in threads:
        thread.join(patience())
    assert len(calls) == 1
    assert len({id(result) for result in results}) == 1
    assert len(results) == 4


def test_a_failed_decode_is_tried_again() -> None:
    cache, source = ChunkCache(), Nothing()

    def fail() -> np.ndarray:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        cache.get(source, 1, fail)
    assert cache.get(source, 1, lambda: chunk(3)).nbytes == 3


def test_sources_are_told_apart_and_forgotten() -> None:
    cache, one, two = ChunkCache(), Nothing(), Nothing()
    cache.get(one, 1, lambda: chunk(3))
    cache.get(two, 1, lambda: chunk(5))
    assert cache.bytes == 8
    cache.forget(one)
    assert cache.bytes == 5
    del two
    gc.collect()
    cache.get(one, 2, lambda: chunk(1))
    assert cache.bytes == 1


def test_runs_side_by_side_share_the_larger_bound_and_leave_the_usual_one():
    cache = ChunkCache(1000)
    with cache.bounded(100):
        assert cache.limit == 100
        with cache.bounded(300):
            assert cache.limit == 300
        assert cache.limit == 100
    first, second = cache.bounded(50), cache.bounded(70)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert cache.limit == 70
    second.__exit__(None, None, None)
    assert cache.limit == 1000


def test_what_is_offered_is_there_and_counted_once() -> None:
    cache, source = ChunkCache(100), Nothing()
    cache.offer(source, "a", chunk(40))
    assert cache.peek(source, "b") is None
    kept = cache.peek(source, "a")
    assert kept is not None and not kept.flags.writeable
    assert cache.get(source, "a", lambda: pytest.fail("was there")) is kept

    def decode() -> np.ndarray:
        cache.offer(source, "c", chunk(40))
        return chunk(40)

    cache.get(source, "c", decode)
    assert cache.bytes == 80
