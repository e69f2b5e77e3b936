"""Opens images lazily as multiscale layers, at their place on the ground."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from napari_restore import api
from napari_restore._addresses import is_remote
from napari_restore.api import READ_SUFFIXES, bands_of_scene, is_product, is_zarr, stamp_of
from napari_restore.errors import Cancelled, RestoreError, escape_controls
from napari_restore.plugin.layers.display import (
    BAR,
    LIMITS,
    SHOWN_BANDS,
    Display,
    colour_limit,
    contrast_limits,
    draw_thumbnails_in,
    head_colours,
    signed_colours,
    weight_limits,
    with_blanks,
)
from napari_restore.plugin.layers.layer_order import SOURCE
from napari_restore.plugin.layers.placing import (
    axes_of,
    placing_of,
    plane_of,
    resampled,
    scale_and_affine,
    shifted,
    show_whole,
    turn_upright,
)
from napari_restore.plugin.layers.status import label_places_in

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.explain import OpenedMap
    from napari_restore.images import Image


LayerData = tuple[Any, dict[str, Any], str]
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

REMOTE_SUFFIXES = ("", ".tif", ".tiff", ".jp2", ".j2k", ".json")
"""Of images at an address; others are left to napari, which downloads them."""
ARRAYS = ".npz"
"""Suffix of files of arrays, which are opened where they hold maps."""
STAMPS = "napari_restore_stamps"
"""In a layer's metadata: size and time of the files that it was opened from, by name."""
NOTHING: list[Any] = [(None,)]
"""What a reader of napari returns for a file without a layer."""


def get_reader(path: Paths) -> Callable[[Paths], list[Any]] | None:
    """Return a reader for `path` (or several bands' paths), or None at once for other files."""
    paths = _as_list(path)
    if not paths or not all(_is_our_address(p) if is_remote(p) else images_at(p) for p in paths):
        return None
    is_image = len(paths) > 1 or is_remote(paths[0]) or _is_ours(Path(paths[0]))
    return read if is_image else _read_folder


def images_at(path: str) -> list[str]:
    """Return the image at `path`, or those in a folder that is none itself; none for other files."""
    if _is_ours(Path(path)):
        return [path]
    return [str(p) for p in api.images_in_folder(Path(path))] if os.path.isdir(path) else []


def _read_folder(path: Paths) -> list[Any]:
    """Return the layers of the images in a folder; in a window the panel opens or fuses them, one by one."""
    import napari

    window = getattr(napari.current_viewer(), "window", None)
    if window is None:
        return [layer for each in _as_list(path) for p in images_at(each) for layer in read(p)]
    _, panel = window.add_plugin_dock_widget("napari-restore", "Restore")
    panel.opener.open(_as_list(path))
    return NOTHING


def read(path: Paths) -> list[Any]:
    """Return the layers of the image at `path`; several paths are the bands of one image."""
    # In a window errors are shown and no layer is made; elsewhere they are raised. In a window
    # opening can be cancelled, and files outside the image's folder need consent.
    import napari

    import napari_restore as nr
    from napari_restore.plugin.tasks.main_thread import is_main_thread

    given = paths = _as_list(path)
    if len(paths) == 1 and os.path.isdir(paths[0]) and not is_product(paths[0]):
        paths = [str(file) for file in bands_of_scene(paths[0])] or paths
    viewer = napari.current_viewer()
    try:
        is_arrays = len(paths) == 1 and paths[0].lower().endswith(ARRAYS)
        if maps := api.opened_maps(Path(paths[0])) if is_arrays else ():
            return _map_layers(maps, None, viewer)
        if viewer is not None and is_main_thread():
            from napari_restore.plugin.layers._opening_dialog import open_in_window

            image = open_in_window(paths)
        else:
            several = len(paths) > 1
            image = nr.open_image(paths if several else paths[0], stack=several, plane=0)
        if maps := api.opened_maps(image):
            return _map_layers(maps, image, viewer)
        if viewer is not None and is_main_thread():
            _tell_of(image, "" if paths == given else Path(given[0]).name)
            if image.is_photo:
                show_whole(viewer, image)
        return [layer_of(image, viewer)]
    except Cancelled:
        return NOTHING
    except RestoreError as error:
        if viewer is None:
            raise
        from napari_restore.plugin.tasks.notices import show_problem

        show_problem(error)
        return NOTHING


def _tell_of(image: Image, folder: str) -> None:
    """Say in the window what is notable about an image, which may be one of the bands in a folder."""
    from napari_restore.plugin.tasks.notices import show_note

    if image.opening_notes:
        show_note(" ".join([f"{image.name}:", *image.opening_notes]), image.name)
    if folder:
        bands = ", ".join(filter(None, image.descriptions))
        show_note(f"{folder} is shown as one image of the bands {bands}.")
    if image.planes.count > 1:
        show_note(
            f"{image.name} has {image.planes.count} planes ({image.planes}): the first one is "
            "shown. Plane, below Image, shows another one; Several images restores all.",
            image.name,
        )


