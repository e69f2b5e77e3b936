"""Images that are made of an open one: placed, exposed, with other bands, a level, frames of a bracket.

"companion" and "light" are words of docs/glossary.md.
"""

from __future__ import annotations

import hashlib
import json
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, Generic, Self, TypeVar

import numpy as np

from napari_restore.errors import BadParameter
from napari_restore.images._base import ImageBase
from napari_restore.images._display_curve import DisplayCurve, curve_of
from napari_restore.images._georeference import Georeference
from napari_restore.images._planes import Planes
from napari_restore.images._reader import Reader
from napari_restore.images.levels.level_view import LevelReader, scaled
from napari_restore.images.readers.array import ArrayReader
from napari_restore.images.readers.exposed import ExposedReader, LightReader
from napari_restore.images.readers.raw import RawReader
from napari_restore.images.readers.registered import RegisteredReader
from napari_restore.images.readers.resampled import ResampledReader
from napari_restore.images.readers.selected import SelectedReader
from napari_restore.images.values.roles import GivenBands, bands_text, parse_bands
from napari_restore.images.values.working_space import working_space_of

MOST_EV = 60
"""EV beyond which there is no exposure: the float32 numbers of light have twice as many."""
Frame = TypeVar("Frame", bound=ImageBase)


@dataclass(frozen=True)
class Companions(Generic[Frame]):
    """Further images that a model sees beside the image, the reference, in order of exposure."""

    images: tuple[Frame, ...]
    """Dark to bright, without the reference."""
    reference: int
    """Place of the reference among all frames, counted from 0."""
    exposures: tuple[float, ...]
    """Exposure of every frame in EV relative to that of the reference, dark to bright."""
    residuals: tuple[float | None, ...] = ()
    """Pixels that each of `images` is off by after alignment; None where it was not aligned."""
    corners: tuple[float | None, ...] = ()
    """Pixels that each may be off by at a corner, where that is more than a little; else None."""

    @property
    def frames(self) -> int:
        """Number of frames, the reference included."""
        return len(self.images) + 1

    def around(self, reference: Frame) -> tuple[Frame, ...]:
        """Return all frames, dark to bright."""
        return (*self.images[: self.reference], reference, *self.images[self.reference :])

    def map(self, change: Callable[[Frame], Frame]) -> Companions[Frame]:
        """Return the companions with every image changed."""
        return replace(self, images=tuple(map(change, self.images)))

    def digest(self, own: str) -> str:
        """Return a hex digest that identifies all frames; `own` is the reference's fingerprint."""
        parts = [own, [each.fingerprint for each in self.images], self.reference, self.exposures]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


VIEWS = ("select", "balance", "exposed", "placement", "level", "resampled")
"""What a `spec` may ask of the opened image, in the order in which it is done; "views" come after."""


def check_exposure(ev: float) -> None:
    """Raise `BadParameter` for an EV that no exposure has."""
    # So written that NaN is outside.
    if not abs(ev) <= MOST_EV:
        raise BadParameter(
            f"There is no exposure of {ev:g} EV.", f"EV are between −{MOST_EV} and {MOST_EV}."
        )


def check_frames(frames: Sequence[ImageBase]) -> None:
    """Raise `BadParameter` for a frame of another size, number of bands or dtype than most."""
    for what, of in (
        ("{0.width} × {0.height} pixels", lambda frame: (frame.width, frame.height)),
        ("{0.bands} bands", lambda frame: frame.bands),
        ("{0.dtype} values", lambda frame: frame.dtype),
        ("another place on the map", lambda frame: (frame.crs, frame.transform)),
    ):
        kinds = [of(frame) for frame in frames]
        usual = max(kinds, key=kinds.count)
        for frame, kind in zip(frames, kinds, strict=True):
            if kind != usual:
                raise BadParameter(
                    f"{frame.name} has {what.format(frame)}, unlike the other frames.",
                    "Frames of a bracket are of one size and kind: leave it out.",
                )


