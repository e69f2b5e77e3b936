"""Writes the weights of a run in half precision, with a card on their training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from napari_restore.extension import RestorationModel, sha256_of_file, write_json
from napari_restore_lab._replacing import replacing
from napari_restore_lab.loop._checkpoint import State
from napari_restore_lab.loop._config import TrainConfig
from napari_restore_lab.loop._pictures import Pictures

TRAINED_ON = {
    "haze": "under synthetic haze",
    "noise": "with synthetic noise",
    "lowlight": "in synthetic low light",
    "bracket": "in synthetic brackets",
}


def write_weights(model: RestorationModel, path: Path) -> str:
    """Write all tensors of a network to a .safetensors file; return its sha256."""
    tensors = model.weighted.state_dict()
    state = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    _write(state, path)
    return sha256_of_file(path)


def publish(source: Path, path: Path, card: Mapping[str, Any]) -> str:
    """Write the weights of `source` as float16 to `path`, and their card beside it.

    `card` has fields of a model card, ``model`` and ``training``; the digest is added. Tensors
    beyond the range of float16 stay float32. Returns the digest.
    """
    _write({name: _halved(tensor) for name, tensor in load_file(source).items()}, path)
    digest = sha256_of_file(path)
    write_json(path.with_suffix(".json"), {**card, "weights_sha256": digest})
    return digest


def card(
    config: TrainConfig,
    pictures: Pictures,
    state: State,
    figures: Mapping[str, float],
    scored: str,
    device: torch.device,
) -> dict[str, Any]:
    """Return the card of the weights of a run; `scored` is the summary of `figures`."""
    rows = pictures.rows
    sources = {row.get("source") for row in rows}
    dev = f"{len(pictures.dev)} other scenes, {scored_on(config)}"
    used_cuda = device.type == "cuda"
    # Weights of a factory's network are given beside it.
    network = {"model": config.model.id} if config.model.id else {}
    return {
        **network,
        "weights_note": f"Weights of step {state.best_step} of {state.step}.",
        "trained_on": f"{len(rows)} pictures of {len(sources)} sources "
        f"{TRAINED_ON[config.degradation]}.",
        "validated_on": f"{dev}: {scored}." if scored else "",
        "training": {
            "config": config.to_dict(),
            "scenes": [dict(row) for row in rows],
            "left_out": list(pictures.left_out),
            "licences": sorted({str(row.get("licence", "")) for row in rows}),
            "steps": state.step,
            "skipped": state.skipped,
            "seconds": round(state.seconds, 1),
            "device": torch.cuda.get_device_name(device) if used_cuda else str(device),
            "torch": str(torch.__version__),
            "best_step": state.best_step,
            # JSON has no infinity.
            "figures": {k: v if math.isfinite(v) else None for k, v in figures.items()},
        },
    }


def scored_on(config: TrainConfig) -> str:
    """Return what the scores are of, for the card."""
    if config.degradation == "haze":
        return f"made-up haze of spectrum {config.score.spectrum}"
    made = {"noise": "noise", "lowlight": "low light", "bracket": "brackets of another curve"}
    return f"synthetic {made[config.degradation]} of another seed"


def _halved(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    half = tensor.to(torch.float16)
    return half if bool(torch.isfinite(half).all()) else tensor


def _write(state: dict[str, Tensor], path: Path) -> None:
    with replacing(path) as part:
        # `save_file` would set permissions for the owner only.
        part.write_bytes(save(state))
