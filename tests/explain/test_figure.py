"""Figures hold what is needed to ask again."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.explain._models import Small, scene, wrapped

import napari_restore as nr
from napari_restore.engine import Region
from napari_restore.errors import BadOutput, BadParameter
from napari_restore.explain import (
    KINDS,
    Attribution,
    MapPiece,
    attribution_summary,
    draw,
    draw_maps,
)
from napari_restore.explain.attention.figure import _digits
from napari_restore.explain.attribution.figure import caption
from napari_restore.questions import CHECK

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def found() -> Attribution:
    box = nr.Region(40, 60, 56, 84)
    return nr.attribute(scene(), wrapped(Small()), box, method="ig", device="cpu")


@pytest.fixture(scope="module")
def checked() -> Attribution:
    box, options = nr.Region(40, 60, 56, 84), {"method": "ig", "steps": 4, "device": "cpu"}
    return nr.attribute(scene(), wrapped(Small()), box, check=CHECK, **options)


@contextmanager
def drawing() -> Iterator[list[Any]]:
    """Give the figures that are made in the block."""
    from matplotlib.figure import Figure

    made: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        real = Figure.__init__

        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            real(self, *args, **kwargs)
            made.append(self)

        patch.setattr(Figure, "__init__", init)
        yield made


def svg(found: Attribution, folder: Path, name: str, **options: Any) -> str:
    return draw(found, folder / f"{name}.svg", **options).read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("width_mm", [88, 180])
@pytest.mark.ids("nightly", "88", "180")
def test_the_curves_of_a_check_are_drawn_with_their_areas(
    found: Attribution, checked: Attribution, tmp_path: Path, width_mm: float
) -> None:
    told = checked.record["attribution"]["checks"][CHECK]
    drawn = svg(checked, tmp_path, "checked", width_mm=width_mm)
    for name in ("insertion", "deletion"):
        for area, order in (
            ("area", "by the map"),
            ("nearest_area", "by distance"),
            ("random_area", "at random"),
        ):
            assert f"{order}, area {told[name][area]:.3f}" in drawn
    for colour in ("#0072b2", "#d55e00", "#555555"):
        # A line in each panel and in each legend.
        assert drawn.count(f"stroke: {colour}") == 4, colour
    assert "by the map" not in svg(found, tmp_path, "unchecked", width_mm=width_mm)


@pytest.mark.slow
def test_a_check_that_tells_nothing_is_said_and_not_drawn(
    checked: Attribution, tmp_path: Path
) -> None:
    told = checked.record["attribution"]
    curves = told["checks"][CHECK]
    empty = {name: dict.fromkeys(curves[name]) for name in ("insertion", "deletion")}
    for change, is_drawn in ((empty, False), ({}, True)):
        attribution = {**told, "checks": {CHECK: {**curves, **change}}}
        other = replace(checked, record={**checked.record, "attribution": attribution})
        drawn = svg(other, tmp_path, f"{is_drawn}")
        assert ("by the map, area" in drawn) is is_drawn
        assert ("at random, area" in drawn) is is_drawn
        assert ("hardly differ in D" in drawn) is not is_drawn


@pytest.mark.nightly
def test_no_line_of_the_caption_is_cut(checked: Attribution, tmp_path: Path) -> None:
    """In one column as in two, the letters end before the figure does."""
    for width_mm in (88, 180):
        drawn = svg(checked, tmp_path, f"{width_mm}", width_mm=width_mm)
        width = float(re.findall(r'<svg[^>]* width="([\d.]+)pt"', drawn)[0])
        lines = re.findall(r"size: ([\d.]+)px[^>]*monospace[^>]*\(([\d.]+) [^>]*>([^<]+)<", drawn)
        # The version may be long, and its line is divided.
        assert len(lines) > 8 and "not why." in " ".join(" ".join(x[2] for x in lines).split())
        for size, x, text in lines:
            # Letters of DejaVu Sans Mono are 0.602 of their size wide.
            assert float(x) + 0.602 * float(size) * len(text) < width, text


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
@pytest.mark.ids("nightly", ".png", ".pdf")
def test_every_format_holds_the_caption(found: Attribution, tmp_path: Path, suffix: str) -> None:
    path = draw(found, tmp_path / f"figure{suffix}")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    if suffix == ".png":
        with Image.open(path) as drawn:
            assert drawn.width == pytest.approx(180 / 25.4 * 300, abs=2)
            assert drawn.info["Description"] == caption(found.record)
            assert len(np.unique(np.asarray(drawn.convert("L")))) > 100
    elif suffix == ".svg":
        assert "not why" in path.read_text(encoding="utf-8")


def pieces_of(found: Attribution) -> list[MapPiece]:
    """Two boxes by two networks, of which the second has maps of a tenth."""
    one = MapPiece.of(found, "roof", "net")
    far = replace(one, row="tea", values=one.values[::-1] / 2)
    small = [replace(each, column="other", values=each.values / 10) for each in (one, far)]
    return [one, far, *small]


def test_several_maps_have_one_scale_and_one_bar(found: Attribution, tmp_path: Path) -> None:
    pieces = pieces_of(found)
    with drawing() as drawn:
        text = draw_maps(
            pieces, tmp_path / "c.svg", width_mm=85, caption=False, limits=(-2e-4, 1e-4)
        )
    (figure,) = drawn
    bars = [axis for axis in figure.axes if axis.get_label() == "<colorbar>"]
    assert len(bars) == 1 and bars[0].get_xlim() == (-2e-4, 1e-4)
    maps = [axis for axis in figure.axes if len(axis.images) == 2]
    assert len(maps) == 4
    peak = np.unravel_index(np.abs(pieces[0].values).argmax(), pieces[0].values.shape)
    clear = [axis.images[1].get_array()[peak][3] for axis in maps]
    # The clearer the smaller, and in all maps by the same measure.
    assert clear[0] > clear[1] > 0
    for axis in maps:
        # The box is in the middle.
        assert np.mean(axis.get_xlim()) == 72 and np.mean(axis.get_ylim()) == 48
    content = (tmp_path / "c.svg").read_text(encoding="utf-8")
    for word in ("roof", "tea", "net", "other", "integrated gradients"):
        assert f">{word}" in content
    assert "monospace" not in content and 'width="240.94' in content
    assert "roof, other:" in text and "-0.0002 … 0.0001 in all maps" in text
    assert text.count("method     ig") == 1
    with pytest.raises(BadParameter, match="no scale in common"):
        draw_maps([pieces[0], replace(pieces[1], kind=KINDS["occlusion"])], tmp_path / "d.png")


def test_panels_and_limits_are_chosen(found: Attribution, tmp_path: Path) -> None:
    figure = found.figure(
        panels=["over", "image"], limits=(-1e-3, 1e-3), caption=False, width_mm=85
    )
    panels = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title(loc="left") for axis in panels] == ["integrated gradients", "image"]
    assert not figure.texts and figure.get_figwidth() == pytest.approx(85 / 25.4)
    bars = [bar for axis in panels for bar in axis.child_axes]
    (bar,) = [each for each in bars if "part of D" in each.get_ylabel()]
    assert bar.get_ylim() == (-1e-3, 1e-3)
    for options, why in (
        ({"panels": ["map", "pam"]}, "no panel pam"),
        ({"panels": ["overview"]}, "no panel overview"),
        ({"limits": (0, 1)}, "leave one out"),
        ({"limits": (1, -1)}, "not in order"),
    ):
        with pytest.raises(BadParameter, match=why):
            draw(found, tmp_path / "f.svg", **options)


@pytest.mark.slow
@pytest.mark.parametrize("width_mm", [85, 180])
def test_no_word_lies_on_another(found: Attribution, width_mm: float) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = found.figure(width_mm=width_mm, caption=False)
    FigureCanvasAgg(figure).draw()
    words = [
        word
        for axis in figure.axes
        for at in (axis, *axis.child_axes)
        for word in (*at.get_xticklabels(), *at.get_yticklabels(), at.xaxis.label, at.yaxis.label)
        if word.get_text() and word.get_visible()
    ]
    boxes = [(word.get_text(), word.get_window_extent()) for word in words]
    assert len(boxes) > 20
    on_another = [
        (one, other)
        for (one, first), (other, second) in itertools.combinations(boxes, 2)
        if first.overlaps(second)
    ]
    assert on_another == []


def test_parameters_are_words_and_entropies_have_digits_that_differ(found: Attribution) -> None:
    model = {**found.record["model"], "parameters": {"sigma": 25, "t0": 0.1}}
    assert "model      mine, sigma 25, t0 0.1, weights " in caption(
        {**found.record, "model": model}
    )
    assert _digits([0.98, 0.5, None]) == 2
    assert _digits([0.9994, 0.9991, 0.3]) == 4
    assert _digits([0.5, 0.5]) == 2 and _digits([0.1, 0.1 + 1e-9]) == 6


def test_an_inset_shows_where_the_box_lies() -> None:
    rng = np.random.default_rng(0)
    box = nr.Region(300, 60, 316, 84)
    found = nr.attribute(
        rng.random((480, 640, 3), np.float32), "identity", box, steps=2, method="ig"
    )
    figure = found.figure(panels=["image"])
    (inset,) = next(axis for axis in figure.axes if axis.images).child_axes
    assert inset.images[0].get_extent() == [0, 640, 480, 0]
    assert [tuple(patch.get_xy()[0]) for patch in inset.patches] == [(60, 300)] * 2


@pytest.mark.nightly
def test_the_caption_says_what_was_asked(found: Attribution) -> None:
    text = caption(found.record)
    told = found.record["attribution"]
    for word in ("mine", "x 60 y 40, 24 x 16", "change", "straight", "blurred", "clenshaw-curtis"):
        assert word in text
    assert f"{told['diffusion_index']:.2f}" in text
    lacking: dict[str, Any] = {**told["completeness"], "relative_gap": 0.2, "reached": False}
    record = {**found.record, "attribution": {**told, "completeness": lacking}}
    assert "NOT complete" in caption(record)


@pytest.mark.slow
def test_dollars_in_names_are_no_formula(found: Attribution, tmp_path: Path) -> None:
    record = {**found.record, "input": {**found.record["input"], "path": "a$\\none$.tif"}}
    record["model"] = {**record["model"], "id": "b$\\none$.py:net"}
    drawn = svg(replace(found, record=record), tmp_path, "dollars")
    assert "a$\\none$.tif" in drawn and "b$\\none$.py:net: ig" in drawn
    axes = replace(found, record=record).plot()
    axes.figure.canvas.draw()


@pytest.mark.parametrize("width", [-5, 0, 3, float("nan"), float("inf")])
def test_a_width_that_nobody_can_print_is_refused(found: Attribution, width: float) -> None:
    with pytest.raises(BadParameter, match="outside 30 … 2000"):
        found.figure(width_mm=width)


@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.npz"])
def test_options_of_rasters_are_refused(found: Attribution, tmp_path: Path, name: str) -> None:
    with pytest.raises(BadOutput, match=rf"cog= is for rasters, and {name} is none"):
        found.save(tmp_path / name, cog=True, overwrite=True)
    assert not (tmp_path / name).exists()


@pytest.mark.slow
def test_what_cannot_be_drawn(found: Attribution, tmp_path: Path) -> None:
    with pytest.raises(BadOutput, match="no figure"):
        draw(found, tmp_path / "figure.gif")
    with pytest.raises(BadParameter, match="exponent"):
        draw(found, tmp_path / "figure.png", exponent=0)
    taken = tmp_path / "figure.png"
    taken.write_text("mine")
    with pytest.raises(BadOutput, match="exists"):
        draw(found, taken)
    assert taken.read_text() == "mine"
    with pytest.raises(BadOutput, match="cannot be written"):
        draw(found, tmp_path / "no" / "figure.png")


@pytest.mark.parametrize("corner", [(0, 0), (40, 60), (112, 136)])
@pytest.mark.slow
@pytest.mark.ids("nightly", "corner0", "corner2")
def test_panels_show_the_window_and_no_more(
    corner: tuple[int, int], drawn: Callable[[Any], Any]
) -> None:
    y, x = corner
    box = (y, x, y + 16, x + 24)
    found = nr.attribute(
        scene(), wrapped(Small()), nr.Region(*box), method="ig", steps=2, device="cpu"
    )
    figure = drawn(found)
    panels = [axis for axis in figure.axes if axis.get_xlabel() and axis.images]
    # Image, result, map, magnitude and area.
    assert len(panels) == 5
    for axis in panels:
        assert axis.get_xlim() == (found.window.x0, found.window.x1)
        assert axis.get_ylim() == (found.window.y1, found.window.y0)
        # What is drawn lies where its pixels are.
        x0, x1, y1, y0 = axis.images[0].get_extent()
        assert axis.images[0].get_array().shape[:2] == (y1 - y0, x1 - x0)
    # In the words of the summary.
    words = attribution_summary(found.record["attribution"]).completeness
    texts = [text.get_text() for text in figure.findobj(type(figure.text(0, 0, "")))]
    assert words in " ".join(" ".join(texts).split())


@pytest.mark.slow
def test_a_map_is_saved_as_its_suffix_says(found: Attribution, tmp_path: Path) -> None:
    for suffix in (".npy", ".npz", ".svg"):
        path = found.save(tmp_path / f"map{suffix}")
        assert found.record["output"]["path"] == str(path)
        with pytest.raises(BadOutput, match="exists"):
            found.save(path)
        found.save(path, overwrite=True)
    np.testing.assert_array_equal(np.load(tmp_path / "map.npy"), found.map)
    with np.load(tmp_path / "map.npz") as arrays:
        np.testing.assert_array_equal(arrays["map"], found.map)
        assert tuple(arrays["region"]) == tuple(found.region)
        record = json.loads(str(arrays["record"]))
    assert record["attribution"]["method"] == "ig" and "output" not in record
    gap = found.record["attribution"]["completeness"]["relative_gap"]
    drawn = (tmp_path / "map.svg").read_text(encoding="utf-8")
    assert (
        f": ig, 9 steps, gap {gap:.2%}" in drawn
        and "part of D(x) − D(x′)" in drawn
        and ">result<" in drawn
    )


def test_a_map_is_drawn_into_axes_and_figures(found: Attribution) -> None:
    axes = found.plot()
    (drawn,) = axes.images
    signed = found.read(found.window).sum(axis=2)
    np.testing.assert_allclose(np.asarray(drawn.get_array()), signed, rtol=1e-4, atol=1e-12)
    assert len(axes.figure.axes) == 2 and "ig" in axes.get_title("left")
    assert found.plot(axes) is axes
    assert {"image", "result"} <= {axis.get_title("left") for axis in found.figure().axes}
    # In another process there is no model to ask.
    assert "result" not in {a.get_title("left") for a in replace(found, output=None).figure().axes}


def test_a_map_is_html_in_a_notebook_and_names_are_escaped(found: Attribution) -> None:
    record = {**found.record, "model": {**found.record["model"], "id": "<script>"}}
    html = replace(found, record=record)._repr_html_()
    assert "data:image/png" in html and "gap" in html
    # For those who do not see the picture: what it is of, and its scale in six digits.
    most = float(np.abs(found.read(found.window).sum(axis=2)).max())
    legend = f"orange {-most:.6g}, white 0, purple {most:.6g}: part of D(x) − D(x′)"
    assert html.count(legend) == 2 and "alt='Attribution: &lt;script&gt; on array, orange" in html
    assert "<script>" not in html and "&lt;script&gt;" in html
    assert len(html) < 200_000


@pytest.mark.parametrize("side", [1, 255, 256, 257, 512, 513])
def test_a_thumbnail_has_at_most_256_pixels_on_a_side(side: int) -> None:
    window = Region(0, 0, side, 3)
    shares = np.ones((side, 3, 2), np.float32)
    read: Any = SimpleNamespace(window=window, read=lambda _: shares, kind=KINDS["ig"])
    picture, most = Attribution._thumbnail(read)
    # Below it the bar, which begins in the colour of what is against D.
    assert most == 2 and picture[-1, 0].tolist() == [127, 59, 8]
    drawn = picture[:-16]
    assert len(drawn) == -(-side // -(-side // 256)) <= 256
    assert drawn[0, 0].tolist() == [45, 0, 75]
