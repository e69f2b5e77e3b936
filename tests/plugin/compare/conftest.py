"""A finished result to compare, after which no model may run any more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import napari_restore as nr
from napari_restore import Region
from napari_restore.engine import Finished, Result, TileDone
from napari_restore.plugin.layers.reader import layer_of
from napari_restore.plugin.layers.result_layer import ResultLayer
from napari_restore.plugin.state.state import RestoreState
from napari_restore.plugin.state.variant import Variant

RGB = {"red": 1, "green": 2, "blue": 3}
NO_RUN = "nothing that compares may run a model"


@pytest.fixture
def hazy() -> np.ndarray:
    """(700, 900, 3) uint8: texture under haze that thickens to the right."""
    random = np.random.default_rng(5)
    ground = random.integers(20, 160, (700, 900, 3)).astype(float)
    share = np.linspace(0.9, 0.3, 900)[None, :, None]
    return (ground * share + 230 * (1 - share)).astype(np.uint8)


@pytest.fixture
def make_variant() -> Iterator[Any]:
    """A function that restores pixels and adds source and result to a viewer."""
    # Its own: `undo` of the test's would undo those of other fixtures.
    patch = pytest.MonkeyPatch()

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError(NO_RUN)

    def make(
        viewer: Any,
        pixels: Any,
        model: str = "dcp",
        region: Region | None = None,
        source: Any = None,
        maps: bool = False,
        finished: bool = True,
        bands: Any = RGB,
        tile: int | None = None,
        **layer: Any,
    ) -> Variant:
        patch.undo()
        if source is None:
            image = nr.open_image(pixels, bands=bands)
            data, arguments, _ = layer_of(image)
            source = viewer.add_image(data, **{**arguments, "name": "source", **layer})
        image = source.metadata["napari_restore"]
        plan = nr.plan(
            image, model, region=region, pyramid=True, device="cpu", maps=maps, tile=tile
        )
        events = list(nr.start(plan))
        record = next(event.record for event in events if isinstance(event, Finished))
        result = Result.of_run(plan, record if finished else {})
        shown = ResultLayer(result, source, f"{model} {len(viewer.layers)}")
        tiles = [event.region for event in events if isinstance(event, TileDone)]
        for done in tiles if finished else tiles[:1]:
            shown.mark(done)
        shown.layer.metadata["napari_restore_source"] = source.unique_id
        viewer.add_layer(shown.layer)
        for name in ("start", "plan", "load_model"):
            patch.setattr(nr, name, refuse)
        if not finished:
            return Variant(None, source, model, shown)
        shown.finish(result)
        return Variant(None, source, model, shown, record, result)

    yield make
    patch.undo()


@pytest.fixture
def state() -> RestoreState:
    return RestoreState()


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Iterator[Any]:
    """A real window."""
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1000, 700)
    return viewer


def show(state: RestoreState, *variants: Variant) -> None:
    """Make them the results there are, the last the current one."""
    state.variants = variants
    state.current = variants[-1] if variants else None
