"""The slider of an image shown band by band says which band that is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QLineEdit

pytestmark = pytest.mark.viewer


@pytest.mark.slow
def test_the_slider_names_the_band(panel: Any, tmp_path: Path) -> None:
    import rasterio

    path = tmp_path / "six.tif"
    made = {"driver": "GTiff", "width": 40, "height": 30, "count": 6, "dtype": "uint16"}
    with rasterio.open(path, "w", **made) as file:
        file.write(np.arange(7200, dtype=np.uint16).reshape(6, 30, 40))
        file.set_band_description(4, "near infrared")
    viewer = panel.viewer
    viewer.open(path, plugin="napari-restore")

    def names() -> list[str]:
        labels = panel.window().findChildren(QLineEdit, "axis_label")
        return [label.text() for label in labels]

    viewer.dims.set_current_step(0, 2)
    assert viewer.dims.axis_labels[0] == "band 3" and "band 3" in names()
    viewer.dims.set_current_step(0, 3)
    assert viewer.dims.axis_labels[0] == "band 4: near infrared" in names()
    # Other layers come and go.
    viewer.add_points([[3, 4]])
    viewer.layers.pop()
    assert viewer.dims.axis_labels[0] == "band 4: near infrared"
