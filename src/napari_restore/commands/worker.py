"""What the child process of a window calls to restore a folder as the command does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_restore.commands._interrupt import Interrupt
from napari_restore.errors import InputError, RestoreError

if TYPE_CHECKING:
    from napari_restore.api import worker

SHOWN = ("ImageStarted", "Progress")
"""Events that the window shows of a folder."""


def restore_folder(
    task: dict[str, Any], call: worker.Call, send: Callable[[dict[str, Any]], None]
) -> list[dict[str, Any]]:
    """Restore a folder as `napari-restore` with the arguments of `task` does.

    Returns the status of each image, with its message where it failed.
    """
    from napari_restore.commands._failures import as_restore_error
    from napari_restore.commands._main import build_parser

    try:
        options = build_parser(at_once=False).parse_args(task["arguments"])
    except SystemExit:
        raise InputError("The settings are those of no command.", "Choose others.") from None
    options.argv, options.started = task["arguments"], time.perf_counter()

    def report(event: Any) -> None:
        # The end of an image's run is not that of the task.
        if type(event).__name__ in SHOWN:
            send(event.to_dict())

    try:
        data = options.run(options, call.attached(Interrupt()), report).data
    except RestoreError:
        raise
    except Exception as error:
        raise as_restore_error(error) from error
    return [_of_image(entry) for entry in data["images"]]


def _of_image(entry: dict[str, Any]) -> dict[str, Any]:
    error = entry.get("error")
    # Messages keep their options, for the window to name.
    text = "" if error is None else error["message"].marked
    return {"source": entry["input"][0], "status": entry["status"], "error": text}
