"""The format of records of runs, attributions and tables.

Names are snake case, units SI, sizes in bytes, boxes [y0, x0, y1, x1]. Dictionaries of
keyword arguments have no other keys; elsewhere other keys may be present and are preserved.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from annotated_types import Len
from typing_extensions import TypedDict  # pydantic takes that of typing from Python 3.12 on

from napari_restore._json_shapes import closed
from napari_restore.questions import (
    AdjustmentRecord,
    AttendKeywords,
    AttributeKeywords,
    FormatKeywords,
    ReadingKeywords,
    RestoreRecord,
)

Box = Annotated[list[int], Len(4, 4)]
"""[y0, x0, y1, x1], half open."""


@closed
class ImageSource(TypedDict):
    """How an image is opened again: arguments of `open_image`."""

    source: str | list[str]
    stack: NotRequired[bool]
    plane: NotRequired[int]
    bands: NotRequired[str | list[Any] | dict[str, int] | None]
    sensor: NotRequired[str | None]
    select: NotRequired[list[int] | None]
    level: NotRequired[int | None]
    placement: NotRequired[list[float] | None]
    grid: NotRequired[list[int] | None]
    balance: NotRequired[list[float] | None]
    """White balance of a RAW photo, where it is not its own."""
    exposed: NotRequired[float | None]
    """EV by which a picture of light is exposed."""
    light: NotRequired[bool]
    """Whether the frames of a bracket are read as linear light."""
    resampled: NotRequired[str | None]
    """How many times as many pixels it has along a side: ``"2"``, ``"1/2"``."""
    companions: NotRequired[CompanionSources | None]
    allow_outside: NotRequired[bool]
    """Whether the user allowed VRT sources outside of its folder; a rerun needs the consent again."""


@closed
class CompanionSources(TypedDict):
    """How the other frames of a bracket are opened again, dark to bright."""

    images: list[ImageSource]
    reference: int
    exposures: list[float]


class ModelSource(TypedDict):
    """How a model is loaded again: arguments of `load_model`."""

    model: str
    weights: NotRequired[str | None]
    parameters: NotRequired[dict[str, bool | int | float | str] | None]
    card: NotRequired[dict[str, Any] | None]
    without_heads: NotRequired[list[list[str | int]]]
    """Heads of attention that were left out after loading, [site, head] each; from 0."""


@closed
class RunOptions(RestoreRecord, total=False):
    """Options of `plan` that are independent of the machine."""


class RecordedTask(TypedDict):
    """The task that repeats a restoration."""

    image: ImageSource
    model: ModelSource
    options: RunOptions


@closed
class AttributionReading(ReadingKeywords, total=False):
    """Options of `attribute` on how the image is read."""


@closed
class RecordedAttributionRequest(AttributeKeywords, total=False):
    """Settings of an attribution and its target."""

    box: Box | None
    polygon: list[Annotated[list[float], Len(2, 2)]] | None


@closed
class TableRequest(AttributeKeywords, ReadingKeywords, total=False):
    """Settings of the attributions of a table."""

    level: int


class ExplainedTask(TypedDict):
    """The task that repeats a question about a model on an image."""

    image: ImageSource
    model: ModelSource
    options: AttributionReading
    files: NotRequired[dict[str, str]]
    """sha256 of the files that were read, by their path."""


class RecordedAttributionTask(ExplainedTask):
    """The task that repeats an attribution."""

    question: RecordedAttributionRequest


class AttentionQuery(TypedDict):
    """A point or box whose attention is shown."""

    name: str | None
    box: Box


@closed
class RecordedAttentionRequest(AttendKeywords):
    """Queries, layers and settings of attention."""

    queries: list[AttentionQuery]
    layers: str | list[str]


class AttentionTask(ExplainedTask):
    """The task that repeats attention."""

    question: RecordedAttentionRequest


class TablePlace(TypedDict):
    """An attribution target of a table."""

    name: str
    box: Box | None
    polygon: list[Annotated[list[float], Len(2, 2)]] | None


class TableImage(TypedDict):
    """An image of a table with its targets."""

    name: str
    spec: ImageSource
    fingerprint: str | None
    places: list[TablePlace]


class TableModel(TypedDict):
    """A model of a table."""

    label: str
    spec: ModelSource
    weights_sha256: str | None
    definition: NotRequired[str]
    """Digest of the code and the card, without the weights."""


class TableTask(TypedDict):
    """The task that repeats a table."""

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
    """Value of each band that maps to 0 in the model's input."""
    white: float | None
    """Value that maps to 1 in the model's input."""


