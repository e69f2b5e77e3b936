"""Plan of a run: everything it will do, decided and shown before it starts; also as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from napari_restore._format import format_seconds, format_size
from napari_restore._json_shapes import json_of, value_of
from napari_restore.engine._region import Region, bounding_box
from napari_restore.engine.machine.device import Device
from napari_restore.engine.planning.decided import Layout, SweptLayout, TileInvariance
from napari_restore.engine.planning.identity import digest_of
from napari_restore.images import Image, Radiometry, facts_of, html_of, resolve_radiometry
from napari_restore.questions import Adjustment, Computing, Reading, Target

if TYPE_CHECKING:
    from napari_restore.engine.planning.tiles import Grid
    from napari_restore.models import Context, RestorationModel, SweptModel


@dataclass(frozen=True)
class Prediction:
    """What a run is expected to take. Sizes in bytes, times in seconds."""

    added_ram_bytes: int
    """Bytes that the run adds at its peak to those of the idle process."""
    peak_ram_bytes: int
    peak_device_bytes: int
    disk_bytes: int
    stages: Mapping[str, float]
    """Seconds by stage, in their order: "read" of the whole image for its statistics, "restore"; of
    a command also its "start" and "write" of the file."""
    prepare_seconds: float = 0.0
    """Share of `seconds` for the model's preparation from the whole image; a process that keeps its
    result spends it once."""

    @property
    def seconds(self) -> float:
        """Seconds of all stages."""
        return sum(self.stages.values())

    def after(self, stage: str) -> float:
        """Return the seconds of the stages that follow `stage`."""
        names = list(self.stages)
        return sum(self.stages[name] for name in names[names.index(stage) + 1 :])


@dataclass(frozen=True)
class Plan:
    """Everything that determines one run. Frozen, and JSON-able but for `image` and `model`.

    Sizes are bytes, times seconds, regions level-0 pixels.
    """

    key: str
    """Digest of all that decides the pixels; see `describe`."""
    names: str
    """Digest of what the user has named: it stays when a file changes under its name."""
    read: Mapping[str, str | None]
    """Digests of the files of mask, exclude mask and context; None where there is none."""
    image: Image = field(repr=False, compare=False)
    model: RestorationModel = field(repr=False, compare=False)
    bands: tuple[int, ...]
    target: Target
    """What is restored; its boxes lie within `image`."""
    reading: Reading
    """How the image is read, with the extent and the treatment of other bands decided."""
    adjustment: Adjustment
    """Settings of the blending of the result with its source."""
    computing: Computing
    """How the model is called, as requested; `layout` says what was chosen."""
    layout: Layout
    device: Device
    memory: int
    """Bytes that the run may add to those of the idle process."""
    maps: tuple[str, ...]
    pyramid: bool
    in_16: bool
    """Whether pixels of 8 bits are kept in 16."""
    centre_first: bool
    store: Path
    prediction: Prediction
    needs_context: bool
    needs_context_pass: bool = False
    """Whether statistics that the run needs are not in the cache yet."""
    staged: SweptLayout | None = None
    """Grid, tiers and phases of a run of sweeps; None: every tile by itself."""
    counted: Path | None = None
    """Folder of what a swept model's sweeps counted for this image, or for the one it borrows from."""
    lends: Path | None = None
    """Folder that is to name this image, whose statistics others of its size then take."""
    notes: tuple[str, ...] = ()
    content: str = ""
    """Digest of what the model computes by; see `content_of`."""
    workers: int | None = None
    """Tiles in parallel that the user asked for; None: as many as cores and budget allow."""

    def __repr__(self) -> str:
        return f"<Plan {self.model.card.id!r} on {self.image.name!r}: {self.summary()}>"

    def _repr_html_(self) -> str:
        card = self.model.card
        return html_of(f"Plan: {card.title} on {self.image.name}", self.facts())

    def facts(self) -> dict[str, str]:
        """Return what is run, on what, and what it takes, by what they are called.

        Returns
        -------
        dict
            Short texts for people, some of them empty.
        """
        height, width = self.region.shape
        return {
            "method": self.model.card.id,
            "image": facts_of(self.image)["size"],
            "region": f"{width} × {height} pixels from column {self.region.x0}, row {self.region.y0}",
            "tiles": self.tiling(),
            "needs": self.summary(),
            "notes": " ".join(self.notes),
        }

    @property
    def swept(self) -> SweptModel:
        """The model, which is one of sweeps."""
        from napari_restore.models import SweptModel

        assert isinstance(self.model, SweptModel)
        return self.model

    @property
    def sweeps(self) -> SweptLayout:
        """`staged` of a run of sweeps."""
        assert self.staged is not None
        return self.staged

    @cached_property
    def grid(self) -> Grid:
        """The tiles of a run of sweeps."""
        from napari_restore.engine.planning.tiles import Grid

        return Grid(self.sweeps.box, self.layout.tile, self.swept.padded_to)

    @property
    def targets(self) -> tuple[Region, ...]:
        """The boxes to restore."""
        return self.target.region or ()

    @property
    def output_key(self) -> str:
        """Digest of all that decides the pixels of an output: also which are restored, and how much."""
        boxes = [list(box) for box in self.targets]
        return digest_of([self.key, boxes, self.read["mask"], self.adjustment.to_dict()])

    @property
    def given_targets(self) -> list[Region]:
        """The boxes to restore in pixels of the image that was given."""
        return list(map(self.on_given, self.targets))

    def on_given(self, box: Region) -> Region:
        """Return a box of this image in pixels of the one that was given.

        Parameters
        ----------
        box
            Within the plan's image.

        Returns
        -------
        Region
            Without what lies beyond the image.
        """
        whole = Region(0, 0, self.image.given.height, self.image.given.width)
        return box.scale(1 / self.image.resampling).intersect(whole)

    @property
    def region(self) -> Region:
        """The smallest box holding all targets."""
        return bounding_box(self.targets)

    @property
    def seen(self) -> Region:
        """Box that the model of sweeps sees."""
        from napari_restore.engine.planning.layout import box_seen

        extent = self.reading.extent
        return box_seen(self.swept, self.region, self.image, self.computing, extent)

    @property
    def placed(self) -> Region:
        """Box in which a position-dependent model is given positions."""
        if self.reading.extent != "region":
            return Region(0, 0, self.image.height, self.image.width)
        is_context_placed = not self.model.is_swept or self.model.card.needs_context
        return self.region if is_context_placed else self.seen

    @property
    def described(self) -> Region | None:
        """Box of the whole-image statistics in pixels of the full image; None for all of it."""
        if self.reading.extent != "region":
            return None
        from napari_restore.engine.planning.source import on_full

        return on_full(self.region, self.image)

    @property
    def haze_cell(self) -> int:
        """Side in pixels of the cells on which the model judges the haze of what it sees; 0: on none."""
        full = self.image.full or self.image
        seen = self.described or Region(0, 0, full.height, full.width)
        return self.model.described.haze_cell(*seen.shape)

    def radiometry(self, context: Context | None) -> Radiometry:
        """Return black and white of the run.

        Parameters
        ----------
        context
            What was computed from the whole image; None where black and white are known without.

        Returns
        -------
        Radiometry
            The mapping between values of the image and the model's range.
        """
        image = self.image
        return resolve_radiometry(
            image,
            percentile=None
            if context is None
            else lambda q: context.percentile(q, image.data_bands),
            black=self.reading.black,
            white=self.reading.white,
        )

    def companions_radiometry(self, own: Radiometry) -> tuple[Radiometry, ...]:
        """Return black and white of the other frames of a bracket: those of the image.

        Their values differ by the exposure alone. Each has its own colour space.

        Parameters
        ----------
        own
            That of the image.

        Returns
        -------
        tuple of Radiometry
            One for each companion, dark to bright; none without a bracket.
        """
        others = self.image.companions
        frames = () if others is None else others.images
        return tuple(replace(own, colour=frame.working_space) for frame in frames)

    @property
    def passes(self) -> int:
        """How often the whole image is gone over: sweeps, and the pass for its statistics."""
        sweeps = 1 if self.staged is None else len(self.staged.phase_seconds)
        return sweeps + int(self.needs_context)

    @property
    def sweeps_image(self) -> bool:
        """Whether sweeps go over all that the model sees, however small the targets are."""
        return self.staged is not None and not self.staged.known

    @property
    def image_seconds(self) -> float:
        """Seconds of the sweeps over all that the model sees, before the last one; 0 without any."""
        staged = self.staged
        return 0.0 if staged is None or staged.known else staged.encode_seconds

    def seconds_after(self, number: int) -> float:
        """Return the predicted seconds of what follows a step of the model: other steps, the file.

        Parameters
        ----------
        number
            Number of the step, from 0.

        Returns
        -------
        float
            Seconds.
        """
        phases = [] if self.staged is None else list(self.staged.phase_seconds.values())
        return sum(phases[number + 1 :]) + self.prediction.after("restore")

    @property
    def step(self) -> int:
        """Tile edges are multiples of this many pixels, counted from the image's origin."""
        fixed = self.layout.invariance is TileInvariance.FIXED_TILES
        if fixed or self.staged is not None:
            return self.layout.tile
        from napari_restore.engine.planning.layout import tile_step

        return tile_step(self.model)

    def input_box(self, core: Region, halo: int | None = None, step: int | None = None) -> Region:
        """Return what the model is given to restore a tile: it, and its halo.

        Parameters
        ----------
        core
            The tile.
        halo
            Pixels around it; None: those of the plan.
        step
            Multiple of pixels at which a box begins; None: that of the plan's tiles.

        Returns
        -------
        Region
            The larger box, within the image.
        """
        from napari_restore.engine.planning.tiles import box_with_halo

        halo = self.layout.halo if halo is None else halo
        size = self.image.height, self.image.width
        return box_with_halo(core, halo, size, step or self.step, self.model.least_box)

    def summary(self) -> str:
        """Return tiles, memory and time in one line for the user.

        Returns
        -------
        str
            For instance ``42 tiles · ≈ 1.2 GiB · ≈ 18 s``.
        """
        count, expected = self.layout.tiles, self.prediction
        tiles = f"{count} tile{'s' if count != 1 else ''}"
        ram = f"≈ {format_size(expected.peak_ram_bytes)}"
        return f"{tiles} · {ram} · ≈ {format_seconds(expected.seconds)}"

    def tiling(self) -> str:
        """Return side and halo of a tile, and what halos cost, in one line for the user.

        Returns
        -------
        str
            For instance ``tiles of 1664 px with a halo of 48 · 1.10 × the pixels computed``.
        """
        layout = self.layout
        halo = "" if self.staged is not None else f" with a halo of {layout.halo}"
        return f"tiles of {layout.tile} px{halo} · {layout.halo_overhead:.2f} × the pixels computed"

    def times(self) -> str:
        """Return the seconds of each stage, and what is not counted, in one line for the user.

        Returns
        -------
        str
            For instance ``read ≈ 2 s · restore ≈ 16 s``.
        """
        stages = [f"{name} ≈ {format_seconds(s)}" for name, s in self.prediction.stages.items()]
        served = self.image.is_served
        return " · ".join([*stages, *(["not counted: what the server takes"] if served else [])])

    def to_dict(self) -> dict[str, Any]:
        """Return the record's `plan` object, with what identifies the run.

        Returns
        -------
        dict
            Values as JSON has them.
        """
        layout, staged, expected = self.layout, self.staged, self.prediction
        tier, residual_bytes, described = None, 0, None
        if staged is not None:
            tier, residual_bytes = staged.tier, sum(staged.residual_bytes.values())
            described = staged.describe()
        return {
            "key": self.key,
            "read": dict(self.read),
            "scope": self.model.card.scope,
            "scale": self.model.card.scale,
            "tile": layout.tile,
            "halo": layout.halo,
            "tile_batch": layout.tile_batch,
            "tiles": layout.tiles,
            "halo_overhead": layout.halo_overhead,
            "passes": self.passes,
            "residual_tier": tier,
            "residual_bytes": residual_bytes,
            "precision": self.computing.precision,
            "staged": described,
            "tile_invariance": str(layout.invariance),
            "workers": layout.workers,
            "threads": layout.threads,
            "device": self.device.name,
            "memory_bytes": self.memory,
            "predicted_peak_ram_bytes": expected.peak_ram_bytes,
            "predicted_peak_device_bytes": expected.peak_device_bytes,
            "predicted_disk_bytes": expected.disk_bytes,
            "predicted_seconds": expected.seconds,
            "predicted_stages": dict(expected.stages),
            "notes": list(self.notes),
        }


