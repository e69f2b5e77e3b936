"""What is asked of a restoration: each option is a field, and stands nowhere else.

The field says what a flag, its help, a record, the command that repeats a run and its key need; the
keywords of Python, `_keywords.py`, are written from here by `scripts/keywords.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Unpack, cast

from napari_restore.errors import BadParameter, option
from napari_restore.questions import parsing
from napari_restore.questions._field import (
    asked,
    check_values,
    keywords_of,
    options_of,
    question_of,
    recorded,
)
from napari_restore.questions._region import Region
from napari_restore.questions._types import (
    FLOATS,
    OTHER_BANDS,
    WHOLE,
    Bands,
    OtherBands,
    Pathlike,
    Size,
    Tile,
)

if TYPE_CHECKING:
    from napari_restore.questions._keywords import RestoreKeywords

COLOURS = ("red", "green", "blue")
NEUTRAL_KELVIN = 6500.0
"""Colour temperature that leaves a photo as it is."""


@dataclass(frozen=True)
class Target:
    """What is restored."""

    region: tuple[Region, ...] | None = asked(
        None,
        "a `Region`, or several, of level-0 pixels: ``Region(y0, x0, y1, x1)`` or "
        "``Region.from_xywh(x, y, width, height)``; bare tuples are refused (default: all)",
        changes="answer",
        has_flag=False,
        keyword="Region | Sequence[Region] | None",
        json="Required[list[Box]]",
    )
    mask: str | None = asked(
        None,
        "strength per pixel: a raster of 0 to 1, GeoJSON polygons, or a GeoJSON line of two "
        "points from strength 0 to 1. Polygons and line may be text, as POLYGON ((X Y, …)), in the "
        "image's coordinate system, or in pixels if it has none",
        changes="answer",
        metavar="FILE|WKT",
        keyword="Pathlike | None",
    )
    feather: int = asked(
        0,
        "soften the mask's edge over N pixels",
        changes="answer",
        parse=parsing.count,
        metavar="N",
    )


def _adjusted(default: Any, help: str, **about: Any) -> Any:
    return asked(default, help, changes="answer", among="adjust", **about)


def _protection(extreme: str) -> Any:
    return _adjusted(
        0.0,
        f"protect the {extreme} tones from the change, from 0 (default) to 1, fully",
        parse=parsing.number,
        metavar="P",
        limits=(0, 1),
        hint="0 protects nothing, 1 leaves the extreme tones as they are.",
    )


def _slider(help: str) -> Any:
    return _adjusted(
        0.0,
        f"{help}, from -100 to 100 (default 0)",
        parse=parsing.number,
        metavar="P",
        limits=(-100, 100),
        hint="0 changes nothing.",
    )


@dataclass(frozen=True)
class Adjustment:
    """Blending of a result with its source, and tone and colour of both, as pixels are read.

    The model never runs again. Every pixel follows from the source and the restored value at its
    position, with local contrast also from its surroundings, so tiles, zoom and the saved file
    agree. Raises `BadParameter` beyond the limits.
    """

    MOST_EV: ClassVar[float] = 3.0
    """Largest exposure, to either side."""

    strength: float = asked(
        1.0,
        "share of the model's change to apply (default 1)",
        changes="answer",
        parse=parsing.number,
        metavar="S",
        limits=(0, 1.5),
        hint="1 is the model's own.",
    )
    luminance_only: bool = _adjusted(
        False, "apply the change to the lightness and keep the image's colours"
    )
    protect_shadows: float = _protection("darkest")
    protect_highlights: float = _protection("brightest")
    exposure: float | Literal["auto"] | None = _adjusted(
        None,
        "brighten the result by EV, or by most of what the restoration darkened it (auto; "
        "default for photos by atmosphere and the networks behind it, for all else 0)",
        parse=parsing.number_or("auto"),
        metavar="EV|auto",
        limits=(-MOST_EV, MOST_EV),
        unit="EV",
        hint="0 leaves the result as the model returned it; auto measures it.",
    )
    temperature: float = _adjusted(
        NEUTRAL_KELVIN,
        "white balance of a photo: colour temperature of the light that becomes white, in kelvin "
        "(default 6500); higher is warmer",
        parse=parsing.number,
        metavar="K",
        limits=(2000, 25_000),
        unit="K",
        hint="6500 changes nothing.",
    )
    tint: float = _adjusted(
        0.0,
        "white balance of a photo: towards magenta, or below 0 towards green, from -150 to 150 "
        "(default 0)",
        parse=parsing.number,
        metavar="T",
        limits=(-150, 150),
        hint="0 changes nothing.",
    )
    saturation: float = _slider("colourfulness of a photo; -100 is grey")
    highlights: float = _slider("brighten the bright tones of a photo, or below 0 darken them")
    shadows: float = _slider("brighten the dark tones of a photo, or below 0 darken them")
    local_contrast: float = _slider("contrast of a photo's detail with its surroundings")
    curve: str | None = _adjusted(
        None,
        "tone curve of a photo through these points, from black, 0, to white, 1, as 0,0:0.25,0.2:1,1",
        parse=parsing.curve,
        metavar="X,Y:X,Y[:…]",
        keyword="str | Sequence[tuple[float, float]] | None",
    )

    def __post_init__(self) -> None:
        check_values(self)
        given: str | Iterable[tuple[float, float]] | None = self.curve
        if given is None:
            return
        try:
            text = given if isinstance(given, str) else parsing.curve_text(given)
            points = parsing.curve_points(text)
        except ValueError as error:
            raise BadParameter(f"Curve: {error}.", "An example is 0,0:0.25,0.2:1,1.") from None
        # The straight line changes nothing.
        is_straight = all(x == y for x, y in points) and points[0][0] == 0 and points[-1][0] == 1
        object.__setattr__(self, "curve", None if is_straight else parsing.curve_text(points))

    @property
    def ev(self) -> float:
        """The exposure; 0 where none is usual, and while "auto" is not measured yet."""
        return self.exposure if isinstance(self.exposure, (int, float)) else 0.0

    @property
    def is_neutral(self) -> bool:
        """Whether the result is used as the model returned it."""
        return not self.exposure and self == Adjustment(exposure=self.exposure)

    @property
    def needs_range(self) -> bool:
        """Whether values are needed in model range, and not only those of the file."""
        protects = self.protect_shadows or self.protect_highlights
        return self.luminance_only or bool(protects or self.ev) or self.has_tone

    @property
    def has_tone(self) -> bool:
        """Whether tone or colour is changed after the blending."""
        usual = options_of(Adjustment)
        return any(getattr(self, name) != usual[name].default for name in TONE)

    def check(self, image: str, roles: Sequence[str | None], *, is_photo: bool) -> None:
        """Raise `BadParameter` if this cannot be done to an image of this name.

        `is_photo`: it is a picture to look at, and its values are no measurements.
        """
        if self.has_tone and not is_photo:
            raise BadParameter(
                "White balance, saturation, tones and curve are for photos. By its description "
                f"{image} is none, so its values may be measurements.",
                "Leave these options out.",
            )
        if self.has_colour and colours_of(roles) is None:
            raise BadParameter(
                f"{image} has no red, green and blue, so it has no white balance and saturation.",
                "Leave temperature, tint and saturation out.",
            )
        if self.luminance_only and colours_of(roles) is None:
            raise BadParameter(
                f"{image} has no red, green and blue, so its colour cannot be kept.",
                f"Say which bands they are ({option('bands', 'red=1,green=2,blue=3')}), "
                "or leave luminance-only out.",
            )

    @property
    def has_colour(self) -> bool:
        """Whether white balance or saturation is changed."""
        return bool(self.temperature != NEUTRAL_KELVIN or self.tint or self.saturation)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, JSON-able."""
        return recorded(self)


