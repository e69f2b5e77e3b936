"""How the bands of an image become what a napari layer, and its thumbnail, shows."""

from __future__ import annotations

import math
import weakref
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer
    from napari.utils import Colormap

    from napari_restore.images import Image


RGB = ("red", "green", "blue")
LOW, HIGH = 0.5, 99.5
"""Percentiles of a coarse level between which grey values are spread."""
SAMPLE_SIDE = 512
"""Contrast is judged on at most this many pixels squared."""

LIMITS = "napari_restore_limits"
"""In the metadata of layers: contrast limits that were found. Others are the user's."""
DEEP = 1 / 8
"""A 16-bit photo whose brightest values are below this share of its type's range has fewer
bits in truth, and is spread over the screen's."""


SHOWN_BANDS = "napari_restore_shown_bands"
"""In the metadata of layers in colour: the bands (red, green, blue, perhaps alpha) that the user
chose; None: the image's own."""


@dataclass(frozen=True)
class Display:
    """The axes of a layer made from pixels (y, x, band)."""

    COLOUR: ClassVar[Display]
    """(y, x, rgb or rgba), shown in colour."""
    GREY: ClassVar[Display]
    """(y, x): the one band."""
    BANDS: ClassVar[Display]
    """(band, y, x): a slider steps through the bands."""

    ndim: int = 2
    """Dimensions of the layer; colour is none."""
    is_colour: bool = False
    bands: tuple[int, ...] | None = None
    """In colour the numbers of what is shown red, green and blue, and of alpha if there is one, where
    the user chose them; None: the image's own."""

    @classmethod
    def of_image(cls, image: Image) -> Display:
        """Return colour where its bands are known, grey for one band, else band by band."""
        if colour_bands(image):
            return cls.COLOUR
        return cls.GREY if image.bands == 1 else cls.BANDS

    @classmethod
    def of_layer(cls, layer: ImageLayer) -> Display:
        """Return how an existing layer shows its pixels, with the bands that the user chose."""
        if layer.rgb:
            return replace(cls.COLOUR, bands=layer.metadata.get(SHOWN_BANDS))
        return cls.GREY if layer.ndim == 2 else cls.BANDS

    @classmethod
    def of_bands(cls, image: Image, bands: tuple[int, ...]) -> Display:
        """Return red, green and blue, whichever bands they are, with the alpha of the image."""
        alpha = [number for number, role in enumerate(image.roles) if role == "alpha"]
        return replace(cls.COLOUR, bands=(*bands, *alpha[:1]))

    def shown(self, pixels: Any, image: Image) -> Any:
        """Return pixels (y, x, band), numpy or dask, of `image` as the layer shows them."""
        # Values are true ones, at any depth; contrast limits bring them to the screen. Photos with
        # a colour profile of their own come in sRGB: napari's screen knows no other. The image
        # itself, and with it what is restored and saved, keeps its own values.
        if self.is_colour:
            return colours(pixels, image, self.bands or colour_bands(image))
        return self.arrange(on_screen(pixels, image))

    def arrange(self, pixels: Any) -> Any:
        """Return pixels (y, x, band), numpy or dask, in the layer's order of axes."""
        if self.ndim == 3:
            return pixels.transpose(2, 0, 1)
        return pixels if self.is_colour else pixels[..., 0]


Display.COLOUR, Display.GREY = Display(is_colour=True), Display()
Display.BANDS = Display(3)


def shown_bands(layer: ImageLayer, image: Image) -> tuple[int, ...]:
    """Return the bands that a layer in colour shows of `image`."""
    return layer.metadata.get(SHOWN_BANDS) or colour_bands(image)


def colour_bands(image: Image) -> tuple[int, ...]:
    """Return the numbers of red, green and blue, and of alpha if there is one; none where unknown."""
    roles, data = list(image.roles), image.data_bands
    if all(name in roles for name in RGB):
        found = tuple(roles.index(name) for name in RGB)
    # Three bands without any roles are taken for them, as by every viewer.
    elif len(data) == len(RGB) and not any(roles[band] for band in data):
        found = data
    else:
        return ()
    return (*found, roles.index("alpha")) if "alpha" in roles else found


