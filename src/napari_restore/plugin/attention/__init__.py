"""Attention: what each head of a network looks at for a pixel, in a tab of its own."""

from napari_restore.plugin.attention._attention_tab import AttentionTab

__all__ = ["AttentionTab"]
