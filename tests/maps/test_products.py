"""What the program makes of satellites' files by the names in them, thirty products."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from tests.maps.products import PRODUCTS, WAVES, Ground, Product

import napari_restore as nr
from napari_restore.commands import main
from napari_restore.images import Image, resolve_radiometry

Array = npt.NDArray[Any]


def small_ground() -> Ground:
    rng = np.random.default_rng(0)
    coarse = rng.random((4, 12, 12))
    return Ground.made(np.kron(coarse, np.ones((8, 8))) * 0.8 + 0.2 * rng.random((4, 96, 96)))


@pytest.fixture(scope="module")
def ground() -> Ground:
    return small_ground()


def opened(product: Product, folder: Path, ground: Ground) -> Image:
    return nr.open_image(product.write(folder, ground), sensor=product.sensor)


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda each: each.id)
def test_bands_and_zero_are_those_of_the_product(
    product: Product, tmp_path: Path, ground: Ground
) -> None:
    image = opened(product, tmp_path, ground)
    for layer, kind, role, wave in zip(
        product.layers, image.described.kinds, image.roles, image.wavelengths, strict=True
    ):
        assert kind == ("light" if layer.is_light else "auxiliary"), layer
        if layer.shows in ("red", "green", "blue") and layer.name != "green_i":
            assert role == layer.shows, layer
        # Colours alone name no sensor.
        if layer.shows in WAVES and product.id != "rgb-scaled":
            assert wave == pytest.approx(WAVES[layer.shows], abs=45), layer
    top = float(np.nanmax(product.values(product.layers[0], ground)))
    black = resolve_radiometry(image, percentile=lambda percent: top).black
    zeros = [z for z, each in zip(black, product.layers, strict=True) if each.shows in WAVES]
    assert zeros == pytest.approx([product.zero] * len(zeros))


MODELS = ("dcp", "hot", "htm", "atmosphere-aerial")
# What models cost is not the point.
pytestmark = pytest.mark.usefixtures("known_costs")

QUICK = ("l8-ee-sr", "planet-4-udm2")


def cases(first: int) -> list[Any]:
    """Every product with one of the models, which follow each other from the `first` on."""
    return [
        pytest.param(product, model, id=f"{product.id}-{model}", marks=marks)
        for number, product in enumerate(PRODUCTS, first)
        for model in [MODELS[number % len(MODELS)]]
        for marks in [() if product.id in QUICK else pytest.mark.slow]
    ]


def command(product: Product, folder: Path, model: str, out: Path) -> None:
    """Restore the file of `product` in `folder` as the command does."""
    sensor = () if product.sensor is None else ("--sensor", product.sensor)
    words = ("restore", str(folder / product.file_name), "-o", str(out), "--model", model, *sensor)
    assert main([*words, "--progress", "off"]) == 0


def above_zero(product: Product, path: Path, ground: Ground) -> dict[str, Array]:
    """Return the valid values of each band of light above the zero of the product, by what it shows."""
    with rasterio.open(path) as opened:
        return {
            layer.shows: opened.read(number)[ground.valid].astype(np.float64) - product.zero
            for number, layer in enumerate(product.layers, 1)
            if layer.make is None
        }


def ndvi(values: dict[str, Array]) -> Array:
    nir = values["nir"] if "nir" in values else values["nir2"]
    return (nir - values["red"]) / np.maximum(nir + values["red"], 1e-9)


@pytest.mark.parametrize(("product", "model"), cases(0))
@pytest.mark.slow
@pytest.mark.ids(
    "nightly",
    "planet-4-udm2-atmosphere-aerial",
    "l8-ee-sr-scaled-htm",
    "s2-ee-sr-hot",
    "s2-l1c-new-dcp",
    "l8-ee-sr-atmosphere-aerial",
    "l9-l2-stack-atmosphere-aerial",
    "s2-tags-atmosphere-aerial",
    "hls-s30-atmosphere-aerial",
    "s2-l2a-new-20m-atmosphere-aerial",
    "s2-l1c-old-atmosphere-aerial",
    "l8-l2-stack-hot",
    "l7-l2-stack-htm",
    "l5-l2-stack-hot",
)
def test_what_shows_no_haze_stays(
    product: Product, model: str, tmp_path: Path, ground: Ground
) -> None:
    image, path = opened(product, tmp_path, ground), tmp_path / "out.tif"
    nr.restore(image, model, progress=False).save(path)
    with rasterio.open(path) as written, rasterio.open(tmp_path / product.file_name) as source:
        for number, layer in enumerate(product.layers, 1):
            before, after = source.read(number), written.read(number)
            if not layer.is_light:
                np.testing.assert_array_equal(after, before)
            np.testing.assert_array_equal(after[~ground.valid], before[~ground.valid])
    # Half a step of integers is none.
    step = 0.5 if product.dtype.startswith(("u", "i")) else 1e-6
    before = above_zero(product, tmp_path / product.file_name, ground)
    for shows, values in above_zero(product, path, ground).items():
        assert ((values < -step) & (before[shows] >= -step)).mean() <= 0.001, shows


PAIRS = [
    pytest.param(product, model, id=f"{name}-{model}", marks=marks)
    for name, model, marks in [
        ("l8-ee-sr", "dcp", ()),
        ("planet-4-udm2", "htm", ()),
        ("s2-l2a-new-10m", "dcp", pytest.mark.slow),
        ("l7-ee-toa-float", "hot", pytest.mark.slow),
        ("naip", "atmosphere-aerial", pytest.mark.slow),
        ("modis", "htm", pytest.mark.slow),
    ]
    for product in PRODUCTS
    if product.id == name
]


@pytest.mark.parametrize(("product", "model"), PAIRS)
@pytest.mark.slow
@pytest.mark.ids("nightly", "l8-ee-sr-dcp", "l7-ee-toa-float-hot", "naip-atmosphere-aerial")
def test_python_and_command_write_the_same(
    product: Product, model: str, tmp_path: Path, ground: Ground
) -> None:
    image = opened(product, tmp_path, ground)
    path, other = tmp_path / "out.tif", tmp_path / "command.tif"
    nr.restore(image, model, progress=False).save(path)
    command(product, tmp_path, model, other)
    assert other.read_bytes() == path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("product", "model"), cases(1))
@pytest.mark.ids(
    "nightly",
    "s2-l1c-old-dcp",
    "hls-s30-dcp",
    "s2-l1c-new-hot",
    "l8-ee-sr-dcp",
    "s2-ee-sr-htm",
    "s2-l2a-new-10m-atmosphere-aerial",
    "s2-ee-tci-atmosphere-aerial",
    "l7-l2-stack-atmosphere-aerial",
    "hls-l30-atmosphere-aerial",
    "l8-l2-stack-qa-atmosphere-aerial",
    "l8-ee-sr-scaled-atmosphere-aerial",
    "planet-8-atmosphere-aerial",
)
def test_the_index_of_clear_ground_stays(
    product: Product, model: str, tmp_path: Path, ground: Ground
) -> None:
    clear = replace(ground, hazy=ground.clear)
    image, path = opened(product, tmp_path, clear), tmp_path / "out.tif"
    nr.restore(image, model, progress=False).save(path)
    before, after = (
        above_zero(product, each, clear) for each in (tmp_path / product.file_name, path)
    )
    if {"nir", "nir2"} & before.keys():
        assert np.median(np.abs(ndvi(after) - ndvi(before))) <= 0.01
