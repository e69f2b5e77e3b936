"""Maps of heads lie where the network looked; numbers of heads are those of their definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.explain._attention import HEADS, SITE, STRIDE, looked, looking_right, maps_of
from tests.support import attending_networks as networks

import napari_restore as nr
from napari_restore.engine import Note, Region
from napari_restore.engine.rows import PlacedRow
from napari_restore.errors import BadParameter, BadRegion, InputError
from napari_restore.explain.attention.head_maps import head_maps, mean_of
from napari_restore.explain.attention.measures import measures
from napari_restore.explain.attention.queries import SAMPLES, Query, queries_in
from napari_restore.models import load

SIZE = 101, 142  # pixels: the last cells are cut by the image's edge
PIXELS = [(0, 0), (100, 141), (63, 64), (64, 63), (3, 139), (50, 137)]


def scene() -> Any:
    return np.random.default_rng(0).random((*SIZE, 3), np.float32)


@pytest.fixture(scope="module")
def found() -> Any:
    """The look of the network that looks to the right, for `PIXELS`."""
    return looked(scene(), *PIXELS)


def cell_of(y: int, x: int) -> Region:
    top, left = STRIDE * (y // STRIDE), STRIDE * (x // STRIDE)
    return Region(top, left, top + STRIDE, left + STRIDE)


def right_of(y: int, x: int) -> tuple[int, int]:
    return y // STRIDE, x // STRIDE + 1


@pytest.mark.parametrize("number", range(len(PIXELS)))
def test_a_head_that_looks_right_lies_there(found: Any, number: int) -> None:
    y, x = PIXELS[number]
    maps = found.maps(query=number)
    assert maps.query == cell_of(y, x)
    looks = maps.map("right")
    assert looks.stride == STRIDE
    lit = np.argwhere(looks.values == 1) + np.array(looks.region[:2])
    expected = [right_of(y, x)] if right_of(y, x)[1] < -(-SIZE[1] // STRIDE) else []
    assert [tuple(cell) for cell in lit] == expected
    assert looks.region.intersect(Region(*right_of(y, x), *(at + 1 for at in right_of(y, x))))


def test_a_box_is_the_mean_of_its_cells() -> None:
    box = Region(8, 20, 16, 32)  # 2 × 3 cells
    maps = looked(scene(), box).maps()
    assert maps.query == box
    values, region, _ = maps.map("right")
    lit = {(int(y), int(x)) for y, x in np.argwhere(values > 0) + np.array(region[:2])}
    assert lit == {(y, x) for y in (2, 3) for x in (6, 7, 8)}
    np.testing.assert_allclose(values[values > 0], 1 / 6, rtol=1e-6)
    np.testing.assert_allclose(maps.weights.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("origin", [(0, 0), (32, 48), (64, 0)])
@pytest.mark.parametrize("query", [(0, 0), (3, 3), (2, 1)])
def test_cells_of_a_tile_are_counted_from_its_corner(
    origin: tuple[int, int], query: tuple[int, int]
) -> None:
    row = looking_right((4, 4), query)
    maps = head_maps(PlacedRow(SITE, row, origin, (4, 4)), (96, 96))
    y, x = origin[0] // STRIDE + query[0], origin[1] // STRIDE + query[1]
    assert maps.query == cell_of(STRIDE * y, STRIDE * x)
    region = maps.map("all").region
    assert (region.y0, region.x0) == (origin[0] // STRIDE, origin[1] // STRIDE)
    if query[1] < 3:
        cells, weights = maps.strongest("right")
        assert cells.tolist() == [[y, x + 1]] and weights.tolist() == [1]


def test_larger_cells_counted_from_the_images_corner_stay_there() -> None:
    cells = [[[5, 7]]]
    maps = maps_of([[1.0]], cells, (20, 30), origin=(64, 64), placed=True, key_stride=16)
    assert maps.stride == 16 and maps.query == Region(80, 120, 84, 124)
    values, region, stride = maps.map()
    assert values[5 - region.y0, 7 - region.x0] == 1 and stride == 16
    # The middle of the key's 16 × 16 pixels lies at (88, 120), that of the query at (82, 122).
    (numbers,) = measures(maps)
    assert numbers["distance_px"] == pytest.approx(np.hypot(6, 2))


def test_padded_cells_are_no_cells_of_the_image() -> None:
    row = looking_right((8, 8), (2, 2))
    maps = head_maps(PlacedRow(SITE, row, (64, 64), (8, 8)), (79, 90))
    assert maps.image_cells == Region(0, 0, 20, 23)
    assert maps.region == Region(16, 16, 24, 24)


def test_never_a_candidate_is_not_a_weight_of_0() -> None:
    # Head 1 may look at two cells and gives the second nothing; head 2 at one of them and another.
    cells = [[[0, 0], [0, 1], [-1, -1]], [[0, 1], [1, 1], [-1, -1]]]
    maps = maps_of([[1.0, 0, 0], [0.25, 0.75, 0]], cells, (0, 0))
    nan = np.nan
    np.testing.assert_array_equal(maps.map("1").values, [[1, 0], [nan, nan]])
    np.testing.assert_array_equal(maps.map("2").values, [[nan, 0.25], [nan, 0.75]])
    np.testing.assert_array_equal(maps.map("mean").values, [[0.5, 0.125], [nan, 0.375]])
    np.testing.assert_array_equal(maps.map("max").values, [[1, 0.25], [nan, 0.75]])


def test_a_cell_that_is_listed_twice_has_the_sum() -> None:
    maps = maps_of([[0.25, 0.5, 0.25]], [[[0, 0], [1, 1], [0, 0]]], (0, 0))
    np.testing.assert_array_equal(maps.map("1").values, [[0.5, np.nan], [np.nan, 0.5]])


def test_the_mean_of_queries_keeps_the_candidates_of_any() -> None:
    one = maps_of([[1.0, 0]], [[[0, 0], [0, 1]]], (0, 0))
    other = maps_of([[0.5, 0.5]], [[[0, 1], [0, 2]]], (0, 2))
    assert mean_of([one]) is one
    both = mean_of([one, other])
    assert both.query == Region(0, 0, 4, 12)
    np.testing.assert_array_equal(both.map("1").values, [[0.5, 0.25, 0.25]])


def test_an_unknown_head_has_its_layers_names() -> None:
    maps = maps_of([[1.0]], [[[0, 0]]], (0, 0))
    with pytest.raises(BadParameter, match=r"a\.1 has no head '9'"):
        maps.map("9")


def numbers_of(weights: Any, cells: Any, query: tuple[int, int], **site: Any) -> dict[str, Any]:
    return measures(maps_of([weights], [cells], query, **site), 16)[0]


ROW = [[0, x] for x in range(8)]


def test_entropy_is_1_of_equal_weights_and_0_of_one() -> None:
    even = numbers_of([1 / 8] * 8, ROW, (0, 0))
    assert even["entropy"] == pytest.approx(1) and even["effective_cells"] == pytest.approx(8)
    one = numbers_of([0, 0, 1, 0, 0, 0, 0, 0], ROW, (0, 0))
    assert one["entropy"] == pytest.approx(0) and one["effective_cells"] == pytest.approx(1)
    assert one["distance_px"] == pytest.approx(2 * STRIDE)
    # Empty positions are no candidates.
    cells = [[0, 0], [0, 1], [-1, -1], [-1, -1]]
    assert numbers_of([0.5, 0.5, 0, 0], cells, (0, 0))["entropy"] == pytest.approx(1)
    only = numbers_of([1.0], [[0, 0]], (0, 0))
    assert only["entropy"] == 0 and only["effective_cells"] == pytest.approx(1)


def test_shares_are_of_the_querys_own_square() -> None:
    weights = [0.1, 0.2, 0.3, 0.4]
    cells = [[0, 0], [0, 3], [0, 4], [0, 7]]
    found = numbers_of(weights, cells, (0, 1), window=2, shift=1)
    # Moved by 1, the window of column 1 is columns 1 and 2; its tile has 4 cells a side.
    assert found["window_share"] == 0
    assert found["tile_share"] == pytest.approx(0.3)
    assert numbers_of(weights, cells, (0, 0), window=4)["window_share"] == pytest.approx(0.3)
    assert numbers_of(weights, cells, (0, 0))["window_share"] is None


def test_rings_add_up_to_1() -> None:
    cells = [[0, 0], [0, 2], [0, 3], [0, 100], [0, 200]]
    found = numbers_of([0.2] * 5, cells, (0, 0))["rings"]
    assert sum(found.values()) == pytest.approx(1)
    assert found["within_8_px"] == pytest.approx(0.4)
    assert found["within_512_px"] == pytest.approx(0.2)
    assert found["beyond_512_px"] == pytest.approx(0.2)


def test_what_is_no_share_of_places_has_no_entropy() -> None:
    for kind in ("channel", "gate", "routing"):
        found = numbers_of([0.25], [[0, 0]], (0, 0), kind=kind)
        assert found["entropy"] is None and found["distance_px"] is None
        assert found["sum"] == (None if kind == "channel" else 0.25)
    assert numbers_of([0.0], [[0, 0]], (0, 0))["entropy"] is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no column x"),
        (b"a,b\n1,2\n", "no column x"),
        (b"x\n1\n", "no column y"),
        (b"x,y\n", "no rows"),
        (b"x,y\n1,2\n3,\n", "Line 3 .* whole numbers"),
        (b"x,y\n1\n", "Line 2 .* whole numbers"),
        (b"x,y\n1.5,2\n", "Line 2 .* whole numbers"),
        (b"x,y\nnan,2\n", "Line 2 .* whole numbers"),
        (b"\xff\xfe\x00", "cannot be read: it is no text"),
        (b"x,y\n1," + b"2" * 200_000 + b"\n", "cannot be read: field larger"),
    ],
)
def test_a_bad_table_has_one_sentence(tmp_path: Path, text: bytes, message: str) -> None:
    table = tmp_path / "queries.csv"
    table.write_bytes(text)
    with pytest.raises(InputError, match=message) as caught:
        queries_in(table)
    assert caught.value.hint


def test_a_table_names_its_queries(tmp_path: Path) -> None:
    table = tmp_path / "queries.csv"
    table.write_bytes("\ufeffName, X ,y\nroof,3,4\n,5,6\n".encode())
    first, second = queries_in(table)
    assert first == Query.point(4, 3, "roof") and second == Query.point(6, 5)
    assert first.label == "roof (x 3, y 4)"
    table.write_bytes(b"y;x\n7;8\n")
    assert queries_in(table) == (Query.point(7, 8),)
    with pytest.raises(InputError, match="cannot be read"):
        queries_in(tmp_path / "none.csv")
    with pytest.raises(InputError, match="cannot be read"):
        queries_in(tmp_path)


def test_pixels_of_a_query_are_middles_of_cells() -> None:
    assert Query.point(7, 9).pixels(4) == [(7, 9)]
    assert Query(Region(8, 8, 16, 12)).pixels(4) == [(10, 10), (14, 10)]
    # Two cells are touched by four pixels, which do not begin with a cell.
    assert Query(Region(10, 0, 14, 4)).pixels(4) == [(10, 2), (13, 2)]
    large = Query(Region(0, 0, 400, 100))
    pixels = large.pixels(4)
    assert large.is_sampled(4) and not Query(Region(8, 8, 16, 12)).is_sampled(4)
    assert SAMPLES / 2 < len(pixels) == len(set(pixels)) <= SAMPLES
    assert all(0 <= y < 400 and 0 <= x < 100 for y, x in pixels)
    for thin in (Query(Region(0, 0, 1, 5000)), Query(Region(0, 0, 5000, 1))):
        assert len(set(thin.pixels(4))) == SAMPLES


def notes_of(pixels: Any, *queries: Any, **options: Any) -> list[str]:
    events: list[Any] = []
    looked(pixels, *queries, emit=events.append, **options)
    return [event.text for event in events if isinstance(event, Note)]


@pytest.mark.slow
def test_a_box_of_more_cells_than_are_read_says_so() -> None:
    (note,) = notes_of(scene(), Region(0, 0, 100, 140))
    assert "means of" in note and "x 0–139, y 0–99" in note
    assert not notes_of(scene(), Region(0, 0, 12, 12))


def test_a_query_on_nodata_says_so() -> None:
    pixels = scene()
    pixels[:8, :8] = np.nan
    (note,) = notes_of(pixels, (2, 3))
    assert note.startswith("x 3, y 2 is nodata or excluded")
    (note,) = notes_of(pixels, Region(0, 0, 8, 16))
    assert "4 of 8 pixels of x 0–15, y 0–7 are nodata" in note
    assert not notes_of(pixels, (20, 20))


@pytest.mark.slow
def test_questions_that_cannot_be_asked(found: Any) -> None:
    for query in ((-1, 5), (5, -1), (101, 5), (5, 142)):
        with pytest.raises(BadRegion, match="outside"):
            looked(scene(), query)
    with pytest.raises(BadParameter, match="no query"):
        looked(scene())
    for bad in ((1, 2, 3), "ab", (1.5, 2), 7):
        with pytest.raises(BadParameter, match="no pixel"):
            looked(scene(), bad)
    with pytest.raises(BadParameter, match="no layer 'left'"):
        looked(scene(), (1, 1), layers="left")
    with pytest.raises(BadParameter):
        looked(scene(), (1, 1), ablate=True)
    tall = np.zeros((2100, 64, 3), np.float32)
    with pytest.raises(BadRegion, match="too large to leave heads out"):
        nr.attend(tall, "inf-dehaze-small", [Region(0, 0, 2100, 64)], ablate=True, progress=False)
    with pytest.raises(BadParameter, match="no option strange"):
        nr.attend(scene(), "inf-dehaze-small", [(1, 1)], strange=1)  # type: ignore[call-arg]
    with pytest.raises(BadParameter, match="none"):
        found.maps("left")


def test_a_query_of_a_level_lies_in_it() -> None:
    pixels = np.random.default_rng(1).random((256, 320, 3), np.float32)
    levels = [pixels, np.ascontiguousarray(pixels[::2, ::2])]
    image = nr.open_image(levels, bands="red=1,green=2,blue=3").level_view(1)
    maps = looked(image, (70, 100)).maps()
    assert maps.strongest("right")[0].tolist() == [[17, 26]]
    assert maps.image_cells == Region(0, 0, 32, 40)


def test_heads_are_those_of_the_site(found: Any) -> None:
    assert found.layers == (SITE.name,)
    assert tuple(found.maps().site.heads) == HEADS
    assert torch.tensor(found.maps().weights).sum(1).tolist() == pytest.approx([1, 1])


@pytest.mark.nightly
def test_who_attends_to_a_cell_of_a_window_are_those_whose_rows_say_so() -> None:
    maps = looked(scene(), (30, 30), attended_by=True).maps()
    right, every = maps.map("right"), maps.map("all")
    # It is to the right of one cell alone; all look at it alike.
    corner = np.array([right.region.y0, right.region.x0])
    at = np.argwhere(np.nan_to_num(right.values) > 0) + corner
    assert at.tolist() == [[30 // STRIDE, 30 // STRIDE - 1]] and right.values.max() == 1
    assert np.isfinite(every.values).all() and np.ptp(every.values) == 0


@pytest.mark.slow
def test_columns_of_a_network_of_windows_are_those_of_its_matrices() -> None:
    net, image = networks.Windows(), scene()[:64, :96]
    card = {"bands": 3, "halo": 32, "multiple_of": 32}
    found = nr.attend(image, load(net, card=card), [(30, 41)], attended_by=True, progress=False)
    net.matrices = []
    with torch.no_grad():
        net(torch.from_numpy(image).permute(2, 0, 1)[None])
    at = 24 * (30 // 4) + 41 // 4
    numbers = torch.arange(16 * 24.0).view(1, 16, 24, 1)
    for block, layer in enumerate(found.layers):
        places = net.split(numbers, 4 * (block % 2))[..., 0].long().numpy()
        ((window, token),) = np.argwhere(places == at)
        expected = np.zeros((2, 16 * 24))
        expected[:, places[window]] = net.matrices[block][window, :, :, token].numpy()
        maps = found.maps(layer)
        values = np.zeros((2, 16, 24))
        values[:, maps.cells[0, :, 0], maps.cells[0, :, 1]] = maps.weights
        np.testing.assert_allclose(values.reshape(2, -1), expected, atol=1e-6)
