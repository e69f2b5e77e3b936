"""Areas as text in the command: `--mask "POLYGON ((…))"`."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ._scenes import read

RING = [(500040, 39960), (500300, 39900), (500260, 39720), (500040, 39960)]


def wkt(ring) -> str:
    return f"POLYGON (({', '.join(f'{x} {y}' for x, y in ring)}))"


def test_it_does_what_the_file_does(cli, scene, tmp_path):
    file = tmp_path / "area.geojson"
    crs = {"type": "name", "properties": {"name": "EPSG:32636"}}
    file.write_text(json.dumps({"type": "Polygon", "coordinates": [RING], "crs": crs}))
    outputs = []
    for name, mask in (("file", file), ("text", wkt(RING))):
        outputs.append(tmp_path / f"{name}.tif")
        words = ["-o", outputs[-1], "--model", "dcp", "--mask", mask, "--feather", 5]
        run = cli("restore", scene, *words, "--record", tmp_path / f"{name}.json")
        assert run.code == 0, run.err
    first, second = map(read, outputs)
    np.testing.assert_array_equal(first, second)
    changed = (first != read(scene)).any(axis=0)
    assert changed.any() and not changed[:15].any()
    again = tmp_path / "again.tif"
    assert cli("rerun", tmp_path / "text.json", "-o", again).code == 0
    assert again.read_bytes() == outputs[1].read_bytes()


def test_what_is_left_out_may_be_text_that_is_longer_than_a_name(cli, scene, tmp_path):
    ring = [*RING[:-1], *((500040 - 0.01 * n, 39960.0) for n in range(200)), RING[0]]
    out = tmp_path / "o.tif"
    run = cli("restore", scene, "-o", out, "--model", "dcp", "--exclude", wkt(ring))
    assert run.code == 0, run.err
    kept = (read(out) == read(scene)).all(axis=0)
    assert kept[40:60, 60:80].all() and not kept.all()
    folder = tmp_path / "many"
    run = cli("restore", scene, "-o", f"{folder}/", "--model", "dcp", "--exclude", wkt(ring))
    assert run.code == 0, run.err


@pytest.mark.slow
def test_so_in_attribution_and_its_repetition(cli, scene, tmp_path):
    out, record = tmp_path / "map.tif", tmp_path / "map.json"
    words = ["--model", "dcp", "--box", 165, 20, 16, 16, "--method", "ig", "--steps", 2]
    run = cli("attribute", scene, *words, "--exclude", wkt(RING), "-o", out, "--record", record)
    assert run.code == 0, run.err
    assert cli("rerun", record, "-o", tmp_path / "again.tif").code == 0


def test_text_that_is_no_area_is_a_sentence(cli, scene, tmp_path):
    words = ["restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp", "--mask"]
    run = cli(*words, "POLYGON ((0 0, 5 x))")
    assert run.code == 2 and "no WKT" in run.err and "Traceback" not in run.err


def test_the_cache_tells_what_it_keeps_for_commands(cli, scene, masks_released):
    from napari_restore import api

    image = api.open_image(scene)
    mask = api.mask_of_array(image, np.eye(9), (4, 0, 0, 0, 4, 0))
    planned = api.plan(image, "identity", mask=mask)
    assert str(mask) in api.command_of(planned, "out.tif")
    masks_released()
    run = cli("cache", "--clear")
    assert "kept 1 mask" in run.out and "--masks" in run.out and mask.is_file()
    assert cli("cache", "--masks").code == 2
    assert cli("cache", "--clear", "--masks", "--json").json["kept_masks"] == 0
    assert not mask.exists()
