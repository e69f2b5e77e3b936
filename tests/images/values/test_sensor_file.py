"""Presets in files of the user's own."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio

import napari_restore as nr
from napari_restore import api
from napari_restore.commands import main
from napari_restore.errors import BadParameter
from napari_restore.images import known_sensors, sensor_of, sensor_text

PAGE = Path(__file__).resolve().parents[3] / "docs" / "extending" / "sensor.md"
(EXAMPLE,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def sensor(tmp_path: Path) -> Path:
    path = tmp_path / "camera.toml"
    path.write_text(EXAMPLE, encoding="utf-8")
    return path


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Five bands, of which nothing is known."""
    path = tmp_path / "scene.tif"
    values = np.random.default_rng(0).integers(300, 9000, (5, 64, 64), np.uint16)
    place = rasterio.Affine(1, 0, 5e5, 0, -1, 4e6)
    with rasterio.open(
        path, "w", driver="GTiff", width=64, height=64, count=5, dtype="uint16",
        crs="EPSG:32636", transform=place,
    ) as file:  # fmt: skip
        file.write(values)
    return path


def test_the_example_of_the_page_names_bands_in_their_order(scene: Path, sensor: Path) -> None:
    for given in (sensor, str(sensor), sensor_text(sensor)):
        image = nr.open_image(scene, sensor=given)
        assert image.roles == ("blue", "green", "red", "nir", "quality")
        assert image.wavelengths == (444, 560, 650, 842, None)
        assert image.data_bands == (0, 1, 2, 3)
        assert image.described.origins == ("sensor",) * 5
        told = nr.info(image)
        assert told["black"][:4] == [240] * 4 and told["white"] == 60000
        assert told["product"] == {"title": "Field camera", "from": "file"}


def test_names_come_before_order_and_before_what_they_look_like(scene: Path, sensor: Path) -> None:
    with rasterio.open(scene, "r+") as file:
        for number, name in enumerate(["flags", "red-650", "green-560", "NIR-842", "qa"], start=1):
            file.set_band_description(number, name)
    content = sensor.read_text(encoding="utf-8").replace('"Flags"', '"qa"')
    sensor.write_text(content.replace('role = "quality"', 'role = "thermal"'), encoding="utf-8")
    image = nr.open_image(scene, sensor=sensor)
    assert image.roles == ("quality", "red", "green", "nir", "thermal")


@pytest.mark.slow
def test_its_content_and_not_its_path_is_repeated(
    scene: Path, sensor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, record = tmp_path / "out.tif", tmp_path / "record.json"
    words = ["restore", str(scene), "-o", str(out), "--model", "identity", "--device", "cpu"]
    words += ["--sensor", str(sensor), "--record", str(record), "--progress", "off"]
    assert main(words) == 0
    plan = nr.plan(scene, "identity", sensor=sensor, device="cpu")
    sensor.unlink()
    assert main(["rerun", str(record), "-o", str(tmp_path / "again.tif"), "--progress", "off"]) == 0
    assert (tmp_path / "again.tif").read_bytes() == out.read_bytes()
    with rasterio.open(out) as written:
        assert written.tags()["NAPARI_RESTORE_ZERO"].startswith("240 240")
    # In the text of a command for Windows, too, where double quotes are not safe.
    arguments = api.command_of(plan, "o.tif")
    assert "title=" in arguments and '"' not in plan.image.spec["sensor"]
    assert (
        nr.plan(scene, "identity", sensor=plan.image.spec["sensor"], device="cpu").key == plan.key
    )


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("title = ", "is not TOML"),
        ("bands = []", "title is missing"),
        ('title = "x"\nbands = []', "has no bands"),
        ('title = "x"\nbands = [{role = "rot"}]', "unknown role 'rot'"),
        ('title = "x"\nbands = [{colour = "red"}]', "colour is an unknown key"),
        ('title = "x"\nbands = [{wavelength = -5}]', "has the wavelength -5"),
        ('title = "x"\nwhite = 1\nblack = 2\nbands = [{}]', "white .1. must lie above black .2."),
        ('title = "x"\nbands = [{names = ["a"]}, {names = ["A"]}]', "two bands are named A"),
        ("a = " + "[" * 5000, "nested too deeply|not TOML"),
        ("#" * 70000, "larger than 64 KiB"),
    ],
)
def test_what_is_no_sensor_file_is_one_sentence(content: str, cause: str, sensor: Path) -> None:
    sensor.write_text(content, encoding="utf-8")
    with pytest.raises(BadParameter, match=cause) as caught:
        sensor_text(sensor)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_about_other_bands(scene: Path, sensor: Path) -> None:
    with pytest.raises(BadParameter, match="no sensor file"):
        sensor_text(sensor.parent / "none.toml")
    with pytest.raises(BadParameter, match="no sensor file"):
        sensor_text(str(sensor.parent.with_suffix(".toml")))
    with pytest.raises(BadParameter, match="has 5 bands and the image 4"):
        nr.open_image(np.ones((8, 8, 4), np.uint16), sensor=sensor)


def test_the_text_holds_any_title(sensor: Path) -> None:
    sensor.write_text('title = "it\'s \\u007f \\n \\U0001F4F7"\nbands = [{}]', encoding="utf-8")
    text = sensor_text(sensor)
    assert "\n" not in text and sensor_text(text) == text
    assert sensor_of(text).title == "it's \x7f \n \U0001f4f7"


@pytest.mark.parametrize("name", ["open_image", "info", "plan", "restore", "attribute", "attend"])
def test_all_functions_take_bands_and_sensor(name: str) -> None:
    assert {"bands", "sensor"} <= inspect.signature(getattr(nr, name)).parameters.keys()


@pytest.mark.parametrize("name", known_sensors())
def test_presets_of_the_program_are_such_files(name: str, tmp_path: Path) -> None:
    preset, path = known_sensors()[name], tmp_path / "preset.toml"
    lines = [f"title = {preset.title!r}", f"black = {preset.black}"]
    lines += [f"white = {preset.white}"] * (preset.white is not None)
    lines += [f"per_unit = {preset.per_unit}"] * (preset.per_unit is not None)
    for band in preset.bands:
        role = [f"role = {band.role!r}"] * (band.role is not None)
        lines += ["[[bands]]", f"names = {[*band.names]}", *role, f"wavelength = {band.wavelength}"]
    path.write_text("\n".join(lines), encoding="utf-8")
    read = sensor_of(sensor_text(path))
    assert read.bands == preset.bands
    assert (read.black, read.white, read.per_unit) == (preset.black, preset.white, preset.per_unit)
    # Each usual order is of bands that it has.
    for order in preset.orders:
        assert len(preset.of_count(len(order)) or ()) == len(order)
