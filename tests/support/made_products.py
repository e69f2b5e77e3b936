"""Small products with the names and the metadata of those that USGS, ESA and STAC catalogues give out."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin

SIDE = 60
"""Pixels of 10 m, or of 30 m for Landsat."""
LANDSAT = "LC08_L2SP_107035_20200102_20200824_02_T1"
LEVEL1 = "LC08_L1TP_107035_20200102_20200824_02_T1"
SAFE = "S2A_MSIL2A_20230102T013701_N0509_R031_T54SUE_20230102T040452.SAFE"
L1C = "S2A_MSIL1C_20190102T013701_N0207_R031_T54SUE_20190102T030405.SAFE"
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")


def pixels(number: int, side: int, dtype: str = "uint16") -> np.ndarray:
    """(side, side): seeded values of a band, with a collar of 0."""
    top = 200 if dtype == "uint8" else 9000
    values = np.random.default_rng(number).integers(top // 4, top, (side, side)).astype(dtype)
    values[:, : side // 6] = 0
    return values


def write(path: Path, values: np.ndarray, side: float, **more: Any) -> np.ndarray:
    """Write one band with pixels of `side` metres; return its values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_jp2 = path.suffix == ".jp2"
    profile = {
        "driver": "JP2OpenJPEG" if is_jp2 else "GTiff", "count": 1, "height": values.shape[0],
        "width": values.shape[1], "dtype": values.dtype, "crs": "EPSG:32654",
        "transform": from_origin(380000, 3950000, side, side),
        **({"QUALITY": "100", "REVERSIBLE": "YES"} if is_jp2 else {}),
    }  # fmt: skip
    with rasterio.open(path, "w", **{**profile, **more}) as new:
        new.write(values, 1)
    return values


def write_landsat(folder: Path, name: str = LANDSAT, form: str = "txt") -> dict[str, np.ndarray]:
    """Write a product of Landsat 8 and its MTL; return the values of its files by band."""
    level2 = "_L2" in name
    light = (
        [f"SR_B{n}" for n in range(1, 8)] if level2 else [f"B{n}" for n in (*range(1, 8), 9, 10)]
    )
    contents = {"LANDSAT_PRODUCT_ID": name, "PROCESSING_LEVEL": name[5:9]}
    made: dict[str, np.ndarray] = {}
    for number, band in enumerate(light):
        contents[f"FILE_NAME_BAND_{band.removeprefix('SR_')[1:]}"] = f"{name}_{band}.TIF"
        made[band] = pixels(number, SIDE)
    others = {"FILE_NAME_QUALITY_L1_PIXEL": "QA_PIXEL", "FILE_NAME_QUALITY_L1_RADIOMETRIC_SATURATION": "QA_RADSAT"}  # fmt: skip
    if level2:
        contents["FILE_NAME_BAND_ST_B10"] = f"{name}_ST_B10.TIF"
        made["ST_B10"] = pixels(20, SIDE)
        others |= {"FILE_NAME_QUALITY_L2_AEROSOL": "SR_QA_AEROSOL", "FILE_NAME_CLOUD_DISTANCE": "ST_CDIST"}  # fmt: skip
        made["SR_QA_AEROSOL"] = pixels(21, SIDE, "uint8")
        made["ST_CDIST"] = pixels(22, SIDE, "int16")
    else:
        contents["FILE_NAME_BAND_8"] = f"{name}_B8.TIF"
        made["B8"] = pixels(23, 2 * SIDE - 1)
        others["FILE_NAME_ANGLE_SENSOR_AZIMUTH_BAND_4"] = "VAA"
        made["VAA"] = pixels(24, SIDE, "int16")
    qa = np.where(pixels(0, SIDE) == 0, 1, 21824).astype("uint16")
    made |= {"QA_PIXEL": qa, "QA_RADSAT": np.zeros_like(qa)}
    contents |= {key: f"{name}_{band}.TIF" for key, band in others.items()}
    contents |= {"FILE_NAME_ANGLE_COEFFICIENT": f"{name}_ANG.txt"}
    for band, values in made.items():
        nodata = {"QA_PIXEL": 1}.get(band, 0) if band != "ST_CDIST" else -9999
        place = {}
        if band == "B8":
            # The centres of the first pixels are one point.
            place = {"transform": from_origin(380007.5, 3949992.5, 15, 15)}
        write(folder / f"{name}_{band}.TIF", values, 30, nodata=nodata, **place)
    numbers = range(1, 8) if level2 else (1, 2, 3, 4, 5, 6, 7, 8, 9)
    one = ("2.75e-05", "-0.2") if level2 else ("2.0000E-05", "-0.100000")
    reflectance = {}
    for kind, value in zip(("MULT", "ADD"), one, strict=True):
        reflectance |= {f"REFLECTANCE_{kind}_BAND_{n}": value for n in numbers}
    level1 = {"REFLECTANCE_MULT_BAND_1": "2.0000E-05", "REFLECTANCE_ADD_BAND_1": "-0.100000"}
    thermal = {"RADIANCE_MULT_BAND_10": "3.3420E-04", "RADIANCE_ADD_BAND_10": "0.10000"}
    groups = {
        "PRODUCT_CONTENTS": contents,
        "IMAGE_ATTRIBUTES": {
            "SPACECRAFT_ID": "LANDSAT_8", "SENSOR_ID": "OLI_TIRS", "DATE_ACQUIRED": "2020-01-02",
            "SCENE_CENTER_TIME": "01:16:24.7462320Z", "CLOUD_COVER": "12.34",
            "SUN_AZIMUTH": "157.84521", "SUN_ELEVATION": "27.04387",
        },
        "PROJECTION_ATTRIBUTES": {"GRID_CELL_SIZE_REFLECTIVE": "30.00"},
    }  # fmt: skip
    if level2:
        groups["LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"] = reflectance
    else:
        groups["PROJECTION_ATTRIBUTES"]["GRID_CELL_SIZE_PANCHROMATIC"] = "15.00"
    groups["LEVEL1_RADIOMETRIC_RESCALING"] = level1 if level2 else {**thermal, **reflectance}
    written = {"txt": _odl, "xml": _xml, "json": _json}[form](groups)
    (folder / f"{name}_MTL.{form}").write_text(written)
    return made


