"""Record files as tasks, and the check that their input files are unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from napari_restore import engine, models
from napari_restore.api._images import Pathlike

if TYPE_CHECKING:
    from napari_restore.images import Image
    from napari_restore.models import RestorationModel


@dataclass(frozen=True)
class RecordFile:
    """The record of a finished run in a file, for `repeat_of`, `repeat_attribution`."""

    path: Path
    record: Mapping[str, Any]
    """In the format of `napari_restore.records`."""

    RUN_AGAIN: ClassVar[Mapping[str, str]] = {
        "restoration": "Restore it as a new image: napari-restore restore.",
        "attribution": "Run it again: napari-restore attribute.",
        "attention": "Run it again: napari-restore attend.",
        "table": "Run it again: napari-restore attribute.",
    }

    @property
    def kind(self) -> str:
        """``"restoration"``, ``"attribution"``, ``"attention"`` or ``"table"``, of many attributions."""
        if "attention" in self.record:
            return "attention"
        if "attribution" in self.record:
            return "attribution"
        return "table" if "rows" in self.record else "restoration"

    @property
    def code(self) -> list[str]:
        """Models and objective of a rerun, the files whose code it runs among them."""
        task = self.record.get("task") or {}
        objective = (task.get("question") or {}).get("objective")
        specs = [task["model"]] if "model" in task else []
        return [spec["model"] for spec in specs] + ([] if objective is None else [objective])

    def task(self, kind: str, *, allow_outside: bool = False) -> dict[str, Any]:
        """Return the task that repeats the run; see `with_consent`.

        Raises `InputError` where the record has none, or is of another `kind`.
        """
        from napari_restore.errors import InputError

        if self.kind != kind:
            raise InputError(
                f"{self.path} is the record of another kind of run: {self.kind}.",
                f"Repeat it with: napari-restore rerun {self.path}.",
            )
        if self.record.get("task") is None:
            raise InputError(
                f"{self.path} does not contain enough to repeat the run.",
                "Only finished runs of images, models, objectives and baselines in files can be repeated.",
            )
        return with_consent(self.record["task"], allow_outside=allow_outside)

    def check_image(self, image: Image, fingerprint: str, what: str = "image") -> None:
        """Raise `SourceChanged` for an image other than the recorded one; `what` names it."""
        if image.fingerprint != fingerprint:
            raise self._changed(f"{image.name} is not the {what} of the record {self.path}.")

    def check_frames(self, image: Image) -> None:
        """Raise `SourceChanged` for a bracket with a frame other than the recorded one."""
        for frame, known in zip(image.frames, self.record.get("frames", ()), strict=False):
            self.check_image(frame, known["fingerprint"], "frame")

    def check_model(self, model: RestorationModel, known: Mapping[str, Any]) -> None:
        """Raise `SourceChanged` for a model that differs from what the record has `known` of it."""
        part = models.changed_part(model, known)
        # A version with another default, or one more, gives another result.
        if part is None and known.get("parameters") not in (None, dict(model.card.values)):
            part = "parameters"
        if part is not None:
            raise self._changed(
                f"The {part} of {model.card.id} are not those of the record {self.path}."
            )

    def check_read(self, read: Mapping[str, str | None]) -> None:
        """Raise `SourceChanged` for a mask or a context, by digest, that is not the recorded one."""
        for name, known in self.record["plan"].get("read", {}).items():
            if known != read[name]:
                raise self._changed(f"The {name} is not that of the record {self.path}.")

    def check_files(self, digests: Mapping[str, str]) -> None:
        """Raise `SourceChanged` for a file, by path, whose sha256 is not the recorded one."""
        for name, sha256 in digests.items():
            if not Path(name).exists() or engine.digest(Path(name)) != sha256:
                raise self._changed(f"{name} is not the file of the record {self.path}.")

    def _changed(self, sentence: str) -> Exception:
        from napari_restore.errors import SourceChanged

        return SourceChanged(sentence, self.RUN_AGAIN[self.kind])


def with_consent(task: Mapping[str, Any], *, allow_outside: bool) -> dict[str, Any]:
    """Return a task from a file with the user's present consent to VRT sources outside its folder.

    The consent in the file itself is ignored: it may come from anybody.
    """
    if task.get("image") is None:
        return dict(task)
    spec = {name: value for name, value in task["image"].items() if name != "allow_outside"}
    return {**task, "image": spec | ({"allow_outside": True} if allow_outside else {})}


def read_record_file(record: Pathlike | Mapping[str, Any] | RecordFile) -> RecordFile:
    """Read the record in a JSON file, or one in memory; a `RecordFile` is returned as it is.

    Raises `InputError`.
    """
    from napari_restore.records import IN_MEMORY, read_any_record

    if isinstance(record, RecordFile):
        return record
    path = IN_MEMORY if isinstance(record, Mapping) else record
    return RecordFile(Path(path), read_any_record(record))
