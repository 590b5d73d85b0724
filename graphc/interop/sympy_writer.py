"""How does a graph become a SymPy expression?  `to_sympy`: every element by its formula.

A node's value is an array of SymPy expressions, computed from those of its arguments, once for
every node: what the graph shares, the expressions share. Element-wise ops are formulas (the tables
here), movement is done with the numbers of elements instead of the elements, sums and products are
written out. SymPy is imported when `to_sympy` is called.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

import graphc as gx
from graphc.errors import GraphError
from graphc.origin import location
from graphc.tree import flatten

# Float constants that are nearest to a fraction of such a denominator are written as that fraction.
_LARGEST_DENOMINATOR = 1000
# SymPy simplifies what it builds by recursion, functions like tanh in exponential time: formulas
# deeper than the first number are left as they stand, those of functions deeper than the second.
_DEEPEST, _DEEPEST_FUNCTION = 50, 3


def to_sympy(x: Any, symbols: Mapping[Any, Any] | Iterable[Any] | None = None) -> Any:
    """The SymPy expression of a node, or of each node of a nested container.

    A node of rank 0 becomes an expression, one of rank 2 an immutable matrix of its elements, any
    other an immutable array; its extents have to be numbers. A symbol becomes a `Symbol` with its
    facts as assumptions, one of rank 2 a `MatrixSymbol`, any other an `IndexedBase`. `symbols` says
    what else: a mapping from nodes, or names of symbols, to SymPy's expressions (arrays of them for
    arrays), or SymPy symbols, which are taken by their names.

    Values are those of real numbers: the floats nearest to pi, to E and to fractions of small
    denominators become those, and nothing rounds or overflows. SymPy simplifies formulas as it
    always does, deep ones are left as they stand. Raises `GraphError`, naming the op, for what has
    no formula: random bits, sorting, decompositions, loops whose length is not known.

    >>> print(to_sympy(gx.exp(-gx.scalar("x") / 2)))
    exp(-x/2)
    """
    leaves, structure = flatten(x)
    nodes = [leaf if isinstance(leaf, gx.Node) else gx.constant(leaf) for leaf in leaves]
    writer = Writer(_by_name(symbols))
    return structure.unflatten([writer.result(value) for value in writer.values(nodes, {})])


def _by_name(symbols: Any) -> dict[Any, Any]:
    if symbols is None or isinstance(symbols, Mapping):
        return dict(symbols or {})
    return {str(getattr(symbol, "name", symbol)): symbol for symbol in symbols}


class Writer:
    """One conversion: what symbols stand for, and SymPy."""

    def __init__(self, symbols: dict[Any, Any]) -> None:
        import sympy

        self.symbols, self.sympy = symbols, sympy
        self.elementwise = _elementwise(sympy)
        self.reductions = _reductions(sympy)

    def values(self, outputs: Sequence[Any], given: Mapping[Any, Any]) -> list[Any]:
        """The arrays of expressions of `outputs`, those of some nodes being given."""
        held = dict(given)
        depth: dict[Any, int] = {}
        order = gx.Graph((), outputs).nodes()
        needed = set(outputs)
        for node in reversed(order):
            if node in needed and node not in held and node not in self.symbols:
                needed.update(node.args)
        for node in order:
            if node not in needed:
                depth[node] = 0
                continue
            depth[node] = 1 + max((depth[argument] for argument in node.args), default=0)
            if node not in held:
                with self.sympy.evaluate(depth[node] <= self.deepest(node)):
                    held[node] = self.value(node, [held.get(each) for each in node.args])
        return [held[node] for node in outputs]

    def deepest(self, node: Any) -> float:
        """Down to which depth SymPy simplifies what a node becomes."""
        formula = self.elementwise.get(node.op.name)
        if formula is None:
            return math.inf if node.op.name in _STRUCTURAL else _DEEPEST
        return _DEEPEST_FUNCTION if isinstance(formula, type) else _DEEPEST

    def result(self, value: Any) -> Any:
        """An array of expressions as SymPy's own kind of array."""
        if isinstance(value, tuple):
            return tuple(map(self.result, value))
        if value.ndim == 0:
            return value.item()
        if value.ndim == 2 and all(isinstance(each, self.sympy.Expr) for each in value.flat):
            return self.sympy.ImmutableDenseMatrix(*value.shape, list(value.flat))
        return self.sympy.ImmutableDenseNDimArray(list(value.flat), value.shape)

    def value(self, node: Any, args: list[Any]) -> Any:
        """What a node becomes, its arguments being arrays of expressions."""
        name = node.op.name
        if node in self.symbols:
            return self.given(self.symbols[node], node, _static(node))
        if name in _MOVEMENT:
            return self.moved(node, args, whole=1)
        if name == "cast":
            kinds = node.args[0].dtype.kind, node.dtype.kind
            return self.each(functools.partial(self.converted, *kinds), node, args)
        if name in self.elementwise:
            return self.each(self.elementwise[name], node, args)
        if name in self.reductions:
            return _reduced(self.reductions[name], args[0], node.attrs["axes"])
        structural = _STRUCTURAL.get(name)
        if structural is None:
            raise _refusal(node)
        return structural(self, node, args)

    def each(self, formula: Callable[..., Any], node: Any, args: list[Any]) -> Any:
        """A formula over the elements."""
        attrs = {name: value for name, value in node.attrs.items() if name == "n"}
        made = np.empty(args[0].shape, object)
        rows = zip(*(array.flat for array in args), strict=True)
        made.reshape(-1)[:] = [formula(*row, **attrs) for row in rows]
        return made

    def converted(self, source: str, target: str, element: Any) -> Any:
        """An element in another dtype."""
        sympy = self.sympy
        if target == "b":
            return element if source == "b" else sympy.Ne(element, 0)
        if source == "b":
            return sympy.Piecewise((sympy.Integer(1), element), (sympy.Integer(0), True))
        if target in "iu" and source == "f":
            return _truncated(sympy, element)
        return element

    def moved(self, node: Any, args: list[Any], whole: int) -> Any:
        """A movement, done with the numbers of elements; 0 stands for a zero that is put in.

        The arguments from `whole` on are positions if the op takes any.
        """
        positions = node.op.name in _POSITIONED
        moving = args[:whole] if positions else args
        ends = np.cumsum([1, *(array.size for array in moving)])
        numbers = [
            np.arange(start, start + array.size, dtype=np.int64).reshape(array.shape)
            for start, array in zip(ends, moving, strict=False)
        ]
        if positions:
            numbers += [self.whole_numbers(node, array) for array in args[whole:]]
        found = np.asarray(node.op.numpy(*numbers, **node.attrs), np.int64)
        zero = self.sympy.false if node.dtype.kind == "b" else self.sympy.Integer(0)
        elements = np.empty(int(ends[-1]), object)
        elements[:] = [zero, *(each for array in moving for each in array.flat)]
        return elements[found.reshape(-1)].reshape(found.shape)

    def whole_numbers(self, node: Any, array: Any) -> Any:
        """Positions, which have to be known."""
        if not all(getattr(each, "is_Integer", False) for each in array.flat):
            raise _refusal(node, "Its positions depend on symbols.")
        return array.astype(np.int64)

    def array(self, values: Any) -> Any:
        """An array of numbers as one of expressions."""
        made = np.empty(values.shape, object)
        made.reshape(-1)[:] = [self.number(each) for each in values.reshape(-1).tolist()]
        return made

    def number(self, value: bool | int | float) -> Any:
        sympy = self.sympy
        if isinstance(value, bool):
            return sympy.true if value else sympy.false
        if isinstance(value, int):
            return sympy.Integer(value)
        if not math.isfinite(value):
            return sympy.nan if math.isnan(value) else sympy.oo if value > 0 else -sympy.oo
        for number, name in ((math.pi, "pi"), (math.e, "E")):
            if abs(value) == number:
                return getattr(sympy, name) * (1 if value > 0 else -1)
        fraction = Fraction(value).limit_denominator(_LARGEST_DENOMINATOR)
        if float(fraction) == value:
            return sympy.Rational(fraction.numerator, fraction.denominator)
        return sympy.Float(value)

    def symbol(self, node: Any) -> Any:
        """The elements of a symbol."""
        sympy, name = self.sympy, node.attrs["name"]
        shape = _static(node)
        if name in self.symbols:
            return self.given(self.symbols[name], node, shape)
        assumed = {fact: True for fact in node.attrs["facts"] if fact not in ("sorted", "unique")}
        if not shape:
            whole = node.dtype.kind in "iu"
            known = {**assumed, **({"integer": True} if whole else {})}
            return _filled((), lambda index: sympy.Symbol(name, **known))
        if len(shape) == 2:
            base = sympy.MatrixSymbol(name, *shape)
        else:
            base = sympy.IndexedBase(name, shape=shape)
        return _filled(shape, lambda index: base[index])

    def given(self, value: Any, node: Any, shape: tuple[int, ...]) -> Any:
        """The elements of what the user says that a symbol is."""
        sympy = self.sympy
        if not shape:
            return _filled((), lambda index: sympy.sympify(value))
        found = np.asarray(value, object) if isinstance(value, (list, tuple)) else value
        if tuple(getattr(found, "shape", ())) != shape:
            raise GraphError(
                f"to_sympy: {node!r} has shape {shape}, and what is given for it has shape "
                f"{getattr(found, 'shape', ())}"
            )
        return _filled(shape, lambda index: sympy.sympify(found[index]))


