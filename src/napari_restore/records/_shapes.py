"""The format of records: one shape for a run, an attribution and a table each.

Names are snake case, units SI, sizes in bytes, boxes [y0, x0, y1, x1]. What feeds keyword
arguments has no other keys; elsewhere keys that are not named here may be present and are kept.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, Required

from annotated_types import Len
from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12 on

from napari_restore._json_shapes import closed

Box = Annotated[list[int], Len(4, 4)]
"""[y0, x0, y1, x1], half open."""


@closed
class ImageSource(TypedDict):
    """How an image is opened again: arguments of `open_image`."""

    source: str | list[str]
    stack: NotRequired[bool]
    bands: NotRequired[str | list[Any] | dict[str, int] | None]
    sensor: NotRequired[str | None]
    select: NotRequired[list[int] | None]
    level: NotRequired[int | None]
    allow_outside: NotRequired[bool]
    """Whether its user agreed to pixels from elsewhere; whoever repeats the run is asked anew."""


class ModelSource(TypedDict):
    """How a model is loaded again: arguments of `load_model`."""

    model: str
    weights: NotRequired[str | None]
    parameters: NotRequired[dict[str, bool | int | float | str] | None]
    card: NotRequired[dict[str, Any] | None]


@closed
class RunOptions(TypedDict, total=False):
    """Options of `plan` that no machine owns."""

    region: Required[list[Box]]
    mask: str | None
    feather: int
    exclude: str | None
    strength: float
    luminance_only: bool
    protect_shadows: float
    protect_highlights: float
    extent: str
    other_bands: Literal["correct", "copy", "drop"] | None
    black: float | None
    white: float | None
    tile: int | None
    tile_batch: int | None
    precision: str
    residual_dtype: str | None
    context: str | None
    maps: list[str]
    pyramid: bool


class Task(TypedDict):
    """What repeats a restoration."""

    image: ImageSource
    mosaic: NotRequired[ImageSource | None]
    model: ModelSource
    options: RunOptions


@closed
class ReadingOptions(TypedDict, total=False):
    """Options of `attribute` that say how the image is read."""

    extent: str
    black: float | None
    white: float | None
    exclude: str | None
    context: str | None
    other_bands: Literal["correct", "copy", "drop"] | None


class Question(TypedDict, total=False):
    """Options of `attribute` that say what is asked."""

    method: str | None
    objective: str | None
    baseline: str | None
    steps: str | int | None
    rule: str | None
    gap: float
    context_gradient: str
    routing: str | None
    arguments: dict[str, Any] | None
    check: str | None


@closed
class QuestionOfBox(Question, total=False):
    """A question, and the place it is asked about."""

    box: Box | None
    polygon: list[Annotated[list[float], Len(2, 2)]] | None


@closed
class QuestionOfTable(Question, ReadingOptions, total=False):
    """A question about many places."""

    level: int


class AttributionTask(TypedDict):
    """What repeats an attribution."""

    image: ImageSource
    model: ModelSource
    question: QuestionOfBox
    options: ReadingOptions
    files: NotRequired[dict[str, str]]
    """sha256 of the files that were read, by their path."""


class TablePlace(TypedDict):
    """A place that was asked about."""

    name: str
    box: Box | None
    polygon: list[Annotated[list[float], Len(2, 2)]] | None


class TableImage(TypedDict):
    """An image of a table, and its places."""

    name: str
    spec: ImageSource
    fingerprint: str | None
    places: list[TablePlace]


class TableModel(TypedDict):
    """A model of a table."""

    label: str
    spec: ModelSource
    weights_sha256: str | None


class TableTask(TypedDict):
    """What repeats a table."""

    images: list[TableImage]
    models: list[TableModel]
    files: dict[str, str]
    baseline_fingerprint: str | None


class Input(TypedDict):
    """The image a run read."""

    path: str | None
    """None for an array."""
    fingerprint: str
    size: list[int]
    """[height, width] in pixels."""
    bands: int
    dtype: str
    crs: str | None
    black: list[float] | None
    """The value of each band that the model saw as 0."""
    white: float | None
    """The value that the model saw as 1."""


class FileOptions(TypedDict, total=False):
    """Options of `Result.save`, but for what concerns a file that is there."""

    compress: str
    cog: bool
    bit_depth: int | None
    quality: int | None
    overviews: bool
    level: int | None


class Output(TypedDict):
    """The file a run wrote."""

    path: str | None
    sha256: str | None
    options: NotRequired[FileOptions]


class Model(TypedDict):
    """The method and all its parameter values."""

    id: str
    weights_sha256: str | None
    parameters: dict[str, Any]


class Target(TypedDict):
    """What was restored."""

    region: list[int]
    """[y0, x0, y1, x1], half open."""
    mask: NotRequired[str | None]


class Adjustment(TypedDict):
    """How the restored pixels were applied to the source."""

    strength: float
    luminance_only: bool
    protect_shadows: float
    protect_highlights: float


class PlanRecord(TypedDict):
    """How it was done, and what that was predicted to take."""

    scope: str
    tile: int
    halo: int
    tile_batch: int
    tiles: int
    passes: int
    residual_tier: str | None
    residual_bytes: int
    predicted_peak_ram_bytes: int
    predicted_peak_device_bytes: int
    predicted_disk_bytes: int
    predicted_seconds: float | None


class Measured(TypedDict):
    """What it took."""

    seconds: float
    """From the start of the command, or of the run, until the file has its name."""
    run_seconds: NotRequired[float]
    """What of it the pixels took, without loading, planning and writing."""
    megapixels_per_second: float
    """Of `run_seconds`."""
    peak_ram_bytes: int
    """Unique set size summed over the process tree, idle part included."""
    peak_device_bytes: int
    tiles_done: int
    tiles_resumed: int
    backoffs: int
    unchanged_share: float | None
    """Share of the valid pixels that the model left as they were."""


class Record(TypedDict):
    """One run, in enough detail to repeat it."""

    command: str
    version: str
    status: Literal["done", "cancelled", "failed"]
    input: Input
    output: Output | None
    model: Model
    targets: list[Target]
    adjustment: NotRequired[Adjustment]
    extent: Literal["image", "region"]
    context: dict[str, Any] | None
    plan: PlanRecord
    measured: Measured
    device: str
    versions: dict[str, str]
    notes: NotRequired[list[str]]
    """What the user was told about this run."""
    task: NotRequired[Task | None]
    """None where image or model lies in no file."""


class AttributionRecord(Record):
    """One attribution."""

    attribution: dict[str, Any]
    task: NotRequired[AttributionTask | None]  # type: ignore[misc]


class TableRow(TypedDict):
    """The answer for one image, place and model; its other columns are those of the table."""

    number: int
    model: str


class Table(TypedDict):
    """Many questions in one account, in enough detail to ask them all again."""

    version: str
    status: Literal["done", "cancelled"]
    task: NotRequired[TableTask | None]
    """Images, models and places; None where some lie in no file."""
    question: QuestionOfTable
    """The options that all were asked with."""
    rows: list[TableRow]
    """One for each image, place and model."""
    summary: dict[str, Any]
    device: str
    versions: dict[str, str]
