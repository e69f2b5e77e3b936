"""Attributions and attention by a child process: what they give in this one, to the byte."""

from __future__ import annotations

import gc
import inspect
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import attending_networks
import numpy as np
import pytest
import scaling_networks
from PIL import Image

import napari_restore as nr
from napari_restore import Region, api
from napari_restore.engine import as_json, from_json
from napari_restore.errors import BadRegion, Cancelled, ResourceError
from napari_restore.explain.attention.session import AttentionSession
from napari_restore.questions import Attribute

BOX = Region(20, 24, 28, 36)
WINDOWS = f"{attending_networks.__file__}:windows"
PATH = {"steps": 40, "rule": "middle"}
CHANGING = {"measured", "plan"}
"""Parts of a record that tell of time and memory."""


@pytest.fixture
def pixels() -> np.ndarray:
    """(60, 80, 3) uint8."""
    return np.random.default_rng(0).integers(40, 220, (60, 80, 3), np.uint8)


@pytest.fixture
def subject(tmp_path: Path, pixels: np.ndarray) -> Callable[..., dict[str, Any]]:
    """A function that gives an image file and a model to be asked about."""
    path = tmp_path / "scene.png"
    Image.fromarray(pixels).save(path)

    def about(model: str = "dcp", image: Any = path, *, trust: bool = False) -> dict[str, Any]:
        described = {"model": model, "weights": None, "parameters": {}}
        opened = api.open_image(image)
        return {"image": opened, "model": described, "trust": trust, "options": {"device": "cpu"}}

    return about


@pytest.fixture
def worker(forked_workers: None) -> Iterator[Any]:
    """A child process, as the window has."""
    worker = api.new_worker()
    yield worker
    worker.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


def attribute(
    door: Any,
    subject: dict[str, Any],
    watch: Callable[[Any], None] = lambda part: None,
    stop: threading.Event | None = None,
    emit: Callable[[Any], None] = lambda event: None,
    box: Region | None = BOX,
    polygon: list[tuple[float, float]] | None = None,
    **settings: Any,
) -> Any:
    question = {"box": box, "polygon": polygon, "level": 0, **vars(Attribute(**settings))}
    return api.attribute_elsewhere(
        door,
        subject,
        question,
        pictures=door,
        emit=emit,
        watch=watch,
        stop=stop or threading.Event(),
    )


def without_figures(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in CHANGING}


def test_arrays_and_tuples_come_as_they_were(tmp_path: Path) -> None:
    values = np.array([[1, np.nan], [np.inf, -0.0]], np.float32)
    message = {"a": [values, {"b": values.T}], "c": (1, (2.5, "x")), "d": None, "e": {}}
    data = as_json(message, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    again = from_json(data, tmp_path, {"Region": Region})
    assert not list(tmp_path.iterdir())
    (one, two), rest = again.pop("a"), {name: message[name] for name in "cde"}
    assert again == rest
    assert one.tobytes() == values.tobytes() and one.dtype == values.dtype
    np.testing.assert_array_equal(two["b"], values.T)
    assert from_json(as_json({"x": BOX}, tmp_path), tmp_path, {"Region": Region}) == {"x": BOX}
    with pytest.raises(KeyError):
        from_json(as_json({"x": BOX}, tmp_path), tmp_path, {})


CORNERS = [(20.5, 24.0), (28.0, 24.0), (26.0, 36.5)]


@pytest.mark.slow
@pytest.mark.parametrize("factory", ["enlarging", "shrinking"])
@pytest.mark.parametrize("polygon", [None, CORNERS], ids=["box", "polygon"])
@pytest.mark.ids(
    "nightly", "polygon-enlarging", "box-shrinking", "box-enlarging", "polygon-shrinking"
)
def test_a_target_is_of_the_image_whatever_the_scale(
    worker: Any, subject: Any, factory: str, polygon: list[tuple[float, float]] | None
) -> None:
    """Only the child loads the network: this process does not know the scale of its results."""
    about = subject(f"{scaling_networks.__file__}:{factory}", trust=True)
    box = BOX if polygon is None else None
    settings: dict[str, Any] = {"method": "ig", "steps": 3, "baseline": "zero"}
    found = attribute(worker, about, box=box, polygon=polygon, **settings)
    ratio = Fraction(2) if factory == "enlarging" else Fraction(1, 2)
    model = nr.load_model(getattr(scaling_networks, factory)())
    expected = nr.attribute(
        about["image"].path,
        model,
        box and box.scale(ratio),
        polygon=polygon and [(float(y * ratio), float(x * ratio)) for y, x in polygon],
        device="cpu",
        progress=False,
        **settings,
    )
    for name in ("output_box", "polygon"):
        assert found.record["attribution"][name] == expected.record["attribution"][name]
    np.testing.assert_allclose(found.map, expected.map, rtol=1e-5, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"check": "insertion-deletion", "objective": "gradient"},
        {"method": "occlusion", "arguments": {"side": 30}, "baseline": "blur"},
    ],
    ids=["haze", "occlusion"],
)
@pytest.mark.ids("nightly", "haze")
def test_an_attribution_is_the_one_of_this_process(
    worker: Any, subject: Any, settings: dict[str, Any], tmp_path: Path
) -> None:
    parts: list[Any] = []
    events: list[Any] = []
    about = subject()
    found = attribute(worker, about, parts.append, emit=events.append, **settings)
    path = about["image"].path
    expected = nr.attribute(path, "dcp", BOX, device="cpu", progress=False, **settings)
    assert found.map.tobytes() == expected.map.tobytes()
    assert without_figures(found.record) == without_figures(expected.record)
    assert found.picture(found.window).tobytes() == expected.picture(expected.window).tobytes()
    assert any(isinstance(event, nr.engine.Progress) for event in events)
    assert bool(parts) == (settings.get("method") != "occlusion")
    for name, each in (("here.tif", expected), ("there.tif", found)):
        each.save(tmp_path / name)
    assert (tmp_path / "here.tif").read_bytes() == (tmp_path / "there.tif").read_bytes()
    again = api.repeat_attribution(found.record, progress=False)
    assert again.map.tobytes() == found.map.tobytes()


