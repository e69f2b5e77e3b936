"""Strength, luminance only and protected tones on the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from napari_restore.questions import TONE, Adjustment, options_of
from napari_restore.records import problems

from ._scenes import hazy, read, write_tiff

LOOK = [
    "--adjust=luminance-only",
    "--adjust=protect-shadows=0.5",
    "--adjust=protect-highlights=0.5",
    "--adjust=exposure=0.4",
]
WEIGHTS = np.array([0.2126, 0.7152, 0.0722])[:, None, None]


@pytest.mark.slow
def test_the_record_tells_of_it_and_rerun_gives_equal_bytes(cli, scene, tmp_path):
    out, again, record = tmp_path / "o.tif", tmp_path / "again.tif", tmp_path / "r.json"
    words = ["restore", scene, "-o", out, "--model", "dcp", "--strength", 0.9, *LOOK]
    run = cli(*words, "--record", record, "--json")
    assert run.code == 0, run.err
    assert problems(run.json) == []
    assert run.json["adjustment"] == {
        "strength": 0.9,
        "luminance_only": True,
        "protect_shadows": 0.5,
        "protect_highlights": 0.5,
        "exposure": 0.4,
        **{name: options_of(Adjustment)[name].default for name in TONE},
    }
    assert cli("rerun", record, "-o", again).code == 0
    assert again.read_bytes() == out.read_bytes()
    told = json.loads(record.read_text(encoding="utf-8"))
    told["task"]["options"]["luminance_only"] = False
    record.write_text(json.dumps(told), encoding="utf-8")
    assert cli("rerun", record, "-o", tmp_path / "other.tif").code == 0
    assert (read(tmp_path / "other.tif") != read(out)).any()


def test_a_plain_run_says_so(cli, scene, tmp_path):
    run = cli("restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp", "--json")
    assert run.json["adjustment"]["strength"] == 1
    assert not run.json["adjustment"]["luminance_only"]


def test_luminance_only_keeps_the_colours(cli, scene, tmp_path):
    full, only = tmp_path / "full.tif", tmp_path / "only.tif"
    assert cli("restore", scene, "-o", full, "--model", "dcp").code == 0
    assert (
        cli("restore", scene, "-o", only, "--model", "dcp", "--adjust", "luminance-only").code == 0
    )
    source, restored, mixed = (read(path).astype(float) for path in (scene, full, only))
    assert np.abs((mixed * WEIGHTS).sum(0) - (restored * WEIGHTS).sum(0)).max() <= 1
    assert (np.ptp(mixed - source, axis=0) <= 1).mean() > 0.9
    assert np.ptp(restored - source, axis=0).mean() > 2


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
def test_it_holds_for_every_format(cli, scene, tmp_path, suffix):
    """A neutral zarr is the store itself; an adjusted one must not be."""
    reference, out = tmp_path / "reference.tif", tmp_path / f"o{suffix}"
    assert cli("restore", scene, "-o", reference, "--model", "dcp", *LOOK).code == 0
    assert cli("restore", scene, "-o", out, "--model", "dcp", *LOOK).code == 0
    import napari_restore as nr

    written = nr.open_image(out).read((0, 0, 160, 200))
    np.testing.assert_array_equal(written, read(reference).transpose(1, 2, 0))


@pytest.mark.slow
def test_a_folder_is_not_taken_for_done_with_another_look(cli, scene, tmp_path):
    write_tiff(tmp_path / "b.tif", hazy(seed=9))
    out = tmp_path / "out"
    words = ["restore", scene, tmp_path / "b.tif", "-o", out, "--model", "dcp"]
    assert cli(*words, "--json").json["done"] == 2
    assert cli(*words, "--json").json["skipped"] == 2
    run = cli(*words, *LOOK, "--overwrite", "--json")
    assert run.code == 0 and run.json["done"] == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--adjust", "protect-shadows=1.5"], "protect-shadows"),
        (["--adjust", "protect-highlights=-1"], "protect-highlights"),
        (["--adjust", "protect-shadows=much"], "protect-shadows"),
        (["--strength", 2], "Strength"),
        (["--adjust", "exposure=4"], "Exposure"),
        (["--adjust", "exposure=bright"], "exposure"),
    ],
)
def test_values_beyond_the_limits_are_bad_input(cli, scene, tmp_path, words, told):
    run = cli("restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp", *words)
    assert run.code == 2 and told in run.err
    assert not (tmp_path / "o.tif").exists()


def test_colour_cannot_be_kept_where_there_is_none(cli, tmp_path):
    grey = write_tiff(tmp_path / "grey.tif", hazy(bands=1))
    out = tmp_path / "o.tif"
    run = cli("restore", grey, "-o", out, "--model", "identity", "--adjust", "luminance-only")
    assert run.code == 2 and "red, green and blue" in run.err
    assert (
        cli("restore", grey, "-o", out, "--model", "identity", "--adjust", "protect-shadows=1").code
        == 0
    )


def test_a_measured_exposure_is_recorded_as_a_number(cli, scene, tmp_path):
    out, again, record = tmp_path / "o.tif", tmp_path / "again.tif", tmp_path / "r.json"
    words = ["restore", scene, "--model", "dcp"]
    run = cli(*words, "-o", out, "--adjust", "exposure=auto", "--record", record, "--json")
    assert run.code == 0, run.err
    ev = run.json["adjustment"]["exposure"]
    assert 0 < ev <= 3
    assert f"Exposure measured: {ev:+.2f} EV." in run.json["notes"]
    assert run.json["task"]["options"]["exposure"] == ev
    assert problems(run.json) == []
    assert cli("rerun", record, "-o", again).code == 0
    assert again.read_bytes() == out.read_bytes()
    fixed = tmp_path / "fixed.tif"
    assert cli(*words, "-o", fixed, "--adjust", f"exposure={ev}").code == 0
    np.testing.assert_array_equal(read(fixed), read(out))


@pytest.mark.slow
def test_photos_of_a_folder_have_exposures_of_their_own_and_maps_have_none(cli, tmp_path):
    folder, records = tmp_path / "in", tmp_path / "{stem}.json"
    folder.mkdir()
    pixels = hazy(200, 240)
    for name, picture in (("a", pixels), ("b", pixels // 2 + 60)):
        Image.fromarray(picture.transpose(1, 2, 0)).save(folder / f"{name}.png")
    write_tiff(folder / "map.tif", pixels)
    words = ["--model", "atmosphere"]
    run = cli("restore", folder, "-o", tmp_path / "out", *words, "--record", records)
    assert run.code == 0, run.err
    records = {path.name[0]: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    exposures = {name: each["adjustment"]["exposure"] for name, each in records.items()}
    assert exposures["m"] is None and 0 < exposures["b"] != exposures["a"] > 0
    assert all(f"Exposure measured: {exposures[name]:+.2f} EV." in run.err for name in "ab")
    assert run.err.count("Exposure measured") == 2
    plain = ["restore", folder / "a.png", "-o", tmp_path / "plain.png", "--adjust", "exposure=0"]
    assert cli(*plain, *words).code == 0
    names = ("plain.png", "out/a_clear.png", "out/map_clear.tif")
    darker, lighter, of_map = (read(tmp_path / name).astype(int) for name in names)
    # The map has the same pixels, and they are the model's.
    np.testing.assert_array_equal(of_map, darker)
    assert (lighter >= darker).all() and lighter.mean() > darker.mean()
