"""Chunks that the pass over the whole image decodes are kept for the tiles, where they fit."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

import napari_restore as nr
from napari_restore.engine.planning import layout
from napari_restore.images import chunk_cache

SIDE, CHUNK = 1280, 256


@pytest.fixture
def scene(tmp_path):
    """A tiled file of 25 chunks."""
    path = tmp_path / "scene.tif"
    pixels = np.random.default_rng(0).integers(40, 250, (SIDE, SIDE, 3), np.uint8)
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(CHUNK, CHUNK))
    return path


def decodes(path, tmp_path, **options):
    """Chunks decoded by a run of dark channel prior, and its plan and pixels."""
    chunk_cache.clear()
    plan = nr.plan(nr.open_image(path), "dcp", tile=CHUNK, scratch=tmp_path, **options)
    before = chunk_cache.decodes
    result = nr.start(plan, fresh=True).result()
    return chunk_cache.decodes - before, plan, np.asarray(result)


@pytest.mark.slow
def test_a_file_is_decoded_once_if_the_budget_holds_it(scene, tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_RESTORE_CACHE", str(tmp_path / "one"))
    once, plan, pixels = decodes(scene, tmp_path / "a", memory="1GiB")
    assert plan.needs_context_pass
    assert plan.layout.read_cache_bytes >= SIDE * SIDE * 3
    assert once == (SIDE // CHUNK) ** 2
    monkeypatch.setenv("NAPARI_RESTORE_CACHE", str(tmp_path / "two"))
    monkeypatch.setattr(layout, "DECODED_ONCE_BYTES", 0)
    twice, plain, same = decodes(scene, tmp_path / "b", memory="1GiB")
    assert twice > once
    assert plain.prediction.added_ram_bytes <= plan.prediction.added_ram_bytes
    np.testing.assert_array_equal(pixels, same)


@pytest.mark.slow
def test_what_is_known_of_the_image_needs_no_room(scene, tmp_path):
    decodes(scene, tmp_path / "a", memory="1GiB")
    _, plan, _ = decodes(scene, tmp_path / "b", memory="1GiB")
    assert not plan.needs_context_pass
    assert plan.layout.read_cache_bytes < SIDE * SIDE * 3