TONE = (
    "temperature",
    "tint",
    "saturation",
    "highlights",
    "shadows",
    "local_contrast",
    "curve",
)
"""Those options of an `Adjustment` that change tone and colour after the blending."""


def colours_of(roles: Sequence[str | None]) -> tuple[int, int, int] | None:
    """Return the numbers of the red, green and blue band; None unless there are all three."""
    if not set(COLOURS) <= set(roles):
        return None
    red, green, blue = (roles.index(name) for name in COLOURS)
    return red, green, blue


@dataclass(frozen=True)
class Opening:
    """How files become the image that is asked about; the arguments of `open_image`."""

    stack: bool = asked(False, "take several single-band files as one image", changes="pixels")
    bands: Bands | None = asked(
        None,
        "roles of the bands, counted from 1, with wavelengths in nm where the file has none: "
        "red=4,green=3,blue=2,swir=6@1610; numbers alone are red, green, blue, then nir",
        changes="pixels",
        metavar="ROLE=N[,…]",
    )
    sensor: Pathlike | None = asked(
        None,
        "roles, wavelengths and black of a sensor: landsat8, sentinel2, naip, …, or a file of your own",
        changes="pixels",
        metavar="NAME|FILE.toml",
    )
    plane: int | None = asked(
        None,
        "the plane of a file with several pages, depths or times, counted from 0",
        changes="pixels",
        parse=parsing.count,
        metavar="N",
    )
    allow_outside: bool = asked(
        False, "let a VRT take pixels from files outside its own folder", changes="machine"
    )


