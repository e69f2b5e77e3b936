"""Tabs of a panel, of which one is shown."""

from __future__ import annotations

from qtpy.QtWidgets import QTabBar, QVBoxLayout, QWidget


class Pages(QTabBar):
    """Shows one of several widgets below itself.

    Not a QTabWidget, which is as high as the highest of its pages.
    """

    def __init__(self, layout: QVBoxLayout, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layout = layout
        self._pages: list[QWidget] = []
        self.setExpanding(False)
        # Fusion draws a white line from the last tab to the edge of the panel.
        self.setDrawBase(False)
        layout.addWidget(self)
        self.currentChanged.connect(self._on_changed)

    def add(self, title: str, page: QWidget) -> None:
        """Add a tab; the first is shown."""
        self._layout.addWidget(page)
        self._pages.append(page)
        page.setVisible(len(self._pages) == 1)
        self.addTab(title)

    def choose(self, title: str) -> None:
        """Show the page of a title, as a click would."""
        for number in range(self.count()):
            if self.tabText(number) == title:
                self.setCurrentIndex(number)

    def _on_changed(self, number: int) -> None:
        for at, page in enumerate(self._pages):
            page.setVisible(at == number)
