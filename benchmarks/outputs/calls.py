"""The calls of `same_outputs.py`; names in braces are files of `inputs.make_inputs`.

Words of a call that later versions spell otherwise stand in `FLAGS`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FLAGS: dict[str, list[tuple[str, dict[str, str]]]] = {
    "--facts": [
        ("--facts", {}),
        ("--context-gradient", {"held": "stop", "followed": "through"}),
    ],
    "--choices": [("--choices", {}), ("--routing", {"held": "fixed", "free": "recomputed"})],
}
"""Each option as the calls below write it: its spellings, and its values under each.

Python's keywords are the same with "_" for "-". The first spelling that is known is used.
"""

COMMON = {
    "restore": "--device cpu --memory 1GiB --tile 256 --json --progress off",
    "plan": "--device cpu --memory 1GiB --tile 256 --json --progress off",
    "attribute": "--device cpu --memory 1GiB --json --progress off",
    "evaluate": "--device cpu --memory 1GiB --json --progress off",
    "train": "--device cpu --json --progress off",
    "haze": "--json --progress off",
    "rerun": "--json --progress off",
    "info": "--json",
    "models": "--json",
    "cache": "",
}
"""What stands before the words of every call of a command.

A tile nobody chooses hangs on how fast the machine is just then.
"""

# One call a line: its name and its words. {o} is the call's own folder, all in which is hashed;
# {calls} holds those of the calls before. "process:" runs a process of its own, "kill:" one that is
# killed in the middle and then called again.
CALLS = """
tif-8           restore {rgb8} -o {o}/a.tif --model dcp --record {o}/a.json
tif-16          restore {multi16} -o {o}/a.tif --model dcp --bands blue=1,green=2,red=3
tif-float       restore {float} -o {o}/a.tif --model dcp
tif-alpha       restore {alpha} -o {o}/a.tif --model dcp
cog-in          restore {cog} -o {o}/a.tif --model hot
bigtiff-in      restore {big} -o {o}/a.tif --model htm
vrt-in          restore {vrt} -o {o}/a.tif --model dcp
cog-out         restore {rgb8} -o {o}/a.tif --model dcp --cog --compress zstd
tif-lzw         restore {multi16} -o {o}/a.tif --model dcp --sensor landsat8 --compress lzw
tif-jpeg        restore {rgb8} -o {o}/a.tif --model dcp --compress jpeg --quality 80
tif-none        restore {rgb8} -o {o}/a.tif --model dcp --compress none
zarr-in         restore {zarr5} -o {o}/a.zarr --model dcp
zarr-04-in      restore {zarr4} -o {o}/a.tif --model dcp --bands red=1,green=2,blue=3
zarr-out        restore {rgb8} -o {o}/a.zarr --model haze-unet
zarr-float      restore {float} -o {o}/a.zarr --model atmosphere
ome-tiff        restore {ome} -o {o}/a.tif --model dcp --bands red=1,green=2,blue=3
jpeg            restore {jpg} -o {o}/a.jpg --model dcp --quality 88
jpeg-turned     restore {turned} -o {o}/a.jpg --model dcp
jpeg-to-tif     restore {jpg} -o {o}/a.tif --model atmosphere --bit-depth 16
png-8           restore {png8} -o {o}/a.png --model dcp
png-16          restore {png16} -o {o}/a.png --model dcp
png-to-8        restore {png16} -o {o}/a.png --model dcp --bit-depth 8
grey            restore {grey} -o {o}/a.png --model dcp
webp            restore {webp} -o {o}/a.webp --model dcp --quality 90
raw             restore {raw} -o {o}/a.tif --model dcp --srcwin 0 0 128 96
stack           restore {b4} {b3} {b2} -o {o}/a.tif --stack --bands red=1,green=2,blue=3 --model dcp
folder          restore {clear} -o {o}/many --model dcp --record {o}/{{stem}}.json --name {{stem}}_x{{suffix}}
folder-photos   restore {jpg} {png8} -o {o}/many --model dcp --context first
joined          restore {left} {right} -o {o}/joined.tif --model atmosphere
folder-first    restore {b4} {b3} {b2} -o {o}/many --model dcp --context first
context-file    restore {b3} -o {o}/a.tif --model dcp --context {calls}/folder-first/many/restore_context.npz
identity        restore {rgb8} -o {o}/a.tif --model identity
hot             restore {rgb8} -o {o}/a.tif --model hot --set strength=0.8 --maps {o}/maps
htm             restore {rgb8} -o {o}/a.tif --model htm --set window=33 --maps {o}/maps
atmosphere      restore {rgb8} -o {o}/a.tif --model atmosphere --maps {o}/maps
aerial          restore {rgb8} -o {o}/a.tif --model atmosphere-aerial --set amount=1.2
haze-unet       restore {rgb8} -o {o}/a.tif --model haze-unet --maps {o}/maps
unet-random     restore {rgb8} -o {o}/a.tif --model haze-unet --weights random:3 --tile 128
unet-bfloat16   restore {rgb8} -o {o}/a.tif --model haze-unet --precision bfloat16 --srcwin 0 0 64 64
small           restore {rgb8} -o {o}/a.tif --model inf-dehaze-small --maps {o}/maps
small-region    restore {rgb8} -o {o}/a.tif --model inf-dehaze-small --srcwin 40 30 150 120 --extent region
small-part      restore {rgb8} -o {o}/a.tif --model inf-dehaze-small --srcwin 40 30 150 120
small-batch     restore {rgb8} -o {o}/a.tif --model inf-dehaze-small --tile-batch 4
small-ram       restore {rgb8} -o {o}/a.tif --model inf-dehaze-small --residuals ram
small-disk      restore {rgb8} -o {o}/a.tif --model inf-dehaze-small --residuals disk --scratch {o}
small-first     restore {rgb8} -o {o}/a.tif --model inf-dehaze-small --residuals recompute-first
small-again     restore {rgb8} -o {o}/a.tif --model inf-dehaze-small --residuals recompute
small-device    restore {rgb8} -o {o}/a.tif --model inf-dehaze-small --residuals device
small-float16   restore {rgb8} -o {o}/a.tif --model inf-dehaze-small --residual-dtype float16
lite            restore {tiny} -o {o}/a.tif --model inf-dehaze-lite --weights random:0
wide            restore {wide} -o {o}/a.tif --model dcp --tile 128 --maps {o}/maps
wide-zarr       restore {wide} -o {o}/a.zarr --model haze-unet
wide-cog        restore {wide} -o {o}/a.tif --model hot --cog
own-model       restore {rgb8} -o {o}/a.tif --model {script}:halve --yes
own-unasked     restore {rgb8} -o {o}/a.tif --model {script}:halve
srcwin          restore {rgb8} -o {o}/a.tif --model dcp --srcwin 33 21 150 140
srcwin-many     restore {rgb8} -o {o}/a.tif --model dcp --srcwin 3 2 50 60 --srcwin 300 200 70 60
projwin         restore {rgb8} -o {o}/a.tif --model haze-unet --projwin 500020 4999980 500120 4999900
mask            restore {rgb8} -o {o}/a.tif --model dcp --mask {mask} --feather 12
mask-json       restore {rgb8} -o {o}/a.tif --model atmosphere --mask {areas}
mask-text       restore {jpg} -o {o}/a.png --model dcp --mask "POLYGON ((20 20, 300 40, 200 200, 20 20))" --feather 9
exclude         restore {rgb8} -o {o}/a.tif --model dcp --exclude {cloud} --maps {o}/maps
look            restore {rgb8} -o {o}/a.tif --model dcp --strength 0.6 --adjust luminance-only
look-tones      restore {multi16} -o {o}/a.tif --model dcp --bands red=3,green=2,blue=1 --strength 1.3 --adjust protect-shadows=0.4 --adjust protect-highlights=0.7
set             restore {rgb8} -o {o}/a.tif --model dcp --set omega=0.95 --set airlight=0.8,0.82,0.85 --set patch_radius=9
black-white     restore {multi16} -o {o}/a.tif --model dcp --bands red=3,green=2,blue=1 --black 400 --white 9000
bands-correct   restore {multi16} -o {o}/a.tif --model hot --bands red=3,green=2,blue=1 --other-bands correct
bands-drop      restore {multi16} -o {o}/a.tif --model atmosphere --bands red=3,green=2,blue=1 --other-bands drop
tile            restore {rgb8} -o {o}/a.tif --model haze-unet --tile 64 --tile-batch 3
tile-whole      restore {rgb8} -o {o}/a.tif --model dcp --tile whole
kill:local      restore {rgb8} -o {o}/a.tif --model dcp --tile 64 --scratch {o}/scratch
kill:staged     restore {rgb8} -o {o}/a.tif --model inf-dehaze-small --residuals disk --scratch {o}/scratch
process:run     restore {rgb8} -o {o}/a.tif --model atmosphere --maps {o}/maps
process:info    info {multi16} --sensor landsat8
rerun           rerun {calls}/tif-8/a.json -o {o}/a.tif
bad-model       restore {rgb8} -o {o}/a.tif --model dpc
bad-bands       restore {multi16} -o {o}/a.tif --model atmosphere
bad-mask        restore {rgb8} -o {o}/a.tif --model dcp --feather 4
bad-window      plan {rgb8} --model dcp --srcwin 9000 9000 10 10
bad-value       plan {rgb8} --model dcp --set omega=7
plan            plan {rgb8} --model haze-unet --tile 128 --tile-batch 2
plan-staged     plan {wide} --model inf-dehaze-small --residuals disk
plan-device     plan {rgb8} --model inf-dehaze-small --device simulated:6GiB
info-map        info {rgb8}
info-range      info {multi16} --bands red=3,green=2,blue=1 --black 100
info-raw        info {raw}
info-zarr       info {zarr5}
models          models
model           models haze-unet
ig              attribute {rgb8} -o {o}/m.tif --model haze-unet --box 200 150 24 24 --method ig --steps 4 --baseline blur --record {o}/m.json
ig-rule         attribute {rgb8} -o {o}/m.zarr --model haze-unet --box 200 150 24 24 --method ig --steps 4 --rule trapezoid --baseline zero --objective mean --facts held
ig-auto         attribute {jpg} -o {o}/m.tif --model atmosphere --box 200 150 24 24 --method ig --gap 0.05 --facts followed
lam             attribute {rgb8} -o {o}/m.tif --model haze-unet --box 200 150 24 24 --method lam --steps 4
lam-2021        attribute {rgb8} -o {o}/m.tif --model haze-unet --weights random:1 --box 200 150 8 8 --method lam-2021
dam             attribute {rgb8} -o {o}/m.tif --model haze-unet --box 200 150 24 24 --method dam --baseline {truth} --steps 4
dam-released    attribute {rgb8} -o {o}/m.tif --model haze-unet --box 200 150 24 24 --method dam-released --baseline {truth}
haze-held       attribute {rgb8} -o {o}/m.tif --model atmosphere --box 200 150 24 24 --method haze --steps 4 --facts held
haze-followed   attribute {rgb8} -o {o}/m.tif --model haze-unet --box 200 150 24 24 --method haze --steps 4 --facts followed --exclude {cloud}
haze-small      attribute {rgb8} -o {o}/m.tif --model inf-dehaze-small --box 200 150 24 24 --method haze --steps 2 --facts held
choices-free    attribute {rgb8} -o {o}/m.tif --model inf-dehaze-small --box 200 150 24 24 --method ig --steps 2 --choices free --facts held
polygon         attribute {cog} -o {o}/m.tif --model haze-unet --polygon 200 150 230 150 215 180 --method ig --steps 3 --objective channel:1 --level 1
smoothgrad      attribute {rgb8} -o {o}/m.tif --model haze-unet --box 200 150 24 24 --method smoothgrad --argument n=3
occlusion       attribute {rgb8} -o {o}/m.tif --model atmosphere --box 200 150 24 24 --method occlusion --argument side=12 --baseline zero
captum-ig       attribute {rgb8} -o {o}/m.tif --model haze-unet --box 200 150 16 16 --method captum:IntegratedGradients --argument n_steps=4
captum-saliency attribute {rgb8} -o {o}/m.tif --model haze-unet --box 200 150 16 16 --method captum:Saliency
check           attribute {tiny} -o {o}/m.tif --model atmosphere --box 20 20 16 16 --method ig --steps 2 --check insertion-deletion --facts held --figure {o}/figure.png
boxes           attribute {rgb8} --boxes {boxes} --model atmosphere --model haze-unet:weights=random:0 --method ig --steps 2 --facts held -o {o}/t.csv -o {o}/t.json
rerun-map       rerun {calls}/ig/m.json -o {o}/m.tif
haze            haze {clear} -o {o}/pairs --spectrum octaves --seed 3 --size 128 --scene aerial
haze-natural    haze {clear} -o {o}/pairs --spectrum fine --seed 1 --size 96 --scene natural
haze-crops      haze {clear} -o {o}/crops --training 4 --seed 2
evaluate        evaluate --model atmosphere --pairs {pairs} -o {o}/scores --metrics psnr,ssim,ciede2000,psnr_y --clear --strips 1
evaluate-haze   evaluate --model dcp:omega=0.9 --data {clear} --longest 96 --keep --no-baselines --scene aerial -o {o}/scores
train           train {config}
"""


def python_calls(nr: Any, p: dict[str, Path], out: Path) -> dict[str, Callable[[], Any]]:
    """The calls of Python: each gives what is hashed. `out` is the folder of all calls."""
    import dask.array as da
    import torch
    from PIL import Image

    rgb = np.asarray(Image.open(p["png8"]))
    run = {"device": "cpu", "memory": "1GiB", "progress": False}
    box = nr.Region(150, 200, 174, 224)
    run_256 = run | {"tile": 256}
    float_rgb = rgb.astype(np.float32) / 255

    def saved() -> Any:
        result = nr.restore(p["rgb8"], "dcp", maps=True, **run_256)
        result.save(out / "py-save" / "a.tif", compress="zstd")
        result.save_maps(out / "py-save" / "maps")
        return result

    def events() -> Any:
        job = nr.start(nr.plan(p["rgb8"], "haze-unet", tile=128, device="cpu", memory="1GiB"))
        kinds = [type(event).__name__ for event in job]
        return {"status": job.status, "tiles": kinds.count("TileDone"), "array": job.result()}

    def table() -> Any:
        question = {"method": "ig", "steps": 2, "facts": "held", **run}
        return nr.attribute_table(p["rgb8"], ["atmosphere", "dcp"], [box], **question).rows

    return {
        "py-array": lambda: nr.restore(rgb, "dcp", bands="red=1,green=2,blue=3", **run_256),
        "py-grey": lambda: nr.restore(rgb[..., 0], "dcp", **run_256),
        "py-float": lambda: nr.restore(float_rgb, "dcp", bands={"red": 1, "green": 2, "blue": 3}, **run_256),
        "py-dask": lambda: nr.restore(
            da.from_array(rgb, chunks=(100, 100, 3)), "haze-unet", bands="red=1,green=2,blue=3", **run_256
        ),
        "py-pil": lambda: nr.restore(Image.fromarray(rgb), "atmosphere", **run_256),
        "py-torch": lambda: nr.restore(torch.from_numpy(float_rgb).permute(2, 0, 1), "atmosphere", **run_256),
        "py-module": lambda: nr.restore(
            p["rgb8"], torch.nn.Conv2d(3, 3, 1, bias=False).requires_grad_(False)
            .apply(lambda m: torch.nn.init.constant_(m.weight, 0.3)), **run_256,
        ),
        "py-regions": lambda: nr.restore(
            p["rgb8"], "dcp", region=[nr.Region(0, 0, 50, 60), nr.Region.from_xywh(90, 80, 70, 60)], **run_256
        ),
        "py-staged": lambda: nr.restore(
            p["multi16"], "inf-dehaze-small", bands="red=3,green=2,blue=1", other_bands="drop",
            black=300, residuals="recompute", exclude=p["cloud"], **run_256,
        ),
        "py-save": saved,
        "py-events": events,
        "py-info": lambda: nr.info(rgb, bands="red=1,green=2,blue=3"),
        "py-open": lambda: {
            "levels": [np.asarray(level) for level in nr.open_image(p["zarr5"]).levels],
            "crs": str(nr.open_image(p["cog"]).crs),
        },
        "py-attribute": lambda: nr.attribute(
            p["rgb8"], nr.load_model("haze-unet"), box=box, method="ig", steps=3, facts="followed", **run
        ),
        "py-table": table,
        "py-rerun": lambda: nr.rerun(out / "tif-8" / "a.json", out / "py-rerun" / "a.tif"),
    }  # fmt: skip


WINDOW = {
    "window-tif": ("Dark channel prior", "Whole image", "GeoTIFF"),
    "window-cog": ("Haze network, small", "Whole image", "Cloud-optimised GeoTIFF"),
    "window-drawn": ("Dark channel prior", "Drawn areas", "OME-Zarr"),
    "window-painted": ("Atmosphere", "Painted strength", "PNG"),
    "window-staged": ("Inf-Dehaze, small", "Whole image", "JPEG"),
}
"""Exports from the window: what the boxes Method, target and Format are set to, by their words."""
