from __future__ import annotations

from pathlib import Path

from npe2 import PluginManifest
from npe2.manifest.utils import import_python_name

from napari_restore.images import IMAGE_SUFFIXES

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
    addresses = {"http://*", "https://*"}
    suffixes = {f"*{suffix}" for suffix in IMAGE_SUFFIXES}
    assert suffixes | addresses == set(reader.filename_patterns)
    assert reader.accepts_directories
