"""Records, cards and what lies in the cache: what does not fit its shape is named, file and key."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_restore as nr
from napari_restore import api
from napari_restore._json_shapes import mismatches, read_json
from napari_restore.commands import main
from napari_restore.errors import BadModel, InputError, RestoreError

from .conftest import tiff_in

Tiff = Callable[..., Path]
DEEP = "[" * 100_000


def put(data: Any, where: str, value: Any) -> None:
    """`data["a"]["b"] = value` for `where` "a.b"; numbers are places in lists."""
    *way, last = (int(key) if key.isdecimal() else key for key in where.split("."))
    for key in way:
        data = data[key]
    data[last] = value


KINDS = ("restoration", "attribution", "table")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The text of a record of each kind."""
    folder = tmp_path_factory.mktemp("records")
    image, box = str(tiff_in(folder)()), ["--box", "8", "8", "8", "8"]
    paths = {kind: folder / f"{kind}.json" for kind in KINDS}
    quiet = ["--model", "identity", "--progress", "off"]
    ask = ["attribute", image, *quiet, "--steps", "1"]
    (folder / "boxes.csv").write_text("x,y,width,height\n8,8,4,4\n")
    boxes = ["--boxes", str(folder / "boxes.csv")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_RESTORE_CACHE", str(folder / "cache"))
        run = ["-o", str(folder / "out.tif"), *quiet, "--record", str(paths["restoration"])]
        assert main(["restore", image, *run]) == 0
        run = ["-o", str(folder / "map.tif"), "--record", str(paths["attribution"])]
        assert main([*ask, *box, *run]) == 0
        assert main([*ask, *boxes, "-o", str(paths["table"])]) == 0
    return {kind: path.read_text() for kind, path in paths.items()}


@pytest.fixture
def recorded(records: dict[str, str], tmp_path: Path) -> dict[str, Path]:
    """A record of each kind, to change."""
    paths = {kind: tmp_path / f"{kind}.json" for kind in KINDS}
    for kind, path in paths.items():
        path.write_text(records[kind])
    return paths


CHANGES = [
    ("restoration", "task", {}, "record.task.image is missing"),
    ("restoration", "task.options", 5, "record.task.options is 5, but it should be an object"),
    (
        "restoration",
        "task.options.region",
        [[0, 0, 1]],
        "region[0] is [0, 0, 1], but it should have at least 4 items",
    ),
    ("restoration", "task.options", {"mask": None}, "record.task.options.region is missing"),
    ("restoration", "task.options.memory", "1TiB", "record.task.options.memory is an unknown key"),
    ("restoration", "task.options.scratch", "/", "record.task.options.scratch is an unknown key"),
    ("restoration", "task.image.cancelled", True, "record.task.image.cancelled is an unknown key"),
    ("restoration", "task.model.model", 7, "record.task.model.model is 7"),
    ("restoration", "output.options", {"quality": "x"}, "record.output.options.quality is 'x'"),
    ("restoration", "input.size", [10**30, 1], "record.input.size[0]"),
    ("restoration", "input.fingerprint", "a\0b", "record.input.fingerprint"),
    ("restoration", "task.image.source", "\ud800", "record.task.image.source"),
    (
        "attribution",
        "task.question.box",
        [1, 2],
        "box is [1, 2], but it should have at least 4 items",
    ),
    ("attribution", "task.question.watch", 1, "record.task.question.watch is an unknown key"),
    ("table", "task.images.0.places.0.box", None, "made again by its command"),
    (
        "table",
        "task.images.0.spec",
        None,
        "record.task.images[0].spec is None, but it should be an object",
    ),
    ("table", "question.workers", 3, "record.question.workers is an unknown key"),
    ("table", "rows.0.number", "x", "record.rows[0].number is 'x'"),
    ("table", "task.baseline_fingerprint", "x", ""),
]


@pytest.mark.parametrize(("kind", "where", "value", "words"), CHANGES, ids=lambda v: str(v)[:30])
def test_records_of_another_shape(
    kind: str,
    where: str,
    value: Any,
    words: str,
    recorded: dict[str, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = recorded[kind]
    data = json.loads(path.read_text())
    put(data, where, value)
    path.write_text(json.dumps(data))
    capfd.readouterr()
    out = tmp_path / f"again.{'csv' if kind == 'table' else 'tif'}"
    code = main(["rerun", str(path), "-o", str(out)])
    told = capfd.readouterr().err
    assert "Traceback" not in told
    if words:
        assert code == 2
        assert words in told and (str(path) in told or "of the record" in told)


def test_a_record_replaces_no_file(recorded: dict[str, Path], tmp_path: Path) -> None:
    """Not even where it asks for that: only the person who repeats it may."""
    path, victim = recorded["restoration"], tmp_path / "victim.tif"
    victim.write_bytes(b"precious")
    data = json.loads(path.read_text())
    data["output"] |= {"path": str(victim), "options": {"overwrite": True}}
    path.write_text(json.dumps(data))
    assert main(["rerun", str(path)]) == 2
    with pytest.raises(RestoreError):
        nr.rerun(path)
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (DEEP, "nested too deeply"),
        ('{"a": 1, "a": 2}', "the key 'a' stands twice"),
        ('{"a": NaN}', "NaN is no finite number"),
        ('{"a": 1e999}', "1e999 is no finite number"),
        ("\udcff{}", "utf-8"),
        ("5", "record is 5, but it should be an object"),
        ('{"a": ' + "[" * 900 + "]" * 900 + "}", "record"),
    ],
    ids=lambda v: v[:20],
)
def test_json_that_nobody_writes(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as caught:
        api.read_record_file(path)
    assert str(path) in caught.value.message and words in caught.value.message
    # As text of a mask, and as a file of one.
    for mask in (path, '{"type": ' + DEEP):
        with pytest.raises(RestoreError):
            nr.plan(np.zeros((64, 64), np.uint8), "identity", mask=mask)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", 5), ("summary", None), ("task", "x"), ("scenes", "aerial"), ("roles", [1]),
        ("bands", True), ("multiple_of", None), ("multiple_of", 2**70), ("parameters", [{}]),
        ("parameters", [{"name": "a", "default": 1, "help": "", "odd": 1}]), ("values", []),
        ("precisions", [[]]), ("maps", {}), ("needs_context", 1), ("hallo", 1),
    ],
    ids=str,
)  # fmt: skip
def test_cards_of_another_shape(field: str, value: Any, tmp_path: Path) -> None:
    import torch

    weights = tmp_path / "net.pth"
    torch.save(nr.load_model("haze-unet", weights="random:0").state_dict(), weights)
    card = tmp_path / "net.json"
    card.write_text(json.dumps({"model": "haze-unet", field: value}))
    with pytest.raises(BadModel) as caught:
        nr.load_model(weights)
    assert "net.json" in caught.value.message and field in caught.value.message


