"""Scores models under families of haze that nothing was trained on, and where their errors lie.

    python benchmarks/haze_matrix.py INDEX.csv atmosphere atmosphere:weights=best.safetensors
        [--split unseen] [--scenes 12] [--draws 1] [--side 640] [--parts] [-o scores.json]

Models are named as `evaluate` names them. Each family's gain is
the mean PSNR over its pictures less that of the better `dcp` (omega 0.95 or 0.85, by
the family's mean); "won" is the share of its pictures that are better than with that
`dcp`. Then the same by scene, its mean over families and draws: the 95 % interval of the
mean over scenes (bootstrap), scenes won, the worst one, and pictures on which that `dcp`
exceeds 23 dB. `--parts` replaces one part of what `atmosphere` estimates by its true or best
value: the table shows how much each error costs.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from itertools import zip_longest
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

import numpy as np
import torch
from haze_families import FAMILIES, Hazed, draw
from PIL import Image

from napari_restore.metrics import psnr, ssim
from napari_restore.models import load_named, one_shot_statistics
from napari_restore.models.atmosphere.inversion import inverted
from napari_restore_lab.data import by_source, read_picture, scenes_of

OMEGAS = (0.95, 0.85)
FACTORS = np.exp(np.linspace(np.log(0.25), np.log(4.0), 33))
"""Factors on the optical depth among which the best one of a picture is sought."""
PARTS = ("as is", "best amount", "true light", "light, amount")
PARTS += ("true airlight", "true map", "all true")
"""Parts that are replaced, one after the other; see `parts`."""
STRONG = 23.0
"""dB of `dcp` from which a picture counts as one that it does well."""
MOST = 60.0
"""dB that a picture counts at most."""


class Scene(NamedTuple):
    name: str
    kind: str
    clear: np.ndarray
    """(h, w, 3) display values 0 to 1."""
    valid: np.ndarray


def chosen(index: Path, split: str, kind: str, count: int, side: int) -> list[Scene]:
    """The first scenes of a kind, sources in turn; small ones doubled, large ones reduced."""
    own = [s for s in scenes_of(index, split=split) if s.kind == kind and not s.no_haze_depth]
    turns = zip_longest(*by_source(own).values())
    made = []
    for scene in [s for turn in turns for s in turn if s is not None][:count]:
        picture = read_picture(scene, side)
        rgb, valid = Image.fromarray(picture.rgb), Image.fromarray(picture.valid)
        if max(rgb.size) <= side / 2:
            size = (2 * rgb.size[0], 2 * rgb.size[1])
            rgb, valid = rgb.resize(size, Image.Resampling.BICUBIC), valid.resize(size)
        clear = np.asarray(rgb, np.float32) / np.float32(255)
        if np.asarray(valid).any():
            made.append(Scene(scene.file, kind, clear, np.array(valid, bool)))
    return made


def tensors(picture: np.ndarray, valid: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    return (
        torch.from_numpy(picture).permute(2, 0, 1)[None].contiguous(),
        torch.from_numpy(valid)[None, None],
    )


def score(y: torch.Tensor, scene: Scene) -> float:
    pixels = y[0].permute(1, 2, 0).float().clamp(0, 1).numpy()
    return min(MOST, psnr(pixels, scene.clear, 1, scene.valid))


@torch.no_grad()
def restored(model: torch.nn.Module, picture: np.ndarray, scene: Scene) -> dict[str, float]:
    x, valid = tensors(picture, scene.valid)
    y = model(x, None, valid)
    pixels = y[0].permute(1, 2, 0).float().clamp(0, 1).numpy()
    return {"psnr": score(y, scene), "ssim": ssim(pixels, scene.clear, 1, scene.valid)}


@torch.no_grad()
def parts(model: torch.nn.Module, hazed: Hazed, scene: Scene) -> dict[str, float]:
    """PSNR with one part replaced, and the estimated over the true mean optical depth."""
    x, valid = tensors(hazed.hazy, scene.valid)
    statistics = dict(one_shot_statistics(model, x, valid))
    light = torch.tensor(0.0 if hazed.linear else 1.0)
    airlight = torch.from_numpy(hazed.airlight)

    def run(**changed: torch.Tensor) -> float:
        y, _ = model.forward_with_maps(x, {**statistics, **changed}, valid)
        return score(y, scene)

    def best(**changed: torch.Tensor) -> float:
        def at(place: int) -> float:
            return run(presence=statistics["presence"] * float(FACTORS[place]), **changed)

        tried = [at(place) for place in range(0, len(FACTORS), 2)]
        found = 2 * int(np.argmax(tried))
        near = [at(place) for place in (found - 1, found + 1) if 0 <= place < len(FACTORS)]
        return max(*tried, *near)

    def with_map(known: dict[str, torch.Tensor]) -> float:
        depth = torch.from_numpy(hazed.depth)[None, None]
        wide = known["airlight"][None, :, None, None]
        return score(inverted(x, depth, wide, known, model.deadband)[0], scene)

    true = {"display": light, "airlight": airlight, "exponent": torch.tensor(hazed.exponent)}
    _, maps = model.forward_with_maps(x, statistics, valid)
    seen = -maps["transmission"][0, 0].clamp(min=1e-3).log().numpy()[scene.valid].mean()
    return {
        "as is": run(),
        "best amount": best(),
        "true light": run(display=light),
        "light, amount": best(display=light),
        "true airlight": run(airlight=airlight),
        "true map": with_map(statistics),
        "all true": with_map({**statistics, **true}),
        "depth ratio": float(seen / max(float(hazed.depth[scene.valid].mean()), 1e-3)),
        "light": float(statistics["display"]),
        "is linear": float(hazed.linear),
    }


def measure(model: torch.nn.Module, pairs: list, with_parts: bool) -> list[dict]:
    rows = []
    for scene, family, hazed in pairs:
        row = {"scene": scene.name, "kind": scene.kind, "family": family}
        if family == "clear":
            row |= restored(model, scene.clear, scene)
            rows.append(row)
            continue
        row |= {"linear": hazed.linear, **restored(model, hazed.hazy, scene)}
        if with_parts and hasattr(model, "network"):
            row["parts"] = parts(model, hazed, scene)
        rows.append(row)
    return rows


def summary(rows: dict[str, list[dict]], names: list[str]) -> None:
    """Print the tables."""
    for kind, families in FAMILIES.items():
        print(f"\n{kind}: mean PSNR less the better dcp's | won | SSIM less dcp's")
        print("| " + " | ".join(["", *families, "mean", "worst", "won", "SSIM", "clear"]) + " |")
        print("| --- |" + " ---: |" * (len(families) + 5))
        for name in names:
            gains, won, similar, cells = [], [], [], []
            for family in families:
                own, best = _of(rows[name], kind, family), _classical(rows, kind, family)
                each = [a["psnr"] - b["psnr"] for a, b in zip(own, best, strict=True)]
                gains.append(fmean(each))
                won += [g > 0 for g in each]
                similar += [a["ssim"] - b["ssim"] for a, b in zip(own, best, strict=True)]
                cells.append(f"{gains[-1]:+.2f} ({fmean(r['psnr'] for r in own):.1f})")
            clear = fmean(r["psnr"] for r in _of(rows[name], kind, "clear"))
            cells += [f"{fmean(gains):+.2f}", f"{min(gains):+.2f}", f"{100 * fmean(won):.0f} %"]
            cells += [f"{fmean(similar):+.3f}", f"{clear:.1f}"]
            print(f"| {name} | " + " | ".join(cells) + " |")
        print(f"\n{kind}, by scene: mean, 95 % interval | won | worst | where dcp is strong")
        for name in names:
            print(f"| {name} | {_by_scene(rows, name, kind)} |")
    for name in names:
        complete = [r for r in rows[name] if r.get("parts", {}).keys() >= set(PARTS)]
        if not complete:
            continue
        print(f"\n{name}: PSNR with one part replaced; estimated over true mean depth")
        print("| | " + " | ".join([*PARTS, "depth display", "depth linear", "light said"]) + " |")
        print("| --- |" + " ---: |" * (len(PARTS) + 3))
        for kind, families in FAMILIES.items():
            for family in ["all", *families]:
                own = [r for r in complete if r["kind"] == kind and family in ("all", r["family"])]
                cells = [f"{fmean(r['parts'][k] for r in own):.2f}" for k in PARTS]
                said = []
                for linear in (False, True):
                    some = [r["parts"] for r in own if r["linear"] == linear]
                    cells.append(f"{median(p['depth ratio'] for p in some):.2f}" if some else "")
                    said.append(f"{fmean(p['light'] for p in some):.2f}" if some else "")
                print(f"| {kind} {family} | " + " | ".join([*cells, " / ".join(said)]) + " |")


def _classical(rows: dict[str, list[dict]], kind: str, family: str) -> list[dict]:
    """Return the rows of the better `dcp` of a family."""
    both = [_of(rows[f"dcp:omega={o}"], kind, family) for o in OMEGAS]
    return max(both, key=lambda some: fmean(r["psnr"] for r in some))


def _by_scene(rows: dict[str, list[dict]], name: str, kind: str) -> str:
    """Return the cells of a model's row by scene."""
    scenes, strong = defaultdict(list), []
    for family in FAMILIES[kind]:
        best = _classical(rows, kind, family)
        for own, classical in zip(_of(rows[name], kind, family), best, strict=True):
            gain = own["psnr"] - classical["psnr"]
            scenes[own["scene"]].append(gain)
            strong += [gain] if classical["psnr"] > STRONG else []
    means = np.array([fmean(each) for each in scenes.values()])
    picks = np.random.default_rng(0).integers(len(means), size=(10_000, len(means)))
    low, high = np.percentile(means[picks].mean(1), (2.5, 97.5))
    worst = min(scenes, key=lambda scene: fmean(scenes[scene]))
    cells = [
        f"{means.mean():+.2f} ({low:+.2f} to {high:+.2f})",
        f"{(means > 0).sum()} of {len(means)}",
        f"{means.min():+.2f} ({worst}), {(means < -1).sum()} below -1",
        f"{fmean(strong):+.2f} ({len(strong)} pictures)" if strong else "none",
    ]
    return " | ".join(cells)


