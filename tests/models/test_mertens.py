"""Exposure fusion: equal to the published method, and exact tile by tile."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

import napari_restore as nr
from napari_restore.errors import BadParameter
from napari_restore.models import RestorationModel, for_frames, load
from napari_restore.models.classical import mertens

Array = npt.NDArray[np.float64]
SIZES = ((101, 141), (64, 64), (33, 200), (20, 25), (1, 9), (97, 31))


def frames(height: int, width: int, count: int = 3, seed: int = 0) -> Array:
    """A textured scene under so many exposures, (count, H, W, 3) in 0 … 1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    large = 0.5 + 0.4 * np.sin(y / 17 + 1)[..., None] * np.cos(x / 23)[..., None]
    scene = np.clip(large + 0.2 * rng.random((height, width, 3)), 0, 1)
    return np.stack([0.02 + 0.96 * scene**gamma for gamma in np.geomspace(2.5, 0.4, count)])


def as_input(bracket: Array) -> Tensor:
    return torch.from_numpy(np.concatenate([f.transpose(2, 0, 1) for f in bracket])[None])


def model_for(count: int, **values: Any) -> RestorationModel:
    return for_frames(load("mertens", parameters=values), count)


def fused(bracket: Array, **values: Any) -> Array:
    y = model_for(len(bracket), **values)(as_input(bracket))
    return y[0].permute(1, 2, 0).double().numpy()


# -- the method as its paper has it, with OpenCV's edges ------------------------------


def literal(bracket: Array, *, one_band: bool = False) -> Array:
    """Return the blend; of frames of `one_band`, whose colours are equal, without saturation."""
    weights = []
    for frame in bracket:
        grey = frame @ (0.299, 0.587, 0.114)
        wide = np.pad(grey, 1, "reflect") if min(grey.shape) > 1 else np.pad(grey, 1, "symmetric")
        around = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
        saturation = np.sqrt(((frame - frame.mean(2, keepdims=True)) ** 2).sum(2))
        exposedness = np.exp(-((frame - 0.5) ** 2) / 0.08).prod(2)
        if one_band:
            saturation, exposedness = np.ones(()), np.exp(-((frame[..., 0] - 0.5) ** 2) / 0.08)
        weights.append(np.abs(around - 4 * grey) * saturation * exposedness + 1e-12)
    shares = np.stack(weights) / np.sum(weights, axis=0)
    count = int(np.log2(min(bracket.shape[1:3])))
    result: list[Array] = []
    for frame, share in zip(bracket, shares, strict=True):
        image, weight = [frame], [share[..., None]]
        for _ in range(count):
            image.append(smaller(image[-1]))
            weight.append(smaller(weight[-1]))
        details = [a - larger(b, a.shape) for a, b in pairwise(image)]
        parts = [d * w for d, w in zip([*details, image[-1]], weight, strict=True)]
        result = [a + b for a, b in zip(result, parts, strict=True)] if result else parts
    total = result[-1]
    for part in result[-2::-1]:
        total = part + larger(total, part.shape)
    return np.clip(total, 0, 1)


def smaller(x: Array) -> Array:
    for axis in (0, 1):
        n = x.shape[axis]
        index = np.abs(np.arange(-2, n + 2))
        while (index >= n).any():
            index = np.abs(np.where(index >= n, 2 * (n - 1) - index, index))
        wide = x.take(index, axis)
        taps = zip((1, 4, 6, 4, 1), range(5), strict=True)
        rows = sum(w * wide.take(range(i, i + n, 2), axis) for w, i in taps)
        x = np.asarray(rows) / 16
    return x


def larger(x: Array, shape: tuple[int, ...]) -> Array:
    for axis in (0, 1):
        n = x.shape[axis]
        wide = x.take([min(1, n - 1), *range(n), n - 1], axis)
        both = np.zeros([2 * size if i == axis else size for i, size in enumerate(x.shape)])
        for start, taps in ((0, (1, 6, 1)), (1, (0, 4, 4))):
            rows = sum(w * wide.take(range(i, i + n), axis) for i, w in enumerate(taps))
            both[tuple(slice(start, None, 2) if i == axis else slice(None) for i in range(3))] = (
                np.asarray(rows) / 8
            )
        x = both.take(range(shape[axis]), axis)
    return x


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_it_is_the_published_method(size: tuple[int, int]) -> None:
    bracket = frames(*size)
    assert np.abs(fused(bracket) - literal(bracket)).max() <= 1e-5


