"""Small good files of every kind that is read, made here, and the doors that each goes through."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import made_products
import numpy as np

from images import write_images

ROOT = "/@ROOT@"
"""Stands for the folder of a case in the files of the corpus, so that all machines have the same."""
SENSOR = 'title = "A sensor"\nblack = 0\n' + "".join(
    f'\n[[bands]]\nrole = "{role}"\nwavelength = {wavelength}\n'
    for role, wavelength in (("red", 665), ("green", 560), ("blue", 490))
)
TEXT = (".json", ".jsonl", ".csv", ".vrt", ".toml", ".geojson", ".xml")
BESIDE = (".hdr", ".prj", ".pgw", ".xml", ".sgrd", ".mgrd", ".rdc", ".ref", ".gri", ".stx", ".clr")
"""Files that go with an image."""
IMAGE_DOORS = ("read", "info", "read", "read") * 7 + ("read", "info", "read", "restore")
"""Restoring takes ten times as long as reading."""


@dataclass(frozen=True)
class Seed:
    """A set of files of which one is changed."""

    name: str
    files: dict[str, bytes]
    """By their path in the case's folder: ``input/…`` or ``cache/…``."""
    targets: tuple[str, ...]
    """Those that are changed, one in each case."""
    doors: tuple[str, ...]
    """Names of what is done with them, see `doors.py`."""
    paths: tuple[str, ...] = ()
    """What is opened; by default the first target."""

    @property
    def opened(self) -> tuple[str, ...]:
        return self.paths or self.targets[:1]


def make_corpus(folder: Path) -> list[Seed]:
    """All seeds; `folder` is empty and is used to make them in."""
    os.environ["NAPARI_RESTORE_CACHE"] = str(folder / "cache")
    images = folder / "input"
    images.mkdir()
    write_images(images)
    seeds = list(_images(folder))
    # Most of what comes from strangers are images.
    return [*seeds, *_products(folder), *_others(folder), *seeds]


def _files(root: Path, *parts: Path) -> dict[str, bytes]:
    """The files at or below `parts`, by their names below `root`; `root` itself becomes `ROOT`."""
    found = {}
    for part in parts:
        for path in sorted(part.rglob("*")) if part.is_dir() else [part]:
            if not path.is_file():
                continue
            data = path.read_bytes()
            if path.suffix in TEXT:
                data = data.replace(str(root).encode(), ROOT.encode())
            found[str(path.relative_to(root))] = data
    return found


def _vectors(
    root: Path, work: Path, polygon: list[list[list[int]]], picture: dict[str, bytes]
) -> Iterator[Seed]:
    """Yield the polygon in the vector files that GDAL reads."""
    import struct

    from pyogrio.raw import write

    points = b"".join(struct.pack("<2d", *point) for point in polygon[0])
    shapes = np.array([struct.pack("<BIII", 1, 3, 1, len(polygon[0])) + points], object)
    formats = {"gpkg": "GPKG", "fgb": "FlatGeobuf", "kml": "KML", "shp": "ESRI Shapefile"}
    for suffix, driver in formats.items():
        file = work / f"shapes.{suffix}"
        about = {"geometry_type": "Polygon", "crs": "EPSG:32633", "driver": driver}
        field = [np.array(["water"], object)]
        write(file, shapes, field_data=field, fields=["class"], **about)
        parts = sorted(work.glob("shapes.*")) if suffix == "shp" else [file]
        parts = [part for part in parts if part.suffix not in (".gpkg", ".fgb", ".kml")] or [file]
        for part in parts:
            yield Seed(
                f"vector {part.suffix}",
                {**picture, **_files(root, *parts)},
                (f"input/{part.name}",),
                ("mask", "exclude"),
                (f"input/{file.name}",),
            )


def _images(root: Path) -> Iterator[Seed]:
    """Each entry of the folder is an image: a file, a zarr, or a folder with files that go together."""
    for entry in sorted((root / "input").iterdir()):
        files = _files(root, entry)
        if entry.is_dir() and entry.suffix != ".zarr":
            # All of them are changed; the one named as the folder is opened.
            opened = next(
                name
                for name in files
                if Path(name).stem == entry.name and Path(name).suffix not in BESIDE
            )
            yield Seed(entry.name, files, tuple(files), IMAGE_DOORS, (opened,))
        elif entry.is_dir():
            name = f"input/{entry.name}"
            yield Seed(entry.name, files, tuple(files), IMAGE_DOORS, (name,))
        else:
            yield Seed(entry.name, files, tuple(files), IMAGE_DOORS)