class RecordedOutput(TypedDict):
    """The file a run wrote."""

    path: str | None
    sha256: str | None
    options: NotRequired[FormatKeywords]


class Model(TypedDict):
    """The method and all its parameter values."""

    id: str
    weights_sha256: str | None
    definition: NotRequired[str]
    """Digest of the code and the card, without the weights."""
    parameters: dict[str, Any]


class RecordedTarget(TypedDict):
    """A restored region."""

    region: list[int]
    """[y0, x0, y1, x1], half open."""
    mask: NotRequired[str | None]


class PlanRecord(TypedDict):
    """The plan and its predicted costs."""

    key: NotRequired[str]
    """Digest of all that decided the pixels."""
    read: NotRequired[dict[str, str | None]]
    """Digests of the files of mask, exclude mask and context."""
    scope: str
    scale: NotRequired[int | str]
    """Pixels of the result along one of the image: 2, ``"1/2"``; boxes are in pixels of the image,
    tiles and halo in those of the result."""
    tile: int
    halo: int
    tile_batch: int
    tiles: int
    halo_overhead: NotRequired[float]
    """Pixels that are computed, those of halos as often as they are, per pixel of the image."""
    passes: int
    residual_tier: str | None
    residual_bytes: int
    predicted_peak_ram_bytes: int
    predicted_peak_device_bytes: int
    predicted_disk_bytes: int
    predicted_seconds: float | None
    """Of the whole command, the sum of the stages."""
    predicted_stages: NotRequired[dict[str, float]]
    """Seconds by stage: start, read, restore, write."""


class RecordedMeasurements(TypedDict):
    """Measured time, memory and tiles."""

    seconds: float
    """Time from the start of the command, or of the run, until the file is written."""
    run_seconds: NotRequired[float]
    """Time of the computation, without loading, planning and writing."""
    stages: NotRequired[dict[str, float]]
    """Seconds by stage: read, restore, write."""
    megapixels_per_second: float
    """Throughput over `run_seconds`."""
    peak_ram_bytes: int
    """Unique set size summed over the process tree, idle part included."""
    peak_device_bytes: int
    tiles_done: int
    tiles_resumed: int
    backoffs: int
    unchanged_share: float | None
    """Share of the valid pixels that the model did not change."""


class Record(TypedDict):
    """One run, in enough detail to repeat it."""

    command: str
    version: str
    status: Literal["done", "cancelled", "failed"]
    input: Input
    output: RecordedOutput | None
    model: Model
    targets: list[RecordedTarget]
    adjustment: NotRequired[AdjustmentRecord]
    extent: Literal["image", "region"]
    context: dict[str, Any] | None
    plan: PlanRecord
    measured: RecordedMeasurements
    device: str
    versions: dict[str, str]
    notes: NotRequired[list[str]]
    """Notes that were shown to the user."""
    task: NotRequired[RecordedTask | None]
    """None where image or model exist only in memory."""


class AttributionRecord(Record):
    """One attribution."""

    attribution: dict[str, Any]
    task: NotRequired[RecordedAttributionTask | None]  # type: ignore[misc]


class AttentionRecord(Record):
    """Attention of a model for some queries."""

    attention: dict[str, Any]
    task: NotRequired[AttentionTask | None]  # type: ignore[misc]


class TableRow(TypedDict):
    """A row for one image, target and model; its other columns are those of the table."""

    number: int
    model: str


class Table(TypedDict):
    """The record of many attributions, in enough detail to repeat them."""

    version: str
    status: Literal["done", "cancelled"]
    task: NotRequired[TableTask | None]
    """Images, models and targets; None where some exist only in memory."""
    question: TableRequest
    """Options of all attributions."""
    rows: list[TableRow]
    """One row for each image, target and model."""
    summary: dict[str, Any]
    device: str
    versions: dict[str, str]