def _map_layers(maps: Sequence[OpenedMap], file: Image | None, viewer: Any) -> list[LayerData]:
    """Return the layers of saved maps, the first one on top, in their place over the image they are of."""
    # That is the layer of the image in the window, or else their place on the map or in pixels.
    source = _shown_in(viewer, maps[0].image)
    layers = []
    for each in maps:
        plane = np.eye(3) if source is None else plane_of(source)
        matrix = resampled(plane, Fraction(1, each.step))
        place = scale_and_affine(shifted(matrix, *each.region[:2]))
        metadata = {SOURCE: None if source is None else source.unique_id}
        if source is not None:
            place |= axes_of(source)
        elif file is not None and file.georeference is not None and file.georeference.crs_wkt:
            placing = placing_of(viewer, file, Display.GREY)
            place, metadata = placing.arguments, {**placing.metadata, **metadata}
        levels, colours = each.levels, "viridis" if each.limit is not None else head_colours()
        if each.limit is None:
            levels = (with_blanks(np.asarray(levels[0]), is_signed=each.is_signed),)
            limits = weight_limits(np.asarray(each.levels[0]), is_signed=each.is_signed)
        else:
            most = colour_limit(each.limit)
            limits = (-most if each.is_signed else 0.0, most)
        arguments = {
            "name": escape_controls(each.name),
            "multiscale": len(levels) > 1,
            "cache": False,
            "colormap": signed_colours() if each.is_signed else colours,
            "contrast_limits": limits,
            "interpolation2d": "nearest",
            "blending": "translucent",
            "visible": each.is_first,
            "metadata": metadata | ({BAR: True} if each is maps[0] else {}),
            **place,
        }
        layers.append((list(levels) if len(levels) > 1 else levels[0], arguments, "image"))
    if viewer is not None:
        _prepare(viewer)
    return layers[::-1]


def _shown_in(viewer: ViewerModel | None, fingerprint: str) -> ImageLayer | None:
    """Return the layer of the image that has a fingerprint, itself or one of its levels."""
    for layer in () if viewer is None else reversed(viewer.layers):
        image = layer.metadata.get("napari_restore")
        if image is None or image.path is None or SOURCE in layer.metadata:
            continue
        numbers = [n for n in range(len(image.planned_levels)) if image.level_scale(n)]
        with suppress(OSError, RestoreError):
            if any(image.level_view(n).fingerprint == fingerprint for n in numbers):
                return layer
    return None


def open_sample() -> list[Any]:
    """Return the hazy aerial photo that ships with the package."""
    from napari_restore.sample import SAMPLE

    return read(SAMPLE)


def stamps_of(*images: Image) -> dict[str, Any]:
    """Return the `stamp_of` each file that images are read from; without those in memory or served."""
    files = [
        str(file)
        for image in images
        if image.path is not None and not hasattr(image.path, "address")
        for file in image.reader.files()
    ]
    return {file: stamp_of(file) for file in files}


def layer_of(
    image: Image,
    viewer: Any = None,
    *,
    band_by_band: bool = False,
    bands: tuple[int, ...] | None = None,
) -> LayerData:
    """Return the layer that shows `image`, as napari's readers return it.

    In colour where it is known which bands those are, unless `band_by_band`; `bands` shows these
    three, from 0, as red, green and blue.
    `metadata["napari_restore"]` is the image. With a viewer the canvas is
    turned so that it is upright, and missing levels appear as they are made.
    """
    display = Display.BANDS if band_by_band else Display.of_image(image)
    if bands is not None:
        display = Display.of_bands(image, bands)
    placing = placing_of(viewer, image, display)
    arguments: dict[str, Any] = {
        "name": escape_controls(image.name),
        "metadata": {
            **placing.metadata,
            "napari_restore": image,
            SHOWN_BANDS: display.bands,
        },
        "multiscale": len(image.level_shapes) > 1,
        # Decoded chunks are kept by the image itself; napari's cache would keep
        # levels as they were before they were made.
        "cache": False,
        "rgb": display.is_colour,
        **placing.arguments,
    }
    if image.companions is None and (stamps := stamps_of(image)):
        arguments["metadata"][STAMPS] = stamps
    arguments["contrast_limits"] = contrast_limits(image, display)
    arguments["metadata"][LIMITS] = arguments["contrast_limits"]
    if not display.is_colour:
        arguments["colormap"] = "gray"
    if viewer is not None:
        if placing.note is not None:
            from napari_restore.plugin.tasks.notices import show_note

            show_note(placing.note)
        turn_upright(viewer, image)
        _prepare(viewer)
    levels = _levels(image, display, viewer, arguments["contrast_limits"])
    return (levels if len(levels) > 1 else levels[0]), arguments, "image"


