"""How many calls can one trace of a function serve?  As many as its extents may stay symbols for.

First every extent is a symbol of its own. Where the function needs the number of a dimension, that
one is pinned to it. If tracing or compiling fails otherwise, dimensions of equal size become one
symbol; if it fails still, all extents become numbers. What helped is remembered for the signature,
with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from graphc import origin, tracing
from graphc.arguments import Call
from graphc.dims import Dim, dim
from graphc.errors import EndlessTraceError, GraphTypeError, shortened
from graphc.function import compile
from graphc.graph import placeholder, placeholder_op, replace, symbol_op
from graphc.node import Node, topological
from graphc.ops.operands import as_node, describe, symbol
from graphc.options import Options
from graphc.signature import STATIC_TYPES, Leaf, Signature, Static
from graphc.substitutes import substituted
from graphc.tree import Structure, flatten
from graphc.types import TensorType, shape_symbols
from graphc.weak import WeakScalar

_LONGEST_NAME = 200


@dataclass(frozen=True)
class Source:
    """What is traced and compiled: `run` takes the leaves of a call to the function's result."""

    title: str
    run: Callable[[Sequence[Any]], Any]
    definition: origin.Event
    donated: frozenset[str]
    target: str
    options: Options | None


@dataclass(frozen=True)
class Results:
    """What the function returned: a structure, static values, and how many nodes between them."""

    structure: Structure
    template: tuple[Any, ...]
    nodes: int

    @property
    def plain(self) -> bool:
        """Whether everything returned is computed."""
        return self.nodes == len(self.template) > 0

    def fill(self, arrays: Sequence[Any]) -> Any:
        """The results of a call, `arrays` being the computed ones."""
        given = iter(arrays)
        return self.structure.unflatten(
            next(given) if item is _NODE else item.copy() if type(item) is np.ndarray else item
            for item in self.template
        )


_NODE = object()  # stands in a template where a node was


@dataclass(frozen=True)
class Specialization:
    """One trace: what it is good for, what it computes, and why it was made.

    `pinned` are extents that are numbers, `tied` tells why dimensions of equal size are one, each
    with the reason; `guards` are the questions about extents on whose answers the trace relies.
    """

    number: int
    signature: Signature
    types: tuple[TensorType, ...]
    cause: str
    pinned: Mapping[str, tuple[int, str]]
    guards: tuple[tracing.Guard, ...]
    tied: str
    function: Any
    results: Results
    seconds: tuple[float, float]

    @property
    def symbolic(self) -> bool:
        """Whether it serves more than one set of sizes."""
        return any(shape_symbols(type_.shape) for type_ in self.types)

    def serves(self, sizes: Mapping[str, int]) -> bool:
        """Whether a call with these sizes may use this trace."""
        return self.hindrance(sizes) is None

    def hindrance(self, sizes: Mapping[str, int]) -> str | None:
        """Why a call of this signature with these sizes may not use this trace."""
        for name, (value, _) in self.pinned.items():
            if sizes[name] != value:
                return f"{name} is {sizes[name]}, and trace {self.number} is for {value}"
        for guard in self.guards:
            if not guard.holds(sizes):
                return f"trace {self.number} relies on {guard}"
        return None

    @property
    def runner(self) -> Callable[..., Any]:
        """What takes the arrays of a call to its results."""
        function, results = self.function, self.results
        if results.plain:
            return function  # type: ignore[no-any-return]
        if function is None:
            return lambda *_: results.fill(())
        return lambda *arrays: results.fill(function(*arrays))

    def __str__(self) -> str:
        statics = [str(e) for e in self.signature.entries if isinstance(e, Static)]
        lines = [
            f"{self.number}. ({', '.join([*map(repr, self.types), *statics])}), traced in "
            f"{self.seconds[0] * 1e3:.1f} ms, compiled in {self.seconds[1] * 1e3:.1f} ms",
            f"   because: {self.cause}",
        ]
        lines += [f"   {name} = {value}: {why}" for name, (value, why) in self.pinned.items()]
        lines += [f"   equal sizes are tied: {self.tied}"] * bool(self.tied)
        lines += [f"   relies on {guard}" for guard in self.guards]
        return "\n".join(lines)


@dataclass
class Family:
    """The traces of one signature, and what is known to be needed for any."""

    traces: list[Specialization] = field(default_factory=list)
    pinned: dict[str, str] = field(default_factory=dict)
    tied: str = ""


