"""All commands and options. Loads nothing heavy: `--help` must be quick."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from napari_restore._commands import _evaluate, _haze, _look, _restore, _train, _values

EPILOG = """\
exit codes: 0 done, 1 a bug, 2 bad input, 3 stopped by Ctrl-C,
4 out of memory budget, device memory or disk (finished tiles are kept)

A stopped run goes on where it was when the same command is given again.
"""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without repeating the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"napari-restore: {message} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from napari_restore import __version__

        print(f"napari-restore {__version__}")
        parser.exit()


def build_parser() -> Parser:
    """The parser; every command sets `run`, a function of the options."""
    parser = Parser(
        prog="napari-restore",
        description="Restore huge images, region by region, within a memory budget.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)

    view = _command(commands, "view", _look.view, "open napari with the images and the panel")
    view.add_argument("paths", nargs="*", metavar="PATH", help="images to open")

    models = _command(commands, "models", _look.models, "list the models, or show one")
    models.add_argument("id", nargs="?", metavar="ID", help="show this model in full")

    info = _command(commands, "info", _look.info, "show what is known of an image")
    info.add_argument("paths", nargs="+", metavar="PATH", help="the image (several with --stack)")
    _add_source(info)
    _add_range(info)

    plan = _command(commands, "plan", _restore.plan, "show what restore would do, without doing it")
    plan.add_argument("paths", nargs="+", metavar="PATH", help="the image (several with --stack)")
    _add_run_options(plan)

    restore = _command(commands, "restore", _restore.restore, "restore images and write them")
    restore.add_argument(
        "paths", nargs="+", metavar="PATH", help="images to restore, or folders of them"
    )
    restore.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT|DIR",
        help="the file to write (.tif .zarr .png .jpg), or the folder for several images",
    )
    _add_run_options(restore)
    _add_output_options(restore)

    _haze.add(_command(commands, "haze", _haze.haze, "make hazy pictures of clear ones"))
    _train.add(_command(commands, "train", _train.train, "train a network, or go on training it"))

    _evaluate.add(
        _command(
            commands, "evaluate", _evaluate.evaluate, "score models on hazy and clear pictures"
        )
    )

    rerun = _command(commands, "rerun", _restore.rerun, "repeat the run of a record")
    rerun.add_argument("record", metavar="RECORD", help="the JSON file that --record wrote")
    rerun.add_argument("-o", "--output", metavar="OUT", help="write here, not where the run wrote")
    rerun.add_argument("--overwrite", action="store_true", help="replace the output if it exists")

    cache = _command(commands, "cache", _look.cache, "show what lies in the cache")
    cache.add_argument("--clear", action="store_true", help="remove everything in it")
    return parser


def _command(commands: Any, name: str, run: Any, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + ".", allow_abbrev=False
    )
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument(
        "--progress",
        choices=("auto", "json", "off"),
        default="auto",
        help="what goes to stderr: lines for people, JSON lines, or errors only",
    )
    return parser


def _add_source(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("image")
    group.add_argument(
        "--stack", action="store_true", help="take several single-band files as one image"
    )
    group.add_argument(
        "--bands",
        metavar="ROLE=N[,…]",
        help="which band is what, counted from 1: red=4,green=3,blue=2,nir=5",
    )
    group.add_argument("--sensor", metavar="NAME", help="preset: landsat8, sentinel2, naip, …")


def _add_range(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--black",
        type=_values.number,
        metavar="V",
        help="value of no light, the physical zero",
    )
    group.add_argument(
        "--white", type=_values.number, metavar="V", help="value the model takes as full light"
    )


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    """What `plan` and `restore` share."""
    _add_source(parser)

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
    region.add_argument(
        "--mask",
        metavar="FILE",
        help="local strength: a raster 0 to 1, GeoJSON polygons, or one line of two points, "
        "0 at its first and 1 at its last",
    )
    region.add_argument(
        "--feather",
        type=_values.count,
        default=0,
        metavar="N",
        help="soften the mask's edge over N pixels",
    )
    region.add_argument(
        "--exclude", metavar="MASK", help="leave these pixels alone, and out of statistics"
    )

    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        required=True,
        metavar="ID",
        help="a name from `napari-restore models`, a weights file with its card, or FILE.py:factory",
    )
    model.add_argument("--weights", metavar="FILE|random:SEED", help="the network's weights")
    model.add_argument(
        "--set",
        action="append",
        default=[],
        type=_values.assignment,
        metavar="NAME=VALUE",
        help="a parameter of the model; may be repeated",
    )
    model.add_argument(
        "--strength",
        type=_values.number,
        default=1.0,
        metavar="S",
        help="how much of the model's change is applied (default 1)",
    )
    model.add_argument(
        "--luminance-only",
        action="store_true",
        help="apply the change to the lightness and keep the image's colours",
    )
    for tones, extreme in (("shadows", "darkest"), ("highlights", "brightest")):
        model.add_argument(
            f"--protect-{tones}",
            type=_values.number,
            default=0.0,
            metavar="P",
            help=f"how much of the change the {extreme} tones are spared, 0 to 1 (default 0)",
        )
    model.add_argument(
        "--yes", action="store_true", help="run the Python code of FILE.py without asking"
    )

    values = parser.add_argument_group("values")
    _add_range(values)
    values.add_argument(
        "--other-bands",
        choices=("correct", "copy", "drop"),
        help="what happens to bands the model does not see",
    )

    engine = parser.add_argument_group("engine")
    engine.add_argument("--memory", metavar="SIZE", help="RAM the run may add, for instance 2GiB")
    engine.add_argument("--device-memory", metavar="SIZE", help="the same for the device")
    engine.add_argument(
        "--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda, cuda:1, mps"
    )
    engine.add_argument(
        "--tile",
        type=_values.natural_or_whole,
        metavar="N|whole",
        help="side of a tile's core in pixels",
    )
    engine.add_argument(
        "--tile-batch", type=_values.natural, metavar="N", help="tiles a model sees at once"
    )
    engine.add_argument(
        "--extent",
        choices=("image", "region"),
        default="image",
        help="what a global model knows: the whole image (default), or as a draft the region only",
    )
    engine.add_argument(
        "--precision",
        choices=_values.FLOATS,
        default="float32",
        help="floats the model computes in (default float32)",
    )
    engine.add_argument(
        "--residuals",
        choices=("auto", "device", "ram", "disk", "recompute-first", "recompute"),
        default="auto",
        help="where a staged model's encoder leaves what its decoder needs (default auto: "
        "whatever is quickest within the budgets)",
    )
    engine.add_argument(
        "--residual-dtype",
        choices=_values.FLOATS,
        metavar="NAME",
        help="floats it is left in (default those of --precision); the error is in the record",
    )
    engine.add_argument(
        "--scratch", metavar="DIR", help="where unfinished results and residuals are kept"
    )
    engine.add_argument(
        "--context",
        metavar="first|joint|FILE",
        help="take airlight and ranges from the first image, from all together, or from a file",
    )
    again = engine.add_mutually_exclusive_group()
    again.add_argument(
        "--resume",
        action="store_false",
        dest="fresh",
        default=False,
        help="go on with an unfinished run of the same command (default)",
    )
    again.add_argument("--fresh", action="store_true", help="discard it and start anew")


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    output = parser.add_argument_group("output")
    output.add_argument("--overwrite", action="store_true", help="replace files that exist")
    output.add_argument("--cog", action="store_true", help="write a cloud-optimised GeoTIFF")
    output.add_argument(
        "--compress", metavar="NAME", help="deflate (default), zstd, lzw, jpeg, none"
    )
    output.add_argument("--bit-depth", type=int, choices=(8, 16), help="bits per value of a photo")
    output.add_argument("--quality", type=_values.natural, metavar="Q", help="of JPEG, 1 to 100")
    output.add_argument("--maps", metavar="DIR", help="also write the model's side maps here")
    output.add_argument(
        "--record", metavar="FILE", help="also write the run's record; may hold {stem}"
    )
    output.add_argument(
        "--name",
        default="{stem}_clear{suffix}",
        metavar="PATTERN",
        help="file names in a folder (default {stem}_clear{suffix})",
    )
