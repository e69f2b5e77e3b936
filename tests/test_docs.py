"""The pages of docs: links, places in the navigation, length, and what is made from code."""

from __future__ import annotations

import importlib.util
import inspect
import re
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import napari_restore
from napari_restore import errors
from napari_restore.commands import main
from napari_restore.models import card_of, model_ids

pytestmark = pytest.mark.static

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
LONGEST = 250
LISTS = {"lab/training-images"}
"""Tables that are looked up, not read."""


@cache
def script(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made() -> dict[str, str]:
    """The pages that are made from code, by their names in the navigation."""
    pages: dict[str, str] = script("docs/_ext/reference.py").pages()
    return {
        f"reference/{Path(name).with_suffix('').as_posix()}": text for name, text in pages.items()
    }


def written() -> dict[str, Path]:
    """The pages that lie in docs, by their names in the navigation."""
    found = [*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")]
    names = {path.relative_to(DOCS).with_suffix("").as_posix(): path for path in found}
    return {n: p for n, p in names.items() if not n.startswith(("reference/", "_build/"))}


def entries(node: Any) -> list[str]:
    """Every `file` and `glob` below a node of _toc.yml."""
    if isinstance(node, list):
        return [name for each in node for name in entries(each)]
    if not isinstance(node, dict):
        return []
    own = [node[key] for key in ("root", "file", "glob") if key in node]
    return own + entries(node.get("entries")) + entries(node.get("subtrees"))


def test_every_link_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert script("scripts/check_links.py").main() == 0, capsys.readouterr().out


EXAMPLES = {"mine.py"}
"""Files of a user, in pages."""


def named_in_code(page: Path) -> list[tuple[str, str]]:
    """Return the files that a page names as code, each with what it says stands in them, or ""."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    return re.findall(r"`([\w./-]*\w\.pyi?)`(?: `([^`\n]+)`)?", text)


def holds(file: Path, what: str) -> bool:
    """Whether a file defines each part of a dotted name, or has this line."""
    text = file.read_text("utf-8")
    if re.fullmatch(r"[\w.]+", what):
        return all(re.search(rf"^ *(def|class) {n}\b", text, re.M) for n in what.split("."))
    return f"{what}\n" in text


def test_every_file_that_a_page_names_is_there() -> None:
    roots = (ROOT / "src" / "napari_restore", ROOT, ROOT / "lab" / "src" / "napari_restore_lab")
    pages = [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    decisions, found = DOCS / "decisions", 0
    for page in pages:
        # A decision names the files of its day.
        if page.is_relative_to(decisions) or page.is_relative_to(DOCS / "reference"):
            continue
        for name, what in named_in_code(page):
            file = next((root / name for root in roots if (root / name).is_file()), None)
            assert file or name in EXAMPLES, f"{page.relative_to(ROOT)}: {name}"
            assert not what or (file and holds(file, what)), f"{name} has no {what}"
            found += bool(what)
    assert found > 20


def test_the_glossary_has_few_words_which_modules_and_pages_lead_to() -> None:
    words = re.findall(r"^\| (\w+) \|", (DOCS / "glossary.md").read_text("utf-8"), re.MULTILINE)[1:]
    assert 10 < len(words) <= 15
    assert words == sorted(words)
    texts = [path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py")]
    lines = [line for text in texts for line in text.split("\n") if "docs/glossary.md" in line]
    assert len(lines) > 5
    assert {word for line in lines for word in re.findall(r'"(\w+)"', line)} <= set(words)
    pages = [page for page in DOCS.rglob("*.md") if "glossary.md)" in page.read_text("utf-8")]
    assert len(pages) > 10


def test_every_page_has_one_place_in_the_navigation() -> None:
    names = {*written(), *made()}
    toc = yaml.safe_load((DOCS / "_toc.yml").read_text(encoding="utf-8"))
    listed = entries(toc)
    plain = [name for name in listed if "*" not in name]
    assert len(plain) == len(set(plain))
    assert not set(plain) - names
    placed = set(plain)
    for pattern in set(listed) - set(plain):
        # A page that is named is left out by a pattern, as sphinx-external-toc does.
        matched = {name for name in names if re.fullmatch(pattern.replace("*", "[^/]*"), name)}
        assert matched, pattern
        placed |= matched
    assert placed == names


def test_no_page_is_too_long() -> None:
    pages = {name: path for name, path in written().items() if path.suffix == ".md"}
    lengths = {name: len(path.read_text("utf-8").splitlines()) for name, path in pages.items()}
    assert {name for name, n in lengths.items() if n > LONGEST} == LISTS


def test_every_page_says_first_for_whom_it_is() -> None:
    pages = {name: path for name, path in written().items() if path.suffix == ".md"}
    beginnings = {name: path.read_text("utf-8").split("\n\n")[1] for name, path in pages.items()}
    others = ("decisions/0", "decisions/template", "extending/")
    wanted = {n for n in pages if n != "index" and not n.startswith(others)}
    wanted.add("extending/index")
    assert {n for n in wanted if not beginnings[n].startswith("For ")} == set()


def test_every_public_name_has_a_page() -> None:
    pages = made()
    offered = set(napari_restore.__all__) - {"__version__"}
    assert len(offered) > 15
    for name in offered:
        assert f"napari_restore.{name}\n" in pages[f"reference/python/{name}"]


def owned(kind: type) -> dict[str, Any]:
    """The public members of a class that this package has written, as they lie in it or its bases."""
    found: dict[str, Any] = {}
    for base in kind.__mro__:
        if base.__module__.startswith("napari_restore."):
            for name, value in vars(base).items():
                if not name.startswith("_"):
                    found.setdefault(name, value)
    return found


@cache
def documented() -> dict[str, Any]:
    """What the Python reference shows, by name: functions, classes, their members, errors."""
    found: dict[str, Any] = {
        name: getattr(napari_restore, name)
        for name in napari_restore.__all__
        if name != "__version__"
    }
    for path in script("docs/_ext/reference.py").classes().values():
        module, _, name = path.rpartition(".")
        found[name] = getattr(importlib.import_module(module), name)
    found |= {
        f"errors.{name}": value
        for name, value in vars(errors).items()
        if getattr(value, "__module__", None) == errors.__name__ and not name.startswith("_")
    }
    inside = script("docs/_ext/reference.py").INSIDE
    members = {
        f"{name}.{member}": value
        for name, kind in found.items()
        if isinstance(kind, type)
        for member, value in owned(kind).items()
        if member not in inside.get(name, ())
        if callable(value)
        or isinstance(value, (property, cached_property, classmethod, staticmethod))
    }
    return found | members


def sections(name: str) -> tuple[str, dict[str, str]]:
    """The first line of the docstring of what is `documented`, and its sections by title."""
    value = documented()[name]
    text = (
        inspect.getdoc(value) if isinstance(value, type) else inspect.cleandoc(value.__doc__ or "")
    )
    parts = re.split(r"^([A-Z]\w+)\n-+\n", text or "", flags=re.MULTILINE)
    return parts[0].partition("\n\n")[0].strip(), dict(zip(parts[1::2], parts[2::2], strict=True))


FUNCTIONS = sorted(
    name
    for name, value in documented().items()
    if name in ("Region", "errors.RestoreError")
    or not isinstance(value, (type, property, cached_property))
)


def test_the_reference_has_members_and_errors() -> None:
    assert {"Region", "Region.shift", "Image.read", "Image.shape", "Plan.summary"} < set(
        documented()
    )
    assert {"errors.BadMask", "errors.RestoreError.sentence", "errors.option"} < set(documented())
    assert len(FUNCTIONS) > 120


def test_no_page_leaves_out_a_member_that_is_none() -> None:
    reference = script("docs/_ext/reference.py")
    for name, members in reference.INSIDE.items():
        module, _, _ = reference.classes()[name].rpartition(".")
        kind = getattr(importlib.import_module(module), name)
        assert set(members) <= set(owned(kind))
        assert all(f"{name}.{member}" not in documented() for member in members)


def begins_well(name: str) -> bool:
    """Whether a docstring begins with one sentence in one line, and its quotes stand alone."""
    first, _ = sections(name)
    # numpydoc's GL02, of several lines: the quotes stand on a line of their own.
    lines = (documented()[name].__doc__ or "").split("\n")
    alone = len(lines) == 1 or bool(not lines[-1].strip() and lines[-2].strip())
    return alone and re.fullmatch(r"[^a-z].*\.", first) is not None


def test_every_docstring_begins_with_one_sentence_in_one_line() -> None:
    assert [name for name in sorted(documented()) if not begins_well(name)] == []


def is_complete(name: str) -> bool:
    """Whether the docstring of a function has every parameter, and what it returns."""
    value = documented()[name]
    _, found = sections(name)
    named = [
        each.strip()
        for line in re.findall(r"^\S.*$", found.get("Parameters", ""), re.MULTILINE)
        for each in line.split(",")
    ]
    function = getattr(value, "__func__", value)
    signature = inspect.signature(function)
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    parameters = [stars.get(p.kind, "") + p.name for p in signature.parameters.values()]
    if named != [each for each in parameters if each not in ("self", "cls")]:
        return False
    if isinstance(value, type) or signature.return_annotation == "None":
        return True
    title = "Yields" if "Iterator" in str(signature.return_annotation) else "Returns"
    return re.match(r".+\n    \S", found.get(title, "")) is not None


def test_every_docstring_has_every_parameter_and_what_it_returns() -> None:
    assert [name for name in FUNCTIONS if not is_complete(name)] == []


SHIPPED = [name for name in model_ids() if card_of(name).weights_sha256 is not None]


def test_the_page_of_a_model_has_the_numbers_of_its_card() -> None:
    cards = [(name, card_of(name)) for name in SHIPPED]
    for name, text in ((n, t) for n, c in cards for t in (c.trained_on, c.validated_on)):
        (link,) = re.findall(r"\(docs/(\S+\.md)\)", text)
        page = (DOCS / link).read_text(encoding="utf-8")
        numbers = re.findall(r"\d+(?:\.\d+)?", text.replace(link, ""))
        assert numbers, name
        for number in numbers:
            shown = re.search(rf"(?<![\d.]){re.escape(number)}(?!\d|\.\d)", page)
            assert shown, f"{number} of {name} is not in {link}"


def test_models_with_weights_are_found() -> None:
    assert {"atmosphere", "haze-unet", "ipl-small"} < set(SHIPPED)


def test_the_page_of_a_command_has_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("restore", "attribute", "plan", "cache"):
        main([command, "--help"])
        text, page = capsys.readouterr().out, made()[f"reference/commands/{command}"]
        options = set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE))
        options |= set(re.findall(r"^  -\w [\w|]+, (--[\w-]+)", text, re.MULTILINE))
        assert "--help" in options
        missing = [option for option in options if f"`{option}" not in page]
        assert not missing, f"{command}: {missing}"


def test_every_command_has_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    shown = re.findall(r"^    ([a-z-]+)(?:  |$)", capsys.readouterr().out, re.MULTILINE)
    assert {f"reference/commands/{name}" for name in shown} == {
        name for name in made() if name.startswith("reference/commands/")
    }
