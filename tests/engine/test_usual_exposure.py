"""The exposure of a photo freed of haze: how large it is, where it is, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.transform import from_origin

import napari_restore as nr
from napari_restore.engine import Finished, Note, Result, TileDone
from napari_restore.models import one_shot_statistics
from napari_restore.questions import Adjustment

MODEL = "atmosphere"
LUMA = np.array([0.2126, 0.7152, 0.0722])
Run = Callable[..., Any]


def hazy(height: int = 200, width: int = 280, offset: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 ground with objects behind bluish haze that thins downwards."""
    rng = np.random.default_rng(5)
    blocks = np.kron(rng.random((height // 10, width // 10, 3)) ** 2, np.ones((10, 10, 1)))
    t = np.linspace(0.35, 0.8, height)[:, None, None] * np.ones((1, width, 1))
    seen = blocks * 0.7 * t + np.array([0.78, 0.82, 0.88]) * (1 - t)
    noise = rng.normal(0, 0.004, seen.shape)
    return np.rint(np.clip(seen + noise, 0, 1) * 255).astype(np.uint8)


def test_a_run_says_what_haze_it_found(photo: Path, tmp_path: Path) -> None:
    job = nr.start(nr.plan(nr.open_image(photo), MODEL, scratch=tmp_path, device="cpu"))
    notes = [event.text for event in job if isinstance(event, Note)]
    found = job.result().record["context"]
    (said,) = [note for note in notes if "passes through the haze" in note]
    # The transmission rises from 0.35 to 0.8, and the airlight is bluish.
    assert float(said.split("%")[0]) / 100 == pytest.approx(found["transmission"], abs=0.01)
    assert 0.4 < found["transmission"] < 0.85
    red, green, blue = found["airlight"]
    assert f"{red:.2f}, {green:.2f}, {blue:.2f} of white" in said and blue > red
    assert 0 <= found["kept"] < 0.2 and 0 <= found["doubt"] <= 0.7
    disputed = [note for note in notes if "dark channel disagree" in note]
    assert bool(disputed) == (found["doubt"] > 0.35)


def median_odds(pixels: np.ndarray, *, is_display: bool = True) -> float:
    """Odds of the median luminance of (h, w, 3) values 0 to 1; IEC 61966-2-1 for display values."""
    light = pixels
    if is_display:
        light = np.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)
    median = float(np.median(light @ LUMA))
    return median / (1 - median)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(hazy()).save(path)
    return path


@pytest.fixture
def restore(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Restores an image in a folder of its own, so that no run finds another's tiles."""

    def restore(image: Any, **options: Any) -> Any:
        scratch = tmp_path_factory.mktemp("scratch")
        return nr.restore(image, MODEL, scratch=scratch, device="cpu", progress=False, **options)

    return restore


def read(result: Any, region: Any = None) -> np.ndarray:
    return result.read(result.region if region is None else region)


def test_it_is_seven_tenths_of_what_was_taken_and_clips_nothing(photo: Path, restore: Run) -> None:
    result, plain = restore(photo), restore(photo, exposure=0)
    ev = result.adjustment.exposure
    before, after = (median_odds(x / 255) for x in (hazy(), read(plain)))
    assert ev == pytest.approx(0.7 * np.log2(before / after), abs=0.02)
    assert 0.15 < ev < 1.5
    options = result.record["task"]["options"]
    assert result.record["adjustment"]["exposure"] == options["exposure"] == ev
    assert plain.adjustment.ev == 0 and plain.record["adjustment"]["exposure"] == 0
    # 0 leaves the model's own pixels, as the network gives them without the engine.
    x = torch.from_numpy(hazy().astype(np.float32) / 255).permute(2, 0, 1)[None]
    model = nr.load_model(MODEL)
    with torch.inference_mode():
        own = model(x, one_shot_statistics(model, x, None))[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(read(plain), np.clip(own, 0, 1) * 255, atol=0.6)
    np.testing.assert_array_equal(
        read(result.with_adjustment(Adjustment(exposure=0.0))), read(plain)
    )
    # Each tone becomes brighter, and neither white nor equal to another.
    darker, brighter = read(plain).astype(int), read(result).astype(int)
    assert (brighter >= darker).all() and brighter.mean() > darker.mean() + 5
    np.testing.assert_array_equal(brighter == 255, darker == 255)
    tones = dict(zip(darker.flat, brighter.flat, strict=True))
    in_order = [tones[tone] for tone in sorted(tones)]
    assert in_order == sorted(in_order)


@pytest.mark.slow
def test_regions_tiles_and_levels_have_that_of_the_whole_picture(photo: Path, restore: Run) -> None:
    whole = restore(photo)
    box = nr.Region(96, 30, 200, 180)
    for options in ({"region": box, "tile": 128}, {"tile": 128, "workers": 1}):
        part = restore(photo, **options)
        assert part.adjustment == whole.adjustment
        np.testing.assert_array_equal(read(part, box), read(whole, box))


@pytest.mark.slow
def test_rerun_process_and_first_tile_have_it(photo: Path, restore: Run, tmp_path: Path) -> None:
    whole = restore(photo)
    written = whole.save(tmp_path / "out.png")
    again = nr.rerun(whole.record, tmp_path / "again.png")
    assert again.adjustment == whole.adjustment
    assert written.read_bytes() == (tmp_path / "again.png").read_bytes()
    plan = nr.plan(photo, MODEL, tile=128, scratch=tmp_path / "scratch", device="cpu")
    assert plan.adjustment.exposure is None
    early = []
    for event in nr.start(plan, process=True):
        if isinstance(event, TileDone) and not early:
            early.append(Result.of_run(plan, {}).adjustment)
        if isinstance(event, Finished):
            early.append(Result.of_run(plan, event.record).adjustment)
    assert early == [whole.adjustment, whole.adjustment]


def test_a_copied_command_names_the_number(photo: Path, restore: Run, tmp_path: Path) -> None:
    from napari_restore import api

    result = restore(photo)
    line = api.command_of(result.plan, tmp_path / "out.png")
    assert f"--adjust exposure={result.adjustment.exposure}" in line
    zero = result.with_adjustment(Adjustment(exposure=0))
    assert "--adjust exposure=0" in api.command_of(zero.plan, tmp_path / "out.png")


@pytest.mark.parametrize("kind", ["map", "sensor", "dcp"])
def test_maps_and_other_methods_have_none(
    tmp_path: Path, restore: Run, photo: Path, kind: str
) -> None:
    from napari_restore import api

    source, options = photo, {}
    if kind == "map":
        source = tmp_path / "map.tif"
        place = {"crs": "EPSG:32633", "transform": from_origin(500000, 5000000, 0.5, 0.5)}
        shape = {"height": 200, "width": 280, "count": 3, "dtype": "uint8", "photometric": "rgb"}
        with rasterio.open(source, "w", driver="GTiff", **shape, **place) as file:
            file.write(hazy().transpose(2, 0, 1))
    elif kind == "sensor":
        options["sensor"] = "naip"
    if kind == "dcp":
        result = nr.restore(source, "dcp", scratch=tmp_path, device="cpu", progress=False)
    else:
        result = restore(source, **options)
        plain = restore(photo, exposure=0)
        np.testing.assert_array_equal(read(result)[..., :3], read(plain))
    assert result.adjustment == Adjustment() and result.is_plain
    assert not result.record["adjustment"]["exposure"]
    assert "exposure" not in api.command_of(result.plan, tmp_path / "out.tif")
    # What was moved and moved back is as it was.
    moved = result.with_adjustment(Adjustment(exposure=0.5))
    assert moved.with_adjustment(Adjustment(exposure=0.0)).adjustment == Adjustment()


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_values_that_are_no_display_values_are_light(restore: Run, dtype: str) -> None:
    full = 40_000 if dtype == "uint16" else 0.8
    values = (hazy().astype(np.float64) / 255) ** 2.2
    pixels = (values * full).astype(dtype)
    image = nr.open_image(pixels, bands="red=1,green=2,blue=3")
    assert image.is_photo and not image.is_display
    result = restore(image)
    white = result.record["input"]["white"]
    plain = result.with_adjustment(Adjustment(exposure=0.0))
    before, after = (median_odds(x / white, is_display=False) for x in (pixels, read(plain)))
    wanted = 0.7 * np.log2(before / after)
    assert result.adjustment.ev == pytest.approx(max(0, wanted), abs=0.03)


def test_a_zarr_of_a_photo_is_written_exposed_and_that_of_a_map_in_place(
    photo: Path, restore: Run, tmp_path: Path
) -> None:
    written = tmp_path / "photo.zarr"
    options = {"output": written, "device": "cpu"}
    result = nr.restore(photo, MODEL, progress=False, **options)
    assert result.adjustment.ev > 0
    result.save(written)
    np.testing.assert_array_equal(
        np.asarray(nr.open_image(written).levels[0]), read(restore(photo))
    )
    assert [path.name for path in tmp_path.iterdir()] == ["photo.zarr"]
    for more in ({"sensor": "naip"}, {"exposure": 0}):
        assert nr.plan(photo, MODEL, **options, **more).store.parent == tmp_path


@pytest.mark.slow
def test_a_mask_and_auto_take_the_number_of_the_whole_picture(
    photo: Path, restore: Run, tmp_path: Path
) -> None:
    whole = restore(photo)
    mask = tmp_path / "mask.png"
    Image.fromarray(np.pad(np.full((60, 60), 255, np.uint8), ((100, 40), (30, 190)))).save(mask)
    for options in ({"mask": mask}, {"exposure": "auto"}, {"exposure": "auto", "mask": mask}):
        assert restore(photo, **options).adjustment == whole.adjustment
    masked = read(restore(photo, mask=mask))
    np.testing.assert_array_equal(masked[100:160, 30:90], read(whole)[100:160, 30:90])
    np.testing.assert_array_equal(masked[:100], hazy()[:100])


@pytest.mark.slow
def test_a_draft_of_linear_values_is_exposed_in_another_process(tmp_path: Path) -> None:
    """Its statistics are in the memory of the process that runs it."""
    pixels = ((hazy().astype(np.float64) / 255) ** 2.2 * 40_000).astype(np.uint16)
    path = tmp_path / "photo.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=200, width=280, count=3, dtype="uint16", photometric="rgb"
    ) as file:
        file.write(pixels.transpose(2, 0, 1))
    image = nr.open_image(path)
    plan = nr.plan(image, MODEL, extent="draft", scratch=tmp_path / "s", device="cpu")
    assert plan.reading.extent == "overview"
    found = nr.start(plan, process=True).result()
    early = Result.of_run(plan, {})
    assert early.adjustment == found.adjustment and found.adjustment.ev > 0
    np.testing.assert_allclose(read(early), read(found), rtol=1e-3, atol=2)


def test_an_array_that_is_edited_afterwards_stays_restored(restore: Run) -> None:
    """The result has no pixel of its source."""
    pixels = hazy()
    result = restore(pixels)
    before = np.asarray(result)
    pixels[:] = 0
    assert result.adjustment.ev > 0
    np.testing.assert_array_equal(np.asarray(result), before)


@pytest.mark.parametrize(
    ("bands", "is_photo"),
    [("red=1,green=2,blue=3,unknown=4", True), ("red=1,green=2,blue=3,nir=4@860", False)],
)
def test_bands_that_the_model_does_not_see_are_copied_exactly(
    restore: Run, bands: str, is_photo: bool
) -> None:
    seen = hazy()
    more = np.dstack([seen, seen[..., 0]])
    image = nr.open_image(more, bands=bands)
    assert image.is_photo == is_photo
    result = restore(image, other_bands="copy")
    assert any("are not corrected" in note for note in result.plan.notes)
    assert (result.adjustment.ev > 0) == is_photo
    assert np.array_equal(read(result)[..., 3], more[..., 3])
