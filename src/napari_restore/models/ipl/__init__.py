"""IPL in two sizes. Cards only; the network loads when used."""

from napari_restore.models.ipl.cards import ENTRIES as ENTRIES
