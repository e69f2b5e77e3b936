"""Fixtures of all tests: real data where it exists, a cache of its own, GPU tests where there is one."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    import numpy as np

# Threads that wait for work must not keep a core from the tests beside them: set before torch.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# The binding of Qt: for pytest-qt and napari alike, also in child processes.
os.environ["PYTEST_QT_API"] = os.environ.setdefault("QT_API", "pyside6")
# A window for tests resets napari's settings and saves them: not those of whoever runs the tests.
os.environ["NAPARI_CONFIG"] = ""
# A test is as slow as what runs beside it: no timing is asserted.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
# In the background of a shell Ctrl-C is ignored, also by the children whose answer to it is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real test images; the test is skipped where it is missing."""
    default = ROOT.parent / "shared" / "data"
    folder = Path(os.environ.get("NAPARI_RESTORE_TEST_DATA", default))
    if not (folder / "INDEX.csv").is_file():
        pytest.skip(f"no test images in {folder}; NAPARI_RESTORE_TEST_DATA names the folder")
    return folder


@pytest.fixture(scope="session")
def sample() -> Path:
    """The hazy GeoTIFF that ships with the package."""
    return ROOT / "src" / "napari_restore" / "sample" / "hazy_town_synthetic.tif"


@pytest.fixture(scope="session")
def known_measurements(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Measurements of models on this machine: seconds of work that tests need not repeat."""
    return tmp_path_factory.mktemp("measurements")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, known_measurements: Path) -> Iterator[Path]:
    """Every test has a cache without any image or result and leaves the user's alone."""
    # Beside tmp_path, which many tests expect to find empty.
    cache = tmp_path.parent / f"{tmp_path.name}-cache"
    cache.mkdir(mode=0o700)
    # Where there may be no links, they are measured for every test.
    with contextlib.suppress(OSError):
        (cache / "measurements").symlink_to(known_measurements, target_is_directory=True)
    # Not by the fixture monkeypatch, of which a test may undo all.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_RESTORE_CACHE", str(cache))
        yield cache
    shutil.rmtree(cache, ignore_errors=True)


@pytest.fixture
def known_costs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Plans take what a model costs from a formula; in tests marked `measured` it is measured."""
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("measured") is None:
            from known_costs import use_formulas

            use_formulas(patch)
        yield


@pytest.fixture(autouse=True)
def cache_limit_restored() -> Iterator[None]:
    """No run is left behind that keeps the cache of chunks at its own size: later tests would decode less."""
    from napari_restore.images import chunk_cache

    before = chunk_cache.limit
    yield
    until = time.monotonic() + 30
    while chunk_cache.limit != before and time.monotonic() < until:
        time.sleep(0.05)
    assert chunk_cache.limit == before


@pytest.fixture(scope="session")
def start_forked_worker() -> Callable[[str], Any] | None:
    """A function that starts a child process in a fraction of the usual time; None: there is none."""
    if sys.platform != "linux":
        return None
    from forked_worker import ForkedWorker, fork_server

    context = fork_server()
    return lambda module: ForkedWorker(context)


@pytest.fixture
def forked_workers(
    start_forked_worker: Callable[[str], Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fork child processes instead of starting Python and importing torch for each."""
    if start_forked_worker is not None:
        monkeypatch.setattr(
            "napari_restore.engine.executors._child.start_child", start_forked_worker
        )


@pytest.fixture
def streamed_above(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A function that has untiled images of more bytes than that streamed: else 64 MiB would be written."""
    from napari_restore.images import _reader
    from napari_restore.images.readers import _gdal, _radiance

    def streamed_above(size: int) -> None:
        for module in (_reader, _gdal, _radiance):
            monkeypatch.setattr(module, "STREAMED_BYTES", size)

    return streamed_above


@pytest.fixture
def masks_released() -> Callable[[], None]:
    """A function after which masks are as in another program, where nobody holds them open."""
    from napari_restore.images.masks import _files

    def release() -> None:
        for entry in list(_files._held.values()):
            entry.close()
        _files._held.clear()

    return release


@pytest.fixture
def measured_on(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that sets the sides of tiles on which costs are measured: at full size it takes minutes."""

    def measured_on(*sides: int, gradients: int | None = None) -> None:
        if sides:
            monkeypatch.setattr("napari_restore.engine.planning.costs.SIDES_OF_SWEEPS", sides)
            monkeypatch.setattr("napari_restore.engine.planning.costs.SIDES", sides)
        if gradients:
            monkeypatch.setattr("napari_restore.engine.gradients.cost.SWEPT_SIDE", gradients)
            monkeypatch.setattr("napari_restore.engine.gradients.cost.SIDE", gradients)

    return measured_on


@pytest.fixture
def scheduler_patience(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A function that sets the seconds for which an answer of a scheduler is awaited."""
    return lambda s: monkeypatch.setattr("napari_restore.engine.executors.connection.PATIENCE", s)


@pytest.fixture
def points() -> Iterator[Any]:
    """The points at which the program can be held, also in processes that it starts."""
    from points import Points

    with pytest.MonkeyPatch.context() as patch:
        held = Points(patch)
        yield held
        held.close()


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the program knows of its models, by name: an entry set here takes the place of its own."""
    from napari_restore.models import _registry

    known: dict[str, Any] = dict(_registry._entries())
    monkeypatch.setattr(_registry, "_entries", lambda: known)
    return known


@pytest.fixture
def before_a_row(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], object]], None]:
    """A function that has one called with the box of each row of a table, before it is computed."""
    from napari_restore.api import _attribution, _tables

    attribute = _attribution.attribute

    def before_a_row(act: Callable[[Any], object]) -> None:
        def acting(image: Any, model: Any, box: Any, **options: Any) -> Any:
            act(box)
            return attribute(image, model, box, **options)

        monkeypatch.setattr(_attribution, "attribute", acting)
        monkeypatch.setattr(_tables, "attribute", acting)

    return before_a_row


