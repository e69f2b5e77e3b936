"""Export of models as graphs that other programs run: ONNX, and PyTorch's .pt2."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_restore.api._images import Pathlike, Region, open_image
from napari_restore.api._models import as_model, load_model
from napari_restore.errors import BadModel, BadOutput, BadParameter, BadRegion, option

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from napari_restore.models import Exported, RestorationModel

_SIDES = ((256, 384), (136, 200))
"""Height and width of the parts of the sample that a file is compared on."""
_CORNER = (700, 900)
"""Row and column of the sample where they begin."""
_EV = (-2, 0, 2)
"""Exposures of the sample that make a bracket of it."""
_OVERLAP = 25
"""Least per cent by which tiles of other programs overlap."""


def export_model(
    model: Any, path: Pathlike, *, size: int | None = None, overwrite: bool = False
) -> dict[str, Any]:
    """Write `model` as one graph, which other programs can run; returns what was written.

    The file is written beside `path`, run on parts of the sample picture, compared with `model`
    there, and renamed only if no value of [0, 1] differs by more than 1e-4.

    Parameters
    ----------
    model
        As for `restore`: an id, a file, a module or a loaded model.
    path
        The file to write: ``.onnx``, or ``.pt2`` for `torch.export.load`.
    size
        Side in pixels of the only images that the graph is to take, for programs that want one size;
        by default it takes any.
    overwrite
        Whether an existing file may be replaced.

    Returns
    -------
    dict
        ``path``, ``model``, ``inputs`` and ``outputs`` by name, ``difference`` (the largest one, of
        values in [0, 1]), ``compared`` (height and width of the pictures) and ``metadata``.

    Raises
    ------
    BadModel, BadOutput, BadParameter
    """
    from napari_restore.models import write_graph

    target, loaded = Path(path), load_model(model)
    _check_target(target, overwrite)
    graph = _measured(loaded)
    _check_size(loaded, graph, size)
    sides = _SIDES if size is None else ((size, size),)
    examples = [_example(loaded, graph, *each) for each in sides]
    metadata = _metadata(loaded, graph, size)
    try:
        worst = write_graph(loaded.card.id, graph, target, examples, size=size, metadata=metadata)
    except OSError as error:
        raise BadOutput(
            f"{target.name} cannot be written ({error.strerror}).", "Choose another place."
        ) from error
    inputs: dict[str, list[Any]] = {
        name: list(each.shape) for name, each in zip(graph.names, examples[0][0], strict=True)
    }
    if size is None:
        inputs = {
            name: [*shape[:-2], "H", "W"] if len(shape) == 4 else shape
            for name, shape in inputs.items()
        }
    return {
        "path": str(target),
        "model": loaded.card.id,
        "inputs": inputs,
        "outputs": ["restored"],
        "multiple_of": graph.multiple_of,
        "whole": graph.whole,
        "difference": worst,
        "compared": [list(each) for each in sides],
        "metadata": metadata,
    }


def exported_inputs(
    model: Any, image: Any, box: Sequence[int] | None = None
) -> dict[str, npt.NDArray[np.float32]]:
    """Return what the file of `export_model` takes for a box of an image.

    The statistics of the whole image are computed here, as a run does.

    Parameters
    ----------
    model
        As for `export_model`.
    image
        As for `open_image`.
    box
        (y0, x0, y1, x1) in pixels, by default all of the image.

    Returns
    -------
    dict
        Arrays by the names of the file's inputs, pixels in [0, 1].

    Raises
    ------
    napari_restore.errors.BadModel
        The model is not one that can be exported.
    napari_restore.errors.BadRegion
        The box has no pixel of the image.
    """
    from napari_restore.engine import make_plan
    from napari_restore.engine.gradients import GradientSource

    loaded, opened = as_model(model), open_image(image)
    graph = loaded.exported()
    whole = Region(0, 0, opened.height, opened.width)
    if box is not None and len(box) != len(whole):
        raise BadRegion(f"{box} is no box.", "Give (y0, x0, y1, x1) in pixels.")
    where = whole if box is None else Region(*box).intersect(whole)
    if where.is_empty:
        raise BadRegion(
            f"The box has no pixel of the image of {opened.width} × {opened.height} pixels.",
            "Boxes are y0, x0, y1, x1 from the top left corner.",
        )
    plan = make_plan(opened, loaded)
    with GradientSource(plan, lambda event: None, threading.Event()) as source:
        x = source.image(where)
        statistics = source.work.statistics_at([where], x) if graph.inputs else {}
        tensors = graph.tensors(x, statistics or {})
    return {name: each.numpy(force=True) for name, each in zip(graph.names, tensors, strict=True)}


def _check_target(target: Path, overwrite: bool) -> None:
    from napari_restore.models import GRAPHS

    if target.suffix.lower() not in GRAPHS:
        raise BadOutput(
            f"{target.name} names no format of graphs.",
            f"Its name must end in {' or '.join(GRAPHS)}.",
        )
    if target.exists() and not overwrite:
        raise BadOutput(
            f"{target.name} exists already.", f"Use {option('overwrite', True)} to replace it."
        )
    if not target.absolute().parent.is_dir():
        raise BadOutput(f"There is no folder {target.parent}.", "Make it first.")
    needed = ("onnx", "onnxruntime") if target.suffix.lower() == ".onnx" else ()
    for package in needed:
        if find_spec(package) is None:
            raise BadModel(
                f"Writing {target.name} needs {package}, which is not installed.",
                'Install it: pip install "napari-restore[onnx]".',
            )


def _measured(model: RestorationModel) -> Exported:
    """Return the graph of `model`; of one of the user's own halo and reach are measured first."""
    from napari_restore.engine import probe

    graph = model.exported()
    if not model.takes_whole:
        return graph
    found = probe(model)
    return replace(graph, whole=graph.whole or bool(found.why_whole(1, 1)))


