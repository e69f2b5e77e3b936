"""Values in files: valid once their description, written last, says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_restore.engine.ledger.values import (
    UNREADABLE,
    Values,
    read_arrays,
    rows_into,
    rows_of,
    write_arrays,
)

GRID = torch.arange(100 * 3 * 2, dtype=torch.float32).reshape(100, 3, 2)


def tick() -> None:
    """Nobody cancels."""


@pytest.fixture
def values(tmp_path: Path) -> Values:
    values = Values(tmp_path, "layer", "key")
    values.put("1", rows_of(GRID, tick))
    values.finish(layer=1)
    return values


def read(values: Values, part: str) -> torch.Tensor | None:
    grid = torch.zeros_like(GRID)
    return grid if values.read(part, rows_into(grid, tick)) else None


def test_what_was_put_is_read_by_a_later_process(tmp_path: Path, values: Values) -> None:
    later = Values(tmp_path, "layer", "key")
    about = later.about()
    assert about is not None and about["layer"] == 1
    found = read(later, "1")
    assert found is not None and torch.equal(found, GRID)
    assert later.verify()
    later.remove()
    assert list(tmp_path.iterdir()) == []


def test_values_of_another_key_are_missing(tmp_path: Path, values: Values) -> None:
    assert Values(tmp_path, "layer", "other").about() is None


@pytest.mark.parametrize("damage", ["bit", "cut", "gone", "description", "torn"])
def test_damaged_values_are_missing(tmp_path: Path, values: Values, damage: str) -> None:
    name = "layer.json" if damage in ("description", "torn") else "layer.1"
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    if damage in ("cut", "torn"):
        del content[-3:]
    (tmp_path / name).write_bytes(content)
    if damage == "gone":
        (tmp_path / name).unlink()
    assert read(values, "1") is None
    assert not values.verify()
    assert values.about() is None


def test_the_values_before_are_valid_until_the_next_are(tmp_path: Path, values: Values) -> None:
    def killed() -> Iterator[memoryview]:
        yield from rows_of(GRID[:64], tick)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        values.put("2", killed())
    values.put("2", rows_of(GRID + 1, tick))
    # As a process that is killed before it has finished.
    found = read(Values(tmp_path, "layer", "key"), "1")
    assert found is not None and torch.equal(found, GRID)
    values.finish(layer=2)
    assert {path.name for path in tmp_path.iterdir()} == {"layer.json", "layer.2"}


def test_arrays_have_a_keyed_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_arrays(path, {"x": np.arange(5)}, "key")
    np.testing.assert_array_equal(read_arrays(path, "key")["x"], np.arange(5))
    with pytest.raises(ValueError, match="checksum"):
        read_arrays(path, "other")
    np.savez(path, x=np.arange(5))
    with pytest.raises(UNREADABLE):
        read_arrays(path, "key")