@pytest.mark.slow
def test_cancelling_and_killing_end_one_question(
    worker: Any, subject: Any, points: Any, pool: ThreadPoolExecutor
) -> None:
    stop, about = threading.Event(), subject()
    points.hold("Partial sent", "cancel requested")
    asked = pool.submit(attribute, worker, about, stop=stop, **PATH)
    points.wait("Partial sent")
    stop.set()
    points.wait("cancel requested")
    points.go("Partial sent", "cancel requested")
    with pytest.raises(Cancelled):
        asked.result()
    child = worker.process
    points.hold("Partial sent")
    asked = pool.submit(attribute, worker, about, **PATH)
    points.wait("Partial sent")
    worker.kill()
    points.go("Partial sent")
    with pytest.raises(ResourceError, match="ended unexpectedly") as raised:
        asked.result()
    assert "lower the budget" in raised.value.hint
    # The next question has a new child.
    assert attribute(worker, about, steps=2, method="ig").map.any()
    assert worker.process is not child


def test_an_error_is_the_sentence_of_this_process(worker: Any, subject: Any) -> None:
    about, outside = subject(), Region(500, 0, 510, 10)
    with pytest.raises(BadRegion) as there:
        attribute(worker, about, box=outside)
    with pytest.raises(BadRegion) as here:
        nr.attribute(about["image"], "dcp", outside)
    assert str(there.value) == str(here.value)