@pytest.mark.parametrize("text", [DEEP, "5", '{"task": {}}', ""], ids=["deep", "5", "no task", ""])
def test_notes_of_results_of_another_shape(text: str, tiff: Tiff, own_cache: Path) -> None:
    image = nr.open_image(tiff())
    plan = nr.plan(image, "identity")
    result = nr.start(plan).result()
    api.keep_result(result.store.path, api.task_of(plan), "scene", "Identity", result.record)
    result.store.close()
    assert len(api.kept_results(image)) == 1
    for name in ("result-*.json", "header.json", "entry.json"):
        (file,) = result.store.path.glob(name)
        good = file.read_text()
        file.write_text(text)
        assert api.kept_results(image) == [] or name == "entry.json"
        assert main(["cache"]) == 0
        file.write_text(good)


def test_a_damaged_context_file(tiff: Tiff, tmp_path: Path) -> None:
    """Arrays of numpy have a header in Python; one that is cut off is no syntax error of ours."""
    import zipfile

    scene, path = tiff(), tmp_path / "context.npz"
    api.save_context([scene], path)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    for old, new in ((b")", b" "), (b"'shape': (", b"'shape': (99999999999, ")):
        with zipfile.ZipFile(path, "w") as file:
            for name, body in members.items():
                file.writestr(name, body.replace(old, new) if name == "dark_sums.npy" else body)
        with pytest.raises(RestoreError):
            nr.plan(scene, "dcp", context=path)


def test_weights_that_cannot_be_read_end_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":{}}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(BadModel) as caught:
        nr.load_model("haze-unet", weights=path)
    assert caught.value.message.endswith(".")


def test_what_shapes_say() -> None:
    assert mismatches({"a": [1, "x"]}, dict[str, list[int]], "it") == [
        "it.a[1] is 'x', but it should be a valid integer"
    ]
    assert mismatches(None, int | None, "it") == []
    assert mismatches({"a": "\0"}, dict[str, Any], "it") == ["it.a is '\\x00', which is refused"]
    assert mismatches(["a"] * 9999, list[int], "it") == ["it differs in 9999 places"]
    # Of a union, what is wrong within the branch that fits.
    assert mismatches({"a": ["b", 5]}, dict[str, str | list[str]], "it")[0].startswith("it.a[1]")


def test_names_of_files_that_are_not_utf_8_fit_shapes() -> None:
    assert mismatches({"\udcff": ["a\udcff"]}, dict[str, list[str]], "it") == []
    assert mismatches({"\udcff": 5}, dict[str, str], "it") != []


def test_values_from_python_fit_shapes() -> None:
    assert mismatches({"a": (np.int64(1), 2)}, dict[str, list[int]], "it") == []
    assert mismatches({"a": np.float32("nan")}, dict[str, float], "it") != []


def test_a_pipe_is_no_record(tmp_path: Path) -> None:
    import os

    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes")
    os.mkfifo(tmp_path / "record.json")
    with pytest.raises(ValueError, match="no plain file"):
        read_json(tmp_path / "record.json")
