"""Frozen copies of modules that belong to somebody else."""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy

from napari_restore.errors import BadModel

M = TypeVar("M", bound=nn.Module)
_CONTAINERS = (list, tuple, set, dict, OrderedDict, defaultdict)


def is_frozen(module: nn.Module) -> bool:
    """Return whether all of `module` is in evaluation mode and nothing of it is trained."""
    return not (
        any(part.training for part in module.modules())
        or any(tensor.requires_grad for tensor in module.parameters())
    )


def frozen_copy(module: M) -> M:
    """Return a copy of `module` in evaluation mode, without gradients, that shares no tensor with it.

    The module may be in training on another thread meanwhile. Unlike `copy.deepcopy`, objects that
    are neither modules, tensors nor plain containers are shared, so that a module with a lock, a
    file or a trainer can be copied; hooks and functions that hold its parts hold those of the copy.
    Compiled modules, and those spread over devices, are copied as what they wrap. Raises `BadModel`.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        if is_lazy(tensor) or tensor.is_meta:
            raise BadModel(
                f"Some weights of {type(module).__name__} have no values yet.",
                "Load them, or call it once with an image (1, C, H, W).",
            )
    made: M = _Copy().of(module)
    for tensor in made.parameters():
        tensor.requires_grad_(False)
    return made


class _Copy:
    """Copies objects; those met again are the same copy."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}

    def of(self, value: Any) -> Any:
        if id(value) in self._made:
            return self._made[id(value)]
        if isinstance(value, Tensor):
            self._made[id(value)] = _tensor(value)
            return self._made[id(value)]
        if isinstance(value, torch.jit.ScriptModule):
            with torch.no_grad():
                self._made[id(value)] = copy.deepcopy(value).eval()
            return self._made[id(value)]
        if isinstance(value, nn.Module):
            return self._module(value)
        if type(value) in _CONTAINERS:
            return self._container(value)
        if isinstance(value, MethodType):
            owner = self._part(value.__self__)
            return value if owner is value.__self__ else MethodType(value.__func__, owner)
        if isinstance(value, partial):
            return partial(self._part(value.func), *map(self._part, value.args), **value.keywords)
        return self._function(value) if isinstance(value, FunctionType) else value

    def _part(self, value: Any) -> Any:
        """Return the copy of what may call a module; anything else is shared."""
        calls = isinstance(value, (nn.Module, MethodType, FunctionType, partial))
        return self.of(value) if calls else value

    def _module(self, module: nn.Module) -> nn.Module:
        inner = _wrapped_by(module)
        if inner is not None:
            made: nn.Module = self.of(inner)
            self._made[id(module)] = made
            return made
        made = self._made[id(module)] = object.__new__(type(module))
        vars(made).update({name: self.of(value) for name, value in vars(module).items()})
        # Not by `eval`, which exported programs do not have.
        vars(made)["training"] = False
        # What `Module.compile` left calls the other.
        vars(made).pop("_compiled_call_impl", None)
        return made

    def _container(self, value: Any) -> Any:
        if type(value) in (tuple, set):
            return type(value)(map(self.of, value))
        made = self._made[id(value)] = copy.copy(value)
        for key, each in list(value.items() if isinstance(value, dict) else enumerate(value)):
            made[key] = self.of(each)
        return made

    def _function(self, function: FunctionType) -> FunctionType:
        """Return a function with the copies of the modules that its closure holds."""
        # It may hold itself.
        self._made[id(function)] = function
        cells = function.__closure__ or ()
        try:
            held = [cell.cell_contents for cell in cells]
        except ValueError:  # of a variable that is not set yet
            return function
        parts = [self._part(each) for each in held]
        if all(part is each for part, each in zip(parts, held, strict=True)):
            return function
        made = FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            tuple(map(CellType, parts)),
        )
        made.__kwdefaults__ = function.__kwdefaults__
        vars(made).update(vars(function))
        self._made[id(function)] = made
        return made


def _wrapped_by(module: nn.Module) -> nn.Module | None:
    """Return what `module` only compiles or spreads over devices; None for others."""
    if isinstance(module, (nn.DataParallel, DistributedDataParallel)):
        inner: nn.Module = module.module
        return inner
    # Importing the class that `torch.compile` makes takes seconds.
    return module._modules.get("_orig_mod")


def _tensor(tensor: Tensor) -> Tensor:
    values = tensor.detach().clone()
    if not isinstance(tensor, nn.Parameter):
        return values
    return nn.Parameter(values, requires_grad=False)