@dataclass(frozen=True)
class Reading:
    """How the image is read, and what of it the model knows."""

    exclude: str | None = asked(
        None,
        "leave these pixels unchanged, and out of statistics: FILE, FILE:BAND, FILE:LAYER of a vector "
        "file, :BAND of the image itself (a number from 1 or a name), or text as for the area",
        changes="pixels",
        metavar="FILE[:BAND]|WKT",
        keyword="Pathlike | None",
        python="leave these pixels unchanged, and out of statistics: a file, ``FILE:BAND``, "
        "``FILE:LAYER`` of a vector file, ``:BAND`` of the image itself, GeoJSON or WKT",
    )
    exclude_values: str | None = asked(
        None,
        "of the raster to exclude by: leave out these values, as 3,8,9 or 50..100, or classes by the "
        "names of its product, as cloud,shadow",
        changes="pixels",
        metavar="V[,…]",
        keyword="str | int | Sequence[str | int | float] | None",
    )
    exclude_bits: str | None = asked(
        None,
        "of the raster to exclude by: leave out what has one of these bits, numbers from 0, or names of "
        "its product (QA_PIXEL, SCL, QA60, UDM2, UDM, Fmask, state_1km), as cloud,shadow",
        changes="pixels",
        metavar="BIT[,…]",
        keyword="str | int | Sequence[str | int] | None",
    )
    exclude_where: str | None = asked(
        None,
        "of the vector file to exclude by: only features with these attributes, as \"class = 'water'\"",
        changes="pixels",
        metavar="EXPRESSION",
    )
    extent: str = asked(
        "image",
        "context of a global model: the whole image (default), or only the region, as a draft",
        changes="pixels",
        choices=("image", "region"),
        python='extent of a global model\'s context: ``"image"`` (default), or ``"region"`` for a draft',
    )
    """Or "draft"; see `make_plan`."""
    context: str | None = asked(
        None,
        "take airlight and value ranges from the first image, or from a file",
        changes="pixels",
        metavar="first|FILE",
        python="a context file, shared by several images; see `save_context`",
        keyword="Pathlike | None",
    )
    other_bands: OtherBands | None = asked(
        None,
        "what happens to bands that are no input of the model",
        changes="pixels",
        choices=OTHER_BANDS,
    )
    black: float | None = asked(
        None,
        "value that the model sees as 0: the physical zero",
        changes="pixels",
        parse=parsing.number,
        metavar="V",
    )
    white: float | None = asked(
        None, "value that the model sees as 1", changes="pixels", parse=parsing.number, metavar="V"
    )


@dataclass(frozen=True)
class Computing:
    """How the model is called."""

    tile: Tile = asked(
        None,
        "side of a tile's core in pixels (default: by the plan)",
        changes="pixels",
        parse=parsing.natural_or_whole,
        metavar="N|whole",
    )
    tile_batch: int | None = asked(
        None, "tiles per batch", changes="machine", parse=parsing.natural, metavar="N", record=True
    )
    precision: str = asked(
        "float32",
        "precision of the model (default float32); auto: bfloat16 for 8-bit images where "
        "the processor has it and results differ by a step at most",
        changes="pixels",
        choices=("auto", *FLOATS),
    )
    """A plan has the precision that was chosen."""
    residuals: str = asked(
        "auto",
        "where a model that sees the whole image keeps its maps (default auto: "
        "the fastest place within the budgets)",
        changes="machine",
        choices=("auto", "device", "ram", "disk", "recompute-first", "recompute"),
    )
    residual_dtype: str | None = asked(
        None,
        "precision of the residuals (default that of the model); the record has the error",
        changes="pixels",
        choices=FLOATS,
        metavar="NAME",
    )

    @property
    def is_whole(self) -> bool:
        """Whether the model sees all of the image in one pass."""
        return self.tile == WHOLE

    @property
    def side(self) -> int | None:
        """The side of a tile that was asked for, if any."""
        return self.tile if isinstance(self.tile, int) else None

    @property
    def kept_dtype(self) -> str:
        """Precision in which residuals are kept."""
        return self.residual_dtype or self.precision


@dataclass(frozen=True)
class Machine:
    """Resources of the machine for a run; they change no pixel."""

    memory: Size | None = asked(
        None, "RAM that a run may add, for example 2GiB", changes="machine", metavar="SIZE"
    )
    device_memory: Size | None = asked(
        None, "memory of the device that a run may use", changes="machine", metavar="SIZE"
    )
    device: str = asked(
        "auto", "auto (default), cpu, cuda, cuda:1, mps", changes="machine", metavar="NAME"
    )
    workers: int | None = asked(None, "tiles in parallel", changes="machine", has_flag=False)
    scratch: Pathlike | None = asked(
        None,
        "folder for unfinished results and residuals (default: the cache)",
        changes="machine",
        metavar="DIR",
    )


