from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_products
import pytest
from npe2 import PluginManager, PluginManifest
from npe2.manifest.utils import import_python_name

from napari_restore.images import PRODUCT_PATTERNS, READ_SUFFIXES, ZARR_MARKERS
from napari_restore.images.export.write import FORMATS
from napari_restore.plugin.layers.reader import ARRAYS, get_reader

MANIFEST = Path(__file__).resolve().parents[2] / "src" / "napari_restore" / "napari.yaml"


def test_the_installed_manifest_is_valid_and_all_it_names_exists():
    manifest = PluginManifest.from_distribution("napari-restore")
    assert manifest.name == "napari-restore"
    commands = manifest.contributions.commands
    assert {"panel", "run", "cancel", "add_model", "attribution"} <= {
        c.id.partition(".")[2] for c in commands
    }
    for command in commands:
        assert callable(import_python_name(command.python_name))


def test_the_patterns_are_the_suffixes_of_images():
    (reader,) = PluginManifest.from_file(MANIFEST).contributions.readers
    addresses = {f"{scheme}://*" for scheme in ("http", "https", "s3", "gs", "az")}
    suffixes = {f"*{suffix}" for suffix in READ_SUFFIXES}
    # Those of others' arrays are left to others.
    maps = {f"*{ARRAYS}"}
    assert suffixes | addresses | maps | {*PRODUCT_PATTERNS} == set(reader.filename_patterns)
    assert reader.accepts_directories


def test_napari_offers_every_format_that_is_written():
    (writer,) = PluginManifest.from_file(MANIFEST).contributions.writers
    assert set(writer.filename_extensions) == set(FORMATS)


@pytest.fixture
def offers() -> Callable[[Path], bool]:
    """A function that says whether npe2 offers our reader for a path, and our reader takes it."""
    manager = PluginManager()
    manager.register(PluginManifest.from_file(MANIFEST))
    return lambda path: bool(
        [*manager.iter_compatible_readers(str(path))] and get_reader(path) is not None
    )


@pytest.mark.parametrize(
    "name", "a.hdr A.PEF a.NRW a.ntf a.srw a.iiq a.3fr a.rwl a.j2k a.webp a.bil b.1.Rw2".split()
)
def test_a_file_of_every_kind_is_offered(offers: Any, tmp_path: Path, name: str):
    (tmp_path / name).touch()
    assert offers(tmp_path / name)


def test_products_of_satellites_are_offered_by_folder_metadata_and_zip(offers: Any, tmp_path: Path):
    for name in ("landsat", "stac"):
        (tmp_path / name).mkdir()
    made_products.write_safe(tmp_path)
    made_products.write_landsat(tmp_path / "landsat")
    made_products.write_stac(tmp_path / "stac")
    safe = tmp_path / made_products.SAFE
    packed = made_products.zipped(safe, tmp_path / f"{safe.stem}.zip")
    metadata = tmp_path / "landsat" / f"{made_products.LANDSAT}_MTL.txt"
    item = tmp_path / "stac" / "item.json"
    for path in (safe, safe / "MTD_MSIL2A.xml", packed, metadata.parent, metadata, item):
        assert offers(path)
    for name in ("other.json", "other.txt", "other.xml"):
        (tmp_path / name).write_text("{}")
        assert not offers(tmp_path / name)


def test_of_folders_those_of_zarr_are_ours_whatever_their_name(offers: Any, tmp_path: Path):
    for number, marker in enumerate(ZARR_MARKERS):
        folder = tmp_path / f"scene {number}"
        folder.mkdir()
        assert not offers(folder)
        (folder / marker).touch()
        assert offers(folder)
