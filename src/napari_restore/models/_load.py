"""Loading of models from a name, a file or a module."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from napari_restore._confined import confined, room
from napari_restore._format import format_size
from napari_restore.errors import (
    BadModel,
    BadParameter,
    MissingWeights,
    OutOfMemory,
    RestoreError,
    option,
)
from napari_restore.models import _weights
from napari_restore.models._adapted import FIELDS, adapted
from napari_restore.models._card import ModelCard
from napari_restore.models._code import code_digest, is_script, missing_modules
from napari_restore.models._content import module_digest
from napari_restore.models._frozen import frozen_copy, is_frozen
from napari_restore.models._known import known_network
from napari_restore.models._model import RestorationModel
from napari_restore.models._onnx import SUFFIXES as ONNX, OnnxFile, OnnxNetwork
from napari_restore.models._program import TorchProgram, input_shape
from napari_restore.models._registry import ModelEntry, entry_of, model_ids, structures
from napari_restore.models._script import (
    argument_names,
    arguments_of,
    is_default,
    named_in,
    run_script,
    without_factory,
)
from napari_restore.models._undisturbed import undisturbed
from napari_restore.models._unfit import BAND_COUNTS, possible_sizes, unfit
from napari_restore.models._wrap import WrappedModel, as_card, card_beside, with_level

Card = ModelCard | Mapping[str, Any]
_FOREIGN = (
    f"It can do anything on this machine: load it, with {option('trust', True)}, only if you trust its "
    "author."
)


def load(
    model: str | os.PathLike[str] | nn.Module,
    *,
    weights: str | os.PathLike[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    card: Card | None = None,
    trust: bool = False,
) -> RestorationModel:
    """Return a model in evaluation mode on the CPU.

    Parameters
    ----------
    model
        A registered id; ``"FILE.py:factory"``; the path of a .safetensors or .pth
        file, or of a folder with one, whose network is the one that its card (NAME.json beside it, or
        `card`) names in the field ``model``, or is known by the names and shapes of its tensors; the
        path of an exported .pt2 program, of TorchScript or of an .onnx model; or a torch module, which
        is copied and stays as it is.
        Where a program, a module or a factory comes without a card, its bands and `multiple_of` are measured.
    weights
        A .safetensors or .pth file, or ``"random:SEED"``; None: those that come with the model.
    parameters
        Values over the card's defaults, and arguments of a factory.
    card
        A `ModelCard` or a mapping of its fields, over those of the card found otherwise.
    trust
        Whether code of a .py, .pt2 or TorchScript file may run.

    Raises
    ------
    UnknownModel, MissingWeights, BadModel, BadParameter
    """
    values = dict(parameters or {})
    if isinstance(model, RestorationModel):
        return _ready_copy(model, weights)
    if isinstance(model, nn.Module):
        module = frozen_copy(model)
        return _ready(_wrapped(module, card, type(module).__name__, values), weights, {})
    if not isinstance(model, (str, os.PathLike)):
        raise BadModel(
            f"A model cannot be made of {type(model).__name__}.",
            "Give the id of a model, a file, or a torch.nn.Module.",
        )
    name = found_in_folder(os.fspath(model))
    spec: dict[str, Any] = {
        "model": name,
        "weights": _absolute(weights),
        "parameters": values,
        "card": asdict(card) if isinstance(card, ModelCard) else dict(card) if card else None,
    }
    try:
        return _of_file(name, spec, weights, values, card, trust)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "can't allocate memory" not in str(error):
            raise
        raise OutOfMemory(
            f"{Path(name).name} needs more than the {format_size(room())} it may take.",
            f"If you trust its author, plan or restore with more: {option('memory', '8GiB')}.",
        ) from error


def _of_file(
    name: str,
    spec: dict[str, Any],
    weights: str | os.PathLike[str] | None,
    values: dict[str, Any],
    card: Card | None,
    trust: bool,
) -> RestorationModel:
    """Return the model `name`, an id or a file; arguments are those of `load`."""
    script, _, factory = name.rpartition(":")
    if script.lower().endswith(".py"):
        spec |= {"model": f"{Path(script).resolve()}:{factory}", "code": True}
        made, names = _from_script(Path(script), factory, card, values, trust)
        made.code = code_digest(Path(script))
        return _ready(made, weights, spec, otherwise=_of_arguments(factory, names))
    suffix = Path(name).suffix.lower()
    if suffix == ".py":
        raise without_factory(Path(name))
    is_code = suffix == ".pt2" or (suffix in _weights.SUFFIXES and is_script(Path(name)))
    if is_code or suffix in ONNX:
        spec |= {"model": str(Path(name).resolve())} | ({"code": True} if is_code else {})
        return _ready(_from_program(Path(name), card, values, trust), weights, spec)
    if suffix in _weights.SUFFIXES:
        spec["model"] = str(Path(name).resolve())
        return _from_weights(Path(name), weights, card, values, spec)
    if os.path.isfile(name) and not _is_id(name):
        raise no_model_file(name)
    return _from_registry(entry_of(name), weights, values, card, spec)


def no_model_file(name: str) -> BadModel:
    """Return the error for a file of a kind that is no model's."""
    return BadModel(
        f"{Path(name).name} is no model file.",
        f"Taken are {', '.join((*_weights.SUFFIXES, *ONNX))}, .pt2 and FILE.py:factory.",
    )


