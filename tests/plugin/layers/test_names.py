"""What layers of results are called: no two alike, what differs first."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel

from napari_restore.plugin.layers.layer_order import DRAFT, LIVE, result_name


def test_the_second_of_a_method_has_a_number_and_the_image_comes_last():
    viewer = ViewerModel()
    town, other = (viewer.add_image(np.zeros((4, 4)), name=name) for name in ("town", "other"))

    def add(method: str, area: str = "", mark: str = "", source: object = town) -> str:
        name = result_name(viewer, source, method, area)
        layer = viewer.add_image(np.zeros((4, 4)), name=mark + name)
        layer.metadata["napari_restore_source"] = source.unique_id
        return layer.name

    assert add("Dark channel prior", "visible region") == (
        "Dark channel prior (visible region) – town"
    )
    assert add("Dark channel prior", "whole image") == "2: Dark channel prior (whole image) – town"
    assert add("Dark channel", mark=LIVE) == "Live: Dark channel – town"
    # The first one that stays.
    assert add("Dark channel", "whole image") == "Dark channel (whole image) – town"
    assert add("Haze", "whole image", mark=DRAFT) == "Draft: Haze (whole image) – town"
    assert add("Haze", "whole image") == "Haze (whole image) – town"
    assert add("Haze", "whole image") == "2: Haze (whole image) – town"
    assert add("Haze", "whole image", source=other) == "Haze (whole image) – other"


def test_what_takes_the_place_of_another_takes_its_number():
    viewer = ViewerModel()
    town = viewer.add_image(np.zeros((4, 4)), name="town")
    live = viewer.add_image(np.zeros((4, 4)), name=LIVE + result_name(viewer, town, "Haze"))
    live.metadata["napari_restore_source"] = town.unique_id
    assert result_name(viewer, town, "Haze", besides=live) == "Haze – town"