def _odl(groups: Mapping[str, Mapping[str, str]]) -> str:
    lines = ["GROUP = LANDSAT_METADATA_FILE"]
    for group, values in groups.items():
        lines += [f"  GROUP = {group}"]
        for key, value in values.items():
            is_text = value[:1].isalpha()
            lines += [f'    {key} = "{value}"' if is_text else f"    {key} = {value}"]
        lines += [f"  END_GROUP = {group}"]
    return "\n".join([*lines, "END_GROUP = LANDSAT_METADATA_FILE", "END", ""])


def _xml(groups: Mapping[str, Mapping[str, str]]) -> str:
    body = "".join(
        f"<{group}>{''.join(f'<{k}>{v}</{k}>' for k, v in values.items())}</{group}>"
        for group, values in groups.items()
    )
    return f'<?xml version="1.0" encoding="UTF-8"?><LANDSAT_METADATA_FILE>{body}</LANDSAT_METADATA_FILE>'


def _json(groups: Mapping[str, Mapping[str, str]]) -> str:
    return json.dumps({"LANDSAT_METADATA_FILE": groups}, indent=2)


def write_safe(folder: Path, name: str = SAFE, *, nested: str = "") -> dict[str, np.ndarray]:
    """Write a Sentinel-2 product; return the values of its files by band and metres (``B02 10``)."""
    root, level = folder / name, name[7:10]
    scene, tile = name.split("_")[2], name.split("_")[5]
    granule = f"GRANULE/{level}_{tile}_A039000_{scene}"
    offset = -1000 if int(name.partition("_N")[2][:2]) >= 4 else 0
    if level == "L2A":
        sides = {
            10: ("AOT", "B02", "B03", "B04", "B08", "WVP"), 20: ("B02", "B05", "B8A", "SCL"),
            60: ("B01", "SCL"),
        }  # fmt: skip
        files = {f"{b} {s}": f"{granule}/IMG_DATA/R{s}m/{tile}_{scene}_{b}_{s}m" for s, bands in sides.items() for b in bands}  # fmt: skip
        files["TCI 10"] = f"{granule}/IMG_DATA/R10m/{tile}_{scene}_TCI_10m"
    else:
        side_of = {"B01": 60, "B09": 60, "B10": 60, "B02": 10, "B03": 10, "B04": 10, "B08": 10}
        files = {
            f"{b} {side_of.get(b, 20)}": f"{granule}/IMG_DATA/{tile}_{scene}_{b}" for b in BANDS
        }
        files["TCI 10"] = f"{granule}/IMG_DATA/{tile}_{scene}_TCI"
    made = {}
    for number, (key, file) in enumerate(files.items()):
        band, side = key.split()
        values = pixels(number, SIDE * 10 // int(side), "uint8" if band == "SCL" else "uint16")
        if band == "SCL":
            values %= 12
        made[key] = write(root / f"{file}.jp2", values, float(side))
    kind, quantity, tag = (
        ("Level-2A", "BOA_QUANTIFICATION_VALUE", "BOA_ADD_OFFSET")
        if level == "L2A"
        else ("Level-1C", "QUANTIFICATION_VALUE", "RADIO_ADD_OFFSET")
    )
    offsets = "".join(f'<{tag} band_id="{n}">{offset}</{tag}>' for n in range(13)) if offset else ""
    amounts = "".join(
        f'<{name}_QUANTIFICATION_VALUE unit="{unit}">1000.0</{name}_QUANTIFICATION_VALUE>'
        for name, unit in (("AOT", "none"), ("WVP", "cm"))
        if level == "L2A"
    )
    images = "".join(f"<IMAGE_FILE>{nested}{file}</IMAGE_FILE>" for file in files.values())
    start = f"{scene[:4]}-{scene[4:6]}-{scene[6:8]}T01:37:01.024Z"
    (root / f"MTD_MSI{level}.xml").write_text(
        f'<?xml version="1.0" encoding="UTF-8"?><n1:{kind}_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_{kind}.xsd">'
        f"<n1:General_Info><Product_Info><PRODUCT_START_TIME>{start}</PRODUCT_START_TIME>"
        f"<PRODUCT_URI>{name}</PRODUCT_URI><PROCESSING_LEVEL>{kind}</PROCESSING_LEVEL>"
        f"<PROCESSING_BASELINE>{name.partition('_N')[2][:2]}.{name.partition('_N')[2][2:4]}</PROCESSING_BASELINE>"
        '<Datatake datatakeIdentifier="GS2A"><SPACECRAFT_NAME>Sentinel-2A</SPACECRAFT_NAME></Datatake>'
        f'<Product_Organisation><Granule_List><Granule granuleIdentifier="S2A_OPER" imageFormat="JPEG2000">{images}</Granule></Granule_List></Product_Organisation>'
        "</Product_Info><Product_Image_Characteristics>"
        "<Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX></Special_Values>"
        "<Special_Values><SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX></Special_Values>"
        f'<{quantity} unit="none">10000</{quantity}>{amounts}{offsets}</Product_Image_Characteristics></n1:General_Info>'
        "<n1:Quality_Indicators_Info><Cloud_Coverage_Assessment>3.25</Cloud_Coverage_Assessment></n1:Quality_Indicators_Info>"
        f"</n1:{kind}_User_Product>"
    )
    (root / granule / "MTD_TL.xml").write_text(
        f'<n1:{kind}_Tile_ID xmlns:n1="x"><n1:Geometric_Info><Tile_Angles><Mean_Sun_Angle>'
        '<ZENITH_ANGLE unit="deg">60.5</ZENITH_ANGLE><AZIMUTH_ANGLE unit="deg">161.25</AZIMUTH_ANGLE>'
        f"</Mean_Sun_Angle></Tile_Angles></n1:Geometric_Info></n1:{kind}_Tile_ID>"
    )
    return made


def zipped(safe: Path, archive: Path, extra: Sequence[str] = ()) -> Path:
    """Pack a SAFE folder as ESA does; `extra` are further names."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as new:
        for path in sorted(safe.rglob("*")):
            new.write(path, f"{safe.name}/{path.relative_to(safe).as_posix()}")
        for name in extra:
            new.writestr(name, "x")
    return archive


def write_stac(folder: Path, **changes: Any) -> dict[str, np.ndarray]:
    """Write a STAC item as catalogues of Sentinel-2 COGs have it, and its files."""
    colours = {"blue": 0.49, "green": 0.56, "red": 0.665, "nir": 0.842}
    made = {
        name: write(folder / f"{name}.tif", pixels(n, SIDE), 10, nodata=0)
        for n, name in enumerate(colours)
    }
    made["scl"] = write(folder / "SCL.tif", pixels(9, SIDE // 2, "uint8") % 12, 20, nodata=0)
    write(folder / "thumb.tif", pixels(9, 10, "uint8"), 60)
    cog = "image/tiff; application=geotiff; profile=cloud-optimized"
    raster = {"nodata": 0, "data_type": "uint16", "spatial_resolution": 10, "scale": 0.0001, "offset": -0.1}  # fmt: skip
    assets: dict[str, Any] = {
        name: {
            "href": f"./{name}.tif", "type": cog, "roles": ["data", "reflectance"],
            "eo:bands": [{"name": name, "common_name": name, "center_wavelength": wave}],
            "raster:bands": [raster],
        }
        for name, wave in colours.items()
    }  # fmt: skip
    assets["scl"] = {"href": "SCL.tif", "type": cog, "roles": ["data"], "raster:bands": [{"nodata": 0, "spatial_resolution": 20}]}  # fmt: skip
    assets["thumbnail"] = {"href": "thumb.tif", "type": cog, "roles": ["thumbnail"]}
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": "S2B_54SUE_20230102_0_L2A",
        "collection": "sentinel-2-l2a", "geometry": None, "links": [],
        "properties": {
            "datetime": "2023-01-02T01:37:01.024000Z", "platform": "sentinel-2b",
            "eo:cloud_cover": 3.25, "view:sun_azimuth": 161.25, "view:sun_elevation": 29.5,
            "s2:processing_baseline": "05.09",
        },
        "assets": assets,
    }  # fmt: skip
    for path, value in changes.items():
        *keys, last = path.split("__")
        target: Any = item
        for key in keys:
            target = target[key]
        target[last] = value
    (folder / "item.json").write_text(json.dumps(item))
    return made
