"""Methods that go not a path integral: the protocol, the two cross-checks, those of other packages."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.engine._staged_model import ToyStaged
from tests.engine._swept_model import ToySwept
from tests.explain._models import HALO, Pointwise, Small, scene, wrapped
from torch import Tensor, nn

import napari_restore as nr
from napari_restore import Region
from napari_restore.engine import Progress
from napari_restore.engine.planning.identity import all_counted
from napari_restore.errors import BadParameter, BudgetTooSmall, Cancelled
from napari_restore.explain import Explainer, Problem, attribute

BOX = Region(40, 60, 56, 84)
VALUES = BOX.pixels * 3
DOCS = Path(__file__).parents[2] / "docs" / "attribution" / "methods.md"


def ask(module: nn.Module, pixels: Any = None, box: Region = BOX, **options: Any) -> Any:
    image = nr.open_image(scene() if pixels is None else pixels)
    model = wrapped(module, options.pop("halo", HALO))
    return attribute(image, model, box, **{"device": "cpu", **options})


def on_image(found: Any, shape: tuple[int, int] = (128, 160)) -> np.ndarray[Any, Any]:
    whole = np.zeros((*shape, 3), np.float32)
    whole[found.region.slices] = found.map
    return whole


# -- the cross-checks ----------------------------------------------------------------


def test_the_gradient_of_a_linear_model_is_the_same_under_noise() -> None:
    found = ask(
        Pointwise(lambda x: 3 * x - 0.2),
        method="smoothgrad",
        objective="mean",
        arguments={"n": 3, "sigma": 0.2},
    )
    expected = np.zeros((128, 160, 3), np.float32)
    expected[BOX.slices] = 3 / VALUES
    assert np.allclose(on_image(found), expected, atol=1e-8)
    told = found.record["attribution"]
    assert told["method"] == "smoothgrad" and told["path"] is None and told["baseline"] is None
    assert told["arguments"] == {"n": 3, "sigma": 0.2, "seed": 0}
    assert set(told["completeness"].values()) == {None}
    assert told["rings"]["box"] == pytest.approx(1)


def test_noise_comes_from_its_seed() -> None:
    one, same, other = (
        ask(Small(), method="smoothgrad", arguments={"n": 2, "seed": seed}).map
        for seed in (0, 0, 1)
    )
    assert np.array_equal(one, same)
    assert not np.allclose(one, other)


@pytest.mark.parametrize(("side", "stride"), [(8, None), (5, None), (8, 4)])
@pytest.mark.slow
def test_patches_of_a_pointwise_model_have_what_they_hold(side: int, stride: int | None) -> None:
    pixels = scene()
    found = ask(
        Pointwise(lambda x: 2 * x),
        pixels,
        method="occlusion",
        objective="mean",
        baseline="zero",
        arguments={"side": side, "stride": stride},
    )
    share = 2 * pixels[BOX.slices].sum(dtype=np.float64) / VALUES
    if stride is None:
        assert found.map.sum(dtype=np.float64) == pytest.approx(share, rel=1e-4)
    at = BOX.within(found.region)
    middle = found.map[at][4:-4, 4:-4]
    assert (middle > 0).all()
    assert np.abs(found.map[:4]).max() < 1e-6, "what lies far from the box has no share"


def test_what_does_not_count_has_no_share_and_stays_as_it_is() -> None:
    pixels = scene()
    hole = (slice(44, 50), slice(70, 78))
    pixels[hole] = np.nan
    for method, baseline in (("smoothgrad", None), ("occlusion", "zero")):
        found = ask(
            Pointwise(lambda x: 2 * x), pixels, method=method, baseline=baseline, objective="mean"
        )
        whole = on_image(found)
        assert np.isfinite(whole).all() and not whole[hole].any()
    share = 2 * np.nansum(pixels[BOX.slices]) / (VALUES - 3 * 48)
    assert whole.sum(dtype=np.float64) == pytest.approx(share, rel=1e-4)


@pytest.mark.slow
def test_a_cross_check_agrees_with_the_path() -> None:
    """Where pixels do not meet, both tell the same by ways that share nothing."""
    # Of every pixel, wherever it lies.
    pixels, cubed = scene(40, 50), Pointwise(lambda x: x**3)
    options: dict[str, Any] = {
        "pixels": pixels,
        "box": Region(20, 30, 28, 38),
        "baseline": "zero",
        "objective": "mean",
        "halo": 1,
    }
    path = ask(cubed, method="ig", steps=4, **options).map.sum(axis=2)
    alone = ask(cubed, method="occlusion", arguments={"side": 1}, **options)
    assert np.abs(path).max() > 0
    assert np.allclose(path, alone.map.sum(axis=2), atol=1e-6)


# -- the way they run ----------------------------------------------------------------


def test_a_staged_model_is_asked_in_passes(tmp_path: Path) -> None:
    """The gradient of the whole image, with no graph of the whole."""
    box = Region(120, 100, 150, 140)
    image = nr.open_image(scene(300, 400))
    found = attribute(
        image,
        ToyStaged(),
        box,
        method="smoothgrad",
        arguments={"n": 1, "sigma": 0.0},
        objective="mean",
        scratch=tmp_path,
        device="cpu",
    )
    x = torch.from_numpy(scene(300, 400)).permute(2, 0, 1)[None].requires_grad_(True)
    y = ToyStaged()(x)[(..., *box.slices)]
    (expected,) = torch.autograd.grad(y.mean(), x)
    ours = torch.from_numpy(on_image(found, (300, 400))).permute(2, 0, 1)[None]
    assert float((ours - expected).norm()) <= 1e-5 * float(expected.norm())


def test_what_sweeps_count_is_held(tmp_path: Path) -> None:
    """The sweeps run once; then the model is local, and only the halo of the box is computed."""
    box, size = Region(30, 60, 42, 80), (133, 150)
    image, model = nr.open_image(scene(*size)), ToySwept()
    found = attribute(
        image,
        model,
        box,
        method="smoothgrad",
        arguments={"n": 1, "sigma": 0.0},
        objective="mean",
        scratch=tmp_path,
        device="cpu",
    )
    x = torch.from_numpy(scene(*size)).permute(2, 0, 1)[None]
    statistics = all_counted(model, nr.plan(image, model).counted)
    leaf = x.requires_grad_(True)
    (expected,) = torch.autograd.grad(model(leaf, statistics)[(..., *box.slices)].mean(), leaf)
    ours = torch.from_numpy(on_image(found, size)).permute(2, 0, 1)[None]
    assert float((ours - expected).norm()) <= 1e-5 * float(expected.norm())
    assert not ours[..., box.y1 + model.reach :, :].any()


def test_progress_is_told_and_a_cancel_ends_it() -> None:
    told: list[Progress] = []

    def take(event: Any) -> None:
        if isinstance(event, Progress):
            told.append(event)

    ask(Small(), method="smoothgrad", arguments={"n": 4}, emit=take)
    assert [(event.done, event.total) for event in told[-4:]] == [(n, 4) for n in (1, 2, 3, 4)]
    stop = threading.Event()
    seen: list[Any] = []

    def end(event: Any) -> None:
        if isinstance(event, Progress) and event.total == 40:
            seen.append(event)
            stop.set()

    with pytest.raises(Cancelled):
        ask(Small(), method="smoothgrad", arguments={"n": 40}, emit=end, stop=stop)
    assert len(seen) == 1


def test_what_does_not_fit_is_refused_with_what_it_takes() -> None:
    box = Region(100, 100, 900, 900)
    with pytest.raises(BudgetTooSmall, match=r'816 × 816 pixels .* memory="\d+MiB"'):
        ask(Small(), scene(1000, 1000), box, method="occlusion", memory="200MiB")


@pytest.mark.slow
def test_a_record_asks_again(sample: Path, tmp_path: Path) -> None:
    options = {"method": "smoothgrad", "arguments": {"n": 2}, "device": "cpu"}
    found = nr.attribute(sample, "dcp", Region(120, 150, 144, 182), **options)
    found.save(tmp_path / "map.tif")
    from napari_restore import api
    from napari_restore.records import write_record

    record = write_record(tmp_path / "map.json", found.record)
    again = api.repeat_attribution(record, device="cpu")
    assert np.array_equal(again.map, found.map)
    told = again.record["attribution"]
    assert told["arguments"] == found.record["attribution"]["arguments"]


@pytest.mark.nightly
def test_a_figure_tells_the_arguments(tmp_path: Path) -> None:
    from napari_restore.explain.attribution.figure import caption

    found = ask(Small(), method="occlusion", arguments={"side": 8})
    said = caption(found.record)
    assert "side=8" in said and "not claimed by this method" in said
    nr.api.draw_attribution(found, tmp_path / "figure.png")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"method": "smoothgrad", "arguments": {"m": 3}}, "no argument 'm'"),
        ({"method": "smoothgrad", "arguments": {"n": 0}}, "n=0"),
        ({"method": "smoothgrad", "arguments": {"sigma": "much"}}, "sigma=much"),
        ({"method": "smoothgrad", "baseline": "zero"}, "uses no baseline"),
        ({"method": "smoothgrad", "steps": 4}, "not a path integral"),
        ({"method": "occlusion", "context_gradient": "through"}, "takes the context as a constant"),
        ({"method": "occlusion", "arguments": {"side": 4, "stride": 5}}, "stride=5"),
        ({"method": "ig", "arguments": {"n": 3}}, "takes no arguments="),
        ({"method": "occlusio"}, "no method"),
    ],
)
def test_what_cannot_be_asked_is_said(options: dict[str, Any], told: str) -> None:
    with pytest.raises(BadParameter, match=told):
        ask(Small(), **options)


# -- other packages ------------------------------------------------------------------


@pytest.mark.slow
def test_other_packages_add_methods(offered: Callable[..., None]) -> None:
    def whole(asked: Problem, scale: float = 1.0) -> Tensor:
        return scale * (asked.image - asked.baseline)

    adding_up = Explainer(whole, "of a test", is_complete=True)
    offered("napari_restore.explainers", {"mine": whole, "claims": adding_up, "smoothgrad": whole})
    found = ask(Small(), method="mine", baseline="zero", arguments={"scale": 0.5})
    assert np.allclose(found.map, 0.5 * scene()[found.region.slices], atol=1e-6)
    assert found.record["versions"]["other-package"] == "1.0"
    # What it claims is looked at.
    told = ask(Small(), method="claims", baseline="zero").record["attribution"]["completeness"]
    assert told["sum"] is not None and told["reached"] is False
    assert ask(Small(), method="smoothgrad", arguments={"n": 1}).map.any(), "ours stays ours"


def test_what_is_wrong_with_them_is_said(offered: Callable[..., None]) -> None:
    def fails(asked: Problem) -> Tensor:
        raise ValueError("a number is odd.")

    offers: dict[str, object] = {
        "odd": 3,
        "broken": ImportError("no such part"),
        "fails": fails,
        "flat": lambda asked: asked.image[0, 0],
        "infinite": lambda asked: asked.image / 0,
        "needs": lambda asked, layer: asked.image,
    }
    offered("napari_restore.explainers", offers)
    for name, said in (
        ("odd", "is no function"),
        ("broken", "no such part"),
        ("fails", "ValueError: a number is odd. Check"),
        ("flat", "gave no map"),
        ("infinite", "not finite"),
        ("needs", 'arguments={"layer": VALUE}'),
    ):
        with pytest.raises(BadParameter, match=said):
            ask(Small(), method=name)


def test_the_example_of_the_docs_runs(offered: Callable[..., None]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if "Problem" in block]
    names: dict[str, Any] = {}
    exec(code, names)
    offered("napari_restore.explainers", {"one-step": names["one_step"]})
    found = ask(Pointwise(lambda x: 2 * x), method="one-step", baseline="zero", objective="mean")
    straight = ask(Pointwise(lambda x: 2 * x), method="ig", baseline="zero", objective="mean")
    assert np.allclose(found.map, straight.map, atol=1e-8)
