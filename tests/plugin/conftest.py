"""The panel in a window that goes with its test, images to restore, and runs to wait for."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from points import patience
from shared_window import WINDOW, SharedWindow, shared_window  # noqa: F401

import napari_restore as nr
from napari_restore import Region
from napari_restore.errors import RestoreError
from napari_restore.plugin.tasks.main_thread import patch_superqt

# captum imports it on a thread that lists methods; napari 0.9.2 fails to make a viewer in between.
with contextlib.suppress(ImportError):
    import IPython  # noqa: F401

HERE = Path(__file__).resolve().parent


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Garbage of these tests is collected in this thread, while Qt delivers nothing.

    Where another thread finds it, PySide destroys widgets as soon as this one runs Python
    again: an event filter of napari's, say, in the middle of an event for such a widget
    (decision 0018). Around each test, and not in a fixture: the test still holds what its
    fixtures gave when they end.
    """
    if not item.path.is_relative_to(HERE):
        return (yield)
    gc.disable()
    outcome = yield
    if nextitem is not None and nextitem.path == item.path:
        # What the test has made; the rest is looked at when the module ends.
        gc.collect(1)
        return outcome
    if nextitem is not None and not nextitem.path.is_relative_to(HERE):
        # Others may make windows by napari's own fixture.
        WINDOW.close()
    gc.collect()
    gc.enable()
    return outcome


