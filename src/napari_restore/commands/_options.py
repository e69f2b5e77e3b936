"""Groups of options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

from napari_restore._options import OTHER_BANDS
from napari_restore.api import RestoreOptions
from napari_restore.commands import _values

DEFAULTS: Mapping[str, object] = RestoreOptions().keywords()
"""Options of a plan, and the values that they have unless given."""


def given(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Return those of the options `names` that the command has."""
    return {name: getattr(options, name) for name in names if hasattr(options, name)}


def add_option(group: argparse._ActionsContainer, name: str, **how: Any) -> None:
    """Add an option of a plan by its name: the flag and the default are those of the field."""
    default = DEFAULTS[name]
    if default is False:
        how["action"] = "store_true"
    group.add_argument(f"--{name.replace('_', '-')}", default=default, **how)


def add_source(parser: argparse.ArgumentParser, *, stack: bool = True) -> None:
    """Add the options of the source image, with --stack if `stack`."""
    group = parser.add_argument_group("image")
    if stack:
        group.add_argument(
            "--stack", action="store_true", help="take several single-band files as one image"
        )
    group.add_argument(
        "--bands",
        metavar="ROLE=N[,…]",
        help="roles of the bands, counted from 1: red=4,green=3,blue=2,nir=5",
    )
    group.add_argument(
        "--sensor", metavar="NAME", help="roles and black of a sensor: landsat8, sentinel2, naip, …"
    )
    group.add_argument(
        "--allow-outside",
        action="store_true",
        help="let a VRT take pixels from files outside its own folder",
    )


def add_bracket_options(group: argparse._ActionsContainer) -> None:
    """Add the options of the frames of a bracket."""
    group.add_argument(
        "--reference",
        metavar="PATH|EV",
        help="the frame that the result replaces, with its metadata (default: the one in the middle "
        "by exposure)",
    )
    group.add_argument(
        "--align",
        choices=("auto", "off"),
        default="auto",
        help="whether to bring the frames onto the grid of the reference (default auto)",
    )
    group.add_argument(
        "--ev",
        type=float,
        nargs="+",
        metavar="EV",
        help="exposure of each frame (default: as recorded by the camera, else estimated); of one "
        "picture of light (.hdr, .exr, float TIFF) those to make frames of (default: by its range)",
    )


def add_range(group: argparse._ActionsContainer) -> None:
    """Add --black and --white."""
    for name, seen in (("black", "0: the physical zero"), ("white", "1")):
        how = f"value that the model sees as {seen}"
        add_option(group, name, type=_values.number, metavar="V", help=how)


def add_model(
    parser: argparse.ArgumentParser, *, several: bool = False, default: str | None = None
) -> argparse._ArgumentGroup:
    """Add the model and its settings; return the group for further options.

    With `several` the option may be repeated, and is stored as `models`. Without a `default` it is
    required.
    """
    model = parser.add_argument_group("model")
    named = "an id of `napari-restore models`, a weights file with its card, or FILE.py:factory"
    if several:
        model.add_argument(
            "--model",
            required=True,
            action="append",
            dest="models",
            metavar="ID[:NAME=VALUE,…]",
            help=f"{named}; NAME=VALUE sets a parameter, or weights=FILE, of this model; may be repeated",
        )
    else:
        if default is not None:
            named = f"{named} (default {default})"
        model.add_argument(
            "--model", required=default is None, default=default, metavar="ID", help=named
        )
    model.add_argument("--weights", metavar="FILE|random:SEED", help="weights of the network")
    model.add_argument(
        "--set",
        action="append",
        default=[],
        type=_values.assignment,
        metavar="NAME=VALUE",
        help="a parameter of the model; may be repeated",
    )
    model.add_argument(
        "--yes", action="store_true", help="run the Python code of FILE.py without asking"
    )
    return model


