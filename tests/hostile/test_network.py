"""No image makes a connection, whatever it names: in its pixels' sources, beside it, within it."""

from __future__ import annotations

from collections.abc import Callable
from html import unescape
from pathlib import Path

import made_products
import pytest

from napari_restore.errors import BadMask, RestoreError
from napari_restore.images import open_image, read_polygons
from napari_restore.images.files.handles import OPTIONS, environment

from .conftest import Server, read_all, vrt

Tiff = Callable[..., Path]

WMS = (
    "<GDAL_WMS><Service name='WMS'><ServerUrl>{url}/w?</ServerUrl></Service><DataWindow>"
    "<UpperLeftX>0</UpperLeftX><UpperLeftY>64</UpperLeftY><LowerRightX>64</LowerRightX>"
    "<LowerRightY>0</LowerRightY><SizeX>64</SizeX><SizeY>64</SizeY></DataWindow>"
    "<BandsCount>1</BandsCount></GDAL_WMS>"
)
SOURCES = {
    "http": "{url}/x.tif",
    "localhost": "http://localhost:{port}/x.tif",
    "vsicurl": "/vsicurl/{url}/x.tif",
    "allowed extension": "/vsicurl/{url}/x.none",
    "streaming": "/vsicurl_streaming/{url}/x.none",
    "s3": "/vsis3/bucket/x.none",
    "s3 streaming": "/vsis3_streaming/bucket/x.none",
    "swift": "/vsiswift/bucket/x.none",
    "zip": "/vsizip//vsicurl/{url}/x.none/a.tif",
    "zarr": "ZARR:&quot;/vsicurl/{url}/z.zarr&quot;",
    "wcs": "WCS:{url}/wcs?SERVICE=WCS&amp;version=1.0.0&amp;coverage=x",
    "wmts": "WMTS:{url}/wmts",
    "wms": "WMS:{url}/wms?SERVICE=WMS&amp;REQUEST=GetCapabilities",
    "inline wms": WMS.replace("<", "&lt;").replace(">", "&gt;"),
    "entities": "&#47;vsicurl_streaming&#x2F;{url}/x.none",
    "comment": "a<!-- -->/vsicurl/{url}/x.none",
}


@pytest.fixture(params=["both walls", "names only"])
def told(
    request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], str]:
    """Puts the server's address into a text; with the first wall alone, and with the second."""
    settings = {
        "AWS_NO_SIGN_REQUEST": "YES", "AWS_S3_ENDPOINT": server.address, "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE", "SWIFT_AUTH_TOKEN": "a", "SWIFT_STORAGE_URL": server.url,
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    if request.param == "names only":
        for name in [n for n in OPTIONS if "HTTP" in n or "CURL" in n]:
            monkeypatch.delitem(OPTIONS, name)
    port = server.address.rpartition(":")[2]
    return lambda text: text.replace("{url}", server.url).replace("{port}", port)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_sources_of_a_vrt(
    source: str, tmp_path: Path, server: Server, told: Callable[[str], str]
) -> None:
    path = tmp_path / "scene.vrt"
    path.write_text(vrt(told(source)))
    assert isinstance(read_all(path), RestoreError)
    # Nor as the source of a source, nor where the user allowed sources elsewhere.
    outer = tmp_path / "outer.tif"
    outer.write_text(vrt("scene.vrt", relative=1))
    assert isinstance(read_all(outer, allow_outside=True), RestoreError)
    assert server.connections == 0


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_files_that_a_product_names(
    source: str, tmp_path: Path, server: Server, told: Callable[[str], str]
) -> None:
    named = told(source)
    made_products.write_stac(tmp_path, assets__red__href=unescape(named))
    assert isinstance(read_all(tmp_path / "item.json"), RestoreError)
    for write, old in (
        (made_products.write_landsat, f"{made_products.LANDSAT}_SR_B4.TIF"),
        (made_products.write_safe, "GRANULE/"),
    ):
        folder = tmp_path / write.__name__
        folder.mkdir()
        write(folder)
        (metadata,) = [*folder.glob("*_MTL.txt"), *folder.glob("*/MTD_*.xml")]
        is_xml = metadata.suffix == ".xml"
        name = named if is_xml else f"{unescape(named)}.TIF"
        metadata.write_text(metadata.read_text().replace(old, name))
        assert isinstance(read_all(metadata), RestoreError)
    assert server.connections == 0


@pytest.mark.parametrize(
    "within",
    [
        "<Overview><SourceFilename>/vsicurl/{url}/x.none</SourceFilename></Overview>",
        "<ArraySource><SingleSourceArray><SourceFilename>{url}/x.nc</SourceFilename>"
        "<SourceArray>x</SourceArray></SingleSourceArray></ArraySource>",
        "<MaskBand><VRTRasterBand dataType='Byte'><SimpleSource>"
        "<SourceFilename>{url}/x.tif</SourceFilename></SimpleSource></VRTRasterBand></MaskBand>",
    ],
    ids=["overview", "array", "mask"],
)
def test_elsewhere_in_a_vrt(
    within: str, tmp_path: Path, tiff: Tiff, server: Server, told: Callable[[str], str]
) -> None:
    tiff("below.tif")
    path = tmp_path / "scene.vrt"
    path.write_text(vrt("below.tif", relative=1, within=told(within)))
    assert isinstance(read_all(path), RestoreError)
    assert server.connections == 0


@pytest.mark.parametrize("name", ["{url}/x.tif", "/vsicurl_streaming/{url}/x.tif", "remote.vrt"])
def test_overviews_that_a_sidecar_names(
    name: str, tmp_path: Path, tiff: Tiff, server: Server, told: Callable[[str], str]
) -> None:
    path = tiff()
    (tmp_path / "remote.vrt").write_text(vrt(told("{url}/x.tif"), size=32))
    beside = f'<MDI key="OVERVIEW_FILE">{told(name)}</MDI>'
    (tmp_path / "scene.tif.aux.xml").write_text(
        f'<PAMDataset><Metadata domain="OVERVIEWS">{beside}</Metadata></PAMDataset>'
    )
    image = read_all(path)
    assert not isinstance(image, RestoreError)
    assert any("left out" in note for note in image.notes)
    assert server.connections == 0


def test_overviews_that_a_tiff_names_itself(
    tiff: Tiff, server: Server, told: Callable[[str], str]
) -> None:
    name = told("{url}/x.tif")
    path = tiff(setup=lambda new: new.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=name))
    assert isinstance(read_all(path), RestoreError)
    assert server.connections == 0


