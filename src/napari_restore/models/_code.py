"""The Python files that a model's file runs: itself, and those beside it that it imports."""

from __future__ import annotations

import ast
import hashlib
import itertools
import os
import sys
import sysconfig
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from importlib import invalidate_caches
from importlib.util import cache_from_source, find_spec
from pathlib import Path

from napari_restore._plain_files import UnreadFile, open_file
from napari_restore.errors import BadModel

_NOT_SCANNED = frozenset({"napari_restore", "torch", "numpy"})
"""Packages that may lie in a folder of their own, too, and whose version tells what they do."""
_ABOVE = 4
"""How many folders above a package may have what it imports."""
_STARTED = time.time()
_loaded: dict[Path, str] = {}
"""Digest of the files that this process has imported for a model."""


def code_files(path: Path) -> dict[Path, str]:
    """Return the Python file `path` and all that it imports and is not installed, with their names.

    Names are relative to the folder that an import starts from, so that they stay when all are
    moved; that of `path` is empty. The files are parsed and not run. In a file that computes the
    names of its imports, all files of its folder count.
    """
    path = path.resolve()
    folders = import_folders(path)
    return _follow(path, lambda file: _imports(file, folders))


def missing_modules(path: Path) -> list[str]:
    """Return the packages that the Python file `path` and its own imports need and nobody has."""
    folders = import_folders(path)
    return sorted(
        {
            name.partition(".")[0]
            for file in code_files(path)
            for level, name, members in _names_in(file)
            if not (level or _first_files(folders, name, members) or _is_importable(name))
        }
    )


def package_of(path: Path) -> tuple[Path, str]:
    """Return the folder that holds the package of the Python file `path`, and its dotted name there.

    A folder is a package if it has an ``__init__.py``, or if the file or one that it imports says so:
    ``from .blocks import Block``, or ``from mine.blocks import Block`` within ``mine``. A file of no
    package has its stem as its name. The files are parsed and not run.
    """
    path = path.resolve()
    root = path.parent
    while (root / "__init__.py").is_file():
        root = root.parent

    def imported(file: Path) -> Iterator[tuple[str, Path]]:
        nonlocal root
        for level, name, members in _names_in(file):
            if level:
                folders = list(file.parents[level : level + 1])
                others = list(_relative(file, level, name, members))
            else:
                top = name.partition(".")[0]
                folders = [each.parent for each in file.parents if each.name == top]
                others = [each for up in folders for each in _files_of(up, name, members)]
            if others:
                root = min([root, *folders], key=lambda folder: len(folder.parts))
            yield from others

    _follow(path, imported)
    root = root if path.is_relative_to(root) else path.parent
    return root, ".".join(path.relative_to(root).with_suffix("").parts)


def import_folders(path: Path) -> list[Path]:
    """Return the folders in which the Python file `path` finds what it imports and is not installed."""
    path = path.resolve()
    # Those are its own, that of its package, and for what is found in neither, and not installed,
    # the nearest one above them that has it: authors run their code from there.
    root, _ = package_of(path)
    folders = [*dict.fromkeys((path.parent, root))]

    def imported(file: Path) -> Iterator[tuple[str, Path]]:
        for level, name, members in _names_in(file):
            if level:
                yield from _relative(file, level, name, members)
                continue
            others = _first_files(folders, name, members)
            if not others and not _is_importable(name):
                for above in root.parents[:_ABOVE]:
                    if others := _first_files([above], name, members):
                        folders.append(above)
                        break
            yield from others

    _follow(path, imported)
    return folders


def _follow(path: Path, imported: Callable[[Path], Iterable[tuple[str, Path]]]) -> dict[Path, str]:
    """Return `path` and all files that run with it, with the names that `imported` gives them."""
    found = {path: ""}
    # Those are what it imports, and the ``__init__.py`` of its packages with what they import.
    for folder in itertools.takewhile(lambda each: (each / "__init__.py").is_file(), path.parents):
        found[folder / "__init__.py"] = f"{'.' * len(found)}__init__"
    left = list(found)
    while left:
        for name, file in imported(left.pop()):
            if file not in found:
                found[file] = name
                left.append(file)
    return found


def is_script(path: Path) -> bool:
    """Return whether a file is TorchScript, code under own names in a zip archive; raises `BadModel` for a pipe."""
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            return any(name.split("/")[1:2] == ["code"] for name in archive.namelist())
    except UnreadFile as error:
        raise BadModel(f"{path} is not read: {error}.", "Name a plain file.") from None
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def code_digest(path: Path) -> str:
    """Return a digest of what `code_files` say, without comments, blank lines and docstrings."""
    parts = sorted(f"{name}:{file_digest(file)}" for file, name in code_files(path).items())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def forget_changed(path: Path) -> None:
    """Let what `path` imports be imported anew where a file has changed; one thread at a time calls it."""
    files = {file: file_digest(file) for file in code_files(path)}
    # Otherwise the code that runs would not be that of the files.
    changed = {file for file in files if _has_changed(file, files[file])}
    # Links are seen through by numbers: to resolve the paths of all modules takes 50 times as long.
    numbers = {_file_number(file) for file in files} - {None} if changed else set()
    for name, module in list(sys.modules.items()) if numbers else ():
        if name != "__main__" and _file_number(getattr(module, "__file__", None)) in numbers:
            del sys.modules[name]
    for file in changed:
        # It is told by whole seconds and its size whether it fits the file.
        with suppress(OSError, NotImplementedError):
            Path(cache_from_source(file)).unlink(missing_ok=True)
    invalidate_caches()
    _loaded.update(files)


