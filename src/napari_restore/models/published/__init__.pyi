from ._cards import ENTRIES

__all__ = ["ENTRIES"]
