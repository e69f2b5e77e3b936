"""Which pixels made a result: gradients along a path, and what their maps say."""

from __future__ import annotations

from napari_restore.explain._asker import Glimpse
from napari_restore.explain._attribute import attribute
from napari_restore.explain._attribution import Attribution
from napari_restore.explain._baselines import NAMES
from napari_restore.explain._figure import check_figure, draw
from napari_restore.explain._methods import METHODS

__all__ = ["METHODS", "NAMES", "Attribution", "Glimpse", "attribute", "check_figure", "draw"]