@pytest.fixture
def offered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., None]]:
    """A function that installs a package with an entry point of a group for each object, by its name.

    One that is an exception is raised where it is loaded.
    """

    def forget() -> None:
        for name, module in list(sys.modules.items()):
            known = vars(module).get("_foreign") if name.startswith("napari_restore.") else None
            if known is not None:
                known.cache_clear()

    with pytest.MonkeyPatch.context() as patch:

        def install(group: str, objects: Mapping[str, object]) -> None:
            def load(name: str) -> object:
                found = objects[list(objects)[int(name.removeprefix("object_"))]]
                if isinstance(found, Exception):
                    raise found
                return found

            package = types.ModuleType("other_package")
            package.__getattr__ = load  # type: ignore[method-assign]
            patch.setitem(sys.modules, package.__name__, package)
            folder = tmp_path_factory.mktemp("packages")
            described = folder / "other_package-1.0.dist-info"
            described.mkdir()
            (described / "METADATA").write_text("Name: other-package\nVersion: 1.0\n")
            lines = [f"{name} = other_package:object_{n}" for n, name in enumerate(objects)]
            (described / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]))
            patch.syspath_prepend(folder)
            forget()

        yield install
    forget()


LOCK = """
import sys
from pathlib import Path
from napari_restore.images.cache.lock import lock_file
print(lock_file(Path(sys.argv[1])) is not None, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def lock_elsewhere() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """A function that locks a file in another process, which lives until it is killed."""
    processes: list[subprocess.Popen[str]] = []

    def lock(path: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", LOCK, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        return process

    yield lock
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def mount_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A function that mounts an empty disk of a size such as "1m"; skips where none may be."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        folder = tmp_path / f"disk {len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no disk may be mounted")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="session")
def write_dng() -> Callable[..., None]:
    """A function that writes linear sRGB (H, W, 3) in 0 … 1 as a Bayer DNG (RGGB, 14 bits)."""
    import numpy as np
    import tifffile

    white = 16383
    # What the camera measures of a grey: white balance 2, 1, 1.6.
    grey = (0.5, 1.0, 0.625)
    # XYZ to linear sRGB (IEC 61966-2-1): the camera sees as a screen shows.
    to_camera = np.array(
        [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]
    )

    def fractions(values: np.ndarray) -> tuple[int, ...]:
        return tuple(int(n) for v in values.ravel() for n in (round(v * 10_000), 10_000))

    def write(
        path: Path,
        linear: np.ndarray,
        orientation: int = 1,
        neutral: Sequence[float] = grey,
        settings: Mapping[int, Any] | None = None,
        more: Sequence[tuple[int, str, int, Any, bool]] = (),
    ) -> None:
        seen = np.rint(linear * grey * white).astype(np.uint16)
        mosaic = seen[..., 1].copy()
        mosaic[0::2, 0::2], mosaic[1::2, 1::2] = seen[0::2, 0::2, 0], seen[1::2, 1::2, 2]
        tags = [
            (50706, "B", 4, bytes([1, 4, 0, 0]), True),  # DNGVersion
            (33421, "H", 2, (2, 2), True),  # CFARepeatPatternDim
            (33422, "B", 4, bytes([0, 1, 1, 2]), True),  # CFAPattern
            (50714, "I", 1, 0, True),  # BlackLevel
            (50717, "I", 1, white, True),  # WhiteLevel
            (50721, "2i", 9, fractions(to_camera * np.array(grey)[:, None]), True),  # ColorMatrix1
            (50728, "2I", 3, fractions(np.array(neutral)), True),  # AsShotNeutral
            (50778, "H", 1, 21, True),  # CalibrationIlluminant1: D65
            (274, "H", 1, orientation, True),
            *more,
        ]
        for tag, value in (settings or {}).items():
            kind = {str: "s", tuple: "2I", int: "H"}[type(value)]
            tags.append((tag, kind, 0 if kind == "s" else 1, value, True))
        tifffile.imwrite(
            path, mosaic, photometric=32803, extratags=tags, metadata=None, software=False
        )

    return write


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for each in item.iter_markers("ids"):
            mark, *ids = each.args
            if item.callspec.id in ids:  # type: ignore[attr-defined]
                item.add_marker(mark)
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
