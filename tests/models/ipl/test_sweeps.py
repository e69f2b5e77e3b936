"""The sweeps over tiles give what the network gives at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.models.ipl.test_network import network
from torch import Tensor

import napari_restore as nr
from napari_restore import Region
from napari_restore.errors import BadParameter
from napari_restore.images import Image, bracket_of, open_image
from napari_restore.models import for_frames, pad_to_multiple, run_steps
from napari_restore.models.ipl import sampling
from napari_restore.models.ipl.cube import most_given, sampled, taps
from napari_restore.models.ipl.network import IplNetwork

SIZE = (555, 781)
TOLERANCE = 1e-5

SHARES = {"up": 0.1, "mix.0": 0.3, "mix.2": 0.2, "down": 0.2, "expand": 0.3, "detail": 0.5}
"""Of the weights of tests of the network, so that results stay of the order of 1."""


def model(values: dict[str, Any] | None = None, **sizes: int) -> IplNetwork:
    """A network of which every part changes the result; its sums stay of the order of 1."""
    made = network(values, seed=3, **sizes).float()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter.mul_(next((share for part, share in SHARES.items() if part in name), 1))
    return made


MODEL = model(mixes=1, curves=1, detail=4)


def pixels(height: int = SIZE[0], width: int = SIZE[1], seed: int = 1) -> Tensor:
    """Frames (1, 9, H, W) with structure of all sizes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    large = 0.5 + 0.4 * np.sin(y / 67 + 1) * np.cos(x / 93)
    scene = np.clip(large + 0.2 * rng.random((9, height, width)), 0, 1)
    return torch.from_numpy(scene.astype(np.float32))[None]


def image_of(x: Tensor) -> Image:
    frames = x[0].reshape(3, 3, *x.shape[2:]).permute(0, 2, 3, 1).numpy()
    return bracket_of([open_image(frame) for frame in frames], 1, (-2, 0, 2), align=False)


def one_shot(x: Tensor, valid: Tensor | None = None) -> npt.NDArray[np.float32]:
    with torch.inference_mode():
        y: npt.NDArray[np.float32] = MODEL(x, None, valid)[0].permute(1, 2, 0).numpy()
    return y


@pytest.fixture(scope="module")
def x() -> Tensor:
    return pixels()


@pytest.fixture(scope="module")
def expected(x: Tensor) -> npt.NDArray[np.float32]:
    return one_shot(x)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"tile": 256, "residuals": "ram"},
        {"tile": 256, "residuals": "disk"},
        {"tile": 256, "residuals": "recompute"},
        {"tile": 512, "tile_batch": 2},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
@pytest.mark.ids("nightly", "256-disk", "256-recompute", "256-ram")
def test_tile_by_tile_is_the_whole(
    x: Tensor, expected: Any, options: dict[str, Any], tmp_path: Path
) -> None:
    assert 0.05 < expected.std() < 5
    result = nr.restore(image_of(x), MODEL, scratch=tmp_path, **options)
    assert np.abs(np.asarray(result.array) - expected).max() <= TOLERANCE
    assert len(result.record["plan"]["staged"]["predicted_seconds"]) == 5
    # Every cube matters.
    for block in range(3):
        other = model(mixes=1, curves=1, detail=4)
        other.cubes[block].third.weight.mul_(0)
        assert np.abs(other(x)[0].permute(1, 2, 0).numpy() - expected).max() > 100 * TOLERANCE


@pytest.mark.parametrize("size", [(3, 2), (1, 700), (600, 9)], ids=str)
def test_odd_sizes(size: tuple[int, int]) -> None:
    x = pixels(*size)
    got = np.asarray(nr.restore(image_of(x), MODEL, tile=256).array)
    assert np.abs(got - one_shot(x)).max() <= TOLERANCE


@pytest.mark.nightly
def test_another_area_counts_nothing(x: Tensor, expected: Any) -> None:
    image = image_of(x)
    nr.restore(image, MODEL, tile=256)
    plan = nr.plan(image, MODEL, region=Region(250, 300, 420, 600), tile=256)
    # Its own blocks, and the cells around them with theirs.
    assert not plan.sweeps_image and MODEL.reach == 260
    got = np.asarray(nr.start(plan).result().array)
    assert np.abs(got - expected[250:420, 300:600]).max() <= TOLERANCE


