"""A finished attribution: its map, measures and record."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, Unpack

import numpy as np
import numpy.typing as npt

from napari_restore.engine import Region, cut, peak_in
from napari_restore.errors import BadOutput, option
from napari_restore.explain.attribution import measures
from napari_restore.explain.attribution._overview import OverviewShares
from napari_restore.explain.attribution._sums import COLUMNS, ROWS, Summed
from napari_restore.explain.attribution.figure import draw, figure_of, plot
from napari_restore.explain.attribution.figure_file import (
    SUFFIXES as FIGURES,
    StyleOptions,
    check_figure,
)
from napari_restore.explain.attribution.files import (
    SEGMENT_COLUMNS,
    Strips,
    csv_text,
    write_array,
    write_arrays,
    write_file,
)
from napari_restore.explain.attribution.opened_maps import (
    LIMIT_TAG,
    OVERVIEW_TAG,
    pixels_of,
    write_map,
)
from napari_restore.explain.attribution.stored_accumulator import opened_sum
from napari_restore.explain.attribution.summary import attribution_summary
from napari_restore.explain.kinds import Kind, kind_of
from napari_restore.images import (
    Image,
    Pixels,
    SaveOptions,
    check_output,
    html_of,
    lazy_array,
    picture_of,
)
from napari_restore.records import check_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ARRAYS = (".npy", ".npz")
SEGMENTS = ".csv"
RECORDED = ("version", "input", "model", "extent", "context", "attribution", "versions")
"""Parts of the record that a file of arrays has: those that say what it is of."""
STRIP = 1 << 21
"""Values of a map that are written at a time."""
LARGEST = 1 << 28
"""Most values of a map that is returned as an array in memory; larger ones are dask arrays."""
THUMBNAIL, FOR, AGAINST = 256, (45, 0, 75), (127, 59, 8)
"""Longest side of a notebook's picture in pixels, and its colours: the ends of matplotlib's PuOr."""
BAR = 8
"""Rows of pixels of its colour bar, and of what is white above that."""
AROUND = 512
"""Margin in pixels of `Attribution.window` around the box."""


class PartialAttribution(NamedTuple):
    """A map that is not finished."""

    region: Region
    values: npt.NDArray[np.float32]
    """(h, w) over `region`: sum over bands, extrapolated from the points so far to the whole path."""
    done: int
    """Points evaluated."""
    total: int
    """Points of the present rule; a finer rule follows if its gap is too large."""


@dataclass(frozen=True)
class Attribution:
    """A map of the input pixels' shares in an objective, with the record that reproduces it.

    Bands of a bracket's map are those of all frames, dark to bright.
    """

    total: Summed = field(repr=False)
    box: Region
    record: dict[str, Any] = field(repr=False)
    image: Image = field(repr=False)
    picture: Callable[[Region], npt.NDArray[np.float32]] = field(repr=False)
    """Reads a box of the image, of a bracket of its reference, (h, w, bands) in model range."""
    overview: OverviewShares | None = field(default=None, repr=False)
    """Present where the gradient goes through the context."""
    output: Callable[[Region], npt.NDArray[np.float32]] | None = field(default=None, repr=False)
    """Computes a box of the model's output, (h, w, bands) in model range; None of a model that sees the
    whole image, of a bracket, and in another process."""

    def __repr__(self) -> str:
        attribution = self.record["attribution"]
        gap = (attribution.get("completeness") or {}).get("relative_gap")
        shape = (*self.region.shape, self.total.bands)
        complete = "" if gap is None else f", completeness gap {100 * gap:.2g} %"
        return (
            f"<Attribution {self.record['model']['id']!r} on {self.image.name!r}: "
            f"{attribution['method']}, {self.box}, map {shape}{complete}>"
        )

    def _repr_html_(self) -> str:
        record = self.record["attribution"]
        summary = attribution_summary(record)
        rows = {
            "method": record["method"],
            "objective": record["objective"],
            "box": f"{self.box.width} × {self.box.height} pixels from column {self.box.x0}, "
            f"row {self.box.y0}",
            "baseline": record["baseline"],
            "shows": f"{self.kind.title}: {self.kind.legend}",
            "means": self.kind.says,
            "complete": summary.completeness,
            "spread": summary.spread,
        }
        title = f"Attribution: {self.record['model']['id']} on {self.image.name}"
        picture, most = self._thumbnail()
        below = f"orange {-most:.6g}, white 0, " if self.kind.is_signed else "white 0, "
        below += f"purple {most:.6g}: {self.kind.value}"
        return html_of(title, rows, picture, below=below)

    def _thumbnail(self) -> tuple[npt.NDArray[np.uint8], float]:
        """Return the sum over bands over `window` above a bar of its colours, and the largest magnitude."""
        step = max(1, -(-max(self.window.shape) // THUMBNAIL))
        signed = np.nan_to_num(
            self.read(self.window).sum(axis=2)[::step, ::step], posinf=0, neginf=0
        )
        most = float(np.abs(signed).max(initial=0)) or 1.0
        bar = np.linspace(-1 if self.kind.is_signed else 0, 1, signed.shape[1])
        parts = signed / most, np.zeros((BAR, bar.size)), np.tile(bar, (BAR, 1))
        # White is none, purple for D, orange against it.
        share = np.concatenate(parts)[..., None]
        ends = np.where(share > 0, np.array(FOR), np.array(AGAINST))
        return np.asarray(255 + np.abs(share) * (ends - 255), np.uint8), most

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        """Return the map (h, w, bands) for ``np.asarray``."""
        if copy is False:
            raise ValueError("A map is read from its sums: copy=False is not possible.")
        values = np.asarray(self.map)
        return values if dtype is None else values.astype(dtype, copy=False)

    @property
    def kind(self) -> Kind:
        """What the map is, in words and by its scale."""
        return kind_of(self.record["attribution"])

    @property
    def region(self) -> Region:
        """Receptive field of the box in level-0 pixels: outside of it all shares are zero."""
        return self.total.region

    @property
    def window(self) -> Region:
        """Part of `region` at most `AROUND` pixels from the box."""
        return window_of(self.box, self.region)

    @property
    def segments(self) -> list[dict[str, Any]]:
        """Rows of the table of segments: `label`, `pixels`, `share` and centre; empty without segments."""
        recorded = self.record["attribution"].get("segments")
        return [] if recorded is None else list(recorded["rows"])

    def contribution_area(self) -> npt.NDArray[np.float64]:
        """Return the density of the map's magnitude over `window` (LAM).

        Returns
        -------
        numpy.ndarray
            (h, w) float64 with maximum 1.
        """
        near = np.abs(self.read(self.window).sum(axis=2))
        near[~np.isfinite(near)] = 0
        return np.asarray(measures.contribution_area(near), np.float64)

    def read(self, box: Region) -> npt.NDArray[np.float32]:
        """Return the map in a box.

        Parameters
        ----------
        box
            A box within `region`.

        Returns
        -------
        numpy.ndarray
            (h, w, bands) float32.
        """
        return np.moveaxis(self.total.read(box), 0, 2).astype(np.float32)

    @cached_property
    def limit(self) -> float:
        """Largest magnitude of the sum over bands: where the colours of map and overview end."""
        most = max(measures.largest(rows.sum(axis=2)) for rows in self._rows())
        return (
            max(most, 0.0 if self.overview is None else measures.largest(self.overview.density()))
            or 1.0
        )

    @property
    def frames(self) -> int:
        """Frames of the bracket that was attributed; 1 for an image."""
        return len(self.image.frames)

    def by_frame(self, box: Region) -> npt.NDArray[np.float32]:
        """Return the shares of each frame in a box.

        Parameters
        ----------
        box
            A box within `region`.

        Returns
        -------
        numpy.ndarray
            (h, w, frames) float32.
        """
        shares = self.read(box)
        sums: npt.NDArray[np.float32] = shares.reshape(*shares.shape[:2], self.frames, -1).sum(
            axis=3
        )
        return sums

    @property
    def map(self) -> npt.NDArray[np.float32]:
        """Map over `region`, (h, w, bands) float32 in units of the objective.

        It sums to the record's ``sum``; of a layer, whose pixels have the value of their cell, the cells
        do, and it has one band. A dask array where it has more than `LARGEST` values.
        """
        if self.region.pixels * self.total.bands <= LARGEST:
            return self.read(self.region)
        lazy: npt.NDArray[np.float32] = lazy_array(
            lambda box: self.read(Region(*box).shift(*self.region[:2])),
            (*self.region.shape, self.total.bands),
            np.float32,
            (ROWS, COLUMNS),
        )
        return lazy

    def to_parts(self) -> dict[str, Any]:
        """Return all but the image, for another process: JSON and arrays; sums on disk by their place.

        Returns
        -------
        dict
            Sums, box, record and overview.
        """
        return {
            "sums": self.total.to_parts(),
            "box": self.box,
            "record": self.record,
            "overview": self.overview,
        }

    @classmethod
    def of_parts(
        cls,
        parts: Mapping[str, Any],
        image: Image,
        picture: Callable[[Region], npt.NDArray[np.float32]],
    ) -> Self:
        """Return the attribution that `to_parts` was called of; its sums on disk must be there still.

        Parameters
        ----------
        parts
            What `to_parts` returned.
        image
            The image that was attributed.
        picture
            Reads a box of it, (h, w, bands) in model range.

        Returns
        -------
        Attribution
            The same map; one from `to_parts` has no `output`.
        """
        total = opened_sum(parts["sums"])
        return cls(total, parts["box"], parts["record"], image, picture, parts["overview"])

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.image.height, self.image.width

    @property
    def whole(self) -> npt.NDArray[np.uint8] | None:
        """The whole image, small, (h, w, 3) uint8; None where reading it would take long."""
        return picture_of(self.image)

    def figure(self, **style: Unpack[StyleOptions]) -> Figure:
        """Return a figure of image, result, map, magnitude and area, with all settings below.

        Parameters
        ----------
        **style
            Options of the figure: `width_mm`; `exponent`, to which the magnitude is raised; `limits`, the least
            and the largest value of the colours; `panels`, some of "image", "result", "map", "over" (the map
            over the grey image), "magnitude", "area" and "overview"; `caption`, whether the settings stand below.

        Returns
        -------
        matplotlib.figure.Figure
            The figure.

        Raises
        ------
        napari_restore.errors.BadOutput
            matplotlib is not installed.
        napari_restore.errors.BadParameter
            A width or an exponent out of range.
        """
        return figure_of(self, **style)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the map, its sum over bands, with a colour bar.

        Parameters
        ----------
        axes
            Where it is drawn; None: new axes.

        Returns
        -------
        matplotlib.axes.Axes
            The axes that were drawn to.

        Raises
        ------
        napari_restore.errors.BadOutput
            matplotlib is not installed.
        """
        return plot(self, axes)

    def save(self, path: str | Path, **options: Unpack[SaveOptions]) -> Path:
        """Write what the suffix says; the record then names the file. Raises `BadOutput`.

        ``.npy``: `map`. ``.npz``: `map`, `region`, `box` and record. ``.png``, ``.svg``, ``.pdf``:
        `figure`. ``.csv``: `segments`. Else a float32 raster of the region with the image's georeference: the sum, then every
        band, of a bracket every frame, dark to bright. `options` are those of `ExportOptions`. Shares of
        an overview are written to a second raster, whose name ends in ``_overview``, and into ``.npz``.

        Parameters
        ----------
        path
            The file.
        **options
            Fields of `ExportOptions`; all but ``overwrite`` are for rasters.

        Returns
        -------
        pathlib.Path
            The file that was written.
        """
        # Imports torch, which a window that shows a map has no need of.
        from napari_restore.engine import digest

        target = Path(path)
        first = min(options.keys() - {"overwrite"}, default=None)
        if first is not None and not is_raster(target):
            raise BadOutput(
                f"{option(first)} is for rasters, and {target.name} is none.",
                "Leave it out, or write a .tif.",
            )
        overwrite, suffix = bool(options.get("overwrite")), target.suffix.lower()
        with peak_in(self.record):
            if suffix in FIGURES:
                written = draw(self, target, overwrite=overwrite)
            elif suffix in ARRAYS:
                written = self._save_arrays(target, overwrite=overwrite)
            elif suffix == SEGMENTS:
                written = self._save_segments(target, overwrite=overwrite)
            else:
                written = self._save(target, options)
        self.record["output"] = {"path": str(written), "sha256": digest(written)}
        return written

    def _save_arrays(self, path: Path, *, overwrite: bool) -> Path:
        height, width = self.region.shape
        # Not all at once: float64 and its copy are larger than the budget of a large map.
        strips = Strips((height, width, self.total.bands), np.float32, self._rows)
        if path.suffix.lower() == ARRAYS[0]:
            written = write_array(path, strips, overwrite=overwrite)
        else:
            written = write_arrays(path, self._arrays(strips), overwrite=overwrite)
        self.total.deliver()
        return written

    def _rows(self) -> Iterator[npt.NDArray[np.float32]]:
        rows = max(1, STRIP // (self.region.width * self.total.bands))
        return map(self.read, cut(self.region, rows, self.region.width))

    @property
    def _names(self) -> tuple[str, ...]:
        """What the bands of the map are called, of a bracket the frames."""
        image, count = self.image, self.total.bands
        if self.frames > 1:
            return tuple(f"frame {frame.name}" for frame in image.frames)
        known = image.data_bands if len(image.data_bands) == count else range(count)
        known = known if count <= image.bands else ()
        named = [image.descriptions[band] or image.roles[band] for band in known] or [None] * count
        return tuple(name or f"band {number}" for number, name in enumerate(named, 1))

    def _save_segments(self, path: Path, *, overwrite: bool) -> Path:
        """Write the table of segments, the largest magnitude first."""
        check_map(path, overwrite=overwrite, segments=bool(self.segments))
        rows = sorted(self.segments, key=lambda row: -abs(row["share"]))
        return write_file(path, csv_text(SEGMENT_COLUMNS, rows).encode(), overwrite=overwrite)

    def _arrays(self, strips: Strips) -> dict[str, npt.NDArray[Any] | Strips]:
        record = {name: self.record[name] for name in RECORDED if name in self.record}
        arrays: dict[str, npt.NDArray[Any] | Strips] = {
            "map": strips,
            "limit": np.array(self.limit),
            "region": np.array(self.region),
            "box": np.array(self.box),
            "record": np.array(json.dumps(record)),
        }
        if self.frames == 1:
            arrays["bands"] = np.array(self._names)
        if self.overview is not None:
            arrays["overview"] = self.overview.values
            arrays["overview_corner"] = np.array(self.overview.corner)
            arrays["overview_step"] = np.array(self.overview.step)
        return arrays

    def _save(self, path: Path, options: SaveOptions) -> Path:
        if self.overview is not None:
            self._save_overview(self.overview, overview_path(path), options)
        shares, count = self.read, 1 + self.total.bands
        if self.frames > 1:
            shares, count = self.by_frame, 1 + self.frames
        if self.record["attribution"].get("layer") is not None:
            count = 1

        def read(box: tuple[int, int, int, int]) -> npt.NDArray[np.float32]:
            return _with_sum(shares(Region(*box)))[..., :count]

        names = ("sum", *self._names)[:count]
        try:
            written = self._write(
                path, Pixels(self.region, read, count, np.float32, names=names), 1, options
            )
        except BaseException:
            # Sums on disk are kept, so that the same request need not compute them again.
            self.total.deliver(False)
            raise
        self.total.deliver()
        return written

    def _save_overview(self, overview: OverviewShares, path: Path, options: SaveOptions) -> None:
        step = overview.step
        (y, x), (height, width) = overview.corner, overview.values.shape[:2]
        region = Region(y // step, x // step, y // step + height, x // step + width)
        pixels = pixels_of(_with_sum(overview.values), region, ("sum", *self._names))
        self._write(path, pixels, step, options)

    def _write(self, path: Path, pixels: Pixels, step: int, options: SaveOptions) -> Path:
        """Write a raster each of whose pixels is `step` ones of the map along a side."""
        tags = {
            "NAPARI_RESTORE_METHOD": self.record["attribution"]["method"],
            "NAPARI_RESTORE_BOX": " ".join(map(str, self.box)),
            LIMIT_TAG: repr(self.limit),
            **({OVERVIEW_TAG: str(step)} if step > 1 else {}),
        }
        return write_map(path, pixels, step, self.kind, tags, (self.image, self.record), options)


def check_map(path: Path, *, overwrite: bool = False, segments: bool = False) -> None:
    """Raise `BadOutput` for a file that `Attribution.save` could not write, a table without `segments` among them."""
    if path.suffix.lower() == SEGMENTS and not segments:
        raise BadOutput(
            f"{path.name} is a table, and this is one map without segments.",
            f"Write a .tif, or give {option('segments')}.",
        )
    if is_raster(path):
        check_output(path, overwrite=overwrite, dtype=np.float32)
        return
    if path.suffix.lower() in FIGURES:
        check_figure(path, overwrite=overwrite)
    check_file(path, "map", option("path"), overwrite=overwrite)


def window_of(box: Region, region: Region) -> Region:
    """Return the part of `region` at most `AROUND` pixels from `box`."""
    return box.expand(AROUND).intersect(region)


def is_raster(path: Path) -> bool:
    """Return whether `Attribution.save` writes a raster there, beside which the overview's may lie."""
    return path.suffix.lower() not in (*FIGURES, *ARRAYS, SEGMENTS)


def overview_path(path: Path) -> Path:
    """Return the path of the overview's shares that belong to the raster at `path`."""
    return path.with_name(f"{path.stem}_overview{path.suffix}")


def _with_sum(part: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Prepend the sum over all to (h, w, bands or frames)."""
    return np.concatenate([part.sum(axis=2, keepdims=True), part], axis=2)
