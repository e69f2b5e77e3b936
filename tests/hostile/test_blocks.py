"""A block of the image that is larger than the budget is refused before it is decoded."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from napari_restore import api
from napari_restore.commands import main
from napari_restore.errors import BudgetTooSmall
from napari_restore.images import open_image

SIDE = 8704
BLOCK = SIDE**2
"""Bytes of the one tile of the image: more than what is decoded chunk by chunk."""


@pytest.fixture(scope="module")
def one_tile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a few kB that is one tile of 72 MiB."""
    import rasterio

    path = tmp_path_factory.mktemp("blocks") / "scene.tif"
    options = {"tiled": True, "blockxsize": SIDE, "blockysize": SIDE, "compress": "zstd"}
    shape = {"height": SIDE, "width": SIDE, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", **shape, **options) as new:
        new.write(np.zeros((1, SIDE, SIDE), np.uint8))
    assert path.stat().st_size < 100_000
    return path


@pytest.mark.parametrize("command", ["plan", "restore", "attribute"])
def test_commands(
    command: str, one_tile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.tif"
    words = [command, str(one_tile), "--model", "dcp", "--memory", "70MiB", "--progress", "off"]
    words += {
        "plan": ["--srcwin", "0", "0", "64", "64"],
        "restore": ["--srcwin", "0", "0", "64", "64", "-o", str(out)],
        "attribute": ["--box", "20", "20", "8", "8", "--method", "ig", "-o", str(out)],
    }[command]
    assert main(words) == 4
    told = capsys.readouterr().err
    assert "blocks of 72.2 MiB" in told and "70.0 MiB" in told and "TILED=YES" in told
    assert not out.exists()


def test_a_block_behind_a_vrt(one_tile: Path) -> None:
    vrt = one_tile.with_name("mosaic.vrt")
    vrt.write_text(
        f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}"><VRTRasterBand dataType="Byte" '
        f'band="1"><SimpleSource><SourceFilename relativeToVRT="1">{one_tile.name}'
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    image, box = open_image(vrt), api.Region(0, 0, 64, 64)
    with pytest.raises(BudgetTooSmall, match=r"blocks of 72\.2 MiB"):
        api.plan(image, "identity", region=box, memory="70MiB")
    assert (
        api.plan(image, "identity", region=box, memory="300MiB").prediction.added_ram_bytes > BLOCK
    )


def test_the_budget_that_is_named_suffices(one_tile: Path) -> None:
    image, box = open_image(one_tile), api.Region(0, 0, 64, 64)
    with pytest.raises(BudgetTooSmall) as refused:
        api.plan(image, "identity", region=box, memory="70MiB")
    found = re.search(r'memory="(\d+MiB)"', refused.value.hint)
    assert found is not None
    planned = api.plan(image, "identity", region=box, memory=found[1])
    assert planned.prediction.added_ram_bytes > BLOCK


def test_the_memory_of_a_device_is_no_help(one_tile: Path) -> None:
    with pytest.raises(BudgetTooSmall, match=r"blocks of 72\.2 MiB"):
        api.plan(one_tile, "identity", memory="70MiB", device="simulated:6GiB")


@pytest.mark.slow
def test_what_lies_decoded_in_the_cache_needs_no_block(one_tile: Path) -> None:
    image = open_image(one_tile)
    assert image.block_bytes == BLOCK
    image.prepare()
    assert image.block_bytes == 0