def _is_id(name: str) -> bool:
    return name in {*model_ids(), *structures()}


def found_in_folder(name: str) -> str:
    """Return the weights file in the folder `name`; a name that is no folder, or an id, as it is."""
    if not os.path.isdir(name) or _is_id(name):
        return name
    return str(_weights.weights_in(Path(name)))


def _from_registry(
    entry: ModelEntry,
    weights: str | os.PathLike[str] | None,
    parameters: Mapping[str, Any],
    card: Card | None,
    spec: dict[str, Any],
    state: Mapping[str, Tensor] | None = None,
) -> RestorationModel:
    """Return the model of `entry`; `state` is the content of the file `weights` where it is read."""
    base = with_level(entry.card)
    if weights is not None:
        # Measurements of the shipped weights are not valid for others.
        base = replace(base, trained_on="", validated_on="")
    full_card = base if card is None else as_card(card, base)
    full_card = replace(full_card, values=full_card.fill(parameters))
    note = ""
    if weights is None and entry.shipped is not None:
        weights = shipped_weights(entry)
    if weights is None and entry.card.needs_weights:
        raise MissingWeights(
            f"Model {full_card.id} comes without weights.",
            f"Give {option('weights', 'FILE')}, or {option('weights', 'random:0')} to try the machinery; "
            "those with weights are in napari-restore models.",
        )
    if weights is not None and not _is_random(weights):
        read = _weights.read_state(weights) if state is None else state
        state, note = entry.renamed(read), getattr(read, "note", "")
    try:
        with nullcontext() if state is None else confined(_bytes_of(state)):
            made = entry.make(full_card, state)
    except BadModel:
        bare = {} if state is None else _weights.without_wrappers(state)
        if not bare or bare is state:
            raise
        state = entry.renamed(bare)
        made = entry.make(full_card, state)
    made.weights_note = note
    if made.measured and card is not None and _has_sizes(card):
        made.card, made.measured = as_card(card, made.card), False
    known_as = entry.card.title if entry.card.id in structures() else ""
    return _ready(made, weights, spec, state, known_as)


def _bytes_of(state: Mapping[str, Tensor]) -> int:
    return sum(each.nbytes for each in state.values())


_SIZES = ("halo", "multiple_of", "padded_to", "min_size", "whole")
"""Fields of a card that say what tiles must see."""


def _has_sizes(card: Card) -> bool:
    return isinstance(card, ModelCard) or not set(card).isdisjoint(_SIZES)


def shipped_weights(entry: ModelEntry) -> Path:
    """Return the weights that come with `entry`; raises `MissingWeights`, `BadModel` for a damaged installation."""
    path = _weights.WEIGHTS / (entry.shipped or "")
    again = "Install napari-restore again, or give a weights file."
    if not path.is_file():
        raise MissingWeights(
            f"The weights of model {entry.card.id} are missing from this installation.", again
        )
    if _weights.sha256_of_file(path) != entry.card.weights_sha256:
        raise BadModel(f"The shipped weights of model {entry.card.id} are damaged.", again)
    return path


