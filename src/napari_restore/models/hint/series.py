"""Two HINT networks in a row: the second brightens what the first has freed of noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from napari_restore.errors import BadModel
from napari_restore.models._attention import AttentionRow, AttentionSite, HeadOutputs
from napari_restore.models._card import ModelCard
from napari_restore.models._layers import pad_to_multiple
from napari_restore.models._model import Statistics
from napari_restore.models._steps import RESTORED, Counts, Map, Sums, Sweep, SweepInput
from napari_restore.models._sweeps import SweptModel
from napari_restore.models.hint.config import STRIDE, HintConfig, sizes_of_small
from napari_restore.models.hint.model import Hint
from napari_restore.models.hint.ways import SMALL

PARTS = ("denoise", "brighten")
"""The networks in their order; what belongs to one is named ``part.name``."""
BETWEEN = "between"
"""Map of the pixels without noise, (3, H, W) float32."""


class HintSeries(SweptModel):
    """Two networks, each judged by all of the image that it is given: sweeps of one, then the other."""

    gives_head_outputs = True

    def __init__(self, card: ModelCard, configs: Mapping[str, HintConfig]) -> None:
        super().__init__(card)
        self.denoise, self.brighten = (Hint(card, configs[part]) for part in PARTS)

    def steps(self) -> tuple[Sweep, ...]:
        first, second = (part.steps() for part in self._parts.values())
        last = replace(first[-1], writes=(Map(BETWEEN, 3, dtype="float32"),))
        return (
            *(_named(PARTS[0], sweep) for sweep in (*first[:-1], last)),
            *(_named(PARTS[1], sweep) for sweep in second[:-1]),
            # The last sweep of a model sees the image.
            replace(_named(PARTS[1], second[-1]), sees_image=True),
        )

    def whole(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the restored images (N, 3, H, W), each judged by all of itself."""
        height, width = x.shape[2:]
        counted = None if valid is None else pad_to_multiple(valid, STRIDE)
        whole = pad_to_multiple(x, STRIDE)
        for part in self._parts.values():
            whole = part.whole(whole, counted)
        return whole[..., :height, :width]

    def attention_sites(self) -> tuple[AttentionSite, ...]:
        """Return the blocks with attention, named by network, stage and number."""
        return tuple(
            replace(
                site,
                name=f"{name}.{site.name}",
                title=f"{name}, {site.title}",
                step=f"{name}.{site.step}",
            )
            for name, part in self._parts.items()
            for site in part.attention_sites()
        )

    def without_head(self, site: str, head: int) -> HintSeries:
        name, _, own = site.partition(".")
        model = self._copy_without(site, head)
        setattr(model, name, self._parts[name].without_head(own, head))
        return model

    def attention_rows(
        self, step: str, given: SweepInput, pixel: tuple[int, int], names: frozenset[str]
    ) -> dict[str, AttentionRow]:
        """Return the rows of a pixel as `Hint` does."""
        name, _, own = step.partition(".")
        found = self._parts[name].attention_rows(
            own, _own_input(name, given), pixel, _own_names(name, names)
        )
        return {f"{name}.{site}": row for site, row in found.items()}

    def attention_outputs(
        self, step: str, given: SweepInput, names: frozenset[str]
    ) -> dict[str, HeadOutputs]:
        """Return what the heads put out as `Hint` does."""
        name, _, own = step.partition(".")
        found = self._parts[name].attention_outputs(
            own, _own_input(name, given), _own_names(name, names)
        )
        return {f"{name}.{site}": outputs for site, outputs in found.items()}

    @property
    def _parts(self) -> dict[str, Hint]:
        return {"denoise": self.denoise, "brighten": self.brighten}


def _named(part: str, sweep: Sweep) -> Sweep:
    """Return a sweep of one of the networks as one of the series."""
    reads = tuple(_of(part, name) for name in sweep.reads)
    is_second = part == PARTS[1]
    if is_second and sweep.sees_image:
        reads = (*reads, BETWEEN)

    def run(given: SweepInput) -> Mapping[str, Tensor]:
        return {_of(part, name): y for name, y in sweep.run(_own_input(part, given)).items()}

    return Sweep(
        f"{part}.{sweep.name}",
        f"{sweep.title} ({part})",
        run,
        reads=reads,
        writes=tuple(replace(each, name=_of(part, each.name)) for each in sweep.writes),
        halo=sweep.halo,
        sees_image=sweep.sees_image and not is_second,
        counts=None if sweep.counts is None else _named_counts(part, sweep.counts),
    )


def _named_counts(part: str, counts: Counts) -> Counts:
    def count(features: Mapping[str, Tensor], valid: Tensor | None) -> Sums:
        return counts.count(_own(part, features), valid)

    def settle(sums: Sums, statistics: Statistics) -> Statistics:
        found = counts.settle(sums, _own(part, statistics))
        return {f"{part}.{name}": value for name, value in found.items()}

    return Counts(
        features=tuple(replace(each, name=_of(part, each.name)) for each in counts.features),
        shapes=counts.shapes,
        count=count,
        settles=tuple(f"{part}.{name}" for name in counts.settles),
        settle=settle,
        choices=tuple(f"{part}.{name}" for name in counts.choices),
    )


def _of(part: str, name: str) -> str:
    """Return the name in the series of what a network calls `name`."""
    if name == RESTORED and part == PARTS[0]:
        return BETWEEN
    return name if name in (RESTORED, BETWEEN) else f"{part}.{name}"


def _own(part: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what belongs to a network or to none, under the network's names."""
    others = tuple(f"{each}." for each in PARTS if each != part)
    return {
        name.removeprefix(f"{part}."): value
        for name, value in values.items()
        if not name.startswith(others)
    }


def _own_names(part: str, names: frozenset[str]) -> frozenset[str]:
    return frozenset(name.removeprefix(f"{part}.") for name in names if name.startswith(part))


def _own_input(part: str, given: SweepInput) -> SweepInput:
    """Return what a network sees of the input of a sweep: the second sees the first one's pixels."""
    wanted = given.wanted
    if wanted is not None:
        own = {RESTORED if name == BETWEEN else name.removeprefix(f"{part}.") for name in wanted}
        wanted = frozenset(own)
    return replace(
        given,
        view=given.maps.get(BETWEEN) if part == PARTS[1] else given.view,
        maps=_own(part, given.maps),
        statistics=_own(part, given.statistics),
        wanted=wanted,
    )


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