def answered_bands(image: Image) -> str:
    """Return ``"3, 2, 1"``: the bands of red, green and blue where a user has said so; "" elsewhere."""
    spec = image.spec or {}
    if spec.get("bands") is None and spec.get("sensor") is None:
        return ""
    return ", ".join(str(band + 1) for band in colour_bands(image)[:3])


def shown_dtype(image: Image) -> np.dtype[Any]:
    """Return the dtype of an image's pixels in a layer: that of the photos for light."""
    light = image.profile.light
    return image.dtype if light is None else light.dtype


def on_screen(pixels: Any, image: Image) -> Any:
    """Return pixels (y, x, band), numpy or dask, with light as the photos of it would show it."""
    light = image.profile.light
    if light is None:
        return pixels
    alpha = [number for number, role in enumerate(image.roles) if role == "alpha"]
    return _by_chunks(light.shown, pixels, light.dtype, alpha=alpha)


def colours(pixels: Any, image: Image, bands: tuple[int, ...]) -> Any:
    """Return (y, x, rgb or rgba) of pixels (y, x, band), numpy or dask chunk by chunk, in sRGB."""
    pixels, space = on_screen(pixels, image), image.working_space
    if space is not None:
        pixels = _by_chunks(space.to_display, pixels, pixels.dtype)
    return pixels if bands == tuple(range(pixels.shape[2])) else pixels[..., list(bands)]


def _by_chunks(function: Any, pixels: Any, dtype: np.dtype[Any], **options: Any) -> Any:
    if isinstance(pixels, np.ndarray):
        return function(pixels, **options)
    return pixels.map_blocks(function, dtype=dtype, meta=np.empty((0, 0, 0), dtype), **options)


def contrast_limits(image: Image, display: Display) -> tuple[float, float]:
    """Return (low, high) from the coarsest level, or, while that is not made, from a part of another."""
    # Bytes of colour are shown as they are, and so are 16-bit photos that use their range.
    if display.is_colour and image.dtype == np.uint8:
        return type_range(image.dtype)
    found = _percentiles(image, display)
    placed = image.georeference is not None and image.georeference.is_placed
    if display.is_colour and not placed and image.dtype == np.uint16:
        whole = type_range(image.dtype)
        return whole if found[1] > whole[1] * DEEP else found
    return found


def _percentiles(image: Image, display: Display) -> tuple[float, float]:
    level = len(image.level_shapes) - 1
    whole = (0, 0, *image.level_shapes[level])
    # Only what is there: the window must not wait for the others.
    valid = image.read_valid_landed(whole, level)
    if level > 0 and valid.any():
        return limits_of(_bright(image.read_landed(whole, level), image, display), valid)
    level = min(level, image.stored_levels - 1)
    if level == 0 and not image.source.random_access:
        # Reading would wait for the whole file.
        return type_range(image.dtype)
    height, width = image.level_shapes[level]
    rows, columns = min(height, SAMPLE_SIDE), min(width, SAMPLE_SIDE)
    y, x = (height - rows) // 2, (width - columns) // 2
    box = (y, x, y + rows, x + columns)
    pixels = _bright(image.read(box, level), image, display)
    return limits_of(pixels, image.read_valid(box, level))


def _bright(pixels: Any, image: Image, display: Display) -> Any:
    """Return the bands of pixels (h, w, C) that contrast is judged on."""
    if display.is_colour:
        bands = display.bands or colour_bands(image)
        return pixels[..., list(bands[:3])]
    return without_alpha(pixels, image)


def without_alpha(pixels: Any, image: Image) -> Any:
    """Return pixels (h, w, C) without the alpha band."""
    bright = [number for number, role in enumerate(image.roles) if role != "alpha"]
    return pixels[..., bright] if 0 < len(bright) < pixels.shape[2] else pixels


def without_light(pixels: Any, image: Image) -> Any:
    """Return (h, w): which of the shown pixels (h, w, C) have no value, in image or result."""
    if not image.may_be_invalid:
        return np.zeros(pixels.shape[:2], bool)
    # Where a mask says what is valid, the values below it are 0 almost always.
    nothing = 0 if image.nodata is None else image.nodata
    return (pixels == nothing).all(axis=2)


