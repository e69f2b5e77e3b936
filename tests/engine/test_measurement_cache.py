"""Measurements of models are kept for later processes, where they can be trusted."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

import napari_restore as nr
from napari_restore.engine.machine.device import Device
from napari_restore.engine.planning import measurements, probe as _probe
from napari_restore.engine.planning.measurements import (
    MeasurementCache,
    measuring,
    seconds_measuring,
)
from napari_restore.models import _content, _load

pytestmark = pytest.mark.measured

DEVICE = Device("cpu", "for a test")


@dataclass(frozen=True)
class Seconds:
    value: float
    by_step: dict[int, float]
    count: int = 0


class Ruler:
    """Something to measure with, which counts how often it was used."""

    def __init__(self) -> None:
        self.used = 0

    def __call__(self) -> Seconds:
        self.used += 1
        return Seconds(1.5, {3: float(self.used)})


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> Path:
    """Trust all times, and share no folder with other tests; returns that of the measurements."""
    monkeypatch.setattr(measurements, "ALONE", -1.0)
    monkeypatch.setattr(measurements, "FOLDER", "measured-here")
    return own_cache / "measured-here"


def measured(ruler: Ruler, *circumstances: object, timed: bool = True) -> Seconds:
    """Measure as a new process would: with an empty cache and a newly loaded model."""
    model = nr.load_model("dcp")
    cache = MeasurementCache(Seconds, timed=timed)
    value = cache.of(model, DEVICE, ruler, *circumstances)
    assert cache.of(model, DEVICE, ruler, *circumstances) is value
    return value


def test_threads_that_ask_at_once_measure_once():
    """A panel plans, drafts and prepares at once; each with a model that it has loaded itself."""
    cache, began, may_end = MeasurementCache(Seconds), threading.Event(), threading.Event()
    at_once = most = 0

    def measure() -> Seconds:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        began.set()
        assert may_end.wait(60)
        at_once -= 1
        return Seconds(1.0, {})

    class Counted:
        """The cache's lock, which tells that all three have come to it."""

        def __init__(self) -> None:
            self.lock, self.all_came = cache._measuring, threading.Event()
            self.came: list[int] = []

        def __enter__(self) -> None:
            self.came.append(threading.get_ident())
            if len(self.came) == 3:
                self.all_came.set()
            self.lock.acquire()

        def __exit__(self, *_: object) -> None:
            self.lock.release()

    door = cache._measuring = Counted()  # type: ignore[assignment]
    models = [nr.load_model("dcp") for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(cache.of, models[0], DEVICE, measure)
        assert began.wait(60)
        others = [pool.submit(cache.of, model, DEVICE, measure) for model in models[1:]]
        assert door.all_came.wait(60)
        may_end.set()
        assert [each.result() for each in others] == [first.result()] * 2
    assert most == 1 and all(each.result() is first.result() for each in others)


def test_a_later_process_reads_what_the_first_one_measured():
    ruler = Ruler()
    assert measured(ruler, 1) == measured(ruler, 1) == Seconds(1.5, {3: 1.0})
    assert ruler.used == 1


def test_other_circumstances_are_measured_by_themselves():
    ruler = Ruler()
    assert measured(ruler, 1).by_step != measured(ruler, 2).by_step
    assert ruler.used == 2


def test_times_are_not_kept_where_others_use_the_processor(alone, monkeypatch):
    monkeypatch.setattr(measurements, "ALONE", float("inf"))
    ruler = Ruler()
    measured(ruler, 1)
    assert not alone.exists()
    measured(ruler, 1, timed=False)
    measured(ruler, 1, timed=False)
    assert ruler.used == 2


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"value": 3}',
        '{"value": {"value": "x", "by_step": {}, "count": 0}}',
        '{"value": {"value": true, "by_step": {}, "count": 0}}',
        '{"value": {"value": 1.5, "by_step": {"x": 1.0}, "count": 0}}',
        '{"value": {"value": 1.5}}',
        '{"value": {"value": 1.5, "by_step": {}}}',
        '{"value": {"value": 1%s, "by_step": {}, "count": 0}}' % ("0" * 400),
        '{"value": {"value": Infinity, "by_step": {}, "count": 0}}',
        '{"value": {"value": -1.5, "by_step": {}, "count": 0}}',
        '{"value": {"value": 1.5, "by_step": {}, "count": 1.5}}',
        '{"value": {"value": 1.5, "by_step": {}, "count": 0, "more": 1}}',
        "\0",
    ],
)
def test_damaged_files_are_made_again(alone, content):
    ruler = Ruler()
    measured(ruler)
    (file,) = alone.iterdir()
    with contextlib.suppress(ValueError, TypeError):
        # As if it had been written so.
        found = json.loads(content)
        content = json.dumps({**found, "sha256": measurements._seal(file, found)})
    file.write_text(content)
    measured(ruler)
    assert ruler.used == 2
    assert json.loads(file.read_text())["value"]["by_step"] == {"3": 2.0}


