"""A checkpoint with the public release's names and shapes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from napari_restore.errors import BadModel
from napari_restore.models import fill, load
from napari_restore.models.inf_dehaze.bottleneck import Bottleneck
from napari_restore.models.inf_dehaze.config import LITE, RELEASED
from napari_restore.models.inf_dehaze.network import InfDehaze
from napari_restore.models.inf_dehaze.release import renamed, sizes_of

WIDTHS, DEPTHS, HEADS = (96, 96, 192, 384), (2, 3, 4, 2), (2, 4, 8, 8)
KERNELS = (3,) * 4 + (5,) * 4 + (7,) * 4

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def block(name: str, c: int, heads: int, shifted: bool, windows: int) -> Shapes:
    for norm in ("norm1", "norm2"):
        yield f"{name}.{norm}.weight", (c,)
        yield f"{name}.{norm}.bias", (c,)
    yield f"{name}.attn.relative_position_bias_table", (225, heads)
    yield f"{name}.attn.relative_position_index", (64, 64)
    for part, out, given in (
        ("attn.qkv", 3 * c, c),
        ("attn.proj", c, c),
        ("mlp.fc1", 4 * c, c),
        ("mlp.fc2", c, 4 * c),
    ):
        yield f"{name}.{part}.weight", (out, given)
        yield f"{name}.{part}.bias", (out,)
    if shifted:
        yield f"{name}.attn_mask", (windows, 64, 64)


def bottleneck(name: str, index: int) -> Shapes:
    yield f"{name}.ln1.weight", (384,)
    yield f"{name}.ln2.weight", (384,)
    if index % 2 == 0:
        yield f"{name}.attn_core.attn.to_q.weight", (128, 384)
        yield f"{name}.attn_core.attn.to_k.weight", (128, 384)
        yield f"{name}.attn_core.attn.to_v.weight", (384, 384)
    else:
        yield f"{name}.attn_core.qkv.weight", (1152, 384)
        yield f"{name}.attn_core.proj.weight", (384, 384)
    yield f"{name}.mlp.gate_proj.weight", (1536, 384)
    yield f"{name}.mlp.up_proj.weight", (1536, 384)
    yield f"{name}.mlp.down_proj.weight", (384, 1536)
    for expert, kernel in enumerate(KERNELS):
        yield f"{name}.moe.experts.{expert}.conv1.weight", (384, 384, 1, 1)
        yield f"{name}.moe.experts.{expert}.conv2.conv.weight", (384, 1, kernel, kernel)
        yield f"{name}.moe.experts.{expert}.conv3.weight", (384, 384, 1, 1)
    yield f"{name}.moe.shared_experts.conv1.weight", (384, 384, 1, 1)
    yield f"{name}.moe.shared_experts.conv2.weight", (384, 384, 5, 5)
    yield f"{name}.moe.shared_experts.conv3.weight", (384, 384, 1, 1)
    yield f"{name}.moe.gate.gate.weight", (12, 384, 1, 1)
    yield f"{name}.moe.gate.gate.bias", (12,)


def release() -> Shapes:
    yield "encoder.patch_embed.proj.weight", (96, 3, 2, 2)
    yield "encoder.patch_embed.proj.bias", (96,)
    for part in ("encoder", "decoder"):
        for place in range(4):
            level = place if part == "encoder" else 3 - place
            c, name = WIDTHS[level], f"{part}.stages.{place}"
            for number in range(DEPTHS[level]):
                windows = (16 >> level) ** 2
                odd = number % 2 == 1
                yield from block(f"{name}.blocks.{number}", c, HEADS[level], odd, windows)
            if part == "encoder" and level < 3:
                yield f"{name}.patch_merging.norm.weight", (4 * c,)
                yield f"{name}.patch_merging.norm.bias", (4 * c,)
                yield f"{name}.patch_merging.reduction.weight", (WIDTHS[level + 1], 4 * c)
            if part == "decoder":
                yield f"{name}.proj.weight", (c, 2 * c)
                if level > 0:
                    yield f"{name}.patch_expand.expand.weight", (c, WIDTHS[level - 1], 2, 2)
                    yield f"{name}.patch_expand.expand.bias", (WIDTHS[level - 1],)
    for index in range(4):
        yield from bottleneck(f"bottleneck.blocks.{index}", index)
    yield "decoder.unembed.expand.weight", (96, 3, 2, 2)
    yield "decoder.unembed.expand.bias", (3,)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(4)
    made = {}
    for name, shape in release():
        if name.endswith("index"):
            made[name] = torch.zeros(shape, dtype=torch.int64)
        else:
            # Near what training leaves: scales about 1, matrices that keep a signal's size.
            spread = torch.empty(shape).uniform_(-1.7, 1.7)
            rows = spread[0].numel() if spread.ndim > 1 else 100
            made[name] = spread * rows**-0.5 + (spread.ndim == 1 and name.endswith("weight"))
    return made


@pytest.fixture(scope="module")
def path(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a training script saves it, from several GPUs."""
    file = tmp_path_factory.mktemp("release") / "release.pth"
    half = {f"module.{k}": v.half() if v.is_floating_point() else v for k, v in state.items()}
    torch.save({"model": half, "epoch": 100}, file)
    return file