def specialize(
    source: Source, call: Call, family: Family, exact: bool, number: int, cause: str
) -> Specialization:
    """A trace for a call; `exact`: with its sizes as numbers. Teaches the family what it needed.

    Raises what the function raises, `GraphError`, `CompileError`.
    """
    attempt = _Attempt(source, call, family, exact)
    while True:
        trace = tracing.Trace(source.title, attempt.sizes)
        try:
            return attempt.made(trace, number, cause)
        except Exception as error:
            reason = _unwrapped(error)
            if attempt.another_way(trace, reason):
                continue
            if reason is error:
                raise
            raise reason from None


def _unwrapped(error: Exception) -> Exception:
    """The refusal behind an error of NumPy's: it says more about an item than "a sequence" does."""
    cause = error.__cause__
    hidden = type(error) is ValueError and isinstance(cause, GraphTypeError)
    return cause if hidden else error  # type: ignore[return-value]


class _Attempt:
    """The state between attempts at one trace: which extents are numbers, and which are one."""

    def __init__(self, source: Source, call: Call, family: Family, exact: bool) -> None:
        self.source, self.call, self.family, self.exact = source, call, family, exact
        self.sizes = call.sizes()
        ones = [name for name, size in self.sizes.items() if size == 1]
        self.pinned = dict.fromkeys(ones, "") | family.pinned
        if exact:
            self.pinned = dict.fromkeys(self.sizes, "no trace with symbols serves these sizes")
        self.tied = family.tied

    @property
    def free(self) -> list[str]:
        """The dimensions that are symbols."""
        return [name for name in self.sizes if name not in self.pinned]

    def another_way(self, trace: tracing.Trace, error: Exception) -> bool:
        """Whether there is a reason to try again with fewer symbols; notes what is to be fixed."""
        free = self.free
        needs = trace.wanted if trace.wanted.keys() & set(free) else trace.generated
        wanted = {name: place for name, place in needs.items() if name in free}
        if wanted:
            standing = self.representatives()
            reasons = {standing[n]: f"its number is needed{_at(p)}" for n, p in wanted.items()}
            self.pinned |= {n: reasons[standing[n]] for n in free if standing[n] in reasons}
            return True
        if not free or isinstance(error, (GraphTypeError, EndlessTraceError)):
            return False
        reason = f"{type(error).__name__}: {shortened(str(error))}"
        if not self.tied and len({self.sizes[name] for name in free}) < len(free):
            self.tied = reason
        else:
            self.pinned |= dict.fromkeys(free, f"symbolic extents fail: {reason}")
        return True

    def representatives(self) -> dict[str, str]:
        """The dimension that stands for each symbol: itself, or the first of its size."""
        if not self.tied:
            return {name: name for name in self.free}
        first: dict[int, str] = {}
        return {name: first.setdefault(self.sizes[name], name) for name in self.free}

    def types(self, representatives: Mapping[str, str]) -> list[TensorType]:
        """The types of the traced leaves."""
        return [
            TensorType(entry.dtype, tuple(representatives.get(n, self.sizes[n]) for n in names))
            for entry, names in zip(self.call.signature.entries, self.call.axes, strict=True)
            if isinstance(entry, Leaf)
        ]

    def made(self, trace: tracing.Trace, number: int, cause: str) -> Specialization:
        """The function traced and compiled as things stand."""
        began = time.perf_counter()
        representatives = self.representatives()
        types = self.types(representatives)
        symbols, paths, outputs, results = self._traced(trace, types)
        traced = time.perf_counter()
        function = self._compiled(symbols, paths, outputs, results) if outputs else None
        pinned = {name: why for name, why in self.pinned.items() if self.sizes[name] != 1}
        if not self.exact:
            self.family.pinned, self.family.tied = pinned, self.tied
        return Specialization(
            number=number,
            signature=self.call.signature,
            types=tuple(types),
            cause=cause,
            pinned={name: (self.sizes[name], why) for name, why in pinned.items()},
            guards=(*trace.guards, *_ties(representatives)),
            tied=self.tied,
            function=function,
            results=results,
            seconds=(traced - began, time.perf_counter() - traced),
        )

    def _traced(
        self, trace: tracing.Trace, types: Sequence[TensorType]
    ) -> tuple[list[Node], list[str], list[Node], Results]:
        """Symbols for the traced leaves, their paths, and the results in terms of the symbols.

        The function itself sees placeholders: symbols of its own could be written by others, too.
        """
        pairs = list(zip(self.call.paths, self.call.signature.entries, strict=True))
        paths = [path for path, entry in pairs if isinstance(entry, Leaf)]
        with origin.because(self.source.definition):
            inputs = [placeholder(type_) for type_ in types]
            named = zip(_input_names(paths), types, strict=True)
            symbols = [symbol(name, type_.shape, type_.dtype) for name, type_ in named]
        trace.labels = dict(zip(inputs, paths, strict=True))
        given = iter(inputs)
        leaves = [_stand_in(entry, given) for _, entry in pairs]
        with tracing.entered(trace), substituted():
            nodes, results = _taken(self.source.title, self.source.run(leaves))
            _refuse_strangers(self.source.title, nodes, set(inputs))
        outputs = replace(nodes, dict(zip(inputs, symbols, strict=True)))
        return symbols, paths, outputs, results

    def _compiled(
        self, symbols: list[Node], paths: list[str], outputs: list[Node], results: Results
    ) -> Any:
        source = self.source
        donate = [
            node
            for node, path in zip(symbols, paths, strict=True)
            if any(_belongs(path, argument) for argument in source.donated)
        ]
        return compile(
            symbols,
            results.structure.unflatten(outputs) if results.plain else outputs,
            target=source.target,
            options=source.options,
            donate=donate,
            name=source.title,
        )


