"""How far restored pictures overshoot beside strong edges.

    python benchmarks/halos.py INDEX.csv [--models dcp atmosphere …] [--side 640] [--pictures 6]
        [--json OUT]

Across an edge, from one flat side to the other, *overshoot* is how far values near it go beyond the
level of their side, and *rim* how far they stay towards the other side, three pixels and more away
from it; both as percent of the step between the two levels, of the result or the untouched picture, the
larger. What the untouched picture has is subtracted, scaled as its step: a gain of contrast, which
enlarges noise, texture and halos of the camera with the step, is no halo.

- Steps: two flat halves with noise of a camera, under haze that is the same on both sides (even) or
  thicker behind the edge (depth), of three contrasts; profiles are means of all rows, levels are taken
  at 160 to 240 pixels. So halos of any usual width are seen. Fusion is given the step at three
  exposures, restoring of low light the step at an eighth of the light.
- Pictures: those of the folders haze_real, haze_pairs, lowlight_real and brackets beside INDEX.csv,
  reduced to `--side`: all horizontal and vertical edges whose sides are flat for `REACH` pixels in the
  source. The median and the 95th percentile of them.

Beside our methods stand scikit-image's CLAHE and unsharp mask, which know nothing of edges.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage.exposure import equalize_adapthist
from skimage.filters import unsharp_mask

import napari_restore as nr

Picture = npt.NDArray[np.float64]
"""(h, w, 3), 0 to 1."""
Profile = npt.NDArray[np.float64]
HAZE = ("dcp", "hot", "htm", "atmosphere", "atmosphere-aerial", "haze-unet")
FUSION = ("mertens", "ipl-small")
TONES = {"local contrast 50": 50, "local contrast 100": 100, "local contrast -100": -100}
OTHERS: dict[str, Callable[[Picture], Picture]] = {
    "CLAHE (scikit-image)": lambda x: equalize_adapthist(x, clip_limit=0.01),
    "unsharp mask 20 px (scikit-image)": lambda x: unsharp_mask(x, 20, 0.5, channel_axis=2),
}
METHODS = (*HAZE, "hint-small-denoise", "hint-small-lowlight", *FUSION, *TONES, *OTHERS)
AIRLIGHT = np.array([0.82, 0.85, 0.88])
CONTRASTS = ((0.15, 0.35), (0.25, 0.65), (0.05, 0.75))
"""Display values of the dark and the bright side, before haze."""
HAZES = {"even": (0.55, 0.55), "depth": (0.85, 0.45)}
"""Transmission of both sides."""
HALF, ROWS = 256, 192
NEAR, LEVEL = 3, slice(160, 240)
"""Pixels from the edge: of its own width, and where the level of a side is taken."""
REACH, WIDE, FLAT, LEAST = 24, 5, 0.12, 0.08
"""Of edges in pictures: pixels to each side, rows that are averaged, the deviation of a side as a share
of the step, and the smallest step."""
NOISE = 0.004
EXPOSURES = (0.4, 1.0, 2.5)


def step_of(low: float, high: float, haze: tuple[float, float] | None) -> Picture:
    """Return a step; under haze the brighter side is the right one."""
    side = np.array([low] * HALF + [high] * HALF)[None, :, None]
    colour = np.array([1.0, 0.95, 0.85])
    picture = np.repeat(side * colour, ROWS, axis=0)
    if haze is not None:
        t = np.array([haze[0]] * HALF + [haze[1]] * HALF)[None, :, None]
        picture = t * picture + (1 - t) * AIRLIGHT
    return picture + np.random.default_rng(0).normal(0, NOISE, picture.shape)


def halo(restored: Profile, own: Profile, level: slice) -> tuple[float, float]:
    """Return overshoot and rim, in percent, of a profile (2 n,) less those of its source.

    The edge is in the middle of both.
    """
    after, before = (
        abs(levels[1] - levels[0]) for levels in (_levels(x, level) for x in (restored, own))
    )
    gain = max(1, after / before)
    found = _beside(restored, level) - gain * _beside(own, level)
    return tuple((100 * found / max(after, before)).tolist())


def _levels(profile: Profile, level: slice) -> tuple[float, float]:
    half = len(profile) // 2
    before, after = profile[:half][::-1], profile[half:]
    return float(np.median(before[level])), float(np.median(after[level]))


def _beside(profile: Profile, level: slice) -> Profile:
    """Return overshoot and rim of a profile, in its units."""
    half, levels = len(profile) // 2, _levels(profile, level)
    sides = profile[:half][::-1], profile[half:]
    over, rim = 0.0, 0.0
    for side, own, other in zip(sides, levels, levels[::-1], strict=True):
        away = (side - own) * np.sign(own - other)
        over = max(over, float(away[: level.start].max()))
        rim = max(rim, float(-away[NEAR : level.start].min()))
    return np.array([over, rim])


def edges_of(grey: npt.NDArray[np.float64]) -> list[tuple[int, int, bool]]:
    """Return (row, column, vertical) of the edges of a picture whose sides are flat."""
    found = []
    for is_vertical in (True, False):
        plane = grey if is_vertical else grey.T
        # Means along the edge.
        sums = np.cumsum(np.pad(plane, ((1, 0), (0, 0))), axis=0)
        means = (sums[WIDE:] - sums[:-WIDE]) / WIDE
        slope = np.abs(means[:, 1:] - means[:, :-1])
        for row in range(0, len(means), WIDE):
            for column in range(REACH, means.shape[1] - REACH):
                near = slope[row, column - 1 - 4 : column - 1 + 5]
                if slope[row, column - 1] < LEAST / 4 or slope[row, column - 1] < near.max():
                    continue
                sides = (
                    means[row, column - REACH : column - NEAR],
                    means[row, column + NEAR : column + REACH],
                )
                step = abs(sides[1].mean() - sides[0].mean())
                if step >= LEAST and max(side.std() for side in sides) <= FLAT * step:
                    found.append((row, column, is_vertical))
    return found


def of_edges(
    restored: Picture, own: Picture, edges: Sequence[tuple[int, int, bool]]
) -> npt.NDArray[np.float64]:
    """Return overshoot and rim (n, 2) of a picture at the edges of its source `own`."""
    found, greys = [], [picture.mean(axis=2) for picture in (restored, own)]
    for row, column, is_vertical in edges:
        box = slice(row, row + WIDE), slice(column - REACH, column + REACH)
        planes = [grey if is_vertical else grey.T for grey in greys]
        profiles = [plane[box].mean(axis=0) for plane in planes]
        found.append(halo(*profiles, slice(REACH // 2, REACH)))
    return np.array(found).reshape(-1, 2)


class Methods:
    """Calls methods on pictures, as files of 8 bits."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._models = folder, dict[str, Any]()

    def _file(self, picture: Picture, name: str = "0") -> Path:
        path = self._folder / f"{name}.png"
        Image.fromarray((picture.clip(0, 1) * 255 + 0.5).astype(np.uint8)).save(path)
        return path

    def __call__(self, method: str, picture: Picture | Sequence[Picture]) -> Picture:
        """Return what a method makes of a picture, or of the frames of a bracket."""
        if method in OTHERS:
            assert isinstance(picture, np.ndarray)
            return np.asarray(OTHERS[method](picture.clip(0, 1)))
        if method in TONES:
            assert isinstance(picture, np.ndarray)
            found = nr.restore(
                self._file(picture), "identity", local_contrast=TONES[method], progress=False
            )
        else:
            if method not in self._models:
                self._models[method] = nr.load_model(method)
            model = self._models[method]
            if method in FUSION:
                files = [self._file(frame, str(n)) for n, frame in enumerate(picture)]
                found = nr.fuse(
                    files, model, exposures=range(len(files)), align="off", progress=False
                )
            else:
                assert isinstance(picture, np.ndarray)
                found = nr.restore(self._file(picture), model, exposure=0, progress=False)
        pixels = np.asarray(found.array)
        return pixels / np.iinfo(pixels.dtype).max