@pytest.fixture(scope="module")
def model(path: Path) -> InfDehaze:
    loaded = load("inf-dehaze-lite", weights=path)
    assert isinstance(loaded, InfDehaze)
    return loaded


def near(ours: Tensor, theirs: Tensor) -> bool:
    """Equal but for the file's half precision."""
    return torch.allclose(ours, theirs, atol=1e-2 * float(theirs.abs().max()), rtol=1e-2)


@pytest.mark.nightly
def test_size(model: InfDehaze, state: dict[str, Tensor]) -> None:
    weights = sum(p.numel() for p in model.parameters())
    assert weights / 1e6 == pytest.approx(52.4, abs=0.1)
    learned = (v.numel() for k, v in state.items() if not k.endswith(("index", "attn_mask")))
    assert weights == sum(learned)
    assert model.card.id == "inf-dehaze-lite"
    assert model.card.weights_sha256


@pytest.mark.slow
def test_every_tensor_finds_its_place_once(state: dict[str, Tensor], model: InfDehaze) -> None:
    ours = renamed(state)
    assert ours.keys() == model.state_dict().keys()
    given = {v.data_ptr() for k, v in state.items() if not k.endswith(("index", "attn_mask"))}
    assert given <= {v.data_ptr() for v in ours.values()}
    assert len(ours) == len(given) + 2


def test_directions_are_the_same_in_every_process(
    model: InfDehaze, state: dict[str, Tensor]
) -> None:
    fresh = dict(Bottleneck(RELEASED).named_buffers())
    again, loaded = renamed(state), model.state_dict()
    names = [f"blocks.{index}.attention.directions" for index in (0, 2)]
    for name in names:
        assert torch.equal(loaded[f"bottleneck.{name}"], again[f"bottleneck.{name}"])
        assert torch.equal(loaded[f"bottleneck.{name}"], fresh[name])
    assert not torch.equal(fresh[names[0]], fresh[names[1]])


def test_encoder_layers_compute_with_it(model: InfDehaze, state: dict[str, Tensor]) -> None:
    def get(name: str) -> Tensor:
        return state[f"encoder.{name}"]

    x = torch.rand(1, 3, 256, 256)
    planes = functional.conv2d(
        x, get("patch_embed.proj.weight"), get("patch_embed.proj.bias"), stride=2
    )
    fine = planes.permute(0, 2, 3, 1)
    assert near(model.encoder.embed(x), fine)

    # Block 1 of stage 2 on one window that no shift divides, by the formula of Swin.
    name, heads = "stages.2.blocks.1", 8
    x = torch.randn(1, 32, 32, 192)
    window = x[0, 12:20, 4:12].reshape(64, 192)
    normed = functional.layer_norm(
        window, (192,), get(f"{name}.norm1.weight"), get(f"{name}.norm1.bias")
    )
    qkv = normed @ get(f"{name}.attn.qkv.weight").T + get(f"{name}.attn.qkv.bias")
    q, k, v = qkv.reshape(64, 3, heads, 24).permute(1, 2, 0, 3)
    cells = torch.cartesian_prod(torch.arange(8), torch.arange(8))
    offset = cells[:, None] - cells[None] + 7
    table = get(f"{name}.attn.relative_position_bias_table")
    bias = table[offset[..., 0] * 15 + offset[..., 1]].permute(2, 0, 1)
    weights = (q @ k.transpose(1, 2) * 24**-0.5 + bias).softmax(-1)
    seen = (weights @ v).transpose(0, 1).reshape(64, 192)
    out = window + seen @ get(f"{name}.attn.proj.weight").T + get(f"{name}.attn.proj.bias")
    normed = functional.layer_norm(
        out, (192,), get(f"{name}.norm2.weight"), get(f"{name}.norm2.bias")
    )
    hidden = functional.gelu(normed @ get(f"{name}.mlp.fc1.weight").T + get(f"{name}.mlp.fc1.bias"))
    out = out + hidden @ get(f"{name}.mlp.fc2.weight").T + get(f"{name}.mlp.fc2.bias")
    block = model.encoder.stages[2].blocks[1]  # type: ignore[index, union-attr]
    assert near(block(x)[0, 12:20, 4:12].reshape(64, 192), out)  # type: ignore[operator]

    # Merge 1: neighbours in Swin's order.
    x = torch.randn(1, 64, 64, 96)
    joined = torch.cat([x[:, i::2, j::2] for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))], dim=-1)
    name = "stages.1.patch_merging"
    normed = functional.layer_norm(
        joined, (384,), get(f"{name}.norm.weight"), get(f"{name}.norm.bias")
    )
    merged = normed @ get(f"{name}.reduction.weight").T
    assert near(model.encoder.stages[1].merge(x), merged)  # type: ignore[operator]


