"""The colour of the haze, taken from the canvas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Image as ImageLayer
from napari.utils.notifications import notification_manager
from napari_mouse import Mouse

import napari_restore as nr
from napari_restore import Region
from napari_restore.api import mean_colour
from napari_restore.errors import BadRegion
from napari_restore.models import card_of
from napari_restore.plugin.layers.placing import plane_of
from napari_restore.plugin.method.airlight_view import RubberBand, _in_level
from napari_restore.plugin.state.request import TargetChoice

pytestmark = pytest.mark.binding


def listening(viewer: Any) -> bool:
    """Whether a click on the canvas would be ours."""
    return any("_Picking" in repr(callback) for callback in viewer.mouse_drag_callbacks)


@pytest.fixture
def halves() -> np.ndarray:
    """(300, 400, 3) uint8: dark left, bright bluish right."""
    pixels = np.full((300, 400, 3), 40, np.uint8)
    pixels[:, 200:] = (204, 216, 240)
    return pixels


def test_the_mean_is_of_valid_pixels_in_model_range(tmp_path: Path):
    pixels = np.full((50, 60, 3), 1000.0, np.float32)
    pixels[:, 30:] = np.nan
    pixels[:, :15] = 3000
    image = nr.open_image(pixels)
    context = nr.restore(image, "dcp", region=nr.Region(0, 0, 50, 60)).record["input"]
    white = context["white"]
    found = mean_colour(image, "dcp", (0, 0, 50, 60))
    assert found == pytest.approx([2000 / white] * 3, rel=1e-6)
    with pytest.raises(BadRegion, match="No pixel there is valid"):
        mean_colour(image, "dcp", (0, 40, 5, 50))


def test_the_bands_are_those_the_model_sees(halves: np.ndarray):
    alpha = np.dstack([halves[..., ::-1], np.full((300, 400), 255, np.uint8)])
    image = nr.open_image(alpha, bands="blue=1,green=2,red=3,alpha=4")
    found = mean_colour(image, card_of("dcp"), (0, 300, 10, 310))
    assert found == pytest.approx([240 / 255, 216 / 255, 204 / 255])


def test_a_box_covers_the_same_ground_in_a_coarser_level():
    shapes = ((1001, 1000), (501, 500), (251, 250))
    from napari_restore import Region

    assert _in_level(Region(0, 0, 1001, 1000), shapes, 2) == (0, 0, 251, 250)
    assert _in_level(Region(10, 20, 11, 21), shapes, 1) == (5, 10, 6, 11)
    assert _in_level(Region(1000, 999, 1001, 1000), shapes, 2) == (250, 249, 251, 250)


@pytest.mark.slow
@pytest.mark.viewer
@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([(20, 300)], "0.8,0.8471,0.9412"),
        ([(20, 180), (30, 190), (59, 219.2)], "0.4784,0.502,0.549"),
    ],
    ids=["a click", "a drag"],
)
def test_pick_takes_a_place_and_leaves_no_trace(
    panel: Any, qtbot: Any, halves: np.ndarray, places: Any, expected: str
):
    viewer = panel.viewer
    scaled = [(2 * y, 2 * x) for y, x in places]
    viewer.add_image(halves, name="photo", scale=(2, 2))
    panel.models.choose("dcp")
    before = len(viewer.mouse_drag_callbacks), dict(viewer.keymap)
    panel.airlight.pick_button.click()
    assert not viewer.scene.camera.mouse_pan
    with qtbot.waitSignal(panel.airlight.picked):
        Mouse(*scaled).drive(viewer)
    assert panel.state.parameters == {"airlight": expected}
    assert panel.parameters.rows["airlight"].value == expected
    assert (len(viewer.mouse_drag_callbacks), dict(viewer.keymap)) == before
    assert viewer.scene.camera.mouse_pan
    assert not panel.airlight.pick_button.isChecked()
    assert panel.airlight.values.text().startswith("In use: 0.")
    panel.airlight.auto_button.click()
    assert panel.state.parameters == {}
    assert not panel.airlight.auto_button.isEnabled()


@pytest.mark.viewer
@pytest.mark.slow
def test_a_drag_shows_its_box_and_takes_it_away(panel: Any, qtbot: Any, halves: np.ndarray):
    viewer = panel.viewer
    photo = viewer.add_image(halves, name="photo", scale=(2, 2), translate=(100, 50))
    panel.models.choose("dcp")
    panel.airlight.pick_button.click()
    seen: list[Any] = []

    def look() -> None:
        boxes = [layer for layer in viewer.layers if layer is not photo]
        corners = [((-0.5, -0.5), np.array(box.data.shape[:2]) - 0.5) for box in boxes]
        seen.append(
            [
                [box.data_to_world(point) for point in two]
                for box, two in zip(boxes, corners, strict=True)
            ]
        )
        assert viewer.layers.selection.active is photo
        assert panel.state.layer is photo
        assert not viewer.scene.camera.mouse_pan

    places = [(20, 180), (30, 190), (10, 219.2), (59, 219.2)]
    with qtbot.waitSignal(panel.airlight.picked):
        Mouse(*[tuple(photo.data_to_world(place)) for place in places], seen=look).drive(viewer)
    assert [len(boxes) for boxes in seen] == [0, 1, 1, 1]
    # The outer edges of the first and the last pixel.
    edges = np.array([(20 - 0.5, 180 - 0.5), (59 + 0.5, 219 + 0.5)]) * 2 + (100, 50)
    np.testing.assert_allclose(seen[-1][0], edges, atol=1e-3)
    qtbot.waitUntil(lambda: list(viewer.layers) == [photo])


@pytest.mark.viewer
@pytest.mark.slow
def test_escape_in_the_middle_of_a_drag_takes_the_box_away(panel: Any, halves: np.ndarray):
    viewer = panel.viewer
    photo = viewer.add_image(halves, name="photo")

    def look() -> None:
        if len(viewer.layers) == 2:
            panel.airlight.stop()

    panel.airlight.pick_button.click()
    Mouse((20, 20), (60, 80), (70, 90), (80, 90), seen=look).drive(viewer)
    assert list(viewer.layers) == [photo]
    assert panel.state.parameters == {}


@pytest.mark.viewer
def test_a_removed_box_is_no_harm(panel: Any, qtbot: Any, halves: np.ndarray):
    viewer = panel.viewer
    photo = viewer.add_image(halves, name="photo")
    panel.models.choose("dcp")
    panel.airlight.pick_button.click()

    def look() -> None:
        for layer in list(viewer.layers):
            if layer is not photo:
                viewer.layers.remove(layer)

    with qtbot.waitSignal(panel.airlight.picked):
        Mouse((20, 220), (60, 240), (70, 250), seen=look).drive(viewer)
    assert list(viewer.layers) == [photo]


@pytest.mark.slow
@pytest.mark.viewer
def test_a_removed_image_ends_picking_and_gives_all_back(panel: Any, halves: np.ndarray):
    viewer = panel.viewer
    photo = viewer.add_image(halves, name="photo")
    before = len(viewer.mouse_drag_callbacks), dict(viewer.keymap)
    panel.airlight.pick_button.click()

    def look() -> None:
        if len(viewer.layers) == 2:
            viewer.layers.remove(photo)

    Mouse((20, 20), (60, 80), (70, 90), (80, 90), seen=look).drive(viewer)
    assert list(viewer.layers) == []
    assert not panel.airlight.pick_button.isChecked()
    assert not listening(viewer) and viewer.scene.camera.mouse_pan
    assert (len(viewer.mouse_drag_callbacks), dict(viewer.keymap)) == before


@pytest.mark.viewer
def test_a_box_that_cannot_go_leaves_the_mouse_free(
    panel: Any, halves: np.ndarray, qtbot: Any, monkeypatch: pytest.MonkeyPatch
):
    viewer = panel.viewer
    viewer.add_image(halves, name="photo")
    panel.airlight.pick_button.click()

    def broken() -> None:
        raise RuntimeError("no such layer")

    monkeypatch.setattr(RubberBand, "remove", lambda band: broken())
    with qtbot.capture_exceptions() as raised:
        panel.airlight.pick_button.click()
    assert [str(each[1]) for each in raised] == ["no such layer"]
    assert not listening(viewer) and viewer.scene.camera.mouse_pan
    monkeypatch.undo()


@pytest.mark.viewer
@pytest.mark.slow
def test_escape_leaves_and_gives_the_key_back(panel: Any, halves: np.ndarray):
    viewer = panel.viewer
    viewer.add_image(halves, name="photo")
    pressed = []
    panel.viewer.bind_key("Escape", pressed.append)
    panel.airlight.pick_button.click()
    (escape,) = (f for key, f in viewer.keymap.items() if str(key) == "Escape")
    escape(viewer)
    assert not panel.airlight.pick_button.isChecked()
    assert not listening(viewer)
    assert pressed == []
    (escape,) = (f for key, f in viewer.keymap.items() if str(key) == "Escape")
    escape(viewer)
    assert pressed == [viewer]
    viewer.bind_key("Escape", None)


@pytest.mark.viewer
def test_a_place_outside_is_refused(panel: Any, halves: np.ndarray):
    panel.viewer.add_image(halves, name="photo")
    shown = []
    notification_manager.notification_ready.connect(lambda reported: shown.append(reported.message))
    panel.airlight.pick_button.click()
    Mouse((-50, -50)).drive(panel.viewer)
    assert shown == ["That is outside photo. Choose a place within it."]
    assert panel.state.parameters == {}
    assert not listening(panel.viewer)


@pytest.mark.viewer
def test_a_black_place_is_refused(panel: Any, qtbot: Any):
    panel.viewer.add_image(np.zeros((60, 60, 3), np.uint8), name="night")
    shown = []
    notification_manager.notification_ready.connect(lambda reported: shown.append(reported.message))
    panel.airlight.pick_button.click()
    Mouse((20, 20)).drive(panel.viewer)
    qtbot.waitUntil(lambda: bool(shown))
    assert shown == ["That place is black in a band, haze is bright. Pick where it is thickest."]
    assert panel.state.parameters == {}
    assert panel.airlight.values.text() == "Found by itself"


@pytest.mark.viewer
@pytest.mark.slow
def test_closing_the_panel_ends_picking(panel: Any, halves: np.ndarray):
    panel.viewer.add_image(halves, name="photo")
    panel.airlight.pick_button.click()
    assert listening(panel.viewer)
    panel.close()
    assert not listening(panel.viewer)


@pytest.mark.viewer
@pytest.mark.slow
def test_another_layer_ends_picking(panel: Any, halves: np.ndarray):
    first = panel.viewer.add_image(halves, name="one")
    panel.viewer.add_image(halves, name="two")
    panel.airlight.pick_button.click()
    panel.viewer.layers.selection.active = first
    assert not panel.airlight.pick_button.isChecked()


@pytest.mark.slow
@pytest.mark.viewer
def test_only_models_with_an_airlight_show_it_and_the_run_uses_it(
    panel: Any, qtbot: Any, halves: np.ndarray
):
    layer: ImageLayer = panel.viewer.add_image(halves, name="photo")
    panel.models.choose("identity")
    assert panel.airlight.isHidden()
    panel.models.choose("dcp")
    assert not panel.airlight.isHidden()
    panel.target.choose(TargetChoice.WHOLE)
    assert panel.airlight.values.text() == "Found by itself"
    outcome = []
    panel.ended.connect(lambda *arguments: outcome.append(arguments))
    panel.bar.button.click()
    qtbot.waitUntil(lambda: bool(outcome))
    record = outcome[0][1]
    found = record["context"]["airlight"]
    assert panel.state.current.source is layer
    numbers = "  ".join(f"{value:.2f}" for value in found)
    assert panel.airlight.values.text() == f"In use: {numbers} (auto, last run)"
    panel.parameters.rows["airlight"].value = "0.9,0.92,0.95"
    assert panel.airlight.values.text() == "In use: 0.90  0.92  0.95"
    assert "rgb(230, 235, 242)" in panel.airlight.swatch.styleSheet()
    panel.parameters.rows["airlight"].value = "much"
    assert panel.airlight.values.text() == "Not understood"


@pytest.mark.viewer
@pytest.mark.slow
def test_the_edge_of_a_box_is_as_thin_on_the_screen_at_any_size(panel: Any, halves: np.ndarray):
    photo = panel.viewer.add_image(halves, name="photo", scale=(150, 150))
    height, width = halves.shape[:2]
    panel.viewer.scene.camera.zoom = 1200 / 150 / width
    band = RubberBand(panel.viewer, photo)
    band.show(Region(0, 0, height, width))
    drawn = panel.viewer.layers["Airlight"]
    # Screen pixels along one of the texels, two of which make an edge.
    texel = np.linalg.norm(plane_of(drawn)[:2, :2], axis=0) * panel.viewer.scene.camera.zoom
    np.testing.assert_allclose(texel, 1, rtol=0.01)
    band.remove()
