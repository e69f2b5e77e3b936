"""A training configuration: what CONFIG.toml may say, and what follows where it is silent."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from napari_restore.errors import BadParameter, UnreadableImage
from napari_restore.training.loop._table import convert, fill


@dataclass(frozen=True)
class Every:
    """An interval, in steps (the same in every run) or in minutes (of this machine)."""

    steps: int | None = None
    minutes: float | None = None

    @classmethod
    def from_toml(cls, value: Any) -> Every:
        """500 (steps), "500 steps" or "5 min"; raises `ValueError`."""
        if isinstance(value, str):
            found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(steps?|min|minutes?)\s*", value)
            if found and found[2].startswith("min") and float(found[1]) > 0:
                return cls(minutes=float(found[1]))
            value = int(found[1]) if found and found[1].isdecimal() else None
        if type(value) is not int or value < 1:
            raise ValueError('Write a number of steps, such as 500, or a time, such as "5 min".')
        return cls(steps=value)


@dataclass(frozen=True)
class ModelConfig:
    """[model]: the network and what it starts with."""

    id: str
    sizes: dict[str, int] = field(default_factory=dict)
    """Keyword arguments of the network's factory, as ``{ width = 16 }``."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Parameters of its card."""
    weights: Path | None = None
    """A weights file to start from; else the network's own start, drawn from the seed."""
    exact_below: int | None = None
    """Staged networks: hashed attention from so many tokens on, while training only."""
    random_origin: int = 0
    """Staged networks: tokens up to which a crop's place is drawn anew for every image."""
    checkpointing: bool = False
    """Staged networks: compute encoder, layers and decoder twice and hold less memory."""


@dataclass(frozen=True)
class DataConfig:
    """[data]: the clear pictures."""

    index: Path
    """INDEX.csv, a folder with one, a folder of pictures, or what was packed of them before:
    a folder or a .zip."""
    licences: Literal["free", "any"] = "any"
    """"free": only those under which weights may be passed on."""
    kinds: tuple[Literal["aerial", "natural"], ...] = ("aerial", "natural")
    long_side: int = 2048
    """Larger pictures are reduced to so many pixels a side."""
    cache: Path | None = None
    """Folder in which pictures are kept at several scales; by default one in the output."""

    def __post_init__(self) -> None:
        _check(bool(self.kinds), "kinds is empty", "Write aerial, natural or both.")
        _check(self.long_side >= 64, f"long_side = {self.long_side} is too small", "As 2048.")


@dataclass(frozen=True)
class OptimiserConfig:
    """[optimiser]: AdamW with a warm-up and a cosine to `final` · lr."""

    lr: float = 5e-4
    weight_decay: float = 0.01
    """Of matrices and kernels; scales and biases have none."""
    betas: tuple[float, float] = (0.9, 0.99)
    warmup: int = 200
    """Steps from 0 to `lr`."""
    schedule: Literal["cosine", "constant"] = "cosine"
    final: float = 0.02
    """Share of `lr` at the end of the cosine."""
    clip: float = 0.3
    """Largest norm of all gradients together; 0: as they are."""

    def __post_init__(self) -> None:
        _check(self.lr > 0, f"lr = {self.lr} is not above 0", "Write for instance 5e-4.")
        _check(self.weight_decay >= 0, "weight_decay is below 0", "Write 0 for none.")
        _check(all(0 <= b < 1 for b in self.betas), "betas lie outside 0 … 1", "As [0.9, 0.99].")
        _check(self.warmup >= 0, "warmup is below 0", "Write 0 for none.")
        _check(0 <= self.final <= 1, f"final = {self.final} is outside 0 … 1", "It is a share.")
        _check(self.clip >= 0, "clip is below 0", "Write 0 for none.")


