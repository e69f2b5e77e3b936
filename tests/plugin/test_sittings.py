"""Random sittings at the window, each in a process of its own: none dies, raises or stands still."""

from __future__ import annotations

import pytest
from tests.plugin.sittings import sit

pytestmark = [pytest.mark.viewer, pytest.mark.binding, pytest.mark.nightly]


@pytest.mark.parametrize("seed", range(100))
def test_a_random_sitting_goes_well(seed: int):
    is_well, told = sit(seed)
    assert is_well, told