class DerivedImages(ImageBase):
    """The methods of `Image` that return another image of the same pixels.

    Files and caches are shared. Each has its own `spec`, from which another process opens it.
    """

    spec: dict[str, Any] | None
    """What opens the image again; None for an array in memory."""
    notes: list[str]
    planes: Planes
    """The planes of the file …"""
    plane: int
    """… of which this is one, counted from 0."""
    full: Self | None
    """The image this one is a level of; see `level_view`."""
    scale: int
    """Pixels of `full` along a side of one of this image's: a power of two."""
    companions: Companions[Self] | None
    """The other frames of a bracket of which this image is one."""
    shows_classes: bool = False
    """Whether its colours are those of classes on a map, and nobody has named its bands."""
    all_bands: Self | None = None
    """The image that this one has some of the bands of; see `with_bands`."""
    original: Self | None = None
    """The image that this one was resampled from; see `resampled` …"""
    resampling: Fraction = Fraction(1)
    """… and how many of its pixels there are along a pixel of that."""

    def __init__(self, reader: Reader, *, spec: dict[str, Any] | None = None) -> None: ...

    @property
    def given(self) -> Self:
        """The image itself, or the one that it was resampled from."""
        return self if self.original is None else self.original

    @cached_property
    def known_range(self) -> tuple[float, float] | None:
        """Smallest and largest finite value where they are known without reading, else None."""
        return self.reader.known_range if isinstance(self.reader, ArrayReader) else None

    def with_companions(
        self,
        images: Sequence[Self],
        reference: int,
        exposures: Sequence[float],
        residuals: Sequence[float | None] = (),
        corners: Sequence[float | None] = (),
    ) -> Self:
        """Return this image as a frame of a bracket on its grid, with its own `spec`; see `Companions`.

        Pixels, levels and caches are those of this image.
        """
        evs = tuple(map(float, exposures))
        off = tuple(residuals), tuple(corners)
        return self._among(Companions(tuple(images), reference, evs, *off))

    def placed(self, matrix: Sequence[float], size: tuple[int, int]) -> Self:
        """Return these pixels on a grid of `size` (height, width), with their own `spec`.

        Nine numbers map (x, y, 1) of its pixel centres to those of this image; see `RegisteredReader`.
        """
        array = np.array(matrix, np.float64).reshape(3, 3)
        asked = {"placement": list(map(float, matrix)), "grid": list(map(int, size))}
        return self._made_by(RegisteredReader(self, array, size), asked, same_values=True)

    def exposed(self, ev: float) -> Self:
        """Return this picture of linear light as a photo (uint16) exposed by `ev`; with its own `spec`.

        1 is white at 0 EV; see `ExposedReader`. Raises `BadParameter` for an EV that no light has.

        Parameters
        ----------
        ev
            Exposure in EV; at 0, 1 is white.

        Returns
        -------
        Image
            The photo.
        """
        check_exposure(ev)
        return self._made_by(ExposedReader(self, float(ev)), {"exposed": float(ev)})

    def resampled(self, ratio: Fraction, *, phases: bool = False) -> Self:
        """Return these pixels on a finer or coarser grid, with its own `spec`; see `ResampledReader`.

        It is made once. With `phases` and 1/N all N² pixels of a block are its frames, row by row, and the
        one in the middle is the image.

        Parameters
        ----------
        ratio
            Pixels along a side of one of this image's: N or 1/N.
        phases
            Whether a model of that scale reads them.

        Returns
        -------
        Image
            The image on that grid; itself for 1.
        """
        if ratio == 1:
            return self
        phases = phases and ratio.denominator > 1
        if (ratio, phases) in self._resampled:
            return self._resampled[ratio, phases]
        made = self._on_grid(ratio, phases=phases)
        made.original, made.resampling = self, ratio
        if self.full is not None:
            made.full, made.scale = self.full.resampled(ratio, phases=phases), self.scale
        if phases:
            side = range(ratio.denominator)
            pixels = [(row, column) for row in side for column in side]
            middle = pixels.index((len(side) // 2, len(side) // 2))
            others = tuple(self._on_grid(ratio, at) for n, at in enumerate(pixels) if n != middle)
            made.companions = Companions(others, middle, (0.0,) * len(pixels))
        self._resampled[ratio, phases] = made
        return made

    def _on_grid(
        self, ratio: Fraction, phase: tuple[int, int] | None = None, *, phases: bool = False
    ) -> Self:
        asked = {"resampled": str(ratio)} | ({"phases": True} if phases else {})
        return self._made_by(ResampledReader(self, ratio, phase), asked, same_values=True)

    @cached_property
    def _resampled(self) -> dict[tuple[Fraction, bool], Self]:
        """What `resampled` has made of this image."""
        return {}

    def _made_by(
        self, reader: Reader, asked: Mapping[str, Any], *, same_values: bool = False
    ) -> Self:
        """Return the image of a reader of these pixels, with what is known of their bands.

        `asked` is what its `spec` has beside this one's. With `same_values` it has the range and the
        colours of this one.
        """
        made = type(self)(reader, spec=self._spec_with(asked))
        made.sensor, made.path, made.notes = self.sensor, self.path, list(self.notes)
        made.described = self.described
        made.planes, made.plane = self.planes, self.plane
        if same_values:
            made.working_space, made.known_range = self.working_space, self.known_range
        return made

    def _copy(self) -> Self:
        # Not `copy.copy`: that opens the file again, which an array does not have.
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.__dict__.pop("_resampled", None)
        return other

    def _spec_with(self, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the `spec` of a view of this image; None where it has none itself."""
        if self.spec is None:
            return None
        # It is read in the order of `VIEWS`; what is asked out of that order is listed.
        place = min((VIEWS.index(name) for name in asked if name in VIEWS), default=len(VIEWS))
        if "select" in asked and "views" not in self.spec and "select" in self.spec:
            # A file's bands are counted before some of them are selected.
            asked = {"select": [self.spec["select"][number] for number in asked["select"]]}
            place += 1
        if "views" in self.spec or not self.spec.keys().isdisjoint(VIEWS[place:]):
            return {**self.spec, "views": [*self.spec.get("views", ()), dict(asked)]}
        return {**self.spec, **asked}

    @property
    def _positions(self) -> Sequence[int]:
        """The numbers that the bands have in the file."""
        spec = self.spec or {}
        positions: Sequence[int] = spec.get("select", range(sys.maxsize))
        for view in spec.get("views", ()):
            positions = [positions[n] for n in view["select"]] if "select" in view else positions
        return positions

    def refreshed(self, *, everywhere: bool = True) -> Self:
        """Return the image of an array as that is now; itself where nothing was edited in place."""
        # All values are compared; without `everywhere` only those of arrays in memory. Files are
        # themselves: a run checks them.
        others = self._companions(lambda frame: frame.refreshed(everywhere=everywhere))
        before = () if self.companions is None else self.companions.images
        is_same = others is None or all(map(operator.is_, others.images, before))
        is_compared = self.path is None and (everywhere or self.reader.in_memory)
        if is_same and not (is_compared and self.reader.fingerprint() != self.fingerprint):
            return self
        return self.uncached()._among(others)

    def uncached(self) -> Self:
        """Return the same image, one of its own, without levels and values that were read before."""
        fresh = self._copy()
        fresh.reader = fresh.source = self.reader.uncached()
        fresh.pyramid = None
        fresh.full, fresh.original = (x and x.uncached() for x in (self.full, self.original))
        for name in ("fingerprint", "levels", "known_range"):
            fresh.__dict__.pop(name, None)
        inner = getattr(fresh.reader, "image", None)
        if inner is not None and "known_range" in self.__dict__:
            fresh.known_range = inner.known_range
        return fresh

    def balanced(self, balance: Sequence[float]) -> Self:
        """Return this RAW photo developed with another white balance, with its own `spec`.

        The factors are those of `RawReader.balance`. Raises `BadParameter` for an image that is no RAW photo.
        """
        spec = None if self.spec is None else {**self.spec, "balance": list(map(float, balance))}
        if not isinstance(self.reader, RawReader):
            raise BadParameter(
                f"{self.name} is no RAW photo, so it has no white balance to set.",
                "Choose the RAW photo itself.",
            )
        frame = type(self)(RawReader(self.reader.path, balance=balance), spec=spec)
        frame.sensor, frame.described = self.sensor, self.described
        return frame

    def as_light(self) -> Self:
        """Return the frames of a bracket as linear light (float32), 1 being white of this one.

        Brought to one exposure, all show the same; see `LightReader`. Has its own `spec`; itself where it
        is light already or no bracket. Raises `BadParameter` for exposures that no light has.
        """
        others = self.companions
        if others is None or self.profile.light is not None:
            return self
        for ev in others.exposures:
            check_exposure(ev)
        curve = curve_of(others.exposures, self.dtype)
        own, place = others.exposures, others.reference
        images = [
            frame._light(ev, curve)
            for frame, ev in zip(others.images, own[:place] + own[place + 1 :], strict=True)
        ]
        light = self._light(0.0, curve)._among(replace(others, images=tuple(images)))
        light.spec = None if self.spec is None else {**self.spec, "light": True}
        return light

    def _light(self, ev: float, curve: DisplayCurve) -> Self:
        """Return this frame, exposed by `ev`, as light; its `spec` is that of the frame."""
        frame = self._made_by(LightReader(self, ev, curve), {})
        # Zero of a sensor is one of the photo's values.
        frame.sensor = None
        frame.full, frame.scale = self.full, self.scale
        return frame

    @property
    def frames(self) -> tuple[Self, ...]:
        """The frames of the bracket, dark to bright; of a single image that alone."""
        return (self,) if self.companions is None else self.companions.around(self)

    @property
    def frames_fingerprint(self) -> str:
        """Hex digest that identifies the content of all frames."""
        own = self.fingerprint
        return own if self.companions is None else self.companions.digest(own)

    def _among(self, companions: Companions[Self] | None) -> Self:
        """Return a copy of this image with companions."""
        if companions is None:
            return self
        frame = self._copy()
        frame.companions = companions
        specs = [each.spec for each in companions.images]
        frame.spec = None
        if self.spec is not None and None not in specs:
            place, evs = companions.reference, list(companions.exposures)
            others = {"images": specs, "reference": place, "exposures": evs}
            frame.spec = {**self.spec, "companions": others}
        return frame

    def with_bands(self, numbers: Sequence[int]) -> Self:
        """Return some of the bands as an image of their own, with its own `spec`.

        Roles, wavelengths and everything else a band has go with it; validity stays that of the
        whole file. Raises `BadParameter` for bands that do not exist.

        Parameters
        ----------
        numbers
            Bands in their new order, counted from 0.

        Returns
        -------
        Image
            The image of these bands.
        """
        chosen = tuple(numbers)
        if chosen == tuple(range(self.bands)):
            return self
        if not chosen or not all(0 <= number < self.bands for number in chosen):
            raise BadParameter(
                f"{self.name} has {self.bands} bands, not the requested ones.",
                "Count them from 0.",
            )
        if self.full is not None:
            return self.full.with_bands(chosen).level_view(self.reader.number)  # type: ignore[attr-defined]
        asked = {"select": list(chosen)}
        part = self._made_by(SelectedReader(self.reader, chosen, self.roles), asked)
        part.described = self.described.of(chosen)
        if self.working_space is not None:
            part.working_space = working_space_of(part.profile, part.roles, part.dtype)[0]
        part.known_range = self.known_range
        part.all_bands = self.all_bands or self
        return part._among(self._companions(lambda frame: frame.with_bands(chosen)))

    def _companions(self, change: Callable[[Self], Self]) -> Companions[Self] | None:
        return None if self.companions is None else self.companions.map(change)

    def take_levels(self, other: Self) -> None:
        """Share the levels that another image of the same pixels has made since."""
        # Not where other bands decide which pixels are valid.
        if self.data_bands == other.data_bands:
            self.source, self.pyramid = other.source, other.pyramid

    def with_roles(self, bands: GivenBands) -> Self:
        """Return the same pixels with other roles of bands.

        Roles of the other bands stay. Shares files and caches with this image and has a `spec` of
        its own. Raises `BadParameter`.

        Parameters
        ----------
        bands
            Roles and numbers from 1, as `open_image` takes them.

        Returns
        -------
        Image
            The image with these roles.
        """
        given = parse_bands(bands, self.bands)
        named = self._copy()
        named.described = self.described.named(given)
        before, place = self.described.notes, len(self.reader.notes)
        named.notes = [note for note in self.notes if note not in before]
        named.notes[place:place] = named.described.notes
        if isinstance(self.reader, ArrayReader) and self.source is self.reader:
            named.reader = named.source = self.reader.with_roles(named.roles)
            named.__dict__.pop("fingerprint", None)
        reader = named.reader.counting(named.data_bands)
        if reader is not named.reader:
            # Other bands make pixels valid now, in its cached levels as well.
            named.reader = named.source = reader
            named.pyramid = None
        named.full = None if self.full is None else self.full.with_roles(bands)
        if self.spec is not None:
            # A file's bands are counted before some of them are selected.
            text = self.spec.get("bands")
            added = [band._replace(number=self._positions[band.number]) for band in given]
            known = parse_bands(text, sys.maxsize) if text is not None else []
            numbers = {band.number for band in added}
            known = [*(band for band in known if band.number not in numbers), *added]
            named.spec = {**self.spec, "bands": bands_text(known)}
        if self.georeference is None:
            found = working_space_of(named.profile, named.roles, named.dtype)
            named.working_space, colour_note = found
            earlier = working_space_of(self.profile, self.roles, self.dtype)[1]
            named.notes = [note for note in named.notes if note != earlier]
            named.notes += [colour_note] if colour_note else []
        return named._among(self._companions(lambda frame: frame.with_roles(bands)))

    def cells(self, stride: int) -> Self:
        """Return an image of one band of NaN (float32) whose pixels are cells of `stride` pixels of this one.

        Its size and georeference are what maps of cells are written with. Those of an image without a
        place lie where QGIS lays such an image: x is its column, y its row, negative.
        """
        shape = -(-self.height // stride), -(-self.width // stride), 1
        reader = ArrayReader(np.broadcast_to(np.float32(np.nan), shape))
        size = float(self.scale)
        place = self.reader.georeference or Georeference(transform=(size, 0, 0, 0, -size, 0))
        reader.georeference = scaled(place, stride)
        return type(self)(reader)

    def level_view(self, number: int) -> Self:
        """Return a level as an image of its own, with its own `spec`.

        Bands, range and validity are those of this image, its georeference stays. Raises
        `BadParameter` for a level that does not exist, or that is not halved evenly.

        Parameters
        ----------
        number
            Number of the level.

        Returns
        -------
        Image
            The image itself for 0.
        """
        if number == 0:
            return self
        there = 0 < number < len(self.planned_levels)
        scale = self.level_scale(number) if there else None
        if scale is None:
            raise BadParameter(
                f"{self.name} has no level {number} that halves it evenly.",
                f"It has {len(self.planned_levels)} levels, counted from 0.",
            )
        reader = LevelReader(self, number, scale)
        view = self._made_by(reader, {"level": number}, same_values=True)
        view.full, view.scale = self, scale
        return view._among(self._companions(lambda frame: frame.level_view(number)))