def _products(root: Path) -> Iterator[Seed]:
    """Products of satellites: their metadata is changed, and the list of files of a zip."""
    work = root / "input"
    for name, write, given in (
        ("landsat", made_products.write_landsat, f"{made_products.LANDSAT}_MTL.txt"),
        ("sentinel2", made_products.write_safe, made_products.SAFE),
        ("stac", made_products.write_stac, "item.json"),
    ):
        home = work / f"product-{name}"
        home.mkdir()
        write(home)
        files = _files(root, home)
        metadata = tuple(n for n in files if Path(n).suffix in (".txt", ".xml", ".json"))
        yield Seed(home.name, files, metadata, IMAGE_DOORS, (f"input/{home.name}/{given}",))
    packed = work / "product.zip"
    made_products.zipped(work / "product-sentinel2" / made_products.SAFE, packed)
    yield Seed("product.zip", _files(root, packed), ("input/product.zip",), IMAGE_DOORS)


def _others(root: Path) -> Iterator[Seed]:
    """Everything that is not an image: what people write, and what the package itself wrote."""
    import napari_restore as nr
    from napari_restore import api
    from napari_restore.commands import main

    work, cache = root / "input", root / "cache"
    scene, large = work / "plain.tif", work / "large.png"
    picture = _files(root, scene)
    run = ["--memory", "512MiB", "--progress", "off"]

    def command(*words: str) -> None:
        if main([*words, *run]) != 0:
            raise RuntimeError(f"the corpus cannot be made: {words}")

    # -- records
    record = work / "record.json"
    out = str(root / "output" / "out.tif")
    (root / "output").mkdir()
    box = ["--srcwin", "8", "8", "32", "32"]
    command("restore", str(scene), "-o", out, "--model", "identity", *box, "--record", str(record))
    yield Seed("record", {**picture, **_files(root, record)}, ("input/record.json",), ("rerun",))

    asked = ["attribute", str(scene), "--model", "identity", "--steps", "1"]
    box = ["--box", "8", "8", "8", "8"]
    command(
        *asked, *box, "-o", str(root / "output" / "map.tif"), "--record", str(record), "--overwrite"
    )
    yield Seed(
        "record of an attribution",
        {**picture, **_files(root, record)},
        ("input/record.json",),
        ("rerun",),
    )
    table = work / "boxes.csv"
    table.write_text("name;x;y;width;height;image\na;8;8;4;4;plain.tif\n")
    yield Seed("boxes", {**picture, **_files(root, table)}, ("input/boxes.csv",), ("boxes",))

    # -- weights and cards
    network = nr.load_model("haze-unet", weights="random:0")
    card = work / "weights.json"
    for suffix in (".safetensors", ".pth"):
        weights = work / f"weights{suffix}"
        _save(network.state_dict(), weights)
        card.write_text(json.dumps({"model": "haze-unet", "title": "A network", "halo": 8}))
        yield Seed(
            weights.name,
            {**picture, **_files(root, weights, card)},
            (f"input/{weights.name}", "input/weights.json"),
            ("weights",),
            (f"input/{weights.name}",),
        )
    card.write_text(
        json.dumps({"model": "haze-unet", "bands": 3, "multiple_of": 8, "task": "dehaze"})
    )
    (work / "weights.safetensors").unlink(missing_ok=True)
    _save(network.state_dict(), work / "weights.safetensors")
    yield Seed(
        "card",
        {**picture, **_files(root, work / "weights.safetensors", card)},
        ("input/weights.json",),
        ("weights", "own"),
        ("input/weights.safetensors",),
    )

    graph = work / "graph.onnx"
    graph.write_bytes(_graph())
    card.unlink()
    beside = work / "graph.json"
    beside.write_text(json.dumps({"bands": 3, "halo": 1, "multiple_of": 1}))
    yield Seed(
        "graph",
        {**picture, **_files(root, graph, beside)},
        (*["input/graph.onnx"] * 8, "input/graph.json"),
        ("own",),
        ("input/graph.onnx",),
    )

    sensor = work / "sensor.toml"
    sensor.write_text(SENSOR)
    yield Seed("sensor", {**picture, **_files(root, sensor)}, ("input/sensor.toml",), ("sensor",))

    # -- masks
    # On the map, where `plain.tif` lies.
    left, top, right, low = 500080, 4999920, 500400, 4999600
    polygon = [[[left, top], [right, top], [right, low], [left, low], [left, top]]]
    shapes = {
        "polygons": {"type": "MultiPolygon", "coordinates": [polygon, polygon]},
        "line": {"type": "LineString", "coordinates": [[left, top], [right, low]]},
    }
    for name, geometry in shapes.items():
        mask = work / f"{name}.geojson"
        feature = {"type": "Feature", "properties": {}, "geometry": geometry}
        named = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
        data = {"type": "FeatureCollection", "crs": named, "features": [feature]}
        mask.write_text(json.dumps(data))
        doors = ("mask", "exclude") if name == "polygons" else ("mask",)
        yield Seed(name, {**picture, **_files(root, mask)}, (f"input/{mask.name}",), doors)
    yield from _vectors(root, work, polygon, picture)
    for name in ("big.tif", "deep.png"):
        yield Seed(
            f"mask {name}",
            {**picture, **_files(root, work / name)},
            (f"input/{name}",),
            ("mask", "exclude"),
        )
    wkt = work / "area.wkt"
    wkt.write_text(
        f"MULTIPOLYGON ((({left} {top}, {right} {top}, {right} {low}, {left} {top})), "
        f"(({left} {top}, {right} {top}, {left} {low}, {left} {top})))"
    )
    yield Seed("text of a mask", {**picture, **_files(root, wkt)}, ("input/area.wkt",), ("text",))

    # -- other tables and settings
    context = work / "context.npz"
    api.save_context([scene], context)
    yield Seed(
        "context", {**picture, **_files(root, context)}, ("input/context.npz",), ("context",)
    )

    # -- what lies in the cache; last, as it is emptied on the way
    yield from _cached(root, scene, large, cache)


