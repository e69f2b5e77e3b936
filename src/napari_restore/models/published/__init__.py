"""Networks of others, known by their weights. Cards only; a network loads when used."""

from napari_restore.models.published.cards import ENTRIES as ENTRIES
