"""`plan`, `restore` and `rerun`."""

from __future__ import annotations

import shlex
import shutil
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_restore._commands import Answer
from napari_restore._commands._arguments import load_model, open_image, plan_arguments
from napari_restore._commands._interrupt import Interrupt
from napari_restore._commands._outputs import Item, is_folder, refuse_existing, work_items
from napari_restore._commands._progress import Report, duration, reporter
from napari_restore.errors import InputError, SourceChanged

EXPORT_OPTIONS = ("cog", "compress", "bit_depth", "quality")
"""Options that only shape the file; kept in the record, so that `rerun` writes the same."""


def plan(options: Namespace) -> Answer:
    """Show what `restore` would do."""
    from napari_restore import api

    with Interrupt():
        image = open_image(options, options.paths)
        planned = api.plan(image, load_model(options), **plan_arguments(options, image))
    notes = [f"note: {note}" for note in planned.notes]
    return Answer(planned.to_dict(), "\n".join([planned.summary(), *notes]))


def restore(options: Namespace) -> Answer:
    """Restore one image into a file, or many into a folder."""
    items = work_items(
        options.paths,
        options.output,
        stack=options.stack,
        name=options.name,
        record=options.record,
        maps=options.maps,
    )
    with Interrupt() as interrupt:
        runner = Runner(options, interrupt)
        if len(items) > 1:
            from napari_restore._commands._folder import restore_folder

            return restore_folder(options, items, runner)
        (item,) = items
        refuse_existing(item.output, overwrite=options.overwrite)
        image = open_image(options, item.sources)
        model = load_model(options)
        if is_folder(options.output, options.paths, stack=options.stack):
            item.output.parent.mkdir(exist_ok=True)
        record = runner.restore(item, image, model, plan_arguments(options, image))
    return Answer(record, _sentence(item.output, record))


def rerun(options: Namespace) -> Answer:
    """Repeat the run of a record."""
    from napari_restore import api
    from napari_restore.records import read_record

    record: Mapping[str, Any] = read_record(options.record)
    output = record["output"] or {}
    path = options.output or output.get("path")
    if record.get("task") is None or path is None:
        raise InputError(
            f"{options.record} does not say enough to repeat its run.",
            "Only finished runs of images that lie in files can be repeated.",
        )
    item = Item((str(record["input"]["path"]),), Path(path), None, None)
    refuse_existing(item.output, overwrite=options.overwrite)
    with Interrupt() as interrupt:
        runner = Runner(options, interrupt, export=output.get("options", {}))
        planned = api.plan_of(record["task"])
        if planned.image.fingerprint != record["input"]["fingerprint"]:
            raise SourceChanged(
                f"{item.sources[0]} is not the image that the record tells of.",
                "Restore it as a new image: napari-restore restore.",
            )
        again = runner.run(item, planned)
    return Answer(again, _sentence(item.output, again))


class Runner:
    """Runs plans to their files under one Ctrl-C, telling how it goes."""

    def __init__(
        self, options: Namespace, interrupt: Interrupt, export: Mapping[str, Any] | None = None
    ) -> None:
        given = {name: getattr(options, name, None) for name in EXPORT_OPTIONS}
        self._export = dict(given if export is None else export)
        # What was not given is the writer's to choose.
        self._export = {k: v for k, v in self._export.items() if v not in (None, False)}
        self._command = shlex.join(["napari-restore", *options.words])
        self._overwrite: bool = options.overwrite
        self._fresh: bool = getattr(options, "fresh", True)
        self._interrupt = interrupt
        self._report: Report = reporter(options.progress)

    def restore(
        self, item: Item, image: Any, model: Any, arguments: dict[str, Any]
    ) -> dict[str, Any]:
        """Plan one image with the keywords of `nr.plan` and run it; returns the record."""
        from napari_restore import api

        # Now, not after hours of work.
        api.check_output(item.output, image, overwrite=self._overwrite)
        planned = api.plan(
            image, model, maps=item.maps is not None, output=item.output, **arguments
        )
        return self.run(item, planned)

    def run(self, item: Item, planned: Any) -> dict[str, Any]:
        """Run a plan to its end and write what `item` names; returns the record."""
        from napari_restore import api

        if item.maps is not None:
            for name in planned.maps:
                refuse_existing(item.maps / f"{name}.tif", overwrite=self._overwrite)
        job = api.start(planned, fresh=self._fresh)
        self._interrupt.watch(job)
        record = None
        try:
            for event in job:
                self._report(event)
                record = getattr(event, "record", record)
            result = job.result()
        except BaseException:
            # A stopped run has a record, too.
            self._keep(item, planned, record)
            raise
        finally:
            self._interrupt.leave()
        if item.maps is not None:
            result.save_maps(item.maps, overwrite=self._overwrite)
        self._write(item.output, result)
        complete = self._keep(item, planned, result.record)
        shutil.rmtree(planned.store, ignore_errors=True)
        return complete

    def _write(self, output: Path, result: Any) -> None:
        from napari_restore import api

        self._report(api.Phase("Writing"))
        result.save(
            output,
            overwrite=self._overwrite,
            progress=lambda done, total: self._report(api.Progress(done, total)),
            cancelled=lambda: self._interrupt.requested,
            **self._export,
        )
        self._interrupt.check()

    def _keep(self, item: Item, planned: Any, record: dict[str, Any] | None) -> dict[str, Any]:
        """The record with the words of the command in it, written where `--record` says."""
        if record is None:
            return {}
        from napari_restore import api

        record = {"task": api.task_of(planned), **record, "command": self._command}
        if record["output"] is not None:
            record["output"] = {**record["output"], "options": self._export}
        if item.record is not None:
            from napari_restore.records import write_record

            write_record(item.record, record)
        return record


def _sentence(output: Path, record: Mapping[str, Any]) -> str:
    return f"wrote {output} in {duration(record['measured']['seconds'])}"
