"""The network as a whole: its size, its parts run one by one, what it gives back."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from napari_restore.errors import BadModel, MissingWeights
from napari_restore.models import (
    RestorationModel,
    card_of,
    cut,
    load,
    model_ids,
    pad_to_multiple,
    randomise,
    stitch,
)
from napari_restore.models.inf_dehaze.bottleneck import Bottleneck
from napari_restore.models.inf_dehaze.config import (
    FAST,
    LITE,
    PAPER,
    RELEASED,
    SMALL,
    InfDehazeConfig,
)
from napari_restore.models.inf_dehaze.network import Decoder, Encoder, InfDehaze
from napari_restore.models.inf_dehaze.sfca import SpatialFrequencyAttention

TINY = InfDehazeConfig(
    patch=2,
    widths=(16, 24, 32),
    depths=(2, 2, 1),
    heads=(2, 2, 4),
    layers=("ibssa", "full"),
    tile=64,
    bottleneck_heads=4,
    qk_width=16,
    experts=(3, 3, 5),
    expert_ratio=1,
)

HAZE = replace(TINY, head="haze")


def network(config: InfDehazeConfig = TINY, seed: int = 0) -> InfDehaze:
    made = InfDehaze(card_of("inf-dehaze-small"), config)
    randomise(made, seed)
    return made.eval().requires_grad_(False)


def tiles(count: int, side: int = 64, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def weights_of(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "encoder", "decoder"),
    [(LITE, 6.31, 6.71), (PAPER, 44.7, 47.6)],
    ids=("lite", "paper"),
)
def test_weights_of_encoder_and_decoder(
    config: InfDehazeConfig, encoder: float, decoder: float
) -> None:
    with torch.device("meta"):
        plain = replace(config, sfca=False)
        assert round(weights_of(Encoder(plain)) / 1e6, 2) == pytest.approx(encoder, abs=0.051)
        assert round(weights_of(Decoder(plain)) / 1e6, 2) == pytest.approx(decoder, abs=0.051)


def test_weights_of_lite_exactly() -> None:
    """Blocks 12C² + 13C + 225 · heads, merges 8C + 4CC', and so on: spec A.7."""
    widths, depths, heads = LITE.widths, LITE.depths, LITE.heads
    blocks = sum(
        depth * (12 * c * c + 13 * c + 225 * h)
        for c, depth, h in zip(widths, depths, heads, strict=True)
    )
    steps = list(pairwise(widths))
    merges = sum(8 * c + 4 * c * coarser for c, coarser in steps)
    expansions = sum(4 * c * coarser + c for c, coarser in steps)
    projections = sum(2 * c * c for c in widths)
    with torch.device("meta"):
        assert weights_of(Encoder(RELEASED)) == blocks + merges + 12 * 96 + 96
        unembed = 96 * 12 + 3
        assert weights_of(Decoder(LITE)) == blocks + expansions + projections + unembed


def test_small_is_small() -> None:
    with torch.device("meta"):
        assert weights_of(InfDehaze(card_of("inf-dehaze-small"), SMALL)) <= 3_000_000


@pytest.mark.parametrize(
    ("config", "values"), [(LITE, 34.5), (PAPER, 23.0), (FAST, 34.5)], ids=("lite", "paper", "fast")
)
def test_values_left_per_pixel(config: InfDehazeConfig, values: float) -> None:
    with torch.device("meta"):
        made = InfDehaze(card_of("inf-dehaze-small"), replace(config, layers=()))
    left = sum(r.channels / r.stride**2 for r in made.residuals)
    assert left + made.width / made.stride**2 == values


def test_attention_to_frequencies_where_a_map_is_large_enough() -> None:
    def stages(config: InfDehazeConfig) -> list[int]:
        with torch.device("meta"):
            found = enumerate(Encoder(config).stages)
        return [i for i, s in found if isinstance(s.sfca, SpatialFrequencyAttention)]

    assert stages(LITE) == [0, 1, 2, 3]
    assert stages(PAPER) == [0, 1, 2]
    assert stages(RELEASED) == []


