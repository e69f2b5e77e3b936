"""Records as tasks: read once, and compare_rows with the files of today."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from napari_restore.api._images import Pathlike

if TYPE_CHECKING:
    from napari_restore.images import Image
    from napari_restore.models import RestorationModel


@dataclass(frozen=True)
class Recorded:
    """What a file tells of a run that is over, for `repeat_of` and its like."""

    path: Path
    told: Mapping[str, Any]
    """As `napari_restore.records` describes it."""

    ANEW: ClassVar[Mapping[str, str]] = {
        "restoration": "Restore it as a new image: napari-restore restore.",
        "attribution": "Ask anew: napari-restore attribute.",
        "table": "Ask anew: napari-restore attribute.",
    }

    @property
    def kind(self) -> str:
        """``"restoration"``, ``"attribution"`` or ``"table"``, of many attributions."""
        if "attribution" in self.told:
            return "attribution"
        return "table" if "rows" in self.told else "restoration"

    @property
    def models(self) -> list[str]:
        """Ids and files of the models that repeating it would load."""
        task = self.told.get("task") or {}
        specs = [each["spec"] for each in task["models"]] if "models" in task else []
        specs += [task["model"]] if "model" in task else []
        return [spec["model"] for spec in specs]

    def task(self, kind: str, *, allow_outside: bool = False) -> dict[str, Any]:
        """All that is needed to do it again; see `with_consent`.

        Raises `InputError` where that is not known, or the record is of another `kind`.
        """
        from napari_restore.errors import InputError

        if self.kind != kind:
            raise InputError(
                f"{self.path} tells of another kind of run: {self.kind}.",
                f"Repeat it with: napari-restore rerun {self.path}.",
            )
        if self.told.get("task") is None:
            raise InputError(
                f"{self.path} does not say enough to repeat it.",
                "Only finished runs of images and models that lie in files can be repeated.",
            )
        return with_consent(self.told["task"], allow_outside=allow_outside)

    def check_image(self, image: Image, fingerprint: str, what: str = "image") -> None:
        """Raise `SourceChanged` for an image that is not the one told of; `what` it is."""
        if image.fingerprint != fingerprint:
            raise self._changed(f"{image.name} is not the {what} that {self.path} tells of.")

    def check_model(self, model: RestorationModel, weights_sha256: str | None) -> None:
        """Raise `SourceChanged` for a model with other weights than those told of."""
        if model.card.weights_sha256 != weights_sha256:
            raise self._changed(
                f"The weights of {model.card.id} are not those that {self.path} tells of."
            )

    def check_files(self, digests: Mapping[str, str]) -> None:
        """Raise `SourceChanged` for a file whose sha256 is not the one told, by its path."""
        from napari_restore.engine import digest

        for name, told in digests.items():
            if not Path(name).exists() or digest(Path(name)) != told:
                raise self._changed(f"{name} is not the file that {self.path} tells of.")

    def _changed(self, sentence: str) -> Exception:
        from napari_restore.errors import SourceChanged

        return SourceChanged(sentence, self.ANEW[self.kind])


def with_consent(task: Mapping[str, Any], *, allow_outside: bool) -> dict[str, Any]:
    """A task that lay in a file, with what the user says today of files its images name elsewhere.

    What the file itself says of that does not count: it may come from anybody.
    """
    found = dict(task)
    for name in ("image", "mosaic"):
        if found.get(name) is not None:
            found[name] = _spec(found[name], allow_outside)
    if "images" in found:
        found["images"] = [
            {**each, "spec": _spec(each["spec"], allow_outside)} for each in found["images"]
        ]
    return found


def _spec(spec: Mapping[str, Any], allow_outside: bool) -> dict[str, Any]:
    kept = {name: value for name, value in spec.items() if name != "allow_outside"}
    return {**kept, "allow_outside": True} if allow_outside else kept


def read_recorded(record: Pathlike | Recorded) -> Recorded:
    """The record in a JSON file; one that was read already comes back. Raises `InputError`."""
    from napari_restore.records import read_account

    if isinstance(record, Recorded):
        return record
    return Recorded(Path(record), read_account(Path(record)))
