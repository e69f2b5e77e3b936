"""Attention of a model, as it was asked for: its maps, numbers and record, and their files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from napari_restore.engine import Region, digest
from napari_restore.errors import BadOutput, BadParameter, did_you_mean, option
from napari_restore.explain.attention.attribution_rank import RANK
from napari_restore.explain.attention.head_maps import HeadMap, HeadMaps, QueryMaps
from napari_restore.explain.attention.measures import (
    IMPORTANCE,
    NUMBERS,
    SUMMARY_COLUMNS,
    summary_rows,
)
from napari_restore.explain.attention.redundancy import Matrix
from napari_restore.explain.attention.session import ALL
from napari_restore.explain.attribution.files import csv_text, write_arrays, write_file
from napari_restore.explain.attribution.measures import largest
from napari_restore.explain.attribution.opened_maps import LIMIT_TAG, pixels_of, write_map
from napari_restore.explain.kinds import kinds_in
from napari_restore.images import Image, SaveOptions, html_of
from napari_restore.models import RANDOM_WEIGHTS

TABLE, ARRAYS = ".csv", ".npz"
COLUMNS = (
    *("query", "x", "y", "width", "height", "layer", "kind", "head", "weights"),
    *NUMBERS,
    *("diagonal", "contribution", IMPORTANCE, RANK),
    *("without_mean", "without_largest", "without_db"),
)
RECORDED = ("version", "input", "model", "extent", "context", "attention", "versions")
"""Parts of the record that a file of arrays has: those that a rerun repeats."""
AXES = {
    "weights": ("head", "candidate"),
    "cells": ("head", "candidate", "row, column"),
    "matrix": ("channel", "channel listened to"),
    "redundancy": ("head", "head"),
    "without": ("row", "column", "band"),
}
"""Names of the axes of the arrays in a file, by the last part of their name; `matrix.N` is as `matrix`."""


@dataclass(frozen=True)
class Attention:
    """Maps of every query, layer and head, with the record that repeats them."""

    queries: tuple[QueryMaps, ...]
    record: dict[str, Any] = field(repr=False)
    image: Image = field(repr=False)
    picture: Callable[[Region, int], tuple[npt.NDArray[np.float32], Region]] = field(repr=False)
    """Reads a box of the image at a coarser level, see `AttentionSource.picture`."""
    twin: tuple[QueryMaps, ...] = field(default=(), repr=False)
    """Numbers of the same queries, without maps, of the same network with random weights."""
    redundancy: Mapping[str, Matrix] = field(default_factory=dict, repr=False)
    """How alike the heads of a layer are around the queries, (heads, heads) by its name: linear CKA, see
    `HeadRedundancy`. Empty where it was not asked for."""

    def __repr__(self) -> str:
        layers = len(self.record["attention"]["layers"])
        return (
            f"<Attention {self.record['model']['id']!r} on {self.image.name!r}: "
            f"{len(self.queries)} queries, {layers} layers>"
        )

    def _repr_html_(self) -> str:
        rows = {
            "queries": "; ".join(each.query.label for each in self.queries[:3]),
            "layers": ", ".join(
                f"{each['name']} ({each['kind']}, {each['heads']} heads)"
                for each in self.record["attention"]["layers"]
            ),
            **{kind.title: kind.says for kind in kinds_in(self.record["attention"])},
            "file": "" if self.image.path is None else str(self.image.path),
        }
        return html_of(f"Attention: {self.record['model']['id']} on {self.image.name}", rows)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, in the order of computation."""
        return tuple(layer["name"] for layer in self.record["attention"]["layers"])

    def maps(self, layer: str | None = None, query: int = 0) -> HeadMaps:
        """Return the maps of a layer for one query.

        Parameters
        ----------
        layer
            Name of the layer; None: the only one there is.
        query
            Number of the query, from 0.

        Returns
        -------
        HeadMaps
            The maps of all heads.

        Raises
        ------
        napari_restore.errors.BadParameter
            There is no such layer, or none is named where there are several.
        """
        names = self.layers
        if layer is None and len(names) == 1:
            layer = names[0]
        if layer is None or layer not in names:
            raise BadParameter(
                f"There are {len(names)} layers here." if layer is None else f"{layer!r} is none.",
                did_you_mean(layer or "", names, "Name one", most=3),
            )
        return self.queries[query].maps[layer]

    def map(self, layer: str | None = None, head: str = "mean", query: int = 0) -> HeadMap:
        """Return one map at the resolution of its cells, with its place in the image.

        Raises `BadParameter` for a layer or a head that is none.

        Parameters
        ----------
        layer
            Name of the layer; None: the only one there is.
        head
            Name of the head, ``"mean"`` or ``"max"``.
        query
            Number of the query, from 0.

        Returns
        -------
        HeadMap
            Values (h, w), the cells they cover, pixels per cell.
        """
        return self.maps(layer, query).map(head)

    # -- files -------------------------------------------------------------------

    def save(
        self,
        path: str | Path,
        *,
        layer: str | None = None,
        head: str = ALL,
        **options: Unpack[SaveOptions],
    ) -> Path:
        """Write what the suffix says; raises `BadOutput`. The record then names the file.

        ``.csv``: the numbers of all heads, a row each. ``.npz``: weights and cells of all queries and
        layers, with the record. Else a float32 raster of one query and layer at the resolution of its
        cells, georeferenced: a band for each head, or that of one `head`, ``"mean"`` or ``"max"``; cells
        that were never candidates are nodata.

        Parameters
        ----------
        path
            The file.
        layer
            Name of the layer of a raster; None: the only one there is.
        head
            Name of the head of a raster, ``"mean"``, ``"max"`` or ``"all"``.
        **options
            Fields of `ExportOptions`.

        Returns
        -------
        pathlib.Path
            The file that was written.
        """
        target = Path(path)
        suffix = target.suffix.lower()
        overwrite = bool(options.get("overwrite"))
        if suffix == TABLE:
            text = csv_text(COLUMNS, self.rows())
            written = write_file(target, text.encode(), overwrite=overwrite)
        elif suffix == ARRAYS:
            written = write_arrays(target, self._arrays(), overwrite=overwrite)
        else:
            written = self._save_raster(target, self._raster_maps(layer), head, options)
        self.record["output"] = {"path": str(written), "sha256": digest(written)}
        return written

    def save_summary(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the summary of a sample as a table (.csv), a row for each head; raises `BadOutput`.

        Means of its numbers over the queries.

        Parameters
        ----------
        path
            The file, .csv.
        overwrite
            Whether a file there is replaced.

        Returns
        -------
        pathlib.Path
            The file that was written.
        """
        target = Path(path)
        summary = self.record["attention"].get("summary")
        if summary is None:
            raise BadOutput(
                "Queries that were not sampled have no summary.",
                f"Ask with {option('sample', 256)}.",
            )
        if target.suffix.lower() != TABLE:
            raise BadOutput(f"{target.name} is no table.", "Give a name that ends in .csv.")
        text = csv_text(SUMMARY_COLUMNS, summary_rows(summary))
        return write_file(target, text.encode(), overwrite=overwrite)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the numbers of every query, layer and head by the names of `COLUMNS`.

        Of every query those of the network, then those of random weights if they were asked for.

        Yields
        ------
        dict
            A row of the table.
        """
        weights = self.record["model"]["weights_sha256"]
        for number, each in enumerate(self.queries, start=1):
            yield from self._query_rows(each, number, weights)
            if self.twin:
                yield from self._query_rows(self.twin[number - 1], number, RANDOM_WEIGHTS)

    def _query_rows(
        self, each: QueryMaps, number: int, weights: str | None
    ) -> Iterator[dict[str, Any]]:
        y0, x0, y1, x1 = each.query.box
        place = {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}
        kinds = {site["name"]: site["kind"] for site in self.record["attention"]["layers"]}
        for name, heads in each.measures.items():
            site = {"layer": name, "kind": kinds[name], "weights": weights}
            for head in heads:
                yield {"query": each.query.name or number, **place, **site, **head}

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        arrays: dict[str, npt.NDArray[Any]] = {}
        for number, each in enumerate(self.queries):
            for name, maps in each.maps.items():
                key = f"{number}/{name}"
                arrays[f"{key}/weights"] = maps.weights
                arrays[f"{key}/cells"] = maps.cells
                arrays[f"{key}/heads"] = np.array(maps.site.heads)
                arrays[f"{key}/stride"] = np.array(maps.stride)
                arrays |= _measured(key, each.measures[name])
                arrays |= {f"{key}/{text}": value for text, value in maps.numbers.items()}
            for effect in each.effects:
                arrays[f"{number}/{effect.layer}/without/{effect.head}"] = effect.difference
        arrays |= {f"{name}/redundancy": matrix for name, matrix in self.redundancy.items()}
        record = {name: self.record[name] for name in RECORDED if name in self.record}
        arrays["record"] = np.array(json.dumps(record))
        arrays["scale"] = np.array(self.image.scale)
        arrays |= {f"axes.{name}": np.array(axes) for name, axes in AXES.items()}
        return arrays

    def save_effects(
        self, path: str | Path, *, layer: str, head: str = ALL, **options: Unpack[SaveOptions]
    ) -> Path:
        """Write what the heads of a layer do to the result of the first query, georeferenced.

        A float32 raster in pixels of the image with a band for each head, or that of one `head`: the
        result without it minus the result, mean over the image's bands, in model range. Raises
        `BadOutput`.

        Parameters
        ----------
        path
            The file.
        layer
            Name of the layer.
        head
            Name of the head; ``"all"``: a band for each.
        **options
            Fields of `ExportOptions`.

        Returns
        -------
        pathlib.Path
            The file that was written.
        """
        of_layer = [each for each in self.queries[0].effects if each.layer == layer]
        effects = [each for each in of_layer if head in (ALL, each.head)]
        if of_layer and not effects:
            names = ", ".join(each.head for each in of_layer)
            raise BadOutput(
                f"{layer} cannot be run without head {head}.", f"Choose among {names}, or {ALL}."
            )
        if not effects:
            raise BadOutput(
                f"No head of {layer} was left out.", f"Ask with {option('ablate', True)}."
            )
        values = np.stack([each.difference.mean(axis=2) for each in effects], axis=2)
        heads = [each.head for each in effects]
        tags = {**_tags(layer, heads), LIMIT_TAG: repr(largest(values) or 1.0)}
        called = [f"without head {each}" for each in heads]
        pixels = pixels_of(values, effects[0].region, called)
        about = (self.image, self.record)
        written = write_map(Path(path), pixels, 1, effects[0].kind, tags, about, options)
        self.record["output"] = {"path": str(written), "sha256": digest(written)}
        return written

    def _raster_maps(self, layer: str | None) -> HeadMaps:
        if len(self.queries) > 1:
            raise BadOutput(
                f"A raster has one query, but there are {len(self.queries)}.",
                "Write a .csv or .npz, or ask for one query.",
            )
        return self.maps(layer)

    def _save_raster(self, target: Path, maps: HeadMaps, head: str, options: SaveOptions) -> Path:
        heads = list(maps.site.heads) if head == ALL else [head]
        found = [maps.map(each) for each in heads]
        region = found[0].region.intersect(maps.image_cells)
        values = np.stack([each.values for each in found], axis=2)
        values = values[region.within(found[0].region)]
        asked = " ".join(map(str, self.queries[0].query.box))
        tags = {**_tags(maps.site.name, heads), "NAPARI_RESTORE_QUERY": asked}
        pixels = pixels_of(values, region, [f"head {each}" for each in heads])
        about = (self.image, self.record)
        return write_map(target, pixels, maps.stride, maps.kind, tags, about, options)


def _tags(layer: str, heads: Sequence[str]) -> dict[str, str]:
    return {"NAPARI_RESTORE_LAYER": layer, "NAPARI_RESTORE_HEADS": ", ".join(heads)}


def _measured(key: str, heads: Sequence[Mapping[str, Any]]) -> dict[str, npt.NDArray[np.float64]]:
    """Return the numbers of all heads by name, (heads,); NaN where a head has none."""
    names = dict.fromkeys(
        name for head in heads for name, value in head.items() if isinstance(value, int | float)
    )
    return {
        f"{key}/{name}": np.array([head.get(name) for head in heads], np.float64) for name in names
    }
