"""Copies of arrays in memory, for another process."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_restore.images import Image, open_image


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def values(bands: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 50, bands)).astype(np.uint8)


def test_a_copy_is_the_same_image_and_goes_with_it(folder: Path) -> None:
    image = open_image(values())
    spec = image.spec_elsewhere()
    assert spec is not None and spec == image.spec_elsewhere()
    copy = Image.from_spec(spec)
    np.testing.assert_array_equal(copy.read((0, 0, 40, 50)), values())
    assert copy.fingerprint == image.fingerprint and copy.roles == image.roles
    copy.close()
    del image, copy
    gc.collect()
    assert not list(folder.iterdir())


def test_with_a_sensor_it_has_a_copy_of_its_own() -> None:
    """The first image may go, and has colours that the second one has not."""
    image = open_image(values())
    first = image.spec_elsewhere()
    other = image.with_sensor("naip")
    spec = other.spec_elsewhere()
    assert first is not None and spec is not None and spec["array"] != first["array"]
    del image
    gc.collect()
    copy = Image.from_spec(spec)
    assert copy.roles == other.roles == ("red", "green", "blue", "nir")
    assert copy.may_be_invalid == other.may_be_invalid
    np.testing.assert_array_equal(copy.read((0, 0, 40, 50)), values())


def test_a_copy_that_does_not_fit_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = np.lib.format.open_memmap

    def full(*arguments: Any, **options: Any) -> Any:
        written(*arguments, **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "open_memmap", full)
    image = open_image(values())
    with pytest.raises(OSError, match="No space"):
        image.spec_elsewhere()
    assert not list(folder.iterdir())
