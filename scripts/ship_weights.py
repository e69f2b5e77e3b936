"""Writes weights in the packed form in which they come with the package.

    python scripts/ship_weights.py WEIGHTS.safetensors [--base PREFIX=NAME] [--one-byte N] [--two-bytes N]
    python scripts/ship_weights.py WEIGHTS.safetensors [--base PREFIX=NAME] --as-stored

writes src/napari_restore/models/weights/WEIGHTS.safetensors and prints its sha256, for the card,
and its size in a wheel. With `--base` the tensors below PREFIX are left out: they must equal those
of the shipped file NAME, which is named in the file. Matrices of at least N values become whole
numbers of one byte or two; without these options nothing is lost. If `atmosphere` changes, the networks
behind it are written again, `--as-stored`: with the tensors of the file that is there, to the bit, and the
present digest of the base.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load, save
from torch import Tensor

from napari_restore.errors import BadModel
from napari_restore.models import read_state, sha256_of_file
from napari_restore.models._packed import BASES, HIGH, LOW, PACKED, SCALE, VERSION

SHIPPED = Path(__file__).parents[1] / "src/napari_restore/models/weights"
ONE_BYTE, TWO_BYTES = 127, 511
"""Largest whole numbers. Of two bytes nine bits are used: more would not be seen in results."""


def pack(state: Mapping[str, Tensor], one_byte: int = 0, two_bytes: int = 0) -> dict[str, Tensor]:
    """Return float16 tensors in their stored form.

    Matrices of at least `one_byte` values become whole numbers of one byte, those of at least
    `two_bytes` of two; 0: none. All others come back equal to the bit. Raises `BadModel` for a name
    that would be read as part of another tensor.
    """
    made: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.startswith((LOW, HIGH, SCALE)):
            raise BadModel(
                f"A tensor is named {name}, as the parts of packed ones are.", "Rename it first."
            )
        size = tensor.numel() if tensor.ndim > 1 else 0
        if one_byte and size >= one_byte:
            made |= _in_numbers(name, tensor, ONE_BYTE)
        elif two_bytes and size >= two_bytes:
            made |= _in_numbers(name, tensor, TWO_BYTES)
        elif tensor.dtype == torch.float16:
            made |= _in_bytes(name, tensor.contiguous().view(torch.int16))
        else:
            made[name] = tensor
    return made


def pack_metadata(bases: Mapping[str, Path]) -> dict[str, str]:
    """Return the metadata of a packed file that takes the tensors of `bases`, by prefix."""
    said = {
        prefix: {"file": path.name, "sha256": sha256_of_file(path)}
        for prefix, path in bases.items()
    }
    return {PACKED: VERSION} | ({BASES: json.dumps(said, sort_keys=True)} if said else {})


def _in_bytes(name: str, values: Tensor, scale: Tensor | None = None) -> dict[str, Tensor]:
    """Return the bytes of int16 or int8 values, and their scale."""
    parts = values.flatten().view(torch.uint8).view(*values.shape, values.element_size())
    made = {start + name: parts[..., n].contiguous() for n, start in _STARTS[: parts.shape[-1]]}
    return made if scale is None else made | {SCALE + name: scale}


_STARTS = ((0, LOW), (1, HIGH))


def _in_numbers(name: str, tensor: Tensor, largest: int) -> dict[str, Tensor]:
    rows = tensor.float().flatten(1)
    scale = rows.abs().amax(1) / largest
    scale[scale == 0] = 1.0
    numbers = (rows / scale[:, None]).round().clamp(-largest, largest)
    dtype = torch.int8 if largest == ONE_BYTE else torch.int16
    return _in_bytes(name, numbers.view(tensor.shape).to(dtype).contiguous(), scale)


def ship(
    source: Path, target: Path, bases: dict[str, Path], one_byte: int = 0, two_bytes: int = 0
) -> None:
    """Write the weights of `source` to `target`, without those of `bases`, by prefix."""
    state = read_state(source)
    for prefix, base in bases.items():
        for name, tensor in read_state(base).items():
            own = state.pop(prefix + name, tensor)
            if not torch.equal(own.float(), tensor.float()):
                raise SystemExit(f"{prefix}{name} of {source.name} is not that of {base.name}")
    halves = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    stored = pack(halves, one_byte, two_bytes)
    content = save(stored, pack_metadata(bases))
    target.write_bytes(content)
    made, kept = read_state(target), dict(state)
    differ = [name for name in kept if not torch.equal(made[name].float(), kept[name].float())]
    print(f"{target.name}: {sha256_of_file(target)}")
    print(f"  {len(content)} bytes, {len(zlib.compress(content))} in a wheel")
    print(f"  {len(differ)} of {len(kept)} tensors rounded")


def ship_as_stored(source: Path, target: Path, bases: dict[str, Path]) -> None:
    """Write the stored tensors of `source`, a packed file, to `target`, which names `bases`.

    They are the bases that `source` names, and the tensors left out are theirs.
    """
    with safe_open(source, framework="pt") as file:
        said = file.metadata() or {}
    if PACKED not in said:
        raise SystemExit(f"{source.name} is not packed: leave out --as-stored.")
    known = {prefix: each["file"] for prefix, each in json.loads(said.get(BASES, "{}")).items()}
    asked = {prefix: base.name for prefix, base in bases.items()}
    if known != asked:
        raise SystemExit(f"{source.name} has the bases {known}, not {asked}: name those by --base")
    stored = load(source.read_bytes())  # a mapped file would change below it
    target.write_bytes(save(stored, pack_metadata(bases)))
    made = load(target.read_bytes())
    assert made.keys() == stored.keys()
    assert all(torch.equal(made[name], tensor) for name, tensor in stored.items())
    print(f"{target.name}: {sha256_of_file(target)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--base", action="append", default=[], metavar="PREFIX=NAME")
    parser.add_argument("--one-byte", type=int, default=0, metavar="N")
    parser.add_argument("--two-bytes", type=int, default=0, metavar="N")
    parser.add_argument("--as-stored", action="store_true")
    given = parser.parse_args()
    bases = {
        prefix: SHIPPED / f"{name}.safetensors"
        for prefix, _, name in (each.partition("=") for each in given.base)
    }
    target = SHIPPED / given.source.name
    if given.as_stored:
        ship_as_stored(given.source, target, bases)
    else:
        ship(given.source, target, bases, given.one_byte, given.two_bytes)


if __name__ == "__main__":
    main()
