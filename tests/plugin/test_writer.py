from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.layers import Image as ImageLayer

import napari_restore as nr
from napari_restore import Region
from napari_restore.errors import BadOutput
from napari_restore.plugin._writer import write_layer


@pytest.fixture
def attributes(sample: Path, planned: Any) -> dict[str, Any]:
    """A finished layer's, over a part of the sample."""
    result = nr.start(planned(sample, Region(100, 200, 400, 700))).result()
    return {"name": "x", "metadata": {"napari_restore_result": result}}


def test_the_saved_file_is_the_region_of_the_source(
    attributes: dict[str, Any], sample: Path, tmp_path: Path
):
    target = tmp_path / "Ergebnis größer.tif"
    assert write_layer(str(target), None, attributes) == [str(target)]
    written, source = nr.open_image(target), nr.open_image(sample)
    np.testing.assert_array_equal(written.read((0, 0, 300, 500)), source.read((100, 200, 400, 700)))
    assert written.transform == source.georeference.shifted(200, 100).transform


def test_the_source_is_never_replaced(attributes: dict[str, Any], sample: Path):
    before = sample.read_bytes()
    with pytest.raises(BadOutput):
        write_layer(str(sample), None, attributes)
    assert sample.read_bytes() == before


def test_an_unfinished_result_is_refused_with_the_next_step(tmp_path: Path):
    metadata = {"napari_restore_source": "an id"}
    with pytest.raises(BadOutput, match="Run it to its end"):
        write_layer(str(tmp_path / "a.tif"), np.zeros((3, 3)), {"name": "x", "metadata": metadata})
    assert list(tmp_path.iterdir()) == []


def test_other_layers_are_saved_as_without_us(tmp_path: Path):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    target = str(tmp_path / "a.tif")
    assert write_layer(target, *ImageLayer(pixels).as_layer_data_tuple()[:2]) == [target]
    np.testing.assert_array_equal(tifffile.imread(target), pixels)


def test_other_layers_as_zarr_are_refused(tmp_path: Path):
    with pytest.raises(BadOutput, match=r"as \.zarr"):
        write_layer(str(tmp_path / "a.zarr"), np.zeros((3, 3)), {"name": "x", "metadata": {}})
