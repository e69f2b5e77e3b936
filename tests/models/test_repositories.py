"""Networks as they lie in their repositories: loaded as they are, `module(reflected x)`, left as they were."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import pad

import napari_restore as nr
from napari_restore.engine.planning import _planning
from napari_restore.engine.planning.decided import TileInvariance

FOLDER = Path(__file__).parents[1] / "support" / "repositories"
ARCHS = "basicsr/models/archs"


class Repository(NamedTuple):
    door: str
    step: int = 1
    """Multiples that the network takes."""
    scale: float = 1
    size: tuple[int, int] = (203, 301)
    card: dict[str, Any] | None = None


REPOSITORIES = {
    "restormer": Repository(f"{ARCHS}/restormer_arch.py:Restormer", 8),
    "retinexformer": Repository(f"{ARCHS}/retinexformer_arch.py:RetinexFormer", 4),
    "hint": Repository(f"{ARCHS}/hint_arch.py:HINT", 8),
    "mirnet": Repository(f"{ARCHS}/mirnet_v2_arch.py:MIRNet_v2", 4),
    "mst": Repository(f"{ARCHS}/MST_Plus_Plus_arch.py:MST_Plus_Plus"),
    "fftformer": Repository(f"{ARCHS}/fftformer_arch.py:fftformer", 32),
    "hinet": Repository(f"{ARCHS}/hinet_arch.py:HINet", 8, card={"output": 1}),
    "convir": Repository("convir/models/ConvIR.py:ConvIR", 32, size=(251, 301)),
    "hat": Repository("hat/archs/hat_arch.py:HAT", 16, 2),
    "swinir": Repository("swinir_x4.py:SwinIR", 1, 4),
    "nafnet": Repository(f"{ARCHS}/NAFNet_arch.py:NAFNet"),
    "halving": Repository("halving.py:Strided", 1, 0.5),
    "halving-pooled": Repository("halving.py:Pooled", 1, 0.5),
    "halving-blocks": Repository("halving.py:Blocks", 8, 0.5),
}
LONG = (
    "mst",
    "hat",
    "swinir",
    "mirnet",
    "restormer",
    "retinexformer",
    "hint",
    "fftformer",
    "hinet",
    "nafnet",
    "convir",
    "halving",
    "halving-pooled",
)


def made(module: nn.Module, scene: np.ndarray, source: Repository) -> np.ndarray:
    """Return what the module makes of the scene, reflected to multiples."""
    x = torch.from_numpy(scene).permute(2, 0, 1)[None]
    height, width = source.size
    x = pad(x, (0, -width % source.step, 0, -height % source.step), mode="reflect")
    with torch.inference_mode():
        y = module(x)
    y = y if source.card is None else y[source.card["output"]]
    height, width = (int(-(-side * source.scale // 1)) for side in source.size)
    return y[0, :, :height, :width].permute(1, 2, 0).numpy()


def random_numbers() -> tuple[Any, ...]:
    return random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()


def state_of(module: nn.Module) -> dict[str, Any]:
    lists = {
        name: {key: repr(value) for key, value in vars(part).items() if key[0] != "_"}
        for name, part in module.named_modules()
    }
    return {"tensors": {k: v.clone() for k, v in module.state_dict().items()}, "attributes": lists}


@pytest.mark.slow
@pytest.mark.parametrize("name", REPOSITORIES)
@pytest.mark.ids("nightly", *LONG)
def test_it_equals_its_module(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Tiles as they are asked for, also where sums follow their shape.
    verdict = TileInvariance.ONE_THREAD
    monkeypatch.setattr(_planning, "tile_invariance", lambda *_: verdict)
    source = REPOSITORIES[name]
    scene = np.random.default_rng(0).random((*source.size, 3)).astype(np.float32)
    torch.manual_seed(3)
    numbers = random_numbers()
    model = nr.load_model(f"{FOLDER / source.door}", card=source.card, trust=True)
    module = model.network
    before = state_of(module)
    options = {"scratch": tmp_path, "progress": False, "memory": "1GiB"}
    results = [nr.restore(scene, model, tile=tile, **options) for tile in (128, "whole")]
    after = state_of(module)
    torch.testing.assert_close(after["tensors"], before["tensors"], rtol=0, atol=0)
    assert after["attributes"] == before["attributes"]
    assert random_numbers() == numbers
    expected = made(module, scene, source)
    for result in results:
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)
    if name not in ("mst", "hat", "convir"):  # whole
        assert results[0].record["plan"]["tiles"] > 1
