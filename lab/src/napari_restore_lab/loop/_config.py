"""The training configuration: tables and defaults of CONFIG.toml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from napari_restore.extension import (
    BadParameter,
    UnreadableImage,
    code_digest,
    parse_toml,
    read_text,
)
from napari_restore_lab._questions import Degradation, SceneKind
from napari_restore_lab.data import Recipe
from napari_restore_lab.loop._table import check, check_length, convert, fill, table_of
from napari_restore_lab.synthetic_haze import SPECTRA


@dataclass(frozen=True)
class OptimiserConfig:
    """[optimiser]: AdamW with a warm-up and a cosine to `final` · lr."""

    lr: float = 5e-4
    weight_decay: float = 0.01
    """Weight decay of matrices and kernels; scales and biases have none."""
    betas: tuple[float, float] = (0.9, 0.99)
    warmup: int = 200
    """Warm-up steps from 0 to `lr`."""
    schedule: Literal["cosine", "constant"] = "cosine"
    final: float = 0.02
    """Share of `lr` at the end of the cosine."""
    clip: float = 0.3
    """Largest global gradient norm; 0: no clipping."""

    def __post_init__(self) -> None:
        check(self.lr > 0, f"lr = {self.lr} is not above 0", "Write for instance 5e-4.")
        check(self.weight_decay >= 0, "weight_decay is below 0", "Write 0 for none.")
        check(all(0 <= b < 1 for b in self.betas), "betas lie outside 0 … 1", "As [0.9, 0.99].")
        check(self.warmup >= 0, "warmup is below 0", "Write 0 for none.")
        check(0 <= self.final <= 1, f"final = {self.final} is outside 0 … 1", "It is a share.")
        check(self.clip >= 0, "clip is below 0", "Write 0 for none.")


@dataclass(frozen=True)
class TrainingStage:
    """A stage of training."""

    name: str
    recipe: Recipe
    optimiser: OptimiserConfig
    loss: dict[str, float]
    """Weights of losses by name, overriding those of the objective."""
    steps: int | None
    minutes: float | None
    train_only: tuple[str, ...] = ()
    """Regular expressions; only parameters whose name begins with one are trained."""


@dataclass(frozen=True)
class _StageTable:
    """[[stage]]: settings that override the tables above."""

    name: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, float] = field(default_factory=dict)
    steps: int | None = None
    minutes: float | None = None
    train_only: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        both = self.steps is not None and self.minutes is not None
        check(not both, "has both steps and minutes", "Give the length by one of them.")
        check_length(self.steps, self.minutes)
        for pattern in self.train_only or ():
            try:
                re.compile(pattern)
            except re.error as error:
                check(False, f"train_only {pattern!r} is not a regular expression ({error})", "")


def stages_of(tables: Any, top: Mapping[str, Any], folder: Path) -> tuple[TrainingStage, ...]:
    """Return the stages of the [[stage]] tables, with defaults from the tables above, `top`.

    `top` has recipe, optimiser, loss, train_only, steps and minutes. Raises `BadParameter`.
    """
    if not isinstance(tables, list):
        raise BadParameter("[stage] is not a list of tables.", "Write [[stage]], once for each.")
    if not tables:
        raise BadParameter("There is no stage in stage = [].", "Leave it out, or write [[stage]].")
    several = len(tables) > 1
    return tuple(
        _stage(table, top, f"[[stage]] {number}" if several else "[run]", number, folder)
        for number, table in enumerate(tables, 1)
    )


def _stage(
    table: Any, top: Mapping[str, Any], where: str, number: int, folder: Path
) -> TrainingStage:
    values = {"train_only": top["train_only"], **table_of(table, f"[[stage]] {number}")}
    stage = fill(_StageTable, values, where, folder)
    steps, minutes = stage.steps, stage.minutes
    if steps is None and minutes is None:
        steps, minutes = top["steps"], top["minutes"]
    if steps is None and minutes is None:
        raise BadParameter(f"{where} has no length.", "Give steps, or minutes.")
    return TrainingStage(
        name=stage.name or str(number),
        recipe=fill(Recipe, {**top["recipe"], **stage.recipe}, "[recipe]", folder),
        optimiser=fill(
            OptimiserConfig, {**top["optimiser"], **stage.optimiser}, "[optimiser]", folder
        ),
        loss={**convert(dict[str, float], top["loss"], "[loss]", folder), **stage.loss},
        steps=steps,
        minutes=minutes,
        train_only=stage.train_only or (),
    )


STAGE_TABLES = ("recipe", "optimiser", "loss")
"""Tables that each [[stage]] may override."""
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Every:
    """An interval, in steps (the same in every run) or in minutes (of this machine)."""

    steps: int | None = None
    minutes: float | None = None

    @classmethod
    def from_toml(cls, value: Any) -> Every:
        """Parse 500 (steps), "500 steps" or "5 min"; raises `ValueError`."""
        if isinstance(value, str):
            match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(steps?|min|minutes?)\s*", value)
            if match and match[2].startswith("min") and float(match[1]) > 0:
                return cls(minutes=float(match[1]))
            value = int(match[1]) if match and match[1].isdecimal() else None
        if type(value) is not int or value < 1:
            raise ValueError('Write a number of steps, such as 500, or a time, such as "5 min".')
        return cls(steps=value)


@dataclass(frozen=True)
class ModelConfig:
    """[model]: the network and what it starts with."""

    id: str = ""
    sizes: dict[str, int] = field(default_factory=dict)
    """Keyword arguments of the network's factory, as ``{ width = 16 }``."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Parameters of its card."""
    weights: Path | None = None
    """Initial weights; by default the network's own initialisation, from the seed."""
    parts: dict[str, Path] = field(default_factory=dict)
    """Initial weights of parts of the network, as ``{ atmosphere = "a.safetensors" }``."""
    exact_below: int | None = None
    """Staged networks: tokens from which on attention is hashed, in training only."""
    random_origin: int = 0
    """Staged networks: largest random offset of a crop's position in tokens, drawn for every image."""
    checkpointing: bool = False
    """Staged networks: recompute encoder, layers and decoder in the backward pass, to save memory."""
    factory: Path | None = None
    """A network of one's own in place of `id`: ``FILE.py:function``, called with `parameters`."""

    def __post_init__(self) -> None:
        check(bool(self.id) or self.factory is not None, "names no network", "Give id or factory.")
        if self.factory is not None:
            check(not self.id, "has both id and factory", "Give one of them.")
            is_script = ".py:" in self.factory.name
            check(is_script, "factory is no FILE.py:function", 'Write for instance "net.py:make".')
            check(not self.sizes, "has sizes for a factory", "Give its arguments as parameters.")

    @property
    def name(self) -> str:
        """The id, or the name of the factory's file without suffix."""
        return self.id if self.factory is None else self.factory.name.rpartition(".py:")[0]


