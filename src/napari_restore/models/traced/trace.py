"""A module as a list of operations whose sizes follow from height and width of its input."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from napari_restore.models._weights import first_line

_aten = torch.ops.aten
Shape = tuple["Size", ...]


class Uncut(Exception):
    """A module cannot be cut into sweeps; its text says why, to follow "…: "."""

    def __init__(self, why: str, *, is_needless: bool = False) -> None:
        super().__init__(why)
        self.is_needless = is_needless
        """Whether no operation is seen that needs to be cut."""


@dataclass(frozen=True)
class Size:
    """A whole number a + b H + c W + d H W, of an input of H × W pixels."""

    a: Fraction
    b: Fraction
    c: Fraction
    d: Fraction

    @property
    def varies(self) -> bool:
        """Whether it depends on the input's size."""
        return bool(self.b or self.c or self.d)

    def at(self, height: int, width: int) -> int:
        value = self.a + self.b * height + self.c * width + self.d * height * width
        if value.denominator != 1:
            raise Uncut(f"a part of {width} × {height} pixels ends within its cells")
        return int(value)


def constant(number: int) -> Size:
    """Return a size that is the same whatever the input."""
    none = Fraction(0)
    return Size(Fraction(number), none, none, none)


@dataclass(frozen=True)
class Ref:
    """The result of operation `number`."""

    number: int


@dataclass(frozen=True)
class Operation:
    """One operation; its arguments are values, `Ref`s and `Size`s, in nested lists."""

    op: Any
    """Callable, or "input", or "constant" with its name as argument."""
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    shape: Shape | None = None
    """None: of several tensors, or of none."""
    where: str = ""
    """The part of the module that it stands in."""

    @property
    def inputs(self) -> list[int]:
        """Numbers of the operations whose results it takes."""
        return [each.number for each in leaves((self.args, self.kwargs)) if isinstance(each, Ref)]

    @property
    def name(self) -> str:
        """The operation's name, such as "mean"."""
        text = self.op if isinstance(self.op, str) else getattr(self.op, "__name__", str(self.op))
        return str(text).split(".")[0].strip("_")

    def at_place(self) -> str:
        """Return name and place for a sentence."""
        return f"{self.name} in {self.where}" if self.where else self.name


Nodes = list[Operation]


@dataclass
class Traced:
    """The operations of a module, its result last, and the tensors that it holds."""

    nodes: Nodes
    constants: dict[str, Tensor]


