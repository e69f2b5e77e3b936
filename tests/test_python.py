"""`import napari_restore as nr`: arrays, models, boxes and results as Python users have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image as Pillow
from rasterio.transform import from_origin
from torch import nn

import napari_restore as nr
from napari_restore.engine import (
    Finished,
    Job,
    Phase,
    Stopped,
)
from napari_restore.errors import BadModel, BadRegion, UnknownBands, UnreadableImage

RGB = "red=1,green=2,blue=3"
BOX = nr.Region.from_xywh(20, 10, 16, 12)


def hazy(bands: int = 3) -> np.ndarray:
    """(70, 90, bands) uint8 of a hazy gradient with noise."""
    rng = np.random.default_rng(0)
    veil = np.linspace(90, 200, 90)[None, :, None]
    pixels = np.clip(veil + rng.normal(0, 12, (70, 90, bands)), 1, 254).astype(np.uint8)
    pixels[..., :3] = np.clip(pixels[..., :3] - np.array([20, 10, 0]), 1, 254)
    return pixels


def same_range(pixels: np.ndarray, dtype: str) -> np.ndarray:
    scale = {"uint8": 1, "uint16": 257, "float32": 1 / 255, "float64": 1 / 255}[dtype]
    return (pixels * np.float64(scale)).astype(dtype)


class Blur(nn.Module):
    """Needs sizes that are multiples of two, and has never heard of a card."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 4, 2, 2), nn.ConvTranspose2d(4, 3, 2, 2)
        self.near = nn.Conv2d(3, 3, 7, padding=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.near(self.up(self.down(x))).sigmoid()


# -- arrays --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.ids("nightly", "uint8", "uint16", "float64")
def test_an_array_of_three_bands_is_red_green_blue(dtype: str):
    pixels = same_range(hazy(), dtype)
    # `hot` needs blue and red by name.
    result = nr.restore(pixels, "hot")
    assert result.image.roles == ("red", "green", "blue")
    assert result.array.shape == (70, 90, 3) and result.array.dtype == dtype
    named = nr.restore(nr.open_image(pixels, bands=RGB), "hot")
    np.testing.assert_array_equal(np.asarray(result), np.asarray(named))
    assert (np.asarray(result) != pixels).any()


def test_the_fourth_band_is_alpha_and_transparent_pixels_stay():
    pixels = hazy(4)
    pixels[10:20, 10:20, 3] = 0
    image = nr.open_image(pixels)
    assert image.roles[3] == "alpha"
    assert (~image.read_valid((0, 0, 70, 90))).sum() == 100
    restored = np.asarray(nr.restore(image, "hot"))
    np.testing.assert_array_equal(restored[..., 3], pixels[..., 3])
    np.testing.assert_array_equal(restored[10:20, 10:20], pixels[10:20, 10:20])


@pytest.mark.parametrize("opened", [False, True])
def test_who_names_the_bands_has_the_last_word(opened: bool):
    pixels = hazy(4)
    pixels[..., 3] = 0
    given: Any = nr.open_image(pixels) if opened else pixels
    image = nr.open_image(given, bands="blue=1,green=2,red=3,nir=4")
    assert image.roles == ("blue", "green", "red", "nir")
    assert image.read_valid((0, 0, 70, 90)).all()


@pytest.mark.parametrize(
    "pixels",
    [hazy(5), hazy().astype(np.int16), hazy().astype(np.uint32)],
    ids=lambda p: str(p.dtype),
)
def test_nothing_is_assumed_of_what_is_no_picture(pixels: np.ndarray):
    with pytest.raises(UnknownBands, match="bands="):
        nr.restore(pixels, "hot")


@pytest.mark.parametrize("georeferenced", [False, True])
def test_a_tiff_of_red_green_and_blue_needs_no_names(tmp_path: Path, georeferenced: bool):
    place = {"crs": "EPSG:32633", "transform": from_origin(500_000, 40_000, 2, 2)}
    kind = {"driver": "GTiff", "width": 90, "height": 70, "count": 3, "dtype": "uint16"}
    pixels = same_range(hazy(), "uint16")
    for photometric in ("RGB", "MINISBLACK"):
        how = kind | (place if georeferenced else {})
        with rasterio.open(
            tmp_path / f"{photometric}.tif", "w", photometric=photometric, **how
        ) as t:
            t.write(pixels.transpose(2, 0, 1))
    result = nr.restore(tmp_path / "RGB.tif", "hot")
    named = nr.restore(tmp_path / "MINISBLACK.tif", "hot", bands=RGB)
    np.testing.assert_array_equal(np.asarray(result), np.asarray(named))
    with pytest.raises(UnknownBands, match="bands="):
        nr.restore(tmp_path / "MINISBLACK.tif", "hot")


class Labelled:
    """As much of an xarray.DataArray with rioxarray's accessor as is used."""

    class rio:
        class crs:
            is_geographic, linear_units = False, "metre"

            @staticmethod
            def to_wkt() -> str:
                return 'LOCAL_CS["here"]'

        @staticmethod
        def transform() -> tuple[float, ...]:
            return (30.0, 0.0, 0.0, 0.0, -30.0, 0.0)

    def __init__(self, data: np.ndarray, dims: tuple[str, ...]) -> None:
        self.data, self.dims, self.shape, self.dtype = data, dims, data.shape, data.dtype
        self.attrs: dict[str, Any] = {}

    def transpose(self, *order: str) -> Labelled:
        return Labelled(self.data.transpose([self.dims.index(name) for name in order]), order)


def test_four_bands_on_a_map_are_not_taken_for_transparency():
    image = nr.open_image(Labelled(hazy(4).transpose(2, 0, 1), ("band", "y", "x")))
    assert image.shape == (70, 90, 4)
    assert image.roles == (None, None, None, None)


def test_a_labelled_array_is_restored():
    scene = Labelled(hazy().transpose(2, 0, 1), ("band", "y", "x"))
    found = np.asarray(nr.restore(scene, "hot", bands=RGB))
    np.testing.assert_array_equal(found, np.asarray(nr.restore(hazy(), "hot")))


@pytest.mark.parametrize(
    ("mode", "roles"),
    [
        ("RGB", ("red", "green", "blue")),
        ("RGBA", ("red", "green", "blue", "alpha")),
        ("L", ("gray",)),
        ("LA", ("gray", "alpha")),
        ("P", ("red", "green", "blue")),
        ("CMYK", ("red", "green", "blue")),
        ("I;16", (None,)),
        ("F", (None,)),
        ("1", (None,)),
    ],
)
def test_a_pil_image_is_what_it_shows(mode: str, roles: tuple[str | None, ...]):
    if mode == "I;16":
        picture = Pillow.fromarray(hazy()[..., 0].astype(np.uint16) * 257)
    else:
        picture = Pillow.fromarray(hazy()).convert(mode)
    image = nr.open_image(picture)
    assert image.shape == (70, 90, len(roles))
    assert [role or "gray" for role in image.roles] == [role or "gray" for role in roles]
    kept = (
        picture if mode in ("RGB", "RGBA", "L", "LA", "I;16", "F", "1") else picture.convert("RGB")
    )
    expected = np.asarray(kept).reshape(image.shape)
    np.testing.assert_array_equal(image.read((0, 0, 70, 90)), expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x,
        lambda x: x[None],
        lambda x: x.permute(1, 2, 0),
        lambda x: x.requires_grad_(),
        lambda x: x.permute(1, 2, 0).contiguous().permute(2, 0, 1),
    ],
)
def test_a_tensor_is_bands_first_and_the_result_bands_last(make: Any):
    pixels = same_range(hazy(), "float32")
    tensor = make(torch.from_numpy(pixels.transpose(2, 0, 1).copy()))
    image = nr.open_image(tensor)
    np.testing.assert_array_equal(image.read((0, 0, 70, 90)), pixels)
    assert np.asarray(nr.restore(tensor, "hot")).shape == (70, 90, 3)


