"""`haze`: pairs whose truth explains them, and what is refused."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image
from points import patience
from tests.cli._scenes import hazy as picture, read, write_tiff


def photo(path: Path, seed=3, size=(120, 90)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = picture(size[1], size[0], seed=seed).transpose(1, 2, 0)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def photos(tmp_path) -> Path:
    photo(tmp_path / "in" / "aerial" / "field_1.png", 1)
    photo(tmp_path / "in" / "street.jpg", 2)
    return tmp_path / "in"


def linear(values):
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def display(values):
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)


def explained(folder: Path, name: str, white: float) -> np.ndarray:
    """(C, h, w) codes that the truth makes of the clear picture."""
    stem = Path(name).stem
    told = json.loads((folder / "truth" / f"{stem}.json").read_text(encoding="utf-8"))
    depth = read(folder / "truth" / f"{stem}.tif")[0]
    clear = read(folder / "clear" / name)[:3] / white
    falloff = (550 / np.array([650.0, 550.0, 450.0])) ** told["exponent"]
    t = np.exp(-depth[None] * falloff[:, None, None])
    airlight = np.array(told["airlight"])[:, None, None]
    if told["linear"]:
        made = display(linear(clear) * t + linear(airlight) * (1 - t))
    else:
        made = clear * t + airlight * (1 - t)
    return np.clip(made * white, 0, white)


def test_pairs_of_a_folder(cli, photos, tmp_path):
    out = tmp_path / "out"
    run = cli("haze", photos, "-o", out, "--spectrum", "octaves", "--seed", 4, "--json")
    assert run.code == 0, run.err
    names = {"field_1.png", "street.png"}
    for part in ("hazy", "clear"):
        assert {path.name for path in (out / part).iterdir()} == names
    assert run.json == json.loads((out / "haze.json").read_text(encoding="utf-8"))
    assert run.json["seed"] == 4
    assert {row["file"]: row["scene"] for row in run.json["pictures"]} == {
        "field_1.png": "aerial",
        "street.png": "natural",
    }
    assert (read(out / "clear" / "field_1.png") == read(photos / "aerial" / "field_1.png")).all()
    for name in names:
        made, wanted = read(out / "hazy" / name), explained(out, name, 255)
        assert np.abs(made - wanted).max() <= 0.51
        assert (made != read(out / "clear" / name)).mean() > 0.2
    with Image.open(out / "contact.jpg") as sheet:
        assert sheet.width > 300
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_haze_follows_from_seed_and_name_alone(cli, photos, tmp_path):
    def made(name, *more):
        out = tmp_path / name
        assert cli("haze", photos, "-o", out, "--spectrum", "power", *more).code == 0
        return read(out / "hazy" / "street.png")

    one = made("a", "--seed", 4)
    photo(photos / "another.png", 9)
    assert (made("b", "--seed", 4) == one).all()
    assert (made("c", "--seed", 5) != one).any()


def test_a_16_bit_raster_keeps_type_place_and_what_is_not_valid(cli, tmp_path):
    pixels = picture(dtype="uint16")
    pixels[:, :30] = 0
    (tmp_path / "in").mkdir()
    source = write_tiff(tmp_path / "in" / "scene.tif", pixels, nodata=0)
    out = tmp_path / "out"
    assert cli("haze", tmp_path / "in", "-o", out, "--spectrum", "octaves").code == 0
    made = read(out / "hazy" / "scene.tif")
    assert (made[:, :30] == 0).all()
    assert (made[:, 30:] != 0).all()
    assert (made[:, 30:] != pixels[:, 30:]).mean() > 0.9
    with rasterio.open(source) as one:
        for path in (out / "hazy" / "scene.tif", out / "truth" / "scene.tif"):
            with rasterio.open(path) as other:
                assert (other.crs, other.transform) == (one.crs, one.transform)
        with rasterio.open(out / "hazy" / "scene.tif") as other:
            assert other.dtypes == one.dtypes
            assert other.nodata == 0
    told = json.loads((out / "haze.json").read_text(encoding="utf-8"))["pictures"][0]
    assert told["scene"] == "aerial"
    # Counts are linear in light as they are.
    assert told["linear"] is False
    wanted = explained(out, "scene.tif", told["white"])[:, 30:]
    inside = wanted < told["white"] * 0.999
    assert np.abs(made[:, 30:] - wanted)[inside].max() <= 1


def test_alpha_is_kept_and_other_bands_are_left_out(cli, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    rgba = np.concatenate([picture(), np.full((1, 160, 200), 255, np.uint8)])
    rgba[3, :20] = 0
    Image.fromarray(rgba.transpose(1, 2, 0)).save(folder / "cut.png")
    names = ("red", "green", "blue", "undefined")
    write_tiff(folder / "four.tif", picture(bands=4))
    with rasterio.open(folder / "four.tif", "r+") as dataset:
        dataset.colorinterp = [rasterio.enums.ColorInterp[name] for name in names]
    run = cli("haze", folder, "-o", tmp_path / "out", "--spectrum", "even")
    assert run.code == 0, run.err
    made = read(tmp_path / "out" / "hazy" / "cut.png")
    assert (made[3] == rgba[3]).all()
    assert (made[:3, :20] == rgba[:3, :20]).all()
    assert read(tmp_path / "out" / "hazy" / "four.tif").shape == (3, 160, 200)


def test_grey_stays_grey(cli, tmp_path):
    (tmp_path / "in").mkdir()
    write_tiff(tmp_path / "in" / "grey.tif", picture(bands=1))
    assert cli("haze", tmp_path / "in", "-o", tmp_path / "out", "--spectrum", "even").code == 0
    made = read(tmp_path / "out" / "hazy" / "grey.tif")
    assert made.shape == (1, 160, 200)
    assert made.mean() != read(tmp_path / "in" / "grey.tif").mean()


def test_distances_decide_how_thick_it_is(cli, tmp_path):
    photo(tmp_path / "in" / "room.png")
    near = np.full((90, 120), 20, np.uint8)
    near[:, 60:] = 200
    (tmp_path / "far").mkdir()
    Image.fromarray(near).save(tmp_path / "far" / "room.png")
    words = ["--spectrum", "even", "--depth", tmp_path / "far", "--strength", 0.3, 0.4]
    assert cli("haze", tmp_path / "in", "-o", tmp_path / "out", *words).code == 0
    depth = read(tmp_path / "out" / "truth" / "room.tif")[0]
    assert depth[:, 62:].min() > 2 * depth[:, :58].max()


def test_strength_is_the_mean_transmission(cli, photos, tmp_path):
    words = ["--scene", "aerial", "--spectrum", "even", "--strength"]
    means = []
    for low, high in ((0.8, 0.82), (0.3, 0.32)):
        out = tmp_path / str(low)
        assert cli("haze", photos, "-o", out, *words, low, high).code == 0
        means.append(np.exp(-read(out / "truth" / "street.tif")).mean())
    assert means[0] == pytest.approx(0.81, abs=0.08)
    assert means[1] == pytest.approx(0.31, abs=0.08)


def test_size_reduces_photos_exactly_and_rasters_by_halves(cli, tmp_path):
    photo(tmp_path / "in" / "a.jpg")
    with rasterio.open(write_tiff(tmp_path / "in" / "b.tif", picture(240, 300)), "r+") as raster:
        raster.build_overviews([2, 4])
    write_tiff(tmp_path / "in" / "c.tif", picture())
    words = ["--spectrum", "even", "--size", 100]
    run = cli("haze", tmp_path / "in", "-o", tmp_path / "out", *words)
    assert run.code == 0, run.err
    assert read(tmp_path / "out" / "hazy" / "a.png").shape == (3, 75, 100)
    with rasterio.open(tmp_path / "out" / "hazy" / "b.tif") as made:
        assert (made.width, made.height, made.transform.a) == (75, 60, 8)
    assert "note: c has no level" in run.err


def test_training_crops(cli, tmp_path):
    for number in range(3):
        photo(tmp_path / "in" / "aerial" / f"a_{number}.png", number, (400, 400))
    words = ["--training", 5, "--seed", 2, "--json"]
    run = cli("haze", tmp_path / "in", "-o", tmp_path / "out", *words)
    assert run.code == 0, run.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"haze.json", "contact.jpg"}
    assert run.json["recipe"]["size"] == 384


def test_pictures_of_one_name_get_their_folders_name(cli, tmp_path):
    photo(tmp_path / "in" / "one" / "a.png", 1)
    photo(tmp_path / "in" / "two" / "a.png", 2)
    assert cli("haze", tmp_path / "in", "-o", tmp_path / "out", "--spectrum", "even").code == 0
    names = {path.name for path in (tmp_path / "out" / "hazy").iterdir()}
    assert names == {"one_a.png", "two_a.png"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere", "-o", "out", "--spectrum", "even"], "There is no nowhere"),
        (["in", "-o", "out"], "distribution of the haze.*--spectrum"),
        (["in", "-o", "out", "--spectrum", "fog"], "no spectrum 'fog'.*octaves"),
        (["in", "-o", "out", "--spectrum", "even", "--strength", "0.9", "0.2"], "0.9 to 0.2"),
        (["in", "-o", "in", "--spectrum", "even"], "contains the source pictures"),
        (["in", "-o", "in/out", "--spectrum", "even"], "within the folder of the source pictures"),
        (["in", "-o", ".", "--spectrum", "even"], "contains the source pictures"),
        (["in", "-o", "no/out", "--spectrum", "even"], "does not exist"),
        (["in", "-o", "other", "--spectrum", "even"], "has other contents"),
        (["in", "-o", "out", "--spectrum", "even", "--depth", "no"], "There is no folder no"),
        (["list", "-o", "out", "--spectrum", "even", "--split", "dev"], "no scene of split dev"),
        (["in", "-o", "out", "--spectrum", "even", "--depth", "other"], "no distances of .*street"),
        (["in", "-o", "out", "--training", "3", "--size", "99"], "--size has no effect"),
        (["in", "-o", "out", "--training", "3"], "No picture is large enough"),
        (["broken", "-o", "out", "--spectrum", "even"], "a.tif"),
        (["bands", "-o", "out", "--spectrum", "even"], "red, green and blue.*--bands"),
    ],
)
def test_bad_input_is_told_in_one_sentence_and_leaves_nothing(
    cli, photos, tmp_path, monkeypatch, words, told
):
    monkeypatch.chdir(tmp_path)
    for name in ("other", "broken", "bands", "list"):
        Path(name).mkdir()
    Path("list", "INDEX.csv").write_text("file,kind\na.png,aerial\n", encoding="utf-8")
    Path("other", "mine.txt").write_text("kept", encoding="utf-8")
    Path("broken", "a.tif").write_bytes(b"II*\0nothing")
    write_tiff(Path("bands", "b.tif"), picture(bands=5), photometric="MINISBLACK")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    run = cli("haze", *words, "--progress", "off")
    assert run.code == 2
    assert re.search(told, run.err), run.err
    assert run.err.count("\n") == 1
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_an_earlier_output_is_replaced_only_when_asked(cli, photos, tmp_path):
    words = ["haze", photos, "-o", tmp_path / "out", "--spectrum", "even"]
    assert cli(*words).code == 0
    run = cli(*words)
    assert run.code == 2
    assert "exists already" in run.err
    (photos / "street.jpg").unlink()
    assert cli(*words, "--overwrite").code == 0
    assert [path.name for path in (tmp_path / "out" / "hazy").iterdir()] == ["field_1.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_ctrl_c_leaves_nothing(photos, tmp_path):
    import napari_restore_lab
    from napari_restore.errors import Cancelled

    seen = []

    def cancelled() -> bool:
        """True as soon as the first picture is written."""
        seen.extend(tmp_path.glob(".out.*/hazy/*.png"))
        return bool(seen)

    with pytest.raises(Cancelled):
        napari_restore_lab.haze(photos, tmp_path / "out", spectrum="even", cancelled=cancelled)
    assert seen
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="another way to send Ctrl-C")
def test_ctrl_c_within_a_picture_is_not_waited_for(photos, tmp_path, points):
    words = ["haze", str(photos), "-o", str(tmp_path / "out"), "--spectrum", "even"]
    name = "field_1.png written"
    points.hold(name)
    with subprocess.Popen(
        [sys.executable, "-m", "napari_restore", *words], stderr=subprocess.PIPE, text=True
    ) as child:
        points.wait(name)
        child.send_signal(signal.SIGINT)
        # Its main thread is held: nobody waits for the picture.
        _, said = child.communicate(timeout=patience())
    assert child.returncode == 3, said
    assert said.splitlines()[-1] == "napari-restore: Stopped. Nothing was written."
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_reduced_photo_keeps_alpha_grey_and_bands(cli, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    rgba = np.concatenate([picture(), np.full((1, 160, 200), 255, np.uint8)])
    rgba[:, :40] = 0
    Image.fromarray(rgba.transpose(1, 2, 0)).save(folder / "cut.png")
    Image.fromarray(picture(bands=1)[0]).save(folder / "grey.png")
    bands = picture(bands=5).transpose(1, 2, 0)
    tifffile.imwrite(folder / "odd.tif", bands, photometric="minisblack", planarconfig="contig")
    words = ["--spectrum", "even", "--size", 100, "--bands", "red=5,green=3,blue=1"]
    run = cli("haze", folder, "-o", tmp_path / "out", *words, "--scene", "aerial", "--json")
    assert run.code == 0, run.err
    assert run.json["bands"] == "red=5,green=3,blue=1"
    cut, clear = (read(tmp_path / "out" / kind / "cut.png") for kind in ("hazy", "clear"))
    assert cut.shape == (4, 80, 100)
    assert not cut[:, :19].any() and (cut[3, 21:] == 255).all()
    assert (cut[:3, 25:] != clear[:3, 25:]).mean() > 0.5
    # What is transparent has no colour to give to its neighbours.
    inside = np.asarray(Image.fromarray(rgba[0, 40:]).resize((100, 60), Image.Resampling.LANCZOS))
    assert np.abs(clear[0, 20:].astype(int) - inside).max() < 24
    depth = read(tmp_path / "out" / "truth" / "cut.tif")[0]
    # Two pixels beside a border are none of the picture either.
    assert not depth[:19].any() and depth[22:].min() > 0
    row = next(row for row in run.json["pictures"] if row["file"] == "cut.png")
    assert row["mean_depth"] == pytest.approx(depth[depth > 0].mean(), abs=1e-3)
    assert read(tmp_path / "out" / "hazy" / "grey.png").shape == (1, 80, 100)
    odd = read(tmp_path / "out" / "clear" / "odd.tif")
    red = Image.fromarray(picture(bands=5)[4]).resize((100, 80), Image.Resampling.LANCZOS)
    assert odd.shape == (3, 80, 100)
    assert np.abs(odd[0].astype(int) - np.asarray(red)).max() <= 1


def test_the_border_of_a_mosaic_stays_black(cli, tmp_path):
    (tmp_path / "in" / "aerial").mkdir(parents=True)
    pixels = np.maximum(picture(), 9)
    pixels[:, :, :50] = 0
    Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / "in" / "aerial" / "a.png")
    run = cli("haze", tmp_path / "in", "-o", tmp_path / "out", "--spectrum", "even", "--json")
    assert run.code == 0, run.err
    assert not read(tmp_path / "out" / "hazy" / "a.png")[:, :, :50].any()
    depth = read(tmp_path / "out" / "truth" / "a.tif")[0]
    assert not depth[:, :50].any() and depth[:, 52:].min() > 0
    assert run.json["pictures"][0]["mean_depth"] > 1.2 * depth.mean()


def test_it_is_told_where_distances_come_from(cli, photos, tmp_path):
    photo(photos / "room.png")
    photo(photos / "yard.png")
    (tmp_path / "far").mkdir()
    Image.fromarray(np.full((90, 120), 20, np.uint8)).save(tmp_path / "far" / "room.PNG", "PNG")
    words = ["--spectrum", "even", "--depth", tmp_path / "far", "--json"]
    run = cli("haze", photos, "-o", tmp_path / "out", *words)
    assert run.code == 0, run.err
    assert "no distances of street.png, yard.png: they are synthetic" in run.err
    assert {row["file"]: row["distance"] for row in run.json["pictures"]} == {
        "field_1.png": None,
        "room.png": str(tmp_path / "far" / "room.PNG"),
        "street.png": "made up",
        "yard.png": "made up",
    }
    assert run.json["distances"] == str(tmp_path / "far")


def test_pairs_can_be_made_where_one_stands(cli, photos, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert cli("haze", "../in", "-o", ".", "--spectrum", "even").code == 0
    names = {path.name for path in Path().iterdir()}
    assert names == {"hazy", "clear", "truth", "haze.json", "contact.jpg"}


def test_names_that_differ_in_case_only_do_not_meet(cli, tmp_path):
    photo(tmp_path / "in" / "one" / "A.png", 1)
    photo(tmp_path / "in" / "two" / "a.png", 2)
    alone = ["--spectrum", "even", "--scene", "aerial"]
    assert cli("haze", tmp_path / "in", "-o", tmp_path / "out", *alone).code == 0
    names = {path.name for path in (tmp_path / "out" / "hazy").iterdir()}
    assert names == {"one_A.png", "two_a.png"}
    # Another file of that name changes the output's name and not the haze.
    assert cli("haze", tmp_path / "in" / "two", "-o", tmp_path / "two", *alone).code == 0
    one, other = tmp_path / "out" / "hazy" / "two_a.png", tmp_path / "two" / "hazy" / "a.png"
    assert (read(one) == read(other)).all()


def test_the_api_refuses_what_says_nothing_about_training_crops(photos, tmp_path):
    import napari_restore_lab
    from napari_restore.errors import BadParameter

    for choice in ({"spectrum": "even"}, {"scene": "aerial"}, {"size": 99}, {"depth": photos}):
        with pytest.raises(BadParameter, match="has no effect on training crops"):
            napari_restore_lab.haze(photos, tmp_path / "out", training=3, **choice)


def test_a_narrow_picture(cli, tmp_path):
    photo(tmp_path / "in" / "line.png", size=(200, 3))
    run = cli("haze", tmp_path / "in", "-o", tmp_path / "out", "--spectrum", "even")
    assert run.code == 0, run.err


def test_pairs_scores_and_dev_figures_show_the_same_haze(cli, tmp_path):
    from napari_restore_lab._questions import Evaluate
    from napari_restore_lab.loop import ScoreConfig
    from napari_restore_lab.loop._score import _pair
    from napari_restore_lab.score import scene_cases
    from napari_restore_lab.synthetic_haze import ClearScene

    folder = tmp_path / "in"
    photo(folder / "aerial" / "field.png", 1)
    photo(folder / "hill.png", 2)
    write_tiff(folder / "count.tif", picture(dtype="uint16"))
    words = ["--spectrum", "plumes", "--seed", 9]
    assert cli("haze", folder, "-o", tmp_path / "out", *words).code == 0
    cases = scene_cases(Evaluate(data=folder, split="dev", spectrum="plumes", seed=9))
    assert [case.name for case in cases] == ["field", "count", "hill"]
    for case in cases:
        clear, hazy, valid = case.pixels()
        scene = ClearScene(
            case.scene.file,
            case.scene.kind,
            clear.astype(np.float32) / 255,
            valid,
            is_light=case.name == "count",
        )
        dev = _pair(scene, ScoreConfig(seed=9)).hazy * 255
        assert np.abs(dev - hazy).max() < 0.01
        if case.name != "count":
            made = read(tmp_path / "out" / "hazy" / f"{case.name}.png").transpose(1, 2, 0)
            assert np.abs(made.astype(int) - hazy).max() <= 1
            continue
        # In its own units, between black and white.
        told = json.loads((tmp_path / "out" / "truth" / "count.json").read_text("utf-8"))
        made = read(tmp_path / "out" / "hazy" / "count.tif").transpose(1, 2, 0).astype(float)
        seen = np.clip((made - told["black"]) / (told["white"] - np.array(told["black"])), 0, 1)
        assert np.abs(seen * 255 - hazy)[valid].max() < 2
