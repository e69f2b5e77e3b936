"""Attributions of models whose answer is known, and of small networks against captum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.explain._models import HALO, Pointwise, Small, scene, wrapped
from torch import nn

import napari_restore as nr
from napari_restore import Region
from napari_restore.engine import Progress
from napari_restore.errors import BadModel, BadParameter, BadRegion, Cancelled
from napari_restore.explain import attribute

BOX = Region(40, 60, 56, 84)
OPTIONS: dict[str, Any] = {"device": "cpu", "method": "ig"}


def ask(module: nn.Module, pixels: Any = None, box: Region = BOX, **options: Any) -> Any:
    halo = options.pop("halo", HALO)
    image = nr.open_image(scene() if pixels is None else pixels)
    return attribute(image, wrapped(module, halo), box, **{**OPTIONS, **options})


def on_image(found: Any, shape: tuple[int, int] = (128, 160)) -> np.ndarray[Any, Any]:
    """The map (h, w, bands) over the whole image."""
    whole = np.zeros((*shape, 3), np.float32)
    whole[found.region.slices] = found.map
    return whole


@pytest.mark.parametrize("objective", ["mean", "change", "gradient", "mean+variance", "channel:2"])
def test_it_equals_captum_at_the_same_nodes(objective: str) -> None:
    captum = pytest.importorskip("captum.attr")
    network, pixels = Small().eval(), scene()
    found = ask(network, objective=objective, baseline="zero", steps=12)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    from napari_restore.explain.attribution.objectives import objective_of

    wanted = objective_of(objective, 3)
    seen = Region(BOX.y0, BOX.x0, BOX.y1 + wanted.beyond, BOX.x1 + wanted.beyond)
    counts = torch.ones(1, 1, *seen.shape)

    def value(batch: torch.Tensor) -> torch.Tensor:
        rows, columns = seen.slices
        outputs = network(batch)
        return torch.stack(
            [
                wanted(y[None, :, rows, columns], z[None, :, rows, columns], counts)
                for y, z in zip(outputs, batch, strict=True)
            ]
        )

    ours = on_image(found)
    theirs = captum.IntegratedGradients(value).attribute(
        x, torch.zeros_like(x), n_steps=12, method="gausslegendre", internal_batch_size=4
    )
    theirs = theirs[0].permute(1, 2, 0).detach().numpy()
    assert np.abs(theirs).max() > 0
    assert np.linalg.norm(ours - theirs) <= 1e-5 * np.linalg.norm(theirs)


def test_a_linear_model_has_its_closed_form() -> None:
    pixels = scene()
    found = ask(
        Pointwise(lambda x: 3 * x - 0.2), pixels, objective="mean", baseline="zero", steps=1
    )
    expected = np.zeros_like(pixels)
    expected[BOX.slices] = 3 * pixels[BOX.slices] / (BOX.pixels * 3)
    assert np.allclose(on_image(found), expected, atol=1e-8)
    assert found.record["attribution"]["completeness"]["relative_gap"] < 1e-5


def test_a_shift_lights_exactly_the_pixels_it_takes() -> None:
    shifted = Pointwise(lambda x: torch.roll(x, (1, 2), (2, 3)))
    found = ask(shifted, objective="mean", baseline="zero", box=Region(50, 50, 51, 51))
    lit = np.argwhere(np.abs(on_image(found)).sum(axis=2) > 0)
    assert lit.tolist() == [[49, 48]]


def test_a_constant_model_gives_zeros() -> None:
    found = ask(Pointwise(lambda x: torch.full_like(x, 0.3)), objective="mean", baseline="zero")
    assert not found.map.any()
    told = found.record["attribution"]
    assert told["completeness"]["relative_gap"] is None
    assert told["completeness"]["reached"] is None
    assert told["diffusion_index"] is None


def test_a_change_leaves_out_what_passes_unchanged() -> None:
    mean = ask(Pointwise(lambda x: x + 0.01 * x * x), objective="mean", baseline="zero")
    assert mean.record["attribution"]["identity_share"] > 0.9
    change = ask(Pointwise(lambda x: x + 0.01 * x * x), objective="change", baseline="zero")
    assert change.record["attribution"]["identity_share"] == 0
    assert np.abs(change.map).sum() < 0.05 * np.abs(mean.map).sum()


@pytest.mark.slow
def test_other_weights_give_another_map() -> None:
    from scipy.stats import spearmanr

    one, other = (
        on_image(ask(Small(seed), baseline="zero", steps=5)).sum(axis=2) for seed in (0, 1)
    )
    rank = abs(spearmanr(one[BOX.slices].ravel(), other[BOX.slices].ravel()).statistic)
    assert rank < 0.5


@pytest.mark.parametrize("method", ["ig", "lam", "haze"])
@pytest.mark.ids("slow", "lam")
def test_paths_are_complete(method: str) -> None:
    found = ask(Small(), method=method)
    told = found.record["attribution"]["completeness"]
    assert told["reached"]
    assert found.map.sum(dtype=np.float64) == pytest.approx(told["sum"], rel=1e-4)
    assert told["sum"] == pytest.approx(told["difference"], rel=0.01)


def test_progress_is_one_over_all_rules() -> None:
    told: list[Any] = []
    found = ask(Small(), baseline="zero", gap=1e-9, emit=told.append)
    (begun,) = (
        n for n, each in enumerate(told) if str(getattr(each, "name", "")).startswith("Follow")
    )
    steps = [event for event in told[begun:] if isinstance(event, Progress)]
    assert [each.done for each in steps] == list(range(1, 66))
    assert {each.total for each in steps} == {65} == {len(found.record["attribution"]["nodes"])}


def test_a_map_can_be_watched_as_it_comes() -> None:
    seen: list[Any] = []
    found = ask(Small(), baseline="zero", watch=seen.append)
    assert [partial.done for partial in seen] == list(range(1, len(seen) + 1))
    assert seen[-1].total == len(found.record["attribution"]["nodes"])
    assert seen[-1].region == found.region
    final = found.map.sum(axis=2)
    np.testing.assert_allclose(seen[-1].values, final, rtol=1e-5, atol=1e-7 * np.abs(final).max())
    # Half of the points say what half of the path would, taken for the whole.
    sizes = [float(np.abs(partial.values).sum()) for partial in seen]
    assert 0.3 * sizes[-1] < sizes[len(seen) // 2] < 3 * sizes[-1]


@pytest.mark.slow
def test_presets_take_the_steps_of_their_sources(tmp_path: Path) -> None:
    from PIL import Image

    clear = tmp_path / "clear.png"
    hazy = np.round(255 * scene()).astype(np.uint8)
    Image.fromarray(np.round(0.5 * hazy).astype(np.uint8)).save(clear)
    told = {}
    for name, objective, steps, complete in (
        ("lam-2021", "gradient", 50, True),
        ("dam-paper", "sum", 100, True),
        ("dam-released", "mean+variance", 5, False),
    ):
        own = {} if name == "lam-2021" else {"baseline": str(clear)}
        found = ask(Small(), hazy, method=name, gap=0.05, **own)
        told[name] = found.record["attribution"]
        assert told[name]["objective"] == objective
        assert len(told[name]["nodes"]) == steps
        assert told[name]["completeness"]["reached"] is complete, name
    assert "not a path integral" in told["dam-released"]["source"]


@pytest.mark.slow
def test_a_path_that_lies_about_its_speed_is_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_restore.explain.attribution.paths import Straight

    true = Straight.at

    def false(self: Straight, alpha: float, box: Region) -> Any:
        picture, speed = true(self, alpha, box)
        return picture, 1.1 * speed

    monkeypatch.setattr(Straight, "at", false)
    told = ask(Small(), baseline="zero").record["attribution"]["completeness"]
    assert told["reached"] is False
    assert told["relative_gap"] == pytest.approx(0.1, abs=0.01)


@pytest.mark.slow
def test_only_what_the_box_can_see_is_computed() -> None:
    pixels = scene(300, 520)
    box = Region(150, 300, 166, 320)
    small = ask(Small(), pixels, box, baseline="zero", steps=4)
    assert small.region.pixels < 300 * 300
    # The whole, by telling the engine that a pixel sees all.
    whole = ask(Small(), pixels, box, baseline="zero", steps=4, halo=330)
    assert whole.region == (0, 0, 300, 520)
    inside = on_image(whole, (300, 520))
    assert np.array_equal(inside[small.region.slices], small.map)
    outside = inside.copy()
    outside[small.region.slices] = 0
    assert not outside.any()


@pytest.mark.slow
def test_a_box_larger_than_the_budget_is_cut_into_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_restore.engine.gradients import local
    from napari_restore.engine.gradients.cost import GradientCost

    pixels, box = scene(700, 900), Region(100, 100, 650, 700)
    options = {"baseline": "zero", "steps": 2, "objective": "mean+variance"}
    whole = ask(Small(), pixels, box, **options)
    # As much as a piece of 256 pixels takes.
    cost = GradientCost(0, 4000)
    monkeypatch.setattr(local, "gradient_cost", lambda model, device: cost)
    cut = ask(Small(), pixels, box, memory="1GiB", **options)
    assert len(cut.record["attribution"]["nodes"]) == 2
    assert np.linalg.norm(whole.map - cut.map) <= 1e-5 * np.linalg.norm(whole.map)


def test_a_box_at_the_edge_and_beyond() -> None:
    events: list[Any] = []
    box = Region(-5, 150, 10, 170)
    found = ask(Small(), box=box, baseline="zero", steps=2, emit=events.append)
    assert found.box == (0, 150, 10, 160)
    notes = [str(event.text) for event in events if type(event).__name__ == "Note"]
    assert notes == ["The box reached beyond the image and was clipped to it."]
    with pytest.raises(BadRegion, match="outside of"):
        ask(Small(), box=Region(500, 500, 510, 510))
    with pytest.raises(BadRegion, match="The box is 0 × 4 pixels"):
        ask(Small(), box=Region(10, 10, 14, 10))


def test_a_cancel_ends_it() -> None:
    import threading

    stop = threading.Event()
    with pytest.raises(Cancelled):
        ask(Small(), stop=stop, emit=lambda event: stop.set(), baseline="zero")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"method": "none"}, "no method"),
        ({"objective": "beauty"}, "no objective"),
        ({"objective": "channel:4"}, "no band 4"),
        ({"baseline": "nowhere.tif"}, "no baseline"),
        ({"steps": "many"}, "no number of steps"),
        ({"steps": 4, "rule": "simpson"}, "no rule"),
        ({"method": "dam"}, "clear image"),
    ],
)
def test_what_cannot_be_asked_is_said(options: dict[str, Any], told: str) -> None:
    with pytest.raises(BadParameter, match=told):
        ask(Small(), **options)


def test_the_method_suits_the_task() -> None:
    image = nr.open_image(scene())
    for task, method in (("dehaze", "haze"), ("other", "ig")):
        found = attribute(image, wrapped(Small(), task=task), BOX, steps=2, device="cpu")
        assert found.record["attribution"]["method"] == method


@pytest.mark.slow
def test_pixels_that_do_not_count_have_no_share() -> None:
    """Nor does what lies beside them have one for their sake."""
    pixels = scene()
    hole = (slice(44, 50), slice(70, 78))
    pixels[hole] = np.nan
    for options in ({"baseline": "zero"}, {"baseline": "blur"}, {"method": "haze"}):
        found = on_image(ask(Small(), pixels, steps=3, **options))
        assert np.isfinite(found).all()
        assert not found[hole].any()
        assert np.abs(found[BOX.slices]).sum() > 0
    with pytest.raises(BadRegion, match="No pixel of the box"):
        ask(Small(), pixels, Region(45, 71, 49, 77), objective="gradient")


def test_an_edge_of_what_counts_is_no_gradient() -> None:
    pixels = np.full((128, 160, 3), 0.5, np.float32)
    pixels[44:50, 70:78] = np.nan
    found = ask(Pointwise(lambda x: 0.5 * x), pixels, objective="gradient", baseline="zero")
    assert abs(found.record["attribution"]["completeness"]["difference"]) < 1e-4


def test_other_models_bands_are_put_in_order(tmp_path: Path) -> None:
    """A file in the order blue, green, red, asked with a model that takes red first."""
    blue_first = np.ascontiguousarray(scene()[..., ::-1])
    answers = []
    for pixels, bands in ((scene(), "red=1,green=2,blue=3"), (blue_first, "blue=1,green=2,red=3")):
        image = nr.open_image(pixels, bands=bands)
        model = wrapped(Small(), roles=("red", "green", "blue"))
        options: dict[str, Any] = {"method": "ig", "baseline": "dehazed", "steps": 2}
        answers.append(attribute(image, model, BOX, device="cpu", **options).map)
    assert np.allclose(answers[0], answers[1], atol=1e-8)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"method": "haze", "baseline": "zero"}, "its own baseline"),
        ({"rule": "middle"}, "needs a number of steps"),
        ({"method": "lam-2021", "steps": "auto"}, "fixed series of steps"),
        ({"strength": 0.5}, "no option strength"),
    ],
)
def test_what_would_have_no_effect_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(BadParameter, match=told):
        ask(Small(), **options)


class Without(nn.Module):
    """A network whose output has no gradient, in one of the ways in which authors write that."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.how == "no_grad":
            with torch.no_grad():
                return self.last(self.first(x).relu())
        y = self.last(self.first(x.detach() if self.how == "detach" else x).relu())
        return (255 * y).round() / 255 if self.how == "round" else y


@pytest.mark.parametrize(
    ("how", "objective"), [("no_grad", "change"), ("detach", "mean"), ("round", "change")]
)
def test_a_model_without_a_gradient_is_refused(how: str, objective: str) -> None:
    pixels = np.random.default_rng(0).random((60, 70, 3), np.float32)
    settings = {"box": Region(20, 20, 40, 40), "objective": objective, "steps": 3}
    with pytest.raises(BadModel, match=r"No gradient of .* reaches the image"):
        nr.attribute(pixels, Without(how), **settings)
    assert np.abs(nr.attribute(pixels, Without(""), **settings).map).max() > 0
    # Values alone are enough for others.
    found = nr.attribute(pixels, Without(how), box=Region(20, 20, 40, 40), method="occlusion")
    assert np.abs(found.map).max() > 0
