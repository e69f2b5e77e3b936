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
import zlib
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load, save

from napari_restore.models import named_bases, pack, pack_metadata, read_state, sha256_of_file

SHIPPED = Path(__file__).parents[1] / "src/napari_restore/models/weights"


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
    content = save(stored, pack_metadata(bases, sha256_of_file))
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
        known = named_bases(file.metadata(), source.name)
    asked = {prefix: base.name for prefix, base in bases.items()}
    if known != asked:
        raise SystemExit(f"{source.name} has the bases {known}, not {asked}: name those by --base")
    stored = load(source.read_bytes())  # a mapped file would change below it
    target.write_bytes(save(stored, pack_metadata(bases, sha256_of_file)))
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