def _from_weights(
    path: Path,
    weights: str | os.PathLike[str] | None,
    card: Card | None,
    parameters: Mapping[str, Any],
    spec: dict[str, Any],
) -> RestorationModel:
    """Return the model of a weights file, whose card names the network; with other `weights` if given."""
    _weights.check_there(path)
    found = dict(card_beside(path) or {})
    network = found.pop("model", None)
    if isinstance(card, Mapping):
        found |= card
        network = found.pop("model", network)
    full_card: Card = card if isinstance(card, ModelCard) else found
    state = None
    if not isinstance(network, str):
        state = _weights.read_state(path)
        network = known_network(state, path)
    chosen, state = (path, state) if weights is None else (weights, None)
    return _from_registry(entry_of(network), chosen, parameters, full_card, spec, state)


def _over_beside(card: Card | None, path: Path) -> Card | None:
    """Return the fields of `card` over those of the card beside the file; None where there is none."""
    beside = card_beside(path)
    if card is None or beside is None or isinstance(card, ModelCard):
        return beside if card is None else card
    return {**beside, **card}


def _from_script(
    path: Path, factory: str, card: Card | None, parameters: Mapping[str, Any], trust: bool
) -> tuple[RestorationModel, list[str]]:
    """Return the model that a `factory` in a Python file makes, and the names of its arguments."""
    if not path.is_file():
        raise BadModel(f"There is no file {path}.", "Write FILE.py:factory.")
    if not trust:
        raise BadModel(f"{path.name} is Python code.", _FOREIGN)
    name = f"{path.name}:{factory}"
    try:
        # Its weights are drawn, and may be with a seed of its own.
        with undisturbed(), run_script(path) as module:
            make = named_in(module, path, factory)
            names, arguments = argument_names(make), arguments_of(make, name, parameters)
            made = make(**arguments)
            if isinstance(made, RestorationModel):
                return _with_parameters(make, made, parameters) if parameters else made, names
    except RestoreError:
        raise
    except SystemExit:
        raise BadModel(
            f"{name} ends the program, as scripts do that read a command line.",
            "Name the function or class that makes the network.",
        ) from None
    except ModuleNotFoundError as error:
        # Some of the others may be needed in certain cases only.
        first = str(error.name).partition(".")[0]
        others = [each for each in missing_modules(path) if each != first]
        also = f", nor {' and '.join(others)}" if others else ""
        raise BadModel(
            f"{name} needs the module {error.name}, which is not found{also}.",
            f"Install it beside napari-restore, or put its folder beside that of {path.name}.",
        ) from error
    except Exception as error:
        raise BadModel(
            f"{name} fails: {type(error).__name__}: {_weights.first_line(error)}.",
            "Check the file.",
        ) from error
    if not isinstance(made, nn.Module):
        raise BadModel(
            f"{path.name}:{factory} returns {type(made).__name__}.", "Return a torch.nn.Module."
        )
    own = {key: value for key, value in parameters.items() if key not in arguments}
    model = _wrapped(made, _over_beside(card, path), path.stem, own, others=names)
    # What the network was made with belongs to its description, a default is as if it was not given.
    made_with = {k: v for k, v in arguments.items() if not is_default(make, k, v)}
    model.card = replace(model.card, values={**made_with, **model.card.values})
    return model, names


def _of_arguments(factory: str, names: Sequence[str]) -> str:
    """Return the next step where weights do not fit what a factory with these arguments made."""
    if not names:
        return _weights.OF_ANOTHER
    given = option("parameters", {names[0]: "VALUE"})
    return (
        f"Give {factory} the arguments that they were trained with, as {given}: it takes "
        f"{', '.join(names)}."
    )


def _with_parameters(
    make: Any, made: RestorationModel, parameters: Mapping[str, Any]
) -> RestorationModel:
    values = made.card.fill(parameters)
    again = make(**values)
    if not isinstance(again, RestorationModel):
        raise BadModel(f"The factory of {made.card.id} returns no model.", "Check the file.")
    again.card = replace(again.card, values=values)
    return again


