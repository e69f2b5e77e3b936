"""`export-model`: a model as a file that other programs run."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from napari_restore.commands._arguments import load_model
from napari_restore.commands._options import add_card, add_weights, add_yes
from napari_restore.commands._result import CommandResult
from napari_restore.errors import escape_controls
from napari_restore.questions import parsing


def add(parser: Any) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "model", metavar="ID", help="an id of `napari-restore models`, or a network of your own"
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="the file to write (.onnx .pt2)"
    )
    parser.add_argument(
        "--size",
        type=parsing.natural,
        metavar="N",
        help="side in pixels of the only images it takes, for programs that want one size, such as "
        "QGIS's Deepness (default: any)",
    )
    add_weights(parser, ", which is fixed in the file")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    add_card(parser)
    add_yes(parser)


def export_model(options: Namespace) -> CommandResult:
    """Write the file, and say how far it is from the model."""
    from napari_restore import api

    model = load_model(options)
    made = api.export_model(model, options.output, size=options.size, overwrite=options.overwrite)
    inputs = (f"{name} ({' × '.join(map(str, shape))})" for name, shape in made["inputs"].items())
    sizes = ", ".join(f"{width} × {height}" for height, width in made["compared"])
    lines = [
        f"wrote {escape_controls(made['path'])}: {', '.join(inputs)} → restored",
        f"largest difference to {made['model']}: {made['difference']:.2g} of 1, on parts of the sample "
        f"({sizes})",
    ]
    if made["multiple_of"] > 1 and options.size is None:
        lines.append(f"sides of images must be multiples of {made['multiple_of']} pixels")
    if made["whole"]:
        lines.append(
            "each pixel depends on the whole image: parts of an image differ from the whole"
        )
    return CommandResult(made, "\n".join(lines), wrote_files=True)
