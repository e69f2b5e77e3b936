"""What all tiles share, in a file of the result's store: computed once, read by every worker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from napari_restore._replacing import replacing
from napari_restore.engine.running._prepared import Prepared
from napari_restore.errors import ResourceError, option
from napari_restore.images import Image, Radiometry

FILL = "fill"
BLACK = "black"
STATISTIC = "statistic."


def write_prepared(path: Path, prepared: Prepared) -> None:
    """Write `prepared` to a .safetensors file: numbers and text, no code."""
    radiometry = prepared.radiometry
    tensors = {f"{STATISTIC}{k}": v.contiguous() for k, v in prepared.statistics.items()}
    tensors[FILL] = torch.from_numpy(prepared.fill)
    tensors[BLACK] = torch.from_numpy(np.array(radiometry.black, np.float64))
    about = {
        "white": radiometry.white.hex(),
        "reasons": [radiometry.black_reason, radiometry.white_reason],
    }
    with replacing(path) as part:
        save_file(tensors, part, {"radiometry": json.dumps(about)})


def read_prepared(path: Path, image: Image) -> Prepared:
    """Return what `write_prepared` wrote for `image`; raises `ResourceError` where it cannot."""
    try:
        with safe_open(path, "pt") as file:
            tensors: dict[str, torch.Tensor] = {k: file.get_tensor(k) for k in file.keys()}
            about: dict[str, Any] = json.loads(file.metadata()["radiometry"])
        black_reason, white_reason = about["reasons"]
        radiometry = Radiometry(
            tensors.pop(BLACK).numpy(),
            float.fromhex(about["white"]),
            black_reason,
            white_reason,
            image.working_space,
        )
        fill = tensors.pop(FILL).numpy()
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ResourceError(
            f"The statistics of the image in {path} cannot be read ({error}).",
            f"Name a folder that all workers share with {option('scratch')}.",
        ) from error
    statistics = {name.removeprefix(STATISTIC): value for name, value in tensors.items()}
    return Prepared(statistics, fill, radiometry)