def limits_of(pixels: Any, valid: Any) -> tuple[float, float]:
    """Return percentiles of the valid pixels (h, w, C); their type's range if there are none."""
    values = pixels[valid]
    values = values[np.isfinite(values)]
    if values.size == 0:
        return type_range(pixels.dtype)
    low, high = (float(v) for v in np.percentile(values, (LOW, HIGH)))
    return (low, high) if low < high else (low, low + 1.0)


def display_properties(layer: ImageLayer) -> tuple[str, ...]:
    """Return the display properties of a layer that before and after must share."""
    shared = ("contrast_limits", "gamma")
    return shared if layer.rgb else (*shared, "colormap")


def shown_alike(layer: ImageLayer) -> dict[str, Any]:
    """Return arguments of a layer whose pixels are displayed as those of `layer`."""
    names = (*display_properties(layer), "interpolation2d")
    return {name: getattr(layer, name) for name in names}


def type_range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the range of an integer type; 0 … 1 for floats."""
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        return float(info.min), float(info.max)
    return 0.0, 1.0


ORANGE, PURPLE = (0.702, 0.345, 0.024), (0.329, 0.153, 0.533)
"""Ends of ColorBrewer's PuOr, as the figures have it: distinguishable with any kind of colour vision."""
LABELLED = (1, 1.5, 2, 3, 4, 5, 10)
"""First digits of the numbers that napari's colour bars have labels for at both ends."""
BAR = "napari_restore_bar"
"""In the metadata of layers that have a colour bar on the canvas as soon as they are there."""
Floats = npt.NDArray[np.float32]


def signed_colours() -> Colormap:
    """Return orange below zero, purple above and clear at zero, where the image is seen."""
    from napari.utils import Colormap

    strength = np.linspace(-1, 1, 65)[:, None]
    ends = np.where(strength < 0, ORANGE, PURPLE)
    # Soon opaque: weak shares are shown by paler colours, not by the picture shining through.
    pale = 1 - np.clip(np.abs(strength) * 1.5 + 0.15, 0, 1)
    colours = ends + (1 - ends) * pale
    alpha = np.clip(np.abs(strength) * 4, 0, 1)
    return Colormap(np.hstack([colours, alpha]), name="attribution")


def head_colours() -> Colormap:
    """Return viridis, clear where nothing is."""
    from napari.utils import Colormap
    from napari.utils.colormaps import ensure_colormap

    strength = np.linspace(0, 1, 65)
    colours = np.array(ensure_colormap("viridis").map(strength), float)
    colours[:, 3] = np.clip(0.25 + strength, 0, 0.9)
    colours[0, 3] = 0
    return Colormap(colours, name="attention")


def colour_limit(most: float) -> float:
    """Return the first number from `most` on that a colour bar of napari has a label for at its ends."""
    if not most > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    # The bar has room for few, and none where they are uneven.
    return next(n * power for n in LABELLED if n * power >= most * (1 - 1e-6))


def weight_limits(
    values: Floats, *, spread: bool = False, is_signed: bool = False
) -> tuple[float, float]:
    """Return the contrast limits of a map of a head: around 0, from there or, with `spread`, from its least."""
    known = values[np.isfinite(values)]
    if is_signed:
        most = float(np.abs(known).max(initial=0)) or 1.0
        return -most, most
    if not known.size:
        return 0.0, 1.0
    high = float(known.max())
    low = float(known.min()) if spread or known.min() < 0 else 0.0
    return (low, high) if high > low else (low, low + (abs(low) or 1.0))


