"""Weights from files that cannot run code, or from a seed."""

from __future__ import annotations

import hashlib
import math
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_restore.errors import BadModel, BadParameter, MissingWeights

RANDOM = "random:"
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
_NESTS = ("params_ema", "params", "state_dict", "model_state_dict", "model", "net")
"""Keys under which training scripts nest the state dict; averaged weights first."""


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the state dict of a .safetensors or .pth file, on the CPU.

    Pickled files are read with torch's weights-only unpickler, which runs no code of the file.
    Raises `MissingWeights` or `BadModel`.
    """
    if not path.is_file():
        raise MissingWeights(f"There is no weights file {path}.", "Check the path.")
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise BadModel(
            f"{path.name} contains more than weights and could run code.",
            "Save its state dict as .safetensors.",
        ) from None
    except Exception as error:
        raise BadModel(
            f"{path.name} is no readable weights file: {_first_line(error)}.",
            f"Readable are {', '.join(SUFFIXES)}.",
        ) from error
    return _state_in(content, path.name)


def fill(module: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Load `state` into `module`; raises `BadModel` naming what does not fit."""
    expected = module.state_dict()
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    wrong = [k for k in expected.keys() & state.keys() if expected[k].shape != state[k].shape]
    for keys, what in (
        (missing, "lacks"),
        (extra, "has the unknown"),
        (wrong, "has another size of"),
    ):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise BadModel(
                f"{name} {what} {sorted(keys)[0]}{more}.",
                "Choose the model these weights were made for.",
            )
    bad = [k for k, v in state.items() if v.is_floating_point() and not torch.isfinite(v).all()]
    if bad:
        raise BadModel(f"{name} contains NaN or infinity in {bad[0]}.", "The file is damaged.")
    module.load_state_dict(dict(state))


def randomise(module: nn.Module, seed: int) -> None:
    """Fill `module` with weights that follow from `seed` alone.

    Every tensor has its own generator, so the values do not depend on the order in which layers
    were made. Scales keep a signal's size (LeCun et al. 1998), so deep networks stay finite; those
    of the last matrix, or of those that the module names as its `ends`, are a hundredth, so that a
    network starts near the identity and its results stay in range.
    """
    last: Sequence[str] = getattr(module, "ends", ())
    last = last or [name for name, tensor in module.named_parameters() if tensor.ndim >= 2][-1:]
    with torch.no_grad():
        for name, tensor in module.named_parameters():
            digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
            if tensor.ndim < 2:
                # One-dimensional weights are scales of normalisations.
                tensor.fill_(1.0 if name.endswith("weight") else 0.0)
                continue
            if name.endswith("bias_table"):
                # Added to scores as it is (Liu et al. 2021), where a matrix would multiply.
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.02)
                continue
            # Transposed convolutions sum over another axis than their first, and define it.
            owner = module.get_submodule(name.rpartition(".")[0])
            fan_in = getattr(owner, "fan_in", tensor[0].numel())
            spread = math.sqrt(1.0 / fan_in) * (0.01 if name in last else 1.0)
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * spread)


def seed_of(weights: str) -> int:
    """Return the number in ``random:SEED``; raises `BadParameter`."""
    text = weights.removeprefix(RANDOM)
    if not text.isdecimal():
        raise BadParameter(
            f"Weights {weights!r} name no seed.", "Write random: and a whole number, as random:0."
        )
    return int(text)


def sha256_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_state(module: nn.Module) -> str:
    """Return a digest of names, types, shapes and bytes of all tensors, in order of names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if not isinstance(tensor, Tensor) or tensor.is_quantized:
            # Quantised layers hold tuples, types and numbers too.
            digest.update(f"{name}/{_printed(tensor)}".encode())
            continue
        digest.update(f"{name}/{tensor.dtype}/{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _printed(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return str([_printed(each) for each in value])
    if not isinstance(value, Tensor):
        return str(value)
    plain = value.dequantize() if value.is_quantized else value
    return hashlib.sha256(plain.detach().cpu().contiguous().numpy()).hexdigest()


def _state_in(content: Any, name: str) -> dict[str, Tensor]:
    for nest in _NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(nest), Mapping):
            return _state_in(content[nest], name)
    if not isinstance(content, Mapping) or not content:
        raise BadModel(f"{name} contains no state dict.", "Save module.state_dict().")
    if not all(isinstance(v, Tensor) for v in content.values()):
        raise BadModel(f"{name} contains no plain state dict.", "Save module.state_dict().")
    # DataParallel puts its own name before every key.
    return {str(k).removeprefix("module."): v for k, v in content.items()}


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
