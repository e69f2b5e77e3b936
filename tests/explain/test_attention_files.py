"""Files of a look at attention: tables, arrays, georeferenced rasters and figures."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import zarr
from affine import Affine
from PIL import Image
from rasterio.transform import from_origin
from tests.explain._attention import attention_of, maps_of

import napari_restore as nr
from napari_restore.errors import BadOutput, BadParameter
from napari_restore.explain.attention.attention import COLUMNS, Attention
from napari_restore.explain.attention.figure import draw_attention

SIZE = 41, 62  # pixels: 11 × 16 cells of 4
PLACES = {
    "north up": from_origin(500_000, 40_000, 2, 2),
    "south up": Affine(2, 0, 500_000, 0, 2, 40_000),
    "rotated": Affine.translation(500_000, 40_000) * Affine.rotation(30) * Affine.scale(2, -2),
}
TEXT = "b.1"


def image_at(folder: Path, place: Affine, size: tuple[int, int] = SIZE) -> Any:
    path = folder / "scene.tif"
    profile = {"driver": "GTiff", "height": size[0], "width": size[1], "count": 3, "dtype": "uint8"}
    pixels = np.random.default_rng(0).integers(0, 255, (3, *size), np.uint8)
    with rasterio.open(path, "w", **profile, crs="EPSG:32636", transform=place) as file:
        file.write(pixels)
    return nr.open_image(path)


def two_heads(**site: Any) -> Any:
    """Head 1 looks at the last cell of the image, and of the padding; head 2 at two cells."""
    cells = [[[10, 15], [11, 15]], [[8, 12], [10, 14]]]
    return maps_of([[0.75, 0.25], [0.4, 0.6]], cells, (9, 13), SIZE, **site)


@pytest.fixture
def found(tmp_path: Path) -> Attention:
    return attention_of(image_at(tmp_path, PLACES["north up"]), two_heads())


def test_it_is_html_in_a_notebook(found: Attention) -> None:
    page = found._repr_html_()
    assert (
        found.queries[0].query.label in page and found.layers[0] in page and "<script" not in page
    )


@pytest.mark.parametrize("name", PLACES)
def test_a_raster_lies_on_the_images_map(tmp_path: Path, name: str) -> None:
    place = PLACES[name]
    found = attention_of(image_at(tmp_path, place), two_heads())
    out = found.save(tmp_path / "map.tif")
    with rasterio.open(out) as file:
        # Rows 8 to 10 and columns 12 to 15: row 11 is padding.
        assert (file.count, file.height, file.width) == (2, 3, 4)
        assert file.crs == "EPSG:32636" and file.dtypes == ("float32",) * 2
        corner = place * Affine.translation(12 * 4, 8 * 4) * Affine.scale(4)
        assert file.transform.almost_equals(corner, precision=1e-6)
        assert np.isnan(file.nodata)
        one, two = file.read()
        tags = file.tags()
    assert one[2, 3] == 0.75 and np.isnan(one).sum() == 11
    assert two[0, 0] == np.float32(0.4) and two[2, 2] == np.float32(0.6)
    assert "not why" in tags["NAPARI_RESTORE"]
    assert tags["NAPARI_RESTORE_HEADS"] == "1, 2" and tags["NAPARI_RESTORE_LAYER"] == "a.1"
    assert tags["NAPARI_RESTORE_QUERY"] == "36 52 40 56"
    assert found.record["output"]["path"] == str(out) and found.record["output"]["sha256"]


def test_a_raster_of_one_head_has_one_band(found: Attention, tmp_path: Path) -> None:
    for head, expected in (("2", 0.6), ("mean", 0.3), ("max", 0.6)):
        out = found.save(tmp_path / f"{head}.tif", head=head)
        with rasterio.open(out) as file:
            assert file.count == 1
            assert file.read(1)[2, 2] == pytest.approx(expected)
    with pytest.raises(BadParameter, match="no head '3'"):
        found.save(tmp_path / "no.tif", head="3")
    assert not (tmp_path / "no.tif").exists()


def test_larger_cells_are_larger_pixels(tmp_path: Path) -> None:
    cells = [[[1, 2]]]
    maps = maps_of([[1.0]], cells, (9, 13), SIZE, placed=True, key_stride=16)
    found = attention_of(image_at(tmp_path, PLACES["north up"]), maps)
    with rasterio.open(found.save(tmp_path / "map.tif")) as file:
        # From the key's cell, (1, 2), to the query's, (2, 3).
        assert file.transform.a == 32 and file.transform.c == 500_000 + 2 * 2 * 16
        np.testing.assert_array_equal(file.read(1), [[1, np.nan], [np.nan, np.nan]])


def test_a_zarr_has_the_same_values(found: Attention, tmp_path: Path) -> None:
    found.save(tmp_path / "map.zarr")
    with rasterio.open(found.save(tmp_path / "map.tif")) as file:
        expected = file.read()
    group: Any = zarr.open(str(tmp_path / "map.zarr"), mode="r")
    array = group if isinstance(group, zarr.Array) else group["0"]
    np.testing.assert_array_equal(np.asarray(array).reshape(expected.shape), expected)


def test_a_table_has_a_row_for_each_head(found: Attention, tmp_path: Path) -> None:
    text = found.save(tmp_path / "map.csv").read_text(encoding="utf-8")
    first, second = csv.DictReader(io.StringIO(text))
    assert tuple(first) == COLUMNS
    assert first["layer"] == "a.1" and first["kind"] == "window"
    assert (first["query"], first["x"], first["y"]) == ("1", "52", "36")
    assert (first["head"], second["head"]) == ("1", "2")
    assert float(second["sum"]) == pytest.approx(1)
    expected = -(0.4 * np.log(0.4) + 0.6 * np.log(0.6))
    assert float(second["entropy"]) == pytest.approx(expected / np.log(2), abs=1e-6)


def test_arrays_hold_weights_cells_and_record(found: Attention, tmp_path: Path) -> None:
    out = found.save(tmp_path / "map.npz")
    with np.load(out) as arrays:
        maps = found.maps()
        np.testing.assert_array_equal(arrays["0/a.1/weights"], maps.weights)
        np.testing.assert_array_equal(arrays["0/a.1/cells"], maps.cells)
        record = json.loads(str(arrays["record"]))
    assert record["attention"]["layers"][0]["name"] == "a.1"
    assert "measured" not in record and "output" not in record


def test_arrays_are_the_same_bytes_whenever_they_are_written(
    found: Attention, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = found.save(tmp_path / "one.npz").read_bytes()
    later = time.localtime(time.time() + 1e6)
    monkeypatch.setattr("time.localtime", lambda *_: later)
    assert found.save(tmp_path / "two.npz").read_bytes() == first


@pytest.mark.parametrize("suffix", ["csv", "npz", "tif", "zarr"])
def test_an_output_that_exists_is_kept(found: Attention, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"map.{suffix}"
    out.write_text("mine")
    with pytest.raises(BadOutput, match="exists"):
        found.save(out)
    assert out.read_text() == "mine"
    if suffix != "zarr":
        found.save(out, overwrite=True)
        assert out.read_bytes() != b"mine"
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"scene.tif", out.name}


def test_what_cannot_be_written_has_one_sentence(found: Attention, tmp_path: Path) -> None:
    for name in ("no/map.csv", "no/map.npz", "no/map.tif"):
        with pytest.raises(BadOutput):
            found.save(tmp_path / name)
    several = Attention(found.queries * 2, found.record, found.image, found.picture)
    with pytest.raises(BadOutput, match="one query"):
        several.save(tmp_path / "map.tif")
    image = image_at(tmp_path, PLACES["north up"])
    other = two_heads().__class__(**{**vars(two_heads()), "site": _renamed(TEXT)})
    layers = attention_of(image, two_heads(), other)
    with pytest.raises(BadParameter, match="2 layers"):
        layers.save(tmp_path / "map.tif")
    with rasterio.open(layers.save(tmp_path / "map.tif", layer=TEXT)) as file:
        assert file.tags()["NAPARI_RESTORE_LAYER"] == TEXT


def _renamed(name: str) -> Any:
    from dataclasses import replace

    return replace(two_heads().site, name=name)


@pytest.mark.nightly
def test_a_figure_holds_its_settings(found: Attention, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    words = (
        "scene.tif, 62 x 41",
        "model      toy",
        "x 52–55, y 36–39",
        "layers     a.1",
        "not why",
    )
    svg = draw_attention(found, tmp_path / "a.svg").read_text(encoding="utf-8")
    description = re.search(r"<dc:description>(.*?)</dc:description>", svg, re.DOTALL)
    assert description is not None
    with Image.open(draw_attention(found, tmp_path / "a.png")) as picture:
        png = picture.info["Description"]
        # 180 mm at 300 dots per inch, and not empty.
        assert abs(picture.width - 180 / 25.4 * 300) < 2
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20
    assert draw_attention(found, tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    for text in (" ".join(description[1].split()), " ".join(png.split())):
        for word in words:
            assert " ".join(word.split()) in text
    assert "head 1" in svg and "H 0.97" in svg


@pytest.mark.slow
def test_figures_of_other_kinds(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    image = image_at(tmp_path, PLACES["north up"])
    here = [[[9, 13]], [[9, 13]]]
    experts = maps_of([[0.7], [0.3]], here, (9, 13), SIZE, kind="routing")
    signed = two_heads(kind="channel")
    for number, maps in enumerate((experts, signed)):
        text = draw_attention(attention_of(image, maps), tmp_path / f"{number}.svg")
        assert ("share" in text.read_text(encoding="utf-8")) is (number == 0)
    with pytest.raises(BadOutput, match="exists"):
        draw_attention(attention_of(image, experts), tmp_path / "0.svg")
    with pytest.raises(BadOutput, match="no figure"):
        draw_attention(attention_of(image, experts), tmp_path / "a.gif")
