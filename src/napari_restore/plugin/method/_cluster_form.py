"""Names a cluster, connects to it and shows what it has."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFileDialog, QLabel, QLineEdit, QPushButton, QVBoxLayout, QWidget

from napari_restore.errors import RestoreError
from napari_restore.plugin.tasks._notices import error_text
from napari_restore.plugin.widgets._folding import flowing

if TYPE_CHECKING:
    from napari_restore.plugin.state._connected_cluster import ConnectedCluster, Workers


class ClusterForm(QWidget):
    """A button that unfolds the name of a cluster, and below it whether it is connected."""

    connect_requested = Signal(str)
    """The user wants to connect to the cluster of this name."""
    disconnect_requested = Signal()
    """The user wants to leave the cluster, or to connect no longer."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.button = QPushButton("Cluster …", self)
        self.button.setCheckable(True)
        self.button.setToolTip(
            "Let the workers of a dask scheduler compute Restore and Fuse; "
            "drafts, Live and the other tabs stay on this machine"
        )
        self.name = QLineEdit(self)
        self.name.setPlaceholderText("local:2, tcp://HOST:PORT or a file")
        self.name.setMinimumWidth(60)
        self.name.setToolTip(
            "local:N starts N processes on this machine; otherwise the address of a scheduler, "
            "or the .json file that it writes"
        )
        self.file = QPushButton("File …", self)
        self.file.setToolTip("Choose the .json file of a scheduler")
        self.connection = QPushButton("Connect", self)
        self.connection.setToolTip("Connect to the cluster; when it is connected, leave it")
        self.line = QLabel(self)
        self.line.setWordWrap(True)
        self.line.setTextFormat(Qt.TextFormat.RichText)
        self.line.setOpenExternalLinks(True)
        self._folded = QWidget(self)
        inner = QVBoxLayout(self._folded)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.addWidget(self.name)
        buttons = QWidget(self._folded)
        buttons.setLayout(flowing(self.file, self.connection))
        inner.addWidget(buttons)
        inner.addWidget(self.line)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        layout.addWidget(self._folded)
        self._folded.hide()
        self._is_running = self._is_connected = self._is_connecting = False
        self.button.toggled.connect(self._folded.setVisible)
        self.file.clicked.connect(self._on_file)
        self.connection.clicked.connect(self._on_connection)
        self.name.returnPressed.connect(self._on_return)
        self._show("")

    def show_connecting(self, name: str) -> None:
        """Show that a connection to `name` is being made."""
        self._is_connecting = True
        self.name.setText(name)
        self._show("Connecting …")

    def show_connected(self, cluster: ConnectedCluster, workers: Workers) -> None:
        """Show the workers of a cluster at the moment, and where dask shows them."""
        self._is_connecting, self._is_connected = False, True
        self.name.setText(cluster.name)
        text = (
            f"Connected: {_counted(workers.count, 'worker')}, {_counted(workers.threads, 'thread')}"
        )
        if cluster.dashboard:
            address = escape(cluster.dashboard, quote=True)
            text += f' · <a href="{address}">dask’s dashboard</a>'
        self._show(text)

    def show_disconnected(self, error: RestoreError | None) -> None:
        """Show that there is no connection, and why."""
        self._is_connecting = self._is_connected = False
        # Names are no markup.
        self._show("" if error is None else escape(error_text(error)))

    def show_running(self, running: bool) -> None:
        """Keep the connection while a run needs it."""
        self._is_running = running
        self._show(self.line.text())

    def _show(self, text: str) -> None:
        idle = not (self._is_connecting or self._is_connected)
        self.connection.setText(
            "Connect" if idle else "Cancel" if self._is_connecting else "Disconnect"
        )
        self.connection.setEnabled(not (self._is_connected and self._is_running))
        self.name.setReadOnly(not idle)
        self.file.setEnabled(idle)
        if self.line.text() != text:
            # A link that is pressed must not be made anew.
            self.line.setText(text)
        self.line.setVisible(bool(text))
        if self._is_connected:
            self.button.setChecked(True)

    def _on_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "The file of a scheduler", "", "Scheduler files (*.json)"
        )
        if path:
            self.name.setText(path)

    def _on_connection(self) -> None:
        if self._is_connecting or self._is_connected:
            self.disconnect_requested.emit()
        else:
            self._on_return()

    def _on_return(self) -> None:
        name = self.name.text().strip()
        if not name:
            self._show("Name a cluster first: local:2, tcp://HOST:PORT or the file of a scheduler.")
        elif not (self._is_connecting or self._is_connected):
            self.connect_requested.emit(name)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
