"""Files that can only be decoded from the top are on the canvas as they are decoded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

import napari_restore as nr
from napari_restore.errors import UnreadableImage
from napari_restore.plugin.layers.growth import Growth
from napari_restore.plugin.layers.reader import layer_of

pytestmark = pytest.mark.viewer

HEIGHT, WIDTH = 1400, 900
COLOURS = np.array([[[0.8, 0.1, 0.1], [0.1, 0.7, 0.2]], [[0.2, 0.2, 0.9], [0.7, 0.7, 0.6]]])
"""sRGB in 0 … 1 of the quarters."""
NEAR = 14
"""By how much a lossy codec, or a camera's colour filter, may be beside the colour, of 255."""
PATIENCE = 20.0
"""Seconds after which decoding goes on, so that a window that waits for it ends its test."""


def quarters(dtype: type) -> np.ndarray:
    pixels = np.kron(COLOURS, np.ones((HEIGHT // 2, WIDTH // 2, 1)))
    return np.rint(pixels * np.iinfo(dtype).max).astype(dtype)


@pytest.fixture
def write(write_dng: Callable[..., None]) -> Callable[[Path], None]:
    """A function that writes the quarters in the format that a name tells."""
    import tifffile
    from PIL import Image as Pillow

    def write(path: Path) -> None:
        if path.suffix == ".dng":
            srgb = np.kron(COLOURS, np.ones((HEIGHT // 2, WIDTH // 2, 1)))
            write_dng(
                path, np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
            )
        elif path.suffix == ".tif":
            pixels = quarters(np.uint16 if "16" in path.name else np.uint8)
            axes = {"axes": "YXS"} if ".ome" in path.name else None
            tifffile.imwrite(path, pixels, photometric="rgb", rowsperstrip=16, metadata=axes)
        else:
            pixels = quarters(np.uint8)
            if "alpha" in path.name:
                pixels = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
            Pillow.fromarray(pixels).save(path)

    return write


@pytest.fixture
def seen(make_napari_viewer: Any) -> Callable[[], np.ndarray]:
    """A function that gives the canvas in the middle of each quarter, (2, 2, 3) uint8."""
    # Shown: the canvas of a hidden window is not drawn until the camera is moved.
    viewer = make_napari_viewer(show=True)

    def seen() -> np.ndarray:
        QApplication.processEvents()
        canvas = viewer.screenshot(canvas_only=True, flash=False)
        zoom = viewer.scene.camera.zoom
        y, x = (
            np.rint(length / 2 + zoom * np.array([-0.25, 0.25]) * size).astype(int)
            for length, size in zip(canvas.shape[:2], (HEIGHT, WIDTH), strict=True)
        )
        return canvas[np.ix_(y, x)][..., :3]

    seen.viewer = viewer  # type: ignore[attr-defined]
    return seen


def shows(found: np.ndarray, row: int) -> bool:
    """Whether the quarters of a row have their colours."""
    return bool(np.abs(found[row] - COLOURS[row] * 255).max() <= NEAR)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["a.jpg", "a.png", "alpha.png", "a.webp", "8.tif", "16.tif", "16.ome.tif", "a.dng"],
)
@pytest.mark.ids("nightly", "a.png", "alpha.png", "8.tif", "16.tif", "a.jpg", "a.dng")
def test_a_file_shows_while_it_is_decoded(
    tmp_path: Path,
    write: Callable[[Path], None],
    seen: Any,
    qtbot: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    streamed_above: Callable[[int], None],
):
    if name.endswith(".dng"):
        pytest.importorskip("rawpy")
    path = tmp_path / name
    write(path)
    streamed_above(1 << 20)
    reader = type(nr.open_image(path).reader)
    rows, rest, waited = reader.read_rows, threading.Event(), []

    def read_rows(self: Any, y0: int, y1: int) -> np.ndarray:
        if y1 == HEIGHT:
            waited.append(rest.wait(PATIENCE))
        pixels: np.ndarray = rows(self, y0, y1)
        return pixels

    monkeypatch.setattr(reader, "read_rows", read_rows)
    seen.viewer.open(path, plugin="napari-restore")
    qtbot.waitUntil(lambda: shows(seen(), 0))
    assert not seen()[1].any()
    rest.set()
    qtbot.waitUntil(lambda: shows(seen(), 1))
    assert shows(seen(), 0)
    assert waited == [True]


@pytest.mark.nightly
def test_the_values_of_a_16_bit_file_decide_its_contrast_as_it_is_decoded(
    tmp_path: Path, seen: Any, qtbot: Any, streamed_above: Callable[[int], None]
):
    import tifffile

    path = tmp_path / "12 bits.tif"
    tifffile.imwrite(path, quarters(np.uint16) >> 4, photometric="rgb", rowsperstrip=16)
    streamed_above(1 << 20)
    seen.viewer.open(path, plugin="napari-restore")
    (layer,) = seen.viewer.layers
    qtbot.waitUntil(lambda: layer.contrast_limits[1] < 4096)
    qtbot.waitUntil(lambda: bool(seen().max(axis=2).min() > 100))


@pytest.mark.slow
def test_a_file_that_fails_midway_is_reported_once(
    tmp_path: Path,
    write: Callable[[Path], None],
    seen: Any,
    qtbot: Any,
    monkeypatch: pytest.MonkeyPatch,
    streamed_above: Callable[[int], None],
):
    path = tmp_path / "a.png"
    write(path)
    streamed_above(1 << 20)
    reader = type(nr.open_image(path).reader)
    rows = reader.read_rows

    def read_rows(self: Any, y0: int, y1: int) -> np.ndarray:
        if y1 == HEIGHT:
            raise UnreadableImage("The disk was taken away.", "Put it back.")
        pixels: np.ndarray = rows(self, y0, y1)
        return pixels

    monkeypatch.setattr(reader, "read_rows", read_rows)
    reported: list[Any] = []
    begun: list[Growth] = []
    start = Growth.start
    monkeypatch.setattr(Growth, "start", lambda self: (begun.append(self), start(self)))
    monkeypatch.setattr("napari_restore.plugin.layers.growth.show_problem", reported.append)
    seen.viewer.open(path, plugin="napari-restore")
    qtbot.waitUntil(lambda: bool(reported))
    begun[0].wait()
    assert seen().shape == (2, 2, 3)
    assert len(reported) == 1


@pytest.mark.slow
def test_a_file_decoded_before_its_layer_exists_is_shown_as_well(
    tmp_path: Path,
    seen: Any,
    qtbot: Any,
    monkeypatch: pytest.MonkeyPatch,
    streamed_above: Callable[[int], None],
):
    import tifffile

    path = tmp_path / "12 bits.tif"
    tifffile.imwrite(path, quarters(np.uint16) >> 4, photometric="rgb", rowsperstrip=16)
    streamed_above(1 << 20)
    growths: list[Growth] = []
    start = Growth.start
    monkeypatch.setattr(Growth, "start", lambda self: (growths.append(self), start(self)))
    data, arguments, _ = layer_of(nr.open_image(path), seen.viewer)
    growths[0].wait()
    QApplication.processEvents()
    layer = seen.viewer.add_image(data, **arguments)
    assert layer.contrast_limits[1] == 65535
    qtbot.waitUntil(lambda: layer.contrast_limits[1] < 4096)
    assert seen().max(axis=2).min() > 100
