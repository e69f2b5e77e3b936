"""Images at an address on a cluster: every worker reads the ranges of its own tiles."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from range_server import RangeServer

import napari_restore as nr
from napari_restore.engine import Cluster, Region

pytest.importorskip("distributed")


@pytest.mark.slow
def test_workers_read_an_image_on_a_server(scene: Path, tmp_path: Path, cluster: Cluster) -> None:
    (tmp_path / "web").mkdir()
    shutil.copy(scene, tmp_path / "web" / "there.tif")
    whole = Region(0, 0, 350, 425)
    with RangeServer(tmp_path / "web") as server:
        options = {"shared": True, "tile": 128, "workers": 1, "memory": "1GiB"}
        image = nr.open_image(f"{server.address}/there.tif?token=secret")
        plan = nr.plan(image, "dcp", scratch=tmp_path / "a", **options)
        result = nr.start(plan, cluster=cluster).result()
        alone = nr.start(nr.plan(nr.open_image(scene), "dcp", scratch=tmp_path / "b")).result()
        np.testing.assert_array_equal(alone.store.read(whole), result.store.read(whole))
        assert server.requests > 3
    # Neither the journals nor the record name what may be a signature.
    files = [path for path in (tmp_path / "a").rglob("*.json*") if path.is_file()]
    assert files
    assert not any("secret" in path.read_text("utf-8") for path in files)
    assert "secret" not in str(result.record)
