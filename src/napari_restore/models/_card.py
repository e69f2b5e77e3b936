"""Description of a model for engine and user, its model card.

"card" and "scope" are words of docs/glossary.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Literal

from napari_restore._json_shapes import closed
from napari_restore._plain_files import parse_toml, read_text
from napari_restore.errors import BadModel, BadParameter, did_you_mean, option

Scope = Literal["local", "swept"]
Task = Literal["dehaze", "fuse", "lowlight", "denoise", "derain", "desnow", "deblur", "other"]
Value = float | int | bool | str
MOST_SCALE, MOST_SHRINK = 16, 8
"""Limits of a `scale` and of one over it."""


def is_scale(ratio: Fraction) -> bool:
    """Return whether the results of a network may be so many times as large as its input."""
    up, down = ratio.numerator, ratio.denominator
    return 1 in (up, down) and 0 < up <= MOST_SCALE and down <= MOST_SHRINK


@closed
@dataclass(frozen=True)
class Parameter:
    """One parameter of a model, declared once for window, command line and Python."""

    name: str
    default: Value
    help: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    unit: str = ""
    label: str = ""
    """What windows call it; empty: its name."""
    expert: bool = False
    """Whether it is for those who know the method: windows fold it away."""
    only_with: tuple[str, Value] | None = None
    """Another parameter, and the value of it without which this one has no effect; of a number 0
    means any but 0. None: it always has one."""

    @property
    def title(self) -> str:
        """Return what windows call it."""
        return self.label or self.name.replace("_", " ")

    def parse(self, value: Value) -> Value:
        """Return `value` (possibly text from a command line) in this parameter's type; raises `BadParameter`."""
        kind = type(self.default)
        try:
            if kind is bool and isinstance(value, str):
                parsed: Value = {"true": True, "1": True, "false": False, "0": False}[value.lower()]
            elif kind is int and float(value) != int(float(value)):
                raise ValueError
            else:
                parsed = kind(float(value)) if kind is int else kind(value)
        except (KeyError, ValueError, TypeError):
            raise BadParameter(
                f"Parameter {self.name} takes a {kind.__name__}, not {value!r}."
            ) from None
        if self.choices and parsed not in self.choices:
            raise BadParameter(
                f"Parameter {self.name} cannot be {parsed!r}.", f"Choose one of {self.choices}."
            )
        if isinstance(parsed, (int, float)):
            low, high = self.minimum, self.maximum
            # So written that NaN is outside.
            if not (low is None or parsed >= low) or not (high is None or parsed <= high):
                raise BadParameter(
                    f"Parameter {self.name} = {parsed} is outside {low} … {high}.",
                    f"The default is {self.default}.",
                )
        return parsed


