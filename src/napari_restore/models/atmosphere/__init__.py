"""Haze from the whole image: a network on the overview, then pixelwise inversion. Cards only."""

from napari_restore.models.atmosphere.cards import ENTRIES as ENTRIES