def _stand_in(entry: Leaf | Static, inputs: Any) -> Any:
    """What the function is called with in place of a leaf."""
    if isinstance(entry, Static):
        return entry.value
    return WeakScalar(next(inputs)) if entry.weak else next(inputs)


def _at(place: str) -> str:
    return f" at {place}" if place else ""


def _belongs(path: str, argument: str) -> bool:
    """Whether a leaf is of an argument: "params['w']" is of "params"."""
    return path == argument or path.startswith((argument + "[", argument + "."))


def _input_names(paths: Sequence[str]) -> list[str]:
    """The paths as names of inputs: printable, of bounded length, and different."""
    names: dict[str, None] = {}
    for position, path in enumerate(paths):
        name = "".join(c if c.isprintable() else "?" for c in path)
        if len(name) > _LONGEST_NAME or name in names:
            name = f"{name[: _LONGEST_NAME - 20]}... ({position})"
        names[name] = None
    return list(names)


def _ties(representatives: Mapping[str, str]) -> list[tracing.Guard]:
    """Sizes that have to be equal because one symbol stands for them."""
    return [
        tracing.Guard(dim(name), "==", dim(first), True, "")
        for name, first in representatives.items()
        if name != first
    ]


def _taken(title: str, result: Any) -> tuple[list[Node], Results]:
    """The nodes among the results of a function, and what stands around them."""
    leaves, structure = flatten(result)
    nodes: list[Node] = []
    template: list[Any] = []
    for leaf, path in zip(leaves, structure.paths(), strict=True):
        if isinstance(leaf, (Node, WeakScalar, Dim)):
            nodes.append(as_node(leaf))
            template.append(_NODE)
        elif isinstance(leaf, np.ndarray):
            template.append(np.array(leaf))
        elif isinstance(leaf, (int, float, complex, np.generic, *STATIC_TYPES)):
            template.append(leaf)
        else:
            _refuse_result(title, leaf, path)
    return nodes, Results(structure, tuple(template), len(nodes))


def _refuse_result(title: str, leaf: Any, path: str) -> NoReturn:
    raise GraphTypeError(
        f"{title} returns a {type(leaf).__name__}{f' at {path}' if path else ''}: "
        f"{shortened(repr(leaf))}\n"
        "A traced function returns arrays, numbers, strings, None, and containers of these.\n"
        "Make a container of your own known with gx.register_container."
    )


def _refuse_strangers(title: str, nodes: Sequence[Node], inputs: set[Node]) -> None:
    """Values of other traces and free symbols: a compiled call could give them no value."""
    for node in topological(nodes):
        if node.op is symbol_op:
            raise GraphTypeError(
                f"{title} uses the symbol {node.attrs['name']!r} from outside, which has no value "
                "in a call\n"
                + describe([node])
                + "\nPass it as an argument, or call the function with nodes and compile the whole."
            )
        if node.op is placeholder_op and node not in inputs:
            raise GraphTypeError(
                f"{title} uses a value that an earlier trace left behind\n"
                + describe([node])
                + "\nReturn what a traced function computes; do not store it elsewhere."
            )