@dataclass(frozen=True)
class ModelCard:
    """A restoration model's description.

    `halo` is the margin in pixels that the model's input needs around a tile's core so that tiled
    equals whole; it already reflects the parameters of the loaded model. Edges of cores and of
    input boxes must be multiples of `multiple_of`, counted from the image's origin, or lie on the
    image's edge.
    """

    id: str
    title: str
    summary: str
    task: Task = "dehaze"
    scenes: tuple[str, ...] = ("aerial", "natural")
    recommended_for: tuple[str, ...] = ()
    scope: Scope = "local"
    halo: int = 0
    multiple_of: int = 1
    padded_to: int | None = None
    """Sides of images are padded to multiples of this many pixels; None: `multiple_of`. It is 1 for a
    network that takes any size, but pads or pools inside."""
    scale: int | str = 1
    """Pixels of the result along one of the image: a whole number, or one over it, ``"1/2"``."""
    whole: str = ""
    """Why a network of the user's own must be given the whole image; empty: tiles will do."""
    min_size: int = 1
    value_range: tuple[float, float] = (0.0, 1.0)
    """What a network takes in place of black, 0, and white, 1."""
    mean: tuple[float, ...] = ()
    """What is subtracted from values of that range, for each band or for all; empty: nothing."""
    std: tuple[float, ...] = ()
    """What values less `mean` are divided by; empty: nothing."""
    output_range: tuple[float, float] | None = None
    """What a network gives for black and white; None: as its input is, `mean` and `std` too."""
    noise_level: float | None = None
    """Default of the parameter `sigma`, a standard deviation of the noise in steps of 8 bits; None: the
    network is given no noise level."""
    noise_as: Literal["band", "argument"] = "band"
    """How a network is given it, in units of its input: as a further band, or as a second argument
    (N, 1, 1, 1)."""
    output: int | str = 0
    """Which of several outputs is the restored image: its place, or its key."""
    inputs: int = 1
    """Number of images of one call: 1, or a bracket's length (0: any)."""
    light: bool = False
    """Whether the frames of a bracket are given, and the result is returned, as linear light, 1 being
    white of the reference; else as display values."""
    bands: int | None = None
    """Bands the model takes; None: any number."""
    roles: tuple[str, ...] = ()
    """Band roles the model needs, in its order; empty: it takes any bands. If `bands` is None
    the image's other data bands may follow behind them and are restored too."""
    needs_context: bool = False
    """Whether `prepare` needs the whole image's `Context` first."""
    placed: bool = False
    """Whether `forward` is position-dependent: its statistics may contain maps over the whole
    image, and each call gets three more, "origin", "scale" and "image_size"; see `Statistics`."""
    uses_validity: bool = False
    """Whether `forward` takes the `valid` mask; else invalid pixels are filled."""
    maps: tuple[str, ...] = ()
    """Names of the side maps that `forward_with_maps` returns."""
    transmission_wavelength: float | None = None
    """Wavelength in nm of the map "transmission"; None: the mean wavelength of the bands the
    model takes."""
    precisions: tuple[str, ...] = ("float32",)
    bfloat16_error: float | None = None
    """99.9th percentile of the differences that bfloat16 makes, in steps of 8 bits, as measured by
    benchmarks/precision.py; None where it is not measured, or no quicker."""
    parameters: tuple[Parameter, ...] = ()
    licence: str = "BSD-3-Clause"
    source: str = ""
    """Paper or report of the method."""
    needs_weights: bool = False
    """Whether it is a network that is useless without trained weights."""
    weights_sha256: str | None = None
    weights_note: str = ""
    trained_on: str = ""
    validated_on: str = ""
    caveats: str = ""
    attention: tuple[str, ...] = ()
    """Kinds of its layers of attention; those of a model of the user's own are found."""
    routing: tuple[str, ...] = ()
    """Discrete decisions of its layers that an attribution can fix along its path; see `Routing`."""
    values: Mapping[str, Value] = field(default_factory=dict)
    """The parameter values of the loaded model, defaults filled in."""

    @property
    def size_step(self) -> int:
        """Pixels of which sides of images are multiples, or are padded to be."""
        return self.padded_to or self.multiple_of

    @property
    def planes_tried(self) -> int:
        """Planes of a made-up image that the model is tried on."""
        return (self.bands or len(self.roles) or 3) * max(1, self.inputs)

    @property
    def ratio(self) -> Fraction:
        """The `scale` as a number."""
        return Fraction(self.scale)

    def check_scale(self) -> None:
        """Raise `BadModel` for a scale that is neither a whole number nor one over it."""
        try:
            ratio = Fraction(self.scale)
        except (ValueError, ZeroDivisionError):
            ratio = Fraction(0)
        if not is_scale(ratio):
            raise BadModel(
                f"The card of {self.id} has the impossible scale {self.scale!r}.",
                f'It is a whole number up to {MOST_SCALE}, or "1/2" to "1/{MOST_SHRINK}".',
            )
        if ratio != 1 and self.inputs != 1:
            raise BadModel(
                f"The card of {self.id} has a scale and takes {self.inputs or 'several'} images.",
                "Only networks of single images may have another scale than 1.",
            )

    def no_shared_statistics(self) -> BadParameter:
        """Return the error of this position-dependent model for statistics of other images.

        Returns
        -------
        BadParameter
            To be raised.
        """
        return BadParameter(
            f"Model {self.id} maps the image itself: statistics of other images do not fit it.",
            f"Leave {option('context')} out; files that join are restored as one image.",
        )

    def fill(self, given: Mapping[str, Any], others: Collection[str] = ()) -> dict[str, Value]:
        """Return all parameters with `given` over the defaults.

        Raises `BadParameter`, which names the parameters and `others` that could be given beside them.

        Parameters
        ----------
        given
            Values by the parameters' names; text is read as on the command line.
        others
            Names that may be given beside them, for the hint on a name that is not known.

        Returns
        -------
        dict
            Values by the names of all parameters.
        """
        known = {p.name: p for p in self.parameters}
        for name in given:
            if name not in known:
                hint = did_you_mean(name, [*others, *known], "It has")
                raise BadParameter(f"Model {self.id} has no parameter {name!r}.", hint)
        return {n: p.parse(given[n]) if n in given else p.default for n, p in known.items()}

    def idle_notes(self) -> Iterator[str]:
        """Yield a sentence for each parameter that is set, but has no effect with the others.

        Yields
        ------
        str
            The sentence.
        """
        for parameter in self.parameters:
            name, needed = parameter.name, parameter.only_with
            if needed is None or self.values.get(name, parameter.default) == parameter.default:
                continue
            other, wanted = needed
            # A card of the user's own may name a parameter that it has not.
            if other in self.values and (self.values[other] == wanted) is (wanted == 0):
                how = f"above {wanted}" if wanted == 0 else f"set to {wanted}"
                yield f"{name} of {self.id} has no effect unless {other} is {how}."


def with_fields(card: ModelCard, fields: Mapping[str, Any]) -> ModelCard:
    """Return `card` with fields as JSON and TOML give them: lists for tuples, tables for parameters."""
    values = {name: _as_tuple(value) for name, value in fields.items()}
    if "parameters" in fields:
        values["parameters"] = tuple(map(_parameter, fields["parameters"]))
    return replace(card, **values)


def _parameter(said: Parameter | Mapping[str, Any]) -> Parameter:
    if isinstance(said, Parameter):
        return said
    return Parameter(**{name: _as_tuple(value) for name, value in said.items()})


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@cache
def shared_parameters() -> dict[str, dict[str, Any]]:
    """Return the tables of ``parameters.toml`` by name."""
    return parse_toml(read_text(Path(__file__).with_name("parameters.toml")))
