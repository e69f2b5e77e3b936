from __future__ import annotations

import io
import math
import sys
from types import SimpleNamespace

import pytest

from napari_restore.commands import (
    boxes_of_projwin,
    build_parser,
    load_model,
    plan_arguments,
)
from napari_restore.errors import BadModel, BadRegion, InputError
from napari_restore.images import Georeference

WORDS = ["plan", "a.tif", "--model", "dcp"]


def parse(*words):
    return build_parser().parse_args([*WORDS, *words])


def image(transform=None, height=60, width=80):
    georeference = None if transform is None else Georeference(transform=transform)
    return SimpleNamespace(name="a", georeference=georeference, height=height, width=width)


def test_projwin_north_up():
    # 10 m pixels, top left corner at x 500000, y 4000000.
    placed = image((10, 0, 500_000, 0, -10, 4_000_000))
    assert boxes_of_projwin([500_030, 3_999_950, 500_100, 3_999_900], placed) == [(5, 3, 10, 10)]


def test_projwin_south_up():
    placed = image((10, 0, 500_000, 0, 10, 4_000_000))
    assert boxes_of_projwin([500_030, 4_000_100, 500_100, 4_000_050], placed) == [(5, 3, 10, 10)]


def test_projwin_goes_to_the_nearest_pixel_edge():
    placed = image((0.1, 0, 7.3, 0, -0.1, 45.7))
    assert boxes_of_projwin([7.6, 45.4, 7.94, 45.06], placed) == [(3, 3, 6, 6)]


@pytest.mark.parametrize(
    ("window", "box"),
    [
        ([0.5, 9.5, 5.5, 4.5], (0, 0, 5, 5)),
        ([0.4, 9.4, 5.6, 4.6], (0, 0, 5, 5)),
        ([0.6, 9.6, 5.4, 4.4], (0, 0, 5, 5)),
        ([0.9995, 9, 5.9995, 4], (1, 1, 6, 6)),
        ([-1.5, 11, 3, 5], (-1, -2, 5, 3)),
        ([-0.3, 10.2, 3, 5], (-1, -1, 4, 2)),
        ([8.5, 3, 12, -2], (7, 8, 12, 12)),
    ],
)
def test_projwin_selects_the_pixels_of_gdal_translate(window, box):
    # The boxes are those of GDAL 3.6.2 with a grid of 10 × 10 degrees.
    placed = image((1, 0, 0, 0, -1, 10), 10, 10)
    assert boxes_of_projwin(window, placed) == [box]


def test_projwin_in_a_rotated_image_is_the_box_around_its_corners():
    half = math.sqrt(0.5)
    placed = image((half, half, 0, half, -half, 0))  # turned by 45°
    ((y0, x0, y1, x1),) = boxes_of_projwin([0, 10, 10, -10], placed)
    corners = [(half * x + half * y, half * x - half * y) for x in (0, 10) for y in (10, -10)]
    columns, rows = zip(*corners, strict=True)
    assert (x0, y0) == (math.floor(min(columns)), math.floor(min(rows)))
    assert (x1 - x0, y1 - y0) == (round(max(columns) - min(columns)), round(max(rows) - min(rows)))


def test_projwin_needs_a_map():
    with pytest.raises(BadRegion, match="--srcwin"):
        boxes_of_projwin([0, 1, 1, 0], image())


def test_srcwin_is_x_y_width_height():
    words = ["--srcwin", "1", "2", "30", "40"]
    assert plan_arguments(parse(*words), image())["region"] == [(2, 1, 42, 31)]
    words += ["--srcwin", "0", "0", "5", "6"]
    assert plan_arguments(parse(*words), image())["region"] == [(2, 1, 42, 31), (0, 0, 6, 5)]


def test_whole_is_one_tile():
    assert plan_arguments(parse("--tile", "whole"), image())["tile"] == "whole"
    assert plan_arguments(parse("--tile", "256"), image())["tile"] == 256


def test_every_keyword_is_one_of_the_planner():
    from napari_restore.questions import Restore, RestoreKeywords

    given = plan_arguments(parse(), image())
    assert set(given) <= set(RestoreKeywords.__annotations__)
    # What the command line leaves out is what the planner takes by itself.
    assert Restore.of(given) == Restore()


def test_a_run_resumes_unless_told():
    assert [parse(*words).fresh for words in ([], ["--fresh"])] == [False, True]


def test_a_context_file_must_exist():
    with pytest.raises(InputError, match="context"):
        plan_arguments(parse("--context", "missing.npz"), image())


@pytest.mark.parametrize(
    "words",
    [
        ["--srcwin", "0", "0", "1", "1", "--projwin", "0", "1", "1", "0"],
        ["--srcwin", "0", "0", "1"],
        ["--srcwin", "0", "0", "1", "1.5"],
        ["--white", "nan"],
        ["--tile", "0"],
        ["--tile", "big"],
        ["--feather", "-1"],
        ["--set", "omega"],
        ["--set", "=1"],
        ["--other-bands", "ignore"],
        ["--mem", "1GiB"],
    ],
)
def test_wrong_options_end_with_2_and_one_line(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(*words)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("napari-restore: ") and said.count("\n") == 1
    assert said.endswith("--help)\n")


def test_code_of_the_user_runs_only_after_a_yes(monkeypatch, tmp_path):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    marker = tmp_path / "ran"
    code = tmp_path / "own.py"
    code.write_text(f"open({str(marker)!r}, 'w').close()\n")
    options = build_parser().parse_args(["plan", "a.tif", "--model", f"{code}:make"])
    with pytest.raises(BadModel, match="--yes"):
        load_model(options)
    for answer in ("", "n\n", "maybe\n"):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        monkeypatch.setattr(sys, "stderr", Terminal())
        with pytest.raises(BadModel, match="--yes"):
            load_model(options)
    assert not marker.exists()
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    with pytest.raises(BadModel):  # the yes let it run; it has no factory
        load_model(options)
    assert marker.exists()
