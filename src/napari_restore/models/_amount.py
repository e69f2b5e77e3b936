"""Parameter that scales the haze that a method estimates."""

from __future__ import annotations

from napari_restore.models._card import Parameter

AMOUNT = Parameter(
    "amount", 1.0, "how much haze is removed: a factor on its optical depth", 0.0, 2.0
)
"""Applied where pixels are restored, never in `prepare`: statistics of the image stay as they
are."""
