"""Results of photos of 8 bits are kept, blended and written in 16 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Pillow

import napari_restore as nr
from napari_restore.engine import Region, ResultStore
from napari_restore.engine.masks.open_mask import open_exclude
from napari_restore.errors import BadParameter
from napari_restore.images import Radiometry, in_8_bits, in_16_bits
from napari_restore.images.values.working_space import srgb_profile

from ._whole import whole

BOX = Region(0, 0, 600, 700)
ADJUSTMENTS = [
    {},
    {"strength": 0.35},
    {"strength": 0.6, "luminance_only": True, "protect_highlights": 0.5},
    {"exposure": 0.7},
    {"temperature": 5200, "saturation": 30, "shadows": 40, "local_contrast": 30},
]


class Scaled(torch.nn.Module):
    """What it gives is known: 0.9 of its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0.9 * x


def gradient(height: int = 600, width: int = 700) -> np.ndarray:
    """A smooth picture (h, w, 3) of 8 bits with every value."""
    across = np.linspace(0, 255, width)[None, :, None]
    down = np.linspace(0.4, 1, height)[:, None, None]
    return np.rint(across * down * np.array([1.0, 0.9, 0.7])).astype(np.uint8)


def photo(path: Path, pixels: np.ndarray) -> Path:
    Pillow.fromarray(pixels).save(path)
    return path


def restored(source: Any, tmp_path: Path, model: Any = None, **options: Any) -> Any:
    """The result of a run in a folder of its own, in tiles that are no whole chunks."""
    module = Scaled().eval() if model is None else nr.load_model(model)
    options = {"tile": 384, "scratch": tmp_path / "scratch", "progress": False, **options}
    return nr.restore(source, module, **options)


def test_rounding_to_16_bits_and_then_to_8_is_rounding_to_8():
    every = np.arange(256, dtype=np.uint8)
    assert np.array_equal(in_8_bits(in_16_bits(every)), every)
    all16 = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(in_8_bits(all16), np.rint(all16 / np.float64(257)).astype(np.uint8))
    # Sums at the half between two values, and next to it in float32.
    half = np.arange(255, dtype=np.float32) + np.float32(0.5)
    sums = [half, np.nextafter(half, np.float32(0)), np.nextafter(half, np.float32(999))]
    source = np.zeros((3, 255, 1), np.uint8)
    # A span of 1: the change is the sum itself.
    plain, change = Radiometry(np.zeros(1), 1.0, "", ""), np.stack(sums)[..., None]
    wide = plain.apply_change(source, change, (0,), in_16=True)
    assert np.array_equal(in_8_bits(wide), plain.apply_change(source, change, (0,)))
    assert np.array_equal(in_8_bits(wide)[..., 0], np.rint(np.stack(sums)))


def test_a_change_is_rounded_once_to_16_bits():
    rng = np.random.default_rng(4)
    source = rng.integers(0, 256, (300, 200, 3), dtype=np.uint8)
    change = (0.4 * rng.standard_normal(source.shape)).astype(np.float32)
    change[:40] = 0
    radiometry = Radiometry(np.array([3.0, 0.0, 7.0]), 250.0, "", "")
    wide = radiometry.apply_change(source, change, (0, 1, 2), in_16=True)
    exact = 257 * (source + change.astype(np.float64) * radiometry.span)
    assert np.abs(wide - exact.clip(0, 65535)).max() < 0.51
    assert np.array_equal(wide[:40], source[:40] * np.uint16(257))
    assert np.array_equal(in_8_bits(wide), radiometry.apply_change(source, change, (0, 1, 2)))


@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_a_file_of_16_bits_has_what_the_module_gives(tmp_path: Path, suffix: str):
    pixels = gradient()
    result = restored(photo(tmp_path / "photo.png", pixels), tmp_path)
    exact = 0.9 * 257 * pixels.astype(np.float64)
    for name, options in (("again", {"bit_depth": 16}), ("eight", {})):
        result.save(tmp_path / f"{name}{suffix}", **options)
    image = nr.open_image(tmp_path / f"again{suffix}")
    written = image.read(whole(image))
    assert written.dtype == np.uint16
    assert np.abs(written - exact).max() < 0.51
    assert (written % 257 != 0).mean() > 0.85
    eight = nr.open_image(tmp_path / f"eight{suffix}").read(BOX)
    assert eight.dtype == np.uint8
    assert np.abs(eight - exact / 257).max() < 0.5001
    assert np.array_equal(np.asarray(result), eight)
    assert np.array_equal(in_8_bits(written), eight)


@pytest.mark.slow
@pytest.mark.parametrize("adjustment", ADJUSTMENTS)
def test_blended_and_toned_as_a_photo_of_16_bits(tmp_path: Path, adjustment: dict[str, Any]):
    # With its profile, a photo of 16 bits has display values as well.
    pixels = tmp_path / "8.png"
    Pillow.fromarray(gradient(300, 260)).save(pixels, icc_profile=srgb_profile())
    wider = tmp_path / "16.png"
    same = restored(pixels, tmp_path / "same", "identity").save(wider, bit_depth=16)
    written = nr.open_image(same).read(Region(0, 0, 300, 260))
    assert np.array_equal(written, in_16_bits(gradient(300, 260)))
    result = restored(pixels, tmp_path, **adjustment)
    reference = restored(wider, tmp_path / "16", **adjustment)
    wide, expected = result.read_16(result.region), np.asarray(reference)
    assert wide.dtype == expected.dtype == np.uint16
    assert np.abs(wide.astype(int) - expected).max() <= 1
    assert (wide % 257 != 0).mean() > 0.7
    # Pixels of 8 bits are those of a run that keeps no more.
    before = Region(0, 0, 300, 260)
    narrow = restored(pixels, tmp_path / "8", output=tmp_path / "x.zarr")
    assert narrow.store.array().dtype == np.uint8
    narrow = narrow.with_adjustment(result.adjustment)
    assert np.array_equal(result.read(before), narrow.read(before))


