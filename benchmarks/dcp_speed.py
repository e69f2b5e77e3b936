"""The model part of `dcp` beside OpenCV's full-resolution dark channel and guided filter.

    python benchmarks/dcp_speed.py [--side 2048] [--rounds 5]

Both on one thread, the same image and airlight, in turn; CPU milliseconds per
megapixel, median of the rounds. Needs opencv-python-headless. Reading, whole-image
statistics and writing are in neither.
"""

from __future__ import annotations

import argparse
import time

import numpy as np


def opencv(x: np.ndarray, airlight: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32 in, out; erosion 15 × 15, guided filter r = 40, eps = 1e-3."""
    import cv2

    guide = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)
    dark = cv2.erode((x / airlight).min(axis=2), np.ones((15, 15), np.uint8))
    rough = 1 - 0.95 * dark

    def mean(a: np.ndarray) -> np.ndarray:
        return cv2.boxFilter(a, -1, (81, 81), borderType=cv2.BORDER_REPLICATE)

    mean_i, mean_p = mean(guide), mean(rough)
    a = (mean(guide * rough) - mean_i * mean_p) / (mean(guide * guide) - mean_i**2 + 1e-3)
    b = mean_p - a * mean_i
    t = np.maximum(mean(a) * guide + mean(b), 0.1)[..., None]
    return (x - airlight) / t + airlight


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    import cv2
    import torch

    import napari_restore as nr

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    coarse = rng.random((arguments.side // 16, arguments.side // 16, 3), np.float32)
    x = np.kron(coarse, np.ones((16, 16, 1), np.float32)) * 0.5 + 0.4
    airlight = np.array([0.9, 0.9, 0.92], np.float32)
    statistics = {
        "airlight": torch.from_numpy(airlight),
        "airlight_all": torch.from_numpy(airlight),
    }
    model = nr.load_model("dcp")
    tensor = torch.from_numpy(x).permute(2, 0, 1)[None]

    def ours() -> None:
        with torch.inference_mode():
            model(tensor, statistics)

    costs: dict[str, list[float]] = {"dcp": [], "opencv": []}
    for number in range(arguments.rounds + 1):
        for name, run in (("dcp", ours), ("opencv", lambda: opencv(x, airlight))):
            began = time.process_time()
            run()
            if number:
                costs[name].append((time.process_time() - began) / x[..., 0].size * 1e9)
    for name, values in costs.items():
        print(f"{name}: {np.median(values):.0f} CPU ms/MP")
    pairs = zip(costs["dcp"], costs["opencv"], strict=True)
    print(f"ratio: {np.median([a / b for a, b in pairs]):.2f}")


if __name__ == "__main__":
    main()