@dataclass(frozen=True)
class DataConfig:
    """[data]: the clear pictures."""

    index: Path
    """INDEX.csv, a folder with one, a folder of images, or a pack: a folder or a .zip."""
    licences: Literal["free", "any"] = "any"
    """"free": only those that permit distribution of the weights."""
    kinds: tuple[SceneKind, ...] = ("aerial", "natural")
    long_side: int = 2048
    """Longest side in pixels to which images are reduced."""
    leave_out: tuple[str, ...] = ()
    """Patterns of names of files, as "coast_20*", that are excluded, for instance those of the
    same ground as a dev scene."""
    cache: Path | None = None
    """Folder of the pack; by default in the output folder."""

    def __post_init__(self) -> None:
        check(bool(self.kinds), "kinds is empty", "Write aerial, natural or both.")
        check(self.long_side >= 64, f"long_side = {self.long_side} is too small", "As 2048.")


@dataclass(frozen=True)
class RunConfig:
    """[run]: length, precision and output."""

    output: Path
    """Folder of checkpoint, log, plot and weights."""
    name: str = ""
    """The weights' file name without suffix; by default the model's id."""
    steps: int | None = None
    """Length of a stage. Required for bit-identical repetition."""
    minutes: float | None = None
    """Length of a stage in minutes instead."""
    stop_after: float | None = None
    """Minutes after which a call saves and stops; the same command continues."""
    seed: int = 0
    bf16: bool = False
    """Compute the network in bfloat16 (weights and losses stay float32)."""
    ema: float = 0.999
    """Decay of the average of the weights, which is what is scored and saved; 0: none."""
    skip_above: float = 10.0
    """A step whose loss exceeds the recent mean by this factor is skipped; 0: none is."""
    workers: int = 1
    """Worker processes that prefetch batches; 0: none."""
    threads: int = 0
    """CPU threads of the network; 0: the default of torch."""
    score_every: Every = Every(minutes=5)
    checkpoint_every: Every = Every(minutes=5)
    log_every: int = 50
    """Steps per row of the log."""

    def __post_init__(self) -> None:
        both = self.steps is not None and self.minutes is not None
        check(
            not both,
            "has both steps and minutes",
            "Give the length by one of them; stop_after limits one call.",
        )
        check_length(self.steps, self.minutes)
        check(self.stop_after is None or self.stop_after > 0, "stop_after is not above 0", "")
        _check_seed(self.seed)
        check(
            self.skip_above >= 0, f"skip_above = {self.skip_above} is below 0", "Write 0 for none."
        )
        check(0 <= self.ema < 1, f"ema = {self.ema} is outside 0 … 1", "Write for instance 0.999.")
        check(self.workers >= 0, "workers is below 0", "Write 0 or more.")
        check(self.threads >= 0, "threads is below 0", "Write 0 for torch's choice.")
        check(self.log_every >= 1, "log_every is below 1", "Write 1 or more.")
        name_ok = self.name == Path(self.name).name
        check(name_ok, f"name = {self.name!r} is no file name", "Write it without folders.")
        check(self.name.casefold() != "best", f"name = {self.name!r} is taken", "Choose another.")