def test_tensors_of_less_bits_and_of_several_images():
    tensor = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0)).bfloat16()
    image = nr.open_image(tensor)
    np.testing.assert_array_equal(
        image.read((0, 0, 20, 30)), tensor.float().permute(1, 2, 0).numpy()
    )
    with pytest.raises(UnreadableImage, match="contains 2 images"):
        nr.open_image(torch.zeros(2, 3, 20, 30))


def test_what_is_no_image_is_a_sentence():
    with pytest.raises(UnreadableImage, match="cannot be made of dict"):
        nr.restore({}, "hot")


@pytest.mark.parametrize("door", [nr.plan, nr.restore])
def test_bands_are_named_at_every_door(door: Any):
    made = door(hazy(5), "hot", bands="red=5,green=2,blue=1")
    assert made.image.roles == ("blue", "green", None, None, "red")


def test_so_at_attribution_and_info():
    told = nr.info(hazy(5), bands="red=5,green=2,blue=1")["bands"]
    assert [band["role"] for band in told] == ["blue", "green", None, None, "red"]
    found = nr.attribute(
        hazy(5), "hot", BOX, bands="red=5,green=2,blue=1", method="ig", steps=1, device="cpu"
    )
    assert found.image.roles[4] == "red"


# -- models --------------------------------------------------------------------------


