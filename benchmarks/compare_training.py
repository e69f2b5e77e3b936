"""Train variants of a network under equal conditions and compare how they learn.

    python benchmarks/compare_training.py BASE.toml --work DIR --steps 400 --every 50
        --variant "normalised:" --variant "pre-norm:model.sizes.normalised=0"
        [--learning-rates 3e-4 1e-3 3e-3 1e-2] [--seeds 0 1 2] [--plot OUT.png] [--json OUT]

Every variant is BASE.toml with the settings behind its colon, several with commas between. It is
trained with each learning rate from the first seed; the rate with the best last score goes on with
the other seeds. A seed sets weights, crops and degradation, and is the same for all variants. Runs
are calls of `napari-restore train`, one after the other; the same command with the same `--work`
goes on where it was stopped.

Printed are the last scores (mean PSNR in dB on the scenes of [score]), and for every variant how
much sooner than the last one it reaches the score with which that ends: in steps, and in seconds
of training, with the smallest and the largest over the seeds.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple


class Curve(NamedTuple):
    """Scores of one run."""

    steps: list[int]
    seconds: list[float]
    scores: list[float]

    def reaches(self, score: float) -> tuple[float, float]:
        """Return steps and seconds at which it passes `score`; infinity if it does not."""
        before = None
        for now in zip(self.steps, self.seconds, self.scores, strict=True):
            if now[2] >= score:
                if before is None or now[2] == before[2]:
                    return now[0], now[1]
                share = (score - before[2]) / (now[2] - before[2])
                steps, seconds, _ = (a + share * (b - a) for a, b in zip(before, now, strict=True))
                return steps, seconds
            before = now
        return float("inf"), float("inf")


def changed(base: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration with "table.key" set to values."""
    out = json.loads(json.dumps(base))
    for name, value in settings.items():
        table = out
        *path, key = name.split(".")
        for part in path:
            table = table.setdefault(part, {})
        table[key] = value
    return out


def toml_of(tables: dict[str, Any], path: str = "") -> str:
    """Return TOML of nested tables of numbers, texts, booleans and lists of them."""
    lines = [f"[{path}]"] if path else []
    inner = {name: value for name, value in tables.items() if isinstance(value, dict)}
    lines += [f"{name} = {json.dumps(v)}" for name, v in tables.items() if name not in inner]
    parts = [toml_of(value, f"{path}.{name}" if path else name) for name, value in inner.items()]
    return "\n".join([*lines, *parts]) + "\n"


def train(options: argparse.Namespace, variant: str, rate: float | None, seed: int) -> Curve:
    """Run one training to its end, or read what an earlier call left."""
    name, _, text = variant.partition(":")
    settings = dict(pair.split("=", 1) for pair in text.split(",") if pair)
    settings = {key: json.loads(value) for key, value in settings.items()}
    at_rate = "" if rate is None else f"-{rate:g}"
    folder = options.work / f"{name.replace(' ', '-')}{at_rate}-{seed}"
    settings |= {"run.output": str(folder), "run.seed": seed, "run.steps": options.steps}
    settings |= {"run.score_every": f"{options.every} steps"}
    if rate is not None:
        settings["optimiser.lr"] = rate
    config = options.base.parent / f".{folder.name}.toml"
    base = tomllib.loads(options.base.read_text())
    # The length is one of the equal conditions, and is given in steps.
    base.get("run", {}).pop("minutes", None)
    config.write_text(toml_of(changed(base, settings)))
    try:
        words = [sys.executable, "-m", "napari_restore", "train", str(config)]
        with open(options.work / f"{folder.name}.log", "a") as log:
            subprocess.run(words, check=True, stdout=log, stderr=log, env=dict(os.environ))
    finally:
        config.unlink()
    with open(folder / "training.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["score"]]
    curve = Curve(*([kind(row[key]) for row in rows] for key, kind in COLUMNS.items()))
    print(f"{folder.name}: {curve.scores[-1]:.2f} dB after {curve.seconds[-1]:.0f} s", flush=True)
    return curve


COLUMNS = {"step": int, "seconds": float, "score": float}


def measure(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Train all variants: the best rate of each, and its curve from every seed."""
    first, *others = options.seeds
    found: dict[str, dict[str, Any]] = {}
    for variant in options.variant:
        rates = options.learning_rates or [None]
        by_rate = {rate: train(options, variant, rate, first) for rate in rates}
        best = max(by_rate, key=lambda rate: by_rate[rate].scores[-1])
        curves = [by_rate[best], *(train(options, variant, best, seed) for seed in others)]
        last = {f"{rate:g}" if rate else "": curve.scores[-1] for rate, curve in by_rate.items()}
        found[variant.partition(":")[0]] = {"rate": best, "by_rate": last, "curves": curves}
    return found


def spread(values: list[float], digits: int) -> str:
    """Return the mean, and the smallest and largest if there are several."""
    text = f"{statistics.mean(values):.{digits}f}"
    if len(values) == 1:
        return text
    return f"{text} ({min(values):.{digits}f} … {max(values):.{digits}f})"


def show(found: dict[str, dict[str, Any]]) -> None:
    """Print the table."""
    *_, reference = found.values()
    print("\n| variant | rate | last score, dB | sooner, in steps | in seconds |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, one in found.items():
        sooner: tuple[list[float], list[float]] = ([], [])
        for curve, other in zip(one["curves"], reference["curves"], strict=True):
            reached = curve.reaches(other.scores[-1])
            ends = other.reaches(other.scores[-1])
            for values, end, at in zip(sooner, ends, reached, strict=True):
                values.append(end / at)
        cells = [spread([curve.scores[-1] for curve in one["curves"]], 2)]
        cells += [spread(values, 2) for values in sooner]
        rate = f"{one['rate']:g}" if one["rate"] else ""
        print(f"| {name} | {rate} | {' | '.join(cells)} |")
    for name, one in found.items():
        if len(one["by_rate"]) > 1:
            print(f"{name}: {', '.join(f'{r}: {s:.2f}' for r, s in one['by_rate'].items())}")


def plot(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw scores over steps and over seconds, one line per seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for number, (name, one) in enumerate(found.items()):
        rate = f", {one['rate']:g}" if one["rate"] else ""
        for seed, curve in enumerate(one["curves"]):
            for axes, x in zip(panels, (curve.steps, curve.seconds), strict=True):
                label = None if seed else f"{name}{rate}"
                axes.plot(x, curve.scores, color=f"C{number}", lw=1.2, label=label)
    panels[0].set(xlabel="steps", ylabel="PSNR in dB")
    panels[1].set(xlabel="seconds of training")
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", type=Path, help="a configuration of napari-restore train")
    parser.add_argument("--work", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--variant", action="append", required=True, metavar="NAME:SETTINGS")
    parser.add_argument("--learning-rates", type=float, nargs="*", metavar="LR")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--every", type=int, default=50, help="steps between scores")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    found = measure(options)
    show(found)
    if options.plot:
        plot(found, options.plot)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