def _check_size(model: RestorationModel, graph: Exported, size: int | None) -> None:
    step = graph.multiple_of
    if size is None and graph.one_size:
        raise BadParameter(
            f"A graph of {model.card.id} holds for one size only.",
            f"Name it: {option('size', 512)}.",
        )
    if size is None:
        return
    if not isinstance(size, int):
        raise BadParameter(f"A size of {size!r} is no whole number.", f"Use {option('size', 512)}.")
    if size % step or not 16 <= size <= 4096:
        least, most = -(-16 // step) * step, 4096 // step * step
        raise BadParameter(
            f"{model.card.id} takes multiples of {step} pixels, of 16 to 4096; not {size}.",
            f"Use {option('size', min(most, max(least, -(-size // step) * step)))}.",
        )


def _example(
    model: RestorationModel, graph: Exported, height: int, width: int
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return the inputs for a part of the sample, and what the model makes of it."""
    import numpy as np
    import torch

    from napari_restore.models import one_shot_statistics, reflected
    from napari_restore.sample import SAMPLE

    image, step = open_image(SAMPLE), graph.multiple_of
    sides = [-(-side // step) * step for side in (height, width)]
    # Of a large size the sample is reflected.
    rows, columns = (
        reflected(most, side, torch.device("cpu"), -first).numpy()
        for most, side, first in zip((image.height, image.width), sides, _CORNER, strict=True)
    )
    pixels = np.asarray(image.levels[0])
    light = pixels[rows][:, columns].astype(np.float32) / 255
    if graph.planes % 3 == 0 and graph.planes > 3:
        light = np.concatenate([np.clip(light * 2.0**ev, 0, 1) for ev in _EV], axis=2)
    repeated = -(-graph.planes // light.shape[2])
    light = np.tile(light, (1, 1, repeated))[..., : graph.planes]
    x = torch.from_numpy(np.ascontiguousarray(light.transpose(2, 0, 1), np.float32))[None]
    with torch.inference_mode():
        statistics = one_shot_statistics(model, x) if graph.inputs else {}
        tensors = tuple(each.clone() for each in graph.tensors(x, statistics))
        restored = model(x, statistics or None)
    return tensors, restored


def _metadata(model: RestorationModel, graph: Exported, size: int | None) -> dict[str, str]:
    """Return what the file says of itself; without a prefix what QGIS's Deepness reads, as JSON."""
    card = model.card
    said = {
        "model": card.id,
        "version": version("napari-restore"),
        "weights_sha256": card.weights_sha256 or "",
        "licence": card.licence,
        "source": card.source,
        "value_range": "[0, 1]",
        "multiple_of": str(graph.multiple_of),
        "halo": "all of the image" if graph.whole else str(card.halo),
        "parameters": json.dumps(dict(card.values)),
        "inputs": json.dumps({"image": f"1 × {graph.planes} × H × W", **(graph.inputs or {})}),
    }
    metadata = {f"napari_restore.{name}": text for name, text in said.items()}
    if size is not None and len(graph.names) == 1 and graph.planes == 3:
        overlap = max(_OVERLAP, -(-200 * card.halo // size))
        names = {str(n): name for n, name in enumerate(card.roles or ("1", "2", "3"))}
        metadata |= {
            "model_type": json.dumps("Superresolution"),
            "class_names": json.dumps(names),
            "tile_size": json.dumps(size),
            # The name in its documentation; the one above is read.
            "tiles_size": json.dumps(size),
            "tiles_overlap": json.dumps(min(80, overlap)),
        }
    return metadata