@pytest.mark.nightly
def test_a_bare_module_is_tried_out_and_its_halo_measured():
    torch.manual_seed(0)
    network = Blur()
    model = nr.load_model(network)
    card = model.card
    assert (card.bands, card.multiple_of, card.halo) == (3, 2, 4)
    planned = nr.plan(hazy(), network, device="cpu")
    assert planned.layout.halo == 4
    assert [note for note in planned.notes if "Blur has no card: 3 bands" in note]
    x = torch.from_numpy(same_range(hazy(), "float32")).permute(2, 0, 1)[None]
    with torch.inference_mode():
        whole = network(x)[0].permute(1, 2, 0).numpy()
    tiled = nr.restore(same_range(hazy(), "float32"), network, tile=32, device="cpu")
    np.testing.assert_allclose(np.asarray(tiled), whole, atol=1e-5)


@pytest.mark.nightly
def test_so_in_attribution():
    found = nr.attribute(hazy(), Blur(), BOX, method="ig", steps=1, device="cpu")
    assert found.record["model"]["id"] == "Blur"
    table = nr.attribute_table(hazy(), [Blur()], [BOX], method="ig", steps=1, device="cpu")
    assert len(table.rows) == 1


@pytest.mark.parametrize("door", [nr.plan, nr.restore])
def test_what_is_no_model_is_a_sentence(door: Any):
    with pytest.raises(BadModel, match="A model cannot be made of"):
        door(hazy(), None)
    with pytest.raises(BadModel, match="gives no image of the same size"):
        door(hazy(), nn.Conv2d(3, 6, 3))


# -- boxes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "box",
    [(10, 20, 22, 36), [10, 20, 22, 36], [(10, 20, 22, 36)], np.array([10, 20, 22, 36]), 5],
    ids=str,
)
@pytest.mark.parametrize(
    "ask",
    [
        lambda box: nr.plan(hazy(), "identity", region=box),
        lambda box: nr.restore(hazy(), "identity", region=box),
        lambda box: nr.attribute(hazy(), "hot", box),
        lambda box: nr.attribute_table(hazy(), ["hot"], [box]),
    ],
    ids=["plan", "restore", "attribute", "table"],
)
def test_a_bare_box_is_refused_at_every_door(ask: Any, box: Any):
    with pytest.raises(BadRegion, match=r"Region\(y0, x0, y1, x1\) or Region\.from_xywh\(x, y"):
        ask(box)


def test_a_region_is_taken_at_every_door():
    corners = nr.Region(10, 20, 22, 36)
    assert corners == BOX
    assert nr.plan(hazy(), "identity", region=BOX).region == corners
    assert nr.restore(hazy(), "identity", region=[BOX]).region == corners


# -- results -------------------------------------------------------------------------


def test_a_result_is_an_array():
    result = nr.restore(hazy(), "hot", region=BOX)
    pixels = np.asarray(result)
    assert pixels.shape == (12, 16, 3) and pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, result.array.compute())
    assert np.asarray(result, np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="copy=False"):
        result.__array__(copy=False)  # as np.asarray of NumPy 2 asks


def test_what_is_shown_of_a_thing_says_what_it_is():
    image = nr.open_image(hazy())
    planned = nr.plan(image, "hot", region=BOX)
    job = nr.start(planned)
    result = job.result()
    assert repr(image) == "<Image 'array' (70, 90, 3) uint8, bands red green blue>"
    assert repr(planned).startswith("<Plan 'hot' on 'array': 1 tile · ")
    assert repr(job) == "<Job 'hot' on 'array': done, 1 tile>"
    assert repr(result) == (
        "<Result 'hot' on 'array': (12, 16, 3) uint8, Region(y0=10, x0=20, y1=22, x1=36)>"
    )
    assert "'hot', scope='local'" in repr(nr.load_model("hot"))


def test_so_of_an_attribution():
    found = nr.attribute(hazy(), "hot", BOX, method="ig", steps=2, device="cpu")
    assert repr(found).startswith("<Attribution 'hot' on 'array': ig, Region(y0=10,")
    assert "completeness gap" in repr(found)
    np.testing.assert_array_equal(np.asarray(found), found.map)


@pytest.mark.parametrize(
    ("told", "status"),
    [
        (None, "running"),
        (Phase("Restoring"), "running"),
        (Finished({}), "done"),
        (Stopped({}), "cancelled"),
        (ValueError(), "failed"),
    ],
)
def test_a_job_tells_how_it_stands(told: Any, status: str):
    job = Job.__new__(Job)
    job._events = [] if told is None else [told]
    assert job.status == status


def test_a_region_lies_around_a_point() -> None:
    assert nr.Region.centred(10, 20, 4) == (8, 18, 12, 22)
    assert nr.Region.centred(10.5, 20.5, 3, 5) == (9, 18, 12, 23)
    # Of two boxes equally near, the same one on both axes and everywhere.
    assert nr.Region.centred(10, 11, 3) == nr.Region.centred(11, 12, 3).shift(-1, -1)
