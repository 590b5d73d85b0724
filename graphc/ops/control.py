"""Ops that carry Graphs: `call`, a named sub-graph, and `scan`, a loop over a leading axis.

Rules of such ops need the derivative of a Graph; they receive it as `transform`, so this file never
imports autodiff. The graph of `call` is lowered once however often it is called: that makes compile
time independent of depth.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc import dtypes
from graphc.dims import Extent
from graphc.errors import GraphError
from graphc.graph import Graph, close, placeholder, trace
from graphc.lowering import Region
from graphc.node import Node
from graphc.op import Op, Rules, register
from graphc.ops.operands import as_node, describe
from graphc.ops.special import project
from graphc.tensor import surface
from graphc.tree import flatten
from graphc.types import TensorType, TupleType, Type, as_extent

# -- call ------------------------------------------------------------------------------------------


def _infer_call(*types: Type, graph: Graph, name: str) -> Type:
    if types != graph.parameters:
        raise GraphError(f"call of {name!r} takes {graph.parameters}, got {types}")
    return TupleType(graph.types)


def _numpy_call(*arrays: Any, graph: Graph, name: str) -> Any:
    from graphc.evaluator import run_graph

    return tuple(run_graph(graph, arrays))


def _is_float(type_: Type) -> bool:
    return isinstance(type_, TensorType) and dtypes.is_float(type_.dtype)


def _call_jvp(node: Node, tangents: list[Any], transform: Any) -> list[Any]:
    graph = node.attrs["graph"]
    moving = tuple(i for i, tangent in enumerate(tangents) if tangent is not None)
    pushed: Graph = transform.jvp(graph, moving)
    results = call_graph(
        pushed, [*node.args, *[tangents[i] for i in moving]], f"jvp of {node.attrs['name']}"
    )
    live = iter(results)
    return [next(live) if _is_float(type_) else None for type_ in graph.types]


def _call_vjp(node: Node, cotangents: list[Any], wanted: Any, transform: Any) -> list[Any]:
    graph = node.attrs["graph"]
    given = tuple(i for i, cotangent in enumerate(cotangents) if cotangent is not None)
    asked = tuple(i for i, want in enumerate(wanted) if want)
    pulled: Graph = transform.vjp(graph, given, asked)
    results = call_graph(
        pulled, [*node.args, *[cotangents[i] for i in given]], f"vjp of {node.attrs['name']}"
    )
    answer: list[Any] = [None] * len(node.args)
    for i, result in zip(asked, results, strict=True):
        answer[i] = result
    return answer


def _batch_call(
    node: Node, args: Sequence[Node], mapped: Sequence[bool], size: Extent, transform: Any
) -> list[Node]:
    graph, name = node.attrs["graph"], node.attrs["name"]
    found, _ = transform.batch(graph, mapped, size, (True,) * len(graph.outputs))
    return call_graph(found, args, f"{name} by rows")


call_op = register(
    Op(
        "call",
        _infer_call,
        _numpy_call,
        Region("call"),
        Rules(_call_jvp, _call_vjp),
        attributes=("graph", "name"),
        batch=_batch_call,
        text="call {name}",
        doc="A named sub-graph; its results are the graph's outputs.",
    )
)


def call_graph(graph: Graph, args: Sequence[Node], name: str) -> list[Node]:
    """The results of calling `graph`."""
    node = call_op(*args, graph=graph, name=name)
    return [project(node, i) for i in range(len(graph.outputs))]


@surface
def call(function: Callable[..., Any], *args: Any, name: str | None = None) -> Any:
    """`function(*args)` as a named sub-graph: traced once, lowered once for equal bodies.

    Arguments and results may be nested containers. What the function uses from outside becomes a
    further argument.
    """
    leaves, structure = flatten(args)
    nodes = [as_node(leaf) for leaf in leaves]
    result_structure: Any = None

    def body(*inputs: Node) -> list[Node]:
        nonlocal result_structure
        results, result_structure = flatten(function(*structure.unflatten(list(inputs))))
        return [as_node(result) for result in results]

    inputs, outputs = trace(body, [node.type for node in nodes])
    graph, captured = close(inputs, outputs)
    label = name or str(getattr(function, "__name__", "call"))
    return result_structure.unflatten(call_graph(graph, [*nodes, *captured], label))


# -- scan ------------------------------------------------------------------------------------------
#
# Arguments: `carry` initial states, then `steps` arrays read slice by slice along axis 0, then
# invariants. The body maps (states, slices, invariants) to (states, slices of the results).


def _infer_scan(
    *types: Type, graph: Graph, carry: int, steps: int, length: Extent, reverse: bool
) -> Type:
    states, slices = types[:carry], types[carry : carry + steps]
    invariants = types[carry + steps :]
    expected = (*states, *[TensorType(t.dtype, t.shape[1:]) for t in slices], *invariants)  # type: ignore[union-attr]
    if expected != graph.parameters or graph.types[:carry] != states:
        raise GraphError(
            f"scan: the body takes {graph.parameters} and gives states {graph.types[:carry]},\n"
            f"but it is given {expected}; a state must keep its type from step to step"
        )
    for slice_ in slices:
        if slice_.shape[0] != length:  # type: ignore[union-attr]
            raise GraphError(f"scan over {length} steps reads {slice_}")
    stacked = [TensorType(t.dtype, (length, *t.shape)) for t in graph.types[carry:]]  # type: ignore[union-attr]
    return TupleType((*states, *stacked))


def _numpy_scan(
    *arrays: Any, graph: Graph, carry: int, steps: int, length: int, reverse: bool
) -> Any:
    from graphc.evaluator import run_graph

    state = list(arrays[:carry])
    slices, invariants = arrays[carry : carry + steps], arrays[carry + steps :]
    stacked = graph.types[carry:]
    rows: list[list[Any]] = [[None] * length for _ in stacked]
    for t in reversed(range(length)) if reverse else range(length):
        results = run_graph(graph, [*state, *[array[t] for array in slices], *invariants])
        state = results[:carry]
        for row, value in zip(rows, results[carry:], strict=True):
            row[t] = value
    empty = [
        np.zeros((0, *[e if isinstance(e, int) else 0 for e in t.shape]), t.dtype)
        for t in stacked
        if isinstance(t, TensorType)
    ]
    return (*state, *[np.stack(row) if length else empty[i] for i, row in enumerate(rows)])


def _kind_of(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"


def scan_graph(
    graph: Graph, args: Sequence[Node], carry: int, steps: int, length: Extent, reverse: bool
) -> list[Node]:
    """The results of a scan: final states, then stacked results."""
    node = scan_op(*args, graph=graph, carry=carry, steps=steps, length=length, reverse=reverse)
    return [project(node, i) for i in range(len(graph.outputs))]


def scan_in_stretches(
    graph: Graph,
    args: Sequence[Node],
    carry: int,
    steps: int,
    length: Extent,
    reverse: bool,
    sizes: Sequence[int],
) -> list[Node]:
    """The results of a scan that is a scan over stretches of `sizes[0]` steps, each a scan in
    stretches of `sizes[1:]`; steps that fill no stretch come last.

    The reverse of a loop computes its body again, and the body is a loop here: so the states in a
    stretch are kept for as long as its own reverse takes.
    """
    from graphc.ops.joining import concatenate
    from graphc.ops.movement import reshape

    if not sizes:
        return scan_graph(graph, args, carry, steps, length, reverse)
    size = sizes[0]
    count, left = length // size, length - length // size * size
    given, rest = args[carry : carry + steps], args[carry + steps :]
    types = [
        TensorType(t.dtype, (size, *t.shape)) if carry <= i < carry + steps else t  # type: ignore[union-attr]
        for i, t in enumerate(graph.parameters)
    ]
    inputs = [placeholder(type_) for type_ in types]
    inner = scan_in_stretches(graph, inputs, carry, steps, size, reverse, sizes[1:])
    stretch, _ = close(inputs, inner)

    def stretches(states: Sequence[Node]) -> list[Node]:
        whole = given if left == 0 else [x[: count * size] for x in given]
        cut = [reshape(x, (count, size, *x.shape[1:])) for x in whole]
        found = scan_graph(stretch, [*states, *cut, *rest], carry, steps, count, reverse)
        return [*found[:carry], *(reshape(x, (count * size, *x.shape[2:])) for x in found[carry:])]

    def others(states: Sequence[Node]) -> list[Node]:
        last = [x[count * size :] for x in given]
        return scan_graph(graph, [*states, *last, *rest], carry, steps, left, reverse)

    if left == 0:
        return stretches(args[:carry])
    first, second = (others, stretches) if reverse else (stretches, others)
    found = first(args[:carry])
    later = second(found[:carry])
    pairs = zip(found[carry:], later[carry:], strict=True)
    joined = [concatenate(pair[::-1] if reverse else pair) for pair in pairs]
    return [*later[:carry], *joined]


def _stretches(checkpoint: Any, length: Extent) -> tuple[int, ...]:
    """How many steps are in a stretch, in a stretch of that, and so on."""
    if checkpoint is False or checkpoint is None:
        return ()
    if checkpoint is True:
        if not isinstance(length, int):
            raise GraphError(
                f"scan over {length} steps: checkpoint=True needs a known length\n"
                "Pass the number of steps between states that are kept: checkpoint=100."
            )
        return (_near_root(length),) if length > 1 else ()
    given = checkpoint if isinstance(checkpoint, (tuple, list)) else (checkpoint,)
    whole = all(isinstance(size, (int, np.integer)) and size > 0 for size in given)
    sizes = tuple(int(size) for size in given) if whole else ()
    if not whole or any(later >= size for size, later in itertools.pairwise(sizes)):
        raise GraphError(
            f"scan: checkpoint is a number of steps, or several falling ones, got {checkpoint!r}"
        )
    return sizes


def _near_root(length: int) -> int:
    """A divisor of `length` near its square root, so that no steps are left; the root rounded down
    if there is none within a factor of two.
    """
    root = math.isqrt(length)
    near = range(root, root // 2, -1)
    return next((size for size in near if length % size == 0), root)


def _scan_jvp(node: Node, tangents: list[Any], transform: Any) -> list[Any]:
    return transform.scan_jvp(node, tangents)


def _scan_vjp(node: Node, cotangents: list[Any], wanted: Any, transform: Any) -> list[Any]:
    return transform.scan_vjp(node, cotangents, wanted)


def _batch_scan(
    node: Node, args: Sequence[Node], mapped: Sequence[bool], size: Extent, transform: Any
) -> list[Node]:
    """One scan over rows: each step is done for all of them. A state that depends on a mapped
    argument in some round is one of rows from the first.
    """
    from graphc.ops.movement import moveaxis, swapaxes

    attrs = node.attrs
    graph, carry, steps = attrs["graph"], attrs["carry"], attrs["steps"]
    results = (True,) * (len(graph.outputs) - carry)
    states, rest = tuple(mapped[:carry]), tuple(mapped[carry:])
    while True:
        body, got = transform.batch(graph, (*states, *rest), size, (*states, *results))
        if got[:carry] == states:
            break
        states = got[:carry]
    given = []
    for i, (arg, own) in enumerate(zip(args, mapped, strict=True)):
        if i < carry:
            given.append(arg if own or not states[i] else transform.spread(arg, size))
        else:
            given.append(swapaxes(arg, 0, 1) if own and i < carry + steps else arg)
    found = scan_graph(body, given, carry, steps, attrs["length"], attrs["reverse"])
    finals = [
        final if own else transform.spread(final, size)
        for final, own in zip(found, states, strict=False)
    ]
    return [*finals, *(moveaxis(each, 1, 0) for each in found[carry:])]


scan_op = register(
    Op(
        "scan",
        _infer_scan,
        _numpy_scan,
        Region("scan"),
        Rules(_scan_jvp, _scan_vjp),
        attributes=("graph", "carry", "steps", "length", "reverse"),
        batch=_batch_scan,
        doc="Loops the body over axis 0: final states, then the results of every step stacked "
        "along a new axis 0.",
    )
)


@surface
def scan(
    function: Callable[..., Any],
    init: Any,
    xs: Any = None,
    length: Extent | None = None,
    reverse: bool = False,
    checkpoint: int | Sequence[int] | bool = False,
) -> Any:
    """Loop `state, y = function(state, x)` over the leading axis of `xs`; returns (final state,
    stacked ys).

    `init`, `xs`, `y` may be nested containers; `xs` may be None with `length` given. `reverse` runs
    from the last step to the first; results stay in place. A state must keep shape and dtype.

    Reverse mode keeps the state before every step, and computes the rest of a step again. With
    `checkpoint=k` it keeps the states before every k-th step only, and those of one stretch of k
    steps at a time: `length // k + k + length % k` states, for one more run of the loop. Several
    numbers, each smaller than the one before, cut stretches into stretches; True takes a number
    near the square root of a known length.
    """
    states, state_structure = flatten(init)
    slices, slice_structure = flatten(xs)
    state_nodes = [as_node(leaf) for leaf in states]
    slice_nodes = [as_node(leaf) for leaf in slices]
    length = _steps(slice_nodes, length)
    y_structure: Any = None

    def body(*inputs: Node) -> list[Node]:
        nonlocal y_structure
        state = state_structure.unflatten(list(inputs[: len(states)]))
        result = function(state, slice_structure.unflatten(list(inputs[len(states) :])))
        if not isinstance(result, tuple) or len(result) != 2:
            raise GraphError(
                "scan: the body returns the new state and the result of the step, a tuple of two; "
                f"got {_kind_of(result)}\nReturn None as the second if there is no result."
            )
        new_state, y = result
        y_leaves, y_structure = flatten(y)
        new_nodes = _states(new_state, state_nodes, state_structure)
        return [*new_nodes, *[as_node(leaf) for leaf in y_leaves]]

    slice_types = [TensorType(node.dtype, node.shape[1:]) for node in slice_nodes]
    inputs, outputs = trace(body, [*[node.type for node in state_nodes], *slice_types])
    graph, captured = close(inputs, outputs, repeats=True)
    args = [*state_nodes, *slice_nodes, *captured]
    counts = len(state_nodes), len(slice_nodes)
    sizes = _stretches(checkpoint, length)
    results = scan_in_stretches(graph, args, *counts, length, bool(reverse), sizes)
    final = state_structure.unflatten(results[: len(states)])
    return final, y_structure.unflatten(results[len(states) :])


def _steps(slices: Sequence[Node], length: Extent | None) -> Extent:
    """How many steps a scan takes: the extent of what it reads along axis 0, or what is given."""
    for node in slices:
        if node.ndim == 0:
            raise GraphError(
                "scan reads slices along axis 0 of xs; rank 0 has none\n" + describe([node])
            )
        length = node.shape[0] if length is None else length
    if length is None:
        raise GraphError("scan without xs needs a length")
    length = as_extent(length)
    if any(node.shape[0] != length for node in slices):
        raise GraphError(
            f"scan over {length} steps needs xs of that extent along axis 0\n" + describe(slices)
        )
    return length


def _states(state: Any, before: Sequence[Node], structure: Any) -> list[Node]:
    """The leaves of what a step of a scan makes of states, which keep structure and types."""
    leaves, found = flatten(state)
    if found != structure:
        raise GraphError(f"scan: the state was {structure}, the body gives {found}")
    nodes = [as_node(leaf) for leaf in leaves]
    for old, new in zip(before, nodes, strict=True):
        if old.type is not new.type:
            raise GraphError(
                f"scan: a state of {old.type} becomes {new.type} in a step\n"
                + describe([old, new])
                + "\nA state must keep its shape and dtype: cast or reshape the first one."
            )
    return nodes
