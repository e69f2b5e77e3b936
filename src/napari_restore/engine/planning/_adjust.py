"""Settings of how a finished result is blended with its source: strength, tones, colour."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from napari_restore.errors import BadParameter, option

if TYPE_CHECKING:
    from napari_restore.images import Image

COLOURS = ("red", "green", "blue")


@dataclass(frozen=True)
class Adjustment:
    """Blending of a result with its source, applied whenever pixels are read.

    The model never runs again. Every pixel follows from the source and the restored value at its
    position alone, so tiles, zoom and the saved file agree. Raises `BadParameter` beyond the
    limits.
    """

    MOST_EV: ClassVar[float] = 3.0
    """Largest exposure, to either side."""

    strength: float = 1.0
    """0 … 1.5: share of the model's change that is applied."""
    luminance_only: bool = False
    """Lightness follows the model, colour stays the source's; see `Light.shift`."""
    protect_shadows: float = 0.0
    """0 … 1: how much of the change is kept from the darkest tones; see `Light.share`."""
    protect_highlights: float = 0.0
    """0 … 1: the same for the brightest."""
    exposure: float | Literal["auto"] = 0.0
    """-3 … 3 EV on the restored pixels, in linear light; see `expose`. "auto" becomes the number that
    makes up for the light that the restoration took away, once a result is finished."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1.5:
            raise BadParameter(
                f"Strength {self.strength} is outside 0 … 1.5.", "1 is the model's own."
            )
        for name in ("protect_shadows", "protect_highlights"):
            if not 0 <= getattr(self, name) <= 1:
                option = name.replace("_", "-")
                raise BadParameter(
                    f"{option} {getattr(self, name)} is outside 0 … 1.",
                    "0 protects nothing, 1 leaves the extreme tones as they are.",
                )

        if self.exposure != "auto" and not abs(self.exposure) <= self.MOST_EV:
            raise BadParameter(
                f"Exposure {self.exposure} is outside -3 … 3 EV.",
                "0 leaves the result as the model returned it; auto measures it.",
            )

    @property
    def ev(self) -> float:
        """The exposure; 0 while "auto" is not measured yet."""
        return 0.0 if self.exposure == "auto" else self.exposure

    @property
    def is_neutral(self) -> bool:
        """Whether the result is used as the model returned it."""
        return self == Adjustment()

    @property
    def needs_range(self) -> bool:
        """Whether values are needed in model range, and not only those of the file."""
        protects = self.protect_shadows or self.protect_highlights
        return self.luminance_only or bool(protects or self.ev)

    def check(self, image: Image) -> None:
        """Raise `BadParameter` if `image` lacks the bands this needs."""
        if self.luminance_only and colours_of(image) is None:
            raise BadParameter(
                f"{image.name} has no red, green and blue, so its colour cannot be kept.",
                f"Say which bands they are ({option('bands', 'red=1,green=2,blue=3')}), "
                "or leave luminance-only out.",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, JSON-able."""
        return asdict(self)


def colours_of(image: Image) -> tuple[int, int, int] | None:
    """Return the numbers of the red, green and blue band; None unless there are all three."""
    if not set(COLOURS) <= set(image.roles):
        return None
    red, green, blue = (image.roles.index(name) for name in COLOURS)
    return red, green, blue