@cache
def _kinds() -> dict[str, Any]:
    """Return the types of the fields of a plan that are described as JSON: all but image and model."""
    kinds = get_type_hints(Plan, localns={"RestorationModel": Any})
    return {each.name: kinds[each.name] for each in fields(Plan) if each.compare}


def serialise_plan(plan: Plan) -> dict[str, Any]:
    """Return all fields of `plan` but image and model, JSON-able."""
    from napari_restore.models import CutModel

    card = plan.model.card
    return {
        **{name: json_of(getattr(plan, name), kind) for name, kind in _kinds().items()},
        "cut": isinstance(plan.model, CutModel),
        "sizes": [card.halo, card.multiple_of, card.padded_to],
    }


def deserialise_plan(
    data: dict[str, Any],
    image: Image,
    model: RestorationModel,
) -> Plan:
    """Return the plan that `serialise_plan` described, for the same image and model."""
    from napari_restore.engine.planning.source import for_image

    values = {name: value_of(data[name], kind) for name, kind in _kinds().items()}
    # The card of the model then states what was measured for the plan.
    used = _as_planned(model, data["sizes"], values["content"] if data["cut"] else None)
    image = image.resampled(used.card.ratio, phases=True)
    return Plan(image=image, model=for_image(used, image), **values)


def _as_planned(
    model: RestorationModel, sizes: list[int | None], cut: str | None
) -> RestorationModel:
    """Return `model` with the sizes of a plan; cut into sweeps where `cut`, its content, is given."""
    from napari_restore.engine.planning.probe import state_sizes
    from napari_restore.models import WrappedModel, cut_into_sweeps, on_output_grid

    if cut is not None and isinstance(model, WrappedModel):
        return cut_into_sweeps(model, cut)
    halo, multiple_of, padded_to = sizes
    assert halo is not None and multiple_of is not None
    model = on_output_grid(model)
    state_sizes(model, halo, multiple_of, padded_to)
    return model
