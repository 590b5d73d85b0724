"""Does an op keep its contract?  `check_op` asks a user's op what graphc's tests ask of its own.

A record says everything about an op, so its parts can be held against each other: the type rule and
the derivative against the NumPy function, the kernel against it on every backend that runs here,
the laws against values. Each clause is one function below; it raises `Broken` with what it saw.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.autodiff.check import check_grad
from graphc.autodiff.forward import jvp
from graphc.autodiff.reverse import grad, vjp
from graphc.dims import product
from graphc.dtypes import is_float
from graphc.errors import GraphError
from graphc.evaluator import evaluate, run_graph
from graphc.graph import close, symbol_op
from graphc.lowering import Elementwise
from graphc.node import Node, topological
from graphc.op import REGISTRY, NoDerivative, Op
from graphc.ops.operands import constant, symbol
from graphc.ops.special import project
from graphc.options import Options
from graphc.types import TensorType, TupleType

DTYPES = ("float64", "float32", "int64", "int32", "uint8", "bool")
SHAPES: tuple[tuple[int, ...], ...] = ((), (5,), (2, 3), (0, 2))
MOST_ARGUMENTS = 4
EDGES = (0.0, -0.0, np.inf, -np.inf, np.nan, 1e-310, -1.0, 1.0, 1e30)


class Broken(Exception):
    """A clause does not hold."""


@dataclass(frozen=True)
class OpCheck:
    """What was found: for each clause that applies "" if the op keeps it, or how it does not."""

    op: str
    clauses: Mapping[str, str]

    @property
    def ok(self) -> bool:
        return not any(self.clauses.values())

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        lines = [f"{self.op}: {'keeps' if self.ok else 'breaks'} its contract"]
        for clause, what in self.clauses.items():
            lines.append(f"  {clause}: {what or 'ok'}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Example:
    """A node of the op over symbols, and its results as tensors."""

    node: Node
    symbols: tuple[Node, ...]
    results: tuple[Node, ...]

    def arrays(self, seed: int = 0) -> list[Any]:
        """Values for the symbols: floats within the op's domain, small positive integers."""
        random = np.random.default_rng(seed)
        made = []
        for number, each in enumerate(self.symbols):
            shape, dtype = each.shape, each.dtype
            if is_float(dtype):
                low, high = self.interval(number)
                values: Any = random.uniform(low, high, shape)
            else:
                low, high = (0, 2) if dtype == np.bool_ else (1, 4)
                values = random.integers(low, high, shape)
            made.append(np.asarray(values).astype(dtype))
        return made

    def interval(self, number: int) -> tuple[float, float]:
        domain = self.node.op.domain
        at = next((i for i, arg in enumerate(self.node.args) if arg is self.symbols[number]), 0)
        if at >= len(domain):
            return -2.0, 2.0
        return max(domain[at].low, -1e3), min(domain[at].high, 1e3)

    def values(self, nodes: Sequence[Node], arrays: Sequence[Any]) -> list[Any]:
        given = dict(zip(self.symbols, arrays, strict=True))
        return [np.asarray(value) for value in evaluate(list(nodes), given)]

    def __str__(self) -> str:
        return f"{self.node.op.name}({', '.join(str(each.type) for each in self.symbols)})"


def check_op(op: Op, examples: Sequence[Node] | None = None) -> OpCheck:
    """Hold the record of an op against itself: type rule, values on every backend, derivatives,
    laws.

    `examples` are nodes of the op over symbols of known shapes, float64 ones for derivatives. An
    element-wise op needs none: it is tried on every dtype that it takes. The answer is true if all
    clauses hold; `str()` of it says what was found. Raises `GraphError` if there is nothing to try.
    """
    if not isinstance(op, Op):
        raise GraphError(f"check_op takes an op, the record that was registered, not {op!r}")
    tried = [_example(op, node) for node in examples] if examples else _elementwise_examples(op)
    if not tried:
        raise GraphError(
            f"check_op needs examples of {op.name}: nodes of the op over symbols\n"
            "Only an element-wise op can be tried without."
        )
    found: dict[str, str] = {}
    for clause, check in CLAUSES.items():
        try:
            applied = [check(op, example) for example in tried]
        except Broken as broken:
            found[clause] = str(broken)
        except Exception as error:  # the op's own code may raise anything
            found[clause] = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        else:
            if any(each is not False for each in applied):
                found[clause] = ""
            # a clause that applies to no example is not in the answer
    return OpCheck(op.name, found)


