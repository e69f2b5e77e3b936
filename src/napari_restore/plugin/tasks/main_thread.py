"""Calls from any thread that are made in the GUI thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import MethodType
from typing import Any
from weakref import WeakMethod

import qtpy
from qtpy.compat import isalive
from qtpy.QtCore import QCoreApplication, QObject, Qt, QThread, Signal
from superqt.utils import _ensure_thread

_superqt = getattr(_ensure_thread, "_run_in_thread", None)


def patch_superqt() -> None:
    """Let superqt's `ensure_main_thread` call through `on_main_thread`."""
    # napari hands every slice that it cut in the background to its window by it. superqt 0.9
    # connects a signal to a future that dies in the other thread, where PySide6 then takes the
    # connection apart while the window's thread uses it: a crash, or both wait for ever (decision
    # 0016).
    if qtpy.API_NAME == "PySide6" and _superqt is not None:
        _ensure_thread._run_in_thread = _run_in_thread


def _run_in_thread(
    func: Any, thread: Any, await_return: bool, timeout: int, args: Any, kwargs: Any
) -> Any:
    """Call as superqt's function of this name does."""
    app = QCoreApplication.instance()
    if thread is QThread.currentThread() or app is None or thread is not app.thread():
        return _superqt(func, thread, await_return, timeout, args, kwargs)  # type: ignore[misc]
    future: Future[Any] = Future()
    on_main_thread(lambda: future.set_result(func(*args, **kwargs)))()
    return future.result(timeout / 1000) if await_return else future


class _Calls(QObject):
    """Lives in the GUI thread as long as the program does."""

    # superqt's `ensure_main_thread` makes an object per call, which either thread may destroy while
    # the other still uses it: that crashed now and then.

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


def on_main_thread(function: Callable[..., object]) -> Callable[..., object]:
    """Return what calls `function` soon in the GUI thread, from any thread; itself where there is no window."""
    global _calls
    if QCoreApplication.instance() is None:
        return function
    with _making:
        if _calls is None:
            _calls = _Calls()
        calls = _calls

    def call(*arguments: Any) -> None:
        calls.called.emit(function, arguments)

    return call


def while_alive(function: Callable[..., object]) -> Callable[..., object]:
    """Return what calls a method of a Qt object, unless that is destroyed, and does not keep it."""
    # Any other function is returned as it is.
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