def _from_program(
    path: Path, card: Card | None, parameters: Mapping[str, Any], trust: bool
) -> RestorationModel:
    """Return the model of an exported program, of TorchScript or of ONNX."""
    if not path.is_file():
        raise BadModel(f"There is no file {path}.", "Check the path.")
    card = _over_beside(card, path)
    if path.suffix.lower() in ONNX:
        said = as_card(card or {}, ModelCard(path.stem, path.stem, ""))
        file = OnnxFile(path)
        takes_level = said.noise_level is not None and said.noise_as == "argument"
        network = OnnxNetwork(file, said.output, takes_level=takes_level)
        module: nn.Module = TorchProgram(network, network.shape, int(takes_level))
        digest = file.sha256
    elif not trust:
        # Constants are unpickled without restriction; TorchScript may call any operator.
        raise BadModel(f"{path.name} is a program.", _FOREIGN)
    else:
        _weights.check_unpacked(path)
        module, digest = _program_in(path, is_known=card is not None), _weights.sha256_of_file(path)
    counts = module.band_counts if isinstance(module, TorchProgram) else BAND_COUNTS
    model = _wrapped(module, card, path.stem, parameters, counts)
    model.card = replace(model.card, weights_sha256=digest)
    if isinstance(module, TorchProgram) and module.fixed is not None:
        # One of a single size states its windows.
        step, halo = model.card.multiple_of, max(model.card.halo, module.margin)
        model.card = replace(model.card, multiple_of=math.lcm(step, module.step), halo=halo)
    return model


def _program_in(path: Path, *, is_known: bool) -> nn.Module:
    """Return the module in a file of torch; without a card it must take one image."""
    import torch.export

    is_exported = path.suffix.lower() == ".pt2"
    try:
        if not is_exported:
            with confined(2 * path.stat().st_size):
                return torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-any-return, no-untyped-call]
        program = torch.export.load(path)
        shape = input_shape(program)
        if not is_known and len(shape) != 4:
            raise BadModel("The program does not take one image (N, C, H, W).", "Export it again.")
        return TorchProgram(program.module(), shape)
    except (RestoreError, MemoryError):
        raise
    except Exception as error:
        what = "exported program" if is_exported else "readable TorchScript"
        raise BadModel(
            f"{path.name} is no {what}: {_weights.first_line(error)}.", "Export it again."
        ) from error


def _wrapped(
    module: nn.Module,
    card: Card | None,
    name: str,
    parameters: Mapping[str, Any],
    counts: Sequence[int] = BAND_COUNTS,
    others: Sequence[str] = (),
) -> RestorationModel:
    """Return `module` with `card`; without one it is measured, trying each of `counts` bands.

    `others` are the parameters that it was made with.
    """
    try:
        module.eval()
    except NotImplementedError:
        # What torch.export returns has no modes.
        module = TorchProgram(module)
    fallback = ModelCard(name, name, "A model of your own.", task="other", licence="unknown")
    full_card = fallback if card is None else as_card(card, fallback)
    says = {} if card is None or isinstance(card, ModelCard) else card
    is_open = card is None or (not _has_sizes(card) and not {*FIELDS, "scale"}.isdisjoint(says))
    if is_open:
        # What it takes and gives is known at most, but not its sizes.
        tried = counts if full_card.bands is None else (full_card.bands,)
        sizes = _measured(adapted(module, full_card), name, tried)
        full_card = replace(full_card, **sizes)
    values = full_card.fill(parameters, others)
    model = WrappedModel(module, replace(full_card, values=values))
    model.measured = is_open
    return model


Sizes = dict[str, Any]
"""What `possible_sizes` yields."""
Measure = Callable[[], Sizes]
Keep = Callable[[str, str, Measure, Callable[[Sizes], bool]], Sizes]
_keep: list[Keep] = []


def keep_sizes(keep: Keep) -> None:
    """Let `keep` have the sizes that modules without a card take, for later processes.

    It is called with the digest of all that a module computes by, its name, what measures its sizes,
    and what tells whether the module takes some, and no smaller images.
    """
    _keep[:] = [keep]


