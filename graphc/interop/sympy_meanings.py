"""What does each class of SymPy mean in a graph?  A table by the names of the classes.

A `Meaning` says which parts of an expression are converted first (`parts`), and what is built of
what they became (`build`); expressions without symbols whose meaning is `foldable` are numbers that
SymPy computes. Names, not classes, so that parts of SymPy which an expression does not use are not
loaded; they count for SymPy's own classes only.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import graphc
from graphc.errors import GraphError

# Names are looked up when they are used: the package is being imported while this file is.
gx: Any = graphc
Build = Callable[[Any, Any, list[Any]], Any]
# Integers up to here are exact in float64.
_EXACT = 1 << 53
_EULER = 0.5772156649015329


def _arguments(item: Any) -> Sequence[Any]:
    return item.args


@dataclass(frozen=True)
class Meaning:
    """`build(reader, item, values)` makes what `item` becomes of what its `parts(item)` became."""

    build: Build
    parts: Callable[[Any], Sequence[Any]] = _arguments
    foldable: bool = False


def _nothing(item: Any) -> Sequence[Any]:
    return ()


def meaning_of(item: Any) -> Meaning | None:
    """The meaning of an object by its class, or by the nearest that it is derived from."""
    for kind in type(item).__mro__:
        if (kind.__module__ or "").startswith("sympy."):
            found = MEANINGS.get(kind.__name__)
            if found is not None:
                return found
    return None


# -- numbers ---------------------------------------------------------------------------------------


def _number(reader: Any, item: Any, _: list[Any]) -> Any:
    return reader.leaf_number(item)


# -- sums, products, powers ------------------------------------------------------------------------


def _sum(reader: Any, item: Any, values: list[Any]) -> Any:
    """Terms in their order, numbers as one; what is subtracted is not negated first."""
    numbers, added, taken = [], [], []
    for term, value in zip(item.args, values, strict=True):
        if reader.is_number(term):
            numbers.append(term)
        elif isinstance(value, gx.Node) and value.op.name == "negative":
            taken.append(value.args[0])
        else:
            added.append(value)
    constant = reader.combined(item.func, numbers) if numbers else 0
    if constant and (constant > 0 or not added):
        added.append(constant)
    elif constant:
        taken.append(-constant)
    if not added:
        return reader.apply(gx.negative, functools.reduce(gx.add, taken))
    total = functools.reduce(functools.partial(reader.apply, gx.add), added)
    return functools.reduce(functools.partial(reader.apply, gx.subtract), taken, total)


def _base(factor: Any) -> Any:
    """What of a factor is converted: of one that divides, what it is a power of."""
    return factor.base if _divides(factor) else factor


def _divides(factor: Any) -> bool:
    return bool(factor.is_Pow and factor.exp.is_Rational and factor.exp.is_negative)


def _product(reader: Any, item: Any, values: list[Any]) -> Any:
    """A quotient of products; rational factors go above and below, others become one number."""
    above: list[Any] = []
    below: list[Any] = []
    numbers = []
    for factor, value in zip(item.args, values, strict=True):
        if reader.is_number(_base(factor)):
            numbers.append(factor)
        elif _divides(factor):
            below.append(power_of(reader, value, -factor.exp))
        else:
            above.append(value)
    top, bottom = _coefficient(reader, item, numbers)
    negative, top = top < 0, abs(top)
    signs = [i for i, value in enumerate(above) if _is_negative(value)]
    for i in signs:
        above[i] = above[i].args[0]
    if len(signs) % 2:
        negative = not negative
    if top != 1 or not above:
        above.insert(0, top)
    if bottom != 1:
        below.insert(0, bottom)
    times = functools.partial(reader.apply, gx.multiply)
    result = functools.reduce(times, above)
    if below:
        result = reader.apply(gx.divide, result, functools.reduce(times, below))
    return reader.apply(gx.negative, result) if negative else result


def _is_negative(value: Any) -> bool:
    return isinstance(value, gx.Node) and value.op.name == "negative"


def _coefficient(reader: Any, item: Any, numbers: list[Any]) -> tuple[Any, Any]:
    """The numbers of a product as a numerator and a denominator."""
    if not numbers:
        return 1, 1
    if len(numbers) == 1 and numbers[0].is_Rational:
        top, bottom = int(numbers[0].p), int(numbers[0].q)
        if max(abs(top), bottom) <= _EXACT:
            return reader.plain(top), reader.plain(bottom)
    return reader.combined(item.func, numbers), 1


def _power(reader: Any, item: Any, values: list[Any]) -> Any:
    base, exponent = item.args
    if exponent.is_Rational:
        return power_of(reader, values[0], exponent)
    if type(base).__name__ == "Exp1":
        return reader.apply(gx.exp, values[1])
    if base.is_Integer and base == 2:
        return reader.apply(gx.exp2, values[1])
    return reader.apply(gx.power, *values)


def power_of(reader: Any, value: Any, exponent: Any) -> Any:
    """A value to a rational exponent; roots of negative numbers are NaN."""
    top, bottom = int(exponent.p), int(exponent.q)
    if top < 0:
        return reader.apply(gx.divide, reader.plain(1), power_of(reader, value, -exponent))
    if bottom == 1:
        return value if top == 1 else reader.apply(lambda x: gx.power(x, top), value)
    if (top, bottom) == (1, 2):
        return reader.apply(gx.sqrt, value)
    return reader.apply(lambda x: gx.power(x, top / bottom), value)


def _power_parts(item: Any) -> Sequence[Any]:
    return item.args[:1] if item.exp.is_Rational else item.args


# -- functions -------------------------------------------------------------------------------------


def _function(name: str) -> Meaning:
    """The function of graphc of that name, on the same arguments."""
    return Meaning(
        lambda reader, item, values: reader.apply(getattr(gx, name), *values), foldable=True
    )


def _formula(function: Callable[..., Any]) -> Meaning:
    """A formula in functions of graphc."""
    return Meaning(
        lambda reader, item, values: reader.apply(function, *values), foldable=True
    )


def _folded(name: str) -> Meaning:
    """A function of two arguments, over any number of them."""

    def build(reader: Any, item: Any, values: list[Any]) -> Any:
        function = functools.partial(reader.apply, getattr(gx, name))
        return functools.reduce(function, values)

    return Meaning(build, foldable=True)


def _logic(name: str, negate: bool = False) -> Meaning:
    """A function of truth values, over any number of them."""

    def build(reader: Any, item: Any, values: list[Any]) -> Any:
        function = getattr(gx, name)
        result = functools.reduce(function, [reader.as_nodes(value) for value in values])
        return gx.logical_not(result) if negate else result

    return Meaning(build)


def _polygamma(reader: Any, item: Any, values: list[Any]) -> Any:
    order = item.args[0]
    if not order.is_Integer or order < 0:
        raise GraphError("polygamma: its order is a number, 0, 1, 2, ...")
    return reader.apply(lambda x: gx.polygamma(int(order), x), values[0])


def _bessel_i(reader: Any, item: Any, values: list[Any]) -> Any:
    names = {0: "i0", 1: "i1"}
    order = item.args[0]
    if order not in names:
        raise GraphError("besseli: there are the orders 0 and 1")
    return reader.apply(getattr(gx, names[int(order)]), values[0])


def _logarithm(reader: Any, item: Any, values: list[Any]) -> Any:
    logs = [reader.apply(gx.log, value) for value in values]
    return logs[0] if len(logs) == 1 else reader.apply(gx.divide, *logs)


def _gamma_of_next(x: Any) -> Any:
    return gx.gamma(x + 1)


_FUNCTIONS = {
    **{
        name: name
        for name in (
            *("sin", "cos", "tan", "sinh", "cosh", "tanh", "exp", "sign", "floor", "gamma"),
            *("digamma", "erf", "erfc", "erfinv", "erfcinv", "expm1", "log1p", "exp2", "log2"),
            *("log10", "hypot"),
        )
    },
    **{f"a{name}": f"arc{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "Abs": "absolute",
    "Cbrt": "cbrt",
    "Heaviside": "heaviside",
    "Mod": "remainder",
    "Sqrt": "sqrt",
    "atan2": "arctan2",
    "ceiling": "ceil",
    "conjugate": "conjugate",
    "im": "imag",
    "loggamma": "gammaln",
    "re": "real",
}
_FORMULAS: dict[str, Callable[..., Any]] = {
    "cot": lambda x: 1 / gx.tan(x),
    "sec": lambda x: 1 / gx.cos(x),
    "csc": lambda x: 1 / gx.sin(x),
    "acot": lambda x: gx.arctan(1 / x),
    "asec": lambda x: gx.arccos(1 / x),
    "acsc": lambda x: gx.arcsin(1 / x),
    "coth": lambda x: 1 / gx.tanh(x),
    "sech": lambda x: 1 / gx.cosh(x),
    "csch": lambda x: 1 / gx.sinh(x),
    "acoth": lambda x: gx.arctanh(1 / x),
    "asech": lambda x: gx.arccosh(1 / x),
    "acsch": lambda x: gx.arcsinh(1 / x),
    "sinc": lambda x: gx.sinc(x / math.pi),
    "frac": lambda x: x - gx.floor(x),
    "fma": lambda x, y, z: x * y + z,
    "trigamma": lambda x: gx.polygamma(1, x),
    "factorial": _gamma_of_next,
    "harmonic": lambda n: gx.digamma(n + 1) + _EULER,
    "beta": lambda x, y: gx.beta(x, y),
    "binomial": lambda n, k: _gamma_of_next(n) / (_gamma_of_next(k) * _gamma_of_next(n - k)),
    "RisingFactorial": lambda x, k: gx.gamma(x + k) / gx.gamma(x),
    "FallingFactorial": lambda x, k: _gamma_of_next(x) / _gamma_of_next(x - k),
    "KroneckerDelta": lambda i, j: gx.where(gx.equal(i, j), 1.0, 0.0),
    "erf2": lambda x, y: gx.erf(y) - gx.erf(x),
}
_RELATIONS = {
    "Equality": "equal",
    "Unequality": "not_equal",
    "StrictLessThan": "less",
    "LessThan": "less_equal",
    "StrictGreaterThan": "greater",
    "GreaterThan": "greater_equal",
}


# -- choices ---------------------------------------------------------------------------------------


def _piecewise(reader: Any, item: Any, values: list[Any]) -> Any:
    """The first piece whose condition holds; NaN where none does."""
    result: Any = math.nan
    for value, condition in reversed(values):
        result = _chosen(reader, condition, value, result)
    return result


def _chosen(reader: Any, condition: Any, value: Any, other: Any) -> Any:
    if isinstance(condition, bool):
        return value if condition else other
    return gx.where(condition, *(reader.as_nodes(each) for each in (value, other)))


def _if_then_else(reader: Any, item: Any, values: list[Any]) -> Any:
    return _chosen(reader, *values)


def _implies(reader: Any, item: Any, values: list[Any]) -> Any:
    given, then = (reader.as_nodes(value) for value in values)
    return gx.logical_or(gx.logical_not(given), then)


def _equivalent(reader: Any, item: Any, values: list[Any]) -> Any:
    first, *others = (reader.as_nodes(value) for value in values)
    return functools.reduce(gx.logical_and, [gx.equal(first, other) for other in others])


# -- ranges and derivatives ------------------------------------------------------------------------


def _over_ranges(reduction: str, neutral: float) -> Meaning:
    """A sum or product over ranges of numbers: the body for all of them at once, then reduced."""

    def build(reader: Any, item: Any, _: list[Any]) -> Any:
        def over(limits: Sequence[Any], inside: Any) -> Any:
            if not limits:
                return inside.node(item.function)
            index, *bounds = limits[-1].args
            if len(bounds) != 2 or not all(bound.is_Integer for bound in bounds):
                raise GraphError(
                    f"from_sympy: the range of {index} is {tuple(map(str, bounds))}; it has to be "
                    "two numbers\nGive them with expr.subs(...), or multiply what is added by 0 or "
                    "1 over a larger range."
                )
            first, last = map(int, bounds)
            if last < first:
                return gx.constant(neutral, reader.dtype)

            def one(at: Any) -> Any:
                return over(limits[:-1], inside.with_index(index, at))

            return getattr(gx, reduction)(gx.vmap(one)(gx.arange(first, last + 1)), axis=0)

        return over(item.limits, reader)

    return Meaning(build, _nothing)


def _derivative(reader: Any, item: Any, values: list[Any]) -> Any:
    result, *variables = values
    for (_, count), variable in zip(item.variable_count, variables, strict=True):
        if not isinstance(variable, gx.Node) or not count.is_Integer:
            raise GraphError(
                f"from_sympy: {item} is a derivative by what is no symbol of the graph, or a "
                "number of times that is not known"
            )
        for _ in range(int(count)):
            if not isinstance(result, gx.Node):
                return reader.plain(0)
            result = gx.grad(result, variable, unused="zero")
    return result


def _derivative_parts(item: Any) -> Sequence[Any]:
    return [item.expr, *(variable for variable, _ in item.variable_count)]


# -- matrices and arrays ---------------------------------------------------------------------------


def _array(reader: Any, item: Any, values: list[Any]) -> Any:
    """The entries of a matrix or array, which all are there."""
    import numpy as np

    shape = tuple(map(int, item.shape))
    if all(isinstance(value, (int, float)) for value in values):
        return gx.constant(np.array(values, dtype="float64").reshape(shape), reader.dtype)
    return gx.reshape(gx.stack([reader.as_nodes(value) for value in values]), shape)


def _entries(item: Any) -> Sequence[Any]:
    return item.flat()


def _array_entries(item: Any) -> Sequence[Any]:
    return list(item.reshape(len(item))) if item.shape else [item[()]]


def _extents(shape: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(int(extent) if extent.is_Integer else str(extent) for extent in shape)


def _filled(make: Callable[..., Any]) -> Meaning:
    """A matrix that its shape says all about."""
    return Meaning(
        lambda reader, item, _: make(_extents(item.shape), reader.dtype), _nothing
    )


def _matrix_symbol(reader: Any, item: Any, _: list[Any]) -> Any:
    return reader.symbol(item, _extents(item.shape))


def _indexed_base(reader: Any, item: Any, _: list[Any]) -> Any:
    if not item.shape:
        raise GraphError(
            f"from_sympy: the indexed base {item} has no shape\n"
            f"Say it, IndexedBase({str(item)!r}, shape=(...)), or give symbols={{{item}: a node}}."
        )
    return reader.symbol(item, _extents(item.shape))


def _element(reader: Any, item: Any, values: list[Any]) -> Any:
    return reader.as_nodes(values[0])[tuple(reader.index(each) for each in item.args[1:])]


def _first_argument(item: Any) -> Sequence[Any]:
    return item.args[:1]


def _matrix_product(reader: Any, item: Any, values: list[Any]) -> Any:
    """Matrices in their order, then the numbers among the factors."""
    matrices = [v for f, v in zip(item.args, values, strict=True) if f.is_Matrix]
    numbers = [v for f, v in zip(item.args, values, strict=True) if not f.is_Matrix]
    return functools.reduce(gx.multiply, numbers, functools.reduce(gx.matmul, matrices))


def _matrix_power(reader: Any, item: Any, values: list[Any]) -> Any:
    exponent = item.args[1]
    if not exponent.is_Integer:
        raise GraphError("a power of a matrix has a whole number as its exponent")
    base, times = values[0], int(exponent)
    return gx.matrix_power(gx.linalg.inv(base) if times < 0 else base, abs(times))


def _elementwise_power(reader: Any, item: Any, values: list[Any]) -> Any:
    exponent = item.args[1]
    if exponent.is_Rational:
        return power_of(reader, values[0], exponent)
    return gx.power(values[0], reader.value(exponent))


def _applied(reader: Any, item: Any, values: list[Any]) -> Any:
    """A function of one number, for every element."""
    (bound,) = item.function.variables
    return reader.inner({bound: values[0]}).node(item.function.expr)


def _blocks(reader: Any, item: Any, values: list[Any]) -> Any:
    rows, columns = item.blockshape
    return gx.block([values[i * columns : (i + 1) * columns] for i in range(rows)])


def _matrix_slice(reader: Any, item: Any, values: list[Any]) -> Any:
    return values[0][tuple(slice(*map(int, each)) for each in (item.rowslice, item.colslice))]


def _of_matrices(function: Callable[..., Any]) -> Meaning:
    return Meaning(lambda reader, item, values: functools.reduce(function, values))


def _of_matrix(function: Callable[[Any], Any]) -> Meaning:
    return Meaning(lambda reader, item, values: function(values[0]), _first_argument)


_LEAF = Meaning(_number, _nothing)
MEANINGS: dict[str, Meaning] = {
    **dict.fromkeys(("Number", "NumberSymbol", "Infinity", "NegativeInfinity", "NaN"), _LEAF),
    "BooleanTrue": Meaning(lambda reader, item, _: True, _nothing),
    "BooleanFalse": Meaning(lambda reader, item, _: False, _nothing),
    "Symbol": Meaning(lambda reader, item, _: reader.symbol(item), _nothing),
    "Idx": Meaning(lambda reader, item, _: reader.symbol(item), _nothing),
    "Tuple": Meaning(lambda reader, item, values: tuple(values)),
    "Add": Meaning(_sum, foldable=True),
    "Mul": Meaning(_product, lambda item: [_base(each) for each in item.args], foldable=True),
    "Pow": Meaning(_power, _power_parts, foldable=True),
    **{name: _function(target) for name, target in _FUNCTIONS.items()},
    **{name: _formula(function) for name, function in _FORMULAS.items()},
    **{name: _function(target) for name, target in _RELATIONS.items()},
    "log": Meaning(_logarithm, foldable=True),
    "polygamma": Meaning(_polygamma, lambda item: item.args[1:]),
    "besseli": Meaning(_bessel_i, lambda item: item.args[1:]),
    "Max": _folded("maximum"),
    "Min": _folded("minimum"),
    "Piecewise": Meaning(_piecewise),
    "ITE": Meaning(_if_then_else),
    "Implies": Meaning(_implies),
    "And": _logic("logical_and"),
    "Or": _logic("logical_or"),
    "Not": _logic("logical_not"),
    "Xor": _logic("logical_xor"),
    "Nand": _logic("logical_and", negate=True),
    "Nor": _logic("logical_or", negate=True),
    "Xnor": _logic("logical_xor", negate=True),
    "Equivalent": Meaning(_equivalent),
    "Sum": _over_ranges("sum", 0.0),
    "Product": _over_ranges("prod", 1.0),
    "Derivative": Meaning(_derivative, _derivative_parts),
    "MatrixBase": Meaning(_array, _entries),
    "NDimArray": Meaning(_array, _array_entries),
    "MatrixSymbol": Meaning(_matrix_symbol, _nothing),
    "IndexedBase": Meaning(_indexed_base, _nothing),
    "MatrixElement": Meaning(_element, _first_argument),
    "Indexed": Meaning(_element, _first_argument),
    "MatrixSlice": Meaning(_matrix_slice, _first_argument),
    "MatMul": Meaning(_matrix_product),
    "MatAdd": _of_matrices(gx.add),
    "MatPow": Meaning(_matrix_power, _first_argument),
    "Transpose": _of_matrix(lambda x: gx.matrix_transpose(x)),
    "Adjoint": _of_matrix(lambda x: gx.matrix_transpose(x)),
    "Inverse": _of_matrix(lambda x: gx.linalg.inv(x)),
    "Determinant": _of_matrix(lambda x: gx.linalg.det(x)),
    "Trace": _of_matrix(lambda x: gx.trace(x)),
    "HadamardProduct": _of_matrices(gx.multiply),
    "HadamardPower": Meaning(_elementwise_power, _first_argument),
    "KroneckerProduct": _of_matrices(gx.kron),
    "DotProduct": _of_matrices(lambda x, y: gx.sum(gx.ravel(x) * gx.ravel(y))),
    "ElementwiseApplyFunction": Meaning(_applied, lambda item: [item.expr]),
    "BlockMatrix": Meaning(_blocks, lambda item: list(item.blocks.flat())),
    "Identity": _filled(lambda shape, dtype: gx.eye(shape[0], dtype=dtype)),
    "ZeroMatrix": _filled(lambda shape, dtype: gx.zeros(shape, dtype)),
    "OneMatrix": _filled(lambda shape, dtype: gx.ones(shape, dtype)),
}