def leaves(value: Any) -> Iterator[Any]:
    """Yield what lies in nested lists and mappings."""
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from leaves(each)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from leaves(each)
    else:
        yield value


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return nested arguments with `change` applied to each leaf."""
    if isinstance(value, (list, tuple)):
        return type(value)(mapped(each, change) for each in value)
    if isinstance(value, Mapping):
        return {key: mapped(each, change) for key, each in value.items()}
    return change(value)


def trace(
    call: Callable[[Tensor], Tensor],
    module: nn.Module,
    bands: int,
    base: int,
    rest: tuple[int, int] = (0, 0),
    also: tuple[int, int] | None = None,
    least: int = 0,
) -> Traced:
    """Return the operations of `call`, which calls `module` on an image (1, bands, H, W).

    It is called on shapes alone, of sizes from `least` that are multiples of `base` and `rest` more, and
    of the size `also`, for which the same operations must hold. `module` is in evaluation mode, and belongs
    to the caller. Raises `Uncut`.
    """
    unit = base * -(-max(64, -(-least // 2)) // base)
    heights = [unit * n + rest[0] for n in (2, 3)]
    widths = [unit * n + rest[1] for n in (4, 5)]
    sizes = [(height, width) for width in widths for height in heights]
    sizes += [] if also is None else [also]
    graphs = []
    for size in sizes:
        try:
            graphs.append(_graph(call, module, bands, size))
        except Uncut:
            raise
        except Exception as error:  # code of others raises anything
            if "DataDependent" in type(error).__name__:
                raise Uncut(
                    "its code asks for values of the image, which are not traced"
                ) from error
            first = f"{type(error).__name__}: {first_line(error)[:160]}"
            raise Uncut(f"it cannot be traced ({first})") from error
    return _fitted(graphs, sizes)


def _graph(
    call: Callable[[Tensor], Tensor], module: nn.Module, bands: int, size: tuple[int, int]
) -> Any:
    # Imported here: they load sympy.
    from torch._subclasses.functional_tensor import dispatch_functionalize
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.nn.attention import SDPBackend, sdpa_kernel

    x = torch.zeros(1, bands, *size)
    # As products and a softmax: the fused kernels hide what is reduced over what.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _places(module):
        return make_fx(
            dispatch_functionalize(call),
            tracing_mode="fake",
            decomposition_table=_decompositions(),
            _allow_non_fake_inputs=True,
        )(x)


def _decompositions() -> dict[Any, Callable[..., Any]]:
    """Return how norms over the image are written as mean and variance."""
    from torch._decomp import get_decompositions

    groups, instances = (
        _aten.native_group_norm.default,
        _aten._native_batch_norm_legit.no_stats,
    )
    return dict(get_decompositions([groups, instances]))


@contextmanager
def _places(module: nn.Module) -> Iterator[None]:
    """Let operations note the part of `module` that they stand in."""
    from torch.fx.experimental.proxy_tensor import get_proxy_mode

    begun: list[Any] = []

    def last() -> Any:
        mode = get_proxy_mode()
        return None if mode is None else next(iter(reversed(mode.tracer.graph.nodes)), None)

    def before(part: nn.Module, args: Any) -> None:
        begun.append(last())

    def after(name: str, part: nn.Module) -> None:
        first, mode = begun.pop(), get_proxy_mode()
        if mode is None:
            return
        for node in reversed(mode.tracer.graph.nodes):
            if node is first:
                break
            node.meta.setdefault("place", name or type(part).__name__)

    hooks = []
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            continue
        hooks.append(part.register_forward_pre_hook(before))
        hooks.append(part.register_forward_hook(lambda part, _, __, name=name: after(name, part)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _fitted(graphs: Sequence[Any], sizes: Sequence[tuple[int, int]]) -> Traced:
    """Return the operations that all graphs share, with the sizes that explain each of them."""
    lists = [list(graph.graph.nodes) for graph in graphs]
    first = lists[0]
    if any(len(each) != len(first) for each in lists):
        raise Uncut("it computes images of different sizes in different ways")
    numbers: list[dict[Any, int]] = [{node: n for n, node in enumerate(each)} for each in lists]
    traced = Traced([], {})
    for n, node in enumerate(first):
        same = [each[n] for each in lists]
        if any(str(each.target) != str(node.target) for each in same):
            raise Uncut(f"it computes images of different sizes in different ways ({node.target})")
        where = node.meta.get("place", "")
        shape = _fit_shape([each.meta.get("val") for each in same], sizes)
        if node.op == "placeholder":
            traced.nodes.append(Operation("input", shape=shape))
        elif node.op == "get_attr":
            held = _attribute(graphs[0], node.target)
            traced.constants[node.target] = held
            traced.nodes.append(Operation("constant", (node.target,), shape=shape, where=where))
        elif node.op == "call_function":
            arguments = [(each.args, dict(each.kwargs)) for each in same]
            args, kwargs = _fit(arguments, sizes, numbers, node)
            traced.nodes.append(Operation(node.target, tuple(args), kwargs, shape, where))
        else:
            returned = node.args[0]
            result = numbers[0][returned[0] if isinstance(returned, (tuple, list)) else returned]
            # The result is the last of the list.
            traced.nodes.append(
                Operation(_aten.alias.default, (Ref(result),), {}, traced.nodes[result].shape)
            )
    return traced


def _attribute(graph: Any, target: str) -> Tensor:
    found = graph
    for name in target.split("."):
        found = getattr(found, name)
    if not isinstance(found, Tensor):
        raise Uncut(f"it holds {type(found).__name__} beside tensors")
    return found


def _fit_shape(values: Sequence[Any], sizes: Sequence[tuple[int, int]]) -> Shape | None:
    if not all(isinstance(each, Tensor) for each in values):
        return None
    if len({each.dim() for each in values}) > 1:
        raise Uncut("it computes images of different sizes in different ways")
    return tuple(_fit_number(each, sizes) for each in zip(*(v.shape for v in values), strict=True))


def _fit(values: Sequence[Any], sizes: Any, numbers: Any, node: Any) -> Any:
    """Return one argument, given what it is at every size."""
    one = values[0]
    if any(type(each) is not type(one) for each in values):
        raise Uncut(f"an argument of {node.target} changes with the size")
    if isinstance(one, (list, tuple)):
        if any(len(each) != len(one) for each in values):
            raise Uncut(f"{node.target} takes more of larger images")
        kind = tuple if type(one) is tuple else list
        return kind(_fit(each, sizes, numbers, node) for each in zip(*values, strict=True))
    if isinstance(one, Mapping):
        return {key: _fit([each[key] for each in values], sizes, numbers, node) for key in one}
    if isinstance(one, torch.fx.Node):
        found = {number[each] for number, each in zip(numbers, values, strict=True)}
        if len(found) > 1:
            raise Uncut("it computes images of different sizes in different ways")
        return Ref(found.pop())
    if type(one) is int:
        size = _fit_number(values, sizes)
        return size if size.varies else one
    if any(each != one for each in values):
        raise Uncut(f"a number of {node.target} follows from the size of the image")
    return one


def _fit_number(values: Sequence[int], sizes: Sequence[tuple[int, int]]) -> Size:
    v11, v21, v12, v22 = (Fraction(int(each)) for each in values[:4])
    (h1, w1), (h2, _), (_, w2) = sizes[:3]
    d = (v22 - v21 - v12 + v11) / ((h2 - h1) * (w2 - w1))
    b = (v21 - v11) / (h2 - h1) - d * w1
    c = (v12 - v11) / (w2 - w1) - d * h1
    size = Size(v11 - b * h1 - c * w1 - d * h1 * w1, b, c, d)
    for value, (height, width) in zip(values[4:], sizes[4:], strict=True):
        if size.at(height, width) != int(value):
            raise Uncut(f"it computes images of {width} × {height} pixels in another way")
    return size


def used(nodes: Nodes) -> Nodes:
    """Return the operations that the last one needs, and the input, numbered from 0 on."""
    needed = {n for n, node in enumerate(nodes) if node.op == "input"}
    waiting = [len(nodes) - 1]
    while waiting:
        number = waiting.pop()
        if number not in needed or number == len(nodes) - 1:
            needed.add(number)
            waiting += [each for each in nodes[number].inputs if each not in needed]
    order = sorted(needed)
    new = {old: n for n, old in enumerate(order)}

    def moved(value: Any) -> Any:
        return Ref(new[value.number]) if isinstance(value, Ref) else value

    return [
        replace(
            nodes[old],
            args=mapped(nodes[old].args, moved),
            kwargs=mapped(nodes[old].kwargs, moved),
        )
        for old in order
    ]


getitem = operator.getitem