def test_identity_and_alpha_stay_exact(tmp_path: Path):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (90, 120, 4), dtype=np.uint8)
    path = photo(tmp_path / "a.png", pixels)
    for model in ("identity", None):
        result = restored(path, tmp_path, model)
        written = nr.open_image(result.save(tmp_path / f"{model}.tif", bit_depth=16)).read(
            Region(0, 0, 90, 120)
        )
        exact = in_16_bits(pixels)
        hidden = pixels[..., 3] == 0
        bands = np.s_[..., 3:] if model is None else np.s_[...]
        assert np.array_equal(written[bands], exact[bands])
        assert np.array_equal(written[hidden], exact[hidden])


def test_maps_keep_their_type(tmp_path: Path):
    pixels, path = gradient(200, 220), tmp_path / "map.tif"
    result = restored(photo(tmp_path / "p.png", pixels), tmp_path)
    assert result.store.array().dtype == np.uint16
    # The same pixels with a place on a map.
    geo = [(33550, "d", 3, (10.0, 10.0, 0.0)), (33922, "d", 6, (0, 0, 0, 500000.0, 5e6, 0))]
    keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)
    tifffile.imwrite(
        path, pixels, photometric="rgb", extratags=[*geo, (34735, "H", len(keys), keys)]
    )
    image = nr.open_image(path)
    assert image.georeference is not None
    mapped = restored(image, tmp_path / "map")
    assert mapped.store.array().dtype == np.uint8
    assert np.array_equal(np.asarray(mapped), np.asarray(result))
    assert mapped.plan.prediction.disk_bytes < result.plan.prediction.disk_bytes


def test_resizing_begins_from_16_bits(tmp_path: Path):
    flat = np.full((64, 64, 3), 101, np.uint8)
    result = restored(photo(tmp_path / "flat.png", flat), tmp_path)
    out = result.save(tmp_path / "small.tif", bit_depth=16, resize=32)
    written = nr.open_image(out).read(Region(0, 0, 32, 32))
    assert np.abs(written - 0.9 * 257 * 101).max() <= 1
    again = result.save(tmp_path / "small8.tif", resize=32)
    assert (nr.open_image(again).read(Region(0, 0, 32, 32)) == 91).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_images_of_other_types_have_no_16_bits_to_read(tmp_path: Path, dtype: Any):
    result = restored(np.ones((64, 70, 3), dtype), tmp_path, "identity")
    with pytest.raises(BadParameter, match=f"has values of {np.dtype(dtype)}, not of 8 bits"):
        result.read_16(result.region)


def test_what_is_excluded_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, left = photo(tmp_path / "p.png", gradient(300, 260)), tmp_path / "left.png"
    Pillow.fromarray(np.repeat(np.eye(2, dtype=np.uint8) * 255, 130, 1).repeat(150, 0)).save(left)
    result = restored(path, tmp_path, exclude=left, exposure=0.5)
    opened: list[Any] = []
    module = "napari_restore.engine.results.blended.open_exclude"
    monkeypatch.setattr(module, lambda *given: opened.append(given) or open_exclude(*given))
    for top in (0, 100, 200):
        result.read_16(Region(top, 0, top + 100, 260))
    assert len(opened) == 1


def test_a_part_is_gone_on_from(tmp_path: Path):
    pixels = gradient()
    path = photo(tmp_path / "p.png", pixels)
    restored(path, tmp_path, region=Region(0, 0, 384, 384))
    result = restored(path, tmp_path)
    assert result.record["measured"]["tiles_resumed"] == 1
    assert np.abs(result.read_16(BOX) - 0.9 * 257 * pixels.astype(float)).max() < 0.51


def test_a_store_keeps_16_bits_of_the_finest_level_alone(tmp_path: Path):
    options: dict[str, Any] = {"key": "k", "shape": (600, 700, 3), "dtype": "uint8"}
    store = ResultStore.open(tmp_path / "s.zarr", **options, levels=((300, 350),), in_16=True)
    pixels = in_16_bits(gradient())
    pixels[pixels < 65000] += 100
    store.write(BOX, pixels, {}, {"counts": {}}, [gradient()[::2, ::2]])
    assert np.array_equal(store.read_16(BOX), pixels)
    assert np.array_equal(store.read(BOX), gradient())
    assert np.array_equal(store.read((0, 0, 300, 350), "1"), gradient()[::2, ::2])
    store.close()
    # Of one that was written without, by an earlier version, nothing is taken.
    again = ResultStore.open(tmp_path / "s.zarr", **options, levels=((300, 350),))
    assert not again.is_done(BOX)
    again.write(BOX, gradient(), {}, {"counts": {}}, [gradient()[::2, ::2]])
    assert np.array_equal(again.read_16(BOX), in_16_bits(gradient()))
