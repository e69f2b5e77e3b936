"""Checks that every relative link in the Markdown pages leads to a file and a heading."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+\s+(.*)$", re.MULTILINE)
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The names that headings get, as GitHub makes them."""
    headings = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


def broken(page: Path) -> list[str]:
    """Links of `page` that lead nowhere."""
    found = []
    for link in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (
            anchor and target.suffix == ".md" and anchor not in anchors(target)
        ):
            found.append(f"{page.relative_to(ROOT)}: {link}")
    return found


def main() -> int:
    docs = ROOT / "docs"
    made = [docs / "reference", docs / "_build"]
    pages = [page for page in docs.rglob("*.md") if not any(map(page.is_relative_to, made))]
    pages += ROOT.glob("*.md")
    problems = [problem for page in sorted(pages) for problem in broken(page)]
    print("\n".join(problems) or f"{len(pages)} pages, every link works")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