def test_one_turned_digit_is_noticed(alone):
    ruler = Ruler()
    measured(ruler)
    (file,) = alone.iterdir()
    text = file.read_text()
    file.write_text(text.replace("1.5", "1.7"))
    assert file.read_text() != text
    measured(ruler)
    assert ruler.used == 2


def test_old_ones_are_made_again(alone):
    ruler = Ruler()
    measured(ruler)
    (file,) = alone.iterdir()
    old = time.time() - measurements.LONGEST - 60
    os.utime(file, (old, old))
    measured(ruler)
    assert ruler.used == 2


CODE = """
import torch
import installed

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Conv2d(3, 3, {size}, padding={pad})

    def forward(self, x):
        assert x.shape[-2] % 8 == x.shape[-1] % 8 == 0
        return installed.changed(self.layer(x))
"""
INSTALLED = """
import torch

def changed(x):
    return torch.nn.functional.avg_pool2d(x, {size}, 1, {pad})
"""


def loaded_anew(code: Path) -> nr.Model:
    """Return the network as a later process has it."""
    for name in ("installed", "own"):
        sys.modules.pop(name, None)
    return nr.load_model(f"{code}:Net", trust=True)


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A network in a file, which calls code that is installed."""
    packages = tmp_path / "site-packages"
    packages.mkdir()
    monkeypatch.syspath_prepend(packages)
    (packages / "installed.py").write_text(INSTALLED.format(size=1, pad=0))
    code = tmp_path / "own.py"
    code.write_text(CODE.format(size=3, pad=1))
    return code


@pytest.fixture
def trials(monkeypatch) -> list[str]:
    """The names of the trials that a network went through."""
    done: list[str] = []

    def noted(name, real):
        def call(*args, **kwargs):
            done.append(name)
            return real(*args, **kwargs)

        return call

    monkeypatch.setattr(_probe, "dependence", noted("halo", _probe.dependence))
    real = _load.possible_sizes

    def sizes(module, counts, *steps):
        done.extend([] if steps else ["sizes"])
        return real(module, counts, *steps)

    monkeypatch.setattr(_load, "possible_sizes", sizes)
    return done


def test_a_network_of_the_user_is_measured_once(own, trials):
    first, second = loaded_anew(own).card, loaded_anew(own).card
    assert (first.multiple_of, first.halo) == (second.multiple_of, second.halo) == (8, 8)
    assert trials == ["sizes", "halo"]
    ruler = Ruler()
    for _ in range(2):
        MeasurementCache(Seconds).of(loaded_anew(own), DEVICE, ruler)
    assert ruler.used == 1


@pytest.mark.nightly
def test_a_file_that_changed_is_measured_anew(own, trials):
    before, ruler = loaded_anew(own), Ruler()
    MeasurementCache(Seconds).of(before, DEVICE, ruler)
    own.write_text(CODE.format(size=19, pad=9))
    after = loaded_anew(own)
    MeasurementCache(Seconds).of(after, DEVICE, ruler)
    assert (before.card.halo, after.card.halo) == (8, 16)
    assert trials == ["sizes", "halo"] * 2
    assert ruler.used == 2


def test_installed_code_that_changed_is_noticed_by_what_it_computes(own, trials, monkeypatch):
    loaded_anew(own)
    # As if no digest knew of it: a compiled extension, for instance.
    monkeypatch.setattr(_content, "_version_of", lambda module: "")
    digests = [_content.module_digest(loaded_anew(own).module)]
    del trials[:]
    path = own.parent / "site-packages" / "installed.py"
    path.write_text(INSTALLED.format(size=25, pad=12))
    after = loaded_anew(own)
    assert [_content.module_digest(after.module)] == digests
    assert (after.card.halo, trials) == (16, ["halo"])


def test_seconds_of_measuring_add_up(monkeypatch):
    clock = iter([100.0, 103.0, 200.0, 200.5])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    before = seconds_measuring()
    model, device = nr.load_model("identity"), DEVICE
    with measuring(model, device):
        pass
    assert seconds_measuring() - before == pytest.approx(3.0)
    with pytest.raises(KeyError), measuring(model, device):
        raise KeyError
    assert seconds_measuring() - before == pytest.approx(3.5)