def _filled(shape: tuple[int, ...], element: Callable[[tuple[int, ...]], Any]) -> Any:
    made = np.empty(shape, object)
    for index in np.ndindex(*shape):
        made[index] = element(index)
    return made


def _static(node: Any) -> tuple[int, ...]:
    if not all(isinstance(extent, int) for extent in node.shape):
        raise GraphError(
            f"to_sympy needs extents that are numbers, got {node.type}; elements are written out\n"
            "Make the symbol with numbers for its extents."
        )
    return tuple(node.shape)


def _refusal(node: Any, why: str = "") -> GraphError:
    where = location(node.origin)
    return GraphError(
        f"to_sympy: {node.op.name} has no formula in SymPy\n"
        f"node: {node.type!r}" + (f", built at {where}" if where else "") + "\n"
        + (why or "Convert what it is computed from, or give it: symbols={node: expression}.")
    )


# -- formulas --------------------------------------------------------------------------------------


def _truncated(sympy: Any, x: Any) -> Any:
    return sympy.sign(x) * sympy.floor(sympy.Abs(x))


def _elementwise(sympy: Any) -> dict[str, Callable[..., Any]]:
    """The formulas of element-wise ops."""
    half = sympy.Rational(1, 2)

    def choice(condition: Any, x: Any, y: Any) -> Any:
        return sympy.Piecewise((x, condition), (y, True))

    def cube_root(x: Any) -> Any:
        return sympy.sign(x) * sympy.Abs(x) ** sympy.Rational(1, 3)

    return {
        "absolute": sympy.Abs,
        "add": lambda x, y: x + y,
        "arctan2": sympy.atan2,
        "cbrt": cube_root,
        "ceil": sympy.ceiling,
        "copysign": lambda x, y: choice(y >= 0, sympy.Abs(x), -sympy.Abs(x)),
        "divide": lambda x, y: x / y,
        "equal": sympy.Eq,
        "exp2": lambda x: sympy.Integer(2) ** x,
        "expm1": lambda x: sympy.exp(x) - 1,
        "floor_divide": lambda x, y: sympy.floor(x / y),
        "fmod": lambda x, y: x - y * _truncated(sympy, x / y),
        "gammaln": sympy.loggamma,
        "gelu": lambda x: x * sympy.erfc(-x / sympy.sqrt(2)) * half,
        "ndtr": lambda x: sympy.erfc(-x / sympy.sqrt(2)) * half,
        "normal_density": lambda x: sympy.exp(-x**2 * half) / sympy.sqrt(2 * sympy.pi),
        "greater": sympy.Gt,
        "greater_equal": sympy.Ge,
        "hypot": lambda x, y: sympy.sqrt(x**2 + y**2),
        "i0": lambda x: sympy.besseli(0, x),
        "i0e": lambda x: sympy.exp(-sympy.Abs(x)) * sympy.besseli(0, x),
        "i1": lambda x: sympy.besseli(1, x),
        "i1e": lambda x: sympy.exp(-sympy.Abs(x)) * sympy.besseli(1, x),
        "integer_power": lambda x, y: x**y,
        "isnan": lambda x: sympy.true if x is sympy.nan else sympy.false,
        "ldexp": lambda x, n: x * sympy.Integer(2) ** n,
        "less": sympy.Lt,
        "less_equal": sympy.Le,
        "log10": lambda x: sympy.log(x) / sympy.log(10),
        "log1p": lambda x: sympy.log(1 + x),
        "log2": lambda x: sympy.log(x) / sympy.log(2),
        "logaddexp2": lambda x, y: sympy.log(2**x + 2**y) / sympy.log(2),
        "logical_and": sympy.And,
        "logical_not": sympy.Not,
        "logical_or": sympy.Or,
        "logit": lambda x: sympy.log(x / (1 - x)),
        "maximum": sympy.Max,
        "minimum": sympy.Min,
        "mish": lambda x: x * sympy.tanh(sympy.log(1 + sympy.exp(x))),
        "multiply": lambda x, y: x * y,
        "negative": lambda x: -x,
        "not_equal": sympy.Ne,
        "polygamma": lambda x, n: sympy.polygamma(n, x),
        "power": lambda x, y: x**y,
        "relu": lambda x: sympy.Max(x, 0),
        "remainder": sympy.Mod,
        "sigmoid": lambda x: 1 / (1 + sympy.exp(-x)),
        "silu": lambda x: x / (1 + sympy.exp(-x)),
        "sinc": lambda x: sympy.sinc(sympy.pi * x),
        "softplus": lambda x: sympy.log(1 + sympy.exp(x)),
        "square": lambda x: x**2,
        "strong_multiply": lambda x, y: x * y,
        "subtract": lambda x, y: x - y,
        "trunc": lambda x: _truncated(sympy, x),
        "where": choice,
        "xlog1py": lambda x, y: x * sympy.log(1 + y),
        "xlogy": lambda x, y: x * sympy.log(y),
        **{
            name: getattr(sympy, name)
            for name in (
                *("cos", "cosh", "digamma", "erf", "erfc", "erfcinv", "erfinv", "exp", "floor"),
                *("gamma", "log", "sign", "sin", "sinh", "sqrt", "tan", "tanh"),
            )
        },
        **{
            f"arc{name}": getattr(sympy, f"a{name}")
            for name in ("cos", "cosh", "sin", "sinh", "tan", "tanh")
        },
        "stop_gradient": lambda x: x,
    }


