"""HINT as its report describes it, step by step and as slow as that is: one image, plain tensors.

Written from the description of the network, not from our modules; it takes a state dict.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as f

State = Mapping[str, Tensor]


def hint(
    state: State,
    x: Tensor,
    *,
    rounding: str = "trunc",
    cache: Tensor | None = None,
    intra_size: int = 0,
    regroup: bool = True,
    equal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Return the output of an image (1, 3, H, W), sides multiples of 8, and the cache it leaves."""
    options = {
        "rounding": rounding,
        "regroup": regroup,
        "equal": equal,
        "intra_size": intra_size,
        "pixels": x.shape[2] * x.shape[3],
    }
    enc1 = f.conv2d(x, state["patch_embed.proj.weight"], padding=1)
    enc1 = encoder(state, "encoder_level1", enc1)
    enc2 = f.conv2d(enc1, state["down1_2.body.0.weight"], padding=1)
    enc2 = encoder(state, "encoder_level2", f.pixel_unshuffle(enc2, 2))
    enc3 = f.conv2d(enc2, state["down2_3.body.0.weight"], padding=1)
    enc3 = encoder(state, "encoder_level3", f.pixel_unshuffle(enc3, 2))
    y = f.pixel_unshuffle(f.conv2d(enc3, state["down3_4.body.0.weight"], padding=1), 2)
    y, cache = decoder(state, "latent", y, cache, options)
    y = f.pixel_shuffle(f.conv2d(y, state["up4_3.body.0.weight"], padding=1), 2)
    y = f.conv2d(torch.cat([y, enc3], 1), state["reduce_chan_level3.weight"])
    y, cache = decoder(state, "decoder_level3", y, cache, options)
    y = f.pixel_shuffle(f.conv2d(y, state["up3_2.body.0.weight"], padding=1), 2)
    y = f.conv2d(torch.cat([y, enc2], 1), state["reduce_chan_level2.weight"])
    y, cache = decoder(state, "decoder_level2", y, cache, options)
    y = f.pixel_shuffle(f.conv2d(y, state["up2_1.body.0.weight"], padding=1), 2)
    y = torch.cat([y, enc1], 1)
    y, cache = decoder(state, "decoder_level1", y, cache, options)
    y, cache = decoder(state, "refinement", y, cache, options)
    return f.conv2d(y, state["output.weight"], padding=1) + x, cache


def numbers(state: State, stage: str) -> range:
    return range(len({k.split(".")[1] for k in state if k.startswith(f"{stage}.")}))


def encoder(state: State, stage: str, x: Tensor) -> Tensor:
    for number in numbers(state, stage):
        x = feed_forward(state, f"{stage}.{number}", x)
    return x


def decoder(state: State, stage: str, x: Tensor, cache: Tensor | None, options) -> tuple:
    for number in numbers(state, stage):
        block = f"{stage}.{number}"
        normed = layer_norm(state, f"{block}.norm1", x)
        change, cache = attention(state, f"{block}.attn", normed, cache, options)
        x = feed_forward(state, block, x + change)
    return x, cache


def feed_forward(state: State, block: str, x: Tensor) -> Tensor:
    y = f.conv2d(layer_norm(state, f"{block}.norm2", x), state[f"{block}.ffn.project_in.weight"])
    weight = state[f"{block}.ffn.dwconv.weight"]
    y = f.conv2d(y, weight, padding=1, groups=len(weight))
    a, b = y[:, : y.shape[1] // 2], y[:, y.shape[1] // 2 :]
    gelu = a * 0.5 * (1 + torch.erf(a / 2**0.5))
    return x + f.conv2d(gelu * b, state[f"{block}.ffn.project_out.weight"])


def layer_norm(state: State, name: str, x: Tensor) -> Tensor:
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).square().mean(1, keepdim=True)
    normed = (x - mean) / (variance + 1e-5).sqrt()
    weight, bias = state[f"{name}.body.weight"], state[f"{name}.body.bias"]
    return normed * weight[None, :, None, None] + bias[None, :, None, None]


def attention(state: State, name: str, x: Tensor, cache: Tensor | None, options) -> tuple:
    _, channels, height, width = x.shape
    qkv = f.conv2d(x, state[f"{name}.qkv.weight"])
    qkv = f.conv2d(qkv, state[f"{name}.qkv_dwconv.weight"], padding=1, groups=3 * channels)
    q, k, v = (part.reshape(channels, height * width) for part in qkv[0].chunk(3))
    if options["regroup"]:
        means = torch.corrcoef(q).mean(1)
        order = torch.tensor(sorted(range(channels), key=lambda c: -float(means[c])))
        q, k, v = q[order], k[order], v[order]
    eighth = channels // 8
    sizes = [2 * eighth] * 4 if options["equal"] else [eighth, 2 * eighth, 2 * eighth, 3 * eighth]
    has_inter = f"{name}.inter_modulator1.conv_width.weight" in state
    if has_inter and cache is not None and len(cache) != channels:
        cache = f.adaptive_avg_pool2d(cache[None], channels)[0]
    outputs, kept, added, start = [], [], torch.zeros(channels, channels, dtype=x.dtype), 0
    for head, size in enumerate(sizes):
        part = slice(start, start + size)
        start += size
        qn = q[part] / q[part].norm(dim=1, keepdim=True).clamp(min=1e-12)
        kn = k[part] / k[part].norm(dim=1, keepdim=True).clamp(min=1e-12)
        a = torch.softmax(state[f"{name}.temperature"][head] * (qn @ kn.T), dim=1)
        kept.append(qn + kn)
        if has_inter:
            if cache is not None:
                a = modulated(state, f"{name}.inter_modulator{head + 1}", a, cache)
            spread = f.interpolate(a[None, None], (channels, channels), mode="bilinear")[0, 0]
            share = spread * size / channels
            if options["rounding"] != "none":
                share = {"trunc": torch.trunc, "floor": torch.floor}[options["rounding"]](share)
            added = added + share
        outputs.append(a @ v[part])
    if has_inter:
        cache = 0.9 * added if cache is None else 0.9 * cache + 0.1 * added
    o, t = torch.cat(outputs), torch.cat(kept)
    if options["intra_size"]:
        t = t * options["pixels"] ** 0.5 / options["intra_size"]
    if f"{name}.intra_modulator.down.weight" in state:
        z = o + t
        g = f.gelu(conv1d(state, f"{name}.intra_modulator.gatingConv", z)) * z
        y = conv1d(state, f"{name}.intra_modulator.down", g)
        o = conv1d(state, f"{name}.intra_modulator.up", y) + o
    o = o.reshape(1, channels, height, width)
    return f.conv2d(o, state[f"{name}.project_out.weight"]), cache


def modulated(state: State, name: str, a: Tensor, cache: Tensor) -> Tensor:
    pooled = f.adaptive_avg_pool2d(cache[None], len(a))[0]
    both = conv1d(state, f"{name}.conv_width", pooled + a)
    m = a * both[: len(a)] + both[len(a) :]
    return a + m * f.gelu(conv1d(state, f"{name}.gatingConv", m))


def conv1d(state: State, name: str, x: Tensor) -> Tensor:
    return state[f"{name}.weight"][..., 0] @ x + state[f"{name}.bias"][:, None]
