"""Scores models against the noise of cameras, in pictures that LibRaw developed from noisy mosaics.

    python benchmarks/camera_noise.py INDEX.csv hint-small-denoise hint-small-denoise:weights=FILE
        [--split unseen] [--scenes 4] [--side 256] [-o rows.json] [--strips FOLDER]

Models are named as `evaluate` names them. Nothing is shared with the generator of training: a scene is
written as a DNG with the matrix, white balance and black level of one of four cameras, with the noise
that was fitted to them at each ISO, and developed by LibRaw (AHD, PPG or DCB). The truth is the DNG
without noise, developed in the same way. Pictures are scored as developed and after JPEG of quality 92;
then under Gaussian noise that is independent from pixel to pixel, and as they are. Non-local means gets
the best strength of each picture by the truth, for luma and for colours.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
import rawpy
import tifffile
import torch
from haze_matrix import Scene, chosen
from PIL import Image

from napari_restore.metrics import psnr
from napari_restore.models import RestorationModel, load_named

ISO = (800, 3200, 12800)
SIGMA = (15, 25, 50)
"""Standard deviations of independent noise, in 255ths."""
JPEG = 92
WHITE = 0.8
"""Share of saturation that a white of the scene has in green."""
MOST = 60.0
"""dB that a picture counts at most."""
STRENGTHS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Strengths among which non-local means gets the best one, or one between: σ in 255ths."""


class Body(NamedTuple):
    """A camera."""

    matrix: tuple[tuple[float, ...], ...]
    """XYZ to the colours of the sensor, of its DNG files for D65."""
    shot: float
    """Variance of the noise of photons at saturation and ISO 100, of a saturation of 1."""
    bits: int
    black: int
    demosaicing: rawpy.DemosaicAlgorithm


AHD, PPG, DCB = (getattr(rawpy.DemosaicAlgorithm, name) for name in ("AHD", "PPG", "DCB"))
BODIES = {
    "Sony A7R": Body(
        ((0.4913, -0.0541, -0.0202), (-0.613, 1.3513, 0.2906), (-0.1564, 0.2151, 0.7183)),
        *(2e-5, 14, 512, AHD),
    ),
    "Olympus E-M10": Body(
        ((0.838, -0.263, -0.0639), (-0.2887, 1.0725, 0.2496), (-0.0627, 0.1427, 0.5438)),
        *(4e-5, 12, 256, PPG),
    ),
    "Sony RX100 IV": Body(
        ((0.6596, -0.2079, -0.0562), (-0.4782, 1.3016, 0.1933), (-0.097, 0.1581, 0.5181)),
        *(7e-5, 12, 200, DCB),
    ),
    "Nexus 6P": Body(
        ((1.0234, -0.2969, -0.2266), (-0.5625, 1.6328, -0.0469), (-0.0703, 0.2188, 0.6406)),
        *(1.5e-4, 12, 64, AHD),
    ),
}
"""The cameras of the Darmstadt Noise Dataset (Plötz and Roth, CVPR 2017). Electrons at saturation (the
inverse of `shot`) are those usual for their sizes of sensor."""
MOST_SHOT = 0.012
"""Largest variance of photons: that of the noisiest picture of the data set (Brooks and others, 2019)."""
XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
"""Linear sRGB to XYZ (IEC 61966-2-1)."""


class Picture(NamedTuple):
    scene: str
    group: str
    """As in the table: `iso 800`, `iso 800 jpeg`, `sigma 15`, `clean`."""
    noisy: np.ndarray
    """(h, w, 3) display values 0 to 1."""
    truth: np.ndarray
    valid: np.ndarray


