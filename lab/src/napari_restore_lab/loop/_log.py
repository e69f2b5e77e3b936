"""The log of a run as CSV, and its plot."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_restore_lab._replacing import replacing

FIRST = ("step", "seconds", "stage", "lr", "pairs_per_second", "skipped", "loss")
NO_PLOT = 'No plot is drawn without matplotlib: pip install "napari-restore-lab[figures]".'


class Log:
    """Rows of training.csv; every one is on disk before the next step.

    Columns: `FIRST`, the losses by name (each the mean since the last row, before its
    weight), and the dev figures, empty but in rows of a score.
    """

    def __init__(self, path: Path, losses: Sequence[str], scores: Sequence[str]) -> None:
        self.path = path
        self._columns = [*FIRST, *losses, *scores]

    def start(self, step: int) -> None:
        """Start the log, or continue after `step`: rows of an interrupted call beyond it are removed."""
        rows = [row for row in self.rows() if int(row["step"]) <= step] if step else []
        with replacing(self.path) as part, part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self._columns, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row; missing columns stay empty."""
        cells = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self._columns, restval="").writerow(cells)

    def rows(self) -> list[dict[str, str]]:
        """Return all complete rows as text."""
        if not self.path.is_file():
            return []
        with self.path.open(encoding="utf-8", newline="") as file:
            found = list(csv.DictReader(file, restval=None))
        return [row for row in found if None not in row.values() and row.get("step", "").isdigit()]

    def plot(self, path: Path) -> bool:
        """Draw loss and dev figures over steps; False where matplotlib is missing."""
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError:
            return False
        rows = self.rows()
        figure = Figure(figsize=(8, 8), layout="constrained")
        FigureCanvasAgg(figure)
        above, below = figure.subplots(2, 1, sharex=True)
        shown = ["loss", *self._columns[len(FIRST) : self._columns.index("score")]]
        for name in shown:
            points = [(int(r["step"]), float(r[name])) for r in rows if r.get(name)]
            if any(y > 0 for _, y in points):
                above.semilogy(*zip(*points, strict=True), label=name, linewidth=1)
        above.set_ylabel("loss")
        if above.has_data():
            above.legend(fontsize="small")
        for name in self._columns[self._columns.index("score") :]:
            points = [(int(r["step"]), float(r[name])) for r in rows if r.get(name)]
            if points:
                style = "-" if name == "score" or name.endswith("_model") else "--"
                below.plot(*zip(*points, strict=True), style, label=name, linewidth=1)
        below.set_ylabel("dev PSNR (dB)")
        below.set_xlabel("step")
        if below.has_data():
            below.legend(fontsize="x-small", ncols=2)
        with replacing(path) as part:
            figure.savefig(part, format="png", dpi=100)
        return True


@dataclass
class LogSums:
    """Sums between two rows of the log."""

    seconds: float = 0.0
    pairs: int = 0
    steps: int = 0
    loss: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)

    def add(self, loss: float, losses: Mapping[str, float]) -> None:
        self.steps += 1
        self.loss += loss
        for name, value in losses.items():
            self.losses[name] = self.losses.get(name, 0.0) + value

    def means(self) -> dict[str, float]:
        if not self.steps:
            return {}
        means = {name: total / self.steps for name, total in self.losses.items()}
        return {"loss": self.loss / self.steps, **means}

    @property
    def rate(self) -> float:
        return self.pairs / self.seconds if self.seconds > 0 else 0.0
