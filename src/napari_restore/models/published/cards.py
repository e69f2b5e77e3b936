"""Structures of published networks, by which weights are known, and the models made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from napari_restore.errors import BadModel
from napari_restore.models._card import ModelCard, Task
from napari_restore.models._registry import ModelEntry, resolve

if TYPE_CHECKING:
    from napari_restore.models._wrap import WrappedModel


_COLOURS = ("red", "green", "blue")


def made(network: str, title: str, card: ModelCard, **sizes: Any) -> WrappedModel:
    """Return the model of the structure `title`, the class `network`, ``"module:Class"``.

    What its tiles must see is still to be measured. Raises `BadModel` for a card of other bands.
    """
    from napari_restore.models._wrap import WrappedModel, check_inputs

    module = resolve(network)(**sizes)
    if card.bands not in (None, module.bands):
        raise BadModel(
            f"The card of {card.id} says bands {card.bands}; these weights have {module.bands}.",
            "Correct the field bands.",
        )
    # A card may say another order.
    roles = card.roles or (_COLOURS if module.bands == len(_COLOURS) else ())
    if card.noise_level is not None and getattr(module, "inputs", None) == module.bands:
        # Weights for one level alone.
        card = replace(card, noise_level=None, parameters=(), values={})
    if (scale := getattr(module, "scale", 1)) != card.scale != 1:
        raise BadModel(
            f"The card of {card.id} says scale {card.scale}; these weights have {scale}.",
            "Correct the field scale.",
        )
    card = replace(card, scale=scale)
    step = module.step
    card = replace(card, bands=module.bands, roles=roles, multiple_of=step, padded_to=step)
    check_inputs(card)
    model = WrappedModel(module, card)
    model.measured = True
    model.structure = described(title, sizes)
    return model


def described(title: str, sizes: Mapping[str, Any]) -> str:
    """Return a structure and its sizes in words: ``NAFNet (bands 3, width 32, encoders 2 2 4 8)``."""
    words = [f"{name.replace('_', ' ')} {_words(value)}" for name, value in sizes.items()]
    return f"{title} ({', '.join(words)})" if words else title


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, (tuple, list)):
        return str(value) or "none"
    if not any(isinstance(each, (tuple, list)) for each in value):
        return " ".join(map(str, value))
    # Alike ones that follow each other are counted.
    counted = (((len(list(same)), one) for one, same in groupby(each)) for each in value)
    return ", ".join(
        " ".join(f"{count} × {one}" if count > 1 else str(one) for count, one in each)
        for each in counted
    )


_HERE = "napari_restore.models.published"


def _entry(
    name: str,
    title: str,
    task: Task,
    marks: tuple[str, ...],
    source: str,
    *,
    summary: str,
    rename: bool = False,
    **fields: Any,
) -> ModelEntry:
    """Return the entry of the module `name`, whose class is called as the title, without hyphens."""
    module, network = f"{_HERE}.{name}", title.replace("-", "")
    card = ModelCard(
        name.replace("_", "-"),
        title,
        summary,
        task=task,
        source=source,
        licence="BSD-3-Clause; of the weights: their authors'",
        needs_weights=True,
        **fields,
    )
    return ModelEntry(
        card,
        partial(made, f"{module}:{network}", title),
        sizes=f"{module}:sizes_of",
        rename=f"{module}:renamed" if rename else None,
        marks=marks,
    )


ENTRIES = (
    _entry(
        "astv2",
        "ASTv2",
        "other",
        ("patch_embed.proj.weight", "encoder_level1.0.ffn.partial_conv3.weight"),
        "Zhou et al., IEEE TPAMI 2025; AST: CVPR 2024",
        summary="Adaptive sparse attention between channels: rain, haze, snow, shadows, blur.",
    ),
    _entry(
        "restormer",
        "Restormer",
        "other",
        ("patch_embed.proj.weight", "latent.0.attn.qkv_dwconv.weight"),
        "Zamir et al., CVPR 2022, arXiv:2111.09881",
        summary="Attention between channels over all pixels: rain, blur, noise.",
    ),
    _entry(
        "retinexformer",
        "Retinexformer",
        "lowlight",
        ("body.0.estimator.depth_conv.weight", "body.0.denoiser.embedding.weight"),
        "Cai et al., ICCV 2023, arXiv:2303.06705",
        summary="Lights up dark photographs by a map, with attention between channels.",
    ),
    _entry(
        "nafnet",
        "NAFNet",
        "other",
        ("intro.weight", "ending.weight", "middle_blks.0.sca.1.weight", "middle_blks.0.beta"),
        "Chen et al., ECCV 2022, arXiv:2204.04676",
        summary="A U-Net without activations that weights channels by their means: noise, blur.",
    ),
    _entry(
        "swinir",
        "SwinIR",
        "denoise",
        ("conv_first.weight", "layers.0.residual_group.blocks.0.attn.qkv.weight"),
        "Liang et al., ICCV Workshops 2021, arXiv:2108.10257",
        summary="Attention within shifted windows: noise, JPEG artefacts, super-resolution.",
        rename=True,
        min_size=8,
    ),
    _entry(
        "dehazeformer",
        "DehazeFormer",
        "dehaze",
        ("patch_unembed.proj.0.weight", "fusion1.mlp.0.weight", "layer1.blocks.0.mlp.mlp.0.weight"),
        "Song et al., IEEE TIP 2023, arXiv:2204.03883",
        summary="Attention within windows, normalised by the whole image, against haze.",
        min_size=32,
        value_range=(-1.0, 1.0),
    ),
    _entry(
        "ffa_net",
        "FFA-Net",
        "dehaze",
        ("pre.0.weight", "g1.gp.0.calayer.ca.0.weight", "post.1.weight"),
        "Qin et al., AAAI 2020, arXiv:1911.07559",
        summary="Residual blocks with attention to channels and pixels, against haze.",
        mean=(0.64, 0.6, 0.58),
        std=(0.14, 0.15, 0.152),
        output_range=(0.0, 1.0),
    ),
    _entry(
        "aod_net",
        "AOD-Net",
        "dehaze",
        ("e_conv1.weight", "e_conv5.weight"),
        "Li et al., ICCV 2017, arXiv:1707.06543",
        summary="Five small convolutions that estimate haze and airlight as one map.",
    ),
    _entry(
        "drunet",
        "DRUNet",
        "denoise",
        ("m_head.weight", "m_body.0.res.0.weight", "m_tail.weight"),
        "Zhang et al., IEEE TPAMI 2022, arXiv:2008.13751",
        summary="A residual U-Net that denoises at a given level.",
        noise_level=15.0,
    ),
    _entry(
        "ffdnet",
        "FFDNet",
        "denoise",
        ("model.0.weight", "model.2.weight"),
        "Zhang et al., IEEE TIP 2018, arXiv:1710.04026",
        summary="A denoiser on a quarter of the pixels, given the noise level.",
        noise_level=15.0,
        noise_as="argument",
    ),
    _entry(
        "dncnn",
        "DnCNN",
        "denoise",
        ("model.0.weight", "model.2.weight"),
        "Zhang et al., IEEE TIP 2017, arXiv:1608.03981",
        summary="A plain stack of convolutions that estimates the noise.",
        rename=True,
    ),
    _entry(
        "unet",
        "U-Net",
        "other",
        ("inc.double_conv.0.weight", "outc.conv.weight"),
        "Ronneberger et al., MICCAI 2015, arXiv:1505.04597",
        summary="The U-Net of Pytorch-UNet, trained for images instead of classes.",
    ),
)
