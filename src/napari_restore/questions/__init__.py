"""What is asked of an image, once: options are fields of questions, and all else follows from them.

"question" is a word of docs/glossary.md.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
