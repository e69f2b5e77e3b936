"""Frequency bands and the attention to them, against the FFT and direct formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from napari_restore.models.inf_dehaze.sfca import (
    HEADS,
    INNER,
    SpatialFrequencyAttention,
    frequency_bands,
    radii,
)


def bands_by_fft(x: Tensor) -> Tensor:
    """Bands of (N, H, W, C) float64 by masking the centred spectrum."""
    height, width = x.shape[1:3]
    spectrum = torch.fft.fftshift(torch.fft.fft2(x, dim=(1, 2), norm="ortho"), dim=(1, 2))
    u = (torch.arange(height) - height // 2).abs()[:, None]
    v = (torch.arange(width) - width // 2).abs()[None]
    boxes = [(u <= a) & (v <= b) for a, b in zip(radii(height), radii(width), strict=True)]
    masks = [boxes[0], boxes[1] & ~boxes[0], ~boxes[1]]
    parts = []
    for mask in masks:
        kept = torch.fft.ifftshift(spectrum * mask[None, ..., None], dim=(1, 2))
        band = torch.fft.ifft2(kept, dim=(1, 2), norm="ortho")
        # Symmetric boxes leave nothing imaginary, but for the Nyquist line of the rest.
        assert float(band.imag.abs().max()) < 1e-12
        parts.append(band.real)
    return torch.stack(parts)


@pytest.mark.parametrize("size", [(16, 16), (128, 128), (64, 40), (16, 33)], ids=str)
def test_bands_are_those_of_a_masked_fft(size: tuple[int, int]) -> None:
    x = torch.randn(2, *size, 5)
    bands = frequency_bands(x)
    assert bands.shape == (3, 2, *size, 5)
    assert torch.allclose(bands.double(), bands_by_fft(x.double()), atol=1e-5)
    assert torch.allclose(bands.sum(0), x, atol=1e-5)


@pytest.mark.parametrize(
    ("side", "expected"), [(16, (1, 2)), (32, (1, 2)), (64, (2, 4)), (128, (4, 8))]
)
def test_radii(side: int, expected: tuple[int, int]) -> None:
    assert radii(side) == expected


def test_each_band_holds_its_waves() -> None:
    place = torch.arange(128) / 128
    for waves, band in [(0, 0), (4, 0), (5, 1), (8, 1), (9, 2), (40, 2)]:
        x = torch.cos(2 * torch.pi * waves * place)[None, None, :, None].expand(1, 128, 128, 1)
        sizes = frequency_bands(x).square().mean((1, 2, 3, 4))
        assert int(sizes.argmax()) == band
        assert float(sizes.sum() - sizes[band]) < 1e-9


@pytest.mark.parametrize("side", [16, 32, 64])
def test_bands_do_not_depend_on_threads_or_batch(side: int) -> None:
    before, results = torch.get_num_threads(), []
    x = torch.randn(2, side, side, INNER, generator=torch.Generator().manual_seed(side))
    try:
        for threads in (1, 2, 3, 4):
            torch.set_num_threads(threads)
            results += [frequency_bands(x)[:, :1], frequency_bands(x[:1])]
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert torch.equal(other, results[0])


def test_bands_of_half_precision_are_float32() -> None:
    x = torch.randn(1, 32, 32, 4).bfloat16()
    bands = frequency_bands(x)
    assert bands.dtype == torch.float32
    assert torch.allclose(bands.sum(0), x.float(), atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(frequency_bands(x), bands)


def test_untrained_is_the_identity() -> None:
    module, x = SpatialFrequencyAttention(24, 8), torch.randn(2, 16, 16, 24)
    assert torch.equal(module(x), x)
    module(x).square().sum().backward()
    gradient = module.restore.weight.grad
    assert gradient is not None
    assert float(gradient.abs().max()) > 0


def test_forward_equals_the_formula() -> None:
    torch.manual_seed(0)
    module = SpatialFrequencyAttention(24, 8).requires_grad_(False)
    torch.nn.init.normal_(module.restore.weight)
    x = torch.randn(2, 16, 24, 24)
    reduced = module.reduce(x)
    bands = module.bands(x)
    assert torch.allclose(bands.sum(0), reduced, atol=1e-5)
    seen = torch.zeros_like(bands)
    for j in range(3):
        query = reduced @ module.query.weight[INNER * j : INNER * (j + 1)].T
        key, value = (bands[j] @ module.key_value[j].weight.T).chunk(2, -1)  # type: ignore[operator, union-attr]
        for y in range(0, 16, 8):
            for column in range(0, 24, 8):
                box = (slice(None), slice(y, y + 8), slice(column, column + 8))
                q, k, v = (part[box].reshape(2, 64, HEADS, -1) for part in (query, key, value))
                scores = torch.einsum("nihd,njhd->nhij", q, k) / 4
                out = torch.einsum("nhij,njhd->nihd", scores.softmax(-1), v)
                seen[j][box] = out.reshape(2, 8, 8, INNER)
    first, _, second = module.weight_net
    weights = []
    for j in range(3):
        hidden = functional.relu(first(seen[j].permute(0, 3, 1, 2)))
        weights.append(second(hidden).mean((1, 2, 3)))
    omega = torch.stack(weights).softmax(0)
    assert torch.allclose(module.band_weights(seen), omega, atol=1e-6)
    mixed = (omega[:, :, None, None, None] * seen).sum(0)
    assert torch.allclose(module(x), x + module.restore(mixed), atol=1e-4)