def add_machine(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add memory, device and extent; return the group for further options."""
    engine = parser.add_argument_group("engine")
    add_resources(engine)
    add_option(
        engine,
        "extent",
        choices=("image", "region"),
        help="context of a global model: the whole image (default), or only the region, as a draft",
    )
    add_option(
        engine,
        "scratch",
        metavar="DIR",
        help="folder for unfinished results and residuals (default: the cache)",
    )
    return engine


def add_cluster(group: argparse._ActionsContainer) -> None:
    """Add --cluster."""
    group.add_argument(
        "--cluster",
        metavar="local:N|tcp://HOST:PORT|FILE.json",
        help="compute on N processes of this machine, or on the workers of a dask scheduler",
    )


def add_resources(group: argparse._ActionsContainer) -> None:
    """Add --memory, --device-memory and --device."""
    for name, metavar, how in (
        ("memory", "SIZE", "RAM that a run may add, for example 2GiB"),
        ("device_memory", "SIZE", "memory of the device that a run may use"),
        ("device", "NAME", "auto (default), cpu, cuda, cuda:1, mps"),
    ):
        add_option(group, name, metavar=metavar, help=how)


def add_exclude(group: argparse._ActionsContainer) -> None:
    """Add --exclude."""
    add_option(
        group, "exclude", metavar="MASK", help="leave these pixels unchanged, and out of statistics"
    )


def add_context(group: argparse._ActionsContainer) -> None:
    """Add --context."""
    add_option(
        group,
        "context",
        metavar="first|joint|FILE",
        help="take airlight and value ranges from the first image, from all together, or from a file",
    )


def add_run_options(
    parser: argparse.ArgumentParser, *, model: str | None = None, stack: bool = True
) -> None:
    """Add the options that `plan`, `restore` and `fuse` share.

    `model` is the one that runs unless another is named; None: one must be.
    """
    add_source(parser, stack=stack)

    # Only brackets are cut to what all of their frames show.
    parser.set_defaults(crop=False)
    region = parser.add_argument_group("region (default: the whole image)")
    box = region.add_mutually_exclusive_group()
    box.add_argument(
        "--srcwin",
        action="append",
        nargs=4,
        type=int,
        metavar=("X", "Y", "WIDTH", "HEIGHT"),
        help="a box of pixels, origin top left; may be repeated",
    )
    box.add_argument(
        "--projwin",
        nargs=4,
        type=_values.number,
        metavar=("ULX", "ULY", "LRX", "LRY"),
        help="a box in the image's coordinate system",
    )
    add_option(
        region,
        "mask",
        metavar="FILE|WKT",
        help="strength per pixel: a raster of 0 to 1, GeoJSON polygons, or a GeoJSON line of two "
        "points from strength 0 to 1. Polygons and line may be text, as POLYGON ((X Y, …)), in the "
        "image's coordinate system, or in pixels if it has none",
    )
    add_option(
        region,
        "feather",
        type=_values.count,
        metavar="N",
        help="soften the mask's edge over N pixels",
    )
    add_exclude(region)

    chosen = add_model(parser, default=model)
    add_option(
        chosen,
        "strength",
        type=_values.number,
        metavar="S",
        help="share of the model's change to apply (default 1)",
    )
    add_option(
        chosen,
        "luminance_only",
        help="apply the change to the lightness and keep the image's colours",
    )
    for tones, extreme in (("shadows", "darkest"), ("highlights", "brightest")):
        add_option(
            chosen,
            f"protect_{tones}",
            type=_values.number,
            metavar="P",
            help=f"protect the {extreme} tones from the change, from 0 (default) to 1, fully",
        )
    add_option(
        chosen,
        "exposure",
        type=_values.number_or_auto,
        metavar="EV|auto",
        help="brighten the result by EV (default 0), or by what the restoration darkened it",
    )

    values = parser.add_argument_group("values")
    add_range(values)
    add_option(
        values,
        "other_bands",
        choices=OTHER_BANDS,
        help="what happens to bands that are no input of the model",
    )

    engine = add_machine(parser)
    add_option(
        engine,
        "tile",
        type=_values.natural_or_whole,
        metavar="N|whole",
        help="side of a tile's core in pixels (default: by the plan)",
    )
    add_option(engine, "tile_batch", type=_values.natural, metavar="N", help="tiles per batch")
    add_option(
        engine,
        "precision",
        choices=("auto", *_values.FLOATS),
        help="precision of the model (default float32); auto: bfloat16 for 8-bit images where "
        "the processor has it and results differ by a step at most",
    )
    add_option(
        engine,
        "residuals",
        choices=("auto", "device", "ram", "disk", "recompute-first", "recompute"),
        help="where a model that sees the whole image keeps its maps (default auto: "
        "the fastest place within the budgets)",
    )
    add_option(
        engine,
        "residual_dtype",
        choices=_values.FLOATS,
        metavar="NAME",
        help="precision of the residuals (default that of --precision); the record has the error",
    )
    add_context(engine)
    add_cluster(engine)
    engine.add_argument(
        "--fail-fast", action="store_true", help="of several images, stop at the first that fails"
    )
    resume = engine.add_mutually_exclusive_group()
    resume.add_argument(
        "--resume",
        action="store_false",
        dest="fresh",
        default=False,
        help="resume an unfinished run of the same command (default)",
    )
    resume.add_argument(
        "--fresh", action="store_true", help="discard an unfinished run and start again"
    )


def add_output_options(
    parser: argparse.ArgumentParser, *, name: str | None = "{stem}_clear{suffix}"
) -> None:
    """Add the options of the output files; `name` is that of several, None where there is one."""
    output = parser.add_argument_group("output")
    output.add_argument("--overwrite", action="store_true", help="replace files that exist")
    output.add_argument("--cog", action="store_true", help="write a cloud-optimised GeoTIFF")
    output.add_argument(
        "--compress", metavar="NAME", help="of a TIFF: deflate (default), zstd, lzw, jpeg, none"
    )
    output.add_argument("--bit-depth", type=int, choices=(8, 16), help="bits per value of a photo")
    output.add_argument(
        "--quality", type=_values.natural, metavar="Q", help="of JPEG and WebP, 1 to 100"
    )
    output.add_argument("--maps", metavar="DIR", help="also write the model's side maps here")
    output.add_argument(
        "--record", metavar="FILE", help="also write the run's record; FILE may contain {stem}"
    )
    if name is not None:
        output.add_argument(
            "--name",
            default=name,
            metavar="PATTERN",
            help=f"names of the files in DIR (default {name})",
        )
