"""Groups of options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable
from typing import Any

from napari_restore.errors import did_you_mean
from napari_restore.questions import (
    Adjustment,
    Computing,
    Format,
    Machine,
    Opening,
    Reading,
    Restore,
    Target,
    options_of,
    parsing,
)

RANGE = ("black", "white")
EXCLUDE = ("exclude", "exclude_values", "exclude_bits", "exclude_where")
RESOURCES = ("memory", "device_memory", "device")


def given(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Return those of the options `names` that the command has."""
    return {name: getattr(options, name) for name in names if hasattr(options, name)}


def add_option(
    group: argparse._ActionsContainer, name: str, question: type = Restore, **how: Any
) -> None:
    """Add the flag of a field; `how` replaces what the field says of it."""
    asked = options_of(question)[name]
    group.add_argument(asked.flag, **asked.argument | how)


def add_options(
    group: argparse._ActionsContainer, question: type, *names: str, but: Collection[str] = ()
) -> None:
    """Add the flags of the fields `names` of a question; without any, of all `but` some."""
    for name, asked in options_of(question).items():
        if asked.has_flag and name not in but and (not names or name in names) and not asked.among:
            add_option(group, name, question)


def _add_adjust(group: argparse._ActionsContainer) -> None:
    """Add --strength and --adjust."""
    add_options(group, Adjustment)
    fields = {each.word: each for each in options_of(Adjustment).values() if each.among}
    group.set_defaults(**{each.name: each.default for each in fields.values()})
    lines = (f"{word}{_value_of(each)}: {each.help}" for word, each in fields.items())
    text = f"tone and colour of the result; may be repeated. {'. '.join(lines)}"
    group.add_argument("--adjust", action=_Adjust, const=fields, metavar="NAME=VALUE", help=text)


def _value_of(field: Any) -> str:
    return "" if field.default is False else f"={field.metavar}"


class _Adjust(argparse.Action):
    """Sets the field of an `Adjustment` that NAME=VALUE names, or NAME alone of a switch."""

    def __call__(self, parser: Any, namespace: Any, text: Any, flag: str | None = None) -> None:
        word, _, value = text.partition("=")
        field, wrong = self.const.get(word), argparse.ArgumentTypeError
        try:
            if field is None:
                raise wrong(did_you_mean(word, list(self.const), "Choose from"))
            if bool(value) is (field.default is False):
                raise wrong(f"give {word}{_value_of(field)}")
            setattr(namespace, field.name, field.parse(value) if value else True)
        except wrong as error:
            raise argparse.ArgumentError(self, f"{word}: {error}") from None


def add_source(
    parser: argparse.ArgumentParser, *, stack: bool = True, planes: bool = False
) -> None:
    """Add the options of the source image, with --stack if `stack`; `planes` takes several of them."""
    group = parser.add_argument_group("image")
    later = ("plane", "allow_outside")
    add_options(group, Opening, but=later if stack else ("stack", *later))
    several: dict[str, Any] = {}
    if planes:
        more = "; several go into one file with the same axes"
        several = {"help": f"{options_of(Opening)['plane'].help}{more}", "metavar": "N|all|A:B"}
        several["type"] = parsing.count_or_planes
    add_option(group, "plane", Opening, **several)
    add_option(group, "allow_outside", Opening)


def add_yes(group: argparse._ActionsContainer) -> None:
    """Add --yes."""
    group.add_argument("--yes", action="store_true", help="run Python code in files without asking")


def add_explained_image(parser: argparse.ArgumentParser) -> None:
    """Add the options of the image, or bracket, that `attribute` and `attend` take."""
    add_source(parser)
    bracket = parser.add_argument_group("bracket, for models that fuse")
    bracket.add_argument(
        "--bracket", action="store_true", help="take the images as the frames of one bracket"
    )
    add_bracket_options(bracket)


