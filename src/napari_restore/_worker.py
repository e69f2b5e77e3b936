"""The child process of a window: reads a task, runs it, tells events as JSON lines."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from typing import Any, TextIO

from napari_restore.errors import Cancelled, RestoreError


def main() -> None:
    """Run the task on the first line of stdin; later lines are commands."""
    told = sys.stdout
    # Whatever else prints must not end up among the events.
    sys.stdout = sys.stderr
    with contextlib.suppress(AttributeError, OSError):
        os.nice(5)
    task = json.loads(sys.stdin.readline())
    try:
        from napari_restore import api

        job = api.start(api.plan_of(task))
        threading.Thread(target=_obey, args=(job,), daemon=True).start()
        for event in job:
            _tell(told, event.to_dict())
    except Cancelled:
        pass
    except RestoreError as error:
        data = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
        _tell(told, {"event": "Error", **data})
    except Exception as error:
        _tell(told, {"event": "Error", "kind": "RestoreError", "message": repr(error), "hint": ""})
        raise


def _tell(stream: TextIO, event: dict[str, Any]) -> None:
    stream.write(json.dumps(event) + "\n")
    stream.flush()


def _obey(job: Any) -> None:
    """Carry out commands until the parent closes the pipe, then stop: it is gone."""
    from napari_restore.engine import Region

    for line in sys.stdin:
        command = json.loads(line)
        if command["command"] == "cancel":
            job.cancel()
        elif command["command"] == "prioritise":
            job.prioritise(Region(*command["region"]))
    job.cancel()


if __name__ == "__main__":
    main()
