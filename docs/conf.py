"""How Sphinx builds the site: `make docs`. The pages also read well where the repository is hosted."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(DOCS / "_ext"))

import reference  # noqa: E402
from docutils import nodes  # noqa: E402

import napari_restore  # noqa: E402

reference.write()

project = "napari-restore"
author = project_copyright = "napari-restore contributors"
version = release = napari_restore.__version__

extensions = [
    "sphinx_external_toc",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
]
external_toc_path = "_toc.yml"
exclude_patterns = ["_build"]
nitpicky = True
# Types of annotations are those of many packages, and of modules that no page lists.
nitpick_ignore_regex = [("py:.*", ".*")]

myst_enable_extensions = ["strikethrough"]
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_output_stderr = "remove"  # progress bars

default_role = "code"
add_module_names = False
autodoc_member_order = "bysource"
autosummary_generate = False
maximum_signature_line_length = 80
python_use_unqualified_type_names = True
numpydoc_show_class_members = False
# All but: where a docstring begins, further sections, and types, which the annotations have.
numpydoc_validation_checks = {"all", "GL01", "ES01", "SA01", "SA04", "EX01", "PR04"}
# Classes, less `Region` and the first error, as the program makes their objects: their parameters are
# on no page. Fields, as numpydoc reads the docstring of their default's type. All other members are checked.
numpydoc_validation_exclude = {
    r"^napari_restore\.([a-z]+\.)+(?!RestoreError$)[A-Z]\w*$",
    *(f"^{re.escape(name)}$" for name in reference.fields()),
}
autodoc_class_signature = "separated"
autodoc_default_options = {"exclude-members": "__init__, __new__"}  # the program makes the objects

html_theme = "pydata_sphinx_theme"
html_title = project
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "show_nav_level": 1,
    "navigation_depth": 3,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
}
html_sidebars = {"index": [], "search": []}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


LINK = re.compile(r"\[([^\]]*)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")
SOURCE = next(
    (
        url
        for name, url in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
        .get("urls", {})
        .items()
        if name.lower() in ("source", "repository")
    ),
    None,
)


def inside(text: str, page: Path) -> str:
    """Lead links of `page` that leave docs/ to pages of the site, else to where the repository is hosted."""

    def led(match: re.Match[str]) -> str:
        label, name, anchor = match[1], match[2], match[3] or ""
        target = Path(os.path.normpath(page.parent / name))
        if target.is_dir() and (target / "index.md").is_file():
            target /= "index.md"
        if target.parent == ROOT and target.name in reference.ROOT_PAGES:
            target = reference.FOLDER / f"{reference.ROOT_PAGES[target.name]}.md"
        if target.is_relative_to(DOCS) and not target.is_dir():
            return f"[{label}]({os.path.relpath(target, page.parent)}{anchor})"
        path = target.relative_to(ROOT).as_posix()
        return f"[{label}]({SOURCE}/blob/main/{path}{anchor})" if SOURCE else label

    return LINK.sub(led, text)


def setup(app: Any) -> None:
    """Rewrite links before a page is parsed."""

    def rewrite(app: Any, name: str, content: list[str]) -> None:
        path = Path(app.env.doc2path(name))
        if path.suffix == ".md":
            content[0] = inside(content[0], path)

    def without_paths(app: Any, document: nodes.document) -> None:
        # A notebook shows where its files lie on the machine that builds the site.
        for shown in document.findall(nodes.raw):
            text = shown.astext().replace(f"{ROOT}/", "")
            shown.children[:] = [nodes.Text(text)]
            shown.rawsource = text

    app.connect("source-read", rewrite)
    app.connect("doctree-read", without_paths)
