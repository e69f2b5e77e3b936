"""Networks whose results have another size: equal to the module, on a grid of their own."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import rasterio
import torch
from rasterio.transform import Affine
from tests.support import scaling_networks
from tests.support.scaling_networks import enlarging, shrinking
from torch import nn
from torch.nn.functional import interpolate

import napari_restore as nr
from napari_restore import Region, api
from napari_restore.errors import BadModel, BadRegion
from napari_restore.questions import Adjustment

SCENE = np.random.default_rng(0).random((251, 317, 3)).astype(np.float32)
CARD = {"bands": 3, "halo": 3}
"""What is measured otherwise, in a second or two."""
TRANSFORM = Affine(300.0379266750948, 0.0, 101985.0, 0.0, -300.041782729805, 2826915.0)


def whole_of(module: nn.Module, pixels: np.ndarray) -> np.ndarray:
    """Return what the module itself makes of pixels (H, W, C)."""
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    with torch.inference_mode():
        return module(x)[0].permute(1, 2, 0).numpy()


def loaded(module: nn.Module, scale: int | str) -> Any:
    step = int(scale[2:]) if isinstance(scale, str) else 1
    return nr.load_model(module, card={**CARD, "scale": scale, "multiple_of": step})


@pytest.mark.slow
@pytest.mark.parametrize("times", [2, 3, 4])
@pytest.mark.parametrize("tile", [256, 384])
@pytest.mark.ids("nightly", "256-2", "384-4", "256-4", "256-3")
def test_tiles_of_enlarged_images_equal_the_module(times: int, tile: int, tmp_path: Path) -> None:
    module = enlarging(times)
    result = nr.restore(SCENE, module, tile=tile, scratch=tmp_path, progress=False)
    assert result.record["plan"]["tiles"] > 1
    assert result.record["plan"]["scale"] == times
    np.testing.assert_allclose(result, whole_of(module, SCENE), rtol=0, atol=1e-5)


def reflected(pixels: np.ndarray, step: int) -> np.ndarray:
    """Return pixels (H, W, C) grown by reflection to multiples of `step`."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, -height % step), (0, -width % step), (0, 0)), mode="reflect")


class InCells(nn.Module):
    """Takes images of whole cells of 8 × 8 pixels only."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.cells = network, nn.Conv2d(3, 3, 8, stride=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.network(x)
        return y + interpolate(self.cells(x), size=y.shape[2:], mode="nearest")


@pytest.mark.parametrize(
    ("module", "scale", "tile"),
    [
        (enlarging(2), 2, 256),
        (enlarging(2), 2, "whole"),
        (enlarging(4), 4, 256),
        (shrinking(2), "1/2", 256),
    ],
)
def test_edges_are_reflected_on_the_grid_of_the_input(
    module: nn.Module, scale: int | str, tile: int | str, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    module = InCells(module).eval()
    card = {"bands": 3, "halo": 16, "scale": scale, "multiple_of": 8}
    model = nr.load_model(module, card=card)
    result = nr.restore(SCENE, model, tile=tile, scratch=tmp_path, progress=False)
    height, width = (math.ceil(side * model.card.ratio) for side in (251, 317))
    expected = whole_of(module, reflected(SCENE, 8))[:height, :width]
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.ids("nightly", "3", "2")
def test_tiles_of_smaller_images_equal_the_module(parts: int, tmp_path: Path) -> None:
    module = shrinking(parts)
    scene = np.random.default_rng(1).random((901, 1100, 3)).astype(np.float32)
    result = nr.restore(scene, module, tile=128, scratch=tmp_path, progress=False)
    assert result.record["plan"]["tiles"] > 1
    assert result.record["plan"]["scale"] == f"1/{parts}"
    # It takes multiples only.
    expected = whole_of(module, reflected(scene, parts))
    assert expected.shape[:2] == (-(-901 // parts), -(-1100 // parts))
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)
    assert not [note for note in result.record["plan"]["notes"] if "no pixel" in note]


class Striding(nn.Module):
    """Of any size; a part of a block at the end gives a pixel more."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        torch.manual_seed(parts)
        side = 2 * parts - 1
        self.first, self.second = (
            nn.Conv2d(3, 6, side, parts, parts - 1),
            nn.Conv2d(6, 3, 5, padding=2),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)))


class Pooling(nn.Module):
    """Of any size; a part of a block at the end gives none, but the pixel before sees it."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        torch.manual_seed(parts)
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 3, 5, padding=2)
        self.pool = nn.AvgPool2d(parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.pool(torch.relu(self.first(x))))


class Stretching(nn.Module):
    """Of any size; where that is no multiple, all pixels lie elsewhere."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        torch.manual_seed(parts)
        self.parts, self.last = parts, nn.Conv2d(3, 3, 5, padding=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = [side // self.parts for side in x.shape[2:]]
        return self.last(interpolate(x, size=size, mode="bilinear"))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(203, 301), (202, 303)])
