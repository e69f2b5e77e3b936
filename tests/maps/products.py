"""Synthetic products of satellites: named, scaled and masked as their agencies do, from real pixels.

The ground is an aerial photograph with near infrared (red, green, blue, near infrared of 0.55 × value /
255); what other bands show is mixed from these. Haze of the scattering model with exponent 1 lies over
it. Sources of names, zeros and scales: USGS Landsat Collection 2 guides; ESA Sentinel-2 product
specification; Planet product specification; HLS user guide 2.0; catalogue of Earth Engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

SIDE = 320
WAVES = {
    "coastal": 443.0, "blue": 485.0, "green": 560.0, "yellow": 610.0, "red": 660.0,
    "rededge1": 705.0, "rededge2": 740.0, "rededge3": 783.0, "nir": 842.0, "nir2": 865.0,
    "vapour": 945.0, "cirrus": 1375.0, "swir1": 1610.0, "swir2": 2200.0, "pan": 590.0,
}  # fmt: skip
"""Bands of reflectance and their centres in nm."""
MIXED: Mapping[str, tuple[float, float, float, float]] = {
    "coastal": (0, 0.1, 0.85, 0), "blue": (0, 0, 1, 0), "green": (0, 1, 0, 0),
    "yellow": (0.5, 0.5, 0, 0), "red": (1, 0, 0, 0), "rededge1": (0.7, 0, 0, 0.3),
    "rededge2": (0.3, 0, 0, 0.7), "rededge3": (0.1, 0, 0, 0.9), "nir": (0, 0, 0, 1),
    "nir2": (0.03, 0, 0, 0.97), "vapour": (0, 0, 0, 0.5), "cirrus": (0, 0, 0.02, 0),
    "swir1": (0.4, 0.1, 0, 0.4), "swir2": (0.6, 0.1, 0, 0.2), "pan": (0.4, 0.4, 0.2, 0),
}  # fmt: skip
"""Shares of red, green, blue and near infrared."""


@dataclass(frozen=True)
class Ground:
    """Pixels of which products are made, each (H, W)."""

    clear: Mapping[str, npt.NDArray[np.float64]]
    hazy: Mapping[str, npt.NDArray[np.float64]]
    """Reflectance by band."""
    valid: npt.NDArray[np.bool_]
    """False in the collar, a slanted corner."""
    clouds: npt.NDArray[np.uint8]
    """0 clear, 1 cloud, 2 shadow, 3 water."""

    @classmethod
    def of(cls, photo: Path, side: int = SIDE) -> Ground:
        """Read the upper left `side` pixels of a photograph of four bands of 8 bits."""
        with rasterio.open(photo) as opened:
            return cls.made(opened.read(window=((0, side), (0, side))) / 255)

    @classmethod
    def made(cls, rgbn: npt.NDArray[np.float64]) -> Ground:
        """Make the ground of (4, side, side) values of 0 to 1: red, green, blue, near infrared."""
        side = rgbn.shape[1]
        rgbn = 0.02 + 0.5 * rgbn
        y, x = np.mgrid[:side, :side] / side
        depth = 0.75 * (0.5 + 0.5 * np.sin(4.1 * x + 1.3) * np.cos(3.2 * y - 0.4)) + 0.1
        clear, hazy = {}, {}
        for name, shares in MIXED.items():
            clear[name] = np.tensordot(shares, rgbn, 1)
            passed = np.exp(-depth * 550 / WAVES[name])
            hazy[name] = clear[name] * passed + 0.7 * (1 - passed)
        clouds = np.zeros((side, side), np.uint8)
        clouds[side // 8 : side // 4, side // 2 : side // 2 + side // 6] = 1
        clouds[side // 4 : side // 3, side // 2 : side // 2 + side // 6] = 2
        clouds[-side // 6 :, : side // 6] = 3
        return cls(clear, hazy, x + 0.25 * y > 0.08, clouds)


Make = Callable[[Ground], npt.NDArray[Any]]


@dataclass(frozen=True)
class Layer:
    """A band of a product."""

    name: str | None
    """Its description in the file."""
    shows: str
    """A key of `WAVES`, "thermal", or what else it holds."""
    make: Make | None = None
    """Its values, where it is no reflectance."""
    fill: float | None = None
    """Its value in the collar; that of the product if None."""

    @property
    def is_light(self) -> bool:
        """Whether it shows reflectance, or heat."""
        return self.make is None or self.shows == "thermal"

    @property
    def stays(self) -> bool:
        """Whether no haze is in it."""
        return self.make is not None


@dataclass(frozen=True)
class Product:
    """One file as an agency or a tool writes it."""

    id: str
    file_name: str
    layers: tuple[Layer, ...]
    scale: float
    """Reflectance of one step."""
    zero: float
    """Value of reflectance 0."""
    dtype: str = "uint16"
    nodata: float | None = 0
    collar: float = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    interpretation: tuple[ColorInterp, ...] = ()
    sensor: str | None = None
    """What a user gives, where names say nothing."""

    def write(self, folder: Path, ground: Ground) -> Path:
        """Write the file, and return its path."""
        path = folder / self.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        side = len(ground.valid)
        profile: dict[str, Any] = {
            "driver": "GTiff", "width": side, "height": side, "count": len(self.layers),
            "dtype": self.dtype, "crs": CRS.from_epsg(32654), "compress": "deflate",
            "transform": from_origin(380000, 3950000, 30, 30),
        }  # fmt: skip
        if self.nodata is not None:
            profile["nodata"] = self.nodata
        with rasterio.open(path, "w", **profile) as opened:
            # Before the pixels: once some are on disk, GDAL leaves its own choice in the file.
            if self.interpretation:
                opened.colorinterp = self.interpretation
            for number, layer in enumerate(self.layers, 1):
                opened.write(self.values(layer, ground), number)
                if layer.name is not None:
                    opened.set_band_description(number, layer.name)
            opened.update_tags(**self.tags)
        return path

    def values(self, layer: Layer, ground: Ground, kind: str = "hazy") -> npt.NDArray[Any]:
        """Return the values of a band of the file, (H, W)."""
        if layer.make is not None:
            made = layer.make(ground).astype(np.float64)
        else:
            made = getattr(ground, kind)[layer.shows] / self.scale + self.zero
        if np.dtype(self.dtype).kind != "f":
            limits = np.iinfo(self.dtype)
            made = np.clip(np.rint(made), limits.min, limits.max)
        fill = self.collar if layer.fill is None else layer.fill
        return np.where(ground.valid, made, fill).astype(self.dtype)


# -- bands ---------------------------------------------------------------------------


def light(*pairs: tuple[str | None, str]) -> tuple[Layer, ...]:
    """Return bands of reflectance by name and what they show."""
    return tuple(Layer(name, shows) for name, shows in pairs)


def thermal(name: str | None) -> Layer:
    """Return a band of temperatures, as surface temperature of Landsat stores it."""
    return Layer(name, "thermal", lambda g: 44000 + 1500 * g.clear["red"])


def bits(name: str | None, clear: int = 21824, cloud: int = 22280, fill: float = 1) -> Layer:
    """Return QA_PIXEL: clear, cloud 22280, shadow 23888, water 21952; fill is 1."""
    codes = np.array([clear, cloud, 23888, 21952])
    return Layer(name, "bits", lambda g: codes[g.clouds], fill)


def aerosol_bits(name: str | None) -> Layer:
    """Return SR_QA_AEROSOL: low, high, valid retrieval, water; fill is 1."""
    return Layer(name, "bits", lambda g: np.array([96, 224, 66, 100])[g.clouds], 1)


def classes(name: str | None = "SCL") -> Layer:
    """Return the scene classification of Sentinel-2: vegetation, cloud, shadow, water; 0 is no data."""
    return Layer(name, "classes", lambda g: np.array([4, 9, 3, 6])[g.clouds], 0)


def fmask(name: str | None = "Fmask") -> Layer:
    """Return Fmask of HLS: clear, cloud, shadow, water; 255 is fill."""
    return Layer(name, "bits", lambda g: np.array([64, 2, 8, 32])[g.clouds], 255)


def percent(name: str | None) -> Layer:
    """Return a probability of 0 to 100."""
    return Layer(name, "probability", lambda g: np.array([2, 96, 20, 1])[g.clouds], 0)


def amount(name: str | None, level: float = 180) -> Layer:
    """Return a map of aerosol optical thickness or water vapour."""
    return Layer(name, "aerosol", lambda g: level + 40 * g.clear["nir"], 0)


def flag(name: str, value: int) -> Layer:
    """Return one mask of UDM2: 1 where the ground has this class."""
    return Layer(name, "mask", lambda g: g.clouds == value, 0)


TM = (("blue", "1"), ("green", "2"), ("red", "3"), ("nir", "4"), ("swir1", "5"), ("swir2", "7"))
OLI = (
    ("coastal", "1"), ("blue", "2"), ("green", "3"), ("red", "4"), ("nir2", "5"), ("swir1", "6"),
    ("swir2", "7"),
)  # fmt: skip
MSI = (
    ("coastal", "1"), ("blue", "2"), ("green", "3"), ("red", "4"), ("rededge1", "5"),
    ("rededge2", "6"), ("rededge3", "7"), ("nir", "8"), ("nir2", "8A"), ("vapour", "9"),
    ("swir1", "11"), ("swir2", "12"),
)  # fmt: skip


def named(bands: tuple[tuple[str, str], ...], form: str | None) -> tuple[Layer, ...]:
    """Return reflectance bands with names as ``form.format(number)``; None: unnamed."""
    return light(*((form.format(n) if form else None, shows) for shows, n in bands))


def padded(bands: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return bands with numbers of two digits, as ESA writes them."""
    return tuple((shows, n.zfill(2)) for shows, n in bands)


