"""A sensor that is named in the window is the option of the command: zero, wavelengths, bands."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from tests.plugin.method.test_band_roles_form import choose_role

import napari_restore as nr
from napari_restore.api import task_of
from napari_restore.commands import main
from napari_restore.plugin.results.earlier_results_view import request_of_stored
from napari_restore.plugin.results.export_section import ExportSection
from napari_restore.plugin.runs.batch_section import folder_arguments
from napari_restore.plugin.state.request import TargetChoice

LEVEL_2 = 7272.727272727273
"""USGS: surface reflectance = 2.75e-5 DN − 0.2."""
NAMES = [f"SR_B{number}" for number in range(1, 8)]


def write_scene(path: Path, names: list[str] | None = NAMES, low: int = 7500) -> Path:
    """A map of seven bands in the range of Landsat's surface reflectance."""
    y, x = np.mgrid[:96, :128]
    planes = [low + 400 * k + 37 * (y % 29) + 91 * (x % 31) + 20 * y for k in range(7)]
    place = rasterio.Affine(30, 0, 500000, 0, -30, 4500000)
    options: dict[str, Any] = {"dtype": "uint16", "crs": "EPSG:32636", "transform": place}
    with rasterio.open(path, "w", driver="GTiff", width=128, height=96, count=7, **options) as file:
        file.write(np.stack(planes).astype(np.uint16))
        for number, name in enumerate(names or [], start=1):
            file.set_band_description(number, name)
    return path


@pytest.fixture
def landsat(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "LC08_L2SP_170078_20240101_20240110_02_T1_SR_BANDS.tif")


def choose_sensor(panel: Any, title: str) -> None:
    """Choose as a click would."""
    number = panel.bands.sensor.findText(title)
    assert number >= 0, title
    panel.bands.sensor.setCurrentIndex(number)
    panel.bands.sensor.activated.emit(number)


def test_an_open_image_takes_a_sensor_as_when_it_is_opened(landsat: Path):
    opened = nr.open_image(landsat, sensor="landsat8", bands="red=3")
    later = nr.open_image(nr.open_image(landsat), sensor="landsat8", bands="red=3")
    assert later.roles == opened.roles
    assert later.wavelengths == opened.wavelengths
    assert later.notes == opened.notes
    assert type(later).from_spec(later.spec).roles == opened.roles
    assert nr.info(later)["black"] == nr.info(opened)["black"]
    part = nr.open_image(nr.open_image(landsat).with_bands([3, 1]), sensor="landsat8")
    assert part.roles == ("red", "blue")
    array = np.full((8, 8, 4), 2000, np.uint16)
    named = nr.open_image(nr.open_image(array), sensor="sentinel2")
    assert named.roles == nr.open_image(array, sensor="sentinel2").roles
    assert named.roles == ("blue", "green", "red", "nir")