@dataclass(frozen=True)
class RunConfig:
    """[run]: how long, how exact, and where to."""

    output: Path
    """Folder of checkpoint, log, plot and weights."""
    name: str = ""
    """The weights' file name without suffix; by default the model's id."""
    steps: int | None = None
    """Length of a stage. A run can only be repeated bit by bit if it is given."""
    minutes: float | None = None
    """Length of a stage in time instead."""
    stop_after: float | None = None
    """Minutes after which a call saves and stops; the same command goes on."""
    seed: int = 0
    bf16: bool = False
    """Compute the network in bfloat16 (weights and losses stay float32)."""
    ema: float = 0.999
    """Decay of the average of the weights, which is what is scored and saved; 0: none."""
    explode: float = 10.0
    """A step whose loss is so many times the recent mean is not taken; 0: any is."""
    workers: int = 1
    """Processes that make batches ahead; 0: the training process itself."""
    threads: int = 0
    """Processor threads of the network; 0: torch's own choice."""
    score_every: Every = Every(minutes=5)
    checkpoint_every: Every = Every(minutes=5)
    log_every: int = 50
    """Steps that a row of the log sums up."""

    def __post_init__(self) -> None:
        both = self.steps is not None and self.minutes is not None
        _check(
            not both,
            "has both steps and minutes",
            "Give the length by one of them; stop_after limits one call.",
        )
        _check_length(self.steps, self.minutes)
        _check(self.stop_after is None or self.stop_after > 0, "stop_after is not above 0", "")
        _check(self.seed >= 0, f"seed = {self.seed} is below 0", "Write 0 or more.")
        _check(0 <= self.ema < 1, f"ema = {self.ema} is outside 0 … 1", "Write for instance 0.999.")
        _check(self.workers >= 0, "workers is below 0", "Write 0 or more.")
        _check(self.threads >= 0, "threads is below 0", "Write 0 for torch's choice.")
        _check(self.log_every >= 1, "log_every is below 1", "Write 1 or more.")
        name_ok = self.name == Path(self.name).name
        _check(name_ok, f"name = {self.name!r} is no file name", "Write it without folders.")


@dataclass(frozen=True)
class ScoreConfig:
    """[score]: what the average of the weights is judged on, apart from the training's haze."""

    index: Path | None = None
    """Where the dev scenes are, if not in [data] index."""
    spectrum: str = "plumes"
    scenes: int = 6
    """Scenes per kind; 0: no score, and the last average is what is kept."""
    side: int = 640
    """Longer side in pixels to which scenes are reduced."""
    seed: int = 0
    classical: bool = True
    """Whether dcp's figures stand beside it."""

    def __post_init__(self) -> None:
        _check(self.scenes >= 0, "scenes is below 0", "Write 0 for none.")
        _check(self.side >= 64, f"side = {self.side} is too small", "Write 64 or more.")


@dataclass(frozen=True)
class Stage:
    """One stretch of training with its own crops, schedule and parameters."""

    name: str
    recipe: Any
    """The feed's `Recipe`."""
    optimiser: OptimiserConfig
    loss: dict[str, float]
    """Weights of losses by name, over the objective's own."""
    steps: int | None
    minutes: float | None
    train_only: tuple[str, ...] = ()
    """Regular expressions; only parameters whose name begins with one are trained."""


@dataclass(frozen=True)
class TrainConfig:
    """All of a CONFIG.toml."""

    model: ModelConfig
    data: DataConfig
    score: ScoreConfig
    run: RunConfig
    stages: tuple[Stage, ...]

    @property
    def name(self) -> str:
        """Of the weights file."""
        return self.run.name or self.model.id

    def deciding(self) -> dict[str, Any]:
        """What decides the steps, flat: a changed value makes it another run."""
        run = asdict(self.run)
        stages = [asdict(stage) for stage in self.stages]
        for stage in stages:
            del stage["minutes"], stage["name"]
        decides = ("seed", "bf16", "ema", "explode")
        whole: dict[str, Any] = {
            "model": asdict(self.model),
            "data": {"kinds": self.data.kinds, "long_side": self.data.long_side},
            "run": {name: run[name] for name in decides},
        }
        if len(stages) == 1:
            # Under the names that the configuration has for them.
            (only,) = stages
            whole["run"] |= {name: only.pop(name) for name in ("steps", "train_only")}
            whole |= only
        else:
            whole["stage"] = {str(number): stage for number, stage in enumerate(stages, 1)}
        return dict(_flat(whole, ""))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        plain = {
            "model": asdict(self.model),
            "data": asdict(self.data),
            "score": asdict(self.score),
            "run": asdict(self.run),
            "stages": [asdict(stage) for stage in self.stages],
        }
        cleaned: dict[str, Any] = _jsonable(plain)
        return cleaned