def _of(rows: list[dict], kind: str, family: str) -> list[dict]:
    return [r for r in rows if r["kind"] == kind and r["family"] == family]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("models", nargs="+", help="as evaluate takes them")
    parser.add_argument("--split", default="unseen")
    parser.add_argument("--scenes", type=int, default=12, help="of each kind")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--side", type=int, default=640, help="longer side in pixels")
    parser.add_argument("--parts", action="store_true", help="replace one part after the other")
    parser.add_argument("-o", "--output", type=Path, help="JSON of all rows; found ones are kept")
    given = parser.parse_args()
    setting = [given.split, given.scenes, given.draws, given.side]
    rows: dict[str, list[dict]] = {}
    if given.output is not None and given.output.exists():
        found = json.loads(given.output.read_text("utf-8"))
        rows = found["rows"] if found["setting"] == setting else {}
    pairs = []
    for kind, families in FAMILIES.items():
        for scene in chosen(given.index, given.split, kind, given.scenes, given.side):
            pairs.append((scene, "clear", None))
            for number, family in enumerate(families):
                for repeat in range(given.draws):
                    # Light and thickness come in turn over families and draws.
                    turn = number + len(families) * repeat
                    pairs.append((scene, family, draw(scene.clear, scene.name, kind, family, turn)))
    classical = [f"dcp:omega={o}" for o in OMEGAS]
    for name, model in load_named([*classical, *given.models]):
        if name in rows and (name in classical or not given.parts):
            continue
        rows[name] = measure(model, pairs, given.parts)
        if given.output is not None:
            text = json.dumps({"setting": setting, "rows": rows})
            given.output.write_text(text, "utf-8")
    summary(rows, [name for name in rows if name not in classical])


if __name__ == "__main__":
    main()