def largest_of_blocks(values: Floats, step: int) -> Floats:
    """Return (…, ⌈h/step⌉, ⌈w/step⌉): of each block the value whose magnitude is largest, NaN where none is."""
    *maps, rows, columns = values.shape
    height, width = -(-rows // step), -(-columns // step)
    padded = np.full((*maps, height * step, width * step), np.nan, np.float32)
    padded[..., :rows, :columns] = values
    blocks = padded.reshape(*maps, height, step, width, step).swapaxes(-3, -2)
    blocks = blocks.reshape(*maps, height, width, -1)
    at = np.nan_to_num(np.abs(blocks), nan=-1).argmax(axis=-1)[..., None]
    largest: Floats = np.take_along_axis(blocks, at, axis=-1)[..., 0]
    return largest


def with_blanks(values: Floats, *, is_signed: bool = False) -> Floats:
    """Return a map whose cells that were never asked lie where it is clear: at 0, or below all others."""
    if is_signed:
        return np.nan_to_num(values)
    known = values[np.isfinite(values)]
    low = float(known.min()) if known.size else 0.0
    filled: Floats = np.where(np.isfinite(values), values, min(low, 0.0) - 1).astype(np.float32)
    return filled


def draw_thumbnails_in(viewer: ViewerModel) -> None:
    """Draw the thumbnails of images that napari-restore opens in `viewer` from now on."""
    viewer.layers.events.inserted.connect(_on_inserted)
    free_in_canvas(viewer)


_freed: weakref.WeakSet[ViewerModel] = weakref.WeakSet()


def free_in_canvas(viewer: ViewerModel) -> None:
    """Let `viewer` free what OpenGL has of layers that leave in the context of its canvas."""
    # napari 0.9 frees it at once in whatever context is current: that in which Qt puts the window
    # together, say. The canvas then draws with what is gone, and the driver crashes (decision
    # 0077).
    if viewer not in _freed:
        _freed.add(viewer)
        events, make_current = viewer.layers.events, partial(_make_current, weakref.ref(viewer))
        # napari's own callbacks go first: it frees one layer in `removed`, several after the last.
        events.removing.connect(make_current)
        events.removed.connect(make_current)


def _make_current(seen: weakref.ref[ViewerModel], event: Any) -> None:
    # A model of a viewer has no window, and one that closes no canvas.
    with suppress(AttributeError, RuntimeError):
        seen().window._qt_viewer.canvas._scene_canvas.set_current()  # type: ignore[union-attr]


def draw_thumbnail_of(layer: ImageLayer) -> None:
    """Keep the thumbnail of a colour layer within its contrast limits and gamma."""
    # napari 0.9 disregards both in RGB(A) thumbnails: it takes values of RGB that are not uint8 for
    # colours in [0, 1], so that 16-bit layers saturate, and the high byte of 16-bit RGBA.
    if layer.rgb and layer.dtype != np.uint8:
        layer.events.thumbnail.connect(_on_thumbnail)
        _draw(layer)


def _on_inserted(event: Any) -> None:
    if BAR in event.value.metadata:
        event.value.colorbar.visible = True
    # A result draws its own.
    if "napari_restore" in event.value.metadata:
        draw_thumbnail_of(event.value)


def _on_thumbnail(event: Any) -> None:
    _draw(event.source)


def _draw(layer: ImageLayer) -> None:
    # What napari draws thumbnails from; layer.data would be read again at every change.
    current = layer._slice
    if not current.empty:
        with layer.events.thumbnail.blocker(_on_thumbnail):
            layer.thumbnail = _thumbnail(layer, current.thumbnail.raw)


def _thumbnail(layer: ImageLayer, pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return (h, w, rgba) in [0, 1], at most as large as napari's thumbnails, of (y, x, rgb or rgba)."""
    size = np.array(pixels.shape[:2])
    height, width = np.maximum(1, size * (np.array(layer.thumbnail.shape[:2]) / size).min())
    rows, columns = (
        ((np.arange(int(count)) + 0.5) * (length / int(count))).astype(np.intp)
        for count, length in zip((height, width), size, strict=True)
    )
    values = np.asarray(pixels)[np.ix_(rows, columns)].astype(np.float32)
    low, high = layer.contrast_limits
    colours = np.clip((values[..., :3] - low) / (high - low), 0, 1) ** layer.gamma
    alpha = np.full(values.shape[:2], layer.opacity, np.float32)
    if values.shape[2] == 4:
        alpha *= values[..., 3] / (np.iinfo(layer.dtype).max if layer.dtype.kind in "iu" else 1)
    drawn: npt.NDArray[np.float32] = np.dstack([colours, alpha])
    return drawn
