"""Calls from any thread that are made in the GUI thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import MethodType
from typing import Any
from weakref import WeakMethod

from qtpy.compat import isalive
from qtpy.QtCore import QCoreApplication, QObject, Qt, QThread, Signal


class _Calls(QObject):
    """Lives in the GUI thread as long as the program does.

    superqt's `ensure_main_thread` makes an object per call, which either thread may
    destroy while the other still uses it: that crashed now and then.
    """

    called = Signal(object, object)

    def __init__(self) -> None:
        super().__init__()
        app = QCoreApplication.instance()
        assert app is not None, "There is no window yet."
        self.is_over = False
        """Whether the program is about to end: nothing is delivered any more."""
        self.moveToThread(app.thread())
        app.aboutToQuit.connect(self._on_quit)
        self.called.connect(self._call, Qt.ConnectionType.QueuedConnection)

    def _call(self, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self.is_over = False
        function(*arguments)

    def _on_quit(self) -> None:
        self.is_over = True


_calls: _Calls | None = None
_making = threading.Lock()


def on_main_thread(function: Callable[..., object]) -> Callable[..., None]:
    """Return a function, callable from any thread, that calls `function` soon in the GUI thread."""
    global _calls
    with _making:
        if _calls is None:
            _calls = _Calls()
        calls = _calls

    def call(*arguments: Any) -> None:
        calls.called.emit(function, arguments)

    return call


def while_alive(function: Callable[..., object]) -> Callable[..., object]:
    """Return what calls a method of a Qt object, unless that is destroyed, and does not keep it.

    Any other function is returned as it is.
    """
    owner = getattr(function, "__self__", None)
    if not (isinstance(function, MethodType) and isinstance(owner, QObject)):
        return function
    method = WeakMethod(function)

    def call(*arguments: Any) -> None:
        found = method()
        if found is not None and isalive(found.__self__):
            found(*arguments)

    return call


def is_over() -> bool:
    """Return whether the window is gone and the program about to end."""
    return _calls is not None and _calls.is_over


def log_failure(what: str) -> None:
    """Log the exception that is handled; threads that fail as the program ends concern nobody."""
    if not is_over():
        logging.getLogger(__name__).exception(what)


def is_main_thread() -> bool:
    """Return whether there is a window, and this is its thread."""
    app = QCoreApplication.instance()
    return app is not None and QThread.currentThread() is app.thread()
