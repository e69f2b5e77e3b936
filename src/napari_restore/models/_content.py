"""What a module computes, as a digest: its weights and attributes, and the code it calls."""

from __future__ import annotations

import dis
import functools
import hashlib
import sys
import types
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_restore.models._adapted import changes
from napari_restore.models._card import ModelCard
from napari_restore.models._code import file_digest, is_installed
from napari_restore.models._model import WITHOUT, RestorationModel
from napari_restore.models._onnx import OnnxFile
from napari_restore.models._weights import sha256_of_state
from napari_restore.models._wrap import WrappedModel

DECIDING = (
    "scope multiple_of min_size inputs light bands roles needs_context placed uses_validity "
    "transmission_wavelength values"
).split()
"""Fields of a card that may change a pixel, beside the halo, which is measured too; the others are
names and texts, and choose side maps."""
_PARTS = ("_parameters", "_buffers", "_modules", "_forward_pre_hooks", "_forward_hooks")
_OF_TORCH = (frozenset(vars(nn.Module())) | {"_is_torch_compile"}) - {*_PARTS}
"""Attributes of every module that change no pixel; runs are in evaluation mode."""
_OF_CLASS = frozenset(
    "__module__ __qualname__ __doc__ __dict__ __weakref__ __annotations__ __firstlineno__ "
    "__static_attributes__ __annotate__ __annotate_func__ __annotations_cache__ __parameters__ "
    "__orig_bases__ __abstractmethods__ _abc_impl __slots__ __dataclass_params__ __match_args__ "
    "__classdictcell__ __conditional_annotations__".split()
)
_COMPILED = "_orig_mod"
_PARTS_OF: tuple[tuple[tuple[type, ...], Callable[[Any], Iterable[Any]]], ...] = (
    ((types.ModuleType,), lambda module: [module.__name__]),
    ((types.MethodType,), lambda method: [method.__func__, method.__self__]),
    ((functools.partial,), lambda partial: [partial.func, partial.args, partial.keywords]),
    ((staticmethod, classmethod), lambda method: [method.__func__]),
    ((property,), lambda found: [found.fget]),
    ((list,), list),
    ((dict,), lambda mapping: [part for pair in list(mapping.items()) for part in pair]),
    ((ModelCard,), lambda card: [getattr(card, name) for name in DECIDING]),
    ((OnnxFile,), lambda file: [file.sha256]),
    (
        (
            types.BuiltinFunctionType,
            types.MethodDescriptorType,
            types.WrapperDescriptorType,
            types.GetSetDescriptorType,
            types.MemberDescriptorType,
        ),
        lambda built_in: [getattr(built_in, "__module__", ""), built_in.__qualname__],
    ),
)
"""What to add of values of these kinds."""
_VERSIONED = ("napari_restore", "torch", "builtins")
_OWN = "napari_restore."


def content_of(model: RestorationModel) -> str:
    """Return a digest of what `model` computes by, alike in all processes of one Python."""
    model = model.described
    # Of the package's models these are the weights; of others also their attributes, the code that
    # is loaded for them, and what its functions refer to.
    if _is_own(model):
        return sha256_of_state(model)
    if not isinstance(model, WrappedModel):
        return module_digest(model)
    return module_digest([model.module, *model.left_out] if model.left_out else model.module)


def module_digest(module: object) -> str:
    """Return what `content_of` does of a module that is not the package's."""
    try:
        return _digest(module)
    except RecursionError:
        # Of objects that lead too far: nothing is taken from another run.
        return uuid.uuid4().hex


def definition_of(model: RestorationModel) -> str:
    """Return a digest of the model's code and card without its weights, alike on all machines.

    Of code it is what `RestorationModel.code` says: that of the files when they were loaded.
    """
    model = model.described
    card = model.card
    if model.claimed_step is not None:
        # What is measured follows from the rest; it is the same model before and after.
        card = replace(card, multiple_of=model.claimed_step)
    # Digests of cards without such fields are as before there were any.
    claims = [*(getattr(card, name) for name in DECIDING), *sorted(changes(card).items())]
    claims += [] if card.ratio == 1 else [card.scale]
    claims += [] if card.size_step == card.multiple_of else [card.size_step]
    if _is_own(model) and not model.spec.get("card") and "." not in str(model.spec["model"]):
        # One that is known by its id: the version of the package tells its card.
        claims = [card.values]
    code = model.code or _version_of(type(model).__module__)
    return _digest([type(model).__qualname__, code, claims, model.spec.get(WITHOUT)])


