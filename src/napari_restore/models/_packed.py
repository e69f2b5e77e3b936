"""Weights in less space: bytes by significance, whole numbers with a scale, tensors of another file.

A packed .safetensors file says so in its metadata, under `PACKED`, with the version of this form.
Of a tensor X it holds

- ``X`` as it is; or
- ``low.X`` and ``high.X``, uint8 of the shape of X: the bytes of its float16 values. The high ones
  repeat themselves, so that a wheel, a zip file, stores them in two thirds of their size; or
- ``low.X`` (and ``high.X``) with ``scale.X``, float32 (rows,): the bytes of signed whole numbers of
  one or two bytes, each row of X over its first axis times its scale.

`BASES` in the metadata is JSON, ``{PREFIX: {"file": NAME, "sha256": DIGEST}}``: all tensors of
the file NAME belong to these weights, too, with PREFIX before their names. So the digest of a
file identifies all of its weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from napari_restore.errors import BadModel

State: TypeAlias = Mapping[str, Tensor]
LOW, HIGH, SCALE = "low.", "high.", "scale."
PACKED, BASES = "napari_restore.packed", "napari_restore.bases"
"""Keys of the metadata: those of other programs are plain words."""
VERSION = "1"


def is_packed(metadata: Mapping[str, str] | None, name: str) -> bool:
    """Return whether the metadata of the file `name` are those of a packed one; raises `BadModel`."""
    version = (metadata or {}).get(PACKED)
    if version is not None and version != VERSION:
        raise BadModel(
            f"{name} is packed in a form that is not known here, {version[:20]!r}.",
            "Use a newer version of napari-restore.",
        )
    return version is not None


def unpack(stored: State, name: str) -> dict[str, Tensor]:
    """Return the tensors that the stored ones of the file `name` stand for; raises `BadModel`."""
    made: dict[str, Tensor] = {}
    for key, tensor in stored.items():
        if key.startswith(LOW):
            own = key.removeprefix(LOW)
            try:
                made[own] = _joined(tensor, stored.get(HIGH + own), stored.get(SCALE + own))
            except (RuntimeError, ValueError, TypeError):
                raise BadModel(f"{name} has no readable {own}.", "The file is damaged.") from None
        elif not key.startswith((HIGH, SCALE)):
            made[key] = tensor
        elif (low := LOW + key.partition(".")[2]) not in stored:
            raise BadModel(
                f"{name} has {key}, but not {low}, to which it belongs.", "The file is damaged."
            )
    return made


def bases_in(
    metadata: Mapping[str, str] | None,
    name: str,
    folders: Iterable[Path],
    digest_of: Callable[[Path], str],
) -> dict[str, Path]:
    """Return, by prefix, the first files in `folders` whose tensors belong to those of `name`; raises `BadModel`."""
    text = (metadata or {}).get(BASES)
    if text is None:
        return {}
    places, bases = list(folders), dict[str, Path]()
    for prefix, file, digest in _read_bases(text, name):
        found = [folder / file for folder in places if (folder / file).is_file()]
        if not found:
            raise BadModel(
                f"{name} takes weights of {file}, which is missing.", f"Put {file} beside it."
            )
        # Weights of one's own may have the same name.
        same = next((path for path in found if digest_of(path) == digest), None)
        if same is None:
            raise BadModel(
                f"{name} takes weights of {file}, and the one at hand is another.",
                "Use the version of napari-restore that it comes from.",
            )
        bases[prefix] = same
    return bases


def _read_bases(text: str, name: str) -> list[tuple[str, str, str]]:
    try:
        bases = [(key, str(b["file"]), str(b["sha256"])) for key, b in json.loads(text).items()]
    except (ValueError, TypeError, KeyError, AttributeError):
        bases = []
    # A file that somebody sent must not name another one elsewhere, on any system.
    names = {file for _, file, _ in bases}
    if not bases or names & {"", ".", ".."} or set("".join(names)) & set("/\\:\0"):
        raise BadModel(f"{name} does not say whose weights it takes.", "The file is damaged.")
    return bases


def _joined(low: Tensor, high: Tensor | None, scale: Tensor | None) -> Tensor:
    """Return the values whose bytes these are; raises one of torch's errors where they do not fit."""
    sizes = [(low.shape, torch.uint8)] * (1 if high is None else 2)
    if [(part.shape, part.dtype) for part in (low, high) if part is not None] != sizes:
        raise ValueError
    if high is None:
        if scale is None:
            raise ValueError
        numbers = low.view(torch.int8)
    else:
        both = torch.stack((low, high), -1)
        numbers = both.view(torch.int16)[..., 0]
        if scale is None:
            return numbers.contiguous().view(torch.float16)
    if scale.shape != low.shape[:1] or scale.dtype != torch.float32:
        raise ValueError
    return numbers.float() * scale.view(-1, *[1] * (low.ndim - 1))
