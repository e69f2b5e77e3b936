"""What a reader must know of a map: the words of every door (the figure's: test_figure)."""

from __future__ import annotations

from typing import Any

import pytest

from napari_restore.explain import attribution_summary


def attribution(**completeness: Any) -> dict[str, Any]:
    complete = {"sum": 0.9, "difference": 1.0, "relative_gap": 0.1, "goal": 0.01, "reached": False}
    return {
        "nodes": [[0.0, 0.5], [1.0, 0.5]],
        "rings": {"box": 0.5, "0-8": 0.25, "64-128": 0.125, "128-256": 0.1, "256-512": 0.025},
        "completeness": {**complete, "recomputed_difference": None, **completeness},
        "context": {"used": "stop", "share": 0.2, "reason": "requested"},
        "region": [0, 0, 30, 40],
        "diffusion_index": 12.345,
        "area_95": 70,
        "overview_share": 0.0,
    }


@pytest.mark.parametrize(
    ("completeness", "words"),
    [
        ({}, "gap 10.00% after 2 steps, more than the 1.00% requested"),
        ({"relative_gap": 0.002, "reached": True}, "gap 0.20% after 2 steps, at most 1.00% requested"),
        (
            {"relative_gap": None, "reached": None},
            "undefined: the target hardly differs along the path, so there is nothing to attribute; "
            "choose another box, or another baseline",
        ),
        ({"sum": None, "reached": None}, "not claimed by this method"),
    ],
)  # fmt: skip
def test_completeness_in_words(completeness: dict[str, Any], words: str) -> None:
    recorded = attribution(**completeness)
    summary = attribution_summary(recorded)
    assert summary.completeness == words
    assert summary.is_complete is recorded["completeness"]["reached"]


def test_far_rings_begin_at_128_pixels() -> None:
    summary = attribution_summary(attribution())
    assert summary.far == 128
    assert summary.far_share == pytest.approx(0.125)


@pytest.mark.parametrize(
    ("index", "share", "words"),
    [
        (
            12.345,
            0.0,
            "diffusion index 12.35, just below 95 % of the magnitudes in 70 of 1200 pixels",
        ),
        (12.345, 0.992, "of the 0.8% of all magnitudes that the map holds, not the overview: diff"),
        (None, 0.0, "no magnitudes in the map"),
    ],
)
def test_the_spread_says_of_which_whole_it_is(
    index: float | None, share: float, words: str
) -> None:
    recorded = {**attribution(), "diffusion_index": index, "overview_share": share}
    assert attribution_summary(recorded).spread.startswith(words)


@pytest.mark.parametrize(
    ("used", "share", "omitted"),
    [("stop", 0.2, True), ("stop", 0.004, False), ("stop", None, False), ("through", 0.2, False)],
)
def test_a_map_omits_what_came_through_a_constant_context(
    used: str, share: float | None, omitted: bool
) -> None:
    recorded = {**attribution(), "context": {"used": used, "share": share, "reason": "requested"}}
    assert attribution_summary(recorded).omits_context is omitted
