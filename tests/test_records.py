from __future__ import annotations

import copy
import errno
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_restore.errors import BadOutput, DiskFull, InputError
from napari_restore.records import (
    check_record,
    problems,
    read_record,
    strict_json,
    write_record,
)

RECORD: dict[str, Any] = {
    "command": "napari-restore restore größe.tif -o out.tif --model dcp",
    "version": "0.1.0",
    "status": "done",
    "input": {
        "path": "größe.tif",
        "fingerprint": "ab12",
        "size": [300, 400],
        "bands": 3,
        "dtype": "uint8",
        "crs": None,
        "black": [0, 0.5, 0],
        "white": 255,
    },
    "output": {"path": "out.tif", "sha256": "cd34"},
    "model": {"id": "dcp", "weights_sha256": None, "parameters": {"omega": 0.95}},
    "targets": [{"region": [0, 0, 300, 400], "mask": None}, {"region": [0, 0, 1, 1]}],
    "extent": "image",
    "context": {},
    "plan": {
        "scope": "local",
        "tile": 512,
        "halo": 48,
        "tile_batch": 1,
        "tiles": 1,
        "passes": 1,
        "residual_tier": None,
        "residual_bytes": 0,
        "predicted_peak_ram_bytes": 1,
        "predicted_peak_device_bytes": 0,
        "predicted_disk_bytes": 0,
        "predicted_seconds": None,
    },
    "measured": {
        "seconds": 1.5,
        "megapixels_per_second": 2,
        "peak_ram_bytes": 1,
        "peak_device_bytes": 0,
        "tiles_done": 1,
        "tiles_resumed": 0,
        "backoffs": 0,
        "unchanged_share": 0.25,
    },
    "device": "cpu",
    "versions": {"torch": "2.13.0"},
}


def changed(path: str, value: object) -> dict[str, Any]:
    """RECORD with one value replaced; `path` is dotted."""
    record = copy.deepcopy(RECORD)
    place: Any = record
    *parents, last = path.split(".")
    for key in parents:
        place = place[int(key)] if key.isdigit() else place[key]
    place[last] = value
    return record


def test_round_trip_keeps_every_value_and_unknown_keys(tmp_path):
    record = RECORD | {"attribution": {"method": "ig"}}
    path = write_record(tmp_path / "Läufe 1.json", record)
    assert read_record(path) == record
    assert [p.name for p in tmp_path.iterdir()] == ["Läufe 1.json"]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("status", "finished", "record.status is 'finished', but it should be 'done', "),
        ("input", None, "record.input is None, but it should be an object"),
        (
            "input.size",
            [300, 400.5],
            "record.input.size[1] is 400.5, but it should be a valid integer",
        ),
        ("input.bands", True, "record.input.bands is True, but it should be a valid integer"),
        ("input.black", [float("nan")], "record.input.black[0] is nan, not a finite number"),
        ("measured.seconds", float("inf"), "record.measured.seconds is inf, not a finite number"),
        ("targets", {}, "record.targets is {}, but it should be a valid array"),
        (
            "targets.0.region",
            ["0"],
            "record.targets[0].region[0] is '0', but it should be a valid integer",
        ),
        ("versions", {"torch": 2}, "record.versions.torch is 2, but it should be a valid string"),
        ("model.parameters", [], "record.model.parameters is [], but it should be an object"),
    ],
)
def test_a_wrong_value_is_named(path, value, said):
    (problem,) = problems(changed(path, value))
    assert problem.startswith(said)


def test_every_missing_key_is_named():
    assert problems({k: v for k, v in RECORD.items() if k not in ("plan", "device")}) == [
        "record.plan is missing",
        "record.device is missing",
    ]
    assert problems([]) == ["record is [], but it should be an object"]


def test_only_a_record_is_written(tmp_path):
    with pytest.raises(ValueError, match="status"):
        write_record(tmp_path / "a.json", changed("status", "?"))
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_record(tmp_path, monkeypatch):
    path = write_record(tmp_path / "a.json", RECORD)

    def full(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(DiskFull, match="No space left"):
        write_record(path, changed("version", "2"))
    assert read_record(path) == RECORD
    assert len(list(tmp_path.iterdir())) == 1


def test_json_is_strict_whatever_it_holds():
    data = {
        "nodata": math.nan,
        "range": (-math.inf, np.float32(1.5)),
        "count": np.int64(3),
        "list": np.array([1.0, np.inf]),
        "flag": np.bool_(True),
        "path": Path("größe.tif"),
        7: None,
    }
    text = strict_json(data)
    assert json.loads(text, parse_constant=pytest.fail) == {
        "nodata": "nan",
        "range": ["-inf", 1.5],
        "count": 3,
        "list": [1.0, "inf"],
        "flag": True,
        "path": "größe.tif",
        "7": None,
    }


def test_a_place_is_checked_without_writing(tmp_path):
    check_record(tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []
    old = write_record(tmp_path / "a.json", RECORD)
    with pytest.raises(BadOutput, match="overwrite=True"):
        check_record(old)
    check_record(old, overwrite=True)
    with pytest.raises(BadOutput, match="is a folder"):
        check_record(tmp_path, overwrite=True)
    with pytest.raises(BadOutput, match="cannot be written"):
        check_record(tmp_path / "missing" / "a.json")
    with pytest.raises(BadOutput, match="cannot be written"):
        check_record(old / "a.json")


def test_an_unwritable_place_is_an_output_error(tmp_path):
    with pytest.raises(BadOutput, match="cannot be written"):
        write_record(tmp_path / "missing" / "a.json", RECORD)


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"command": "x"})])
def test_what_is_no_record_is_refused_with_a_next_step(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"write_record\(\)"):
        read_record(path)


def test_a_missing_record_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_record(tmp_path / "a.json")
