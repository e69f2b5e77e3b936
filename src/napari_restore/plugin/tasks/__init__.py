"""Work on other threads whose results arrive in the GUI thread, and messages to the user."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