def _graph() -> bytes:
    """A convolution and a ReLU as an ONNX model."""
    from onnx import TensorProto, helper, numpy_helper

    kernel = np.linspace(-0.2, 0.2, 81, dtype=np.float32).reshape(3, 3, 3, 3)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    ports = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 3, "height", "width"))]
        for name in "xy"
    ]
    graph = helper.make_graph(nodes, "graph", *ports, [numpy_helper.from_array(kernel, "w")])
    opset = [helper.make_opsetid("", 17)]
    made: bytes = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    return made


def _save(state: dict[str, object], path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)


def _cached(root: Path, scene: Path, large: Path, cache: Path) -> Iterator[Seed]:
    import napari_restore as nr
    from napari_restore import api

    api.clear_cache(needed=True)
    image = nr.open_image(scene)
    small = nr.load_model("dcp", parameters={"patch_radius": 2, "guided_radius": 4})
    nr.restore(image, small, region=nr.Region(0, 0, 32, 32)).store.remove()
    files = _files(root, scene, cache)
    inside = tuple(name for name in files if name.startswith("cache/"))
    yield Seed("kept context", files, inside, ("dark",), ("input/plain.tif",))
    planned = nr.plan(image, "identity", region=nr.Region(0, 0, 32, 32), tile=64)
    result = nr.start(planned).result()
    api.keep_result(result.store.path, api.task_of(planned), "plain", "Identity", result.record)
    result.store.close()
    files = _files(root, scene, cache)
    inside = tuple(name for name in files if name.startswith("cache/"))
    yield Seed("kept result", files, inside, ("kept", "resume", "cache"), ("input/plain.tif",))

    api.clear_cache(needed=True)
    shutil.rmtree(cache)
    picture = nr.open_image(large)
    picture.build_pyramid()
    picture.read((0, 0, 64, 64), 0)
    mask = api.mask_of_array(image, np.pad(np.ones((8, 8), np.uint8), 20), (1, 0, 0, 0, 1, 0))
    picture.close()
    files = _files(root, large, scene, cache)
    inside = tuple(name for name in files if name.startswith("cache/"))
    doors = ("read", "cache", "clear", "read")
    yield Seed("cache", files, inside, doors, (f"input/{large.name}",))
    masks = _files(root, scene, Path(str(mask)).parent)
    inside = tuple(name for name in masks if name.startswith("cache/"))
    yield Seed(
        "kept mask", masks, inside, ("mask",), (f"cache/{Path(str(mask)).relative_to(cache)}",)
    )
