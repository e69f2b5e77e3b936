"""A small convolutional network for haze. Card only; the network loads when used."""

from napari_restore.models.haze_unet.cards import ENTRIES as ENTRIES
