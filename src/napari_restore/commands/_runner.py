"""Runs plans and writes their files and records, with progress and Ctrl-C handling."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from napari_restore import api
from napari_restore.commands._arguments import command_of
from napari_restore.commands._checks import check_maps, refuse_existing, refuse_old_record
from napari_restore.commands._flags import with_flags
from napari_restore.commands._interrupt import Interrupt, interrupt_of
from napari_restore.commands._outputs import Item
from napari_restore.commands._progress import EventCallback, reporter
from napari_restore.commands._streams import write_error
from napari_restore.errors import Cancelled, InputError, RestoreError, option
from napari_restore.records import write_record

SINGLE_PIXEL = "The image is a single pixel; a model's neighbourhood is that pixel alone."


class Runner:
    """Runs plans and writes their files, under one Ctrl-C handler; use it as a context manager.

    `interrupt` is that handler, by default the one for these options. `read` are the `identities` of
    input files, which are never written; `export` are options of the output, by default those of the
    command; `report` gets the events, by default they are written to stderr.
    """

    def __init__(
        self,
        options: Namespace,
        interrupt: Interrupt | None,
        read: frozenset[object],
        export: Mapping[str, Any] | None = None,
        *,
        report: EventCallback | None = None,
    ) -> None:
        self._export = export_options(options) if export is None else dict(export)
        self._partial: frozenset[str] = frozenset()
        """Options that are for some of the outputs only."""
        self._read = read
        self._began: float = options.started
        self._command = command_of(options)
        self.overwrites: bool = options.overwrite
        """Whether existing files may be replaced."""
        self._fresh: bool = getattr(options, "fresh", True)
        self._interrupt = interrupt or interrupt_of(options)
        self._show: EventCallback = report or reporter(options.progress)
        self._writes_errors = report is None
        self._notes: list[str] = []
        self._record: dict[str, Any] | None = None
        """The latest record of the run."""
        self._cluster_name: str | None = getattr(options, "cluster", None)
        self._cluster: Any = None

    def __enter__(self) -> Self:
        self._interrupt.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if self._cluster is not None:
                self._cluster.close()
        finally:
            self._interrupt.__exit__(*error)

    def cancelled(self) -> bool:
        """Return whether Ctrl-C was pressed, or what else cancels the command."""
        return self._interrupt.requested

    def announce(self, item: Item, number: int, images: int) -> None:
        """Report the start of the next of several images."""
        self._interrupt.check()
        if number > 1:  # the first includes loading the model
            self._began = time.perf_counter()
        self.report(api.ImageStarted(Path(item.name).name, number, images))

    def fail(self, item: Item, error: RestoreError) -> None:
        """Write the error of one of several images to stderr, if events are written there."""
        if self._writes_errors:
            write_error(f"{item.name}: {with_flags(error.sentence)}")

    def check_format(self, item: Item) -> None:
        """Raise `BadOutput` for options beyond their limits, and those that the output cannot have."""
        api.check_export(item.output, **self._export_of(item))

    def check_formats(self, items: Sequence[Item]) -> None:
        """Check the options for all outputs as `check_format`."""
        # One that only some of them can have is for those: a note names the formats of the others.
        unfit = {item: api.unfit_options(item.output, **self._export) for item in items}
        for name in sorted(frozenset().union(*unfit.values())):
            others = [item.output.suffix.lower() for item in items if name in unfit[item]]
            if len(others) < len(items):
                self._partial |= {name}
                kinds = " and ".join(sorted(set(others)))
                without = f"{option(name, self._export[name])} is not for {kinds}"
                self.report(api.Note(f"{without}: these files are written without it."))
        for item in items:
            self.check_format(item)

    def _export_of(self, item: Item) -> dict[str, Any]:
        """Return the options of an output, without those that are for other formats."""
        if not self._partial:
            return self._export
        left_out = self._partial & api.unfit_options(item.output, **self._export)
        return {name: each for name, each in self._export.items() if name not in left_out}

    def check(self, item: Item, *, replace: bool = False) -> None:
        """Raise `BadOutput` for existing outputs, before anything is opened."""
        self.check_format(item)
        refuse_existing(item.output, overwrite=self.overwrites or replace)
        refuse_old_record(item, overwrite=self.overwrites or replace)

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
        if self._cluster_name is not None:
            arguments = {**arguments, **self._for_cluster(self._cluster_name, arguments)}
        try:
            planned = api.plan(
                image,
                model,
                maps=item.maps is not None,
                output=becomes_store(item.output, self._export_of(item)),
                **arguments,
            )
        except InputError:
            # They may say why, for instance that a frame of the bracket was left out.
            for note in image.notes:
                self.report(api.Note(note))
            raise
        return self.run(item, planned, replace=replace)

    def _for_cluster(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Connect where that is not done yet; return the options of a plan for its workers."""
        if self._cluster is None:
            self.report(api.Phase("Connecting"))
            self._cluster = api.connect(name)
        options: dict[str, Any] = {"workers": min(self._cluster.threads().values())}
        if arguments.get("memory") is None:
            options["memory"] = self._cluster.default_memory()
        return options

    def run(self, item: Item, planned: Any, *, replace: bool = False) -> dict[str, Any]:
        """Run a plan to its end and write what `item` names; returns the record."""
        overwrite, export = self.overwrites or replace, self._export_of(item)
        # Checked before hours of computation.
        api.check_output(
            item.output,
            planned.image,
            overwrite,
            region=api.output_box(planned, export.get("clip")),
            **export,
        )
        check_maps(item, planned.maps, self._read, overwrite=self.overwrites)
        passed = time.perf_counter() - self._began
        planned = api.of_command(planned, passed, clipped=export.get("clip") is not None)
        self._notes, self._record = [], None
        try:
            image = planned.image
            notes = api.notes_on_output(item.output, image)
            if image.height == image.width == 1:
                notes.append(SINGLE_PIXEL)
            for note in notes:
                self.report(api.Note(note))
            result = self._restored(planned)
            self._record = result.record
            asked, ev = planned.adjustment.exposure, result.adjustment.ev
            if asked == "auto" or (asked is None and ev):
                self.report(api.Note(f"Exposure measured: {ev:+.2f} EV."))
            if item.maps is not None:
                result.save_maps(item.maps, overwrite=self.overwrites)
            self._write(item, result, overwrite)
        except BaseException as error:
            self._save_unfinished_record(item, planned, error)
            # Otherwise the same command would refuse to replace its own maps.
            if item.maps is not None and not self.overwrites:
                for name in planned.maps:
                    (item.maps / f"{name}.tif").unlink(missing_ok=True)
            raise
        complete = self._save_record(item, result.plan, result.record)
        if result.store.path == result.plan.store:
            # A zarr output has become the store itself.
            result.store.remove()
        return complete

    def _restored(self, planned: Any) -> Any:
        """Return the result of a plan; keep the last record that it reports."""
        while True:
            job = api.start(planned, cluster=self._cluster, fresh=self._fresh)
            with self._interrupt.watching(job):
                for event in job:
                    self.report(event)
                    self._record = getattr(event, "record", self._record)
                try:
                    return job.result()
                except FileNotFoundError as error:
                    # The same command elsewhere removes the store when it has written its file.
                    if error.filename != str(planned.store):
                        raise

    def report(self, event: Any) -> None:
        """Tell of an event; of equal notes once."""
        # By name, to avoid an import of the engine.
        if type(event).__name__ == "Note":
            if event.text in self._notes:
                return
            self._notes.append(event.text)
        self._show(event)

    def _write(self, item: Item, result: Any, overwrite: bool) -> None:
        began, predicted = time.perf_counter(), result.plan.prediction.stages["write"]

        def progress(done: int, total: int) -> None:
            seconds = time.perf_counter() - began
            left = api.seconds_left(done, total, seconds, predicted=predicted)
            self.report(api.Progress(done, total, left))

        self.report(api.Phase("Writing"))
        result.save(
            item.output,
            overwrite=overwrite,
            progress=progress,
            cancelled=self.cancelled,
            **self._export_of(item),
        )

    def _save_unfinished_record(self, item: Item, planned: Any, error: BaseException) -> None:
        """Write the record of a cancelled or failed run; errors here do not hide its own."""
        if (record := self._record) is None:
            return
        stopped = isinstance(error, (Cancelled, KeyboardInterrupt))
        try:
            record_now = {**record, "status": "cancelled" if stopped else "failed", "output": None}
            self._save_record(item, planned, record_now)
        except Exception as second:
            cause = second.sentence if isinstance(second, RestoreError) else second
            write_error(f"no record was written: {with_flags(cause)}")

    def _save_record(self, item: Item, planned: Any, record: dict[str, Any]) -> dict[str, Any]:
        """Complete the record with command and notes; write it where `--record` names a file."""
        seconds = time.perf_counter() - self._began
        record = {
            "task": api.task_of(planned),
            **record,
            "measured": {**record["measured"], "seconds": seconds},
            "command": self._command,
            "notes": list(self._notes),
        }
        if record["output"] is not None:
            export = self._export_of(item)
            options = {name: export[name] for name in api.EXPORT_OPTIONS if name in export}
            record["output"] = {**record["output"], "options": options}
        if item.record is not None:
            write_record(item.record, with_flags(record))
        return record


def export_options(options: Namespace) -> dict[str, Any]:
    """Return the options of `Result.save` that were given; the others keep its defaults."""
    requested = {name: getattr(options, name, None) for name in api.EXPORT_OPTIONS}
    return {k: v for k, v in requested.items() if v not in (None, False)}


def becomes_store(output: Path, export: Mapping[str, Any]) -> Path | None:
    """Return the output as a plan is given it: tiles are not written to a file of other values."""
    return None if export.get("bit_depth") else output