def exposed(picture: Picture, factor: float) -> Picture:
    """Return display values with another exposure, by a gamma of 2.2."""
    return (picture.clip(0, None) ** 2.2 * factor).clip(0, 1) ** (1 / 2.2)


def steps_for(method: str) -> dict[str, list[tuple[Picture | list[Picture], Picture]]]:
    """Return by kind what a method is given, and the untouched picture."""
    if method in FUSION or method == "hint-small-lowlight" or method == "hint-small-denoise":
        plain = [step_of(low, high, None) for low, high in CONTRASTS]
        if method in FUSION:
            return {"plain": [([exposed(x, e) for e in EXPOSURES], x) for x in plain]}
        if method == "hint-small-lowlight":
            return {"plain": [(exposed(x, 1 / 8), exposed(x, 1 / 8)) for x in plain]}
        rng = np.random.default_rng(1)
        noisy = [x + rng.normal(0, 0.05, x.shape) for x in plain]
        return {"plain": [(x, x) for x in noisy]}
    return {
        kind: [(step_of(*contrast, haze),) * 2 for contrast in CONTRASTS]
        for kind, haze in HAZES.items()
    }


def read(path: Path, side: int) -> Picture:
    """Return a photo reduced to `side` pixels a side at most."""
    with Image.open(path) as photo:
        photo = photo.convert("RGB")
        photo.thumbnail((side, side), Image.Resampling.LANCZOS)
        return np.asarray(photo, np.float64) / 255


