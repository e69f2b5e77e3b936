"""Models that run in another environment: the window's process plans, runs and shows without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import PIL.Image
import pytest
import torch
from napari.settings import get_plugin_settings
from npe2 import PluginManifest
from points import patience

import napari_restore as nr
from napari_restore import Region, api
from napari_restore.api import Environment
from napari_restore.engine.executors import _child
from napari_restore.errors import Cancelled, InputError
from napari_restore.images import Image
from napari_restore.models import DescribedModel
from napari_restore.plugin.runs import _environment_controller
from napari_restore.plugin.state import (
    PYTHON,
    Area,
    PreferenceLink,
    RestoreState,
    TargetChoice,
    named_image,
)

pytestmark = pytest.mark.viewer

FOUND = Environment("/an/environment/bin/python", "1", "2.99.0", "3.12.1")


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch, start_forked_worker: Any) -> list[str]:
    """Children of other environments are those of this one; the interpreters asked for."""
    asked: list[str] = []

    def start(python: str, arguments: list[str]) -> Any:
        asked.append(python)
        module = arguments[-1]
        return start_forked_worker(module) if start_forked_worker else _child.start_child(module)

    monkeypatch.setattr(_child, "start_apart", start)
    return asked


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A choice would stay in the napari of whoever runs the tests, and in that of every later test."""
    monkeypatch.setattr(_environment_controller, "keep_python", lambda python: None)


@pytest.fixture
def photo(tmp_path: Path, colours: np.ndarray) -> Path:
    path = tmp_path / "photo.png"
    PIL.Image.fromarray(colours[:200, :300]).save(path)
    return path


def choose(panel: Any, model: str) -> None:
    panel.models.combo.setCurrentIndex(panel.models.combo.findData(model))


# -- the row under Advanced ----------------------------------------------------------


def activate(panel: Any, data: str) -> None:
    """Choose an entry of the row as a click does."""
    choice = panel.advanced.environment.choice
    choice.setCurrentIndex(choice.findData(data))
    choice.activated.emit(choice.currentIndex())


