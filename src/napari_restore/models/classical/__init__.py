"""Methods without weights. Cards only; the methods load when they are used."""

from napari_restore.models.classical.cards import ENTRIES as ENTRIES
