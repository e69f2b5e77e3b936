"""Weights from files that cannot run code, or from a seed."""

from __future__ import annotations

import codecs
import hashlib
import math
import os
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_restore._confined import confined
from napari_restore._format import format_size
from napari_restore.errors import (
    BadModel,
    BadParameter,
    Message,
    MissingWeights,
    RestoreError,
    option,
)
from napari_restore.models._packed import bases_in, is_packed, unpack

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the weights that come with the package."""
RANDOM = "random:"
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
_USUAL = ("model", "diffusion_pytorch_model", "pytorch_model", "net_g_latest", "weights")
"""Names of the weights in a folder of a model hub, best first."""
_AVERAGED = (
    *("params_ema", "state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "net_ema"),
    *("ema_params", "ema", "averaged_model"),
)
_NESTS = (
    *_AVERAGED,
    *("params", "state_dict", "model_state_dict", "model_state", "model", "net"),
    *("network", "weights", "net_g", "netG", "generator"),
)
"""Keys under which training scripts nest the state dict; averaged weights first."""
_LIT_EMA, _LIT_RAW = "model_ema.", "model"
"""Of averaged weights beside those of ``model.``, with the points of their names left out."""
_WRAPPERS = {"module", "_orig_mod", "model", "net", "network", "generator", "net_g", "netG"}
"""Names that a network has within what trains, spreads or compiles it."""
COUNTS = "num_batches_tracked"
"""End of the keys of counters that change no result."""
OF_ANOTHER = "Choose the model these weights were made for."
"""Next step for weights that do not fit."""
_SHOWN = 3
"""Keys that are named of those that do not fit."""


class State(dict[str, Tensor]):
    """A state dict; where the file has several, a `note`, and those that were `trained` in place of averages."""

    note = ""
    trained: State | None = None


def file_and_key(weights: str | os.PathLike[str]) -> tuple[Path, str]:
    """Return the file of ``FILE`` or ``FILE:KEY``, and the key or ""."""
    name, colon, key = os.fspath(weights).rpartition(":")
    has_key = bool(colon) and Path(name).suffix.lower() in SUFFIXES
    return (Path(name), key) if has_key and not Path(weights).is_file() else (Path(weights), "")


def check_there(path: Path) -> None:
    """Raise `MissingWeights` unless `path` is a plain file."""
    if not path.is_file():
        what = f"{path} is no plain file." if path.exists() else f"There is no weights file {path}."
        raise MissingWeights(what, "Check the path.")


def read_state(weights: str | os.PathLike[str]) -> State:
    """Return the state dict of a .safetensors or .pth file, on the CPU; ``FILE:KEY`` that of a key.

    Of several the averaged one is taken, and else the first of `_NESTS`. Pickled files are read with
    torch's weights-only unpickler, which runs no code of the file; numbers of numpy are no code.
    Raises `MissingWeights` or `BadModel`.
    """
    path, key = file_and_key(weights)
    check_there(path)
    try:
        if path.suffix.lower() == ".safetensors":
            return State(_of_safetensors(path))
        check_unpacked(path)
        with torch.serialization.safe_globals(_NUMBERS), confined(2 * path.stat().st_size):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (RestoreError, MemoryError):
        raise
    except pickle.UnpicklingError:
        raise BadModel(
            f"{path.name} contains more than weights and could run code.",
            "Save its state dict as .safetensors.",
        ) from None
    except Exception as error:
        raise BadModel(
            f"{path.name} is no readable weights file: {first_line(error)}.",
            f"Readable are {', '.join(SUFFIXES)}.",
        ) from error
    try:
        return _state_in(content, path.name, key)
    except RecursionError:
        raise BadModel(f"{path.name} contains itself.", "Save module.state_dict().") from None


_MOST_UNPACKED, _RATIO = 64 << 20, 20
"""Bytes that the records of any archive may have, and of a large one for each of its own."""


_MOST_TENSORS = 1 << 17
"""Tensors that no network has."""


def check_unpacked(path: Path) -> None:
    """Raise `BadModel` where the records of a zip archive say that they are far larger than it is."""
    size = 0
    # Others, and what is wrong with it, are for who reads it.
    with suppress(zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        with zipfile.ZipFile(path) as archive:
            size = sum(each.file_size for each in archive.infolist())
    if size > max(_MOST_UNPACKED, _RATIO * path.stat().st_size):
        raise BadModel(
            f"{path.name} says that it unpacks to {format_size(size)}, {_RATIO} times its size and more.",
            "Save its weights as .safetensors.",
        )


_SCALAR = np.float64(0).__reduce__()[0]
_NUMBERS: list[Any] = [
    *(
        (_SCALAR, f"{module}.scalar")
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    ),
    *(np.dtype, codecs.encode),
    *(type(np.dtype(kind)) for kind in ("f8", "f4", "f2", "i8", "i4", "u1", "?")),
]
"""What pickled numbers of numpy are made by."""


def _of_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}
    if not is_packed(metadata, path.name):
        return state
    state = unpack(state, path.name)
    bases = bases_in(metadata, path.name, (path.parent, WEIGHTS), sha256_of_file)
    for prefix, base in bases.items():
        state |= {prefix + name: tensor for name, tensor in read_state(base).items()}
    return state


def weights_in(folder: Path) -> Path:
    """Return the weights file of a folder as model hubs have it; reads nothing else. Raises `BadModel`."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    # In one folder they are the same weights, and the first suffix is the safest.
    found.sort(key=lambda path: SUFFIXES.index(path.suffix.lower()))
    for stem in _USUAL:
        for path in found:
            if path.stem == stem:
                return path
    if len({path.stem for path in found}) == 1:
        return found[0]
    if not found:
        raise BadModel(
            f"The folder {folder} has no weights.",
            f"Name a file: {', '.join(SUFFIXES)}, .pt2, .onnx or FILE.py:factory.",
        )
    raise BadModel(
        f"The folder {folder} has several weights: {_listed([path.name for path in found])}.",
        "Name one of the files.",
    )


