"""A whole draft stays until the next one is whole."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from napari_restore.plugin.runs import _run_layers
from napari_restore.plugin.runs._run_layers import RunLayers

STEP: Any = SimpleNamespace(is_draft=True)


class Draft:
    """Stands for a draft's layer."""

    shown_now: ClassVar[list[Draft]] = []

    def __init__(self, viewer: Any, source: Any, step: Any, name: str, result: Any) -> None:
        self.source, self.step = source, step
        self.shown = SimpleNamespace(layer=SimpleNamespace(name=name))
        self.shown_now.append(self)

    def remove(self) -> None:
        self.shown_now.remove(self)


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch) -> RunLayers:
    monkeypatch.setattr(_run_layers, "DraftLayer", Draft)
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
