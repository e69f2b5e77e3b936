"""The child process of a window: runs plans, and restores folders as the command does."""

from __future__ import annotations

import time
from typing import Any

from napari_restore.api import worker
from napari_restore.commands._interrupt import Interrupt
from napari_restore.errors import InputError, RestoreError

SHOWN = ("ImageStarted", "Progress")
"""Events that the window shows of a folder."""


def main() -> None:
    """Run the commands on stdin, one JSON object per line, until it is closed."""
    worker.main({"folder": (Interrupt, _restore_folder)})


def _restore_folder(
    task: dict[str, Any], interrupt: Interrupt, send: worker.Send
) -> dict[str, Any]:
    """Restore a folder as `napari-restore` with the arguments of `task` does.

    Returns the status of each image, with its message where it failed.
    """
    from napari_restore.commands._failures import as_restore_error, is_known
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
        data = options.run(options, interrupt, report).data
    except RestoreError:
        raise
    except Exception as error:
        if not is_known(error):
            raise
        raise as_restore_error(error) from error
    return {"images": [_of_image(entry) for entry in data["images"]]}


def _of_image(entry: dict[str, Any]) -> dict[str, Any]:
    error = entry.get("error")
    # Messages keep their options, for the window to name.
    text = "" if error is None else error["message"].marked
    return {"source": entry["input"][0], "status": entry["status"], "error": text}


if __name__ == "__main__":
    main()
