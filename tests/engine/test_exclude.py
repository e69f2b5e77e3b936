"""Masks of what to leave out: those that are none are refused, with the line to write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio

import napari_restore as nr
from napari_restore.engine.masks import open_mask as _open_mask
from napari_restore.engine.masks.mask_strength import MaskStrength
from napari_restore.engine.masks.open_mask import note_of_share, open_exclude as opened, open_mask
from napari_restore.errors import BadMask, Message, UnreadableImage
from napari_restore.questions import Reading

SIZE = (60, 80)
Write = Callable[..., str]


def open_exclude(mask: str, image: nr.Image) -> MaskStrength:
    found = opened(Reading(exclude=mask), image)
    assert found is not None
    return found


def note(mask: str, image: nr.Image) -> str:
    """Return the note on a mask's share, or nothing."""
    return str(Message(note_of_share(open_exclude(mask, image), mask, image) or ""))


@pytest.fixture
def image() -> nr.Image:
    return nr.open_image(np.full((*SIZE, 3), 90, np.uint8))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(
        pixels: npt.NDArray[Any],
        name: str = "m.tif",
        description: str | None = None,
        colours: dict[int, tuple[int, int, int]] | None = None,
    ) -> str:
        bands = np.atleast_3d(pixels).transpose(2, 0, 1)
        path = tmp_path / name
        shape = {"count": len(bands), "height": SIZE[0], "width": SIZE[1], "dtype": bands.dtype}
        with rasterio.open(path, "w", driver="GTiff", **shape) as new:
            new.write(bands)
            new.set_band_description(1, description or "")
            if colours is not None:
                new.write_colormap(1, colours)
        return str(path)

    return write


def codes(dtype: str, *values: int) -> npt.NDArray[Any]:
    """Return 0 with a square of each value."""
    pixels = np.zeros(SIZE, dtype)
    for number, value in enumerate(values):
        pixels[10:20, 10 * number : 10 * number + 8] = value
    return pixels


@pytest.mark.parametrize(
    "pixels",
    [
        codes("uint8", 1),
        codes("uint8", 255),
        codes("uint8", 3, 100, 255),  # soft edges
        codes("uint16", 1024),  # one bit alone
        codes("int32", 1, 2, 900),  # labels
        codes("uint8", 1, 2),
        codes("float32", 1) / 2,
        np.dstack([codes("uint8", 255)] * 3),  # painted in grey
        np.dstack([np.where(codes("uint8", 1) == 1, np.float32(1), np.float32("nan"))] * 3),
    ],
    ids=["one", "255", "soft", "bit", "labels", "two", "float", "grey", "NaN"],
)
def test_masks(write: Write, image: nr.Image, pixels: npt.NDArray[Any]) -> None:
    covered = open_exclude(write(pixels), image).read(nr.Region(0, 0, *SIZE)) > 0
    np.testing.assert_array_equal(covered, np.atleast_3d(pixels)[..., 0] > 0)


def test_several_bands(write: Write, image: nr.Image) -> None:
    path = write(np.dstack([codes("uint8", 1), codes("uint8", 0, 1)]))
    with pytest.raises(BadMask, match=r"m\.tif has 2 bands.*exclude=\"m\.tif:1\""):
        open_exclude(path, image)
    with pytest.raises(BadMask, match=r"m\.tif has 2 bands.*mask=\"m\.tif:1\""):
        open_mask(path, image)
    everything = nr.Region(0, 0, *SIZE)
    np.testing.assert_array_equal(
        open_mask(f"{path}:2", image).read(everything), codes("uint8", 0, 1)
    )
    # On what a view shows, too.
    view = nr.open_image([np.full((*SIZE, 3), 90, np.uint8), np.full((30, 40, 3), 90, np.uint8)])
    with pytest.raises(BadMask, match=r"m\.tif has 2 bands"):
        open_mask(path, view.level_view(1))


@pytest.mark.parametrize("most", [1.0, 1.04, 100.0, 255.0])
def test_floats_that_are_no_strengths_are_refused(
    write: Write, image: nr.Image, most: float
) -> None:
    pixels = codes("float32", 1) * np.float32(most)
    if most > 2:
        with pytest.raises(BadMask, match=f"strengths up to {most:g}, where floats are 0 to 1"):
            open_mask(write(pixels), image)
    else:
        strength = open_mask(write(pixels), image).read(nr.Region(0, 0, *SIZE))
        np.testing.assert_array_equal(strength, codes("float32", 1))
    assert open_exclude(write(pixels, "x.tif"), image).read(nr.Region(0, 0, *SIZE)).sum() == 80


