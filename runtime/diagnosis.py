"""Why is a result wrong, or not a number?  What `f.explain_nan` and `f.verify` answer.

Both run the graph node by node through the evaluator and look at every value on its way, those
inside loops and calls included. What a NaN comes from is asked of the graph as it runs, after
rewriting: stability rules keep many an overflow from happening. A Function is verified against the
graph as it was written: rounding differs between the two, and how much it may is measured, by
evaluating again with every float moved by a few units in the last place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.dims import Dim, symbols_of
from graphc.dims import evaluate as evaluate_extent
from graphc.dtypes import is_float
from graphc.evaluator import run_graph, watched
from graphc.graph import Graph, substitute_in
from graphc.node import Node
from graphc.origin import location
from graphc.tree import flatten
from graphc.types import TensorType

if TYPE_CHECKING:
    from graphc.runtime.compile import Compiled

# Runs with moved values, and by how many units in the last place they are moved.
RUNS, MOVED = 4, 2.0
# How much more than what moved runs differ by a Function may differ.
ALLOWED = 16.0
# The extent of a dimension of which nothing but the name is known, in arrays made for a check.
USUAL_EXTENT = 5


# -- not a number ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class NanOrigin:
    """The first node whose value is NaN, or infinite, though none of its arguments is.

    `kind` is "NaN" or "infinity", `index` the first such element of the value, `arguments` the
    elements of the arguments that have the same shape, at that index. `node` is None where the
    inputs themselves hold it: `where` names the input. `reaches` tells whether it is in a result;
    `type` is the node's in the user's names.
    """

    kind: str
    node: Node | None
    where: str
    index: tuple[int, ...]
    arguments: tuple[Any, ...]
    reaches: bool
    type: str = ""

    def __str__(self) -> str:
        place = f" at {list(self.index)}" if self.index else ""
        if self.node is None:
            return f"the input {self.where} holds {self.kind}{place}"
        listed = ", ".join(map(str, self.arguments))
        of = f" of {listed}" if listed else ""
        lines = [f"{self.node.op.name}{of} gives {self.kind}{place}, first of all"]
        lines += [f"  its value is {self.type}"]
        lines += [f"  built at {self.where}"] if self.where else []
        lines += [] if self.reaches else ["  no result of the Function holds any"]
        return "\n".join(lines)


class _Found(Exception):
    """Ends an evaluation."""


def explain_nan(compiled: Compiled, arrays: Sequence[Any]) -> NanOrigin | None:
    """Where a NaN comes from that a Function computes from arrays, or else an infinity; None where
    everything is finite.
    """
    graph, names = compiled.rewritten, compiled.request.names
    results = results_of(compiled, arrays)
    for kind, test in (("NaN", np.isnan), ("infinity", np.isinf)):
        reaches = any(_holds(result, test) for result in results)
        for name, array in zip(names, arrays, strict=True):
            if _holds(array, test):
                return NanOrigin(kind, None, name, _first(array, test), (), reaches)
        found = _first_node(graph, arrays, test)
        if found is not None:
            node, args, value = found
            index = _first(value, test)
            same = tuple(
                np.asarray(arg)[index] for arg in args if np.shape(arg) == np.shape(value)
            )
            users = {a: Dim.symbol(b) for a, b in compiled.dim_names.items()}
            type_ = str(substitute_in(node.type, users))
            return NanOrigin(kind, node, location(node.origin), index, same, reaches, type_)
    return None


def _first_node(graph: Graph, arrays: Sequence[Any], test: Callable[[Any], Any]) -> Any:
    """The first node in the order of evaluation that makes what `test` finds, with its arguments
    and value; None if none does.
    """
    found: list[Any] = []

    def watch(node: Node, args: Sequence[Any], value: Any) -> Any:
        if not any(_holds(arg, test) for arg in args):
            for each in value if isinstance(value, tuple) else (value,):
                if _holds(each, test):
                    found.append((node, args, each))
                    raise _Found
        return value

    with watched(watch):
        try:
            run_graph(graph, arrays)
        except _Found:
            return found[0]
    return None


def _holds(value: Any, test: Callable[[Any], Any]) -> bool:
    if isinstance(value, tuple):
        return any(_holds(each, test) for each in value)
    array = np.asarray(value)
    return is_float(array.dtype) and bool(test(array).any())


def _first(value: Any, test: Callable[[Any], Any]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(test(np.asarray(value)))[0])


# -- wrong -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verification:
    """Whether a Function agrees with its graph. `worst` is the largest difference, in units of
    what is allowed; over 1 the two disagree. Then `output` is the first result that is wrong,
    `index` and the two values show where, and `fault` says what is to blame.
    """

    ok: bool
    worst: float
    output: int | None = None
    index: tuple[int, ...] = ()
    got: Any = None
    expected: Any = None
    fault: str = ""

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        if self.ok:
            return f"agrees with the graph as written: {self.worst:.2g} of what is allowed"
        place = f" at {list(self.index)}" if self.index else ""
        return (
            f"result {self.output}{place} is {self.got!r}, and by the graph {self.expected!r}\n"
            f"  {self.fault}"
        )


@dataclass(frozen=True)
class Difference:
    """The worst element of the first array that differs by more than it may."""

    output: int
    index: tuple[int, ...]
    got: Any
    expected: Any


class Yardstick:
    """What the results of a graph are, and how far a computation of them may be off."""

    def __init__(self, graph: Graph, arrays: Sequence[Any]) -> None:
        self.wanted = [np.asarray(value) for value in run_graph(graph, arrays)]
        self.allowed = [_units(value) for value in self.wanted]
        random = np.random.default_rng(0)
        for _ in range(RUNS):
            with watched(lambda node, args, value: _moved(value, random)):
                others = run_graph(graph, arrays)
            self.allowed = [
                _widened(allowed, wanted, np.asarray(other))
                for allowed, wanted, other in zip(self.allowed, self.wanted, others, strict=True)
            ]

    def worst(self, results: Sequence[Any]) -> tuple[float, Difference | None]:
        """The largest difference in units of what is allowed; the first result that is beyond."""
        most, first = 0.0, None
        for number, (got, wanted, allowed) in enumerate(
            zip(results, self.wanted, self.allowed, strict=True)
        ):
            ratios = _ratios(np.asarray(got), wanted, allowed)
            if not ratios.size:
                continue
            index = np.unravel_index(int(np.argmax(ratios)), ratios.shape)
            most = max(most, float(ratios[index]))
            if first is None and ratios[index] > 1:
                at = tuple(int(i) for i in index)
                first = Difference(number, at, np.asarray(got)[at], wanted[at])
        return most, first


def _units(value: Any) -> Any:
    """A few units in the last place of each element; 0 for what is no float."""
    if not is_float(value.dtype):
        return np.zeros(value.shape)
    with np.errstate(all="ignore"):
        return ALLOWED * np.abs(np.spacing(np.abs(value))).astype(np.float64)


def _moved(value: Any, random: np.random.Generator) -> Any:
    """A value with its floats moved at random by up to `MOVED` units in the last place."""
    if isinstance(value, tuple):
        return tuple(_moved(each, random) for each in value)
    array = np.asarray(value)
    if not is_float(array.dtype):
        return value
    with np.errstate(all="ignore"):
        shift = random.uniform(-MOVED, MOVED, array.shape) * np.spacing(np.abs(array))
        return np.where(np.isfinite(array) & (array != 0), array + shift, array).astype(array.dtype)


def _widened(allowed: Any, wanted: Any, other: Any) -> Any:
    """Allow for what a moved run differs by, anything where it is no number or another integer."""
    if not is_float(wanted.dtype):
        return np.where(wanted != other, np.inf, allowed)
    with np.errstate(all="ignore"):
        apart = np.abs(wanted.astype(np.float64) - other.astype(np.float64))
        finite = np.isfinite(wanted) & np.isfinite(other)
        same = (wanted == other) | (np.isnan(wanted) & np.isnan(other))
    unsteady = np.where(same, 0.0, np.inf)
    return np.maximum(allowed, np.where(finite, ALLOWED * apart, unsteady))


def _ratios(got: Any, wanted: Any, allowed: Any) -> Any:
    """Differences over what is allowed: infinite where a number is wrong without measure."""
    with np.errstate(all="ignore"):
        if not is_float(wanted.dtype):
            return np.where((got == wanted) | np.isinf(allowed), 0.0, np.inf)
        apart = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
        same = (got == wanted) | (np.isnan(got) & np.isnan(wanted)) | np.isinf(allowed)
        # where the graph as written overflows, a stability rule may well give a number
        same |= ~np.isfinite(wanted) & np.isfinite(got)
        ratios = np.where(same, 0.0, apart / np.maximum(allowed, np.finfo(np.float64).tiny))
        return np.where(np.isnan(ratios), np.inf, ratios)


def made_arrays(graph: Graph, seed: int = 0) -> list[Any]:
    """Random arguments for a graph: floats from a normal distribution, small integers, and
    `USUAL_EXTENT` and a little more for dimensions.
    """
    random = np.random.default_rng(seed)
    names = sorted({n for t in graph.parameters for e in t.shape for n in symbols_of(e)})  # type: ignore[union-attr]
    sizes = {name: USUAL_EXTENT + i for i, name in enumerate(names)}
    made = []
    for type_ in graph.parameters:
        shape = tuple(evaluate_extent(extent, sizes) for extent in type_.shape)  # type: ignore[union-attr]
        dtype = type_.dtype  # type: ignore[union-attr]
        if is_float(dtype):
            made.append(random.standard_normal(shape).astype(dtype))
        else:
            made.append(random.integers(0, 2, shape).astype(dtype))
    return made


def compared(compiled: Compiled, arrays: Sequence[Any]) -> Verification:
    """Compare a Function with the evaluator, and say what is to blame for the first difference."""
    yardstick = Yardstick(compiled.written, arrays)
    worst, difference = yardstick.worst(results_of(compiled, arrays))
    if difference is None:
        return Verification(True, worst)
    d = difference
    fault = _blamed_rule(compiled, arrays, yardstick) or _blamed_kernel(compiled, arrays, d.output)
    return Verification(False, worst, d.output, d.index, d.got, d.expected, fault)


def results_of(compiled: Compiled, arrays: Sequence[Any]) -> list[Any]:
    """The results of a Function on arrays, of which donated ones are copied, as a flat list."""
    structure = compiled.request.input_structure
    given = structure.unflatten([array.copy() for array in arrays])
    results = compiled.slow(*(given.values() if isinstance(given, dict) else given))
    return flatten(results)[0]


def _blamed_rule(compiled: Compiled, arrays: Sequence[Any], yardstick: Yardstick) -> str:
    """The rule without which the rewritten graph has the value of the written one; "" if the
    rewritten graph is right.
    """
    from graphc.rewrite import rewrite

    if yardstick.worst(run_graph(compiled.rewritten, arrays))[1] is None:
        return ""
    fired = {firing.rule.name: firing for firing in compiled.firings}
    options = compiled.request.options
    for name, firing in fired.items():
        without = {*options.exclude, name}
        found = rewrite(compiled.written.outputs, math=options.math, exclude=without)
        graph = Graph(compiled.written.parameters, found.outputs)
        if yardstick.worst(run_graph(graph, arrays))[1] is None:
            where = location(firing.before.origin)
            on = f", which fired on what was built at {where}" if where else ""
            return f"the rewrite rule {name!r} is to blame{on}"
    return f"rewriting is to blame; the rules that fired: {', '.join(fired)}"


def _blamed_kernel(compiled: Compiled, arrays: Sequence[Any], output: int) -> str:
    """The first kernel that computes another value than the evaluator does."""
    from graphc.runtime.compile import Interpreted

    _, wrong = Yardstick(compiled.written, arrays).worst(
        results_of(Interpreted(compiled.request), arrays)
    )
    stage = "lowering" if wrong is not None else "machine code"
    graph = compiled.rewritten
    inside = set(graph.nodes())
    launches = [
        (launch, node)
        for launch in compiled.program.launches()
        for node in launch.nodes[-1:]
        if node in inside and isinstance(node.type, TensorType)
    ]
    target = graph.outputs[output]
    suspects = [(launch, node) for launch, node in launches if node is target] or launches[-1:]
    if launches:
        nodes = [node for _, node in launches]
        request = compiled.request.of(Graph(graph.parameters, nodes))
        part = type(compiled)(request)
        _, first = Yardstick(part.written, arrays).worst(results_of(part, arrays))
        suspects = suspects if first is None else [launches[first.output]]
    for launch, node in suspects:
        where = location(node.origin)
        built = f", built at {where}" if where else ""
        return f"the {stage} of kernel {launch.kernel.title} is to blame ({node.op.name}{built})"
    return f"the {stage} is to blame"
