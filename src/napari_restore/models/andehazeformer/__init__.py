"""anDehazeFormer, a normalised transformer with a global cache. Cards only."""

from napari_restore.models.andehazeformer.cards import ENTRIES as ENTRIES