def _levels(image: Image, display: Any, viewer: Any, limits: Any) -> list[Any]:
    """Return all levels lazily; missing ones begin to be made."""
    from napari_restore.plugin.layers.growth import Growth, must_grow

    levels = [display.shown(level, image) for level in image.levels]
    if must_grow(image) and len(levels) == 1:
        image.prepare()
    elif must_grow(image):
        coarsest = levels[-1] = np.zeros(levels[-1].shape, image.dtype)
        Growth(image, display, coarsest, _refresher(image, display, viewer, limits)).start()
    return levels


def _refresher(image: Image, display: Any, viewer: Any, guessed: Any) -> Callable[[bool], Any]:
    """Return a function that draws the layers of `image` again, in the GUI thread."""
    # The contrast limits `guessed` were chosen before there was a coarse level: they are judged
    # again once it is finished, and while a file lands of which nothing could be read before,
    # unless the user has set others.
    from napari_restore.plugin.tasks.main_thread import on_main_thread

    def refresh(finished: bool) -> None:
        nonlocal guessed
        shown = [x for x in viewer.layers if x.metadata.get("napari_restore") is image]
        found = guessed
        if shown and (finished or not image.source.random_access):
            found = contrast_limits(image, display)
        for layer in shown:
            same = Display.of_layer(layer) == display
            if found != guessed and same and tuple(layer.contrast_limits) == guessed:
                layer.contrast_limits = found
                layer.metadata[LIMITS] = found
            layer.refresh(extent=False)
        guessed = found
        if finished and not shown:
            viewer.layers.events.inserted.connect(on_inserted)

    def on_inserted(event: Any) -> None:
        """Refresh a layer whose image was complete before napari had made the layer."""
        if event.value.metadata.get("napari_restore") is image:
            viewer.layers.events.inserted.disconnect(on_inserted)
            on_main_thread(refresh)(True)

    if viewer is None:
        return lambda finished: None
    return refresh


def show_bands(layer: ImageLayer, image: Image, bands: tuple[int, ...], viewer: Any) -> None:
    """Show three bands of `image` as red, green and blue in its layer, which is one in colour."""
    display = Display.of_bands(image, bands)
    limits = contrast_limits(image, display)
    levels = _levels(image, display, viewer, limits)
    layer.metadata[SHOWN_BANDS] = display.bands
    layer.data = levels if len(levels) > 1 else levels[0]
    layer.contrast_limits = layer.metadata[LIMITS] = limits


def _as_list(path: Paths) -> list[str]:
    if isinstance(path, (str, os.PathLike)):
        return [os.fspath(path)]
    return [os.fspath(p) for p in path]


def _is_our_address(address: str) -> bool:
    """Return whether an address may name an image that is read by ranges; it is not asked."""
    path = PurePosixPath(urlsplit(address).path)
    in_zarr = any(part.lower().endswith(".zarr") for part in path.parts)
    return in_zarr or path.suffix.lower() in REMOTE_SUFFIXES


def _is_ours(path: Path) -> bool:
    """Return whether name and, for a folder, the files at its top are those of an image."""
    if path.suffix.lower() == ARRAYS:
        return api.holds_maps(path)
    is_image = path.suffix.lower() in READ_SUFFIXES and path.is_file()
    is_one = is_image or is_zarr(path) or is_product(path)
    return is_one or (path.is_dir() and bool(bands_of_scene(path)))


_prepared: weakref.WeakSet[ViewerModel] = weakref.WeakSet()


def _prepare(viewer: ViewerModel) -> None:
    """Let `viewer` draw the thumbnails of what is opened in it, and name bands, places and values."""
    if viewer not in _prepared:
        _prepared.add(viewer)
        draw_thumbnails_in(viewer)
        label_bands_in(viewer)
        label_places_in(viewer)


def label_bands_in(viewer: ViewerModel) -> None:
    """Name the band beside the slider of images shown band by band; napari says -3 there."""
    # The label is that of the viewer's axis: labels of a layer would be the same for every band.
    update = partial(_update, weakref.ref(viewer))
    for event in (viewer.dims.events.current_step, viewer.layers.events.inserted):
        # After napari's own, which count the axes.
        event.connect(update, position="last")


def _update(seen: weakref.ref[ViewerModel], _: Any = None) -> None:
    viewer = seen()
    if viewer is None or viewer.dims.ndim != Display.BANDS.ndim:
        return
    for layer in reversed(viewer.layers):
        image = layer.metadata.get("napari_restore")
        if image is not None and Display.of_layer(layer) == Display.BANDS:
            number = min(viewer.dims.current_step[0], image.bands - 1)
            viewer.dims.set_axis_label(0, _title(image, number))
            return


def _title(image: Image, number: int) -> str:
    name = image.descriptions[number] or image.roles[number]
    return f"band {number + 1}" + (f": {escape_controls(name)}" if name else "")
