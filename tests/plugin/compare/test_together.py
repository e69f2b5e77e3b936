"""Blink, side by side and linked contrast, on the viewer's model without a window."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_restore.plugin.compare.compare_section import Blink
from napari_restore.plugin.compare.compared_layers import LinkedContrast, SideBySide

from .conftest import show


def keyed(viewer: Any) -> dict[str, Any]:
    return {str(key): function for key, function in viewer.keymap.items()}


@pytest.mark.slow
def test_a_pressed_key_shows_the_source(
    state: Any, make_variant: Any, hazy: np.ndarray, qtbot: Any
):
    viewer = ViewerModel()
    first = make_variant(viewer, hazy)
    second = make_variant(viewer, hazy, "identity", source=first.source)
    other = viewer.add_image(np.ones((5, 5)), opacity=0.3)
    first.layer.opacity = 0.6
    first.layer.visible = first.source.visible = False
    show(state, first, second)
    blink = Blink(viewer, state)
    held = keyed(viewer)["H"](viewer)
    next(held)
    assert [layer.opacity for layer in (first.layer, second.layer, other)] == [0, 0, 0.3]
    assert first.source.visible
    assert not first.layer.visible
    assert next(held, None) is None
    # A key that repeats is released and pressed: what is shown waits for the last release.
    qtbot.waitUntil(lambda: not first.source.visible)
    assert [layer.opacity for layer in (first.layer, second.layer, other)] == [0.6, 1, 0.3]
    blink.close()
    assert keyed(viewer) == {}


def test_without_a_result_the_key_does_nothing(state: Any):
    viewer = ViewerModel()
    layer = viewer.add_image(np.ones((5, 5)))
    blink = Blink(viewer, state)
    blink.press()
    assert layer.opacity == 1
    blink.release()
    blink.close()


def test_closing_while_pressed_restores_result_and_key(
    state: Any, make_variant: Any, hazy: np.ndarray
):
    viewer = ViewerModel()
    variant = make_variant(viewer, hazy)
    show(state, variant)

    def former(_: Any) -> None: ...

    viewer.bind_key("H", former)
    blink = Blink(viewer, state)
    blink.press()
    assert variant.layer.opacity == 0
    blink.close()
    assert variant.layer.opacity == 1
    assert keyed(viewer) == {"H": former}


def test_the_key_is_free_in_every_kind_of_layer():
    from napari.utils.shortcuts import default_shortcuts

    taken = {str(key) for keys in default_shortcuts.values() for key in keys}
    assert "H" not in taken
    assert "B" in taken


@pytest.mark.parametrize("turned", [False, True])
def test_two_layers_stand_beside_each_other_and_the_grid_comes_back(
    make_variant: Any, hazy: np.ndarray, turned: bool
):
    viewer = ViewerModel()
    variant = make_variant(viewer, hazy)
    other = viewer.add_image(np.ones((700, 900)))
    grid = viewer.canvas.grid
    grid.stride, grid.shape, grid.spacing = 2, (3, 1), 0.1
    left, right = variant.source, variant.layer
    if turned:
        left, right = right, left
    size = viewer.canvas.viewbox_size(viewer.layers)
    beside = SideBySide(viewer, left, right)
    places = [grid.position(viewer.layers.index(x), viewer.layers) for x in (left, right)]
    assert places == [(0, 0), (0, 1)]
    assert grid.actual_shape(viewer.layers) == (1, 2)
    assert not other.visible
    assert viewer.canvas.viewbox_size(viewer.layers)[1] < size[1] / 2
    reported = []
    beside.ended.connect(lambda: reported.append(1))
    beside.end()
    assert (grid.enabled, grid.stride, grid.shape, grid.spacing) == (False, 2, (3, 1), 0.1)
    assert other.visible
    assert reported == [1]


@pytest.mark.parametrize("shape", [(300, 900), (900, 300)])
def test_each_half_shows_the_whole_image(make_variant: Any, shape: tuple[int, int]):
    """As `fit_to_view` would in a window of half the width, and back."""
    viewer, single = ViewerModel(), ViewerModel()
    viewer.canvas.size = 600, 806
    # Between the halves there are 4 pixels, and as many at each end.
    variant = make_variant(viewer, np.full((*shape, 3), 90, np.uint8))
    single.add_image(np.zeros(shape))
    single.canvas.size = tuple(viewer.canvas.size)
    viewer.fit_to_view()
    before = viewer.scene.camera.zoom
    beside = SideBySide(viewer, variant.source, variant.layer)
    single.canvas.size = viewer.canvas.viewbox_size(viewer.layers)
    single.fit_to_view()
    assert viewer.scene.camera.zoom == pytest.approx(single.scene.camera.zoom)
    beside.end()
    assert viewer.scene.camera.zoom == before
    # A detail that is looked at is looked at beside each other, as large.
    viewer.scene.camera.zoom = 4 * before
    beside = SideBySide(viewer, variant.source, variant.layer)
    assert viewer.scene.camera.zoom == 4 * before
    beside.end()
    assert viewer.scene.camera.zoom == 4 * before


@pytest.mark.parametrize("how", ["button", "removed"])
def test_side_by_side_ends_by_itself(make_variant: Any, hazy: np.ndarray, how: str):
    viewer = ViewerModel()
    variant = make_variant(viewer, hazy)
    other = viewer.add_image(np.ones((700, 900)))
    grid = viewer.canvas.grid
    shape = grid.shape
    beside = SideBySide(viewer, variant.source, variant.layer)
    ended = []
    beside.ended.connect(lambda: ended.append(1))
    if how == "button":
        grid.enabled = False
    else:
        viewer.layers.remove(variant.layer)
    assert (grid.enabled, grid.shape) == (False, shape)
    assert other.visible
    assert ended == [1]
    assert not any("SideBySide" in repr(x) for x in grid.events.enabled.callbacks)
    assert not any("SideBySide" in repr(x) for x in viewer.layers.events.removed.callbacks)


def test_contrast_of_source_and_results_is_one_until_unlinked(make_variant: Any):
    viewer = ViewerModel()
    pixels = np.random.default_rng(1).integers(1, 60_000, (300, 200)).astype(np.uint16)
    first = make_variant(viewer, pixels, "identity", bands=None)
    second = make_variant(viewer, pixels, "identity", bands=None, source=first.source)
    first.source.contrast_limits = (1, 2000)
    linked = LinkedContrast()
    linked.follow([first, second])
    assert second.layer.contrast_limits == [1, 2000]
    second.layer.contrast_limits = (70, 900)
    second.layer.gamma = 0.5
    first.source.colormap = "magma"
    for layer in (first.source, first.layer, second.layer):
        assert layer.contrast_limits == [70, 900]
        assert layer.gamma == 0.5
        assert layer.colormap.name == "magma"
    linked.follow([first])
    first.layer.gamma = 0.7
    assert (first.source.gamma, second.layer.gamma) == (0.7, 0.5)
    linked.close()
    first.layer.gamma = 0.9
    assert first.source.gamma == 0.7


def test_colour_shares_contrast_and_gamma(make_variant: Any, hazy: np.ndarray):
    variant = make_variant(ViewerModel(), hazy)
    linked = LinkedContrast()
    linked.follow([variant])
    variant.source.gamma = 0.8
    variant.source.contrast_limits = (20, 200)
    assert variant.layer.gamma == 0.8
    assert variant.layer.contrast_limits == [20, 200]
    linked.close()
