"""Published structures with random weights, in tiles, beside `module(x)` of the same network.

    python benchmarks/structures.py [NAME …] [--size 1024 1024] [--tile 384] [--work DIR]

Each network in the small sizes of tests/models/published/facts.json, its weights by name and seed, is
loaded twice: by its state dict without a card, and by FILE.py:factory. `restore` runs in tiles over
float values; prints tiles, passes, seconds, and the largest difference from `module(x)` on the whole image.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

import napari_restore as nr

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.models.published.test_published import FACTS, LEVEL, _made, _weights_for  # noqa: E402

CODE = '''
import torch
from safetensors.torch import load_file
from napari_restore.models import entry_of, resolve

class Network(torch.nn.Module):
    """As an author's: called with the image alone."""

    def __init__(self):
        super().__init__()
        entry = entry_of({network!r})
        self.inner = resolve(entry.factory)(entry.card, **{sizes!r}).network
        self.inner.load_state_dict(load_file({weights!r}))

    def forward(self, x):
        if {network!r} == "ffdnet":
            return self.inner(x, torch.full((1, 1, 1, 1), {level}, dtype=x.dtype))
        if {network!r} == "drunet":
            return self.inner(torch.cat((x, torch.full_like(x[:, :1], {level})), 1))
        return self.inner(x)

def make():
    return Network().eval()
'''


def picture(bands: int, height: int, width: int) -> Any:
    """Return waves and noise (height, width, bands) in 0 … 1."""
    y, x = np.mgrid[:height, :width] / 20
    waves = np.dstack([np.sin(y), np.cos(x), np.sin(x + y)][:bands])
    noise = np.random.default_rng(0).random((height, width, bands))
    return (0.5 + 0.3 * waves * noise).astype(np.float32)


def compared(name: str, size: tuple[int, int], tile: int, folder: Path) -> None:
    """Print a line for each way to load the network `name`."""
    fact = FACTS[name]
    sizes, network = fact["sizes"], fact["network"]
    state = _weights_for(_made(network, sizes).network.state_dict())
    for key, value in state.items():
        if value.is_floating_point() and value.ndim > 1 and "temperature" not in key:
            value *= 0.7
    weights = folder / f"{name}.safetensors"
    save_file(state, weights)
    code = folder / f"{name.replace('-', '_')}.py"
    code.write_text(
        CODE.format(network=network, sizes=sizes, weights=str(weights), level=LEVEL), "utf-8"
    )
    pixels = picture(fact["input"][0], *size)
    known = {"parameters": {"sigma": LEVEL * 255}} if network in ("ffdnet", "drunet") else {}
    for way, source, options in (
        ("state dict", str(weights), known),
        ("FILE.py:factory", f"{code}:make", {"trust": True}),
    ):
        model = nr.load_model(source, **options)
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
        with torch.inference_mode():
            whole = model(x)[0].permute(1, 2, 0).numpy()
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            try:
                result = nr.restore(pixels, model, tile=tile, scratch=scratch, progress=False)
            except nr.errors.RestoreError as error:
                print(
                    json.dumps({"network": name, "way": way, "size": size, "refused": str(error)})
                )
                continue
            seconds, plan = time.perf_counter() - began, result.record["plan"]
            found = result.read(nr.Region(0, 0, *whole.shape[:2]))
        line = {
            "network": name,
            "way": way,
            "size": size,
            "tiles": plan.get("tiles"),
            "tile": plan["tile"],
            "passes": plan.get("passes"),
            "seconds": round(seconds, 1),
            "largest": float(np.abs(found - whole).max()),
        }
        print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[*FACTS], metavar="NAME")
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 1024), metavar=("H", "W"))
    parser.add_argument("--tile", type=int, default=384)
    parser.add_argument("--work", type=Path, help="where networks are kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.names:
            compared(name, tuple(options.size), options.tile, folder)


if __name__ == "__main__":
    main()
