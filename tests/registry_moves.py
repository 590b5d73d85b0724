"""How does every op of the registry get into random programs, and new ones by themselves?

The moves here read the table of samples that the contract test demands of every op: `elementwise`
applies any element-wise op to nodes of any shape, named dimensions included; `sampled` brings nodes
into the shapes and dtypes of a sample, where it can with a named dimension in the place of one of
its extents; `spoken` draws from what the public functions compose of ops; `branch` and `loop` have
bodies that are random programs themselves. Where an op demands something of its arguments
(positions in range, a divisor that is not 0), they are brought into that range by other ops first.

Results that backends may round differently go on into ops that are not continuous: floors, orders,
comparisons, casts to integers. `settle` rounds them to a coarse grid, so that what comes after is
exact as a rule and is compared exactly. Where a value lies next to a step all the same, the judge
finds out by moving it, see `backends.Judge`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import graphc as gx
from graphc import dtypes
from graphc.dims import symbols_of
from graphc.lowering import View
from graphc.node import Node
from graphc.op import REGISTRY
from tests.ops.samples import ALL, ARITY, FLOATS, INTEGERS, Input, Sample, accepts, results, table

if TYPE_CHECKING:
    from programs import Builder

MOST_ELEMENTS = 4000  # of a static shape; with named dimensions, of its static part
GRID = 4.0


def elementwise(b: Builder) -> Any:
    """Any element-wise op, in any dtype that it takes."""
    name = b.pick(tuple(ARITY))
    op, arity = REGISTRY[name], ARITY[name]
    x = b.find()
    if x is None:
        return None
    taken = _taken(name)
    if x.dtype.name not in taken:
        x = gx.cast(x, b.pick(taken))
    args = [x]
    if arity == 2:
        y = b.find(fits=lambda y: _broadcasts(x.shape, y.shape))
        y = legal(table()[name][0].inputs[-1], gx.cast(x if y is None else y, x.dtype))
        args = list(gx.broadcast_arrays(x, y))
    return results(op(*args))


@functools.cache
def _taken(name: str) -> tuple[str, ...]:
    return tuple(d for d in ALL if accepts(REGISTRY[name], ARITY[name], d))


def _broadcasts(first: Sequence[Any], second: Sequence[Any]) -> bool:
    pairs = zip(reversed(first), reversed(second), strict=False)
    return all(p == q or p == 1 or q == 1 for p, q in pairs)


def legal(given: Input, x: Node) -> Node:
    """`x`, with other values where they are not what a sample's input holds."""
    whole = dtypes.is_integer(x.dtype)
    if given.values == "positions":
        low, high = (int(end) for end in given.interval)
        return gx.remainder(x, high - low) + low if high > low else x * 0
    if given.values == "nonzero" and whole:
        return gx.where(gx.equal(x, 0), 3, x)
    if given.values == "positive" and whole:
        return x & 3
    if given.values == "true":
        return x | ~x
    if given.values == "rising":
        return gx.sort(x, axis=-1)
    if given.values in ("regular", "definite"):
        tame = gx.where(gx.absolute(x) < 4, x, gx.cast(0.5, x.dtype))
        if given.values == "definite":
            tame = gx.matmul(tame, gx.matrix_transpose(tame))
        rows, columns = x.shape[-2:]
        spread = 20 * (gx.arange(columns, dtype=x.dtype) + 1)
        return tame + gx.eye(rows, columns, dtype=x.dtype) * spread
    return x


@functools.cache
def other_ops() -> tuple[str, ...]:
    """The ops that are not element-wise, by name; those that tests register have no samples."""
    return tuple(name for name, samples in table().items() if name not in ARITY and samples)


# Ops that planning makes, with indices that it has made fit the extents.
_PLANNED = ("first_fit", "star_fit")


def sampled(b: Builder) -> Any:
    """A sample of any op, on nodes of the pool; perhaps a named dimension replaces an extent."""
    name = b.pick(other_ops())
    sample = b.pick(table()[name])
    named = [e for node in b.pool for e in node.shape if symbols_of(e)]
    extents = sorted({e for given in sample.inputs for e in given.shape if e > 1})
    free = not isinstance(sample.op.lowering, View)  # whose attributes have to fit the extents
    # Nor those of decompositions: a matrix of dozens of columns keeps the interpreter for minutes.
    fixed = ("positions", "regular", "definite")
    free = free and all(given.values not in fixed for given in sample.inputs)
    free = free and name not in _PLANNED
    if free and named and extents:
        try:
            return _apply(b, sample, {b.pick(extents): b.pick(named)})
        except (gx.GraphError, TypeError):
            pass  # the extent is part of what the sample states elsewhere
    return _apply(b, sample, {})