@pytest.mark.parametrize("kind", [Striding, Pooling])
@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.ids(
    "nightly",
    "2-Pooling-size0",
    "3-Pooling-size0",
    "3-Striding-size0",
    "2-Striding-size1",
    "2-Pooling-size1",
)
def test_sides_that_are_no_multiples(
    kind: type[nn.Module], parts: int, size: tuple[int, int], tmp_path: Path
) -> None:
    scene = np.random.default_rng(3).random((*size, 3)).astype(np.float32)
    module = kind(parts).eval()
    expected = whole_of(module, scene)
    model = nr.load_model(module)
    for options in ({}, {"tile": 128}, {"tile": "whole"}):
        result = nr.restore(scene, model, scratch=tmp_path, progress=False, **options)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)
    model.eval()
    x = torch.from_numpy(scene).permute(2, 0, 1)[None]
    np.testing.assert_allclose(model(x)[0].permute(1, 2, 0), expected, rtol=0, atol=1e-6)
    # The last pixels: of the image, of the result, and beside those that are left out.
    box = Region(size[0] - 40, size[1] - 61, *size)
    part = nr.restore(scene, model, region=box, scratch=tmp_path, progress=False)
    y, x0 = part.region.y0, part.region.x0
    np.testing.assert_allclose(part, expected[y:, x0:], rtol=0, atol=1e-6)
    assert part.record["targets"][0]["region"][2:] == [
        min(a, b * parts) for a, b in zip(size, expected.shape, strict=False)
    ]


@pytest.mark.slow
def test_a_grid_that_follows_the_size_is_reflected(tmp_path: Path) -> None:
    module = Stretching(2).eval()
    scene = SCENE[:203, :301]
    result = nr.restore(scene, module, tile=128, scratch=tmp_path, progress=False)
    np.testing.assert_allclose(result, whole_of(module, reflected(scene, 2)), rtol=0, atol=1e-6)


