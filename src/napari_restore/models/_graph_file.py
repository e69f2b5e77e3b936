"""Files of graphs, compared with the model they were made of before they are kept."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from napari_restore._replacing import replacing
from napari_restore.errors import BadModel, RestoreError, option
from napari_restore.models._exported import Exported
from napari_restore.models._onnx import silent_onnxruntime

GRAPHS = (".onnx", ".pt2")
"""Suffixes of the files that can be written."""
MOST = 1e-4
"""Largest difference between a file and its model, in values of [0, 1]."""
_OPSET = 18


@dataclass(frozen=True)
class _Asked:
    """What a file is to hold."""

    name: str
    """Of the model."""
    graph: Exported
    size: int | None
    """Pixels of a side of the images that it takes; None: any."""
    metadata: Mapping[str, str]


def write_graph(
    name: str,
    graph: Exported,
    target: Path,
    examples: Sequence[tuple[tuple[Tensor, ...], Tensor]],
    *,
    size: int | None,
    metadata: Mapping[str, str],
) -> float:
    """Write the graph of the model `name`; return its largest difference from `examples`.

    Those are inputs and what the model makes of them; the graph is traced on the first. It takes
    images of `size` pixels a side only; None: any. Raises `BadModel` where nothing is kept, `OSError`.
    """
    asked = _Asked(name, graph, size, metadata)
    with replacing(target) as part:
        _write(asked, part, examples[0][0])
        worst = max(_difference(part, graph, *each) for each in examples)
        if not worst <= MOST:
            raise BadModel(
                f"The file of {name} differs from the model by {worst:.2g}, so it is not kept.",
                "Please report this.",
            )
    return worst


def _write(asked: _Asked, part: Path, tensors: tuple[Tensor, ...]) -> None:
    """Write the graph; raises `BadModel`."""
    copies = tuple(each.detach().clone() for each in tensors)
    try:
        # Exporters print graphs where they fail.
        quiet = contextlib.redirect_stdout(io.StringIO())
        with torch.no_grad(), warnings.catch_warnings(), quiet:
            # What holds for one size only is known, and compared below.
            warnings.simplefilter("ignore")
            write = _write_onnx if part.suffix.lower() == ".onnx" else _write_pt2
            write(asked, part, copies)
    except (RestoreError, OSError):
        raise
    except Exception as error:  # exporters raise anything
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise BadModel(
            f"{asked.name} cannot be exported as {part.suffix}: {first}.",
            f"Try {' or '.join(s for s in GRAPHS if s != part.suffix.lower())}, or name a size with "
            f"{option('size', 512)}.",
        ) from error


def _write_onnx(asked: _Asked, part: Path, tensors: tuple[Tensor, ...]) -> None:
    import onnx

    graph, size = asked.graph, asked.size
    axes = {2: "height", 3: "width"}
    maps = [name for name, each in zip(graph.names, tensors, strict=True) if each.ndim == 4]
    torch.onnx.export(
        graph.module.eval(),
        tensors,
        str(part),
        dynamo=False,
        input_names=list(graph.names),
        output_names=["restored"],
        dynamic_axes=None if size else dict.fromkeys((*maps, "restored"), axes),
        opset_version=_OPSET,
    )
    made = onnx.load(part)
    onnx.helper.set_model_props(made, dict(asked.metadata))
    # The exporter does not know the shape behind reshaped parts.
    shape = made.graph.output[0].type.tensor_type.shape
    shape.ClearField("dim")
    for side in (1, 3, size or "height", size or "width"):
        dim = shape.dim.add()
        if isinstance(side, int):
            dim.dim_value = side
        else:
            dim.dim_param = side
    if (bands := tensors[0].shape[1]) % 3:
        shape.dim[1].dim_value = bands
    onnx.checker.check_model(made)
    onnx.save(made, part)


def _write_pt2(asked: _Asked, part: Path, tensors: tuple[Tensor, ...]) -> None:
    graph, step = asked.graph, asked.graph.multiple_of
    height, width = (torch.export.Dim(name, min=2, max=1 << 16) for name in ("height", "width"))
    # `1 * dim` would be another dimension.
    sides = {2: step * height, 3: step * width} if step > 1 else {2: height, 3: width}
    shapes = tuple(sides if each.ndim == 4 else None for each in tensors)
    program = torch.export.export(
        graph.module.eval(), tensors, dynamic_shapes=None if asked.size else shapes, strict=False
    )
    torch.export.save(
        program, part, extra_files={"napari_restore.json": json.dumps(dict(asked.metadata))}
    )


def _difference(
    part: Path, graph: Exported, tensors: tuple[Tensor, ...], restored: Tensor
) -> float:
    """Return the largest difference of what the file makes of `tensors` from what the model made."""
    if part.suffix.lower() == ".onnx":
        onnxruntime = silent_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(
            str(part), sess_options=options, providers=["CPUExecutionProvider"]
        )
        given = {n: each.numpy() for n, each in zip(graph.names, tensors, strict=True)}
        made = torch.from_numpy(session.run(None, given)[0])
    else:
        with torch.inference_mode():
            made = torch.export.load(part).module()(*tensors)
    if made.shape != restored.shape:
        return float("inf")
    return float((made - restored).abs().max())
