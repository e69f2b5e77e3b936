"""How far a draft is from the true result it stands for.

Run as ``python benchmarks/draft.py DATA`` with the folder of test images; prints a
Markdown table. A draft is made as the window makes it: on level 1, 2 or 3 of the image,
lengths in pixels shrunk, statistics of the whole image from the overview. It is compared with the
true result's own level, in steps of 8 bits.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

MODELS = ("dcp", "hot", "htm")
SCENES = (
    "haze_real/natural_tea_gardens.jpg",
    "haze_real/aerial_coast_222216-0.jpg",
)
LEVELS = (1, 2, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of test images")
    parser.add_argument("--cache", type=Path, default=Path("/tmp/napari-restore-draft"))
    options = parser.parse_args()
    os.environ["NAPARI_RESTORE_CACHE"] = str(options.cache)
    from napari_restore import sample

    town = Path(sample.__file__).with_name("hazy_town_synthetic.tif")
    print("| scene | model |", " | ".join(f"level {k}: mean, p99, max" for k in LEVELS), "|")
    print("| --- | --- |", " | ".join(["---:"] * len(LEVELS)), "|")
    for path in (town, *(options.data / scene for scene in SCENES)):
        for model_id in MODELS:
            cells = " | ".join(compared(path, model_id))
            print(f"| {path.stem} | {model_id} | {cells} |", flush=True)


def compared(path: Path, model_id: str) -> list[str]:
    """For every level the mean, 99th percentile and largest absolute difference."""
    import napari_restore as nr
    from napari_restore.plugin.runs.draft import scaled_parameters

    image = nr.open_image(path)
    image.build_pyramid()
    model = nr.load_model(model_id)
    plan = nr.plan(image, model, pyramid=True)
    true = nr.start(plan).result()
    cells = []
    for level in LEVELS:
        scale = image.level_scale(level) if level < len(image.level_shapes) else None
        if scale is None:
            cells.append("no such level")
            continue
        view = image.level_view(level)
        small = nr.load_model(model_id, parameters=dict(scaled_parameters(model.card, {}, scale)))
        extent = "overview" if plan.needs_context_pass else "image"
        draft = nr.start(nr.plan(view, small, extent=extent)).result()
        box = (0, 0, view.height, view.width)
        away = np.abs(draft.read(box).astype(float) - true.read(box, level).astype(float))
        p99 = np.percentile(away, 99)
        cells.append(f"{away.mean():.1f}, {p99:.0f}, {away.max():.0f}")
    return cells


if __name__ == "__main__":
    main()