def _example(op: Op, node: Node) -> Example:
    if not isinstance(node, Node) or op not in {each.op for each in topological([node])}:
        raise GraphError(f"an example of {op.name} is a node of it, not {node!r}")
    symbols = tuple(each for each in topological([node]) if each.op is symbol_op)
    return Example(node, symbols, results_of(node))


def results_of(node: Node) -> tuple[Node, ...]:
    """The results of a node as tensors."""
    if isinstance(node.type, TupleType):
        return tuple(project(node, i) for i in range(len(node.type.items)))
    return (node,)


def _elementwise_examples(op: Op) -> list[Example]:
    """The op on each dtype that it takes, of the least number of arguments that it takes."""
    if not isinstance(op.lowering, Elementwise):
        return []
    found = []
    for count in range(1, MOST_ARGUMENTS + 1):
        for dtype, shape in itertools.product(DTYPES, SHAPES):
            symbols = [symbol(f"x{i}", shape, dtype) for i in range(count)]
            try:
                node = op(*symbols)
            except (GraphError, TypeError, ValueError):
                continue
            found.append(Example(node, tuple(symbols), results_of(node)))
        if found:
            break
    return found


# -- clauses: each returns False where it does not apply -------------------------------------------


def demand(holds: Any, what: str) -> None:
    if not holds:
        raise Broken(what)


def record(op: Op, example: Example) -> None:
    """The op is registered, named, and has what it must have."""
    demand(REGISTRY.get(op.name) is op, "the op is not the one that is registered by this name")
    demand(op.name.isidentifier(), f"{op.name!r} is no identifier")
    if isinstance(op.derivative, NoDerivative):
        demand(len(op.derivative.why) > 5, "no_derivative does not say why")
    demand(len(set(op.attributes)) == len(op.attributes), "an attribute is named twice")
    node = example.node
    names = [f"arg{i}" for i in range(len(node.args))]
    for pattern in filter(None, (op.text, op.latex)):
        text = pattern.format(*names, **node.attrs)
        missing = [name for name in names if name not in text]
        demand(not missing or "{}" not in pattern, f"the pattern {pattern!r} leaves out {missing}")
    for each in example.symbols:
        demand(each.attrs["name"] in str(node), f"the text of a node leaves {each} out")


def round_trip(op: Op, example: Example) -> None:
    """Pickled and read back a node is the same object, and so is one from a graph file."""
    from graphc.graphfile import pack, unpack_one

    for result in example.results:
        demand(pickle.loads(pickle.dumps(result)) is result, f"pickling changes {example}")
        demand(unpack_one(pack([result])) is result, f"a graph file changes {example}")


def types(op: Op, example: Example) -> None:
    """The type rule says what the NumPy function gives."""
    values = example.values(example.results, example.arrays())
    for result, value in zip(example.results, values, strict=True):
        assert isinstance(result.type, TensorType)
        known = result.type.dtype, tuple(result.type.shape)
        got = value.dtype, value.shape
        demand(known == got, f"{example} is {result.type}, and NumPy gives {got[0]}{list(got[1])}")


def _edges(example: Example) -> list[Any]:
    """Special values for element-wise floats, each with each of the next argument."""
    count = len(EDGES)
    made = []
    for i, each in enumerate(example.symbols):
        values = np.resize(np.repeat(EDGES, count**i), count ** len(example.symbols))
        with np.errstate(all="ignore"):
            made.append(values.astype(each.dtype))
    return made


def _runs(example: Example) -> list[tuple[str, tuple[Node, ...], list[Any]]]:
    """What to compute: the example, and for element-wise floats their edges."""
    runs = [("", example.results, example.arrays())]
    node = example.node
    floats = all(is_float(each.dtype) for each in example.symbols)
    vector = all(len(each.shape) == 1 for each in example.symbols)
    plain = node.args == example.symbols
    if isinstance(node.op.lowering, Elementwise) and floats and vector and plain:
        arrays = _edges(example)
        inputs = [
            symbol(each.attrs["name"], array.shape, each.dtype)
            for each, array in zip(example.symbols, arrays, strict=True)
        ]
        runs.append((" at special values", results_of(node.op(*inputs, **node.attrs)), arrays))
    return runs


