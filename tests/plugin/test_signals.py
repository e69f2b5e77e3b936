"""Widgets emit signals of Qt, as Qt's own do; all else emits signals of psygnal, which know no owner."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import psygnal
import pytest
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QWidget

import napari_restore.plugin

OF_THREADS = {"_Calls"}
"""Carries calls from thread to thread, which Qt's signals alone do."""


def classes() -> Iterator[type]:
    """Yield the classes that the window's modules define."""
    found = pkgutil.walk_packages(napari_restore.plugin.__path__, "napari_restore.plugin.")
    for module in (importlib.import_module(each.name) for each in found):
        for _, each in inspect.getmembers(module, inspect.isclass):
            if each.__module__ == module.__name__:
                yield each


def strays(each: type) -> list[str]:
    """Return the signals of a class that are of the other kind."""
    wanted: Any = Signal if issubclass(each, QWidget) else psygnal.Signal
    kinds = (Signal, psygnal.Signal)
    known = ((name, value) for name, value in vars(each).items() if isinstance(value, kinds))
    return [name for name, value in known if not isinstance(value, wanted)]


def test_a_signal_is_of_the_kind_of_its_class():
    found = {each.__name__: wrong for each in classes() if (wrong := strays(each))}
    assert found.keys() == OF_THREADS, found


@pytest.mark.parametrize(("base", "wrong"), [(QWidget, psygnal.Signal()), (object, Signal())])
def test_a_signal_of_the_other_kind_is_seen(base: type, wrong: Any):
    assert strays(type("Part", (base,), {"changed": wrong})) == ["changed"]