@pytest.mark.parametrize("largest", [1, 4])
def test_a_mask_of_colours_is_its_numbers(write: Write, image: nr.Image, largest: int) -> None:
    """A green class has no red, in which the colour would be looked for."""
    pixels = codes("uint8", 1, largest)
    colours = {0: (0, 0, 0), 1: (0, 200, 0), 4: (90, 90, 200)}
    path, everything = write(pixels, colours=colours), nr.Region(0, 0, *SIZE)
    np.testing.assert_array_equal(open_exclude(path, image).read(everything) > 0, pixels > 0)
    if largest > 1:
        with pytest.raises(BadMask, match="numbers up to 4 as colours"):
            open_mask(path, image)
    else:
        np.testing.assert_array_equal(open_mask(path, image).read(everything), pixels)


@pytest.mark.parametrize(
    ("pixels", "name", "description"),
    [
        (codes("uint16", 1024, 2048), "m.tif", None),
        (codes("uint16", 21824, 22280), "m.tif", None),
        (codes("uint8", 3, 8, 9), "T33UXP_SCL_20m.tif", None),
        (codes("uint8", 3, 8, 9), "m.tif", "SCL"),
        (codes("uint8", 2, 4), "scene_udm.tif", None),
        (codes("uint8", 2, 4), "HLS.S30.v2.0.Fmask.tif", None),
        (codes("uint8", 20, 90), "MSK_CLDPRB_20m.tif", None),
        (codes("int16", 8, 1032), "m.tif", "state_1km"),
    ],
)
def test_bits_classes_and_probabilities(
    write: Write, image: nr.Image, pixels: npt.NDArray[Any], name: str, description: str | None
) -> None:
    with pytest.raises(
        BadMask, match=rf"{name} holds codes .*from .*exclude_bits=.*exclude_values="
    ):
        open_exclude(write(pixels, name, description), image)


def share(part: float) -> npt.NDArray[Any]:
    pixels = np.zeros(SIZE, np.uint8).ravel()
    pixels[: round(part * pixels.size)] = 1
    return pixels.reshape(SIZE)


def test_nearly_all(write: Write, image: nr.Image) -> None:
    assert not note(write(share(0.9)), image)
    most = note(write(share(0.91), "m2.tif"), image)
    assert most.startswith("m2.tif leaves out 91 % of the image") and "exclude_values=0" in most
    assert "leaves out 100 %" in note("POLYGON ((0 0, 80 0, 80 60, 0 60, 0 0))", image)


def test_nearly_all_of_a_large_image(image: nr.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_open_mask, "SAMPLE_PIXELS", 1000)
    monkeypatch.setattr(_open_mask, "_shares", {})
    assert not note("POLYGON ((0 0, 68 0, 68 60, 0 60, 0 0))", image)
    assert "leaves out" in note("POLYGON ((0 0, 77 0, 77 60, 0 60, 0 0))", image)


def test_plans_check_them(write: Write, image: nr.Image) -> None:
    plan = nr.plan(image, "identity", exclude=write(share(0.95), "most.tif"))
    assert any("leaves out 95 %" in note for note in plan.notes)
    with pytest.raises(BadMask, match="holds codes"):
        nr.plan(image, "identity", exclude=write(codes("uint16", 1024, 2048), "bits.tif"))


@pytest.mark.parametrize("suffix", [".shp", ".gpkg", ".kml", ".fgb"])
def test_vector_files_that_are_none(tmp_path: Path, image: nr.Image, suffix: str) -> None:
    path = tmp_path / f"area{suffix}"
    path.write_bytes(b"SQLite format 3\0" + bytes(100))
    with pytest.raises(BadMask, match=rf"area\{suffix} is no {suffix[1:].upper()} file"):
        open_mask(path, image)
    with pytest.raises((BadMask, UnreadableImage), match="no file"):
        open_mask(tmp_path / f"missing{suffix}", image)


@pytest.mark.parametrize("suffix", [".gml", ".csv", ".zip"])
def test_other_vector_files(tmp_path: Path, image: nr.Image, suffix: str) -> None:
    path = tmp_path / f"area{suffix}"
    path.write_bytes(b"SQLite format 3\0" + bytes(100))
    with pytest.raises(BadMask, match=rf"vector file.*ogr2ogr .*area\.geojson area\{suffix}"):
        open_mask(path, image)
    with pytest.raises(UnreadableImage, match="no file"):
        open_mask(tmp_path / f"missing{suffix}", image)


def test_geojson_stays(tmp_path: Path, image: nr.Image) -> None:
    path = tmp_path / "area.geojson"
    ring = [[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    assert open_exclude(str(path), image).bounds == nr.Region(0, 0, 9, 9)