def _compared(target: str, threads: int, copy: Callable[[Any], Any]) -> Callable[..., None]:
    """A clause: the op computes on a backend what the NumPy function does."""

    def clause(op: Op, example: Example) -> None:
        from graphc.function import compile as compile_graph
        from graphc.runtime.diagnosis import Yardstick

        for what, outputs, arrays in _runs(example):
            inputs = [each for each in topological(outputs) if each.op is symbol_op]
            order = {each.attrs["name"]: i for i, each in enumerate(example.symbols)}
            inputs.sort(key=lambda each: order[each.attrs["name"]])
            graph, _ = close(inputs, list(outputs))
            options = Options(threads=threads, cache=False)
            f = compile_graph(inputs, list(outputs), target=target, options=options)
            _, wrong = Yardstick(graph, arrays).worst(f(*map(copy, arrays)))
            if wrong is not None:
                same = [a for a in arrays if a.shape == outputs[wrong.output].shape]
                of = f" of {', '.join(str(a[wrong.index]) for a in same)}" if same else ""
                raise Broken(
                    f"{example}{what}: element {list(wrong.index)}{of} is {wrong.got}, "
                    f"and by NumPy {wrong.expected}"
                )

    return clause


def _apart(array: Any) -> Any:
    """The same values, two elements apart."""
    wide = np.zeros((*array.shape, 2), array.dtype)
    wide[..., 1] = array
    return wide[..., 1]


def sources(op: Op, example: Example) -> None:
    """There is source text of it for every target."""
    from graphc.emission import emit

    for target in ("c", "cuda"):
        text = str(emit(list(example.symbols), list(example.results), target=target))
        demand(len(text) > 0, f"{target} has no text")


def _smooth(example: Example) -> tuple[list[Node], list[Node]] | None:
    """The float64 symbols and results that a derivative relates; None where there are none."""
    inputs = [s for s in example.symbols if s.dtype == np.float64]
    outputs = [r for r in example.results if is_float(r.dtype)]
    sizes = [product(s.shape) for s in inputs]
    return (inputs, outputs) if inputs and outputs and any(sizes) else None


def derivative(op: Op, example: Example) -> bool | None:
    """Forward mode agrees with differences, reverse mode with forward mode; without a derivative
    the error says why.
    """
    found = _smooth(example)
    if found is None:
        return False
    inputs, outputs = found
    if isinstance(op.derivative, NoDerivative):
        try:
            grad(_weighted(outputs, 1), inputs)
        except GraphError as error:
            demand(op.derivative.why.split("\n")[0][:40] in str(error), "the error hides why")
            return None
        raise Broken("a gradient was made, though there is no derivative")
    arrays, random = example.arrays(), np.random.default_rng(1)
    point = dict(zip(example.symbols, arrays, strict=True))
    check = check_grad(_weighted(outputs, 2), inputs, point)
    fault = f": {check.fault}" if check.fault else ""
    demand(check, f"{example}: the gradient is off by {check.worst:.2g} at {check.where}{fault}")
    tangents = [random.uniform(-1, 1, each.shape) for each in inputs]
    cotangents = [random.uniform(-1, 1, each.shape).astype(each.dtype) for each in outputs]
    pushed = example.values(jvp(outputs, inputs, list(map(constant, tangents))), arrays)
    pulled = example.values(vjp(outputs, inputs, list(map(constant, cotangents))), arrays)
    forward = [c * p for c, p in zip(cotangents, pushed, strict=True)]
    backward = [t * p for t, p in zip(tangents, pulled, strict=True)]
    left, right = (sum(float(np.sum(each)) for each in side) for side in (forward, backward))
    scale = sum(float(np.sum(np.abs(each))) for each in (*forward, *backward))
    demand(
        abs(left - right) <= 1e-10 * (scale + 1e-300),
        f"{example}: forward mode gives {left}, reverse mode {right}",
    )
    return None


