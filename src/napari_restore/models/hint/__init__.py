"""HINT in two sizes. Cards only; the network loads when used."""

from napari_restore.models.hint.cards import ENTRIES as ENTRIES