@dataclass(frozen=True)
class Storing:
    """What is kept of the result beside its pixels, and where."""

    # The command has flags of its own for what it writes.

    maps: bool | Sequence[str] = asked(
        False,
        "whether to store the model's side maps, or the names of some",
        changes="file",
        has_flag=False,
        record=True,
        json="list[str]",
    )
    pyramid: bool = asked(
        False,
        "whether to compute the result's pyramid levels during the run",
        changes="file",
        has_flag=False,
        record=True,
    )
    output: Pathlike | None = asked(
        None,
        "the .zarr that the result will be saved to: tiles are written there directly",
        changes="file",
        has_flag=False,
    )
    shared: bool = asked(
        False,
        "whether several processes write the result, as on a cluster: tiles are whole chunks of it",
        changes="machine",
        has_flag=False,
    )


@dataclass(frozen=True)
class Format:
    """Options of a file's format."""

    USUAL_QUALITY: ClassVar[int] = 95
    """Of JPEG and WebP where none is asked for."""

    cog: bool = asked(False, "write a cloud-optimised GeoTIFF", changes="file", record=True)
    compress: str = asked(
        "deflate",
        "of a TIFF: deflate (default), zstd, lzw, jpeg, none",
        changes="file",
        metavar="NAME",
        record=True,
    )
    bit_depth: int | None = asked(
        None, "bits per value of a photo", changes="file", parse=int, choices=(8, 16), record=True
    )
    """The full range of photos is rescaled to it, and light shown by its `DisplayCurve`."""
    quality: int | None = asked(
        None,
        "of JPEG and WebP, 1 to 100 (default 95)",
        changes="file",
        parse=parsing.natural,
        metavar="Q",
        record=True,
    )
    subsampling: str | None = asked(
        None,
        "of the colours of a photo in JPEG (default 4:4:4, all of them, from a quality of 95 on, else 4:2:0)",
        changes="file",
        choices=("4:4:4", "4:2:2", "4:2:0"),
        record=True,
    )
    profile: str | None = asked(
        None,
        "colour profile of a photo's file, to which its colours are converted: sRGB, adobe-rgb, "
        "display-p3, or a file (default: that of the source)",
        changes="file",
        metavar="NAME|FILE.icc",
        record=True,
    )
    resize: int | None = asked(
        None,
        "pixels of a photo's longer side, if it has more",
        changes="file",
        parse=parsing.natural,
        metavar="PIXELS",
        record=True,
    )
    sharpen: bool = asked(False, "sharpen a photo for a screen", changes="file", record=True)
    clip: str | None = asked(
        None,
        "write only the box around the area (box), or also nodata outside of it (mask); default: a mask's "
        "result is the whole image",
        changes="file",
        choices=("box", "mask"),
        record=True,
    )
    overviews: bool = asked(True, "whether to write overviews", changes="file", has_flag=False)
    level: int | None = asked(
        None,
        "effort of the compression (default 1: with a predictor, more gains little)",
        changes="file",
        has_flag=False,
    )
    threads: int | None = asked(
        None,
        "threads that compress (default: as many as there are processors)",
        changes="machine",
        has_flag=False,
    )


@dataclass(frozen=True)
class Restore:
    """A restoration, but for its image and model."""

    target: Target = field(default_factory=Target)
    adjustment: Adjustment = field(default_factory=Adjustment)
    reading: Reading = field(default_factory=Reading)
    computing: Computing = field(default_factory=Computing)
    machine: Machine = field(default_factory=Machine)
    storing: Storing = field(default_factory=Storing)

    @classmethod
    def of(cls, keywords: Mapping[str, Any]) -> Restore:
        """Return the question of these keywords; `TypeError` for one that is none."""
        given = dict(keywords)
        for name in ("mask", "exclude", "context"):
            if given.get(name) is not None:
                given[name] = os.fspath(given[name])
        for name in ("exclude_values", "exclude_bits"):
            if given.get(name) is not None:
                given[name] = _joined(given[name])
        if given.get("region") is not None:
            given["region"] = _regions(given["region"])
        return question_of(cls, given)

    def keywords(self) -> RestoreKeywords:
        """Return all options as keywords."""
        return cast("RestoreKeywords", keywords_of(self))

    def replacing(self, **keywords: Unpack[RestoreKeywords]) -> Restore:
        """Return this question with others for `keywords`."""
        return Restore.of({**self.keywords(), **keywords})


def _joined(chosen: Any) -> str:
    """Return a number, or several numbers and names, as a list in text."""
    several = not isinstance(chosen, str) and isinstance(chosen, Iterable)
    return ",".join(map(str, chosen)) if several else str(chosen)


def _regions(region: Any) -> tuple[Region, ...]:
    if len(region) == 4 and not any(isinstance(part, (tuple, list)) for part in region):
        return (Region(*(int(value) for value in region)),)
    return tuple(Region(*box) for box in region)
