"""Images: opening, inspection, and checks of output files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

from napari_restore import engine, images, models
from napari_restore.questions import Bands as Bands, Pathlike as Pathlike, Region, Restore

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_restore.engine import MaskChoices, Plan
    from napari_restore.images import Image, SaveOptions
    from napari_restore.models import ModelCard
    from napari_restore.questions import FormatKeywords


def open_image(
    source: Any,
    *,
    stack: bool = False,
    bands: Bands | None = None,
    sensor: Pathlike | None = None,
    allow_outside: bool = False,
    cancelled: Callable[[], bool] | None = None,
    plane: int | None = None,
) -> Image:
    """Open a raster, photo, zarr or array lazily.

    Parameters
    ----------
    source
        A path (of a Landsat, Sentinel-2 or STAC product its folder, zip or metadata, ``scene.SAFE:20m``
        for another resolution of it; ``NETCDF:FILE:VARIABLE`` for one of several grids), or the address (https://, s3://, gs://, az://) of a GeoTIFF, COG, JPEG 2000 or
        OME-Zarr, of which only what is needed is fetched; several, side by side on one map grid or with `stack` the bands
        of one image; an array (H, W) or (H, W, C) of numpy, dask, zarr or xarray, where 3 or 4
        bands are red, green, blue (and alpha) unless something says otherwise; a list of its
        levels; a PIL image; a torch tensor (C, H, W) or (1, C, H, W). An open `Image` is returned
        as it is, or with the preset `sensor` and the roles of `bands`.
    stack
        Take several single-band files as one image.
    bands
        Which band is what, counted from 1: "red=4,green=3,blue=2,nir=5" or a mapping; "swir=6@1610"
        gives the wavelength in nm, too.
    sensor
        A preset for roles, wavelengths and zero ("landsat8", "sentinel2", "naip" …), or a file of
        your own, ``FILE.toml``.
    allow_outside
        Let a VRT or a STAC item take its pixels from files outside its own folder, on this computer,
        and an item from addresses.
    cancelled
        Called between the steps of opening; `Cancelled` is raised once it returns true.
    plane
        Of a TIFF, OME-TIFF or zarr with several pages, depths or times the one to open, counted
        from 0, the last axis fastest; `image.planes` has the axes.

    Returns
    -------
    Image
        `.shape`, `.levels` (dask arrays, the finest first), `.roles`, `.crs`, `.transform`, `.nodata`.

    Raises
    ------
    napari_restore.errors.UnreadableImage
        With one sentence naming the cause.
    napari_restore.errors.StackOfPlanes
        For a file with several planes, without `plane`.
    """
    if isinstance(source, images.Image):
        preset = source if sensor is None else source.with_sensor(sensor)
        return preset if bands is None else preset.with_roles(bands)
    return images.open_image(
        source,
        stack=stack,
        bands=bands,
        sensor=sensor,
        # An address that is given here was not named by a file.
        allow_outside=allow_outside or images.names_address(source),
        cancelled=cancelled,
        plane=plane,
    )


class SensorBands(NamedTuple):
    """A sensor whose preset says something of an image's bands."""

    id: str
    title: str
    roles: dict[str, int]
    """The first band, counted from 1, of each role that the image has with the preset."""


def sensor_bands(image: Image) -> list[SensorBands]:
    """Return the sensors that may have taken `image`: those that know its bands by name or number."""
    from napari_restore.errors import BadParameter

    found = []
    for sensor in images.known_sensors().values():
        try:
            named = image.with_sensor(sensor.id)
        except BadParameter:
            # Its bands have other names.
            continue
        known = (named.roles, named.wavelengths) != (image.roles, image.wavelengths)
        if known or sensor.id == image.profile.sensor:
            roles: dict[str, int] = {}
            for number, role in enumerate(named.roles, start=1):
                if role is not None:
                    roles.setdefault(role, number)
            found.append(SensorBands(sensor.id, sensor.title, roles))
    return found


def is_in_usual_order(image: Image) -> bool:
    """Return whether bands 1, 2 and 3 may be red, green and blue, as names say nothing else.

    No sensor has bands of their names. What sensor the name of the file says leaves their order open.
    """
    names = [name.strip() for name in image.descriptions[:3] if name]
    is_numbered = any(s.band(name) for s in images.known_sensors().values() for name in names)
    return image.bands >= 3 and not any(image.roles[:3]) and not is_numbered


def picture_in(image: Image, bands: Bands) -> npt.NDArray[np.uint8] | None:
    """Return a small picture (h, w, 3) of `image` with the colours of `bands`, 0 … 255.

    None where the image is large and no level of it is there.
    """
    named = open_image(image, bands=bands)
    named.take_levels(image)
    return images.picture_of(named)


def merged_bands(bands: Bands | None, more: Bands) -> str:
    """Return what `bands` and then `more` say, as one text, each band once where that is the same."""
    given = [*images.parse_bands([] if bands is None else bands, sys.maxsize)]
    for each in images.parse_bands(more, sys.maxsize):
        given = [
            g for g in given
            if g.number != each.number and (g.role != each.role or g.role in (None, *images.AUXILIARY))
        ]  # fmt: skip
        given.append(each)
    return images.bands_text(given)


def output_box(plan: Plan, clip: str | None = None) -> Region | None:
    """Return the box that contains the output, in pixels of its image; None for all of it.

    Raises `BadRegion` where it is clipped, and there is no area to clip it to.
    """
    from napari_restore.errors import BadRegion, option

    image, box = plan.image, plan.region
    if clip is not None and plan.target.mask is None and box == (0, 0, image.height, image.width):
        raise BadRegion(
            "All of the image is restored: there is no area to clip to.",
            f"Name one by {option('mask')}, or leave {option('clip')} out.",
        )
    return None if plan.target.mask is not None and clip is None else box


def check_output(
    path: Pathlike,
    image: Any,
    overwrite: bool = False,
    *,
    region: Sequence[int] | None = None,
    **options: Unpack[FormatKeywords],
) -> None:
    """Raise `BadOutput` if the result of `image` cannot be written to `path`.

    `region` (y0, x0, y1, x1) is the part that will be written, by default all;
    `options` are those of `Result.save`.
    """
    opened = open_image(image)
    inputs = [] if opened.path is None else list(opened.reader.files())
    whole = Region(0, 0, opened.height, opened.width)
    part = whole if region is None else Region(*region).intersect(whole)
    height, width = (whole if part.is_empty else part).shape
    images.check_output(
        Path(path),
        inputs,
        overwrite,
        like=opened,
        shape=(height, width, opened.bands),
        options=images.ExportOptions(**options),
    )


def notes_on_output(path: Pathlike, image: Image) -> list[str]:
    """Return what the user should know of how `image` is written to `path`."""
    notes = []
    if images.is_flattened(Path(path), image):
        notes.append("JPEG has no alpha: what is transparent is flattened on white.")
    elif "alpha" in image.roles:
        notes.append("The alpha band is kept.")
    if Path(path).suffix.lower() == ".webp" and image.bands == 1:
        profile = "" if image.profile.icc is None else ", without its profile of grey"
        notes.append(f"WebP has no grey: three equal bands are written{profile}.")
    long = images.too_long_for_jpeg(image.profile)
    if long and Path(path).suffix.lower() in (".jpg", ".jpeg"):
        *others, last = long
        what = f"{', '.join(others)} and {last}" if others else last
        notes.append(
            f"The {what} of {image.name} {'are' if others else 'is'} left out: JPEG has 64 kB for it."
        )
    return notes


def check_stack(
    path: Pathlike, image: Image, *, overwrite: bool = False, **options: Unpack[FormatKeywords]
) -> None:
    """Raise `BadOutput` if planes like `image` cannot be joined in `path`."""
    images.check_stack(Path(path), image, images.ExportOptions(**options, overwrite=overwrite))


def check_export(path: Pathlike, **options: Unpack[SaveOptions]) -> None:
    """Raise `BadOutput` for `options` of `Result.save` beyond their limits, or not of `path`'s format."""
    images.check_options(path, images.ExportOptions(**options))


def unfit_options(path: Pathlike, **options: Unpack[SaveOptions]) -> frozenset[str]:
    """Return the names of those `options` of `Result.save` that the format of `path` cannot have."""
    return frozenset(images.unfit_options(path, images.ExportOptions(**options)))


def mean_colour(
    image: Any, model: str | ModelCard, box: Sequence[int], level: int = 0
) -> tuple[float, ...]:
    """Return the mean of the valid pixels of a box per band, in model range.

    `box` (y0, x0, y1, x1) is in pixels of `level`. Where the range depends on all
    values the whole image is read once. Raises `BadRegion` if nothing in the box
    is valid.
    """
    card = models.card_of(model) if isinstance(model, str) else model
    y0, x0, y1, x1 = (int(v) for v in box)
    return engine.mean_colour(open_image(image), card, (y0, x0, y1, x1), level)


def info(
    image: Any,
    *,
    bands: Bands | None = None,
    sensor: Pathlike | None = None,
    black: float | None = None,
    white: float | None = None,
) -> dict[str, Any]:
    """Describe how `image` is read: size, bands, roles, range, georeference, notes.

    Parameters
    ----------
    image
        As for `open_image`.
    bands, sensor, black, white
        As for `plan`.

    Returns
    -------
    dict
        What ``napari-restore info --json`` prints.

    Raises
    ------
    napari_restore.errors.UnreadableImage
        With one sentence naming the cause.
    """
    return images.describe(
        open_image(image, bands=bands, sensor=sensor, plane=0), black=black, white=white
    )


def save_context(
    images: Sequence[Any],
    path: Pathlike,
    exclude: Pathlike | None = None,
    *,
    exclude_values: str | int | Sequence[str | int | float] | None = None,
    exclude_bits: str | int | Sequence[str | int] | None = None,
    exclude_where: str | None = None,
) -> Path:
    """Write the whole-image statistics of `images`, taken as one, for the option `context`.

    `exclude` is a mask of pixels that do not count, with `exclude_values`, `exclude_bits` and
    `exclude_where` as for `plan`; with several images only shapes and bands of their own fit them all.
    """
    target = Path(path)
    choice = {"values": exclude_values, "bits": exclude_bits, "where": exclude_where}
    named = {f"exclude_{name}": value for name, value in choice.items()}
    reading = Restore.of({"exclude": exclude, **named}).reading
    found = engine.context_of_images([open_image(image) for image in images], reading)
    engine.save_context(target, found)
    return target


def mask_file(mask: str) -> str | None:
    """Return the file of a mask that may be text, ``FILE:BAND`` or a band of the image; else None."""
    return None if images.is_inline(mask) else images.parts_of(mask)[0] or None


def mask_of_polygons(image: Any, polygons: Sequence[Any]) -> Path:
    """Write polygons for the option `mask` of what `open_image` opens, as `images.mask_of_polygons` does."""
    return images.mask_of_polygons(open_image(image), polygons)


def mask_of_line(image: Any, start: tuple[float, float], end: tuple[float, float]) -> Path:
    """Write a gradient for `mask` of what `open_image` opens, as `images.mask_of_line` does."""
    return images.mask_of_line(open_image(image), start, end)


def mask_of_array(
    image: Any, strengths: Any, place: tuple[float, float, float, float, float, float]
) -> Path:
    """Write an array for `mask` of what `open_image` opens, as `images.mask_of_array` does."""
    return images.mask_of_array(open_image(image), strengths, place)


def mask_choices(image: Any, mask: str) -> MaskChoices:
    """Return what there is to choose of a mask for ``exclude``: bands, names of classes and bits.

    Opens its file: not for the GUI thread. Raises `BadMask`, `UnreadableImage`.
    """
    return engine.choices_of(mask, open_image(image))
