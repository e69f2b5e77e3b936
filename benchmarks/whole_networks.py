"""Networks that see the whole image, in exact sweeps, beside `model(x)` of the same network.

    python benchmarks/whole_networks.py PHOTO --model nafnet --size 6000 4000 --once 1748 1168
        [--memory 2GiB] [--tile N] [--work DIR]

The photo is cut to SIZE, grown by reflection where it is smaller. `restore` runs in a process of its own,
with random weights at the structure's published sizes, from file to file; `plan` before it, so that its
start can be taken off; and `model(x)` in a third process on an image ONCE, the largest that fits this
machine. All on one thread. Prints processor seconds per megapixel of both, their ratio, and peaks of
resident memory: of the whole process, of what it was idle, and as the record has it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MIB = 1 << 20


def cut(photo: Path, size: tuple[int, int], folder: Path) -> Path:
    """Write (width, height) of the photo as PNG."""
    import numpy as np
    from PIL import Image

    out = folder / f"{photo.stem}-{size[0]}x{size[1]}.png"
    if not out.exists():
        Image.MAX_IMAGE_PIXELS = None
        with Image.open(photo) as picture:
            pixels = np.asarray(picture.convert("RGB").crop((0, 0, *size)))[: size[1], : size[0]]
            height, width = min(picture.height, size[1]), min(picture.width, size[0])
        pixels = pixels[:height, :width]
        beyond = (0, size[1] - height), (0, size[0] - width), (0, 0)
        Image.fromarray(np.pad(pixels, beyond, "symmetric")).save(out, compress_level=1)
    return out


def command(*words: str) -> tuple[float, float]:
    """Run the command line; return processor seconds and the peak of resident bytes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = (sys.executable, "-m", "napari_restore", *words)
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"ended with {os.waitstatus_to_exitcode(status)}: {' '.join(words)}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def once(model_id: str, photo: Path) -> None:
    """Print processor seconds of `model(x)`, and the peak of the process."""
    import numpy as np
    import torch
    from PIL import Image

    import napari_restore as nr

    torch.set_num_threads(1)
    model = nr.load_model(model_id, weights="random:0")
    with Image.open(photo) as picture:
        x = torch.from_numpy(np.asarray(picture, np.float32) / 255).permute(2, 0, 1)[None]
    x = x.contiguous()
    with torch.inference_mode():
        model(x[..., :128, :128])
        began = time.process_time()
        model(x)
        seconds = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak": peak}))


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the figures of one network."""
    name, size, small = options.model, tuple(options.size), tuple(options.once)
    photo = cut(options.photo, size, folder)
    asked = [str(photo), "--model", name, "--weights", "random:0", "--memory", options.memory]
    asked += ["--tile", str(options.tile)] if options.tile else []
    command("plan", *asked)
    start, _ = command("plan", *asked)
    record = folder / "record.json"
    written = ["-o", str(folder / "restored.png"), "--record", str(record), "--overwrite"]
    seconds, peak = command("restore", *asked, *written)
    found = json.loads(record.read_text("utf-8"))
    words = [sys.executable, __file__, str(cut(options.photo, small, folder)), "--model", name]
    done = subprocess.run([*words, "--run-once"], check=True, stdout=subprocess.PIPE, text=True)
    whole = json.loads(done.stdout.splitlines()[-1])
    pixels, pixels_once = (w * h / 1e6 for w, h in (size, small))
    return {
        "sweeps": found["plan"]["passes"],
        "tile": found["plan"]["tile"],
        "start_seconds": start,
        "seconds_per_megapixel": (seconds - start) / pixels,
        "once_per_megapixel": whole["seconds"] / pixels_once,
        "ratio": (seconds - start) / pixels / (whole["seconds"] / pixels_once),
        "ratio_with_start": seconds / pixels / (whole["seconds"] / pixels_once),
        "peak_mib": peak / MIB,
        "idle_mib": found["measured"]["idle_ram_bytes"] / MIB,
        "record_peak_mib": found["measured"]["peak_ram_bytes"] / MIB,
        "disk_mib": found["plan"]["predicted_disk_bytes"] / MIB,
        "once_peak_mib": whole["peak"] / MIB,
        "once_peak_at_size_mib": whole["peak"] / MIB * pixels / pixels_once,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--model", default="nafnet")
    parser.add_argument("--size", type=int, nargs=2, default=(6000, 4000), metavar=("W", "H"))
    parser.add_argument("--once", type=int, nargs=2, default=(1748, 1168), metavar=("W", "H"))
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--tile", type=int)
    parser.add_argument("--work", type=Path, help="where images and results go; kept if named")
    parser.add_argument("--run-once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run_once:
        once(options.model, options.photo)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in measured(options, folder).items():
            print(f"{name}: {value:.2f}" if isinstance(value, float) else f"{name}: {value}")


if __name__ == "__main__":
    main()
