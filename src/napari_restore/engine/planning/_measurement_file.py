"""Measurements of models on disk: what one process has measured, the next one reads."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Hashable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from napari_restore._json_shapes import json_of, read_json, value_of
from napari_restore._replacing import replacing
from napari_restore.engine.machine._device import Device, cores
from napari_restore.images import cache_dir
from napari_restore.models import RestorationModel

FOLDER = "measurements"
LONGEST = 30 * 24 * 3600.0
"""Seconds after which a measurement is made again."""


def measurement_file(
    name: str, model: RestorationModel, device: Device, circumstances: Hashable
) -> Path:
    """Return the file of the measurement `name` of `model` on this machine.

    Its name is a hash of what determines kernels, memory and speed: the layers of the model, the
    processor, the libraries and this program.
    """
    instructions = os.environ.get("ONEDNN_MAX_CPU_ISA", ""), os.environ.get("DNNL_MAX_CPU_ISA", "")
    kernels = [torch.__version__, torch.backends.cpu.get_cpu_capability(), *instructions]
    machine = [_processor(), device.name, device.reason if device.is_cuda else "", cores()]
    card = model.card
    layers = [card.id, card.weights_sha256, dict(card.values), card.multiple_of, repr(model)]
    about = [version("napari-restore"), name, kernels, machine, layers, circumstances]
    text = json.dumps(about, default=str)
    return cache_dir() / FOLDER / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def read_measurement(file: Path, kind: Any) -> Any:
    """Return the value of type `kind` in `file`; None if there is none, or an old one."""
    try:
        if time.time() - file.stat().st_mtime > LONGEST:
            return None
        return value_of(read_json(file)["value"], kind)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_measurement(file: Path, kind: Any, model: RestorationModel, value: Any) -> None:
    """Write `value` of type `kind`. Where it cannot be written it is measured again."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(exist_ok=True)
        with replacing(file) as part:
            part.write_text(
                json.dumps({"model": model.card.id, "value": json_of(value, kind)}), "utf-8"
            )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            named = [line for line in lines if line.startswith(("model name", "flags"))]
    except OSError:
        import platform

        return platform.processor()
    return "".join(sorted(set(named)))