@pytest.mark.slow
@pytest.mark.viewer
@pytest.mark.nightly
def test_the_window_writes_what_the_command_writes(
    panel: Any,
    landsat: Path,
    finished_run: Any,
    qtbot: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    panel.viewer.open(landsat, plugin="napari-restore")
    for model in ("identity", "dcp"):
        panel.models.choose(model)
    choose_sensor(panel, "Landsat 8 OLI/TIRS")
    panel.target.choose(TargetChoice.WHOLE)
    variant = finished_run()
    plan = variant.result.plan
    assert plan.image.sensor == "landsat8" and plan.reading.other_bands == "correct"
    assert not any("Its name or tags" in note for note in plan.notes)
    export = next(s for s in panel.sections if isinstance(s, ExportSection))
    ours, theirs = tmp_path / "window.tif", tmp_path / "command.tif"
    with qtbot.waitSignal(export.ended):
        export.save(variant, ours)

    command = shlex.split(export.command())
    assert "--bands" not in command
    command[command.index("-o") + 1] = str(theirs)
    plain = ["restore", str(landsat), "--sensor", "landsat8", "-o", str(theirs), "--model", "dcp"]
    assert command[1 : len(plain) + 1] == plain
    assert main([*command[1:], "--progress", "off"]) == 0
    capsys.readouterr()
    assert ours.read_bytes() == theirs.read_bytes()
    # Zero is that of the product guide, for every band.
    assert variant.record["input"]["black"] == pytest.approx([LEVEL_2] * 7)


@pytest.mark.viewer
@pytest.mark.slow
def test_a_sensor_goes_with_its_layer_and_into_every_request(panel: Any, tmp_path: Path):
    """Named or not: where no role is missing zero and wavelengths are."""
    first = write_scene(tmp_path / "one.tif", None)
    second = write_scene(tmp_path / "two.tif", None)
    for path in (first, second):
        panel.viewer.open(path, plugin="napari-restore")
    panel.models.choose("dcp")
    # The method asks for no role, and still there is a zero to set.
    assert panel.bands.sensor.isVisibleTo(panel)
    choose_sensor(panel, "Landsat 5 TM")
    choose_sensor(panel, "Landsat 8 OLI/TIRS")
    request = panel.state.request()
    assert (request.named.sensor, request.named.bands, request.image.sensor) == (
        "landsat8",
        None,
        "landsat8",
    )
    task = task_of(request.plan())
    assert task is not None and task["image"]["sensor"] == "landsat8"
    arguments = folder_arguments(panel.state, str(tmp_path), str(tmp_path / "out"))
    assert arguments[arguments.index("--sensor") + 1] == "landsat8"
    # A method that needs roles has them from the sensor; they can be changed.
    panel.models.choose("hot")
    assert panel.bands.role_of(2).currentData() == "blue"
    assert panel.bands.role_of(4).currentData() == "red"
    assert panel.bands.problem() is None
    assert panel.state.request().plan().bands[:2] == (1, 3)
    choose_role(panel, 7, "red")
    request = panel.state.request()
    # They change places.
    assert (request.named.bands, request.named.sensor) == ("swir=4,red=7", "landsat8")
    assert request.image.roles[6] == "red" and request.image.sensor == "landsat8"
    # The other layer has none, nor values that the settings of an earlier result have set.
    panel.state.set_options(black=7000.0, other_bands="copy")
    assert panel.state.request().options.reading.black == 7000
    panel.viewer.layers.selection.active = panel.viewer.layers[0]
    assert (panel.state.named.bands, panel.state.named.sensor) == (None, None)
    assert panel.bands.sensor.currentIndex() == 0
    reading = panel.state.request().options.reading
    assert (reading.black, reading.other_bands) == (None, None)
    panel.viewer.layers.selection.active = panel.viewer.layers[-1]
    assert (panel.state.named.bands, panel.state.named.sensor) == ("swir=4,red=7", "landsat8")
    # And it can be taken back, also where the image is shown in the colours that it named.
    choose_sensor(panel, "choose …")
    assert panel.state.request().image.sensor is None
    panel.viewer.layers.selection.active = panel.viewer.layers[0]
    panel.models.choose("dcp")
    choose_sensor(panel, "Landsat 8 OLI/TIRS")
    assert panel.state.layer.rgb and panel.state.request().image.sensor == "landsat8"
    choose_sensor(panel, "not named")
    request = panel.state.request()
    assert (request.named.bands, request.named.sensor, request.image.sensor) == (None, None, None)


def test_a_kept_result_is_resumed_with_the_values_it_was_begun_with(landsat: Path):
    """Zero, white, other bands: of any of them another run would follow."""
    options = {"black": 7000.0, "white": 40000.0, "other_bands": "copy"}
    image = nr.open_image(landsat, sensor="landsat8")
    plan = nr.plan(image, "dcp", device="cpu", pyramid=True, **options)

    class Kept:
        task = task_of(plan)

    request = request_of_stored(Kept, image)  # type: ignore[arg-type]
    assert (request.named.sensor, request.named.bands) == ("landsat8", None)
    assert request.plan(device="cpu").key == plan.key


@pytest.mark.viewer
@pytest.mark.slow
def test_a_sensor_by_the_name_of_the_file_alone_asks_for_the_order_of_the_bands(
    panel: Any, tmp_path: Path
):
    path = write_scene(tmp_path / "LC08_L2SP_170078_20240101_20240110_02_T1_stack.tif", None)
    panel.viewer.open(path, plugin="napari-restore")
    panel.models.choose("dcp")
    assert panel.bands.sensor.currentText() == "choose …"
    assert "Level 2 – from the name of the file" in panel.bands.sets.text()
    assert "no names: choose the sensor here" in panel.bands.sets.text()
    choose_sensor(panel, "Landsat 8 OLI/TIRS")
    assert (
        "7 of 7 bands are pictures, not masks or classes; the wavelength of 7 is known"
        in panel.bands.sets.text()
    )