def add_reading(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add how values are read, and the machine, for `attribute` and `attend`; return its group."""
    values = parser.add_argument_group("values")
    add_options(values, Reading, *RANGE)
    add_options(values, Reading, *EXCLUDE)
    engine = add_machine(parser)
    add_option(engine, "context")
    return engine


def add_overwrite(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add --overwrite; return the group for further options of the output."""
    output = parser.add_argument_group("output")
    output.add_argument("--overwrite", action="store_true", help="replace files that exist")
    return output


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


def add_model(
    parser: argparse.ArgumentParser, *, several: bool = False, default: str | None = None
) -> argparse._ArgumentGroup:
    """Add the model and its settings; return the group for further options.

    With `several` the option may be repeated, and is stored as `models`. Without a `default` it is
    required.
    """
    model = parser.add_argument_group("model")
    named = "an id of `napari-restore models`, a weights file, or FILE.py:factory"
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
    add_weights(model)
    if not several:
        add_card(model)
    add_yes(model)
    return model


def add_weights(group: argparse._ActionsContainer) -> None:
    """Add the options of a model's weights and parameters."""
    group.add_argument("--weights", metavar="FILE|random:SEED", help="weights of the network")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        type=parsing.assignment,
        metavar="NAME=VALUE",
        help="a parameter of the model; may be repeated",
    )


def add_card(group: argparse._ActionsContainer) -> None:
    """Add --card."""
    group.add_argument(
        "--card",
        action="append",
        default=[],
        type=parsing.assignment,
        metavar="FIELD=VALUE",
        help="a field of the card of your own model, such as value_range=[-1,1] or noise_level=25; "
        "may be repeated",
    )


def add_machine(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add memory, device and extent; return the group for further options."""
    engine = parser.add_argument_group("engine")
    add_options(engine, Machine, *RESOURCES)
    add_option(engine, "extent")
    add_options(engine, Machine, but=RESOURCES)
    return engine


def add_cluster(group: argparse._ActionsContainer) -> None:
    """Add --cluster."""
    group.add_argument(
        "--cluster",
        metavar="local:N|tls://HOST:PORT|FILE.json",
        help="compute on N processes of this machine, or on the workers of a dask scheduler; one without "
        "certificates is insecure+tcp://HOST:PORT: whoever reaches it can run programs as you",
    )


def add_run_options(
    parser: argparse.ArgumentParser, *, model: str | None = None, **source: bool
) -> None:
    """Add the options that `plan`, `restore` and `fuse` share; `source` as in `add_source`.

    `model` is the one that runs unless another is named; None: one must be.
    """
    add_source(parser, **source)
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
        type=parsing.number,
        metavar=("ULX", "ULY", "LRX", "LRY"),
        help="a box in the image's coordinate system",
    )
    add_options(region, Target)
    add_options(region, Reading, *EXCLUDE)
    _add_adjust(add_model(parser, default=model))
    values = parser.add_argument_group("values")
    add_options(values, Reading, *RANGE)
    add_options(values, Reading, but=(*RANGE, *EXCLUDE, "extent", "context"))
    engine = add_machine(parser)
    add_options(engine, Computing)
    add_option(engine, "context")
    add_cluster(engine)
    engine.add_argument(
        "--fail-fast", action="store_true", help="of several images, stop at the first that fails"
    )
    engine.add_argument(
        "--fresh",
        action="store_true",
        help="discard an unfinished run and start again (default: resume it)",
    )


def add_output(parser: argparse.ArgumentParser, several: str) -> None:
    """Add --output, a folder for `several`."""
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT|DIR",
        help=f"the file to write (.tif .zarr .png .jpg .webp), or the folder for several {several}",
    )


def add_format_options(group: argparse._ArgumentGroup) -> None:
    """Add the options of a file's format."""
    add_options(group, Format)
    # What is not given depends on the format.
    group.set_defaults(compress=None)


def add_output_options(
    parser: argparse.ArgumentParser, *, name: str = "{stem}_clear{suffix}"
) -> None:
    """Add the options of the output files; `name` is that of several."""
    output = add_overwrite(parser)
    add_format_options(output)
    output.add_argument("--maps", metavar="DIR", help="also write the model's side maps here")
    output.add_argument(
        "--record", metavar="FILE", help="also write the run's record; FILE may contain {stem}"
    )
    output.add_argument(
        "--name",
        default=name,
        metavar="PATTERN",
        help=f"names of the files in DIR (default {name})",
    )
