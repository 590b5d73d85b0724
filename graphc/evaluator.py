"""What is the value of an expression?  Each op's NumPy function, over the graph as it was written.

Slow and plain: this is the truth that every rewrite, every kernel and every backend is compared
with.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Extent, affine, symbols_of
from graphc.dims import evaluate as evaluate_extent
from graphc.errors import ExtentError, GraphError
from graphc.graph import Graph, parameter_op, substitute_in, symbol_op
from graphc.node import Node, topological
from graphc.tree import flatten
from graphc.types import TensorType, Type


def evaluate(expression: Any, values: Mapping[Node, Any] | None = None) -> Any:
    """The value of a node, or of a nested container of nodes, given arrays for its symbols.

    Raises `GraphError` for a symbol without a value, `ValueError` or `TypeError` for one whose
    value does not fit.
    """
    from graphc.ops.operands import as_node

    leaves, structure = flatten(expression)
    nodes = [as_node(leaf) if not isinstance(leaf, Node) else leaf for leaf in leaves]
    given = dict(values or {})
    arrays: dict[Node, Any] = {}
    sizes: dict[str, int] = {}
    for node, value in given.items():
        if not isinstance(node, Node) or node.op is not symbol_op:
            raise GraphError(f"values are given for symbols, not for {node!r}")
        arrays[node] = fitting(value, node.type, node.attrs["name"])
    for node, array in arrays.items():
        bind_extents(node.type, array.shape, sizes, node.attrs["name"])
    for node in topological(nodes):
        if node.op is symbol_op and node not in arrays:
            known = ", ".join(sorted(n.attrs["name"] for n in given)) or "none"
            raise GraphError(f"symbol {node.attrs['name']!r} has no value; given are: {known}")
    results = run(nodes, arrays, sizes)
    return structure.unflatten(results)


def run_graph(graph: Graph, arrays: Sequence[Any]) -> list[Any]:
    """The outputs of a closed graph on arrays."""
    sizes: dict[str, int] = {}
    given = [np.asarray(array) for array in arrays]
    for i, (type_, array) in enumerate(zip(graph.parameters, given, strict=True)):
        bind_extents(type_, array.shape, sizes, f"argument {i}")
    values = {}
    for node in topological(graph.outputs):
        if node.op is parameter_op:
            values[node] = given[node.attrs["index"]]
    return run(graph.outputs, values, sizes)


Watch = Callable[[Node, Sequence[Any], Any], Any]
_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextlib.contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Within it `watch(node, arguments, value)` sees every value as it is computed, those of graphs
    inside nodes before the node's own; what it returns is taken for the value.
    """
    token = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(token)


def run(outputs: Sequence[Node], values: Mapping[Node, Any], sizes: Mapping[str, int]) -> list[Any]:
    """The values of `outputs`; what no later node needs is let go."""
    held: dict[Node, Any] = dict(values)
    order = topological(outputs, known=values)
    last = {argument: node for node in order for argument in node.args}
    keep = set(outputs) | set(values)
    watch = _WATCH.get()
    for node in order:
        attrs: Mapping[str, Any] = node.attrs
        if attrs:
            attrs = {name: substitute_in(value, sizes) for name, value in attrs.items()}
        if isinstance(node.type, TensorType):
            check_extents(node.type, sizes)
        with np.errstate(all="ignore"):
            held[node] = node.op.numpy(*[held[argument] for argument in node.args], **attrs)
        if watch is not None:
            held[node] = watch(node, [held[argument] for argument in node.args], held[node])
        for argument in node.args:
            if last[argument] is node and argument not in keep:
                held.pop(argument, None)
    return [held[node] for node in outputs]


def check_extents(type_: TensorType, sizes: Mapping[str, int]) -> None:
    """`ExtentError` for an extent that is negative at these sizes."""
    for extent in type_.shape:
        if isinstance(extent, int) or not symbols_of(extent) <= sizes.keys():
            continue
        size = evaluate_extent(extent, sizes)
        if size < 0:
            raise ExtentError(f"the extent {extent} is {size}; it must not be negative")


def fitting(value: Any, type_: Type, name: str) -> Any:
    """`value` as an array of a tensor type, converted where nothing is lost; Python numbers are
    weak, in lists too.

    Raises `ValueError` for another rank, `TypeError` for a dtype that does not convert safely,
    `OverflowError` for a Python int that is out of range.
    """
    assert isinstance(type_, TensorType)
    rank = dtypes.weak_kind(value)
    weak = rank is not None and dtypes.takes_weak(type_.dtype, rank)
    array = np.asarray(value, type_.dtype if weak else None)
    if array.ndim != type_.ndim:
        raise ValueError(f"{name!r} has rank {type_.ndim} ({type_}), got shape {array.shape}")
    if array.dtype == type_.dtype:
        return array
    if rank is None and np.can_cast(array.dtype, type_.dtype, "safe"):
        return array.astype(type_.dtype)
    raise TypeError(f"{name!r} is {type_.dtype.name}, got {array.dtype.name}")


def bind_extents(type_: Type, shape: tuple[int, ...], sizes: dict[str, int], name: str) -> None:
    """Learn the values of dimensions from a shape; `ValueError` if they contradict what is known.
    """
    if not isinstance(type_, TensorType):
        return
    for axis, (extent, size) in enumerate(zip(type_.shape, shape, strict=True)):
        learned = solve_extent(extent, size, sizes)
        if learned is not None:
            sizes.update(learned)
        unknown = symbols_of(extent) - sizes.keys()
        if not unknown and evaluate_extent(extent, sizes) != size:
            raise ValueError(
                f"axis {axis} of {name!r} has extent {extent} = {evaluate_extent(extent, sizes)}, "
                f"got {size}"
            )


def solve_extent(extent: Extent, size: int, sizes: Mapping[str, int]) -> dict[str, int] | None:
    """The one unknown name in an affine extent, solved for; None if nothing is to be learned."""
    unknown = symbols_of(extent) - sizes.keys()
    if len(unknown) != 1:
        return None
    (name,) = unknown
    split = affine(extent, name)
    if split is None:
        return None
    slope, rest = (evaluate_extent(part, sizes) for part in split)
    if slope == 0 or (size - rest) % slope != 0:
        return None
    return {name: (size - rest) // slope}
