"""What `same_outputs.py` compares of files, records and texts."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

DROPPED = re.compile(
    r"(?i)(^|_)seconds|_per_|^(predicted_)?stages$|_ram_bytes|^(device_)?memory_bytes$|peak_device_bytes"
    r"|^predicted_disk|^versions?$|^key$|^software$|^backoffs$|^workers$|^threads$|^date$|^created$|_version$|(^|_)key$"
)
"""Fields that differ from run to run, or from version to version."""
WORDS = {"command", "notes", "note", "reason", "reasons", "message", "text", "help", "summary"}
WORDS |= {"caveats", "validated_on", "trained_on", "hint", "error", "next_step"}
"""Fields that hold sentences for people."""
Items = dict[str, Any]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def of_array(values: Any) -> str:
    """The hash of an array's type, shape and values."""
    array = np.ascontiguousarray(values)
    return digest(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())


class Normal:
    """Records and texts without what hangs on the place and the time of a run."""

    def __init__(self, work: Path) -> None:
        self.places = re.compile(f"(file://)?{re.escape(str(work))}[^\\s\"',;)]*[^\\s\"',;).]")

    def text(self, text: str) -> str:
        text = self.places.sub(lambda found: "<" + Path(found[0]).name + ">", text)
        return re.sub(r"\d+(\.\d+)? (ms|s|min|h|[KMG]iB|B|KB|MB|GB|pairs/s)\b", "<measure>", text)

    def flat(self, value: Any, path: str = "") -> dict[str, Any]:
        """Every leaf of a record by its dotted path."""
        if isinstance(value, dict):
            found: dict[str, Any] = {} if value else {path: {}}
            for key, part in value.items():
                name = self.text(str(key)).replace(".", "_")
                if not DROPPED.search(name):
                    found |= self.flat(part, f"{path}.{name}" if path else name)
            done = [f"{path}.{name}".lstrip(".") for name in ("tiles_done", "tiles_resumed")]
            if all(name in found for name in done):
                found[done[0]] += found.pop(done[1])
            return found
        if isinstance(value, list | tuple) and len(value) > 64:
            return {path: digest(json.dumps(value, default=str).encode())}
        if isinstance(value, list | tuple):
            parts = [
                self.flat(part, f"{path}.{number}".lstrip(".")) for number, part in enumerate(value)
            ]
            return {name: leaf for part in parts for name, leaf in part.items()} or {path: []}
        if isinstance(value, np.ndarray):
            return {path: of_array(value)}
        if hasattr(value, "record"):
            return {path: of_array(np.asarray(value))}
        plain = value.item() if isinstance(value, np.generic) else value
        if plain is None or isinstance(plain, bool | int | float):
            return {path: plain}
        return {path: self.text(str(plain))}

    def record(self, value: Any) -> Items:
        """Its fields as an item."""
        return {"record": self.flat(value)}


def kind_of(path: str) -> str:
    """Whether a field is of the "record", a sentence in "words", or tells of a file's "bytes"."""
    if set(path.split(".")) & WORDS:
        return "words"
    return "bytes" if path.endswith("sha256") and "weights" not in path else "record"


def of_file(path: Path, normal: Normal) -> Items:
    """What is compared of a file, or of a folder that is a zarr store."""
    suffix, data = path.suffix.lower(), b"" if path.is_dir() else path.read_bytes()
    if suffix in (".json", ".jsonl"):
        text = data.decode()
        return normal.record(
            json.loads(text) if suffix == ".json" else list(map(json.loads, text.splitlines()))
        )
    if suffix == ".csv":
        return normal.record(list(csv.DictReader(io.StringIO(data.decode()))))
    if suffix == ".zarr":
        return of_zarr(path, normal)
    if suffix == ".tif":
        return of_tiff(path, normal) | {"bytes": digest(data)}
    if suffix in (".png", ".jpg", ".webp"):
        return of_photo(path, data)
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return normal.record({name: arrays[name] for name in arrays.files})
    if suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, "numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            return normal.record({"tensors": tensors, "metadata": file.metadata() or {}})
    if suffix in (".tex", ".txt", ".md"):
        return normal.record({"text": data.decode()})
    return {}


def of_tiff(path: Path, normal: Normal) -> Items:
    import rasterio

    with rasterio.open(path) as file:
        mask = file.dataset_mask()
        spaces = [n for n in file.tag_namespaces() if n != "DERIVED_SUBDATASETS"]
        profile = {key: str(value) for key, value in file.profile.items()}
        fields = {
            "profile": profile, "tags": {n: file.tags(ns=n) for n in ["", *spaces]}, "mask": of_array(mask),
            "bands": [file.descriptions, file.scales, file.offsets, file.units, file.nodatavals],
            "colours": [c.name for c in file.colorinterp], "masks": str(file.mask_flag_enums),
            "gcps": str(file.gcps), "levels": [file.overviews(b) for b in file.indexes],
            "band_tags": [file.tags(b) for b in file.indexes],
        }  # fmt: skip
        return {"pixels": of_array(file.read()), "meta": normal.flat(fields)}


def of_photo(path: Path, data: bytes) -> Items:
    import imagecodecs
    from PIL import Image

    decode = {".png": imagecodecs.png_decode, ".jpg": imagecodecs.jpeg_decode}
    with Image.open(path) as image:
        exif = {str(key): str(value) for key, value in image.getexif().items()}
        if path.name in ("figure.png", "training.png"):
            # Drawn with words.
            return {"meta": {"size": str(image.size)}}
        profile = digest(image.info.get("icc_profile") or b"")
        pixels = decode.get(path.suffix, lambda _: np.asarray(image))(data)
    return {"pixels": of_array(pixels), "meta": {"icc": profile, **exif}, "bytes": digest(data)}


def of_zarr(path: Path, normal: Normal) -> Items:
    import zarr

    group = zarr.open_group(path, mode="r")
    arrays = sorted(group.members(max_depth=None), key=lambda each: each[0])
    pixels = {name: of_array(part[...]) for name, part in arrays if isinstance(part, zarr.Array)}
    shapes = {name: str(part.chunks) for name, part in arrays if isinstance(part, zarr.Array)}
    files = sorted(file for file in path.rglob("*") if file.is_file())
    data = digest(b"".join(file.name.encode() + file.read_bytes() for file in files))
    meta = normal.flat({"attributes": dict(group.attrs), "chunks": shapes})
    return {"pixels": pixels, "meta": meta, "bytes": data}


def of_folder(folder: Path, normal: Normal) -> Items:
    """Everything a call left in its folder, by name and kind."""
    items: Items = {}
    for path in sorted(folder.rglob("*")):
        inside = any(parent.suffix == ".zarr" for parent in path.relative_to(folder).parents)
        kept = {"checkpoint.pt", "previews", "pictures"} & set(path.parts)  # for a later call
        if inside or kept or (path.is_dir() and path.suffix != ".zarr"):
            continue
        name = str(path.relative_to(folder))
        items[f"{name} exit"] = "there"
        items |= {f"{name} {kind}": value for kind, value in of_file(path, normal).items()}
    return items
