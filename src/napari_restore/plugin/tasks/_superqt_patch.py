"""A patch of superqt, so that calls of napari's threads reach the window without a crash."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import qtpy
from qtpy.QtCore import QCoreApplication, QThread
from superqt.utils import _ensure_thread

from napari_restore.plugin.tasks._main_thread import on_main_thread

_superqt = getattr(_ensure_thread, "_run_in_thread", None)


def patch_superqt() -> None:
    """Let superqt's `ensure_main_thread` call through `on_main_thread`.

    napari hands every slice that it cut in the background to its window by it. superqt 0.9
    connects a signal to a future that dies in the other thread, where PySide6 then takes the
    connection apart while the window's thread uses it: a crash, or both wait for ever
    (decision 0016).
    """
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
