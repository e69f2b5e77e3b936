"""A GeoTIFF written like its source equals it in everything but encoding."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from napari_restore.images import ExportOptions, Pixels, halve, open_image, write_image
from napari_restore.images.export import _geotiff

FILES = [
    "RGB.byte.tif",  # uint8, nodata 0
    "RGBA.byte.tif",  # alpha
    "RGBA.uint16.tif",  # blue first, alpha
    "all-nodata.tif",  # descriptions
    "cog_gcps.tif",  # ground control points only
    "cog_hirise_mars.tif",
    "cog_nodata_nan.tif",  # float with nodata 0, many tags
    "cogeo_1024.tif",  # internal mask
    "custom_proj_int16.tif",
    "landsat8_tokyo_b432_uint16.tif",
    "landsat_4band_2010.tif",
    "naip_4band.tif",
    "pix4d_alpha_nodata.tif",
    "rgb16_rio_color.tif",  # a namespace of its own
    "sentinel2_TCI.tif",
    "spacenet_ms_float64.tif",
    "spacenet_vegas_rgb.tif",  # colour profile
]
RPC = {
    "ERR_BIAS": "1", "ERR_RAND": "0.5", "LINE_OFF": "100.5", "SAMP_OFF": "200.25",
    "LAT_OFF": "45.1", "LONG_OFF": "12.3", "HEIGHT_OFF": "100", "LINE_SCALE": "500",
    "SAMP_SCALE": "600", "LAT_SCALE": "0.1", "LONG_SCALE": "0.2", "HEIGHT_SCALE": "500",
    "LINE_NUM_COEFF": " ".join(["0.1"] * 20), "LINE_DEN_COEFF": " ".join(["1"] * 20),
    "SAMP_NUM_COEFF": " ".join(["0.2"] * 20), "SAMP_DEN_COEFF": " ".join(["1"] * 20),
}  # fmt: skip


def metadata(path: Path) -> dict[str, Any]:
    """Everything a copy must keep, as rasterio tells it."""
    with rasterio.open(path) as d:
        spaces = {"", *d.tag_namespaces()} - {"IMAGE_STRUCTURE", "DERIVED_SUBDATASETS"}
        tags = {s: d.tags(ns=s) if s else d.tags() for s in spaces}
        per_band = [
            {
                s: {k: v for k, v in d.tags(b, ns=s).items() if not k.startswith("STATISTICS_")}
                for s in {"", *d.tag_namespaces(b)} - {"IMAGE_STRUCTURE", "LocationInfo"}
            }
            for b in d.indexes
        ]
        points, crs = d.gcps
        return {
            "shape": (d.count, *d.shape), "dtypes": d.dtypes, "crs": d.crs,
            "transform": tuple(d.transform), "nodata": str(d.nodatavals),
            "descriptions": d.descriptions, "scales": d.scales, "offsets": d.offsets,
            "units": d.units, "colorinterp": d.colorinterp, "masks": d.mask_flag_enums,
            "gcps": [(p.row, p.col, p.x, p.y, p.z) for p in points], "gcps_crs": crs,
            "rpcs": d.rpcs, "tags": tags, "band_tags": per_band,
        }  # fmt: skip


def pixels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with rasterio.open(path) as d:
        return d.read(), d.dataset_mask()


def copy(source: Path, target: Path, **options: Any) -> Path:
    """`source` through our reader and writer."""
    image = open_image(source)
    return write_image(
        target,
        Pixels((0, 0, image.height, image.width), image.read),
        like=image,
        options=ExportOptions(**options),
    )


def assert_equal(source: Path, written: Path) -> None:
    assert metadata(written) == metadata(source)
    for one, other in zip(pixels(written), pixels(source), strict=True):
        np.testing.assert_array_equal(one, other)


def make(path: Path, data: np.ndarray, prepare: Any = None, **creation: Any) -> Path:
    """A GeoTIFF of (C, H, W) `data`; `prepare` gets the open dataset first."""
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver=creation.pop("driver", "GTiff"), count=data.shape[0],
            height=data.shape[1], width=data.shape[2], dtype=data.dtype, **creation,
        ) as dataset,
    ):  # fmt: skip
        if prepare is not None:
            prepare(dataset)
        dataset.write(data)
    return path


@pytest.fixture
def data() -> np.ndarray:
    return np.random.default_rng(2).integers(1, 255, (3, 620, 530), dtype=np.uint8)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.ids(
    "slow", "RGBA.uint16.tif", "landsat8_tokyo_b432_uint16.tif", "spacenet_vegas_rgb.tif"
)
@pytest.mark.ids("nightly", "landsat8_tokyo_b432_uint16.tif", "RGBA.uint16.tif")
def test_copy_of_a_real_file_is_equal(data_dir: Path, tmp_path: Path, name: str) -> None:
    source = data_dir / "geotiff" / name
    assert_equal(source, copy(source, tmp_path / "Kopie mit ö.tif"))


@pytest.mark.parametrize("name", ["RGBA.uint16.tif", "cogeo_1024.tif", "rgb16_rio_color.tif"])
@pytest.mark.ids("slow", "RGBA.uint16.tif")
@pytest.mark.ids("nightly", "RGBA.uint16.tif")
def test_copy_as_cog_is_equal(data_dir: Path, tmp_path: Path, name: str) -> None:
    source = data_dir / "geotiff" / name
    written = copy(source, tmp_path / "cog.tif", cog=True, compress="zstd")
    assert_equal(source, written)
    with rasterio.open(written) as d:
        assert d.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert list(tmp_path.iterdir()) == [written]


def test_tags_of_bands_are_in_a_cog(tmp_path: Path, data: np.ndarray) -> None:
    def tell(dataset: Any) -> None:
        dataset.update_tags(PROJECT="field 7")
        dataset.update_tags(1, note="band one", wavelength="665")
        dataset.update_tags(2, ns="IMAGERY", CENTRAL_WAVELENGTH_UM="0.665")
        dataset.update_tags(3, ns="OWN", plot="Süd & 4")
        dataset.scales, dataset.descriptions = (0.1, 0.1, 0.2), ("red", "green", "blue")

    source = make(tmp_path / "in.tif", data, tell)
    written = copy(source, tmp_path / "cog.tif", cog=True)
    assert_equal(source, written)
    with rasterio.open(written) as d:
        assert d.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG" and d.overviews(1) == [2]
    with rasterio.open(written, overview_level=0) as d:
        assert np.abs(d.read(1).astype(float).mean() - data[0].mean()) < 1


@pytest.mark.parametrize(
    ("dtype", "compress"),
    [
        *(("uint16", each) for each in ("deflate", "zstd", "lzw", "none")),
        *((each, "deflate") for each in ("uint8", "int16", "float32", "float64")),
        *(("float32", "zstd"), ("float64", "lzw")),
    ],
)
@pytest.mark.ids("nightly", "float64-deflate", "float64-lzw")
def test_every_compression_is_lossless(
    tmp_path: Path, data: np.ndarray, dtype: str, compress: str
) -> None:
    source = make(tmp_path / "in.tif", (data.astype(dtype) * 1.01).astype(dtype))
    written = copy(source, tmp_path / "out.tif", compress=compress)
    assert_equal(source, written)
    with rasterio.open(written) as d:
        assert d.block_shapes[0] == (512, 512)
        found = d.compression.name if d.compression else "none"
        assert found == compress
        assert d.overviews(1) == [2]


@pytest.mark.parametrize(
    "six",
    [
        (0.31, 0.02, 1000.123, 0.013, -0.29, 5000.7),
        (0.3, 0.0, 1000.1, 0.0, 0.3, 5000.7),
        (-0.3, 0.0, 1000.1, 0.0, -0.3, 5000.7),
        (1 / 3, 0.0, 0.1, 0.0, -1 / 7, 0.2),
    ],
    ids=["rotated", "south up", "east left", "uneven"],
)
@pytest.mark.parametrize("kind", ["Area", "Point"])
def test_transform_keeps_its_numbers_and_moves_with_the_box(
    tmp_path: Path, data: np.ndarray, six: tuple[float, ...], kind: str
) -> None:
    source = make(
        tmp_path / "in.tif", data, lambda d: d.update_tags(AREA_OR_POINT=kind),
        crs="EPSG:32633", transform=Affine(*six),
    )  # fmt: skip
    written = copy(source, tmp_path / "out.tif")
    assert_equal(source, written)

    image = open_image(source)
    part = write_image(tmp_path / "part.tif", Pixels((100, 37, 400, 301), image.read), like=image)
    with rasterio.open(part) as d, rasterio.open(source) as whole:
        np.testing.assert_array_equal(d.read(), data[:, 100:400, 37:301])
        assert d.transform * (0, 0) == pytest.approx(whole.transform * (37, 100), abs=1e-12)
        assert d.transform * (9, 5) == pytest.approx(whole.transform * (46, 105), abs=1e-12)
        assert d.tags()["AREA_OR_POINT"] == kind


def test_control_points_and_rpcs_move_with_the_box(tmp_path: Path, data: np.ndarray) -> None:
    points = [GroundControlPoint(r, c, c / 9, r / 7, 5.0) for r, c in [(1.5, 2), (1, 99), (90, 3)]]

    def place(dataset: Any) -> None:
        dataset.gcps = points, CRS.from_epsg(4326)
        dataset.update_tags(ns="RPC", **RPC)

    source = make(tmp_path / "in.tif", data, place)
    assert_equal(source, copy(source, tmp_path / "out.tif"))
    image = open_image(source)
    part = write_image(tmp_path / "part.tif", Pixels((10, 20, 310, 320), image.read), like=image)
    with rasterio.open(part) as d:
        assert [(p.row, p.col) for p in d.gcps[0]] == [(-8.5, -18), (-9, 79), (80, -17)]
        assert (d.rpcs.line_off, d.rpcs.samp_off) == (90.5, 180.25)


def test_descriptions_tags_scales_and_colours(tmp_path: Path, data: np.ndarray) -> None:
    def describe(dataset: Any) -> None:
        dataset.colorinterp = [ColorInterp.blue, ColorInterp.red, ColorInterp.undefined]
        dataset.descriptions = ("Blau", None, "NIR")
        dataset.scales, dataset.offsets = (0.1, 1.0, 2.0), (0.0, -5.0, 1.0)
        dataset.units = ("m", "", "K")
        dataset.update_tags(SENSOR="Ä", TIFFTAG_SOFTWARE="s")
        dataset.update_tags(ns="OWN", A="=1=2")
        dataset.update_tags(2, GAIN="3", STATISTICS_MEAN="17")
        dataset.update_tags(3, ns="BAND", X="y")

    source = make(tmp_path / "in.tif", data, describe, photometric="MINISBLACK")
    written = copy(source, tmp_path / "out.tif")
    assert_equal(source, written)
    with rasterio.open(written) as d:
        assert d.tags(2) == {"GAIN": "3"}


def test_added_tags(tmp_path: Path, data: np.ndarray) -> None:
    image = open_image(make(tmp_path / "in.tif", data))
    written = write_image(
        tmp_path / "out.tif", Pixels((0, 0, 620, 530), image.read), like=image,
        tags={"RESTORED_BY": "dcp"},
    )  # fmt: skip
    with rasterio.open(written) as d:
        assert d.tags()["RESTORED_BY"] == "dcp"


@pytest.mark.slow
def test_float_with_nan_and_its_overviews(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((2, 700, 600)).astype(np.float32)
    values[:, 100:250, 100:250] = np.nan
    values[0, ::8, ::8] = np.inf
    for nodata in (None, np.nan, -9999.0):
        source = make(tmp_path / f"in {nodata}.tif", values, nodata=nodata)
        written = copy(source, tmp_path / f"out {nodata}.tif")
        assert_equal(source, written)
        with rasterio.open(written, overview_level=0) as d:
            hole, rest = d.read(2)[50:125, 50:125], d.read(2)[150:]
            assert (np.isnan(hole) | (hole == -9999)).all()
            # A lone NaN or inf does not eat its neighbours.
            assert (np.isfinite(rest) & (rest >= 0)).all()


def test_internal_mask_and_its_overviews(tmp_path: Path, data: np.ndarray) -> None:
    mask = np.full((620, 530), 255, np.uint8)
    mask[:311, :301] = 0
    data = np.where(mask == 0, 0, np.maximum(data, 200)).astype(np.uint8)
    source = make(tmp_path / "in.tif", data, lambda d: d.write_mask(mask))
    written = copy(source, tmp_path / "out.tif")
    assert_equal(source, written)
    assert list(tmp_path.glob("*.msk")) == []
    with rasterio.open(written, overview_level=0) as d:
        seen = d.dataset_mask() != 0
        assert not seen[:155, :150].any() and seen[156:].all()
        assert d.read()[:, seen].min() >= 200


def test_alpha_and_its_overviews(tmp_path: Path, data: np.ndarray) -> None:
    alpha = np.full((1, 620, 530), 255, np.uint8)
    alpha[:, :311, :301] = 0
    four = np.concatenate([np.where(alpha == 0, 0, np.maximum(data, 200)), alpha]).astype(np.uint8)
    source = make(tmp_path / "in.tif", four, photometric="RGB", alpha="YES")
    written = copy(source, tmp_path / "out.tif")
    assert_equal(source, written)
    with rasterio.open(written, overview_level=0) as d:
        assert d.read()[:3, d.read(4) == 255].min() >= 200


@pytest.mark.slow
@pytest.mark.nightly
def test_vrt_and_jpeg2000_in(tmp_path: Path, data_dir: Path) -> None:
    first = tmp_path / "naip_4band.tif"
    shutil.copy(data_dir / "geotiff" / "naip_4band.tif", first)
    vrt, jp2 = tmp_path / "in.vrt", tmp_path / "in.jp2"
    rasterio.shutil.copy(first, vrt, driver="VRT")
    assert_equal(vrt, copy(vrt, tmp_path / "from vrt.tif"))
    rasterio.shutil.copy(first, jp2, driver="JP2OpenJPEG", quality=100, reversible="YES")
    written = copy(jp2, tmp_path / "from jp2.tif")
    # Not the colours: a TIFF's first band is gray where nothing is known.
    kept = ("shape", "dtypes", "crs", "transform", "nodata", "gcps")
    assert {k: metadata(written)[k] for k in kept} == {k: metadata(jp2)[k] for k in kept}
    np.testing.assert_array_equal(pixels(written)[0], pixels(jp2)[0])


def test_side_map_takes_the_place_only(tmp_path: Path, data_dir: Path) -> None:
    image = open_image(data_dir / "geotiff" / "RGB.byte.tif")

    def zeros(box: Any) -> np.ndarray:
        return np.full((box[2] - box[0], box[3] - box[1], 1), 0, np.float32)

    side_map = Pixels((8, 8, 108, 208), zeros, bands=1, dtype="float32")
    written = write_image(tmp_path / "t.tif", side_map, like=image)
    with rasterio.open(written) as d, rasterio.open(image.path) as whole:
        assert np.isnan(d.nodata) and d.dtypes == ("float32",)
        assert d.crs == whole.crs and d.transform * (0, 0) == whole.transform * (8, 8)
        assert d.colorinterp == (ColorInterp.gray,)


def test_dropped_alpha_keeps_the_other_bands(tmp_path: Path, data_dir: Path) -> None:
    image = open_image(data_dir / "geotiff" / "RGBA.byte.tif")
    colours = Pixels((0, 0, 718, 791), lambda box: image.read(box)[..., :3], bands=3)
    written = write_image(tmp_path / "rgb.tif", colours, like=image)
    with rasterio.open(written) as d:
        assert d.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def test_wide_rows_are_written_in_parts(
    tmp_path: Path, data: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("export._job", "export._geotiff"):
        monkeypatch.setattr(f"napari_restore.images.{module}.BLOCK_BYTES", 512 * 512 * 3)
    wide = np.tile(data, (1, 1, 3))
    source = make(tmp_path / "in.tif", wide)
    image, boxes = open_image(source), []
    part = Pixels((5, 5, 615, 1585), lambda box: boxes.append(box) or image.read(box))
    write_image(tmp_path / "out.tif", part, like=image)
    assert max(box[3] - box[1] for box in boxes) == 512
    np.testing.assert_array_equal(pixels(tmp_path / "out.tif")[0], wide[:, 5:615, 5:1585])
    with rasterio.open(tmp_path / "out.tif") as d:
        assert d.overviews(1) == [2, 4]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"cog": True}, {"compress": "none"}])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.ids(
    "nightly",
    "int16-options0",
    "int16-options1",
    "float32-options0",
    "float32-options1",
    "uint8-options0",
    "uint8-options2",
    "float32-options2",
)
def test_overviews_are_means_of_valid_pixels(
    tmp_path: Path, data: np.ndarray, dtype: str, options: dict[str, Any]
) -> None:
    big = np.tile(data, (1, 2, 3)).astype(dtype)
    big[:, 100:777, 200:333] = 0
    source = make(tmp_path / "in.tif", big, nodata=0, interleave="band", tiled=True)
    written = copy(source, tmp_path / "out.tif", **options)
    assert_equal(source, written)
    expected, valid = np.moveaxis(big, 0, 2), (big != 0).any(axis=0)
    for number in range(2):
        expected, found = halve(expected, valid, nodata=0)
        assert found is not None
        valid = found
        with rasterio.open(written, overview_level=number) as d:
            np.testing.assert_array_equal(np.moveaxis(d.read(), 0, 2), expected)
            np.testing.assert_array_equal(d.dataset_mask() != 0, valid)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.tif", "out.tif"]


def test_bigtiff_with_overviews(
    tmp_path: Path, data: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_geotiff, "BIGTIFF_BYTES", 1000)
    mask = np.full((620, 530), 255, np.uint8)
    mask[:99, :99] = 0
    source = make(tmp_path / "in.tif", data, lambda d: d.write_mask(mask), crs="EPSG:3857")
    written = copy(source, tmp_path / "out.tif")
    assert written.read_bytes()[:4] == b"II+\0"
    assert_equal(source, written)
    with rasterio.open(written, overview_level=0) as d:
        expected, _ = halve(np.moveaxis(data, 0, 2), mask != 0)
        np.testing.assert_array_equal(np.moveaxis(d.read(), 0, 2), expected)
        assert not d.dataset_mask()[:49, :49].any() and d.dataset_mask()[50:].all()


def test_progress_counts_rows(tmp_path: Path, data: np.ndarray) -> None:
    image, seen = open_image(make(tmp_path / "in.tif", data)), []
    write_image(
        tmp_path / "out.tif", Pixels((0, 0, 620, 530), image.read), like=image,
        progress=lambda *event: seen.append(event),
    )  # fmt: skip
    assert seen == [(512, 620), (620, 620)]


@pytest.mark.skipif(shutil.which("gdalinfo") is None, reason="no gdalinfo")
def test_another_gdal_reads_it(data_dir: Path, tmp_path: Path) -> None:
    for name in ("naip_4band.tif", "cog_gcps.tif", "custom_proj_int16.tif"):
        written = copy(data_dir / "geotiff" / name, tmp_path / name)
        told = subprocess.run(
            ["gdalinfo", "-checksum", str(written)], capture_output=True, text=True, check=True
        )
        expected = subprocess.run(
            ["gdalinfo", "-checksum", str(data_dir / "geotiff" / name)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        lines = [line for line in told.stdout.splitlines() if "Checksum" in line]
        assert lines == [line for line in expected.stdout.splitlines() if "Checksum" in line]
        assert "ERROR" not in told.stderr