def _reductions(sympy: Any) -> dict[str, Callable[..., Any]]:
    return {
        "all": sympy.And,
        "any": sympy.Or,
        "max": sympy.Max,
        "min": sympy.Min,
        "prod": sympy.Mul,
        "sum": sympy.Add,
    }


def _reduced(function: Callable[..., Any], array: Any, axes: tuple[int, ...]) -> Any:
    """The elements along some axes, all at once."""
    kept = tuple(axis for axis in range(array.ndim) if axis not in axes)
    shape = tuple(array.shape[axis] for axis in kept)
    length = math.prod(array.shape[axis] for axis in axes)
    rows = array.transpose(*kept, *axes).reshape(math.prod(shape), length)
    made = np.empty(len(rows), object)
    made[:] = [function(*row) for row in rows]
    return made.reshape(shape)


# -- structure -------------------------------------------------------------------------------------

_MOVEMENT = frozenset(
    (
        *("broadcast", "concatenate", "diagonal", "embed_diagonal", "flip", "gather", "overlay"),
        *("pad", "reshape", "restate", "slice", "slide", "transpose"),
    )
)
_POSITIONED = frozenset(("gather", "scatter_set"))


def _contracted(writer: Writer, node: Any, args: list[Any]) -> Any:
    """Sums of products, one for each element of the result."""
    (x, y), batch, summed = args, node.attrs["batch"], node.attrs["contracted"]

    def as_rows(array: Any, which: int) -> tuple[Any, tuple[int, ...], tuple[int, ...]]:
        own = [*batch[which], *summed[which]]
        free = [axis for axis in range(array.ndim) if axis not in own]
        shapes = [tuple(array.shape[a] for a in axes) for axes in (batch[which], free)]
        length = math.prod(array.shape[a] for a in summed[which])
        order = (*batch[which], *free, *summed[which])
        sizes = (math.prod(shapes[0]), math.prod(shapes[1]), length)
        return array.transpose(order).reshape(sizes), shapes[0], shapes[1]

    (first, common, rows), (second, _, columns) = as_rows(x, 0), as_rows(y, 1)
    add = writer.sympy.Add
    made = np.empty((first.shape[0], first.shape[1], second.shape[1]), object)
    for at in np.ndindex(*made.shape):
        pairs = zip(first[at[0], at[1]], second[at[0], at[2]], strict=True)
        made[at] = add(*(a * b for a, b in pairs))
    return made.reshape(*common, *rows, *columns)


