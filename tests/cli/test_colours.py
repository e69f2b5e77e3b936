"""Photographs without colour, and what methods made for scenes from above say of photographs."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image


def grey(height=120, width=140):
    """(height, width, 3) uint8 whose sky is white."""
    rows, columns = np.mgrid[:height, :width]
    waves = 120 + 60 * np.sin(columns / 20) * np.cos(rows / 30)
    noise = np.random.default_rng(0).random((height, width))
    light = (waves + 10 * noise).astype(np.uint8)
    light[: height // 4] = 255
    return np.repeat(light[..., None], 3, axis=2)


def with_a_blue_sign(picture):
    picture[40:80, 50:90] //= 2
    picture[40:80, 50:90, 2] *= 2
    return picture


def read_png(path):
    return np.asarray(Image.open(path))


@pytest.fixture
def photo(tmp_path):
    def write(pixels):
        path = tmp_path / "photo.png"
        Image.fromarray(pixels).save(path)
        return path

    return write


def test_hot_leaves_a_grey_photograph_as_it_is(cli, photo, tmp_path):
    """Blue and red tell its haze, and they are equal."""
    out = tmp_path / "out.png"
    run = cli("restore", photo(grey()), "-o", out, "--model", "hot")
    assert run.code == 0, run.err
    assert np.array_equal(read_png(out), grey())


def test_hot_takes_a_grey_photograph_with_a_spot_of_colour(cli, photo, tmp_path):
    """No pixel lies strictly below the clear level."""
    source, out = with_a_blue_sign(grey()), tmp_path / "out.png"
    run = cli("restore", photo(source), "-o", out, "--model", "hot")
    assert run.code == 0, run.err
    grey_part = np.ones(source.shape[:2], bool)
    grey_part[40:80, 50:90] = False
    assert np.array_equal(read_png(out)[grey_part], source[grey_part])


@pytest.mark.parametrize("model_id", ["hot", "htm"])
def test_methods_for_scenes_from_above_say_so_of_a_photograph(cli, photo, scene, model_id):
    told = f"{model_id} is made for scenes from above"
    run = cli("plan", photo(with_a_blue_sign(grey())), "--model", model_id, "--json")
    assert [note for note in run.json["notes"] if told in note]
    run = cli("plan", scene, "--model", model_id, "--json")
    assert not [note for note in run.json["notes"] if told in note]


def test_methods_for_any_scene_do_not(cli, photo):
    run = cli("plan", photo(grey()), "--model", "dcp", "--json")
    assert not [note for note in run.json["notes"] if "from above" in note]