def developed(clear: np.ndarray, body: Body, iso: int | None, seed: int) -> np.ndarray:
    """Return display values (h, w, 3) of a scene by a camera, at an ISO or without noise."""
    light = np.where(clear <= 0.04045, clear / 12.92, ((clear + 0.055) / 1.055) ** 2.4)
    to_camera = np.array(body.matrix) @ XYZ
    neutral = to_camera.sum(1) / to_camera.sum(1)[1]
    seen = light @ (to_camera / to_camera.sum(1)[1]).T * WHITE
    mosaic = seen[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = seen[::2, ::2, 0], seen[1::2, 1::2, 2]
    bits, black = (16, 0) if iso is None else (body.bits, body.black)
    if iso is not None:
        shot = min(MOST_SHOT, body.shot * iso / 100)
        # The line that Brooks and others (CVPR 2019) fitted to these cameras.
        read = np.exp(2.18 * np.log(shot) + 1.2)
        spread = np.sqrt(shot * np.clip(mosaic, 0, 1) + read)
        mosaic = mosaic + spread * np.random.default_rng(seed).standard_normal(mosaic.shape)
    white = 2**bits - 1
    codes = np.clip(np.rint(mosaic * (white - black) + black), 0, white).astype(np.uint16)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.dng"
        _write(path, codes, (black, white), np.array(body.matrix), neutral)
        with rawpy.imread(str(path)) as raw:
            pixels = raw.postprocess(
                demosaic_algorithm=body.demosaicing,
                use_camera_wb=True,
                no_auto_bright=True,
                output_color=rawpy.ColorSpace.sRGB,
                output_bps=16,
                gamma=(2.4, 12.92),
                user_flip=0,
            )
    return (pixels / 65535).astype(np.float32)


def _write(
    path: Path, codes: np.ndarray, ends: tuple[int, int], matrix: np.ndarray, neutral: np.ndarray
) -> None:
    """Write a Bayer mosaic (RGGB) as a DNG."""

    def fractions(values: np.ndarray) -> tuple[int, ...]:
        return tuple(int(n) for v in values.ravel() for n in (round(v * 10_000), 10_000))

    tags = [
        (50706, "B", 4, bytes([1, 4, 0, 0]), True),  # DNGVersion
        (50708, "s", 0, "Mosaic", True),  # UniqueCameraModel
        (33421, "H", 2, (2, 2), True),  # CFARepeatPatternDim
        (33422, "B", 4, bytes([0, 1, 1, 2]), True),  # CFAPattern
        (50714, "I", 1, ends[0], True),  # BlackLevel
        (50717, "I", 1, ends[1], True),  # WhiteLevel
        (50721, "2i", 9, fractions(matrix), True),  # ColorMatrix1
        (50728, "2I", 3, fractions(neutral), True),  # AsShotNeutral
        (50778, "H", 1, 21, True),  # CalibrationIlluminant1: D65
    ]
    tifffile.imwrite(path, codes, photometric=32803, extratags=tags, metadata=None, software=False)


def pictures(scenes: list[Scene]) -> Iterator[Picture]:
    """Return all pictures of the scenes."""
    for number, scene in enumerate(scenes):
        even = tuple(slice(0, side // 2 * 2) for side in scene.clear.shape[:2])
        clear, valid = scene.clear[even], scene.valid[even]
        body = list(BODIES.values())[number % len(BODIES)]
        truth = developed(clear, body, None, 0)
        made = partial(Picture, scene.name, truth=truth, valid=valid)
        for iso in ISO:
            noisy = np.rint(developed(clear, body, iso, 1000 * number + iso) * 255).astype(np.uint8)
            yield made(f"iso {iso}", noisy.astype(np.float32) / 255)
            file = BytesIO()
            Image.fromarray(noisy).save(file, "JPEG", quality=JPEG)
            yield made(f"iso {iso} jpeg", np.asarray(Image.open(file), np.float32) / 255)
        for sigma in SIGMA:
            noise = np.random.default_rng(number).standard_normal(clear.shape) * sigma / 255
            noisy = np.rint(np.clip(clear + noise, 0, 1) * 255).astype(np.float32) / 255
            yield Picture(scene.name, f"sigma {sigma}", noisy, clear, valid)
        yield Picture(scene.name, "clean", clear, clear, valid)


def non_local_means(picture: Picture) -> np.ndarray:
    """Non-local means with the strength that is best for luma, and that for colours."""
    from skimage.color import rgb2ycbcr, ycbcr2rgb
    from skimage.restoration import denoise_nl_means

    if picture.group == "clean":
        return picture.noisy
    noisy, truth = (rgb2ycbcr(values) / 255 for values in (picture.noisy, picture.truth))

    def best(part: slice) -> np.ndarray:
        tried: dict[float, tuple[float, np.ndarray]] = {}

        def error(strength: float) -> float:
            h, sigma = 0.6 * strength / 255, strength / 255
            found = denoise_nl_means(noisy[..., part], 5, 7, h, sigma=sigma, channel_axis=-1)
            found = found.reshape(noisy[..., part].shape)
            difference = found - truth[..., part]
            tried[strength] = float((difference**2)[picture.valid].mean()), found
            return tried[strength][0]

        middle = min(STRENGTHS, key=error)
        return tried[min((middle, middle / 2**0.5, middle * 2**0.5), key=error)][1]

    parts = [best(slice(0, 1)), best(slice(1, 3))]
    return np.clip(ycbcr2rgb(np.concatenate(parts, axis=2) * 255), 0, 1)


@torch.no_grad()
def restored(model: RestorationModel, picture: Picture) -> np.ndarray:
    x = torch.from_numpy(picture.noisy).permute(2, 0, 1)[None].contiguous()
    y = model(x, None, torch.from_numpy(picture.valid)[None, None])
    return y[0].permute(1, 2, 0).float().clamp(0, 1).numpy()


def table(rows: dict[str, dict[str, float]]) -> None:
    """Print the mean PSNR of each group, and of developed pictures and JPEG what is above non-local means."""
    groups = list(dict.fromkeys(key.split(" | ")[1] for key in rows["nl-means"]))
    print("| " + " | ".join(["", *groups, "RAW", "JPEG", "won"]) + " |")
    print("| --- |" + " ---: |" * (len(groups) + 3))
    base = rows["nl-means"]
    for name, row in rows.items():
        means = [fmean(v for k, v in row.items() if k.endswith(f"| {g}")) for g in groups]
        gains = {k: v - base[k] for k, v in row.items() if "| iso" in k}
        over = [
            fmean(v for k, v in gains.items() if k.endswith("jpeg") == j) for j in (False, True)
        ]
        won = 100 * fmean(v > 0 for v in gains.values())
        cells = [f"{v:.2f}" for v in means] + [f"{v:+.2f}" for v in over] + [f"{won:.0f} %"]
        print("| " + " | ".join([name, *cells]) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("models", nargs="+", help="as evaluate takes them")
    parser.add_argument("--split", default="unseen")
    parser.add_argument("--scenes", type=int, default=4, help="of each kind")
    parser.add_argument("--side", type=int, default=256, help="longer side in pixels")
    parser.add_argument("-o", "--output", type=Path, help="JSON of all rows; found ones are kept")
    parser.add_argument("--strips", type=Path, help="folder for pictures, results and truth")
    given = parser.parse_args()
    setting = [given.split, given.scenes, given.side]
    rows: dict[str, dict[str, float]] = {}
    if given.output is not None and given.output.exists():
        found = json.loads(given.output.read_text("utf-8"))
        rows = found["rows"] if found["setting"] == setting else {}
    kinds = ("aerial", "natural")
    scenes = [chosen(given.index, given.split, kind, given.scenes, given.side) for kind in kinds]
    made = list(pictures([scene for kind in scenes for scene in kind]))
    methods = {"untouched": lambda picture: picture.noisy, "nl-means": non_local_means}
    methods |= {name: partial(restored, model) for name, model in load_named(given.models)}
    shown: dict[int, list[np.ndarray]] = {}
    for name, method in methods.items():
        if name in rows and given.strips is None:
            continue
        rows[name] = {}
        for number, picture in enumerate(made):
            result = method(picture)
            value = min(MOST, psnr(result, picture.truth, 1, picture.valid))
            rows[name][f"{picture.scene} | {picture.group}"] = value
            shown.setdefault(number, []).append(result)
        if given.output is not None:
            given.output.write_text(json.dumps({"setting": setting, "rows": rows}), "utf-8")
    if given.strips is not None:
        given.strips.mkdir(parents=True, exist_ok=True)
        for picture, results in zip(made, shown.values(), strict=True):
            strip = np.concatenate([*results, picture.truth], axis=1)
            name = f"{Path(picture.scene).stem} {picture.group}.png".replace(" ", "_")
            Image.fromarray(np.rint(strip * 255).astype(np.uint8)).save(given.strips / name)
    table(rows)


if __name__ == "__main__":
    main()
