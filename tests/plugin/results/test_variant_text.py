"""What is said of a result's settings: all that was changed, and nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from napari_restore.plugin.results.variant_text import adjustment_of
from napari_restore.questions import Adjustment


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, {}),
        ({"strength": 0.0}, {"strength": "0%"}),
        ({"strength": 0.99}, {"strength": "99%"}),
        ({"strength": 1.5}, {"strength": "150%"}),
        ({"protect_shadows": 0.01}, {"shadows spared": "1%"}),
        ({"protect_highlights": 1.0}, {"highlights spared": "100%"}),
        ({"exposure": -0.25}, {"exposure": "-0.25 EV"}),
        ({"luminance_only": True}, {"colours": "kept"}),
        ({"temperature": 5000}, {"temperature": "5000 K"}),
    ],
)
def test_each_adjustment_is_said_where_it_is_one(
    changed: dict[str, Any], said: dict[str, str]
) -> None:
    plan: Any = SimpleNamespace(adjustment=Adjustment(**changed))
    assert adjustment_of(plan) == said