@pytest.mark.parametrize("size", [(70, 45), (67, 130), (3, 90)])
@pytest.mark.slow
@pytest.mark.ids("nightly", "size0")
def test_it_is_the_same_in_strips_of_any_height(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = as_input(frames(*size))
    valid = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) > 0.1
    model = model_for(3)
    results = []
    for pixels in (1, 10 * size[1], 1 << 20):
        monkeypatch.setattr("napari_restore.models.classical.mertens.STRIP", pixels)
        results.append((model(x), model(x, None, valid)))
    for other in results[1:]:
        assert all(torch.equal(*pair) for pair in zip(results[0], other, strict=True))


def test_gradients_are_those_of_small_differences() -> None:
    x = as_input(frames(37, 41)).double().requires_grad_()
    # The coarse levels are kept in 32 bits: too few for a small difference.
    model = model_for(3, levels=4)
    part = model(x)[0, 1, 20, 17]
    (gradient,) = torch.autograd.grad(part, x)
    place = (0, 4, 19, 18)
    step = torch.zeros_like(x)
    step[place] = 1e-6
    with torch.inference_mode():
        low, high = (model(x.detach() + sign * step)[0, 1, 20, 17] for sign in (-1, 1))
    assert float(gradient[place]) == pytest.approx(float(high - low) / 2e-6, rel=1e-4)


def test_any_number_of_frames() -> None:
    bracket = frames(70, 81, count=5)
    assert np.abs(fused(bracket) - literal(bracket)).max() <= 1e-5


def test_frames_of_one_band_have_no_saturation() -> None:
    bracket = frames(45, 52)[..., :1].repeat(3, axis=3)
    pixels = (bracket[..., :1] * 255).round().astype(np.uint8)
    images = [nr.open_image(frame) for frame in pixels]
    result = nr.fuse(images, "mertens", exposures=[-2, 0, 2], align="off", progress=False)
    wanted = 255 * literal(pixels.repeat(3, axis=3) / 255, one_band=True)[..., :1]
    assert np.abs(np.asarray(result.array) - wanted).max() <= 0.51


def test_equal_frames_give_the_frame() -> None:
    bracket = frames(45, 52)[[1, 1, 1]]
    assert np.abs(fused(bracket) - bracket[0]).max() <= 1e-6


def test_parameters_matter() -> None:
    bracket = frames(64, 70)
    plain = fused(bracket)
    for values in ({"contrast": 0}, {"saturation": 0}, {"exposure": 0}, {"optimum": 0.3}):
        assert np.abs(fused(bracket, **values) - plain).max() > 0.01
    assert np.abs(fused(bracket, levels=1) - plain).max() > 0.01
    assert np.array_equal(fused(bracket, levels=6), plain)


def test_what_is_not_valid_weighs_nothing() -> None:
    bracket = frames(60, 66)
    valid = torch.ones(1, 3, 60, 66, dtype=torch.bool)
    valid[0, 2, :, 30:] = False
    model = model_for(3)
    one = model(as_input(bracket), None, valid)
    bracket[2, :, 30:] = 0.37
    torch.testing.assert_close(model(as_input(bracket), None, valid), one)
    assert torch.isfinite(model(as_input(bracket), None, torch.zeros_like(valid))).all()


@pytest.mark.parametrize(
    ("name", "count", "said"),
    [("mertens", 1, "one image"), ("dcp", 3, "single image")],
)
def test_another_number_of_frames_is_refused(name: str, count: int, said: str) -> None:
    with pytest.raises(BadParameter, match=said):
        for_frames(load(name), count)


@pytest.mark.parametrize("width", [1, 3, 500, mertens.STRIP // 4, mertens.STRIP])
def test_strips_begin_at_even_rows_and_are_as_high_as_their_size_allows(width: int) -> None:
    height = min(11, 4 * mertens.STRIP // width)
    found = mertens.strips(torch.empty(1, height, 1).expand(1, height, width))
    assert [start for start, _ in found] == [0, *(end for _, end in found[:-1])]
    assert found[-1][1] == height and all(start % 2 == 0 for start, _ in found)
    rows = found[0][1]
    assert rows == 2 or rows * width <= mertens.STRIP
    assert rows == height or (rows + 2) * width > mertens.STRIP


def test_rows_of_a_larger_level_are_those_of_the_whole():
    x = torch.rand(2, 9, 7)
    whole = mertens.up(x, (18, 13))
    for start in range(0, 18, 2):
        for end in range(start + 1, 19):
            assert torch.equal(mertens.up(x, (18, 13), (start, end)), whole[:, start:end])