def identity_of(model: RestorationModel) -> dict[str, str | None]:
    """Return what tells whether another process has the same model, for records and tasks."""
    model = model.described
    # `weights_sha256` is that of the card; of a module in memory, which may have changed, of its
    # weights now.
    weights = model.card.weights_sha256
    if weights and not model.spec:
        module = model.module if isinstance(model, WrappedModel) else model
        weights = sha256_of_state(module)
    return {"weights_sha256": weights, "definition": definition_of(model)}


def changed_part(model: RestorationModel, known: Mapping[str, Any]) -> str | None:
    """Return what of `model` differs from what is `known` of `identity_of`; None where nothing does."""
    if model.card.weights_sha256 != known["weights_sha256"]:
        return "weights"
    # Records of earlier versions do not know it.
    if known.get("definition") not in (None, definition_of(model)):
        return "code and card"
    return None


def _is_own(model: RestorationModel) -> bool:
    """Return whether `spec` and weights tell all of a model: one of the package, as it was loaded."""
    of_package = type(model).__module__.startswith(_OWN)
    return bool(model.spec) and of_package and not isinstance(model, WrappedModel)


def _digest(value: Any) -> str:
    walk = _ContentWalk()
    walk.add(value)
    return walk.hash.hexdigest()


class _ContentWalk:
    """Adds a value and all that it refers to to a hash."""

    # What is reached twice is added once: a module may contain itself.
    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self._numbers: dict[int, int] = {}
        self._kept: list[Any] = []
        """Values whose `id` is in use."""

    def add(self, value: Any) -> None:
        """Add any value, by its content."""
        while isinstance(value, nn.Module) and isinstance(
            getattr(value, _COMPILED, None), nn.Module
        ):
            # What `torch.compile` makes of a module computes the same.
            value = getattr(value, _COMPILED)
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic)):
            self._text(f"{type(value).__name__} {value!r}")
        elif isinstance(value, Tensor):
            self._tensor(value)
        elif isinstance(value, np.ndarray) and value.dtype != object:
            self._text(f"{value.dtype} {value.shape}")
            self.hash.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, (set, frozenset)):
            self._all("set", sorted(map(_digest, value)))
        elif type(value) is tuple:
            self._all("tuple", value)
        elif isinstance(value, torch.device):
            # Where, not what.
            self._text("device")
        elif self._is_new(value):
            self._compound(value)

    def _is_new(self, value: Any) -> bool:
        number = self._numbers.setdefault(id(value), len(self._numbers))
        if number < len(self._kept):
            self._text(f"again {number}")
            return False
        self._kept.append(value)
        return True

    def _compound(self, value: Any) -> None:
        for kinds, parts_of in _PARTS_OF:
            if isinstance(value, kinds):
                self._all(kinds[0].__name__, parts_of(value))
                return
        if isinstance(value, type):
            self._class(value)
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, types.CodeType):
            self._code(value)
        elif isinstance(value, nn.Module):
            self._module(value)
        else:
            self._object(value)

    def _module(self, module: nn.Module) -> None:
        if isinstance(module, torch.jit.ScriptModule):
            # Without the places in its source.
            graph: Any = module.inlined_graph
            self._all("script", [graph.str(False), *_tensors_of(module)])
            return
        if isinstance(module, torch.fx.GraphModule):
            constants = [v for _, v in sorted(vars(module).items()) if isinstance(v, Tensor)]
            self._all("program", [module.code, *_tensors_of(module), *constants])
            return
        self.add(type(module))
        for name, value in sorted(vars(module).items()):
            if name in ("_forward_pre_hooks", "_forward_hooks"):
                # By numbers that this process has given them.
                self._all(name, value.values())
            elif name in _PARTS:
                self._all(name, [part for pair in value.items() for part in pair])
            elif name not in _OF_TORCH and not _is_about_itself(module, name):
                self._all(name, [value])

    def _class(self, kind: type) -> None:
        if _is_installed(kind):
            self._text(
                f"class {kind.__module__}.{kind.__qualname__} {_version_of(kind.__module__)}"
            )
            return
        self._all("class", kind.__bases__)
        for name, value in sorted(vars(kind).items()):
            if name not in _OF_CLASS:
                self._all(name, [value])

    def _function(self, function: types.FunctionType) -> None:
        if _is_installed(function):
            self._text(f"{function.__module__}.{function.__qualname__}")
            self._text(_version_of(function.__module__))
            # One that an installed function has made, as a decorator does.
            self._all("closure", [_content(cell) for cell in function.__closure__ or ()])
            return
        self._code(function.__code__, function.__doc__)
        self._all("defaults", [function.__defaults__, function.__kwdefaults__])
        self._all("closure", [_content(cell) for cell in function.__closure__ or ()])
        names, attributes = names_in(function.__code__)
        self._referred(function.__globals__, names, attributes)

    def _referred(
        self, known: Mapping[str, Any], names: frozenset[str], attributes: frozenset[str]
    ) -> None:
        """Add what code refers to by `names`, and of a module by `attributes`."""
        for name in sorted(names & known.keys()):
            value = known[name]
            if isinstance(value, types.ModuleType) and not _is_installed(value):
                if self._is_new(value):
                    self._referred(vars(value), attributes, attributes)
            elif not name.startswith("__"):
                self._all(name, [value])

    def _code(self, code: types.CodeType, doc: str | None = None) -> None:
        arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        self.hash.update(code.co_code + getattr(code, "co_exceptiontable", b""))
        constants = [None if value is doc else value for value in code.co_consts]
        self._all("code", [code.co_names, arguments, *constants])

    def _object(self, value: Any) -> None:
        """Add what would be stored of an object; only its class where it cannot be stored."""
        try:
            parts = value.__reduce_ex__(4)
        except Exception:
            # A lock or an open file, or a function that torch has compiled.
            parts = getattr(value, "code", "")
        if isinstance(parts, str):
            self._all("object", [type(value), parts, getattr(value, "__wrapped__", None)])
            return
        self._all("object", [list(part) if hasattr(part, "__next__") else part for part in parts])

    def _tensor(self, tensor: Tensor) -> None:
        self._text(f"{tensor.dtype} {tuple(tensor.shape)}")
        plain = tensor.detach()
        if plain.is_quantized:
            plain = plain.dequantize()
        if plain.layout is not torch.strided:
            plain = plain.to_dense()
        if plain.is_meta:
            return
        plain = plain.cpu().resolve_conj().resolve_neg().contiguous()
        self.hash.update(plain.flatten().view(torch.uint8).numpy().data)

    def _all(self, what: str, values: Iterable[Any]) -> None:
        values = list(values)
        self._text(f"{what} {len(values)}")
        for value in values:
            self.add(value)

    def _text(self, text: str) -> None:
        self.hash.update(f"{len(text)} {text}".encode("utf-8", "surrogatepass"))


