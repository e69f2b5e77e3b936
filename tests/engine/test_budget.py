"""Sizes as people write them, and the sampled peak."""

import mmap

import numpy as np
import pytest

from napari_restore.engine.machine.budget import PeakMemory, parse_size
from napari_restore.errors import BadParameter


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GiB", 2 << 30),
        ("1.5 gib", 3 << 29),
        ("512MiB", 512 << 20),
        ("800MB", 800_000_000),
        ("1000", 1000),
        (4096, 4096),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1GiB", "1.2.3MiB", "3 parsecs", "0"])
def test_what_is_no_size(text):
    with pytest.raises(BadParameter, match="no size"):
        parse_size(text)


def test_peak_memory_sees_a_large_array():
    with PeakMemory() as memory:
        # Straight from the system: the heap may hold as much that earlier tests have freed.
        block = np.frombuffer(mmap.mmap(-1, 100 << 20), np.uint8)
        while memory.peak - memory.start < 90 << 20:
            block[::4096] += 1
    assert memory.peak - memory.start >= 90 << 20