def pictures_for(
    method: str, folder: Path, side: int, most: int
) -> list[tuple[Picture | list[Picture], Picture]]:
    """Return what a method is given, and the untouched picture: of a bracket the frame in the middle."""
    if method in FUSION:
        made = []
        for each in sorted(path.parent for path in (folder / "brackets").glob("*/00.jpg")):
            frames = [read(path, side) for path in sorted(each.glob("*.jpg"))]
            middle = len(frames) // 2
            if method == "ipl-small":
                frames, middle = [frames[0], frames[middle], frames[-1]], 1
            if "handheld" not in each.name:
                made.append((list(frames), frames[middle]))
        return made
    names = ["lowlight_real/*"] if "lowlight" in method else ["haze_real/*", "haze_pairs/*/*.jpg"]
    files = [path for name in names for path in sorted(folder.glob(name))]
    photos = [read(path, side) for path in files[:: max(1, len(files) // most)][:most]]
    return [(photo, photo) for photo in photos]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("--models", nargs="+", default=list(METHODS))
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--pictures", type=int, default=6)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    table: dict[str, dict[str, list[float]]] = {}
    print(
        "| method | steps: overshoot, rim % | pictures: overshoot median, 95 % | rim 95 % | edges |"
    )
    print("| --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        methods = Methods(Path(folder))
        for name in options.models:
            row: dict[str, list[float]] = {}
            for kind, cases in steps_for(name).items():
                each = []
                for given, own in cases:
                    profiles = [x.mean(axis=(0, 2)) for x in (methods(name, given), own)]
                    each.append(halo(*profiles, LEVEL))
                row[kind] = np.max(each, axis=0).tolist()
            of_all = []
            for given, own in pictures_for(
                name, options.index.parent, options.side, options.pictures
            ):
                edges = edges_of(own.mean(axis=2))
                if edges:
                    of_all.append(of_edges(methods(name, given), own, edges))
            values = np.concatenate(of_all) if of_all else np.empty((0, 2))
            if len(values):
                quantiles = np.percentile(values, (50, 95), axis=0)
                row["pictures"] = [*quantiles[:, 0].tolist(), float(quantiles[1, 1]), len(values)]
            table[name] = row
            steps = ", ".join(
                f"{k} {v[0]:.1f}, {v[1]:.1f}" for k, v in row.items() if k != "pictures"
            )
            seen = row.get("pictures", [float("nan")] * 3 + [0])
            cells = f"{seen[0]:.1f}, {seen[1]:.1f} | {seen[2]:.1f} | {seen[3]:.0f}"
            print(f"| {name} | {steps} | {cells} |", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