@pytest.mark.parametrize("suffix", [".ovr", ".msk", ".OVR"])
def test_sidecars_that_are_other_formats(
    suffix: str, tmp_path: Path, tiff: Tiff, server: Server, told: Callable[[str], str]
) -> None:
    path = tiff()
    (tmp_path / f"scene.tif{suffix}").write_text(told(WMS))
    image = read_all(path)
    assert not isinstance(image, RestoreError)
    assert any("left out" in note for note in image.notes)
    assert server.connections == 0


def test_channels_of_a_pcidsk_file(tiff: Tiff, server: Server, told: Callable[[str], str]) -> None:
    path = tiff("scene.pix", driver="PCIDSK")
    assert not isinstance(read_all(path), RestoreError)
    content = bytearray(path.read_bytes())
    header = (int(content[336:352]) - 1) * 512 + 64
    content[header : header + 64] = told("/vsicurl_streaming/{url}/x").encode().ljust(64)
    path.write_bytes(content)
    assert isinstance(read_all(path), RestoreError)
    assert server.connections == 0


@pytest.mark.parametrize(
    "text",
    [
        WMS,
        "<MRF_META><CachedSource><Source>{url}/x.tif</Source></CachedSource><Raster>"
        '<Size x="64" y="64" c="1"/></Raster></MRF_META>',
        "<GDALTileIndexDataset><IndexDataset>/vsicurl/{url}/i.gpkg</IndexDataset>"
        "</GDALTileIndexDataset>",
        "<WCS_GDAL><ServiceURL>{url}/wcs?</ServiceURL><CoverageName>a</CoverageName></WCS_GDAL>",
    ],
    ids=["wms", "mrf", "gti", "wcs"],
)
def test_files_that_are_services(
    text: str, tmp_path: Path, server: Server, told: Callable[[str], str]
) -> None:
    path = tmp_path / "scene.tif"
    path.write_text(told(text))
    assert isinstance(read_all(path), RestoreError)
    assert server.connections == 0


def test_coordinate_system_of_a_mask(
    tmp_path: Path, sample: Path, server: Server, told: Callable[[str], str]
) -> None:
    path = tmp_path / "mask.geojson"
    path.write_text(
        '{"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 0]]],'
        f' "crs": {{"properties": {{"name": "{told("{url}/crs")}"}}}}}}'
    )
    with pytest.raises(BadMask, match="coordinate system"):
        read_polygons(path, open_image(sample))
    assert server.connections == 0


@pytest.mark.parametrize("name", [None, "NO_PROXY", "no_proxy", "GDAL_HTTP_NO_PROXY"])
def test_second_wall_holds_alone(
    name: str | None, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What rasterio opens with all drivers within our configuration reaches nothing."""
    import rasterio
    from rasterio.errors import RasterioIOError

    if name is not None:
        # libcurl obeys it before any proxy.
        monkeypatch.setenv(name, "*")
    path = tmp_path / "scene.vrt"
    # An address of its own each time: GDAL does not ask again for what it could not reach.
    url = f"{server.url}/{name}"
    wms = SOURCES["inline wms"].replace("{url}", url)
    urls = (f"{url}/x.tif", f"/vsicurl/{url}/x.none", f"WCS:{url}/w?", wms)
    for source in urls:
        path.write_text(vrt(source))
        with environment(), pytest.raises(RasterioIOError), rasterio.open(path) as dataset:
            dataset.read()
    assert server.connections == 0
