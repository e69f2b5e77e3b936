"""Python files of the user that make a model: their factories, found without running them, and run."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from napari_restore._plain_files import read_text
from napari_restore.errors import BadModel, BadParameter, did_you_mean, option
from napari_restore.models._card import Parameter
from napari_restore.models._code import forget_changed, import_folders, is_installed, package_of

USUAL = ("make", "make_model", "build", "create_model", "get_model", "model")
"""Usual names of factories; offered first."""


def factories_in(path: Path) -> list[str]:
    """Return public functions and classes of a Python file, parsed, not run, usual first; raises `BadModel`."""
    try:
        tree = ast.parse(read_text(path))
    except FileNotFoundError:
        raise BadModel(f"There is no file {path}.", "Check the path.") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise BadModel(f"{path.name} is no readable Python: {error}.", "Check the file.") from None
    names = [
        node.name
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    ]
    if not names:
        raise BadModel(
            f"{path.name} has no function that could make a model.",
            "Write one that returns a torch.nn.Module.",
        )
    return sorted(names, key=lambda name: USUAL.index(name) if name in USUAL else len(USUAL))


def without_factory(path: Path) -> BadModel:
    """Return the error for a Python file that is named without a factory."""
    names = factories_in(path)
    others = f" It also has {', '.join(names[1:])}." if len(names) > 1 else ""
    return BadModel(
        f"{path.name} is named, but not the function in it that makes the model.",
        f"Write {path}:{names[0]}.{others}",
    )


_IMPORTING = threading.RLock()
"""Held while `sys.path` and `sys.modules` are those of a file."""


@contextmanager
def run_script(path: Path) -> Iterator[ModuleType]:
    """Run a Python file, and yield its module; within ``with`` it may import its neighbours."""
    # Those are the files and packages in `import_folders`, as they are now. They are no module of
    # this process afterwards: files of the same name do not get those of each other.
    path = path.resolve()
    root, name = package_of(path)
    found = import_folders(path)
    own, folders = {path.parent, root}, set(found)
    if "." not in name:
        name = f"napari_restore_user_{path.stem}"
    with _IMPORTING:
        forget_changed(path)
        # A copy: other threads go on importing.
        loaded = list(sys.modules.items())
        tops = _taken(folders, {key.partition(".")[0] for key, _ in loaded})
        others = {
            key: each
            for key, each in loaded
            if key.partition(".")[0] in tops and not _file_within(each, folders)
        }
        for key in others:
            del sys.modules[key]
        before, known = list(sys.path), set(sys.modules)
        sys.path[:0] = map(str, sorted(own))
        # Folders above it only have what is found nowhere else.
        sys.path += [str(each) for each in found if each not in own]
        importlib.invalidate_caches()
        try:
            yield _imported(path, name)
        finally:
            sys.path[:] = before
            # The path of a package without a file of its own is looked up in the one it is in.
            new = [(key, each) for key, each in list(sys.modules.items()) if key not in known]
            gone = [key for key, each in new if key == name or _is_users(key, each, folders)]
            for key in gone:
                sys.modules.pop(key, None)
            sys.modules.update(others)


def named_in(module: ModuleType, path: Path, factory: str) -> Callable[..., Any]:
    """Return the `factory` of a file that was run; raises `BadModel` with those it has."""
    make = getattr(module, factory, None)
    if not callable(make):
        hint = did_you_mean(factory, factories_in(path), "It has")
        raise BadModel(f"{path.name} has no function or class {factory}.", hint)
    found: Callable[..., Any] = make
    return found


def argument_names(make: Callable[..., Any]) -> list[str]:
    """Return the names of the arguments of a factory; none of what is not written in Python."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each.name for each in _parameters_of(make) if each.kind not in variadic]


def _parameters_of(make: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(make).parameters.values())
    except (TypeError, ValueError):  # of what is not written in Python
        return []


def arguments_of(make: Callable[..., Any], name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the `given` values that are arguments of a factory, in their types.

    A text becomes a value of the type of the default, or what it is in Python. Raises `BadParameter`
    for a missing or wrong value.
    """
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    arguments = {}
    for each in _parameters_of(make):
        if each.name in given:
            arguments[each.name] = _value(each, given[each.name])
        elif each.default is each.empty and each.kind in named:
            raise BadParameter(
                f"{name} needs a value for {each.name}.",
                f"Give it with {option('parameters', {each.name: 'VALUE'})}.",
            )
    return arguments


def is_default(make: Callable[..., Any], name: str, value: Any) -> bool:
    """Return whether a factory has the same text or number `value` for its argument by itself."""
    default = inspect.signature(make).parameters[name].default
    plain = isinstance(value, (bool, int, float, str)) and type(value) is type(default)
    return plain and bool(value == default)


def _value(argument: inspect.Parameter, given: Any) -> Any:
    if isinstance(argument.default, (bool, int, float, str)):
        return Parameter(argument.name, argument.default, "").parse(given)
    if not isinstance(given, str):
        return given
    try:
        return ast.literal_eval(given)
    except (ValueError, SyntaxError):
        return given


def _imported(path: Path, name: str) -> ModuleType:
    package = name.rpartition(".")[0]
    if package:
        importlib.import_module(package)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "it ends in .py"
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look for their module there.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _taken(folders: set[Path], tops: set[str]) -> set[str]:
    """Return the names of loaded packages and modules that a file or folder of `folders` has, too."""
    own = tops - sys.stdlib_module_names - {"napari_restore", "__main__"}
    return {
        top
        for top in own
        if any((each / f"{top}.py").is_file() or (each / top).is_dir() for each in folders)
    }


def _is_users(name: str, module: ModuleType, folders: set[Path]) -> bool:
    """Return whether a module is of a file in `folders`, and not of this package, which may lie there."""
    return name.partition(".")[0] != "napari_restore" and _file_within(module, folders)


def _file_within(module: ModuleType, folders: set[Path]) -> bool:
    """Return whether a module is of a file in `folders`, or a namespace of theirs, and not installed."""
    file = getattr(module, "__file__", None)
    found = [file] if file else list(getattr(module, "__path__", []))
    own = [Path(each).resolve() for each in found if not is_installed(each)]
    return any(part.is_relative_to(folder) for part in own for folder in folders)