def fill(
    module: nn.Module,
    state: Mapping[str, Tensor],
    name: str,
    structure: str = "",
    otherwise: str = OF_ANOTHER,
) -> None:
    """Load `state` into `module`; raises `BadModel` naming what does not fit.

    Its keys may have a prefix that those of `module` lack, or lack theirs; beside those with the
    prefix there may then be others. `structure` is what the weights are known as; `otherwise` is the next
    step for those that are not.
    """
    expected = module.state_dict()
    state = _without_counts(_fitting(state, expected, name), expected)
    wrong = [
        f"{key} of {_shape(state[key])} in place of {_shape(expected[key])}"
        for key in expected
        if key in state and state[key].shape != getattr(expected[key], "shape", None)
    ]
    lists = (
        ("lacks", [key for key in expected if key not in state]),
        ("has the unknown", [key for key in state if key not in expected]),
        ("has", wrong),
    )
    parts = [f"{verb} {_listed(keys)}" for verb, keys in lists if keys]
    bad = [k for k, v in state.items() if v.is_floating_point() and not torch.isfinite(v).all()]
    if parts and not bad and _is_taken_by_hooks(module, state):
        return
    if parts:
        known = f"{name} is of {structure}, but" if structure else name
        raise BadModel(
            f"{known} {'; it '.join(parts)}.",
            "Save all of its state dict, or give the network's code, FILE.py:factory."
            if structure
            else otherwise,
        )
    if bad:
        raise BadModel(f"{name} contains NaN or infinity in {bad[0]}.", "The file is damaged.")
    module.load_state_dict(dict(state))