def _apply(b: Builder, sample: Sample, renamed: dict[int, Any]) -> Any:
    dtype = b.pick(sample.dtypes)
    args = []
    for given in sample.inputs:
        shape = tuple(renamed.get(e, e) for e in given.shape)
        args.append(legal(given, fitted(b, shape, given.dtype or dtype)))
    return results(sample.node(args))


def fitted(b: Builder, shape: tuple[Any, ...], dtype: str) -> Node:
    """A node of that shape and dtype: one of the pool, cast, or its elements followed by zeros."""
    same = b.find(fits=lambda node: node.shape == shape)
    if same is not None and b.source.integer(0, 3):
        return gx.cast(same, dtype)
    x = b.find()
    if x is None:
        return gx.zeros(shape, dtype)
    size: Any = 1
    for extent in shape:
        size = size * extent
    line = gx.pad(gx.ravel(x), (0, size))[:size]
    return gx.cast(gx.reshape(line, shape), dtype)


def settle(b: Builder) -> Any:
    """Floats on a coarse grid: what is made from them is exact again."""
    x = b.find("f")
    return None if x is None else gx.rint(x * GRID) / GRID


# -- what the public functions compose -------------------------------------------------------------

ANY: dict[str, Callable[[Builder, Node, int], Any]] = {
    "sort": lambda b, x, a: gx.sort(x, axis=a),
    "argsort": lambda b, x, a: gx.argsort(x, axis=a),
    "sorted along": lambda b, x, a: gx.take_along_axis(x, gx.argsort(x, axis=a), a),
    "searchsorted": lambda b, x, a: gx.searchsorted(gx.sort(gx.ravel(x)), x),
    "cumulative": lambda b, x, a: b.pick((gx.cumsum, gx.cumprod, gx.cummax, gx.cummin))(x, axis=a),
    "roll": lambda b, x, a: gx.roll(x, b.pick((1, -1, 2)), axis=a),
    "tile": lambda b, x, a: gx.tile(x, 2),
    "repeat": lambda b, x, a: gx.repeat(x, 2, axis=a),
    "pad": lambda b, x, a: gx.pad(x, 1, mode=b.pick(("constant", "edge", "wrap", "reflect"))),
    "diff": lambda b, x, a: gx.diff(x, axis=a),
    "triangle": lambda b, x, a: b.pick((gx.tril, gx.triu))(x) if x.ndim > 1 else gx.diag(x),
    "diagonal": lambda b, x, a: gx.diagonal(x) if x.ndim > 1 else gx.diagflat(x),
    "trace": lambda b, x, a: gx.trace(x) if x.ndim > 1 else gx.sum(x),
    "set slice": lambda b, x, a: x.at[b.pick((slice(1, None), slice(None, None, -2)))].set(1),
    "add slice": lambda b, x, a: x.at[:2].add(1),
    "multiply slice": lambda b, x, a: x.at[..., 1:].multiply(2),
    "greatest at": lambda b, x, a: x.at[gx.arange(x.shape[0]) * 0].max(x),
    "add at": lambda b, x, a: x.at[b.pick((0, -1, slice(None)))].add(x[0]),
    "rows": lambda b, x, a: x[gx.arange(x.shape[0])[::-1]],
    "clip": lambda b, x, a: gx.clip(x, 0, 1),
    "where": lambda b, x, a: gx.where(x > 0, x, 0),
    "count": lambda b, x, a: gx.count_nonzero(x, axis=a),
    "isclose": lambda b, x, a: gx.isclose(x, x[..., ::-1]),
    "one hot": lambda b, x, a: gx.one_hot(gx.cast(x, "int64"), 3),
    "divmod": lambda b, x, a: gx.divmod(x, 3),
    "gcd": lambda b, x, a: b.pick((gx.gcd, gx.lcm))(gx.cast(x, "int16"), 12),
    "unstack": lambda b, x, a: gx.concatenate([x, gx.flip(x, a)], a)[..., 1:],
    "partition": lambda b, x, a: gx.partition(x, 0, axis=a),
    "histogram": lambda b, x, a: gx.bincount(gx.cast(gx.ravel(x), "int64") & 3, length=4),
}
FLOAT: dict[str, Callable[[Builder, Node, int], Any]] = {
    "spread": lambda b, x, a: b.pick((gx.var, gx.std))(x, axis=a),
    "without nan": lambda b, x, a: b.pick((gx.nansum, gx.nanmean, gx.nanmax, gx.nanmin))(x, axis=a),
    "median": lambda b, x, a: b.pick((gx.median, gx.nanmedian))(x, axis=a),
    "quantile": lambda b, x, a: gx.quantile(x, 0.3, axis=a),
    "activation": lambda b, x, a: b.pick(
        (gx.gelu, gx.silu, gx.mish, gx.elu, gx.selu, gx.log_sigmoid, gx.hard_swish, gx.softsign)
    )(x),
    "replaced": lambda b, x, a: gx.nan_to_num(x),
    "round": lambda b, x, a: gx.round(x, b.pick((0, 1, 2, -1))),
    "gradient": lambda b, x, a: gx.gradient(x, axis=a),
    "trapezoid": lambda b, x, a: gx.trapezoid(x, axis=a),
    "norm": lambda b, x, a: gx.linalg.norm(x, axis=a),
    "running": lambda b, x, a: gx.logcumsumexp(x, axis=a),
    "softmax": lambda b, x, a: b.pick((gx.softmax, gx.log_softmax, gx.logsumexp))(x, axis=a),
    "finite": lambda b, x, a: b.pick((gx.isfinite, gx.isinf, gx.isneginf, gx.signbit))(x),
    "step": lambda b, x, a: gx.heaviside(x, 0.5),
    "logaddexp": lambda b, x, a: gx.logaddexp(x, gx.flip(x, a)),
    "recurrence": lambda b, x, a: gx.recurrence(x * 0.25, x, axis=a),
    "average": lambda b, x, a: gx.average(x, axis=a),
    "interval": lambda b, x, a: gx.ptp(x, axis=a),
}