@pytest.mark.nightly
def test_a_second_run_counts_nothing(
    x: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = image_of(x)
    first = np.asarray(nr.restore(image, MODEL, tile=256).array)

    def none(*_: Any) -> None:
        raise AssertionError("it is known")

    plan = nr.plan(image, MODEL, tile=256, scratch=tmp_path)
    monkeypatch.setattr(sampling, "count", none)
    assert plan.staged is not None
    assert np.array_equal(np.asarray(nr.start(plan).result().array), first)


@pytest.mark.slow
@pytest.mark.nightly
def test_cubes_of_another_bracket_may_be_taken(x: Tensor, tmp_path: Path) -> None:
    near, values = (
        model({"cache": "positional"}, mixes=1, curves=1, detail=4),
        {"tile": 256, "residuals": "ram"},
    )
    other = pixels(seed=5).flip(3) ** 3
    first = nr.restore(image_of(other), near, scratch=tmp_path / "a", **values)
    # In 8 bits: a hundredth of what the cubes do.
    assert TOLERANCE < np.abs(np.asarray(first.array) - one_shot(other)).max() < 5e-3
    assert not any("Approximate" in note for note in first.record["plan"]["notes"])
    second = nr.restore(image_of(x), near, scratch=tmp_path / "b", **values)
    assert any("Approximate: ipl takes what it knows" in n for n in second.record["plan"]["notes"])
    got, exact = np.asarray(second.array), one_shot(x)
    assert np.abs(got - exact).max() > 0.02
    statistics = run_steps(near.steps(), pad_to_multiple(other, 4), {})[1]
    lent = near(x, statistics)[0].permute(1, 2, 0).numpy()
    assert np.abs(got - lent).max() <= TOLERANCE
    # Its own where it has been counted, and nothing of other sizes and settings.
    again = nr.plan(image_of(other), near, scratch=tmp_path / "c", **values)
    assert not again.notes and again.lends is not None
    for image, options in (
        (image_of(x[..., :-4, :]), {}),
        (image_of(x), {"extent": "region", "region": Region(0, 0, 300, 300)}),
        (image_of(x), {"black": 0.1}),
    ):
        assert nr.plan(image, near, scratch=tmp_path / "d", **values, **options).lends is not None
    borrower = nr.plan(image_of(x), near, scratch=tmp_path / "e", **values)
    assert borrower.lends is None
    # A damaged name leads nowhere.
    assert again.lends is not None
    for text in ("{", '{"settled": "../x", "image": "y", "fingerprint": "z"}'):
        (again.lends / "lender.json").write_text(text)
        assert nr.plan(image_of(x), near, scratch=tmp_path / "e", **values).lends is not None


@pytest.mark.nightly
def test_cubes_may_be_forgotten(x: Tensor, expected: Any, tmp_path: Path) -> None:
    forgetful = model({"cache": "off"}, mixes=1, curves=1, detail=4)
    image, area = image_of(x), Region(0, 0, 200, 200)
    result = nr.restore(image, forgetful, tile=256, scratch=tmp_path / "a")
    assert np.abs(np.asarray(result.array) - expected).max() <= TOLERANCE
    assert not list(tmp_path.rglob("*.npz"))
    plan = nr.plan(image, forgetful, region=area, tile=256, scratch=tmp_path / "b")
    assert plan.staged is not None and plan.counted.parent == plan.store / "staged"


@pytest.mark.parametrize("tile", [256, None])
@pytest.mark.ids("slow", "256")
@pytest.mark.ids("nightly", "256")
def test_a_region_alone(x: Tensor, tile: int | None, tmp_path: Path) -> None:
    """With extent region the network sees whole tiles around it, and nothing else."""
    area, options = Region(300, 530, 400, 700), {"extent": "region", "tile": tile}
    image = image_of(x)
    result = nr.restore(image, MODEL, region=area, **options)
    y0, x0, y1, x1 = result.record["plan"]["staged"]["box"]
    assert (y0, x0, y1, x1) == (256, 512, 512, 768)
    alone = one_shot(x[..., y0:y1, x0:x1])[300 - y0 : 400 - y0, 530 - x0 : 700 - x0]
    assert np.abs(np.asarray(result.array) - alone).max() <= TOLERANCE
    # A second time nothing is counted, and tiles with a halo may see what lies around them.
    assert not nr.plan(image, MODEL, region=area, scratch=tmp_path, **options).sweeps_image
    again = nr.restore(image, MODEL, region=area, scratch=tmp_path, **options)
    # Slices spread what differs at the edges of the tiles, a little, over their blocks.
    assert np.abs(np.asarray(again.array) - alone).max() <= 0.02 * alone.std()


@pytest.mark.nightly
def test_the_error_of_maps_that_are_rounded_is_told(x: Tensor, expected: Any) -> None:
    result = nr.restore(image_of(x), MODEL, tile=256, residual_dtype="float16", residuals="ram")
    rounding = result.record["measured"]["residual_rounding"]
    assert 1e-5 < rounding < 1e-3
    error = np.abs(np.asarray(result.array) - expected).max()
    assert TOLERANCE < error < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("residuals", ["ram", "disk", "recompute"])
@pytest.mark.ids("nightly", "ram", "recompute", "disk")
def test_maps_in_8_bits(x: Tensor, expected: Any, residuals: str, tmp_path: Path) -> None:
    model_8 = model({"kept": "int8"}, mixes=1, curves=1, detail=4)
    result = nr.restore(image_of(x), model_8, tile=256, residuals=residuals, scratch=tmp_path)
    error = np.abs(np.asarray(result.array) - expected)
    assert TOLERANCE < error.max() < 0.1
    assert error.mean() < 3e-3
    kept = sum(result.record["measured"]["residual_bytes"].values())
    # Two maps of 16 channels, and what tells their range, per cell of 16 pixels, in whole tiles.
    assert kept == (0 if residuals == "recompute" else 2 * 12 * 64**2 * (16 + 8))


@pytest.mark.nightly
def test_invalid_pixels_are_the_mean_of_the_valid(x: Tensor) -> None:
    broken, valid = x.clone(), torch.ones(1, 3, *SIZE, dtype=torch.bool)
    valid[0, 2, 100:300, 50:400] = valid[0, 0, 200:500, 300:310] = False
    broken.view(1, 3, 3, *SIZE).movedim(2, -1)[~valid] = torch.nan
    got = np.asarray(nr.restore(image_of(broken), MODEL, tile=256).array)
    assert np.abs(got - one_shot(broken, valid)).max() <= TOLERANCE


@pytest.mark.parametrize("reading", ["R1", "R2"])
def test_readings_that_average_are_not_swept(x: Tensor, reading: str) -> None:
    other = network({"reading": reading}).float()
    assert torch.isfinite(other(x)).all()
    with pytest.raises(BadParameter, match=f"reading={reading} averages over whole rows"):
        nr.plan(image_of(x), other)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "one image.*Give 3 frames"),
        (2, "takes 3 frames, not 2.*Give 1 more, or choose a model that takes any"),
        (5, "takes 3 frames, not 5.*Give 3 of them, such as f0, f2, f4, or choose"),
    ],
)
def test_another_number_of_frames_is_refused(count: int, said: str) -> None:
    with pytest.raises(BadParameter, match=said):
        for_frames(MODEL, count, names=[f"f{n}" for n in range(count)])
    frames = [open_image(np.zeros((40, 50, 3), np.float32)) for _ in range(count)]
    image = bracket_of(frames, 0, range(count), align=False) if count > 1 else frames[0]
    with pytest.raises(BadParameter, match=said.partition(".*")[0]):
        nr.plan(image, MODEL)