@dataclass(frozen=True)
class ScoreConfig:
    """[score]: validation of the averaged weights, by haze of another spectrum than in training.

    Networks for noise or low light are scored at the levels of `SCORED`.
    """

    index: Path | None = None
    """Index of the scenes, if not that of [data]."""
    split: str = "dev"
    """Split of the index: "unseen" for sources not used in training."""
    spectrum: str = "plumes"
    """Of the haze, where networks are trained for that."""
    scenes: int = 6
    """Scenes per kind; 0: no score, and the last average is saved."""
    side: int = 640
    """Longer side in pixels to which scenes are reduced."""
    seed: int = 0
    classical: bool = True
    """Whether to score dcp, too."""

    def __post_init__(self) -> None:
        check(self.split != "train", "split is train", "Score on other scenes.")
        check(self.scenes >= 0, "scenes is below 0", "Write 0 for none.")
        check(self.side >= 64, f"side = {self.side} is too small", "Write 64 or more.")
        is_known = self.spectrum in SPECTRA
        check(is_known, f"spectrum = {self.spectrum!r} is none", f"There are {', '.join(SPECTRA)}.")
        _check_seed(self.seed)


@dataclass(frozen=True)
class TrainConfig:
    """The contents of a CONFIG.toml."""

    model: ModelConfig
    data: DataConfig
    score: ScoreConfig
    run: RunConfig
    stages: tuple[TrainingStage, ...]
    trust: bool = False
    """Whether the code of [model] factory may run."""

    def __post_init__(self) -> None:
        if len({stage.recipe.degradation for stage in self.stages}) > 1:
            raise BadParameter(
                "The stages have more than one [recipe] degradation.",
                "Train one after the other, from [model] weights.",
            )
        spectrum = self.score.spectrum
        hazed = self.score.scenes and self.degradation == "haze"
        if hazed and any(stage.recipe.spectra.get(spectrum) for stage in self.stages):
            raise BadParameter(
                f"[score] spectrum {spectrum} is one that [recipe] spectra trains on.",
                "Leave it out there, or score with another.",
            )

    @property
    def name(self) -> str:
        """Name of the weights file without suffix."""
        return self.run.name or self.model.name

    @property
    def degradation(self) -> Degradation:
        """What the network is trained against."""
        return self.stages[0].recipe.degradation

    def deciding(self) -> dict[str, Any]:
        """Return the settings that determine the steps, flattened: a change means another run."""
        run = asdict(self.run)
        stages = [asdict(stage) for stage in self.stages]
        for stage in stages:
            del stage["minutes"], stage["name"]
        decides = ("seed", "bf16", "ema", "skip_above")
        whole: dict[str, Any] = {
            "model": asdict(self.model) | self._code,
            "data": {"kinds": self.data.kinds, "long_side": self.data.long_side},
            "run": {name: run[name] for name in decides},
        }
        if len(stages) == 1:
            # Under their names in the configuration.
            (only,) = stages
            whole["run"] |= {name: only.pop(name) for name in ("steps", "train_only")}
            whole |= only
        else:
            whole["stage"] = {str(number): stage for number, stage in enumerate(stages, 1)}
        return dict(_flat(whole, ""))

    @property
    def _code(self) -> dict[str, str]:
        """What the factory's code is known by; empty without one."""
        if self.model.factory is None:
            return {}
        return {"code": code_digest(Path(str(self.model.factory).rpartition(":")[0]))}

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON, with file names instead of paths."""
        plain = {
            "model": asdict(self.model),
            "data": asdict(self.data),
            "score": asdict(self.score),
            "run": asdict(self.run),
            "stages": [asdict(stage) for stage in self.stages],
        }
        cleaned: dict[str, Any] = _jsonable(plain)
        return cleaned


def load_config(path: Path) -> TrainConfig:
    """Read CONFIG.toml.

    Paths are relative to the folder of the configuration. Raises `BadParameter` with the key,
    the cause and a valid value, and `UnreadableImage` where there is no such file.
    """
    try:
        content = parse_toml(read_text(path, 1 << 20))
    except FileNotFoundError:
        raise UnreadableImage(f"There is no configuration {path}.", "Check the path.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadParameter(
            f"{path.name} cannot be read as TOML: {reason}.", "See the example in docs/training.md."
        ) from None
    return config_of(content, path.resolve().parent)


def config_of(content: Mapping[str, Any], folder: Path) -> TrainConfig:
    """Return the configuration of a parsed TOML; see `load_config`."""
    tables = ("model", "data", *STAGE_TABLES, "run", "score", "stage")
    for name in content:
        if name not in tables:
            raise BadParameter(f"There is no table [{name}].", f"There are: {', '.join(tables)}.")
    for name in ("model", "data", "run"):
        if name not in content:
            raise BadParameter(f"The table [{name}] is missing.", "See docs/training.md.")
    run = dict(table_of(content["run"], "[run]"))
    train_only = run.pop("train_only", [])
    run_config = fill(RunConfig, run, "[run]", folder)
    top = {
        **{name: table_of(content.get(name, {}), f"[{name}]") for name in STAGE_TABLES},
        "train_only": train_only,
        "steps": run_config.steps,
        "minutes": run_config.minutes,
    }
    return TrainConfig(
        model=fill(ModelConfig, content["model"], "[model]", folder),
        data=fill(DataConfig, content["data"], "[data]", folder),
        score=fill(ScoreConfig, content.get("score", {}), "[score]", folder),
        run=run_config,
        stages=stages_of(content.get("stage", [{}]), top, folder),
    )


def _check_seed(seed: int) -> None:
    check(seed >= 0, f"seed = {seed} is below 0", "Write 0 or more.")
    check(seed <= LARGEST_SEED, f"seed = {seed} is too large", "Write less than 2 to the 63.")


def _flat(value: Any, name: str) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        return [
            pair
            for key, inner in value.items()
            for pair in _flat(inner, f"{name}.{key}" if name else str(key))
        ]
    # Paths are ignored; the scenes themselves are compared.
    return [] if isinstance(value, Path) else [(name, _jsonable(value))]


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(inner) for key, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return [_jsonable(inner) for inner in value]
    if isinstance(value, Path):
        return value.name
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)
