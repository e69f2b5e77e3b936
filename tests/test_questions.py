"""An option is one field of one question: keywords, flags, records and copied commands follow."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from napari_restore.api._command_line import command_arguments
from napari_restore.commands import build_parser
from napari_restore.errors import BadParameter
from napari_restore.questions import (
    Adjustment,
    Attend,
    Attribute,
    Format,
    Restore,
    options_of,
    recorded,
)
from napari_restore.records import RecordedTask

QUESTIONS = (Restore, Attribute, Attend, Format)
FLAGS = {name: each for name, each in options_of(Restore).items() if each.has_flag}
OTHERS = {
    "mask": "a.tif",
    "exclude": "b.tif",
    "context": "/c.npz",
    "device": "cuda:1",
    "curve": "0,0:0.5,0.6:1,1",
}
"""Values that are no default."""


def another(name: str) -> Any:
    """Return a value of an option of `Restore` that is not its default."""
    each = FLAGS[name]
    if isinstance(each.default, bool):
        return True
    if each.choices is not None:
        # The last: the first is what others are by default.
        return each.choices[-1]
    return OTHERS.get(name, 2 if each.parse is not None else "1GiB")


def test_the_keywords_are_written_from_the_fields():
    script = Path(__file__).resolve().parent.parent / "scripts" / "keywords.py"
    made = runpy.run_path(str(script))
    assert made["FILE"].read_text(encoding="utf-8") == made["text"]()


@pytest.mark.parametrize("question", QUESTIONS)
def test_consent_is_no_field(question: type):
    """Nothing that a record, a task or a copied command is made of allows code or other files."""
    assert not {"trust", "allow_outside", "overwrite"} & options_of(question).keys()


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_option_says_what_it_is(question: type):
    for name, each in options_of(question).items():
        assert each.help and each.text[0].isupper(), name
        assert getattr(question(), name, each.default) == each.default


def test_a_record_has_what_decides_the_answer():
    assert set(get_type_hints(RecordedTask)["options"].__annotations__) == set(recorded(Restore()))
    machine = {name for name, each in options_of(Restore).items() if each.changes == "machine"}
    # Of tiles that another machine takes one by one the last bits may differ.
    assert machine & set(recorded(Restore())) == {"tile_batch"}


@pytest.mark.parametrize("name", FLAGS)
def test_a_copied_command_has_the_flag_of_what_differs(name: str):
    options = {"region": [[0, 0, 1, 1]], "mask": "a.tif", name: another(name)}
    task = {"image": {"source": "i.tif"}, "model": {"model": "dcp"}, "options": options}
    line = command_arguments(task, (1, 1), "o.tif")
    assert getattr(build_parser().parse_args(line[1:]), name) == options[name]
    plain = command_arguments({**task, "options": {"region": [[0, 0, 1, 1]]}}, (1, 1), "o.tif")
    assert FLAGS[name].flag in line and FLAGS[name].flag not in plain


@pytest.mark.parametrize("name", [n for n, each in options_of(Adjustment).items() if each.limits])
def test_a_number_beyond_its_limits_is_refused(name: str):
    each = options_of(Adjustment)[name]
    assert each.limits is not None
    for value in each.limits:
        assert getattr(Adjustment(**{name: value}), name) == value
    for value in (each.limits[0] - 0.1, each.limits[1] + 0.1, float("nan")):
        with pytest.raises(BadParameter, match="outside"):
            Adjustment(**{name: value})