def load_config(path: Path, recipe: type[Any]) -> TrainConfig:
    """Read CONFIG.toml; `recipe` is the dataclass that [recipe] fills.

    Relative paths lie in the configuration's folder. Raises `BadParameter` with the key,
    the cause and what would do, and `UnreadableImage` where there is no such file.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UnreadableImage(f"There is no configuration {path}.", "Check the path.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadParameter(
            f"{path.name} is no TOML: {error}.", "See the example in docs/training.md."
        ) from None
    return config_of(content, path.resolve().parent, recipe)


def config_of(content: Mapping[str, Any], folder: Path, recipe: type[Any]) -> TrainConfig:
    """The configuration that a parsed TOML says; see `load_config`."""
    known = ("model", "data", "recipe", "optimiser", "loss", "run", "score", "stage")
    for name in content:
        if name not in known:
            raise BadParameter(f"There is no table [{name}].", f"There are: {', '.join(known)}.")
    for name in ("model", "data", "run"):
        if name not in content:
            raise BadParameter(f"The table [{name}] is missing.", "See docs/training.md.")
    run = dict(content["run"])
    train_only = run.pop("train_only", [])
    top = {
        "recipe": content.get("recipe", {}),
        "optimiser": content.get("optimiser", {}),
        "loss": content.get("loss", {}),
        "train_only": train_only,
    }
    own_run = fill(RunConfig, run, "[run]", folder)
    top |= {"steps": own_run.steps, "minutes": own_run.minutes}
    tables = content.get("stage", [{}])
    if not isinstance(tables, list):
        raise BadParameter("[stage] is one table.", "Write [[stage]], once for each.")
    stages = tuple(
        _stage(table, top, number, len(tables), folder, recipe)
        for number, table in enumerate(tables, 1)
    )
    return TrainConfig(
        model=fill(ModelConfig, content["model"], "[model]", folder),
        data=fill(DataConfig, content["data"], "[data]", folder),
        score=fill(ScoreConfig, content.get("score", {}), "[score]", folder),
        run=own_run,
        stages=stages,
    )


@dataclass(frozen=True)
class _StageTable:
    """[[stage]]: what differs from the tables above."""

    name: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, float] = field(default_factory=dict)
    steps: int | None = None
    minutes: float | None = None
    train_only: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        both = self.steps is not None and self.minutes is not None
        _check(not both, "has both steps and minutes", "Give the length by one of them.")
        _check_length(self.steps, self.minutes)
        for pattern in self.train_only or ():
            try:
                re.compile(pattern)
            except re.error as error:
                _check(False, f"train_only {pattern!r} is no pattern ({error})", "")


def _stage(
    table: Any,
    top: Mapping[str, Any],
    number: int,
    stages: int,
    folder: Path,
    recipe: type[Any],
) -> Stage:
    where = f"[[stage]] {number}" if stages > 1 else "[run]"
    given = {"train_only": top["train_only"], **table}
    own = fill(_StageTable, given, where, folder)
    steps, minutes = own.steps, own.minutes
    if steps is None and minutes is None:
        steps, minutes = top["steps"], top["minutes"]
    if steps is None and minutes is None:
        raise BadParameter(f"{where} has no length.", "Give steps, or minutes.")
    return Stage(
        name=own.name or str(number),
        recipe=fill(recipe, {**top["recipe"], **own.recipe}, "[recipe]", folder),
        optimiser=fill(
            OptimiserConfig, {**top["optimiser"], **own.optimiser}, "[optimiser]", folder
        ),
        loss={**convert(dict[str, float], top["loss"], "[loss]", folder), **own.loss},
        steps=steps,
        minutes=minutes,
        train_only=own.train_only or (),
    )


def _check(good: bool, message: str, hint: str) -> None:
    if not good:
        raise ValueError(f"{message}. {hint}")


def _check_length(steps: int | None, minutes: float | None) -> None:
    _check(steps is None or steps >= 1, f"steps = {steps} is below 1", "Write 1 or more.")
    _check(minutes is None or minutes > 0, f"minutes = {minutes} is not above 0", "")


def _flat(value: Any, name: str) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        return [
            pair
            for key, inner in value.items()
            for pair in _flat(inner, f"{name}.{key}" if name else str(key))
        ]
    # Where files lie decides nothing; the scenes themselves are compared.
    return [] if isinstance(value, Path) else [(name, _jsonable(value))]


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(inner) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return [_jsonable(inner) for inner in value]
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)
