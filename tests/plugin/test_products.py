"""Products of satellites in the window: folders, files of metadata and zips are one layer each."""

from __future__ import annotations

import made_products as made
import numpy as np
import pytest

import napari_restore as nr
from napari_restore.plugin.layers.reader import get_reader


@pytest.mark.parametrize("kind", ["folder", "metadata", "zip", "20m"])
def test_a_product_is_one_layer(tmp_path, kind):
    made.write_safe(tmp_path)
    safe = tmp_path / made.SAFE
    path = {
        "folder": safe,
        "metadata": safe / "MTD_MSIL2A.xml",
        "zip": safe,
        "20m": f"{safe}:20m",
    }[kind]
    if kind == "zip":
        path = made.zipped(safe, tmp_path / "any.zip")
    reader = get_reader(str(path))
    assert reader is not None
    ((_, arguments, kind_of_layer),) = reader(str(path))
    assert kind_of_layer == "image"
    image = arguments["metadata"]["napari_restore"]
    assert image.name == made.SAFE.removesuffix(".SAFE")
    expected = nr.open_image(path)
    assert np.array_equal(image.read((0, 0, 30, 30)), expected.read((0, 0, 30, 30)))


def test_other_archives_and_json_are_left_to_others(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as new:
        new.writestr("a.txt", "text")
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "folder").mkdir()
    assert all(get_reader(str(tmp_path / name)) is None for name in ("a.zip", "a.json", "folder"))
