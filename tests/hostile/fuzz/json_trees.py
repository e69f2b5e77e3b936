"""Changes JSON: keys removed, retyped, renamed, nested, doubled; values that nobody expects."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from programs import CRS

DEEP = '"deep"'
"""Stands for a nesting that no writer of JSON would write."""
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 0.5, 2**31, 2**63, -(2**63), 10**30, 1e308, float("nan"),
    float("inf"), -float("inf"), "", "x", "0", "nan", "a" * 2000, "a\0b", "\x1b[31m", "\ud800", "../x",
    "/@ROOT@/victim/secret.tif", "../victim/secret.tif", "/etc/passwd", "/dev/zero", "@SERVER@/a.tif",
    "/vsicurl/@SERVER@/a.tif", "random:1", "code.py:make", "/@ROOT@/victim/code.py:make",
    "/@ROOT@/victim/code.pt2", "identity", "dcp", [], {}, [[]], [None], [0, 0], [1, 2, 3, 4], [-1, -1, -1, -1],
    [[0, 0, 2**40, 2**40]], ["a"], {"a": 1}, {"": None}, "deep", "<VRTDataset/>", "|O", "float64",
    *CRS,
)  # fmt: skip


def change_json(data: bytes, rng: random.Random, mutate: Any = None) -> tuple[bytes, str]:
    """One place of the tree, chosen evenly over all places."""
    tree = json.loads(data)
    places = list(_places(tree, ()))
    where = rng.choice(places)
    what = rng.choice(
        ("value", "value", "value", "number", "remove", "rename", "double", "add", "swap", "repeat")
    )
    told = f"{what} of {'.'.join(map(str, where)) or 'all'}"
    if not where:
        return _written(rng.choice(VALUES)), told
    parent, key = _at(tree, where[:-1]), where[-1]
    old = parent[key]
    if what == "value":
        parent[key] = rng.choice(VALUES)
    elif what == "number" and isinstance(old, (int, float)):
        parent[key] = rng.choice(
            (-old, old + 1, old * 1000, old + 0.5, str(old), [old], old - 1, old * 2**40)
        )
    elif what == "remove":
        del parent[key]
    elif what == "rename" and isinstance(parent, dict):
        parent[rng.choice((key.upper(), key + "x", "", "trust", "overwrite", "allow_outside"))] = (
            parent.pop(key)
        )
    elif what == "add" and isinstance(parent, dict):
        name = rng.choice(
            ("trust", "overwrite", "allow_outside", "scratch", "device", "memory", "unknown", "")
        )
        parent[name] = rng.choice(VALUES)
    elif what == "swap":
        parent[key] = copy.deepcopy(_at(tree, rng.choice(places)))
    elif what == "repeat" and isinstance(parent, list):
        parent[key:key] = [old] * rng.choice((1, 5, 3000))
    elif what == "double" and isinstance(parent, dict):
        parent["\0double"] = [key, rng.choice(VALUES)]
    else:
        parent[key] = {key if isinstance(key, str) else "a": old}
    return _written(tree), told


def change_lines(data: bytes, rng: random.Random, mutate: Any) -> tuple[bytes, str]:
    """One of several lines of JSON: changed, removed, doubled or moved."""
    lines = data.splitlines(keepends=True)
    number = rng.randrange(len(lines))
    what = rng.choice(("json", "json", "remove", "double", "move", "torn"))
    if what == "json":
        lines[number], told = change_json(lines[number], rng)
        lines[number] += b"\n"
        return b"".join(lines), f"line {number}: {told}"
    if what == "remove":
        del lines[number]
    elif what == "double":
        lines[number:number] = [lines[number]] * rng.choice((1, 1000))
    elif what == "move":
        rng.shuffle(lines)
    else:
        lines[number] = lines[number][: len(lines[number]) // 2]
    return b"".join(lines), f"line {number}: {what}"


def _places(tree: Any, above: tuple[Any, ...]) -> Any:
    yield above
    if len(above) > 40:
        return
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _places(value, (*above, key))
    elif isinstance(tree, list):
        for number, value in enumerate(tree[:50]):
            yield from _places(value, (*above, number))


def _at(tree: Any, where: tuple[Any, ...]) -> Any:
    for key in where:
        tree = tree[key]
    return tree


def _written(tree: Any) -> bytes:
    """The tree as JSON, with keys that stand twice and nesting beyond any limit where asked for."""
    text = json.dumps(tree)
    while '"\\u0000double": [' in text:
        # `"\0double": ["key", value]` becomes `"key": value`, which is there already.
        start = text.index('"\\u0000double": [')
        key, end = json.JSONDecoder().raw_decode(text, start + 17)
        value, last = json.JSONDecoder().raw_decode(text, end + 2)
        text = f"{text[:start]}{json.dumps(key)}: {json.dumps(value)}{text[last + 1 :]}"
    return text.replace(DEEP, "[" * 100_000 + "]" * 100_000).encode("utf-8", "surrogatepass")
