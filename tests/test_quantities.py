"""Bytes and seconds as people read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_restore._format import format_seconds, format_size, size_of


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (300, "300 bytes"),
        (1000, "1.0 KiB"),
        (3.4 * 2**20, "3.4 MiB"),
        (99.99 * 2**20, "100 MiB"),
        (512 * 2**10, "512 KiB"),
        (1.2 * 2**30, "1.2 GiB"),
        (1200 * 2**30, "1.2 TiB"),
        (5000 * 2**40, "5000 TiB"),
    ],
)
def test_sizes(size: float, text: str):
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.2, "1 s"),
        (59, "59 s"),
        (59.1, "1 min 0 s"),
        (7500, "2 h 5 min"),
        (3599.5, "1 h 0 min"),
        (7259, "2 h 1 min"),
    ],
)
def test_times(seconds: float, text: str):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (0.4, "0.4 s"), (9.97, "10 s"), (200, "3 min 20 s")]
)
def test_short_measured_times_keep_a_tenth(seconds: float, text: str):
    assert format_seconds(seconds, tenths=True) == text


def test_a_folder_is_as_large_as_its_files(tmp_path: Path):
    (tmp_path / "x.zarr" / "c").mkdir(parents=True)
    (tmp_path / "x.zarr" / "zarr.json").write_bytes(b"12")
    (tmp_path / "x.zarr" / "c" / "0").write_bytes(b"345")
    assert size_of(tmp_path / "x.zarr") == 5
    assert size_of(tmp_path / "x.zarr" / "c" / "0") == 3


def test_sizes_side_by_side_have_one_unit():
    assert format_size(0.5 * 2**30, like=1.2 * 2**30) == "0.50 GiB"
    assert format_size(1.2 * 2**30, like=1.2 * 2**30) == "1.2 GiB"
    assert format_size(300 * 2**20, like=600 * 2**20) == "300 MiB"