@pytest.fixture
def qtbot(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """pytest-qt's, which waits for as long as a busy machine may need."""

    def patient(wait: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given, **options: wait(
            *given, **{"timeout": int(1000 * patience()), **options}
        )

    for name in ("waitUntil", "waitSignal", "waitExposed", "waitActive"):
        monkeypatch.setattr(qtbot, name, patient(getattr(qtbot, name)))
    return qtbot


@pytest.fixture(autouse=True)
def costs_are_known(known_costs: None) -> None:
    """What a model costs is not the point of these tests."""


@pytest.fixture(scope="session", autouse=True)
def manifests_parsed_once() -> Iterator[None]:
    """Every new window reads the manifests of all plugins: here each is parsed the first time."""
    from npe2.manifest import _bases

    parsed = functools.cache(_bases._load_yaml_no_duplicates)

    def parse(file: Any) -> Any:
        return copy.deepcopy(parsed(file.read()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_bases, "_load_yaml_no_duplicates", parse)
        yield


@pytest.fixture(scope="session", autouse=True)
def handover_is_safe() -> None:
    """Also for windows without our panel."""
    patch_superqt()


@pytest.fixture(autouse=True)
def workers_start_quickly(forked_workers: None) -> None:
    """Nearly every test of a window needs a child process."""


@pytest.fixture(autouse=True)
def windows_go(request: pytest.FixtureRequest) -> Iterator[list[Any]]:
    """No window outlives its test: else every later full collection walks it, and memory fills."""
    from napari.utils.theme import _themes

    if "make_napari_viewer" in request.fixturenames:
        # napari collects at every layer that is removed. What is there for good, such as torch
        # and napari, is half a second's walk each time; frozen, it is left out. Now and not at
        # the end, when the test itself still holds its window.
        gc.collect()
        gc.freeze()
    # napari 0.9 connects every window to the themes by a closure, which it cannot disconnect.
    emitters = [theme.events.canvas for theme in _themes.values()]
    before = [set(emitter.callbacks) for emitter in emitters]
    task_managers: list[Any] = []
    yield task_managers
    for emitter, known in zip(emitters, before, strict=True):
        for callback in set(emitter.callbacks) - known:
            emitter.disconnect(callback)
    # A window keeps the workers it has shown, whose Qt signals keep the window.
    for manager in task_managers:
        manager._tasks.clear()


@pytest.fixture(autouse=True)
def no_surprises() -> Iterator[None]:
    """napari has told of no exception or warning but our own sentences.

    What a slot of Qt raises reaches pytest-qt, which fails the test by itself.
    """
    from napari.utils.notifications import (
        ErrorNotification,
        WarningNotification,
        notification_manager,
    )

    known = len(notification_manager.records)
    yield
    for record in list(notification_manager.records)[known:]:
        if isinstance(record, WarningNotification):
            pytest.fail(f"napari warned: {record.message}")
        if isinstance(record, ErrorNotification) and not isinstance(record.exception, RestoreError):
            pytest.fail(f"napari reported: {record.exception!r}")


@pytest.fixture
def make_napari_viewer(
    make_napari_viewer: Any,
    windows_go: list[Any],
    shared_window: SharedWindow,  # noqa: F811
) -> Callable[..., Any]:
    """napari's fixture of this name, whose windows go entirely; the shared window goes before."""
    shared_window.close()

    def make(*arguments: Any, **options: Any) -> Any:
        viewer = make_napari_viewer(*arguments, **options)
        windows_go.append(viewer.window._task_status_manager)
        return viewer

    return make


@pytest.fixture(scope="session")
def unchanged_colours() -> np.ndarray:
    y, x = np.mgrid[:1300, :1700]
    return np.dstack([y % 251, x % 241, (y + x) % 239]).astype(np.uint8) + 1


@pytest.fixture
def colours(unchanged_colours: np.ndarray) -> np.ndarray:
    """(1300, 1700, 3) uint8 whose every pixel tells its place."""
    return unchanged_colours.copy()


@pytest.fixture
def planned() -> Any:
    """A function that plans the unchanged image of an array or path over a region."""

    def plan(source: Any, region: Region | None = None, **options: Any) -> Any:
        return nr.plan(source, "identity", region=region, pyramid=True, device="cpu", **options)

    return plan


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def slicing(request: pytest.FixtureRequest, panel: Any) -> Iterator[bool]:
    """Whether napari cuts layers on another thread: both."""
    from napari.settings import get_settings

    get_settings().experimental.async_ = request.param
    yield request.param
    get_settings().experimental.async_ = False


@pytest.fixture
def finished_run(panel: Any, qtbot: Any) -> Callable[..., Any]:
    """A function that clicks Run and waits for the end: gives the result, or why there is none."""

    def run(status: str = "done") -> Any:
        reported: list[Any] = []
        panel.ended.connect(lambda *outcome: reported.append(outcome))
        panel.bar.button.click()
        qtbot.waitUntil(lambda: bool(reported))
        assert reported[0][0] == status, reported
        assert panel.bar.button.text() == "Run"
        return panel.state.current if status == "done" else reported[0][1]

    return run


@pytest.fixture
def viewer(request: pytest.FixtureRequest) -> Iterator[Any]:
    """An empty viewer as plugins get it: of the window that tests share, one after the other.

    With the mark `own_window` of a window that is made for the test.
    """
    if request.node.get_closest_marker("own_window"):
        yield request.getfixturevalue("make_napari_viewer_proxy")()
        return
    from napari.utils._proxies import PublicOnlyProxy

    request.getfixturevalue("qtbot")
    shared = request.getfixturevalue("shared_window")
    failed = request.session.testsfailed
    yield PublicOnlyProxy(shared.viewer())
    if request.session.testsfailed > failed:
        shared.close()
    else:
        shared.set_back()


@pytest.fixture
def save_as(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path | None], list[str]]:
    """A function that answers dialogs of files to write: gives the titles of those it answers."""
    from qtpy.QtWidgets import QFileDialog

    def save_as(path: Path | None) -> list[str]:
        titles: list[str] = []

        def answer(dialog: QFileDialog) -> bool:
            titles.append(dialog.windowTitle())
            return path is not None

        monkeypatch.setattr(QFileDialog, "exec", answer)
        monkeypatch.setattr(QFileDialog, "selectedFiles", lambda dialog: [str(path)])
        return titles

    return save_as


@pytest.fixture
def draft_seconds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that sets what may take how long in a live result: `true`, `draft`, `screen`."""
    from napari_restore.plugin.runs import draft

    def draft_seconds(**most: float) -> None:
        for what, seconds in most.items():
            monkeypatch.setattr(draft, f"{what.upper()}_SECONDS", seconds)

    return draft_seconds


@pytest.fixture
def panel(viewer: Any) -> Iterator[Any]:
    """The Restore panel docked in a real window; gone with all it holds afterwards."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-restore", "Restore")
    yield widget
    if widget.runs.running is not None:
        widget.runs.running.abandon()