def test_bottleneck_layers_compute_with_it(model: InfDehaze, state: dict[str, Tensor]) -> None:
    def get(name: str) -> Tensor:
        return state[f"bottleneck.blocks.1.{name}.weight"]

    def rms(x: Tensor, name: str) -> Tensor:
        return x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * get(name)

    start = torch.randn(10, 384)
    x = start
    q, k, v = (rms(x, "ln1") @ get("attn_core.qkv").T).reshape(10, 3, 8, 48).permute(1, 2, 0, 3)
    seen = (q @ k.transpose(1, 2) * 48**-0.5).softmax(-1) @ v
    x = x + seen.transpose(0, 1).reshape(10, 384) @ get("attn_core.proj").T

    planes = x.reshape(2, 5, 384).permute(2, 0, 1)[None]
    chances = functional.conv2d(
        planes, get("moe.gate.gate"), state["bottleneck.blocks.1.moe.gate.gate.bias"]
    )
    best, chosen = chances.softmax(1).topk(3, dim=1)
    shares = torch.zeros_like(chances).scatter(1, chosen, best / best.sum(1, keepdim=True))
    hidden = functional.gelu(functional.conv2d(planes, get("moe.shared_experts.conv1")))
    hidden = functional.gelu(functional.conv2d(hidden, get("moe.shared_experts.conv2"), padding=2))
    local = functional.conv2d(hidden, get("moe.shared_experts.conv3"))
    for number, kernel in enumerate(KERNELS):
        name = f"moe.experts.{number}"
        hidden = functional.gelu(functional.conv2d(planes, get(f"{name}.conv1")))
        hidden = functional.conv2d(
            hidden, get(f"{name}.conv2.conv"), padding=kernel // 2, groups=384
        )
        hidden = functional.gelu(functional.gelu(hidden))
        local = local + shares[:, number : number + 1] * functional.conv2d(
            hidden, get(f"{name}.conv3")
        )
    local = local[0].permute(1, 2, 0).reshape(10, 384)
    normed = rms(x, "ln2")
    gated = functional.gelu(normed @ get("mlp.gate_proj").T) * (normed @ get("mlp.up_proj").T)
    expected = x + gated @ get("mlp.down_proj").T + 0.1 * local

    with torch.no_grad():
        out = model.bottleneck_layer(1, start.reshape(2, 5, 384).clone())
    assert near(out.reshape(10, 384), expected)


def test_decoder_layers_compute_with_it(model: InfDehaze, state: dict[str, Tensor]) -> None:
    def get(name: str) -> Tensor:
        return state[f"decoder.{name}"]

    stage = model.decoder.stages[0]
    x, skip = torch.randn(2, 1, 16, 16, 384)
    joined = torch.cat([x, skip], dim=-1) @ get("stages.0.proj.weight").T
    assert near(stage.join(x, skip), joined)  # type: ignore[operator]
    grown = functional.conv_transpose2d(
        x.permute(0, 3, 1, 2),
        get("stages.0.patch_expand.expand.weight"),
        get("stages.0.patch_expand.expand.bias"),
        stride=2,
    )
    assert near(stage.expand(x).permute(0, 3, 1, 2), grown)  # type: ignore[operator]
    x = torch.randn(1, 128, 128, 96)
    pixels = functional.conv_transpose2d(
        x.permute(0, 3, 1, 2), get("unembed.expand.weight"), get("unembed.expand.bias"), stride=2
    )
    assert near(model.decoder.unembed(x).permute(0, 3, 1, 2), pixels)


@pytest.mark.slow
def test_it_restores_an_image(model: InfDehaze) -> None:
    x = torch.rand(1, 3, 100, 200)
    with torch.inference_mode():
        y = model(x)
    assert y.shape == x.shape
    assert torch.isfinite(y).all()
    assert not torch.equal(y, x)


def test_our_own_names_of_that_shape_are_known(model: InfDehaze) -> None:
    ours = model.state_dict()
    assert renamed(ours).keys() == ours.keys()
    assert sizes_of(ours, config=LITE) == {"released": True}


def test_a_checkpoint_that_lacks_a_tensor_says_which(
    model: InfDehaze, state: dict[str, Tensor]
) -> None:
    broken = {k: v for k, v in state.items() if "shared_experts.conv1" not in k}
    with pytest.raises(BadModel, match=r"it.pth lacks bottleneck\.blocks\.0\.experts\.shared"):
        fill(model, renamed(broken), "it.pth")


def test_it_is_not_of_another_size(path: Path) -> None:
    with pytest.raises(BadModel, match="not those of this Inf-Dehaze"):
        load("inf-dehaze-fast", weights=path)