def _is_taken_by_hooks(module: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Load what the module itself renames, as those with weight norm do with older names."""
    try:
        module.load_state_dict(dict(state))
    except Exception:  # also the hooks'
        return False
    return True


def other_network(name: str, why: str = "") -> BadModel:
    """Return the error for weights that are not those of the network of this name."""
    return BadModel(
        f"These weights are not those of {name}{f': {why}' if why else ''}.",
        "Choose the model they were made for.",
    )


def layers_in(state: Mapping[str, Any], part: str) -> int:
    """Return the number of layers of a `part`, whose tensors are named ``PART.NUMBER.…``."""
    numbers = [int(m[1]) for name in state if (m := re.match(rf"{part}\.(\d+)\.", name))]
    # Names cost nothing: there are no more layers than tensors.
    return min(len(state), 1 + max(numbers, default=-1))


def without_wrappers(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return `state` without the names of `_WRAPPERS` that all of its keys begin with."""
    while state:
        first = {key.partition(".")[0] for key in state}
        if len(first) > 1 or not first <= _WRAPPERS or not all("." in key for key in state):
            break
        state = {key.partition(".")[2]: value for key, value in state.items()}
    return state


def _fitting(
    state: Mapping[str, Tensor], expected: Mapping[str, Any], name: str
) -> Mapping[str, Tensor]:
    """Return `state` under the keys `expected`, where a prefix makes the difference."""
    needed = {key for key in expected if not key.endswith(COUNTS)}
    if not needed or needed <= state.keys():
        return state
    # The prefixes under which one key is there, and then all.
    one = max(sorted(needed), key=len)
    prefixes = [key.removesuffix(one) for key in state if key.endswith(f".{one}")]
    whole = [each for each in prefixes if all(each + key in state for key in needed)]
    if len(whole) > 1:
        # Of a single layer the names are those of many.
        whole = [p for p in whole if all(state[p + k].shape == expected[k].shape for k in needed)]
    if len(whole) > 1:
        raise BadModel(
            f"{name} contains several networks that fit: {_listed(whole)}.",
            "Save the state dict of the one to use.",
        )
    if whole:
        size = len(whole[0])
        return {key[size:]: each for key, each in state.items() if key.startswith(whole[0])}
    # Or the module has one.
    for cut in (n for n, letter in enumerate(one, 1) if letter == "."):
        prefix = one[:cut]
        if all(key.startswith(prefix) and key[cut:] in state for key in needed):
            return {prefix + key: each for key, each in state.items()}
    return state


def _without_counts(
    state: Mapping[str, Tensor], expected: Mapping[str, Any]
) -> Mapping[str, Tensor]:
    """Return `state` with the counters of batches of `expected`, which old files do not have."""
    known = {
        key: each for key, each in state.items() if key in expected or not key.endswith(COUNTS)
    }
    return {key: each for key, each in expected.items() if key.endswith(COUNTS)} | known


def _listed(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more


def _shape(tensor: Tensor) -> str:
    return " × ".join(map(str, tensor.shape)) or "one value"


def randomise(module: nn.Module, seed: int) -> None:
    """Fill `module` with weights that follow from `seed` alone."""
    # Every tensor has its own generator, so the values do not depend on the order in which layers
    # were made. Scales keep a signal's size (LeCun et al. 1998), so deep networks stay finite;
    # those of the last matrix, or of those that the module names as its `ends`, are a hundredth, so
    # that a network starts near the identity and its results stay in range.
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
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _printed(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return str([_printed(each) for each in value])
    if not isinstance(value, Tensor):
        return str(value)
    plain = value.dequantize() if value.is_quantized else value
    return hashlib.sha256(plain.detach().cpu().contiguous().numpy().data).hexdigest()


def _state_in(content: Any, name: str, key: str = "") -> State:
    parts = content if isinstance(content, Mapping) else {}
    nests = [nest for nest in _NESTS if isinstance(parts.get(nest), Mapping)]
    if isinstance(parts.get(key), Mapping):
        return _state_in(parts[key], name)
    if nests:
        state = _state_in(parts[nests[0]], name)
        others = [nest for nest in nests[1:] if any(_tensors_in(parts[nest]))]
        if others and not state.note:
            state.note = _choice(name, nests[0], nests[0] in _AVERAGED, others)
    else:
        state = _plain_state(parts, name)
    if not key:
        return state
    if key == _LIT_RAW and state.trained is not None:
        return state.trained
    has = f"it has {_listed(nests)}" if nests else "it is a plain state dict"
    raise BadModel(f"{name} has no weights {key}: {has}.", "Name one of these, or the file alone.")


def _plain_state(content: Mapping[Any, Any], name: str) -> State:
    if not content:
        raise BadModel(f"{name} contains no state dict.", "Save module.state_dict().")
    found = dict(islice(_tensors_in(content), _MOST_TENSORS))
    if not found or len(found) == _MOST_TENSORS:
        raise BadModel(f"{name} contains no plain state dict.", "Save module.state_dict().")
    for key, each in found.items():
        if each.layout is torch.strided and each.nbytes > each.untyped_storage().nbytes():
            raise BadModel(
                f"{name} has {key} of {_shape(each)}, which it does not hold.", "Save a copy of it."
            )
    # DataParallel puts its own name before every key, an average of torch's counts its models.
    state = State((key.removeprefix("module."), value) for key, value in found.items())
    state.pop("n_averaged", None)
    averaged = {key: state.pop(key) for key in list(state) if key.startswith(_LIT_EMA)}
    if averaged:
        state.trained = State(state)
        state.note = _choice(name, "model_ema", True, [_LIT_RAW])
        for key in state:
            short = _LIT_EMA + key.removeprefix("model.").replace(".", "")
            state[key] = averaged.get(short, state[key])
    return state


def _choice(name: str, chosen: str, is_average: bool, others: Sequence[str]) -> str:
    """Return the note on the state dict that is taken of a file's several."""
    kind = "averaged weights" if is_average else "weights"
    other = option("weights", f"{name}:{others[0]}")
    return Message(
        f"{name} has several weights: the {kind} {chosen} are taken, not {_listed(others)} ({other})."
    )


def _tensors_in(
    content: Mapping[Any, Any], prefix: str = "", barren: set[int] | None = None
) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in nested mappings by their keys, joined by dots."""
    # Mappings without any are looked at once: one that holds another twice, and so on, has no end.
    barren, has_any = set() if barren is None else barren, False
    for key, value in content.items():
        if isinstance(value, Tensor):
            has_any = True
            yield f"{prefix}{key}", value
        elif isinstance(value, Mapping) and id(value) not in barren:
            for each in _tensors_in(value, f"{prefix}{key}.", barren):
                has_any = True
                yield each
    if not has_any:
        barren.add(id(content))


def first_line(error: Exception) -> str:
    """Return the first line of a message, for a sentence; its type where it has none."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
