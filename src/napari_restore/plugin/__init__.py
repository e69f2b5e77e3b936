"""The window: reader, writer, sample and the Restore panel of napari.

A folder per feature. File names say the role: views (`_section`, `_form`, `_view`, `_bar`,
`_tab`, `_chooser`, `_dialog`, `_plots`, `_panel`) are the only ones with Qt widgets, controllers
end in `_controller`, the rest is state and what is computed from it. See docs/extending/tab.md.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