def test_shapes_are_those_promised() -> None:
    made, x = network(), tiles(3)
    tokens, residuals = made.encode(x)
    assert tokens.shape == (3, made.width, 64 // made.stride, 64 // made.stride)
    assert [r.shape[1:] for r in residuals] == [r.shape(64) for r in made.residuals]
    assert made.decode(tokens, tokens, residuals, x).shape == x.shape


@torch.inference_mode()
def test_tiles_are_encoded_and_decoded_one_by_one() -> None:
    made, x = network(), tiles(3)
    tokens, residuals = made.encode(x)
    together = made.decode(tokens, tokens, residuals, x)
    for index in range(3):
        one = x[index : index + 1]
        alone, left = made.encode(one)
        assert torch.allclose(alone[0], tokens[index], atol=1e-5)
        for mine, theirs in zip(left, residuals, strict=True):
            assert torch.allclose(mine[0], theirs[index], atol=1e-5)
        assert torch.allclose(made.decode(alone, alone, left, one)[0], together[index], atol=1e-5)


@torch.inference_mode()
def test_the_first_residual_alone_is_the_same() -> None:
    made, x = network(), tiles(2)
    assert torch.equal(made.encode_first(x), made.encode(x)[1][0])


@torch.inference_mode()
def test_parts_tile_by_tile_equal_the_whole() -> None:
    made = network()
    image = torch.rand(1, 3, 150, 70)
    whole = made(image)
    cells = pad_to_multiple(image, 64)[0]
    parts = [made.encode(tile[None]) for tile in cut(cells, 64)]
    grid = stitch(torch.cat([tokens for tokens, _ in parts]), 3, 2).permute(1, 2, 0).clone()
    grid = made.place_tokens(grid)
    for index in range(made.layers):
        grid = made.bottleneck_layer(index, grid)
    back = cut(grid.permute(2, 0, 1), 64 // made.stride)
    pieces = [
        made.decode(tokens[None], encoded, left, tile[None])
        for tokens, (encoded, left), tile in zip(back, parts, cut(cells, 64), strict=True)
    ]
    streamed = stitch(torch.cat(pieces), 3, 2)[:, :150, :70]
    assert torch.allclose(streamed, whole[0], atol=1e-5)
    # The bottleneck makes a tile's result depend on the others'.
    image[..., 140:, :] = 0
    assert not torch.equal(made(image)[..., :64, :64], whole[..., :64, :64])


@torch.inference_mode()
def test_one_tile_is_decoded_with_what_it_was_encoded_to() -> None:
    """With the bottleneck undone the tokens come back, so nothing has overwritten them."""
    made, x = network(), tiles(1)

    class Nothing(Bottleneck):
        def place(self, grid: Tensor, origin: tuple[int, int] = (0, 0)) -> Tensor:
            return grid.zero_()

        def layer(self, index: int, grid: Tensor, *options: object) -> Tensor:
            return grid

    made.bottleneck = Nothing(TINY)
    encoded, left = made.encode(x)
    assert torch.equal(made(x), made.decode(torch.zeros_like(encoded), encoded, left, x))


def test_random_weights_keep_the_size_of_signals() -> None:
    made = network(SMALL)
    x = torch.randn(1, 8, 8, 128)
    assert float(made.decoder.stages[0].expand(x).std()) == pytest.approx(1, abs=0.1)  # type: ignore[operator]
    tables = [p for name, p in made.named_parameters() if name.endswith("bias_table")]
    assert len(tables) == 16
    assert all(float(table.std()) == pytest.approx(0.02, abs=0.002) for table in tables)


@torch.inference_mode()
def test_without_a_change_it_is_the_identity() -> None:
    made, x = network(), tiles(1)
    nn.init.zeros_(made.decoder.unembed.weight)
    assert torch.equal(made(x), x)


@pytest.fixture(scope="module")
def small() -> RestorationModel:
    return load("inf-dehaze-small", weights="random:0")


@pytest.mark.parametrize("size", [(1, 1), (200, 300), (256, 256), (777, 400)], ids=str)
@pytest.mark.ids("slow", "(777, 400)")
def test_any_size(small: RestorationModel, size: tuple[int, int]) -> None:
    x = torch.rand(1, 3, *size)
    with torch.inference_mode():
        y = small(x)
    assert y.shape == x.shape
    assert 0 < float((y - x).abs().max()) < 0.3


def test_without_weights() -> None:
    with pytest.raises(MissingWeights, match="inf-dehaze-fast comes without weights"):
        load("inf-dehaze-fast")


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("config", [TINY, HAZE], ids=["change", "haze"])
def test_half_precision_is_near(dtype: torch.dtype, config: InfDehazeConfig) -> None:
    x = tiles(2)
    exact, half = network(config), network(config).to(dtype)
    change = exact(x) - x
    y = half(x)
    assert y.dtype == torch.float32
    assert float((y - x - change).abs().mean()) < 0.05 * float(change.abs().mean())
    with torch.autocast("cpu", dtype):
        y = exact(x)
    assert y.dtype == torch.float32
    assert float((y - x - change).abs().mean()) < 0.05 * float(change.abs().mean())


@pytest.mark.parametrize("config", [TINY, HAZE], ids=["change", "haze"])
def test_every_weight_of_a_network_in_training_learns(config: InfDehazeConfig) -> None:
    made = network(config).train().requires_grad_(True)
    loss = (made(tiles(1)) - tiles(1, seed=1)).abs().mean() + made.auxiliary_loss()
    loss.backward()
    for name, parameter in made.named_parameters():
        # What the softmax is invariant to has no gradient: the bias of all bands.
        if name.endswith("weight_net.2.bias"):
            continue
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name
    assert float(made.auxiliary_loss()) == 0


def test_it_can_be_copied_after_a_step_of_training() -> None:
    made = network().train().requires_grad_(True)
    made(tiles(2))
    copied = copy.deepcopy(made)
    assert copied.auxiliary_loss().item() == 0
    assert made.auxiliary_loss().item() > 0
    x = tiles(1)
    with torch.no_grad():
        assert torch.equal(copied(x), made(x))


@torch.inference_mode()
def test_the_last_tokens_are_repeated_around_an_image() -> None:
    made, x = network(HAZE), tiles(1, side=128)
    encoded, residuals = made.encode(cut(x[0], 64))
    padded = made.related(encoded, 2, 2)
    grid = padded[:, 1:-1, 1:-1]
    assert torch.equal(padded, nn.functional.pad(grid[None], (1, 1, 1, 1), mode="replicate")[0])
    corners = [padded[:, y : y + 10, z : z + 10] for y in (0, 8) for z in (0, 8)]
    restored = made.decode(torch.stack(corners), encoded, residuals, cut(x[0], 64))
    assert torch.allclose(stitch(restored, 2, 2), made(x)[0], atol=1e-6)


def test_auxiliary_loss_is_the_mean_over_the_images_of_a_call() -> None:
    made, images = network().train().requires_grad_(True), [tiles(1), 0.2 * tiles(1, seed=1)]
    alone = []
    for image in images:
        made(image)
        alone.append(made.auxiliary_loss().item())
    made(tiles(1, seed=2))  # never asked for
    made(torch.cat(images))
    assert alone[0] != alone[1]
    assert made.auxiliary_loss().item() == pytest.approx(sum(alone) / 2)


@torch.inference_mode()
@pytest.mark.parametrize(
    "config", [TINY, replace(TINY, block="convnext"), HAZE], ids=["swin", "convnext", "haze"]
)
def test_a_fresh_network_is_the_identity(config: InfDehazeConfig) -> None:
    torch.manual_seed(0)
    made, x = InfDehaze(card_of("inf-dehaze-small"), config), tiles(2)
    assert torch.equal(made.eval()(x), x)
    # Its parts are not: signals keep their size on the way.
    tokens, residuals = made.encode(x)
    assert all(0.3 < float(feature.std()) < 3 for feature in (tokens, *residuals))
    biases = [p for n, p in made.named_parameters() if n.endswith("bias")]
    assert not any(bool(bias.any()) for bias in biases)


def test_convnext_stages() -> None:
    made, x = network(replace(TINY, block="convnext")), tiles(2)
    y = made(x)
    assert torch.isfinite(y).all()
    assert not torch.equal(y, x)


def test_weights_of_another_size_are_refused(tmp_path: object) -> None:
    state = network().state_dict()
    path = f"{tmp_path}/tiny.pth"
    torch.save(state, path)
    for name in ("small", "lite", "fast", "paper"):
        with pytest.raises(BadModel, match="not those of this Inf-Dehaze"):
            load(f"inf-dehaze-{name}", weights=path)


def test_the_card_says_that_it_routes() -> None:
    assert InfDehaze(card_of("inf-dehaze-small"), SMALL).routing_bytes > 0
    routing = {name for name in model_ids() if card_of(name).routing}
    families = ("inf-dehaze-", "hint", "andehazeformer-")
    assert routing == {name for name in model_ids() if name.startswith(families)}