def test_an_environment_is_used_once_it_is_checked(
    panel: Any, qtbot: Any, other: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    form, controller = panel.advanced.environment, panel.runs.environments
    go = threading.Event()

    def check(path: str, stop: Any) -> Environment:
        assert path == "/an/environment"
        assert go.wait(patience())
        return FOUND

    monkeypatch.setattr(api, "check_environment", check)
    controller.choose("/an/environment")
    assert form.line.text() == "Checking …" and not form.cancel.isHidden()
    assert not form.choice.isEnabled() and panel.state.python == ""
    go.set()
    qtbot.waitUntil(lambda: panel.state.python == FOUND.python)
    assert form.choice.currentText() == "environment" and form.choice.isEnabled()
    assert form.line.text() == "Python 3.12.1, torch 2.99.0" and form.cancel.isHidden()
    assert panel.runs.worker.python == panel.runs.questions.python == FOUND.python
    assert panel.state.planner is panel.runs.worker
    activate(panel, "")
    assert panel.state.python == panel.runs.worker.python == panel.runs.questions.python == ""
    assert panel.state.planner is None and form.line.isHidden()


def test_one_that_will_not_do_is_refused_and_nothing_changes(
    panel: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(path: str, stop: Any) -> Environment:
        raise InputError("It has no torch.", "Install it there.")

    monkeypatch.setattr(api, "check_environment", check)
    form = panel.advanced.environment
    panel.runs.environments.choose("/an/environment")
    qtbot.waitUntil(lambda: form.line.text() == "It has no torch. Install it there.")
    assert panel.state.python == "" and panel.state.planner is None
    assert form.choice.currentText() == "napari’s own"


def test_making_one_reports_and_is_cancelled(
    panel: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(emit: Callable[[str], None], stop: threading.Event) -> Environment:
        emit("Downloading torch (800.0MiB)")
        assert stop.wait(patience())
        raise Cancelled("Cancelled.", "")

    monkeypatch.setattr(api, "make_environment", make)
    form = panel.advanced.environment
    activate(panel, "make")
    qtbot.waitUntil(lambda: form.line.text() == "Downloading torch (800.0MiB)")
    form.cancel.click()
    qtbot.waitUntil(lambda: form.choice.isEnabled())
    assert form.line.isHidden() and panel.state.python == ""


def test_the_one_before_is_removed_once_the_new_one_is_used(
    panel: Any, qtbot: Any, other: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[tuple[str, str]] = []
    done = threading.Event()

    def remove(python: str) -> None:
        removed.append((python, panel.state.python))
        if python == FOUND.python:
            done.set()

    monkeypatch.setattr(api, "make_environment", lambda emit, stop: FOUND)
    monkeypatch.setattr(api, "remove_earlier_environments", remove)
    panel.state.python = "/before/bin/python"
    activate(panel, "make")
    qtbot.waitUntil(done.is_set)
    assert removed == [("/before/bin/python",) * 2, (FOUND.python,) * 2]


def test_the_choice_is_kept_and_yields_to_the_environment_variable(
    plugin_settings: Any, npe2pm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    npe2pm.register(PluginManifest.from_distribution("napari-restore"))
    group = get_plugin_settings("napari-restore").restore
    monkeypatch.delenv(PYTHON, raising=False)
    state = RestoreState()
    link = PreferenceLink(state)
    assert state.python == group.environment == ""
    group.environment = "/an/environment/bin/python"
    assert state.python == "/an/environment/bin/python"
    link.leave()
    monkeypatch.setenv(PYTHON, "/another/bin/python")
    state = RestoreState()
    PreferenceLink(state).leave()
    assert state.python == "/another/bin/python"


# -- what runs there -----------------------------------------------------------------


@pytest.mark.slow
def test_a_run_in_another_environment_has_the_pixels_of_any_other(
    panel: Any,
    other: list[str],
    photo: Path,
    finished_run: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    panel.viewer.open(photo, plugin="napari-restore")
    panel.state.python = FOUND.python
    choose(panel, "dcp")
    panel.state.target = TargetChoice.WHOLE
    panel.state.set_options(device="cpu")
    variant = finished_run()
    plan = variant.result.plan
    assert isinstance(plan.model, DescribedModel)
    assert set(other) == {FOUND.python}
    task = api.task_of(plan)
    own = api.task_of(nr.plan(photo, "dcp", device="cpu", pyramid=True))
    assert task is not None and own is not None
    assert {**task, "options": 0} == {**own, "options": 0}
    assert api.command_of(plan, "out.png") == api.command_of(
        nr.plan(photo, "dcp", device="cpu", pyramid=True), "out.png"
    )
    # Another cache: nothing is taken from the run above.
    monkeypatch.setenv("NAPARI_RESTORE_CACHE", str(tmp_path / "cache"))
    expected = nr.restore(photo, "dcp", device="cpu", progress=False)
    np.testing.assert_array_equal(np.asarray(variant.result), np.asarray(expected))
    saved = variant.result.with_adjustment(variant.adjustment).save(tmp_path / "out.png")
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(saved)), np.asarray(expected))


@pytest.mark.slow
def test_a_network_of_the_user_is_inspected_and_its_card_known(
    panel: Any, other: list[str], photo: Path, tmp_path: Path
) -> None:
    code = "import torch\nclass Half(torch.nn.Module):\n    def forward(self, x):\n"
    (tmp_path / "net.py").write_text(
        f"{code}        return x / 2\ndef make():\n    return Half()\n"
    )
    panel.state.python = FOUND.python
    door, source = panel.runs.worker, f"{tmp_path / 'net.py'}:make"
    found = api.inspect_elsewhere(door, source, trust=True, emit=lambda event: None)
    here = api.inspect_model(source, trust=True)
    assert isinstance(found.model, DescribedModel)
    assert (found.architecture, found.sha256, dict(found.card)) == (
        here.architecture,
        here.sha256,
        dict(here.card),
    )
    assert found.model.card == here.model.card
    subject = {"model": {"model": source, "weights": None, "parameters": {}}, "trust": True}
    assert api.card_elsewhere(door, subject).id == here.model.card.id


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rgb", "levels", "grey"])
def test_a_layer_in_memory_is_restored_from_a_copy(
    panel: Any,
    other: list[str],
    colours: np.ndarray,
    finished_run: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    pixels: Any = np.ascontiguousarray(colours[:200, :300])
    if kind == "levels":
        pixels = [da.from_array(pixels, chunks=(64, 100, 3)), pixels[::2, ::2]]
    if kind == "grey":
        pixels = pixels[..., 0] / np.float32(300)
    panel.viewer.add_image(pixels, name="drawn", rgb=kind != "grey")
    panel.state.python = FOUND.python
    choose(panel, "identity" if kind == "grey" else "dcp")
    panel.state.target = TargetChoice.WHOLE
    panel.state.set_options(device="cpu")
    variant = finished_run()
    plan = variant.result.plan
    assert isinstance(plan.model, DescribedModel) and set(other) == {FOUND.python}
    # The copy is of this session: no record and no command names it.
    assert variant.record.get("task") is None and api.task_of(plan) is None
    with pytest.raises(InputError, match="There is no command for it"):
        api.command_of(plan, "out.tif")
    # Another cache: nothing is taken from the run above.
    monkeypatch.setenv("NAPARI_RESTORE_CACHE", str(tmp_path / "cache"))
    image = named_image(panel.viewer.layers["drawn"], None, None)
    expected = nr.restore(image, plan.model.spec["model"], device="cpu", progress=False)
    np.testing.assert_array_equal(np.asarray(variant.result), np.asarray(expected))


def test_attribution_and_attention_of_one_ask_for_its_copy(
    panel: Any, other: list[str], colours: np.ndarray
) -> None:
    panel.state.python = FOUND.python
    panel.viewer.add_image(colours[:64, :64], name="drawn", rgb=True)
    subject = panel.state.request(Area((Region(0, 0, 8, 8),))).subject
    image = subject["image"]
    session = api.AttentionElsewhere(panel.runs.questions, subject)
    copy = Image.from_spec(session._task["image"])
    assert copy.fingerprint == image.fingerprint == session._task["fingerprint"]
    assert copy.roles == image.roles and copy.spec is None
    np.testing.assert_array_equal(copy.read((3, 4, 60, 61)), image.read((3, 4, 60, 61)))


def test_what_a_copy_would_lack_is_refused_in_a_sentence(panel: Any, other: list[str]) -> None:
    xarray = pytest.importorskip("xarray")
    panel.state.python = FOUND.python
    array = xarray.DataArray(np.ones((64, 64), np.float32), dims=("y", "x"), attrs={"nodata": 1})
    panel.viewer.add_image(np.ones((64, 64), np.float32), name="drawn")
    request = panel.state.request(Area((Region(0, 0, 8, 8),)))
    subject = {**request.subject, "image": nr.open_image(array)}
    with pytest.raises(InputError, match="memory of napari only") as refused:
        api.AttentionElsewhere(panel.runs.questions, subject)
    assert "Save the layer as a file" in refused.value.hint


# -- no torch ------------------------------------------------------------------------

WINDOW = """
import json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "captum"):
            raise ModuleNotFoundError(f"No module named {name!r}: {name} is not for this process")

sys.meta_path.insert(0, Blocked())
import napari
from qtpy.QtCore import QEventLoop
from qtpy.QtWidgets import QApplication
from napari_restore.plugin import RestorePanel

image, out = sys.argv[1:]

def wait(signal, begin):
    loop, said = QEventLoop(), []

    def listen(*arguments):
        said.append(arguments)
        loop.quit()

    signal.connect(listen)
    begin()
    if not said:
        loop.exec()
    signal.disconnect(listen)
    return said[0]

viewer = napari.Viewer(show=False)
panel = RestorePanel(viewer)
(line,) = wait(panel.planned, lambda: viewer.open(image, plugin="napari-restore"))
offered = [panel.models.combo.itemData(n) for n in range(panel.models.combo.count())]
combo = panel.models.combo
(line,) = wait(panel.planned, lambda: combo.setCurrentIndex(combo.findData("haze-unet")))
panel.state.set_options(device="cpu")
status, record, request = wait(panel.ended, panel.bar.button.click)
result = panel.state.current.result
print(panel.bar.message.text(), record if status != "done" else "", file=sys.stderr)
layer = panel.state.current.layer
layer.refresh()
result.save(out, overwrite=True)
found = {
    "line": line, "offered": len(offered), "status": status, "torch": "torch" in sys.modules,
    "model": record["model"]["id"], "layer": layer.name, "drawn": layer._slice.image.view.shape,
}
print(json.dumps(found))
viewer.close()
"""


@pytest.mark.slow
def test_a_window_without_torch_opens_plans_runs_and_shows(photo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    venv.create(folder, with_pip=False)
    (site,) = [*folder.glob("lib/python*/site-packages"), *folder.glob("Lib/site-packages")]
    places = {Path(each.__path__[0]).parent for each in (nr, torch, np)}
    (site / "borrowed.pth").write_text("".join(f"{place}\n" for place in places))
    python = api.check_environment(str(folder)).python
    out = tmp_path / "out.png"
    environ = {**os.environ, PYTHON: python, "NAPARI_CONFIG": str(tmp_path / "napari.yaml")}
    process = subprocess.run(
        [sys.executable, "-c", WINDOW, str(photo), str(out)],
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(process.stdout.splitlines()[-1])
    assert found["status"] == "done" and found["model"] == "haze-unet"
    assert not found["torch"] and found["offered"] > 5
    assert "tile" in found["line"] and found["drawn"][-1] in (3, 4)
    expected = nr.restore(photo, "haze-unet", device="cpu", progress=False)
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(out)), np.asarray(expected))
