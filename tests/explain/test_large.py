"""Maps that do not fit memory: sums on disk, paths made box by box, read in strips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from tests.engine._staged_model import ToyStaged
from tests.explain._models import scene

from napari_restore import Region, api, open_image
from napari_restore.engine import as_json, from_json
from napari_restore.explain import Attribution, OverviewShares, attribute
from napari_restore.explain.attribution import _attribution, _attribution_run, _sums

BOX = Region(120, 100, 150, 140)


def ask(tmp_path: Path, **options: Any) -> Any:
    # As a module of its own, so that the second question does not find the first one's plan.
    return attribute(
        open_image(scene(200, 260)), ToyStaged(), BOX, scratch=tmp_path, device="cpu", **options
    )


@pytest.mark.parametrize(
    "options",
    [
        {"baseline": "blur"},
        pytest.param({"baseline": "zero"}, marks=pytest.mark.slow),
        pytest.param({"method": "haze"}, marks=pytest.mark.slow),
    ],
)
def test_on_disk_it_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    options = {"method": "ig", "steps": 3, **options}
    small = ask(tmp_path, **options)
    for module, name, value in (
        (_attribution_run, "SMALL", 0),
        (_attribution, "LARGEST", 0),
        (_attribution, "STRIP", 1000),
        (_sums, "ROWS", 128),
        (_sums, "COLUMNS", 96),
    ):
        monkeypatch.setattr(module, name, value)
    large = ask(tmp_path, **options)
    kept = list(tmp_path.glob("attribution-*"))
    assert len(kept) == 1
    assert not isinstance(large.map, np.ndarray)
    assert np.allclose(large.map.compute(), small.map, atol=1e-9, rtol=1e-5)
    for name in ("diffusion_index", "identity_share"):
        one, other = (found.record["attribution"][name] for found in (small, large))
        assert other == pytest.approx(one, rel=1e-4)
    # As a window opens it, whose child has computed it.
    shares = OverviewShares(np.arange(12, dtype=np.float32).reshape(2, 2, 3), 4, (8, 0))
    data = as_json(replace(large, overview=shares).to_parts(), tmp_path)
    parts = from_json(data, tmp_path, api.message_types())
    opened = Attribution.of_parts(parts, large.image, large.picture)
    np.testing.assert_array_equal(opened.map.compute(), large.map.compute())
    assert opened.record == large.record and opened.overview.corner == (8, 0)
    np.testing.assert_array_equal(opened.overview.values, shares.values)
    for name in ("map.npy", "map.npz"):
        read = np.load(large.save(tmp_path / name))
        array = read if name == "map.npy" else read["map"]
        np.testing.assert_array_equal(array, large.map.compute())
    out = large.save(tmp_path / "map.tif")
    with rasterio.open(out) as written:
        assert np.allclose(written.read(1), small.map.sum(axis=2), atol=1e-7)
    del large
    assert kept[0].exists() and opened.read(opened.window).any()
    del opened
    assert not kept[0].exists()