# -- what is counted --------------------------------------------------------------------


def test_most_samples_of_a_tile_are_known() -> None:
    for cells, side, count in ((1, 16, 1), (9, 16, 4), (16, 16, 4), (100, 16, 8), (7, 3, 2)):
        spans = [taps(cells, side).within(first, count) for first in range(cells - count + 1)]
        assert max(len(numbers) for _, numbers in spans) <= most_given(cells, side, count)
    assert most_given(8000, 192, 64) == 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_lists_of_tiles_add_up_to_all_samples(dtype: torch.dtype) -> None:
    side, cells = 16, (40, 70)
    x = torch.rand(1, side, *cells, dtype=dtype)
    place = sampling.as_map([sampling.CellBox((0, 0), cells)], x)
    whole = sampling.cube_of(sampling.count(side, {"features": x, "place": place}, None), side)
    torch.testing.assert_close(whole, sampled(x.double(), side, side), rtol=0, atol=1e-12)
    total: Any = None
    shapes = sampling.shapes(side, 64, (160, 280))
    for y in range(0, 40, 16):
        for left in range(0, 70, 16):
            box = (..., slice(y, y + 16), slice(left, left + 16))
            tile = sampling.count(side, {"features": x[box], "place": place[box]}, None)
            assert tile["samples"].shape[1] <= shapes["samples"][0] < side**2
            total = tile if total is None else sampling.merge(side, total, tile)
    assert {name: each.shape[1:] for name, each in total.items()} == sampling.merged_shapes(side)
    torch.testing.assert_close(sampling.cube_of(total, side), whole, rtol=0, atol=1e-12)


def test_a_part_of_a_tile_goes_through_the_kernels_of_a_whole_one() -> None:
    seen: list[bool] = []
    attention = MODEL.attention[0]
    hook = attention.channel.register_forward_pre_hook(
        lambda _, given: seen.append(given[0].is_contiguous())
    )
    x = torch.rand(1, MODEL.config.channels, 70, 80)
    with hook, torch.inference_mode():
        MODEL.attend(0, x[:, :, 3:67, 5:69])
    assert seen == [True]
