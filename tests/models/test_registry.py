"""Names, cards and what other packages add."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from napari_restore._json_shapes import mismatches
from napari_restore.errors import BadModel, BadParameter, UnknownModel
from napari_restore.models import (
    ModelCard,
    ModelEntry,
    _registry,
    card_of,
    entry_of,
    is_ready,
    load,
    model_ids,
    resolve,
    structures,
)


def test_ids() -> None:
    classical = ("dcp", "hot", "htm", "identity", "mertens", "radiance")
    assert model_ids()[:7] == (*classical, "atmosphere")


@pytest.mark.parametrize("name, near", [("dpc", "dcp"), ("haze_unet", "haze-unet")])
def test_unknown_model_offers_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UnknownModel, match=f"Did you mean .*{near}"):
        card_of(name)


def test_unknown_model_without_likeness_lists_all() -> None:
    with pytest.raises(UnknownModel, match=r"There are: dcp, hot"):
        load("zzzzzz")


@pytest.mark.parametrize(
    "scene, name", [("aerial", "atmosphere-aerial"), ("natural", "atmosphere")]
)
def test_learned_models_are_recommended(scene: str, name: str) -> None:
    cards = [card_of(model_id) for model_id in model_ids()]
    able = [card for card in cards if card.task == "dehaze"]
    assert next(card.id for card in able if scene in card.recommended_for) == name


@pytest.mark.parametrize("model_id", model_ids())
@pytest.mark.ids("nightly", "hint", "inf-dehaze-fast", "inf-dehaze-lite")
def test_cards_are_for_users(model_id: str) -> None:
    card = card_of(model_id)
    assert card.id == model_id
    assert card.title
    assert card.title != model_id
    assert card.summary.endswith(".")
    assert all(p.help for p in card.parameters)
    if model_id == "inf-dehaze-paper":
        pytest.skip("takes 1.5 GB to make; its siblings are made by the same code")
    loaded = load(model_id, weights=None if is_ready(model_id) else "random:0").card
    assert (card.halo, card.multiple_of) == (loaded.halo, loaded.multiple_of)
    for parameter in card.parameters:
        assert parameter.parse(parameter.default) == parameter.default
        assert parameter.parse(str(parameter.default)) == parameter.default


@pytest.mark.parametrize("model_id", [*model_ids(), *structures()])
def test_cards_in_files_have_the_types_of_their_fields(model_id: str) -> None:
    entry = entry_of(model_id)
    assert mismatches(asdict(entry.card), ModelCard, model_id) == []
    functions = filter(None, (entry.factory, entry.sizes, entry.rename))
    assert all(callable(resolve(each)) for each in functions)
    assert all(type(mark) is str for mark in entry.marks)


@pytest.mark.parametrize("line", ["halo_ = 3", 'like = "other"', 'parameters = ["none"]'])
def test_a_card_in_a_file_names_what_there_is(line: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(_registry, "__file__", str(tmp_path / "_registry.py"))
    (tmp_path / "mine").mkdir()
    card = '[mine]\ntitle = "Mine"\nsummary = "A model."\nfactory = "here:make"\n'
    (tmp_path / "mine" / "cards.toml").write_text(card)
    (entry,) = _registry._read_entries("mine")
    assert (entry.card.id, entry.factory) == ("mine", "napari_restore.models.mine.here:make")
    (tmp_path / "mine" / "cards.toml").write_text(card + line)
    with pytest.raises(
        (TypeError, KeyError), match=line.split('"')[-2] if '"' in line else "halo_"
    ):
        list(_registry._read_entries("mine"))


def test_nan_is_in_no_range() -> None:
    (omega,) = (p for p in card_of("dcp").parameters if p.name == "omega")
    with pytest.raises(BadParameter, match="omega = nan is outside"):
        omega.parse("nan")


def test_cards_cost_no_torch() -> None:
    code = (
        "import sys; from napari_restore.models import model_ids, card_of;"
        "[card_of(i) for i in model_ids()]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=_environment())


def test_other_packages_add_models(offered: Callable[..., None]) -> None:
    entry = ModelEntry(
        ModelCard("mine", "Mine", "My model."), "napari_restore.models.classical.identity:make"
    )
    offered(
        "napari_restore.models", {"mine": entry, "odd": 3, "broken": ImportError("no such part")}
    )
    assert model_ids()[-1] == "mine"
    assert load("mine").card.id == "mine"
    with pytest.raises(BadModel, match="no ModelEntry"):
        card_of("odd")
    with pytest.raises(BadModel, match="no such part"):
        card_of("broken")


def test_other_packages_cannot_replace_ours(offered: Callable[..., None]) -> None:
    entry = ModelEntry(ModelCard("dcp", "Not ours", "Another."), "os:getcwd")
    offered("napari_restore.models", {"dcp": entry})
    assert card_of("dcp").title == "Dark channel prior"


def _environment() -> dict[str, str]:
    import os

    from napari_restore import models

    source = os.path.dirname(os.path.dirname(os.path.dirname(models.__file__)))
    return {**os.environ, "PYTHONPATH": source}


@pytest.mark.parametrize(
    ("name", "values", "idle"),
    [
        ("mertens", {"moving": 2}, "moving of mertens has no effect unless deghost is above 0."),
        ("mertens", {"moving": 2, "deghost": 0.5}, ""),
        ("mertens", {"width": 0.3, "exposure": 0}, "width of mertens has no effect unless exposure is above 0."),
        ("andehazeformer-small", {"eta": 0.2}, "eta of andehazeformer-small has no effect unless retention is set to adaptive."),
        ("andehazeformer-small", {"eta": 0.2, "retention": "adaptive"}, ""),
        ("andehazeformer-small", {"rho": 0.5}, ""),
    ],
)  # fmt: skip
def test_a_parameter_without_effect_is_said(
    name: str, values: dict[str, float | str], idle: str
) -> None:
    card = load(name, parameters=values).card
    assert list(card.idle_notes()) == [idle] * bool(idle)


def test_parameters_depend_on_others_of_the_card() -> None:
    for name in model_ids():
        parameters = {each.name: each for each in card_of(name).parameters}
        for each in parameters.values():
            if each.only_with is not None:
                other, value = each.only_with
                assert parameters[other].parse(value) == value, (name, each.name)
