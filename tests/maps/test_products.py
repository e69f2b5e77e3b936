"""What the program makes of satellites' files by the names in them, thirty products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from tests.maps.products import PRODUCTS, WAVES, Ground, Product

import napari_restore as nr
from napari_restore.images import Image, resolve_radiometry


@pytest.fixture(scope="module")
def ground() -> Ground:
    rng = np.random.default_rng(0)
    coarse = rng.random((4, 12, 12))
    return Ground.made(np.kron(coarse, np.ones((8, 8))) * 0.8 + 0.2 * rng.random((4, 96, 96)))


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


@pytest.mark.slow
@pytest.mark.parametrize("model", ["dcp", "hot", "htm", "atmosphere-aerial"])
@pytest.mark.parametrize("product", PRODUCTS, ids=lambda each: each.id)
def test_what_shows_no_haze_stays_and_the_collar_too(
    product: Product, model: str, tmp_path: Path, ground: Ground
) -> None:
    image = opened(product, tmp_path, ground)
    path = tmp_path / "out.tif"
    nr.restore(image, model, progress=False).save(path)
    with rasterio.open(path) as written, rasterio.open(tmp_path / product.file_name) as source:
        for number, layer in enumerate(product.layers, 1):
            before, after = source.read(number), written.read(number)
            if not layer.is_light:
                np.testing.assert_array_equal(after, before)
            np.testing.assert_array_equal(after[~ground.valid], before[~ground.valid])
