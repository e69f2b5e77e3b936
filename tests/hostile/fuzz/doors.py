"""What users do with files: each door is a command or a few calls of the Python interface."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

MEMORY = "512MiB"
PATIENCE = 3.0
"""Seconds after which overviews are no longer waited for."""
RUN = ("--memory", MEMORY, "--progress", "off", "--overwrite")
DARK = ("--model", "dcp", "--set", "patch_radius=2", "--set", "guided_radius=4")
"""A model that needs the context of the whole image."""
BOX = ("--srcwin", "4", "4", "24", "24")


class Unclean(Exception):
    """A door ended otherwise than with a result or a sentence."""


def _command(*words: object) -> None:
    from napari_restore.commands import main

    code = main([str(word) for word in words])
    if code not in (0, 2, 4):
        raise Unclean(f"exit code {code}")


def _info(case: Path, paths: list[Path]) -> None:
    _command("info", paths[0], "--json")
    _command("info", paths[0])


def _read(case: Path, paths: list[Path]) -> None:
    import napari_restore as nr
    from napari_restore.errors import RestoreError, StackOfPlanes

    try:
        try:
            image = nr.open_image(paths[0])
        except StackOfPlanes:
            image = nr.open_image(paths[0], plane=1)
        # A header may claim a large image, as any is: what must work is to stop.
        end = time.monotonic() + PATIENCE
        image.build_pyramid(cancelled=lambda: time.monotonic() > end)
        for number, (height, width) in enumerate(image.level_shapes):
            box = (0, 0, min(height, 2048), min(width, 2048))
            image.read(box, number)
            image.read_valid(box, number)
        image.close()
    except RestoreError as error:
        _sentence(error)


def _sentence(error: Exception) -> None:
    text = getattr(error, "message", "")
    if not text.endswith((".", "!", "?")) or "\n" in text:
        raise Unclean(f"no sentence: {text!r}") from error
    print(f"napari-restore: {error}")


def _restore(case: Path, paths: list[Path], *more: object) -> None:
    out = case / "output" / "out.tif"
    model = () if "--model" in more else ("--model", "identity")
    _command("restore", paths[0], "-o", out, *model, *BOX, *RUN, *more)


def _plain(case: Path) -> list[Path]:
    return [case / "input" / "plain.tif"]


def _mask(case: Path, paths: list[Path]) -> None:
    _restore(case, _plain(case), "--mask", paths[0], "--feather", "3")


def _exclude(case: Path, paths: list[Path]) -> None:
    _restore(case, _plain(case), "--exclude", paths[0])


def _text(case: Path, paths: list[Path]) -> None:
    try:
        text = paths[0].read_text("utf-8")
    except ValueError:
        return
    if "\0" not in text and text and not text.startswith("-"):
        _restore(case, _plain(case), "--mask", text)


def _dark(case: Path, paths: list[Path]) -> None:
    _restore(case, _plain(case), *DARK)


def _context(case: Path, paths: list[Path]) -> None:
    _restore(case, _plain(case), "--context", paths[0], *DARK)


def _rerun(case: Path, paths: list[Path]) -> None:
    # Without --yes: what it names as code is not run.
    _command("rerun", paths[0], "-o", case / "output" / "again.tif", "--progress", "off")


def _boxes(case: Path, paths: list[Path]) -> None:
    asked = (
        "--model",
        "identity",
        "--steps",
        "1",
        "--boxes",
        paths[0],
        "-o",
        case / "output" / "t.csv",
    )
    _command("attribute", *asked, *RUN)


def _weights(case: Path, paths: list[Path]) -> None:
    import napari_restore as nr
    from napari_restore.errors import RestoreError

    for model, weights in (("haze-unet", paths[0]), (paths[0], None)):
        try:
            nr.load_model(model, weights=weights)
        except RestoreError as error:
            _sentence(error)


def _own(case: Path, paths: list[Path]) -> None:
    _command("plan", _plain(case)[0], "--model", paths[0], "--memory", MEMORY)


def _sensor(case: Path, paths: list[Path]) -> None:
    _command("info", _plain(case)[0], "--sensor", paths[0])


def _kept(case: Path, paths: list[Path]) -> None:
    """As the window finds what was made earlier, and shows it."""
    from napari_restore import api
    from napari_restore.errors import RestoreError

    try:
        image = api.open_image(paths[0])
        for kept in api.kept_results(image):
            result = api.result_of_kept(kept, image)
            result.array.compute()
            result.store.close()
    except RestoreError as error:
        _sentence(error)


def _resume(case: Path, paths: list[Path]) -> None:
    out = case / "output" / "out.tif"
    words = ("--model", "identity", "--srcwin", "0", "0", "32", "32", "--tile", "64")
    _command("restore", paths[0], "-o", out, *words, *RUN)


def _cache(case: Path, paths: list[Path]) -> None:
    _command("cache")
    _command("cache", "--json")


def _clear(case: Path, paths: list[Path]) -> None:
    _command("cache", "--clear", "--masks")
    _command("info", paths[0])


DOORS: dict[str, Callable[[Path, list[Path]], None]] = {
    "info": _info, "read": _read, "restore": _restore, "mask": _mask,
    "exclude": _exclude, "text": _text, "context": _context, "rerun": _rerun, "boxes": _boxes,
    "dark": _dark, "own": _own, "sensor": _sensor, "weights": _weights, "kept": _kept,
    "resume": _resume, "cache": _cache, "clear": _clear,
}  # fmt: skip