def spoken(b: Builder) -> Any:
    """A public function that composes ops, along some axis; None where it refuses the node."""
    floats = bool(b.source.integer(0, 1))
    x = b.find("f" if floats else "biuf", 1)
    if x is None:
        return None
    chosen = FLOAT if floats else ANY
    try:
        return chosen[b.pick(tuple(chosen))](b, x, b.axis(x))
    except (gx.GraphError, TypeError, OverflowError):
        return None  # another dtype, a named dimension that must be known, an extent of one


# -- regions ---------------------------------------------------------------------------------------


def branch(b: Builder) -> Any:
    """cond or switch, with random branches that give the same types."""
    x = b.find(fits=lambda node: node.dtype != np.dtype(bool))
    if x is None:
        return None
    y = b.find(fits=lambda y: _broadcasts(x.shape, y.shape))
    scalar = gx.sum(gx.cast(x, "int64"))
    if b.source.integer(0, 1):
        return gx.cond(scalar > 0, _body(b, x), _body(b, x), x, x if y is None else y)
    ways = [_body(b, x) for _ in range(3)]
    return gx.switch(gx.remainder(scalar, 3), ways, x, x if y is None else y)


def loop(b: Builder) -> Any:
    """A loop of a few rounds, counted or until a condition fails."""
    x = b.find(fits=lambda node: node.dtype != np.dtype(bool))
    if x is None:
        return None
    body = _body(b, x)
    rounds = b.source.integer(0, 3)
    if b.source.integer(0, 1):
        return gx.fori_loop(0, rounds, lambda i, held: body(held, held + gx.cast(i, x.dtype)), x)

    def step(held: Any) -> Any:
        value, count = held
        return body(value, value), count + 1

    limit = gx.remainder(gx.sum(gx.cast(x, "int64")), rounds + 1)
    return gx.while_loop(lambda held: held[1] < limit, step, (x, gx.constant(0)))


def _body(b: Builder, x: Node) -> Callable[..., Node]:
    """A function of two nodes to one of the type of `x`, with random work inside."""
    count = b.source.integer(0, 2)

    def body(first: Node, second: Node) -> Node:
        inner = b.inside([second, first])
        inner.grow(count)
        found = inner.pool[-1]
        if found.shape != x.shape:
            found = first
        return gx.cast(found, x.dtype)

    return body


REGISTRY_MOVES = (
    *(elementwise, sampled, spoken, settle, elementwise, sampled, spoken),
    *(elementwise, sampled, spoken, elementwise, sampled, spoken),
)
REGION_MOVES = (branch, loop)


def small(node: Node) -> bool:
    """Whether a node is not too large for tests."""
    size = 1
    for extent in node.shape:
        size *= extent if isinstance(extent, int) else 8
    return size <= MOST_ELEMENTS


__all__ = ["FLOATS", "INTEGERS", "REGION_MOVES", "REGISTRY_MOVES", "small"]
