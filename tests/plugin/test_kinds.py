"""Every door shows a map in the words of its kind, and in those of no other."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from tests.explain._attention import attention_of, maps_of
from tests.explain._models import Small, scene, wrapped

import napari_restore as nr
from napari_restore.commands._attend import attention_lines
from napari_restore.commands._attribute import _summary_lines
from napari_restore.engine import Region
from napari_restore.explain import KINDS, Attribution, Kind, kind_of
from napari_restore.explain.attention.ablation import HeadEffect
from napari_restore.explain.attention.figure import draw_attention
from napari_restore.explain.attribution.methods import METHODS, explainer_ids
from napari_restore.explain.kinds import OF_METHOD, OF_SITE
from napari_restore.plugin.attention.attention_tab import numbers_text
from napari_restore.plugin.attention.layers import AttentionLayers
from napari_restore.plugin.attribution.layers import AttributionLayers, picture_of
from napari_restore.plugin.attribution.results_section import report
from napari_restore.plugin.results.variant_text import table_of

pytest.importorskip("matplotlib")

Doors = dict[str, str]
METHOD_OF = {kind: method for method, kind in reversed(OF_METHOD.items())}
SITE_OF = {kind: site for site, kind in OF_SITE.items()}
LAYER = {"name": "body", "kind": "Conv2d", "channels": 8, "stride": 1}
ABOUT_LAYERS = [
    kind for kind, method in METHOD_OF.items() if ":Layer" in method or "Internal" in method
]
OF_ATTENTION = ["attention", "attended-by", "rollout", "relevance", *OF_SITE.values()]
ELSEWHERE = ["without", "redundancy"]
OF_ATTRIBUTION = [kind for kind in KINDS if kind not in (*OF_ATTENTION, *ELSEWHERE)]


@pytest.fixture(scope="module")
def found() -> Attribution:
    box = nr.Region(20, 20, 36, 40)
    return nr.attribute(scene(48, 56), wrapped(Small()), box, method="ig", steps=2, device="cpu")


@pytest.fixture
def viewer() -> Any:
    from napari.components import ViewerModel

    viewer = ViewerModel()
    viewer.add_image(scene(48, 56), rgb=True)
    return viewer


def of_kind(found: Attribution, name: str) -> Attribution:
    """The map as if a method of this kind had made it."""
    recorded = found.record["attribution"] | {"method": METHOD_OF.get(name, "its-own")}
    if name in ABOUT_LAYERS:
        recorded["layer"] = LAYER
    if name != "ig":
        # Only paths claim that shares add up.
        recorded |= {"path": None, "arguments": {}}
    recorded["map"] = kind_of(recorded)._asdict()
    return replace(found, record=found.record | {"attribution": recorded})


def words(figure: Any) -> str:
    from matplotlib.text import Text

    return " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())


def plain(text: str) -> str:
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", text)).split())


def doors_of_attribution(found: Attribution, viewer: Any, folder: Path) -> Doors:
    layers = AttributionLayers(viewer, viewer.layers[0], "1", 1)
    layers.finish(picture_of(found), found.record, "map", 0.5)
    assert layers.map is not None
    assert is_diverging(layers.map) is found.kind.is_signed
    assert ("area" in layers.views) is (found.record["attribution"]["layer"] is None)
    recorded = found.record | {"measured": {"seconds": 1.0}}
    found.save(folder / "map.tif", overwrite=True)
    with rasterio.open(folder / "map.tif") as file:
        tag = file.tags()["NAPARI_RESTORE"]
    return {
        "figure": words(found.figure()),
        "window": plain(table_of(report(found))),
        "layer": layers.map.metadata["about"],
        "HTML": plain(found._repr_html_()),
        "record": " ".join(
            map(str, json.loads(json.dumps(found.record["attribution"]["map"])).values())
        ),
        "terminal": " ".join(_summary_lines(Path("map.tif"), recorded, ())),
        "file": tag,
    }


def doors_of_attention(name: str, viewer: Any, folder: Path) -> Doors:
    cells = [[[y, x] for y in range(3, 6) for x in range(3, 6)]] * 2
    low = -0.5 if KINDS[name].is_signed else 0.0
    weights = np.linspace(low, 0.25, 18).reshape(2, 9).tolist()
    maps = maps_of(weights, cells, (4, 4), (48, 56), kind=SITE_OF.get(name, "window"))
    if name in ("attended-by", "rollout", "relevance"):
        maps = replace(maps, shows=name)
    if name == "likeness":
        of_matrix = {"entropy": np.full(2, 0.5), "contribution": np.full(2, 0.5)}
        maps = replace(maps, numbers=of_matrix)
    assert maps.kind is KINDS[name]
    image = nr.open_image(scene(48, 56), bands="red=1,green=2,blue=3")
    found = attention_of(image, maps)
    if name == "rollout":
        blocks = {maps.site.name: ["a.0", maps.site.name]}
        found.record["attention"]["rollout"] = {"residual_weight": 0.25, "blocks": blocks}
    found.record["attention"]["queries"] = [{"measures": found.queries[0].measures}]
    layers = AttentionLayers(viewer)
    layers.make(viewer.layers[0])
    order = [layer.name for layer in viewer.layers]
    layers.show(viewer.layers[0], maps, ["1"], spread=False)
    # Other colours take another layer: in the same place.
    assert [layer.name for layer in viewer.layers] == order
    assert layers.map is not None and is_diverging(layers.map) is maps.kind.is_signed
    draw_attention(found, folder / "heads.svg", overwrite=True)
    drawn = plain((folder / "heads.svg").read_text("utf-8"))
    if name == "rollout":
        assert "a.0 > a.1; residual weight 0.25" in drawn and "own cell" in drawn
    found.save(folder / "map.tif", overwrite=True)
    with rasterio.open(folder / "map.tif") as file:
        tag = file.tags()["NAPARI_RESTORE"]
    (layer,) = found.record["attention"]["layers"]
    return {
        "figure": drawn,
        "window": numbers_text(found.queries[0], maps.site.name, "1"),
        "layer": layers.map.metadata["about"],
        "HTML": plain(found._repr_html_()),
        "record": " ".join(map(str, layer["map"].values())),
        "terminal": " ".join(attention_lines(Path("map.tif"), found.record)),
        "file": tag,
    }


def doors_elsewhere(name: str, viewer: Any, folder: Path) -> Doors:
    if name == "without":
        effect = HeadEffect("a.1", "1", Region(8, 8, 24, 24), np.ones((16, 16, 3), np.float32))
        layer = AttentionLayers(viewer).add_effect(viewer.layers[0], effect, "a 1")
        assert is_diverging(layer)
        return {"layer": layer.metadata["about"]}
    maps = maps_of([[1.0], [1.0]], [[[4, 4]]] * 2, (4, 4), (48, 56))
    image = nr.open_image(scene(48, 56), bands="red=1,green=2,blue=3")
    found = replace(attention_of(image, maps), redundancy={"a.1": np.eye(2)})
    draw_attention(found, folder / "heads.svg", overwrite=True)
    own = plain((folder / "heads.svg").read_text("utf-8"))
    # The panels of its heads are a kind of their own.
    return {"figure": " ".join(without(own, KINDS["attention"]))}


def is_diverging(layer: Any) -> bool:
    low, high = layer.contrast_limits
    assert low == (-high if layer.colormap.name == "attribution" else 0)
    return bool(layer.colormap.name == "attribution")


def phrases(kind: Kind) -> Iterator[str]:
    return (
        part
        for part in (kind.title, kind.value, kind.says, kind.total, kind.blank)
        if len(part) > 3
    )


def without(text: str, kind: Kind) -> list[str]:
    """What is left of a text without the phrases of a kind, the longest first."""
    own = sorted(phrases(kind), key=len, reverse=True)
    return re.split("|".join(re.escape(part) for part in own), text)


SHOWN = {
    "figure": ("title", "value", "says"),
    "window": ("says",),
    "layer": ("title", "value", "scale", "says", "total", "blank"),
    "HTML": ("title", "says"),
    "record": ("title", "value", "scale", "says", "total", "blank"),
    "terminal": ("title", "says"),
    "file": ("title", "value", "scale", "says", "total", "blank"),
}


@pytest.mark.parametrize("name", list(KINDS))
@pytest.mark.ids("nightly", "haze", "expected", "sensitivity", "input-gradient", "shapley", "lime")
def test_every_door_has_the_words_of_the_kind_and_of_no_other(
    name: str, found: Attribution, viewer: Any, tmp_path: Path
) -> None:
    kind = KINDS[name]
    if name in ELSEWHERE:
        doors = doors_elsewhere(name, viewer, tmp_path)
    elif name in OF_ATTENTION:
        doors = doors_of_attention(name, viewer, tmp_path)
    else:
        doors = doors_of_attribution(of_kind(found, name), viewer, tmp_path)
    if name == "redundancy":
        doors = {"figure": doors["figure"]}
    for door, text in doors.items():
        for part in SHOWN[door]:
            assert getattr(kind, part) in text, (door, part, text)
        for rest in without(text, kind):
            foreign = [each for other in KINDS.values() for each in phrases(other) if each in rest]
            assert not foreign, (door, foreign, rest)
        print(f"{name:20} {door:9} {text}")


def test_every_method_and_site_has_a_kind() -> None:
    from typing import get_args

    from napari_restore.models._attention import AttentionKind

    assert {*METHODS, *explainer_ids()} <= {*OF_METHOD}
    assert {*OF_METHOD.values(), *OF_ATTENTION, *ELSEWHERE, "other"} == {*KINDS}
    assert {*OF_SITE} < {*get_args(AttentionKind)}
    captum = pytest.importorskip("captum.attr")
    assert captum is not None
    from napari_restore.explain.attribution.captum import PREFIX, runnable_names

    assert {PREFIX + name for name in runnable_names()} <= {*OF_METHOD}


@pytest.mark.parametrize(
    ("method", "arguments", "signed"),
    [
        ("captum:Saliency", {}, False),
        ("captum:Saliency", {"abs": False}, True),
        ("captum:LayerGradCam", {"relu_attributions": True}, False),
        ("captum:LayerGradCam", {"relu_attributions": False}, True),
        ("smoothgrad", None, True),
    ],
)
def test_the_scale_follows_what_is_cut_off(method: str, arguments: Any, signed: bool) -> None:
    assert kind_of({"method": method, "arguments": arguments}).is_signed is signed