def _scatter_added(writer: Writer, node: Any, args: list[Any]) -> Any:
    """Each update goes to the element that a gather from there would find."""
    x, updates, *positions = args
    numbers = np.arange(x.size).reshape(x.shape)
    known = [writer.whole_numbers(node, array) for array in positions]
    gather = _op_of_gather()
    found = gather.numpy(numbers, *known, **node.attrs)
    terms: list[list[Any]] = [[each] for each in x.flat]
    for at, update in zip(found.flat, updates.flat, strict=True):
        terms[at].append(update)
    made = np.empty(x.size, object)
    made[:] = [writer.sympy.Add(*each) for each in terms]
    return made.reshape(x.shape)


@functools.cache
def _op_of_gather() -> Any:
    return gx.take(gx.vector("x", 2), gx.vector("i", 1, "int64")).op


def _inlined(writer: Writer, node: Any, args: list[Any]) -> Any:
    return tuple(_run(writer, node.attrs["graph"], args))


def _run(writer: Writer, graph: Any, args: Sequence[Any]) -> list[Any]:
    """The outputs of a Graph on arrays of expressions."""
    given = {
        node: args[node.attrs["index"]] for node in graph.nodes() if node.op.name == "parameter"
    }
    return writer.values(graph.outputs, given)


def _scanned(writer: Writer, node: Any, args: list[Any]) -> Any:
    """A loop, step after step."""
    attrs, graph = node.attrs, node.attrs["graph"]
    carry, steps, length = attrs["carry"], attrs["steps"], attrs["length"]
    if not isinstance(length, int):
        raise _refusal(node, "Its number of steps is not known.")
    states, slices, rest = args[:carry], args[carry : carry + steps], args[carry + steps :]
    results: list[list[Any]] = [[] for _ in graph.outputs[carry:]]
    order = range(length - 1, -1, -1) if attrs["reverse"] else range(length)
    for i in order:
        found = _run(writer, graph, [*states, *(each[i] for each in _rows(slices)), *rest])
        states = found[:carry]
        for row, value in zip(results, found[carry:], strict=True):
            row.append(value)
    stacked = [_stacked(row[::-1] if attrs["reverse"] else row, type_)
               for row, type_ in zip(results, node.type.items[carry:], strict=True)]
    return (*states, *stacked)