def file_digest(file: Path) -> str:
    """Return a digest of the code in a Python file, without comments, blank lines and docstrings."""
    try:
        status = file.stat()
        return _file_digest(file, status.st_mtime_ns, status.st_size)
    except OSError:
        return ""


@lru_cache(maxsize=4096)
def is_installed(file: str | None) -> bool:
    """Return whether a file of Python belongs to an installed package, or to Python."""
    if not file:
        return False
    path = Path(file).resolve()
    return not {"site-packages", "dist-packages"}.isdisjoint(path.parts) or any(
        path.is_relative_to(folder) for folder in _python_folders()
    )


def _has_changed(file: Path, digest: str) -> bool:
    """Return whether `file` differs from what this process has imported."""
    if file in _loaded:
        return _loaded[file] != digest
    # If it was imported by somebody else, it is unchanged if it is older than this process.
    return file.stat().st_mtime > _STARTED


def _file_number(file: object) -> tuple[int, int] | None:
    """Return what a file has under all of its names; None if there is no such file."""
    with suppress(OSError, ValueError):
        if isinstance(file, (str, Path)):
            status = os.stat(file)
            return status.st_dev, status.st_ino
    return None


@lru_cache(maxsize=1024)
def _file_digest(file: Path, _time: int, _size: int) -> str:
    content = file.read_bytes()
    try:
        tree = ast.parse(content)
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                node.body = _without_docstring(node.body)
        content = ast.unparse(tree).encode()
    except (SyntaxError, ValueError, RecursionError):
        pass
    return hashlib.sha256(content).hexdigest()


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return body[1:] or [ast.Pass()]
    return body


def _imports(file: Path, folders: list[Path]) -> Iterator[tuple[str, Path]]:
    """Yield the files that `file` imports from `folders`, and that are not installed, by name."""
    status = file.stat()
    names, computes = _imported_names(file, status.st_mtime_ns, status.st_size)
    for level, name, members in names:
        if level:
            yield from _relative(file, level, name, members)
        else:
            yield from _first_files([*_roots(file), *folders], name, members)
    if computes:
        for other in sorted(file.parent.glob("*.py")):
            yield other.name, other.resolve()


def _names_in(file: Path) -> list[tuple[int, str, tuple[str, ...]]]:
    """Return dots, module and members of every import of `file`."""
    status = file.stat()
    return _imported_names(file, status.st_mtime_ns, status.st_size)[0]


def _relative(
    file: Path, level: int, name: str, members: tuple[str, ...]
) -> Iterator[tuple[str, Path]]:
    """Yield the files that a relative import of `level` dots in `file` runs."""
    for package in file.parents[level - 1 : level]:
        # It is imported itself first.
        yield from _files_of(package, "", ("__init__",))
        yield from _files_of(package, name, members)


def _first_files(
    folders: Iterable[Path], name: str, members: tuple[str, ...]
) -> list[tuple[str, Path]]:
    """Return the files of a module in the first of `folders` that has it."""
    found = (list(_files_of(folder, name, members)) for folder in folders)
    return next(filter(None, found), [])


def _is_importable(name: str) -> bool:
    """Return whether Python finds the module `name`, or the package that it is in, by itself."""
    try:
        return find_spec(name.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


@lru_cache(maxsize=1024)
def _imported_names(
    file: Path, _time: int, _size: int
) -> tuple[list[tuple[int, str, tuple[str, ...]]], bool]:
    """Return dots, module and members of every import, and whether some names are computed."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return [], False
    names: list[tuple[int, str, tuple[str, ...]]] = []
    computes = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [(0, each.name, ()) for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append((node.level, node.module or "", tuple(each.name for each in node.names)))
        elif isinstance(node, ast.Call) and _name_of(node.func) in ("import_module", "__import__"):
            named = node.args[0] if node.args else None
            if isinstance(named, ast.Constant) and isinstance(named.value, str):
                names.append((0, named.value.lstrip("."), ()))
            else:
                computes = True
    return names, computes


def _name_of(function: ast.expr) -> str:
    return str(getattr(function, "attr", getattr(function, "id", "")))


def _roots(file: Path) -> list[Path]:
    """Return the folders where an import of `file` may find what is not installed."""
    others = [Path(name or ".").resolve() for name in sys.path]
    return [
        file.parent,
        *(each for each in others if each.is_dir() and not is_installed(str(each))),
    ]


def _files_of(folder: Path, name: str, members: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Yield the files that importing `members` of the module `name` in `folder` runs."""
    parts = name.split(".") if name else []
    if parts and parts[0] in _NOT_SCANNED:
        return
    at = folder
    for part in parts:
        at = at / part
        for file in (at.with_name(f"{part}.py"), at / "__init__.py"):
            if file.is_file():
                yield file.relative_to(folder).as_posix(), file.resolve()
    for member in members:
        for file in (at / f"{member}.py", at / member / "__init__.py"):
            if file.is_file():
                yield file.relative_to(folder).as_posix(), file.resolve()


@lru_cache(maxsize=1)
def _python_folders() -> tuple[Path, ...]:
    return tuple({Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")})
