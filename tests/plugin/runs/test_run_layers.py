"""A whole draft stays until the next one is whole."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from napari_restore.plugin.runs import layer_run
from napari_restore.plugin.runs.layer_run import RunLayers


def step_of(seconds: float) -> Any:
    return SimpleNamespace(
        is_draft=True, plan=SimpleNamespace(prediction=SimpleNamespace(seconds=seconds))
    )


STEP, QUICK = step_of(5.0), step_of(0.2)


class Draft:
    """Stands for a draft's layer."""

    shown_now: ClassVar[list[Draft]] = []

    def __init__(self, viewer: Any, source: Any, step: Any, name: str, result: Any) -> None:
        self.source, self.step = source, step
        self.shown = SimpleNamespace(layer=SimpleNamespace(name=name))
        self.shown_now.append(self)

    def show(self, step: Any, name: str, result: Any) -> bool:
        self.shown.layer.name = name
        return name != "of another kind"

    def mark(self, region: Any) -> None: ...

    def remove(self) -> None:
        self.shown_now.remove(self)


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch) -> RunLayers:
    monkeypatch.setattr(layer_run, "DraftLayer", Draft)
    monkeypatch.setattr(Draft, "shown_now", [])
    return RunLayers(SimpleNamespace(layers=[]))  # type: ignore[arg-type]


def names() -> list[str]:
    return [draft.shown.layer.name for draft in Draft.shown_now]


def test_a_whole_draft_stays_until_the_next_is_whole(layers: RunLayers) -> None:
    source: Any = object()
    layers.add_draft(source, STEP, "one", None)  # type: ignore[arg-type]
    layers.complete(STEP, None)  # type: ignore[arg-type]
    layers.add_draft(source, STEP, "two", None)  # type: ignore[arg-type]
    # Names are unique: the new draft has the one of the old.
    assert names() == ["Draft: …", "two"]
    # One that was superseded goes at once, the whole one stays.
    layers.add_draft(source, STEP, "three", None)  # type: ignore[arg-type]
    assert names() == ["Draft: …", "three"]
    assert all(layers.is_draft(draft.shown.layer) for draft in Draft.shown_now)
    layers.complete(STEP, None)  # type: ignore[arg-type]
    assert names() == ["three"]


def test_drafts_of_another_image_do_not_stay(layers: RunLayers) -> None:
    layers.add_draft("a", STEP, "one", None)  # type: ignore[arg-type]
    layers.complete(STEP, None)  # type: ignore[arg-type]
    layers.add_draft("b", STEP, "two", None)  # type: ignore[arg-type]
    assert names() == ["two"]
    layers.remove_draft()
    assert names() == []


def test_a_quick_draft_takes_the_layer_of_the_whole_one_before(layers: RunLayers) -> None:
    layers.add_draft("a", QUICK, "one", None)  # type: ignore[arg-type]
    layers.complete(QUICK, None)  # type: ignore[arg-type]
    first = layers.draft
    layers.add_draft("a", QUICK, "two", None)  # type: ignore[arg-type]
    # Until it is whole the one before is shown.
    assert names() == ["one"]
    layers.mark(QUICK, None)  # type: ignore[arg-type]
    layers.complete(QUICK, True)  # type: ignore[arg-type]
    assert names() == ["two"] and layers.draft is first
    # One that was superseded half-way gives way.
    layers.add_draft("a", STEP, "three", None)  # type: ignore[arg-type]
    assert names() == ["Draft: …", "three"]
    layers.add_draft("a", QUICK, "four", None)  # type: ignore[arg-type]
    layers.complete(QUICK, True)  # type: ignore[arg-type]
    assert names() == ["four"] and layers.draft is first
    # Where a layer cannot show it, another does.
    layers.add_draft("a", QUICK, "of another kind", None)  # type: ignore[arg-type]
    layers.complete(QUICK, SimpleNamespace(region=None))  # type: ignore[arg-type]
    assert names() == ["of another kind"] and layers.draft is not first
    layers.remove_draft()
    assert names() == []
