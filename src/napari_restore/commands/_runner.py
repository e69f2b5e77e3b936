"""One plan after another to its files: events told, records written, Ctrl-C obeyed."""

from __future__ import annotations

import shlex
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_restore.commands._checks import check_maps, refuse_existing, refuse_old_record
from napari_restore.commands._interrupt import Interrupt
from napari_restore.commands._notes import notes_after, notes_before
from napari_restore.commands._outputs import Item
from napari_restore.commands._progress import Report, reporter
from napari_restore.commands._streams import write_error
from napari_restore.errors import Cancelled
from napari_restore.records import write_record

EXPORT_OPTIONS = ("cog", "compress", "bit_depth", "quality")
"""Options that only shape the file; kept in the record, so that `rerun` writes the same."""


class Runner:
    """Runs plans to their files under one Ctrl-C, telling how it goes.

    `read` are `identities` of the files that are read and so never written; `export` are options of
    the output, by default those of the command. Raises `BadOutput` where they are
    not known.
    """

    def __init__(
        self,
        options: Namespace,
        interrupt: Interrupt,
        read: frozenset[object],
        export: Mapping[str, Any] | None = None,
    ) -> None:
        from napari_restore import api

        asked = {name: getattr(options, name, None) for name in EXPORT_OPTIONS}
        if export is not None:
            asked = dict(export)
        # What was not given is the writer's to choose.
        self._export = {k: v for k, v in asked.items() if v not in (None, False)}
        api.check_export(**self._export)
        self._read = read
        self._began: float = options.began
        self._command = shlex.join(["napari-restore", *options.words])
        self._overwrite: bool = options.overwrite
        self._fresh: bool = getattr(options, "fresh", True)
        self._interrupt = interrupt
        self._tell: Report = reporter(options.progress)
        self._notes: list[str] = []

    def announce(self, item: Item, number: int, images: int) -> None:
        """Tell that the next of several images begins."""
        from napari_restore import api

        if number > 1:  # loading the model is of the first
            self._began = time.perf_counter()
        self._report(api.ImageStarted(Path(item.sources[0]).name, number, images))

    def check(self, item: Item, *, replace: bool = False) -> None:
        """Refuse what exists, before anything is opened. Raises `BadOutput`."""
        refuse_existing(item.output, overwrite=self._overwrite or replace)
        refuse_old_record(item, overwrite=self._overwrite or replace)

    def restore(
        self,
        item: Item,
        image: Any,
        model: Any,
        arguments: dict[str, Any],
        *,
        replace: bool = False,
    ) -> dict[str, Any]:
        """Plan one image with the keywords of `nr.plan` and run it; returns the record.

        With `replace` the output may be replaced whatever the options say.
        """
        from napari_restore import api

        planned = api.plan(
            image, model, maps=item.maps is not None, output=item.output, **arguments
        )
        return self.run(item, planned, replace=replace)

    def run(self, item: Item, planned: Any, *, replace: bool = False) -> dict[str, Any]:
        """Run a plan to its end and write what `item` names; returns the record."""
        from napari_restore import api

        overwrite = self._overwrite or replace
        # Now, not after hours of work.
        api.check_output(
            item.output,
            planned.part or planned.image,
            overwrite,
            region=api.output_box(planned),
            **self._export,
        )
        check_maps(item, planned.maps, self._read, overwrite=self._overwrite)
        self._notes = []
        record = None
        try:
            for note in notes_before(planned):
                self._report(api.Note(note))
            job = api.start(planned, fresh=self._fresh)
            self._interrupt.watch(job)
            try:
                for event in job:
                    self._report(event)
                    record = getattr(event, "record", record)
                result = job.result()
            finally:
                self._interrupt.leave()
            record = result.record
            for note in notes_after(planned, record):
                self._report(api.Note(note))
            if item.maps is not None:
                result.save_maps(item.maps, overwrite=self._overwrite)
            self._write(item.output, result, overwrite)
        except BaseException as error:
            self._keep_of_unfinished(item, planned, record, error)
            # The same command must not find its own maps in the way.
            if item.maps is not None and not self._overwrite:
                for name in planned.maps:
                    (item.maps / f"{name}.tif").unlink(missing_ok=True)
            raise
        complete = self._keep(item, planned, result.record)
        if result.store.path == planned.store:
            # A zarr output is the store itself by now.
            result.store.remove()
        return complete

    def _report(self, event: Any) -> None:
        # By name, so that nothing heavy is loaded to know it.
        if type(event).__name__ == "Note":
            if event.text in self._notes:
                return
            self._notes.append(event.text)
        self._tell(event)

    def _write(self, output: Path, result: Any, overwrite: bool) -> None:
        from napari_restore import api

        self._report(api.Phase("Writing"))
        result.save(
            output,
            overwrite=overwrite,
            progress=lambda done, total: self._report(api.Progress(done, total)),
            cancelled=lambda: self._interrupt.requested,
            **self._export,
        )

    def _keep_of_unfinished(
        self, item: Item, planned: Any, record: dict[str, Any] | None, error: BaseException
    ) -> None:
        """A run that was stopped or failed has a record, too; its own error comes first."""
        if record is None:
            return
        stopped = isinstance(error, (Cancelled, KeyboardInterrupt))
        try:
            told = {**record, "status": "cancelled" if stopped else "failed", "output": None}
            self._keep(item, planned, told)
        except Exception as second:
            write_error(f"no record was written: {second}")

    def _keep(self, item: Item, planned: Any, record: dict[str, Any]) -> dict[str, Any]:
        """The record with the words of the command in it, written where `--record` says."""
        from napari_restore import api

        taken = time.perf_counter() - self._began
        record = {
            "task": api.task_of(planned),
            **record,
            "measured": {**record["measured"], "seconds": taken},
            "command": self._command,
            "notes": list(self._notes),
        }
        if record["output"] is not None:
            record["output"] = {**record["output"], "options": self._export}
        if item.record is not None:
            write_record(item.record, record)
        return record