def test_a_card_that_grows_images_otherwise_is_another_run(tmp_path: Path) -> None:
    module, scene = Striding(2).eval(), SCENE[:201, :301]
    for step, grown in ((1, scene), (2, reflected(scene, 2))):
        card = {**CARD, "halo": 6, "scale": "1/2", "padded_to": step}
        result = nr.restore(
            scene, nr.load_model(module, card=card), scratch=tmp_path, progress=False
        )
        np.testing.assert_allclose(result, whole_of(module, grown), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_file_has_its_transform_divided(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(1, 255, (3, 150, 200), np.uint8)
    pixels[:, 40:60, 70:90] = 0
    path = tmp_path / "scene.tif"
    profile = {"driver": "GTiff", "width": 200, "height": 150, "count": 3, "dtype": "uint8"}
    with rasterio.open(
        path, "w", **profile, crs="EPSG:32618", transform=TRANSFORM, nodata=0
    ) as file:
        file.write(pixels)
    for scale, module in ((2, enlarging(2)), ("1/2", shrinking(2))):
        ratio = 2 if scale == 2 else 0.5
        result = nr.restore(path, loaded(module, scale), scratch=tmp_path, progress=False)
        target = tmp_path / f"result{ratio}.tif"
        result.save(target)
        with rasterio.open(target) as file:
            assert (file.width, file.height) == (200 * ratio, 150 * ratio)
            assert file.transform == Affine(
                TRANSFORM.a / ratio, 0, TRANSFORM.c, 0, TRANSFORM.e / ratio, TRANSFORM.f
            )
            assert file.nodata == 0
            with rasterio.open(path) as source:
                assert file.bounds == pytest.approx(source.bounds)
            found, mask = file.read(), file.read_masks(1) > 0
        np.testing.assert_array_equal(np.moveaxis(found, 0, 2), result)
        valid = (pixels > 0).any(axis=0)
        if scale == 2:
            np.testing.assert_array_equal(mask, np.kron(valid, np.ones((2, 2), bool)))
        else:
            np.testing.assert_array_equal(mask, valid[1::2, 1::2])
        # Far from what is not valid it is what the module makes of the values.
        made = whole_of(module, (np.moveaxis(pixels, 0, 2) / np.float32(255)))
        expected = np.rint(made * 255).clip(1, 255)
        corner = (slice(0, int(30 * ratio)), slice(0, int(60 * ratio)))
        assert np.abs(np.asarray(result)[corner] - expected[corner]).max() <= 1
        assert (np.asarray(result)[corner] != expected[corner]).mean() < 1e-3


@pytest.mark.slow
def test_regions_and_masks_are_in_pixels_of_the_image(tmp_path: Path) -> None:
    module = enlarging(2)
    expected = whole_of(module, SCENE)
    box = Region(31, 45, 100, 131)
    result = nr.restore(SCENE, module, region=box, scratch=tmp_path, progress=False)
    assert result.region == Region(62, 90, 200, 262)
    np.testing.assert_allclose(result, expected[62:200, 90:262], rtol=0, atol=1e-5)
    assert result.record["targets"] == [{"region": list(box), "mask": None}]
    assert result.record["input"]["size"] == [251, 317]

    ring = [[45, 31], [131, 31], [131, 100], [45, 100], [45, 31]]
    mask = json.dumps({"type": "Polygon", "coordinates": [ring]})
    masked = nr.restore(SCENE, module, mask=mask, scratch=tmp_path, progress=False)
    nearest = np.kron(SCENE, np.ones((2, 2, 1), np.float32))
    nearest[62:200, 90:262] = expected[62:200, 90:262]
    np.testing.assert_allclose(masked, nearest, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_excluded_pixels_are_those_of_the_image(tmp_path: Path) -> None:
    excluded = np.zeros((251, 317), np.uint8)
    excluded[20:40, 50:90] = excluded[200:, 300:] = 255
    path = tmp_path / "mask.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=317, height=251, count=1, dtype="uint8"
    ) as file:
        file.write(excluded, 1)
    for scale, module in ((3, enlarging(3)), ("1/2", shrinking(2))):
        model = loaded(module, scale)
        result = nr.restore(SCENE, model, exclude=path, scratch=tmp_path, progress=False)
        if scale == 3:
            kept = np.kron(excluded > 0, np.ones((3, 3), bool))
            nearest = np.kron(SCENE, np.ones((3, 3, 1), np.float32))
        else:
            rows, columns = (np.minimum(np.arange(1, side + 1, 2), side - 1) for side in (251, 317))
            kept, nearest = (each[np.ix_(rows, columns)] for each in (excluded > 0, SCENE))
        pixels = np.asarray(result)
        np.testing.assert_array_equal(pixels[kept], nearest[kept])
        assert (pixels[~kept] != nearest[~kept]).mean() > 0.9


def test_strength_is_against_the_image_repeated(tmp_path: Path) -> None:
    model = loaded(enlarging(2), 2)
    nearest = np.kron(SCENE, np.ones((2, 2, 1), np.float32))
    result = nr.restore(SCENE, model, scratch=tmp_path, progress=False)
    half = result.with_adjustment(Adjustment(strength=0.5))
    np.testing.assert_allclose(half, (nearest + np.asarray(result)) / 2, rtol=0, atol=1e-6)
    nothing = result.with_adjustment(Adjustment(strength=0.0))
    np.testing.assert_array_equal(nothing, nearest)


@pytest.mark.nightly
def test_the_same_in_a_child_and_by_its_record(tmp_path: Path) -> None:
    picture = tmp_path / "photo.png"
    PIL.Image.fromarray((SCENE[:90, :121] * 255).astype(np.uint8)).save(picture)
    code = Path(scaling_networks.__file__).read_text("utf-8")
    (tmp_path / "net.py").write_text(f"{code}\n\ndef make():\n    return enlarging(3)\n", "utf-8")
    model = nr.load_model(f"{tmp_path / 'net.py'}:make", trust=True)
    result = nr.restore(picture, model, scratch=tmp_path / "a", progress=False)
    job = nr.start(nr.plan(picture, model, scratch=tmp_path / "b"), process=True)
    assert sum(isinstance(event, api.TileDone) for event in job) == result.record["plan"]["tiles"]
    np.testing.assert_array_equal(job.result(), result)
    result.save(tmp_path / "out.png")
    again = nr.rerun(result.record, tmp_path / "again.png", trust=True)
    np.testing.assert_array_equal(again, result)
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "out.png").read_bytes()
    command = api.command_of(result.plan, "out.png")
    assert "--srcwin" not in command and str(picture) in command


@pytest.mark.nightly
def test_the_card_says_what_was_measured() -> None:
    model = nr.load_model(enlarging(3))
    assert (model.card.scale, model.card.halo, model.card.multiple_of) == (3, 3, 1)
    x = torch.rand(1, 3, 20, 31)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), enlarging(3)(x))
    assert nr.load_model(shrinking(2)).card.scale == "1/2"


@pytest.mark.parametrize(
    ("scale", "sentence"),
    [
        (3, "an image of 62 × 40 pixels .* for one of 31 × 20 .* its card says scale 3"),
        (1, "an image of 62 × 40 pixels and 3 bands for one of 31 × 20"),
    ],
)
def test_another_size_than_the_card_says(scale: int, sentence: str) -> None:
    model = nr.load_model(enlarging(2), card={**CARD, "scale": scale})
    with pytest.raises(BadModel, match=sentence) as caught:
        model(torch.rand(1, 3, 20, 31))
    assert '"scale": 2' in caught.value.hint


@pytest.mark.parametrize("scale", ["2/3", 0, -2, "x", "1/9", 17, "1/0"])
def test_impossible_scales(scale: int | str) -> None:
    with pytest.raises(BadModel, match="impossible scale"):
        nr.load_model(enlarging(2), card={**CARD, "scale": scale})


def test_what_another_scale_has_no_place_for() -> None:
    with pytest.raises(BadRegion, match="nothing is left"):
        nr.plan(SCENE[:1], loaded(shrinking(2), "1/2"))