@functools.lru_cache(maxsize=4096)
def names_in(code: types.CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of globals, and of attributes, that `code` and code within it refer to."""
    names, attributes = set[str](), set[str]()
    for each in dis.get_instructions(code):
        if each.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            names.add(str(each.argval))
        elif each.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            attributes.add(str(each.argval))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = names_in(constant)
            names |= inner[0]
            attributes |= inner[1]
    return frozenset(names), frozenset(attributes)


def _tensors_of(module: nn.Module) -> list[Any]:
    named = (*module.named_parameters(), *module.named_buffers())
    return [part for pair in named for part in pair]


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _is_about_itself(module: nn.Module, name: str) -> bool:
    """Return whether an attribute is the program's own, of a model of a user."""
    return isinstance(module, RestorationModel) and name in ("spec", "code", "measured")


def _is_installed(thing: Any) -> bool:
    """Return whether a module, class or function is installed, or made by Python itself."""
    name = thing.__name__ if isinstance(thing, types.ModuleType) else thing.__module__
    top = str(name).partition(".")[0]
    if top in _VERSIONED or top in sys.builtin_module_names:
        return True
    return is_installed(getattr(sys.modules.get(str(name)), "__file__", None))


def _version_of(module: str) -> str:
    """Return a digest of an installed module's file; empty for torch and this package."""
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    known = module.partition(".")[0] in _VERSIONED or not file.endswith(".py")
    return "" if known else file_digest(Path(file))
