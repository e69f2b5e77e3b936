"""Inf-Dehaze in four sizes. Cards only; the network loads when used."""

from napari_restore.models.inf_dehaze.cards import ENTRIES as ENTRIES
