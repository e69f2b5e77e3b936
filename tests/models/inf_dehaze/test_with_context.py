"""The small network behind the atmosphere's look at the whole image."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.models.inf_dehaze.test_network import HAZE

from napari_restore.errors import BadModel
from napari_restore.models import card_of, entry_of, load, randomise, read_state, shipped_weights
from napari_restore.models.inf_dehaze.config import SMALL
from napari_restore.models.inf_dehaze.network import InfDehaze
from napari_restore.models.inf_dehaze.release import sizes_of_small


def behind_a_context(seed: int = 0) -> InfDehaze:
    card = replace(card_of("inf-dehaze-small"), values={}, needs_context=True, placed=True)
    torch.manual_seed(seed)
    made = InfDehaze(card, HAZE, context=8, looks=1)
    return made.eval().requires_grad_(False)


@torch.inference_mode()
def test_with_context_a_fresh_network_is_the_context_alone() -> None:
    made = behind_a_context()
    # Under haze, which any weights see.
    x = 0.5 + 0.3 * torch.rand(1, 3, 150, 130, generator=torch.Generator().manual_seed(0))
    assert made.atmosphere is not None
    alone = made.atmosphere(x)
    # To the bit, but for kernels that sum in another order.
    torch.testing.assert_close(made(x), alone, rtol=0, atol=1e-6)
    assert not torch.allclose(alone, x, atol=1e-3)


@torch.inference_mode()
def test_where_the_context_sees_no_haze_every_bit_stays() -> None:
    made = behind_a_context()
    randomise(made, 1)
    assert made.head is not None and made.atmosphere is not None
    made.head.knots.weight.data *= 30
    x = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    view = made.view(x)
    seen = made.encode_images(view)
    changed = made.unveiled(view, seen.grids, None)[0]
    assert not torch.allclose(changed, view[:, 3:6], atol=1e-3)
    view[:, 3:6], view[:, 6:7] = x, 1.0
    assert torch.equal(made.unveiled(view, seen.grids, None)[0], x)


def test_weights_tell_whether_there_is_a_context() -> None:
    state = InfDehaze(card_of("inf-dehaze-small"), SMALL, context=8, looks=1).state_dict()
    assert sizes_of_small(state) == {"context": 8, "looks": 1}
    alone = InfDehaze(card_of("inf-dehaze-small"), SMALL).state_dict()
    assert sizes_of_small(alone) == {}
    mixed = {**alone, **{n: v for n, v in state.items() if n.startswith("atmosphere.")}}
    with pytest.raises(BadModel, match="not those of this Inf-Dehaze"):
        sizes_of_small(mixed)


def test_the_shipped_weights_work_behind_the_shipped_atmosphere() -> None:
    atmosphere = read_state(shipped_weights(entry_of("atmosphere")))
    model = load("inf-dehaze-small")
    made = model.state_dict()
    for name, value in atmosphere.items():
        assert torch.equal(made[f"atmosphere.{name}"], value.float())
    assert model.card.needs_context and model.card.placed
    # They were measured behind this one: another needs the figures of their pages again.
    measured_behind = "5228bb332b28a54b137bbd178035e6f7a9b1ea57a1fc91db1d01665c66778296"
    assert card_of("atmosphere").weights_sha256 == measured_behind
