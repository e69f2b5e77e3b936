"""Two HINT networks in a row: the second brightens what the first has freed of noise.

A rule follows them. The second network takes what is dark for too little white, too, and a lamp in a
dark room for a bright picture. So the ratios of the bands are those of the first one's picture, where it
has light enough to have any, and a picture that is dark still has its light multiplied, the more the
darker it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from napari_restore.errors import BadModel
from napari_restore.models._attention import AttentionRow, AttentionSite, HeadOutputs
from napari_restore.models._card import ModelCard
from napari_restore.models._layers import LUMA, light_of_display
from napari_restore.models._steps import RESTORED, Counts, Map, Sums, Sweep, SweepInput
from napari_restore.models._sweeps import SweptModel
from napari_restore.models.hint.config import HintConfig, sizes_of_small
from napari_restore.models.hint.model import Hint
from napari_restore.models.hint.network import Place
from napari_restore.models.hint.ways import SMALL

PARTS = ("denoise", "brighten")
"""The networks in their order; what belongs to one is named ``part.name``."""
BETWEEN, BRIGHT = "between", "bright"
"""Maps of the pixels without noise, and of what the second network returns, (3, H, W) float32."""
LIGHT = "light"
"""Counted map: luminance of `BRIGHT` in linear light, and the share of an exposure that a pixel takes."""
EXPOSURE = f"{PARTS[1]}.exposure"
"""Statistic (N,): EV by which the odds of the light are multiplied."""
STEP_EV = 0.25
EVS = tuple(STEP_EV * number for number in range(13))
"""The exposures that are compared, 0 to 3."""
LEAST_LIGHT = 0.04
"""Geometric mean of the luminance below which a picture is exposed more. Chosen by two exposures each of
four scenes: +2.7 dB; synthetic low light: +0.1 dB."""
FLOOR = 0.0012
"""Light at which a pixel takes half of the exposure, that of 4 of 255: what is darker is noise and blocks."""
GREY, COLOURED = 1 / 255, 6 / 255
"""Display values from and up to which a pixel without noise gets its colour."""
SURE = 0.002
"""Light at which half of the ratios is of the pixels without noise."""
DARKEST = 1e-4


class HintSeries(SweptModel):
    """Two networks, each judged by all of the image that it is given: sweeps of one, then the other."""

    gives_head_outputs = True

    def __init__(self, card: ModelCard, configs: Mapping[str, HintConfig]) -> None:
        super().__init__(card)
        self.denoise, self.brighten = (Hint(card, configs[part]) for part in PARTS)
        self.denoise.place = Place(PARTS[0], restored=Map(BETWEEN, 3, dtype="float32"))
        self.brighten.place = Place(PARTS[1], BETWEEN, Map(BRIGHT, 3, dtype="float32"))

    def steps(self) -> tuple[Sweep, ...]:
        *second, last = self.brighten.steps()
        # The last sweep of a model sees the image.
        reads, writes = (BETWEEN, BRIGHT), (Map(RESTORED, 3),)
        expose = Sweep(f"{PARTS[1]}.expose", "Exposing", _exposed, reads, writes)
        return (*self.denoise.steps(), *second, _counted(last), expose)

    def attention_sites(self) -> tuple[AttentionSite, ...]:
        """Return the blocks with attention, named by network, stage and number."""
        return (*self.denoise.attention_sites(), *self.brighten.attention_sites())

    def without_head(self, site: str, head: int) -> HintSeries:
        model = self._copy_without(site, head)
        setattr(model, site.partition(".")[0], self._part_of(site).without_head(site, head))
        return model

    def attention_rows(
        self, step: str, given: SweepInput, pixel: tuple[int, int], names: frozenset[str]
    ) -> dict[str, AttentionRow]:
        """Return the rows of a pixel as `Hint` does."""
        return self._part_of(step).attention_rows(step, given, pixel, names)

    def attention_outputs(
        self, step: str, given: SweepInput, names: frozenset[str]
    ) -> dict[str, HeadOutputs]:
        """Return what the heads put out as `Hint` does."""
        return self._part_of(step).attention_outputs(step, given, names)

    def _part_of(self, name: str) -> Hint:
        """Return the network that a site or step of this name is of."""
        return self.denoise if name.startswith(f"{PARTS[0]}.") else self.brighten


def _counted(sweep: Sweep) -> Sweep:
    """Return the last sweep of the second network, which also counts how light its picture is."""

    def run(given: SweepInput) -> Mapping[str, Tensor]:
        found = {**sweep.run(given)}
        if given.wants(LIGHT):
            before, after = (light_of_display(x) for x in (given.maps[BETWEEN], found[BRIGHT]))
            found[LIGHT] = torch.cat([_luminance(after), _share(_luminance(before))], 1)
        return found

    counts = Counts(
        features=(Map(LIGHT, 2),),
        shapes={"logs": (len(EVS),), "pixels": ()},
        count=lambda features, valid: _sums(features[LIGHT], valid),
        statistics=(EXPOSURE,),
        finalize=lambda sums, _: {EXPOSURE: _finalized(sums)},
    )
    return replace(sweep, run=run, counts=counts)


def _exposed(given: SweepInput) -> Mapping[str, Tensor]:
    between, bright = given.maps[BETWEEN], given.maps[BRIGHT]
    return {RESTORED: exposed(between, bright, given.statistics[EXPOSURE])}


def _share(light: Tensor) -> Tensor:
    """Return the share of an exposure that pixels of this light take."""
    return light / (light + FLOOR)


def _after(own: Tensor, share: Tensor, ev: Tensor | float) -> Tensor:
    """Return the luminance (N, 1, h, w) whose odds are 2 to the `share` of `ev` times those of `own`."""
    gained = own * 2 ** (share * ev)
    lit: Tensor = gained / (1 - own + gained)
    return lit


def _sums(light: Tensor, valid: Tensor | None) -> Sums:
    """Return sums over `LIGHT` of the logarithm of the luminance, for each of `EVS`."""
    counts = torch.ones_like(light[:, :1]) if valid is None else valid.to(light)
    own, share = light[:, :1], light[:, 1:]
    lit = (_after(own, share, ev).clamp(min=DARKEST) for ev in EVS)
    logs = [(each.log() * counts).double().sum((1, 2, 3)) for each in lit]
    return {"logs": torch.stack(logs, 1), "pixels": counts.double().sum((1, 2, 3))}


def _finalized(sums: Sums) -> Tensor:
    """Return the least exposure (N,) in EV that brings the mean light to `LEAST_LIGHT`."""
    means = sums["logs"] / sums["pixels"][:, None].clamp(min=1)
    wanted = math.log(LEAST_LIGHT)
    low = ((means < wanted).sum(1, keepdim=True) - 1).clamp(0, means.shape[1] - 2)
    before, after = means.gather(1, low), means.gather(1, low + 1)
    share = ((wanted - before) / (after - before).clamp(min=1e-9)).clamp(0, 1)
    return STEP_EV * (low + share)[:, 0]


def exposed(between: Tensor, bright: Tensor, ev: Tensor) -> Tensor:
    """Return brightened pictures (N, 3, h, w) with the hues of `between`, exposed by `ev` (N,).

    Both are display values; what is beyond 0 and 1 in `bright` is added again.
    """
    seen, shown = light_of_display(between), light_of_display(bright)
    light, bright_light = _luminance(seen), _luminance(shown)
    own, others = shown / bright_light.clamp(min=DARKEST), seen / light.clamp(min=DARKEST)
    ratio = torch.lerp(own, others, light / (light + SURE))
    coloured = (between.amax(1, keepdim=True) - GREY) / (COLOURED - GREY)
    ratio = torch.lerp(torch.ones_like(ratio), ratio, coloured.clamp(0, 1))
    wanted = _after(bright_light, _share(light), ev.to(bright)[:, None, None, None])
    # A band that would be above white gives the excess to none: the pixel becomes paler.
    above = ratio.amax(1, keepdim=True) - 1
    room = (1 / wanted.clamp(min=DARKEST) - 1) / above.clamp(min=DARKEST)
    lit = wanted * (1 + (ratio - 1) * room.clamp(max=1))
    curved = 1.055 * lit.clamp(min=DARKEST) ** (1 / 2.4) - 0.055
    return torch.where(lit > 0.0031308, curved, 12.92 * lit) + bright - bright.clamp(0, 1)


def _luminance(light: Tensor) -> Tensor:
    return (light * light.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


def sizes_of_series(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the arguments of `make_series` for weights of both networks; raises `BadModel`."""
    sizes: dict[str, int] = {}
    for part in PARTS:
        own = {n.removeprefix(f"{part}."): t for n, t in state.items() if n.startswith(f"{part}.")}
        if not own:
            raise BadModel(
                f"These weights lack those of {part!r}.",
                "Weights of one network are those of hint-small.",
            )
        sizes |= {f"{part}_{name}": size for name, size in sizes_of_small(own).items()}
    return sizes


def make_series(card: ModelCard, **sizes: int) -> HintSeries:
    """Return both networks in the small size, but for `sizes`: fields of `HintConfig` behind a part."""
    configs = {}
    for part in PARTS:
        start = f"{part}_"
        own = {name.removeprefix(start): n for name, n in sizes.items() if name.startswith(start)}
        configs[part] = HintConfig(**{**SMALL, **own})
    return HintSeries(card, configs)
