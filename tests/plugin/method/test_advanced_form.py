"""What most people leave alone: device, tiles, and the settings of global models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.models.hint.test_network import network as hint

import napari_restore as nr
from napari_restore.models import card_of
from napari_restore.plugin.method import advanced_form
from napari_restore.plugin.method.advanced_form import AdvancedForm
from napari_restore.plugin.state.request import ChosenMethod, TargetChoice
from napari_restore.questions import Restore


@pytest.fixture
def form(qtbot: Any) -> AdvancedForm:
    form = AdvancedForm()
    qtbot.addWidget(form)
    form.show()
    return form


def test_only_global_models_have_extent_and_residuals(form: AdvancedForm) -> None:
    form.show_card(card_of("dcp"))
    assert form.tile.isVisible()
    assert not (form.extent.isVisible() or form.residuals.isVisible() or form.grid.isVisible())
    form.show_card(card_of("inf-dehaze-small"))
    assert not form.tile.isVisible()
    assert form.extent.isVisible() and form.residuals.isVisible() and form.grid.isVisible()


def test_the_whole_image_can_be_asked_for(form: AdvancedForm) -> None:
    reported: list[dict[str, Any]] = []
    form.changed.connect(reported.append)
    form.show_card(card_of("dcp"))
    form.whole.setChecked(True)
    assert reported[-1]["tile"] == "whole"
    options = Restore.of(reported[-1])
    form.whole.setChecked(False)
    form.show_options(options)
    assert form.whole.isChecked()
    form.show_card(card_of("inf-dehaze-small"))
    assert not form.whole.isVisible()


def test_a_tile_of_another_model_is_no_wish_for_a_global_one(form: AdvancedForm) -> None:
    reported: list[dict[str, Any]] = []
    form.changed.connect(reported.append)
    form.show_card(card_of("dcp"))
    form.tile.setValue(512)
    form.show_card(card_of("inf-dehaze-small"))
    form.residuals.setCurrentIndex(form.residuals.findData("disk"))
    assert reported[0]["tile"] == 512
    assert reported[-1] == {
        "device": "auto",
        "tile": None,
        "tile_batch": None,
        "precision": "float32",
        "extent": "image",
        "residuals": "disk",
        "residual_dtype": None,
        "context": None,
    }


def test_devices_are_those_that_are_found_and_the_one_that_is_set(
    form: AdvancedForm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offered() -> list[str]:
        return [form.device.itemText(number) for number in range(form.device.count())]

    assert offered() == ["auto", "cpu"]
    form.show_options(Restore().replacing(device="cuda:1"))
    assert offered() == ["auto", "cpu", "cuda:1"] and form.device.currentText() == "cuda:1"
    monkeypatch.setattr(advanced_form, "_accelerators", lambda: ("mps",))
    image = nr.open_image(np.zeros((32, 48, 3), np.uint8), bands="red=1,green=2,blue=3")
    form.show_options(Restore())
    form.show_plan(nr.plan(image, nr.load_model("identity"), device="cpu"))
    assert offered() == ["auto", "cpu", "mps"] and form.device.currentText() == "auto"


def test_it_shows_where_residuals_are_stored(form: AdvancedForm) -> None:
    model = nr.load_model("inf-dehaze-small", weights="random:0")
    image = nr.open_image(np.zeros((300, 600, 3), np.uint8), bands="red=1,green=2,blue=3")
    form.show_card(model.card)
    form.show_plan(nr.plan(image, model, device="cpu", residuals="ram"))
    assert form.grid.text().startswith("384 tokens") and "in memory" in form.grid.text()
    form.show_plan(nr.plan(image, model, device="cpu", residuals="recompute"))
    assert "computed again" in form.grid.text()


def test_the_scope_is_that_of_the_planned_parameters(form: AdvancedForm) -> None:
    image = nr.open_image(np.zeros((32, 48, 3), np.uint8), bands="red=1,green=2,blue=3")
    form.show_card(card_of("hint-small"))
    assert form.scope.text().startswith("global") and not form.tile.isVisible()
    plan = nr.plan(image, nr.load_model("identity"), device="cpu")
    for statistics, scope in (("crop", "local"), ("overview", "local"), ("image", "global")):
        form.show_plan(replace(plan, model=hint({"statistics": statistics})))
        assert form.scope.text().startswith(scope)
        assert form.tile.isVisible() == (scope == "local")


@pytest.mark.slow
@pytest.mark.viewer
def test_a_global_model_in_the_window(
    panel: Any, qtbot: Any, finished_run: Any, sample: Path, tmp_path: Path
) -> None:
    """A weights file by itself: two areas of one image, the second only decoded."""
    from safetensors.torch import save_file

    weights = tmp_path / "net.safetensors"
    model = nr.load_model("inf-dehaze-small", weights="random:1")
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, weights)
    (tmp_path / "net.json").write_text('{"model": "inf-dehaze-small"}')
    scene = tmp_path / "scene.png"
    y, x = np.mgrid[:520, :700]
    from PIL import Image

    Image.fromarray(np.dstack([y % 251, x % 241, (y + x) % 239]).astype(np.uint8)).save(scene)
    panel.viewer.open(scene, plugin="napari-restore")
    panel.state.method = ChosenMethod(str(weights))
    panel.state.target = TargetChoice.WHOLE
    first = finished_run()
    assert first.record["measured"]["tiles_encoded"] == 9
    assert set(first.record["measured"]["phase_seconds"]) == {"encode", "bottleneck", "decode"}
    expected = nr.restore(scene, nr.load_model(weights)).array
    assert np.array_equal(np.asarray(first.result.array), np.asarray(expected))
    panel.advanced.extent.setCurrentIndex(panel.advanced.extent.findData("region"))
    assert panel.state.options.reading.extent == "region"
    second = finished_run()
    assert second is not first