def _rows(slices: list[Any]) -> list[Any]:
    """Arrays whose items are arrays, of rank 0 too."""
    return [[np.asarray(row, object).reshape(each.shape[1:]) for row in each] for each in slices]


def _stacked(rows: list[Any], type_: Any) -> Any:
    made = np.empty(type_.shape, object)
    for i, row in enumerate(rows):
        made[i] = row if row.ndim else row.item()
    return made


def _switched(writer: Writer, node: Any, args: list[Any]) -> Any:
    """The branch of an index, clipped to those that there are."""
    index, *given = args
    at, sympy = index.item(), writer.sympy
    *early, last = (_run(writer, graph, given) for graph in node.attrs["branches"])
    results = []
    for number, otherwise in enumerate(last):
        made = np.empty(otherwise.shape, object)
        for place in np.ndindex(*otherwise.shape):
            pieces = [(found[number][place], at <= i) for i, found in enumerate(early)]
            made[place] = sympy.Piecewise(*pieces, (otherwise[place], True))
        results.append(made)
    return tuple(results)


def _truncated_parts(writer: Writer, node: Any, args: list[Any]) -> Any:
    """What `modf` gives: the rest, and the whole part."""
    def whole(x: Any) -> Any:
        return _truncated(writer.sympy, x)

    return (writer.each(lambda x: x - whole(x), node, args), writer.each(whole, node, args))


_STRUCTURAL: dict[str, Callable[[Writer, Any, list[Any]], Any]] = {
    "call": _inlined,
    "check": lambda writer, node, args: args[0],
    "constant": lambda writer, node, args: writer.array(node.attrs["value"].array),
    "contract": _contracted,
    "custom_derivative": _inlined,
    "iota": lambda writer, node, args: writer.array(node.op.numpy(**node.attrs)),
    "modf": _truncated_parts,
    "project": lambda writer, node, args: args[0][node.attrs["index"]],
    "scan": _scanned,
    "scatter_add": _scatter_added,
    "scatter_set": lambda writer, node, args: writer.moved(node, args, whole=2),
    "switch": _switched,
    "symbol": lambda writer, node, args: writer.symbol(node),
}
