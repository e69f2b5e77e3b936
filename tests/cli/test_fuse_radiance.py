"""`fuse --model radiance`: light as float32, in any tiles, and for a screen on request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from tests.models.test_radiance import merged, scene, taken

import napari_restore as nr
from napari_restore import api
from napari_restore.errors import SourceChanged

EVS = (-3, 0, 3)
MODEL = ["--model", "radiance", "--align", "off", "--ev", "-3", "0", "3"]


@pytest.fixture
def photos(tmp_path: Path) -> np.ndarray:
    """Photos (3, H, W, 3), which are a.png, b.png and c.png in the folder `bracket`."""
    folder = tmp_path / "bracket"
    folder.mkdir()
    made = taken(scene(150, 170) / 4, EVS)
    for name, photo in zip("abc", made, strict=True):
        Pillow.fromarray(photo).save(folder / f"{name}.png")
    return made


@pytest.mark.slow
def test_light_is_written_as_floats_and_repeated(
    cli: Any, photos: np.ndarray, tmp_path: Path
) -> None:
    out, record = tmp_path / "light.tif", tmp_path / "light.json"
    words = ["fuse", tmp_path / "bracket", *MODEL, "-o", out, "--record", record]
    run = cli(*words)
    assert run.code == 0, run.err
    light = tifffile.imread(out)
    assert light.dtype == np.float32
    np.testing.assert_allclose(light, merged(photos, EVS), rtol=1e-5, atol=1e-7)
    assert light.max() > 4
    # In any tiles the same, to the bit.
    tiled = tmp_path / "tiled.tif"
    assert cli(*words[:-4], "-o", tiled, "--tile", "64").code == 0
    assert np.array_equal(tifffile.imread(tiled), light)
    written = json.loads(record.read_text())
    assert written["input"]["dtype"] == "float32" and written["input"]["white"] == 1
    assert [each["ev"] for each in written["frames"]] == list(EVS)
    again = tmp_path / "again.tif"
    run = cli("rerun", record, "-o", again)
    assert run.code == 0, run.err
    assert again.read_bytes() == out.read_bytes()
    paths = sorted((tmp_path / "bracket").iterdir())
    same = nr.fuse(paths, "radiance", exposures=EVS, align="off", progress=False)
    assert np.array_equal(np.asarray(same), light)
    Pillow.new("RGB", (170, 150)).save(tmp_path / "bracket" / "c.png")
    with pytest.raises(SourceChanged, match="c is not the frame"):
        nr.rerun(record, tmp_path / "other.tif")


@pytest.mark.parametrize(
    ("name", "options", "dtype"),
    [
        ("o.jpg", [], np.uint8),
        ("o.png", [], np.uint16),
        ("o.png", ["--bit-depth", "8"], np.uint8),
        ("o.tif", ["--bit-depth", "16"], np.uint16),
        ("o.zarr", [], np.float32),
    ],
)
@pytest.mark.ids("slow", "o.jpg-options0-uint8")
def test_a_screen_gets_all_of_it_by_a_curve(
    cli: Any, photos: np.ndarray, tmp_path: Path, name: str, options: list[str], dtype: Any
) -> None:
    out = tmp_path / name
    run = cli("fuse", tmp_path / "bracket", *MODEL, "-o", out, *options)
    assert run.code == 0, run.err
    image = nr.open_image(out)
    assert image.dtype == dtype
    if dtype != np.float32:
        light = merged(photos, EVS)
        shown = image.read((0, 0, 150, 170))[:, :, 1] / np.iinfo(dtype).max
        assert abs(shown.max() - 1) < 0.02
        # Brighter light is brighter on the screen, also beyond white of the reference.
        columns = light.mean(axis=(0, 2)), shown.mean(axis=0)
        assert (np.diff(columns[1][::17]) > 0).all() and columns[0][-1] > 2


@pytest.mark.slow
def test_the_copied_command_writes_the_same_bytes(
    cli: Any, photos: np.ndarray, tmp_path: Path
) -> None:
    paths = sorted((tmp_path / "bracket").iterdir())
    image = nr.open_bracket(paths, exposures=[-1 / 3, 2.7, 5.55], reference=2)
    plan = nr.plan(image, "radiance", region=nr.Region(10, 20, 100, 130))
    command = api.command_of(plan, tmp_path / "copied.tif")
    assert cli(*command.split()[1:]).code == 0
    result = nr.restore(image, "radiance", region=nr.Region(10, 20, 100, 130), progress=False)
    result.save(tmp_path / "saved.tif")
    assert (tmp_path / "copied.tif").read_bytes() == (tmp_path / "saved.tif").read_bytes()


@pytest.mark.slow
def test_transparent_pixels_and_deeper_photos(tmp_path: Path) -> None:
    photos = taken(scene() / 4, EVS)
    deep = [photo.astype(np.uint16) * 257 for photo in photos]
    alpha = np.full((90, 120, 1), 65535, np.uint16)
    clear = alpha.copy()
    clear[:20] = 0
    frames = [np.dstack([p, a]) for p, a in zip(deep, (alpha, alpha, clear), strict=True)]
    result = nr.fuse(frames, "radiance", exposures=EVS, align="off", progress=False)
    light = np.asarray(result)
    assert light.dtype == np.float32 and (light[..., 3] == 1).all()
    two = nr.fuse(frames[:2], "radiance", exposures=EVS[:2], align="off", progress=False)
    # The darker of two is the reference.
    np.testing.assert_allclose(light[:20, :, :3], np.asarray(two)[:20, :, :3] * 8, rtol=1e-5)
    result.save(tmp_path / "o.png")
    with Pillow.open(tmp_path / "o.png") as shown:
        assert np.asarray(shown)[..., 3].min() == 255
    # A pixel of the reference that is not valid stays as it is.
    frames = [np.dstack([p, a]) for p, a in zip(deep, (alpha, clear, alpha), strict=True)]
    light = np.asarray(nr.fuse(frames, "radiance", exposures=EVS, align="off", progress=False))
    assert (light[:20, :, 3] == 0).all() and (light[20:, :, 3] == 1).all()
    alone = nr.open_bracket(frames, exposures=EVS, align="off").as_light()
    assert np.array_equal(light[:20], alone.read((0, 0, 20, 120)))


def test_floats_are_light_already() -> None:
    light = (scene() / 8).astype(np.float32)
    frames = [np.clip(light * 2.0**ev, 0, 1).astype(np.float32) for ev in EVS]
    found = np.asarray(
        nr.fuse(frames, "radiance", exposures=EVS, align="off", progress=False, strength=1)
    )
    seen = light.max(axis=2) * 2.0**-3 < 0.9
    np.testing.assert_allclose(found[seen], light[seen], rtol=1e-5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--black", "3"], "Leave --black and --white out"),
        (["--deghost", "0.5"], "no parameter 'deghost'"),
        (["--ev", "-59", "0", "59"], ""),
        (["--ev", "-61", "0", "3"], "no exposure of -61 EV"),
    ],
)
def test_bad_input_is_said(
    cli: Any, photos: np.ndarray, tmp_path: Path, words: list[str], said: str
) -> None:
    run = cli("fuse", tmp_path / "bracket", *MODEL, "-o", tmp_path / "out.tif", *words)
    assert run.code == (2 if said else 0), run.err
    assert said in run.err