def chosen(bands: tuple[tuple[str, str], ...], *numbers: str) -> tuple[tuple[str, str], ...]:
    """Return the bands with these numbers, in the order given."""
    return tuple(next(b for b in bands if b[1] == n) for n in numbers)


L1 = {"scale": 2e-5, "zero": 5000.0}
L2 = {"scale": 2.75e-5, "zero": 0.2 / 2.75e-5}
S2 = {"scale": 1e-4, "zero": 0.0}
S2_OFFSET = {"scale": 1e-4, "zero": 1000.0}
ALPHA = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
_8 = "LC08_L{}_107035_20200312_20200822_02_T1"
_S2 = "S2A_MSIL{}_{}T012701_N{}_R074_T54SUE_{}T032212"

PRODUCTS: tuple[Product, ...] = (
    # Landsat, as stacked by gdalbuildvrt -separate and gdal_translate: bands without names.
    Product("l8-l1-stack", f"{_8.format('1TP')}_stack.tif", named(chosen(OLI, *"234567"), None), sensor="landsat8", **L1),
    Product("l8-l2-stack", f"{_8.format('2SP')}_SR_stack.tif", named(OLI, None), sensor="landsat8", **L2),
    Product(
        "l8-l2-stack-qa", f"{_8.format('2SP')}_stack.tif", (*named(OLI, None), bits("QA_PIXEL")), sensor="landsat8", **L2
    ),
    Product("l9-l2-stack", "LC09_L2SP_107035_20220312_20220314_02_T1_SR.tif", named(OLI, "SR_B{}"), **L2),
    Product("l5-l1-stack", "LT05_L1TP_107035_19990101_20200908_02_T1.tif", named(TM, "B{}"),
            dtype="uint8", scale=0.0025, zero=0.0),
    Product("l5-l2-stack", "LT05_L2SP_107035_19990101_20200908_02_T1.tif",
            (*named(TM, "SR_B{}"), bits("QA_PIXEL", 5440, 5896)), **L2),
    Product("l7-l2-stack", "LE07_L2SP_107035_20010101_20200917_02_T1.tif",
            (*named(TM, "SR_B{}"), bits("QA_PIXEL", 5440, 5896)), **L2),
    # Landsat, as exported by Earth Engine: any file name, bands named.
    Product("l8-ee-sr", "export_tokyo.tif",
            (*named(OLI, "SR_B{}"), aerosol_bits("SR_QA_AEROSOL"), thermal("ST_B10"),
             bits("QA_PIXEL"), Layer("QA_RADSAT", "bits", lambda g: g.clouds // 3, 0)), **L2),
    Product("l5-ee-sr", "kanto_1999.tif",
            (*named(TM, "SR_B{}"), thermal("ST_B6"), bits("QA_PIXEL", 5440, 5896)), **L2),
    Product("l7-ee-toa-float", "LE7_TOA_2001.tif", named(TM, "B{}"),
            dtype="float32", scale=1.0, sensor="landsat7", zero=0.0, nodata=None, collar=float("nan")),
    Product("l8-ee-sr-scaled", "scaled_sr.tif", (*named(OLI, "SR_B{}"), ),
            dtype="float32", scale=1.0, zero=0.0, nodata=None, collar=float("nan")),
    # Sentinel-2.
    Product("s2-l1c-old", f"{_S2.format('1C', '20180312', '0206', '20180312')}.tif",
            named(padded(MSI), "B{}"), **S2),
    Product("s2-l1c-new", f"{_S2.format('1C', '20230312', '0509', '20230312')}.tif",
            named(padded(MSI), "B{}"), **S2_OFFSET),
    Product("s2-l2a-old-10m", f"{_S2.format('2A', '20200312', '0214', '20200312')}_10m.tif",
            named(padded(chosen(MSI, "2", "3", "4", "8")), "B{}"), **S2),
    Product("s2-l2a-new-10m", f"{_S2.format('2A', '20230312', '0509', '20230312')}_10m.tif",
            named(padded(chosen(MSI, "2", "3", "4", "8")), "B{}"), **S2_OFFSET),
    Product("s2-l2a-new-20m", f"{_S2.format('2A', '20230312', '0509', '20230312')}_20m.tif",
            (*named(padded(chosen(MSI, "2", "3", "4", "5", "6", "7", "8A", "11", "12")), "B{}"),
             amount("AOT"), amount("WVP", 1500), classes("SCL")), **S2_OFFSET),
    Product("s2-l2a-unnamed", "T54SUE_20230312T012701_10m.tif",
            named(chosen(MSI, "2", "3", "4", "8"), None), sensor="sentinel2", **S2_OFFSET),
    Product("s2-ee-sr", "s2_export.tif",
            (*named(MSI, "B{}"), amount("AOT"), amount("WVP", 1500), classes("SCL"),
             percent("MSK_CLDPRB"), percent("MSK_SNWPRB"),
             Layer("QA60", "bits", lambda g: 1024 * (g.clouds == 1), 0)), **S2),
    Product("s2-ee-tci", "s2_tci.tif",
            (*named(chosen(MSI, "2", "3", "4"), "B{}"), classes("SCL")),
            interpretation=(ColorInterp.gray, *[ColorInterp.undefined] * 3), **S2),
    Product("s2-tags", "tile_0.tif", named(chosen(MSI, "2", "3", "4", "8"), "B{}"),
            tags={"SPACECRAFT_NAME": "Sentinel-2A", "PRODUCT_URI": "S2A_MSIL2A_20230312T012701_N0509_R074_T54SUE_20230312T032212.SAFE",
                  "PROCESSING_BASELINE": "05.09"}, **S2_OFFSET),
    Product("s2-float", "s2_reflectance.tif", named(chosen(MSI, "2", "3", "4", "8"), "B{}"),
            dtype="float32", scale=1.0, sensor="sentinel2", zero=0.0, nodata=None, collar=float("nan")),
    # Planet.
    Product("planet-4", "20230312_012701_1001_3B_AnalyticMS_SR.tif",
            light(("blue", "blue"), ("green", "green"), ("red", "red"), ("nir", "nir")), **S2),
    Product("planet-8", "20230312_012701_24_2402_3B_AnalyticMS_SR_8b.tif",
            light(("coastal_blue", "coastal"), ("blue", "blue"), ("green_i", "green"), ("green", "green"),
                  ("yellow", "yellow"), ("red", "red"), ("rededge", "rededge1"), ("nir", "nir2")), **S2),
    Product("planet-4-udm2", "20230312_012701_1001_3B_AnalyticMS_SR_udm2_stack.tif",
            (*light(("blue", "blue"), ("green", "green"), ("red", "red"), ("nir", "nir")),
             flag("clear", 0), flag("shadow", 2), flag("cloud", 1), percent("confidence")), **S2),
    # NAIP.
    Product("naip", "m_3712212_se_10_060_20200524.tif",
            named((("red", ""), ("green", ""), ("blue", ""), ("nir", "")), None), dtype="uint8",
            scale=0.9 / 255, zero=0.0, nodata=None,
            interpretation=(ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined)),
    Product("naip-ee", "naip_export.tif", light(("R", "red"), ("G", "green"), ("B", "blue"), ("N", "nir")),
            dtype="uint8", scale=0.9 / 255, zero=0.0, nodata=None),
    # HLS.
    Product("hls-l30", "HLS.L30.T54SUE.2023071T012701.v2.0.stack.tif",
            (*named(padded(OLI), "B{}"), fmask()), dtype="int16", nodata=-9999, collar=-9999, **S2),
    Product("hls-s30", "HLS.S30.T54SUE.2023071T012701.v2.0.stack.tif",
            (*named(padded(chosen(MSI, "1", "2", "3", "4", "5", "6", "7", "8", "8A", "11", "12")), "B{}"),
             fmask(), Layer("SZA", "angle", lambda g: 4100 + 10 * g.clear["red"], -9999)),
            dtype="int16", nodata=-9999, collar=-9999, **S2),
    # Scaled by their files or by users.
    Product("modis", "MOD09GA.A2023071.h29v05.061.tif",
            (*light(("sur_refl_b01_1", "red"), ("sur_refl_b02_1", "nir"), ("sur_refl_b03_1", "blue"),
                    ("sur_refl_b04_1", "green")), Layer("state_1km_1", "bits", lambda g: 8 + g.clouds, 0)),
            dtype="int16", nodata=-28672, collar=-28672, **S2),
    Product("rgb-scaled", "reflectance_rgb.tif", light(("red", "red"), ("green", "green"), ("blue", "blue")),
            dtype="float32", scale=0.01, zero=0.0, nodata=-1, collar=-1),
)  # fmt: skip
"""Thirty of them."""
