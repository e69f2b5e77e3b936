"""Masks and feathered edges do not depend on how the image is cut."""

import numpy as np
import pytest

from napari_restore.engine import Region
from napari_restore.engine._weight import Feathered, PolygonWeight, RegionWeight

SIZE = (300, 400)
POLYGON = [[(50.0, 40.0), (350.0, 60.0), (300.0, 280.0), (90.0, 250.0), (50.0, 40.0)]]


def weights():
    return [
        RegionWeight([Region(10, 20, 200, 300), Region(150, 250, 300, 400)]),
        PolygonWeight([POLYGON], *SIZE),
        Feathered(PolygonWeight([POLYGON], *SIZE), 24, SIZE),
        Feathered(RegionWeight([Region(0, 0, 300, 400)]), 9, SIZE),
    ]


@pytest.mark.parametrize("weight", weights(), ids=lambda w: type(w).__name__)
def test_a_box_equals_the_cut_of_the_whole(weight):
    whole = weight.read(Region(0, 0, *SIZE))
    for box in (Region(0, 0, 64, 64), Region(37, 101, 203, 390), Region(299, 399, 300, 400)):
        np.testing.assert_allclose(weight.read(box), whole[box.slices], atol=1e-6)


def test_feather_fades_inside_only_and_reaches_one():
    sharp = RegionWeight([Region(100, 100, 200, 300)])
    soft = Feathered(sharp, 20, SIZE).read(Region(0, 0, *SIZE))
    hard = sharp.read(Region(0, 0, *SIZE))
    assert (soft[hard == 0] == 0).all()
    assert soft[150, 200] == 1
    edge = soft[150, 100:125]
    assert (np.diff(edge) >= 0).all()
    assert 0 < edge[3] < edge[10] < 1
    assert edge[20] > 0.99


def test_the_images_border_is_no_edge_of_the_mask():
    soft = Feathered(RegionWeight([Region(0, 0, *SIZE)]), 20, SIZE)
    assert (soft.read(Region(0, 0, *SIZE)) == 1).all()


def test_polygon_bounds_hold_all_of_it():
    weight = PolygonWeight([POLYGON], *SIZE)
    whole = weight.read(Region(0, 0, *SIZE))
    inside = weight.read(weight.bounds)
    assert whole.sum() == inside.sum() > 0