def second_derivative(op: Op, example: Example) -> bool | None:
    """The gradient is differentiated as well."""
    found = _smooth(example)
    if found is None or isinstance(op.derivative, NoDerivative):
        return False
    inputs, outputs = found
    slopes = grad(_weighted(outputs, 3), inputs)
    cost = _weighted(slopes, 4)
    point = dict(zip(example.symbols, example.arrays(), strict=True))
    check = check_grad(cost, inputs, point, tolerance=1e-5)
    demand(check, f"{example}: the second derivative is off by {check.worst:.2g} at {check.where}")
    return None


def _weighted(outputs: Sequence[Node], seed: int) -> Node:
    """A number that depends on every element of every output."""
    random = np.random.default_rng(seed)
    terms = [
        (each * constant(random.uniform(0.5, 1.5, each.shape).astype(each.dtype))).sum()
        for each in outputs
    ]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def laws(op: Op, example: Example) -> bool | None:
    """The laws that the record states hold for the NumPy function."""
    node = example.node
    if not op.laws or node.args != example.symbols:
        return False
    arrays = example.arrays(5)

    def value(*args: Any) -> Any:
        with np.errstate(all="ignore"):
            return np.asarray(op.numpy(*args, **node.attrs))

    for law in sorted(op.laws):
        if law not in _LAWS:
            raise Broken(f"there is no law {law!r}; laws are {', '.join(_LAWS)}")
        left, right = _LAWS[law](value, arrays)
        tolerance = 1e-5 if left.dtype == np.float32 else 1e-12
        same = np.isclose(left, right, rtol=tolerance, atol=0, equal_nan=True)
        demand(np.all(same), f"{example}: it is not {law}")
    return None


def _increasing(value: Callable[..., Any], arrays: Sequence[Any]) -> tuple[Any, Any]:
    ordered = value(np.sort(arrays[0], axis=None))
    return np.sort(ordered), ordered


def _associative(value: Callable[..., Any], arrays: Sequence[Any]) -> tuple[Any, Any]:
    x, y, z = arrays[0], arrays[1], (arrays[0] + arrays[1]).astype(arrays[0].dtype)
    return value(value(x, y), z), value(x, value(y, z))


_LAWS: dict[str, Callable[..., tuple[Any, Any]]] = {
    "commutative": lambda f, a: (f(a[0], a[1]), f(a[1], a[0])),
    "associative": _associative,
    "odd": lambda f, a: (f(-a[0]), -f(a[0])),
    "even": lambda f, a: (f(-a[0]), f(a[0])),
    "increasing": _increasing,
    "involution": lambda f, a: (f(f(a[0])), a[0]),
    "idempotent": lambda f, a: (f(f(a[0])), f(a[0])) if len(a) == 1 else (f(a[0], a[0]), a[0]),
}


def batch(op: Op, example: Example) -> None:
    """Over a further axis it does for each example what it does for one."""
    from graphc.batching import vmap

    graph, _ = close(example.symbols, list(example.results))
    rows = [example.arrays(seed) for seed in (0, 1, 2)]
    stacked = [np.stack(column) for column in zip(*rows, strict=True)]
    together = vmap(lambda *args: list(graph(*args)))(*map(constant, stacked))
    got = [np.asarray(value) for value in evaluate(list(together))]
    for i, row in enumerate(rows):
        for each, want in zip(got, run_graph(graph, row), strict=True):
            same = np.isclose(each[i], want, rtol=1e-5, atol=1e-8, equal_nan=True)
            demand(np.all(same), f"{example}: vmap gives another value for example {i}")


CLAUSES: dict[str, Callable[[Op, Example], Any]] = {
    "record": record,
    "round trip": round_trip,
    "type rule": types,
    "kernel interpreter": _compared("interpret", 1, lambda array: array),
    "native code": _compared("cpu", 1, lambda array: array),
    "native code on two threads": _compared("cpu", 2, lambda array: array),
    "strided arguments": _compared("cpu", 1, _apart),
    "sources": sources,
    "derivative": derivative,
    "second derivative": second_derivative,
    "laws": laws,
    "batch": batch,
}