def _measured(module: nn.Module, name: str, counts: Sequence[int]) -> Sizes:
    """Return the card of a module without one: the input that it accepts. Raises `BadModel`."""
    if isinstance(module, TorchProgram) and module.fixed is not None:
        # It takes any size, in windows of its own; it has measured which step they need.
        scale = {} if module.scale == 1 else {"scale": module.scale}
        return {"bands": module.fixed[1], "multiple_of": module.step, **scale}

    def measure() -> Sizes:
        sizes = next(possible_sizes(module, counts), None)
        if sizes is None:
            raise unfit(module, name, counts)
        return sizes

    def holds(sizes: Sizes) -> bool:
        known = possible_sizes(module, [sizes["bands"]], [sizes["multiple_of"]])
        return sizes["bands"] in counts and next(known, None) == sizes

    with undisturbed(module):
        return _keep[0](module_digest(module), name, measure, holds) if _keep else measure()


def _ready_copy(
    model: RestorationModel, weights: str | os.PathLike[str] | None
) -> RestorationModel:
    """Return `model` if it is loaded as it is; else a copy, with other `weights` or those in training."""
    if weights is None and is_frozen(model):
        return model
    made = frozen_copy(model)
    # Weights in training are in no file.
    is_described = bool(made.spec) and weights is not None
    made.spec = {**made.spec, "weights": _absolute(weights)} if is_described else {}
    made.card = replace(made.card, weights_sha256=None)
    return _ready(made, weights, {})


def _ready(
    model: RestorationModel,
    weights: str | os.PathLike[str] | None,
    spec: dict[str, Any],
    state: Mapping[str, Tensor] | None = None,
    structure: str = "",
    otherwise: str = _weights.OF_ANOTHER,
) -> RestorationModel:
    """Load weights, which are known as a `structure`, note their digest, freeze.

    `otherwise` is the next step where weights of no known structure do not fit.
    """
    target = model.weighted
    if weights is not None and not any(True for _ in target.parameters()):
        raise BadModel(f"Model {model.card.id} takes no weights.", "Leave them out.")
    if weights is not None and _is_random(weights):
        _weights.randomise(target, _weights.seed_of(os.fspath(weights)))
        digest = _weights.sha256_of_state(target)
    elif weights is not None:
        path, key = _weights.file_and_key(weights)
        if state is None:
            state = read = _weights.read_state(weights)
            model.weights_note = read.note
        _weights.fill(target, state, path.name, structure, otherwise)
        digest = _weights.sha256_of_state(target) if key else _weights.sha256_of_file(path)
    else:
        has_any = any(True for _ in target.parameters())
        digest = model.card.weights_sha256 or (_weights.sha256_of_state(target) if has_any else "")
    if digest:
        model.card = replace(model.card, weights_sha256=digest)
    if spec:
        model.spec = spec
    return model.eval().requires_grad_(False)


def _is_random(weights: str | os.PathLike[str]) -> bool:
    return os.fspath(weights).startswith(_weights.RANDOM)


def _absolute(weights: str | os.PathLike[str] | None) -> str | None:
    if weights is None:
        return None
    if _is_random(weights):
        return os.fspath(weights)
    path, key = _weights.file_and_key(weights)
    return f"{path.resolve()}:{key}" if key else str(path.resolve())


RANDOM_WEIGHTS = f"{_weights.RANDOM}0"


def random_twin(model: RestorationModel) -> RestorationModel:
    """Return a further instance of `model` with the weights `RANDOM_WEIGHTS`; `model` stays as it is.

    Raises `BadParameter` for a model without weights, one that cannot be copied, and one that has these
    weights itself.
    """
    spec = model.spec
    leave_out = f"Leave out {option('random_twin')}."
    try:
        if spec and not spec.get("code"):
            twin = load(
                spec["model"],
                weights=RANDOM_WEIGHTS,
                parameters=spec.get("parameters"),
                card=spec.get("card"),
            )
        else:
            # Neither a module in memory nor foreign code is made a second time.
            twin = load(model, weights=RANDOM_WEIGHTS)
    except Exception as error:
        said = (
            error.message.marked if isinstance(error, RestoreError) else _weights.first_line(error)
        )
        raise BadParameter(
            f"{model.card.id} cannot be loaded with random weights: {said.rstrip('.')}.", leave_out
        ) from error
    if twin.card.weights_sha256 == model.card.weights_sha256:
        raise BadParameter(f"{model.card.id} has the weights {RANDOM_WEIGHTS} itself.", leave_out)
    return twin
