"""Calls of Python users: signatures, progress bar, Ctrl-C and the way to the model."""

from __future__ import annotations

import dataclasses
import inspect
import pydoc
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import napari_restore as nr
from napari_restore import api
from napari_restore.engine import ResultStore
from napari_restore.engine.ledger.folder import writer_of
from napari_restore.explain import attribute as explain_attribute
from napari_restore.images import ExportOptions, SaveOptions
from napari_restore.questions import Attribute, Machine, Reading, options_of

BOX = nr.Region.from_xywh(20, 10, 16, 12)
PHOTO = np.random.default_rng(0).integers(1, 255, (70, 90, 3), np.uint8)


# -- signatures ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "function", [nr.plan, nr.restore, nr.attribute, nr.attribute_table, nr.Region]
)
def test_every_docstring_tells_the_convention(function: Any):
    told = " ".join(inspect.getdoc(function).split())
    assert "Region(y0, x0, y1, x1)" in told
    assert "Region.from_xywh(x, y, width, height)" in told


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (nr.plan, ["region", "memory", "tile", "device", "bands"]),
        (nr.restore, ["region", "memory", "tile", "device", "bands", "progress"]),
        (nr.attribute, ["method", "objective", "steps", "memory", "bands", "progress"]),
    ],
)
def test_help_shows_the_options(function: Any, names: list[str]):
    shown = inspect.signature(function).parameters
    assert set(names) <= set(shown)
    assert not [p for p in shown.values() if p.kind is p.VAR_KEYWORD]
    line = pydoc.plain(pydoc.render_doc(function))
    assert all(name in line for name in names)


def test_the_options_shown_are_those_that_are_taken():
    # Those of `make_plan` are compared in test_questions.py.
    asked = inspect.signature(explain_attribute).parameters
    keywords = {name for name, p in asked.items() if p.kind is p.KEYWORD_ONLY}
    own = set(inspect.signature(api.attribute).parameters)
    taken = keywords | set(options_of(Attribute, Reading, Machine))
    assert own - {"image", "model", "box", "level", "bands", "sensor", "progress"} == taken


def test_an_unknown_option_is_named():
    with pytest.raises(TypeError, match="memroy"):
        nr.restore(PHOTO, "identity", memroy="1GiB")


def test_options_of_a_file_are_declared_alike():
    fields = {field.name for field in dataclasses.fields(ExportOptions)}
    assert fields == set(SaveOptions.__annotations__)


def takes_untyped_options(name: str) -> bool:
    function = getattr(api, name, None) or getattr(nr, name)
    code = getattr(function, "__code__", None)
    if code is None or not code.co_flags & inspect.CO_VARKEYWORDS:
        return False
    arguments = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & inspect.CO_VARARGS)
    return bool(function.__annotations__[code.co_varnames[arguments]] == "Any")


def test_no_public_function_takes_untyped_options():
    names = set(nr.__all__) | set(api.__all__) - {"save_card"}
    assert [name for name in sorted(names) if takes_untyped_options(name)] == []


# -- the progress bar ----------------------------------------------------------------


@pytest.mark.slow
def test_a_terminal_has_a_progress_bar(capsys: Any, monkeypatch: pytest.MonkeyPatch):
    nr.restore(PHOTO, "identity")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    nr.restore(PHOTO, "hot")
    shown = capsys.readouterr().err
    assert "Restoring" in shown and "1/1" in shown
    nr.restore(PHOTO, "hot", progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("asked", [None, True])
def test_so_does_a_notebook_and_who_asks_for_it(
    asked: bool | None, capsys: Any, monkeypatch: pytest.MonkeyPatch
):
    from tqdm import auto

    if asked is None:
        # As tqdm.auto has it where it finds IPython's kernel.
        kind = type("tqdm", (auto.tqdm,), {"__module__": "tqdm.auto"})
        monkeypatch.setattr(auto, "tqdm", kind)
    nr.attribute(PHOTO, "hot", BOX, method="ig", steps=2, device="cpu", progress=asked)
    assert "Following the path" in capsys.readouterr().err


def test_an_attribution_with_events_of_its_own_draws_none(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    events: list[Any] = []
    nr.attribute(PHOTO, "hot", BOX, method="ig", steps=1, device="cpu", emit=events.append)
    assert events and capsys.readouterr().err == ""


def test_ctrl_c_ends_the_run_and_keeps_its_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pixels = np.random.default_rng(0).random((300, 700, 3), np.float32)
    given = {"tile": 256, "workers": 1, "scratch": tmp_path, "device": "cpu"}
    plan = nr.plan(pixels, "identity", **given)
    write = ResultStore.write

    def interrupted(store: ResultStore, *arguments: Any) -> None:
        write(store, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ResultStore, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            nr.restore(pixels, "identity", progress=False, **given)
    assert not [t for t in threading.enumerate() if t.name.startswith("tiles-")]
    assert writer_of(plan.store) is None
    again = nr.restore(pixels, "identity", progress=False, **given)
    assert again.record["measured"]["tiles_resumed"] == 1
    np.testing.assert_array_equal(np.asarray(again), pixels)


# -- the way to the model ----------------------------------------------------------


STACKS: list[list[str]] = []
"""What `Nosy` has recorded: here, since a run leaves a module's own lists as they were."""


class Nosy(nn.Module):
    """Records the stacks of the program's threads whenever it is called."""

    def forward(self, x: Any) -> Any:
        package = str(Path(nr.__file__).parent)

        def ours(frame: Any) -> list[str]:
            walked = [f for f, _ in traceback.walk_stack(frame)]
            files = [(Path(f.f_code.co_filename), f.f_code.co_name) for f in reversed(walked)]
            return [f"{file.stem}.{name}" for file, name in files if package in str(file)]

        caller = ours(sys._current_frames()[threading.main_thread().ident or 0])
        if "threads.map" in caller:
            # It may be writing a tile just now, beyond where it waits for the next one.
            caller = caller[: caller.index("threads.map") + 1]
        STACKS.append([*caller, *ours(sys._getframe())])
        return x


@pytest.mark.slow
def test_few_calls_lie_between_restore_and_the_model(tmp_path: Path):
    """At most 9 frames of the package are on the way from `nr.restore` to a model's `forward`.

    They are those of the thread that calls `nr.restore`, down to `ThreadExecutor.map`, in which it waits
    for tiles, and all of the thread that computes a tile, from its first function on; the wrapper
    of a plain module counts. Those of torch and `threading` are not the package's.
    """
    pixels = np.random.default_rng(0).random((300, 700, 3), np.float32)
    card = {"title": "Nosy", "halo": 0, "bands": 3}
    loaded = nr.load_model(Nosy(), card=card)
    given = {"tile": 256, "scratch": tmp_path, "device": "cpu", "workers": 1, "progress": False}
    planned = nr.plan(pixels, loaded, tile=256, scratch=tmp_path, device="cpu", workers=1)
    STACKS.clear()
    nr.restore(pixels, loaded, **given)
    # Planning has tried and timed the model; what follows are the run's tiles.
    stacks = [s for s in STACKS if s[-1].endswith(".forward_with_maps") and "tile.run" in s]
    # Some are compared with the same pixels in a larger part.
    stacks = [s for s in stacks if "_program._compare" not in s]
    assert len(stacks) == planned.layout.tiles == 6
    for stack in stacks:
        assert stack[0] == "_restoring.restore"
        assert len(stack) <= 9, stack