@pytest.mark.slow
@pytest.mark.nightly
def test_attention_is_the_one_of_this_process(
    worker: Any, subject: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = subject(WINDOWS, trust=True)
    session = api.AttentionElsewhere(worker, about)
    session.prepare(lambda event: None, threading.Event())
    here = api.attention_session(about["image"], nr.load_model(WINDOWS, trust=True), device="cpu")
    here.prepare()
    assert session.sites == here.sites
    query = api.attention_query(30, 41)
    for layers in (None, [here.sites[1].name]):
        found, expected = session.attend(query, layers), here.attend(query, layers)
        assert found.query == expected.query and found.measures == expected.measures
        assert list(found.maps) == list(expected.maps)
        for name, maps in expected.maps.items():
            other = found.maps[name]
            assert other.site == maps.site and other.query == maps.query
            assert other.image_cells == maps.image_cells and other.region == maps.region
            assert other.weights.tobytes() == maps.weights.tobytes()
            np.testing.assert_array_equal(other.cells, maps.cells)
            assert other.numbers.keys() == maps.numbers.keys()
    # A child that was killed is one sentence; the next question prepares again.
    worker.process.kill()
    worker.process.wait()
    assert session.attend(query).maps.keys() == found_names(here)
    session.write(
        query, [here.sites[0].name], tmp_path / "there.npz", draws=False, attended_by=False
    )
    direct = nr.attend(
        about["image"],
        nr.load_model(WINDOWS, trust=True),
        [(30, 41)],
        layers=[here.sites[0].name],
        device="cpu",
        progress=False,
    )
    direct.save(tmp_path / "here.npz")
    with np.load(tmp_path / "here.npz") as one, np.load(tmp_path / "there.npz") as other:
        assert one.files == other.files


def found_names(session: AttentionSession) -> set[str]:
    return {site.name for site in session.sites}


def test_a_session_answers_all_that_is_asked_of_it_by_name(subject: Any) -> None:
    tasks: list[Any] = []

    class Door:
        def call(self, function: str, task: Any, **_: Any) -> None:
            tasks.append(task)

    session, query = api.AttentionElsewhere(Door(), subject()), api.attention_query(30, 41)
    session.attend(query, ["window"], attended_by=True)
    session.redundancy(query, ["window"])
    session.without_head(query, "window", "1")
    assert {task["do"] for task in tasks} == {"attend", "redundancy", "without_head"}
    for task in tasks:
        asked = inspect.signature(getattr(AttentionSession, task["do"]))
        asked.bind(None, *task["with"], **task["named"])


@pytest.mark.nightly
def test_a_look_does_not_wait_for_an_attribution(
    worker: Any, subject: Any, points: Any, pool: ThreadPoolExecutor
) -> None:
    points.hold("Partial sent")
    asked = pool.submit(attribute, worker, subject(), **PATH)
    points.wait("Partial sent")
    session = api.AttentionElsewhere(worker, subject(WINDOWS, trust=True))
    session.prepare(lambda event: None, threading.Event())
    assert session.attend(api.attention_query(3, 4)).maps
    assert not asked.done()
    points.go("Partial sent")
    assert asked.result().map.any()


def test_code_runs_with_consent_only(worker: Any, subject: Any) -> None:
    session = api.AttentionElsewhere(worker, subject(WINDOWS))
    with pytest.raises(nr.errors.RestoreError, match="trust"):
        session.prepare(lambda event: None, threading.Event())


@pytest.mark.slow
def test_an_image_in_memory_is_asked_about_here_and_a_session_is_forgotten(
    subject: Any, pixels: np.ndarray
) -> None:
    door: Any = None
    found = attribute(door, subject(image=pixels), method="ig", steps=2)
    expected = nr.attribute(pixels, "dcp", BOX, device="cpu", method="ig", steps=2, progress=False)
    assert found.map.tobytes() == expected.map.tobytes()
    assert found.picture(BOX).tobytes() == expected.picture(BOX).tobytes()
    session = api.AttentionElsewhere(door, subject(WINDOWS, pixels, trust=True))
    session.prepare(lambda event: None, threading.Event())
    assert kept_sessions() == 1
    assert session.attend(api.attention_query(3, 4)).maps
    session.close()
    assert kept_sessions() == 0
    # Asked again, it is prepared again.
    assert session.attend(api.attention_query(3, 4)).maps and kept_sessions() == 1


def kept_sessions() -> int:
    gc.collect()
    return sum(type(each) is AttentionSession for each in gc.get_objects())


ASKING = """
import sys, threading
from napari_restore import Region, api
from napari_restore.plugin.attribution.layers import picture_of
from napari_restore.questions import Attribute

path = sys.argv[1]
worker = api.new_worker()
options = {"device": "cpu"}
model = {"model": "dcp", "weights": None, "parameters": {}}
subject = {"image": api.open_image(path), "model": model, "trust": False, "options": options}
question = {"box": Region(20, 24, 28, 36), "polygon": None, "level": 0, **vars(Attribute())}
stop = threading.Event()
found = api.attribute_elsewhere(
    worker, subject, question, pictures=worker, emit=print, watch=print, stop=stop
)
picture_of(found)
api.attribution_summary(found.record["attribution"])
model = {"model": "inf-dehaze-small", "weights": None, "parameters": {}}
session = api.AttentionElsewhere(worker, {**subject, "model": model})
session.prepare(print, stop)
session.attend(api.attention_query(3, 4)).maps["decoder.3.1"].map("2")
worker.close()
sys.exit("torch" in sys.modules)
"""


@pytest.mark.slow
@pytest.mark.nightly
def test_who_asks_does_not_import_torch(subject: Any) -> None:
    path = subject()["image"].path
    subprocess.run([sys.executable, "-c", ASKING, path], check=True, stdout=subprocess.DEVNULL)
