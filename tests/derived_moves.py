"""Which moves of random programs use all that graphc offers on top of ops?

`spoken_row` draws from the table of public functions that `test_surface` demands a row of each, so
that a new function gets into random programs by itself. `differentiated` takes the derivative of
what has been made so far: derivatives are graphs, and need not exist at every point to be compared.
`drawn_number` draws random numbers, with keys and parameters that depend on the program's inputs.
`mapped` runs a random body over slices, `examples` over all of them at once.

What refuses its arguments, as a function of types alone, gives way to another move.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

import graphc as gx
from graphc import random as draws
from graphc.node import Node, topological
from tests.registry_moves import fitted

if TYPE_CHECKING:
    from programs import Builder

REFUSED = (gx.GraphError, TypeError, OverflowError, ValueError)
MOST_NODES = 400  # of which a derivative is taken


@functools.cache
def rows() -> dict[str, list[Any]]:
    """The calls of every public function, by its name."""
    from tests.test_surface import TABLE

    return {name: TABLE[name] for name in sorted(TABLE)}


def spoken_row(b: Builder) -> Any:
    """A call from the table of public functions, with nodes of the pool where it has floats or
    truth values. Integers stay as they are: they may be positions.
    """
    table = rows()
    name = b.pick(tuple(table))
    call, given = b.pick(table[name])
    args = [_argument(b, value) for value in given]
    try:
        return call(gx, *args)
    except REFUSED:
        return None


def _argument(b: Builder, value: Any) -> Any:
    if not isinstance(value, (np.ndarray, np.generic)):
        return value
    if value.dtype.kind in "iu":
        return gx.constant(value)
    node = fitted(b, value.shape, value.dtype.name)
    if value.dtype == bool and value.all():  # what holds everywhere may be demanded
        return node | ~node
    if value.ndim == 0 or value.shape[-1] < 2:
        return node
    steps = np.sign(np.diff(value.astype("float64")))
    if np.all(steps >= 0):  # a function may demand the order
        return gx.sort(node, axis=-1)
    return gx.flip(gx.sort(node, axis=-1), -1) if np.all(steps <= 0) else node


def differentiated(b: Builder) -> Any:
    """The derivative of a node with respect to another one that it is made from."""
    y = b.find("f")
    if y is None:
        return None
    below = topological([y])
    if len(below) > MOST_NODES:
        return None
    inside = set(below)
    x = b.find("f", fits=lambda node: node in inside)
    assert x is not None
    forward, twice = b.source.integer(0, 2) == 0, b.source.integer(0, 7) == 7
    direction = b.pick((1.0, 0.5))
    try:
        if forward:
            return gx.jvp(y, x, gx.full(x.shape, direction, x.dtype))
        first = gx.vjp(y, x, gx.full(y.shape, direction, y.dtype))
        return gx.vjp(first, x, gx.ones(x.shape, x.dtype)) if twice else first
    except REFUSED:  # something on the way has no derivative
        return None


DRAWS: dict[str, Callable[[Any, Node], Any]] = {
    "bits": lambda key, x: draws.bits(key, x.shape, "uint16"),
    "uniform": lambda key, x: draws.uniform(key, x.shape, "float32"),
    "spread": lambda key, x: draws.uniform(key, minval=-1, maxval=x),
    "normal": lambda key, x: draws.normal(key, loc=x),
    "lognormal": lambda key, x: draws.lognormal(key, x.shape, sigma=0.5),
    "truncated": lambda key, x: draws.truncated_normal(key, -1.0, 2.0, x.shape),
    "exponential": lambda key, x: draws.exponential(key, scale=x),
    "gumbel": lambda key, x: draws.gumbel(key, x.shape, x.dtype),
    "laplace": lambda key, x: draws.laplace(key, x.shape),
    "logistic": lambda key, x: draws.logistic(key, x.shape),
    "cauchy": lambda key, x: draws.cauchy(key, x.shape),
    "randint": lambda key, x: draws.randint(key, x.shape, -3, 11),
    "bernoulli": lambda key, x: draws.bernoulli(key, 0.3, x.shape),
    "rademacher": lambda key, x: draws.rademacher(key, x.shape, "int8"),
    "geometric": lambda key, x: draws.geometric(key, 0.25, x.shape),
    "poisson": lambda key, x: draws.poisson(key, 2.5, x.shape),
    "binomial": lambda key, x: draws.binomial(key, 7, 0.3, x.shape),
    "gamma": lambda key, x: draws.gamma(key, 0.7, x.shape),
    "beta": lambda key, x: draws.beta(key, 0.7, 2.0, x.shape),
    "categorical": lambda key, x: draws.categorical(key, x),
    "permutation": lambda key, x: draws.permutation(key, x),
    "choice": lambda key, x: draws.choice(key, 5, x.shape),
    "split": lambda key, x: draws.split(key, 3),
}


def drawn_number(b: Builder) -> Any:
    """Random numbers: their keys are known, or made of what the program computes."""
    x = b.find("f")
    if x is None:
        return None
    key = draws.key(b.source.integer(0, 3))
    if b.source.integer(0, 1):
        key = draws.fold_in(key, gx.cast(gx.sum(gx.isfinite(x)), "int64"))
    try:
        return DRAWS[b.pick(tuple(DRAWS))](key, x)
    except REFUSED:
        return None


def mapped(b: Builder) -> Any:
    """A random body on every slice along the first axis, or a combination of slices in any order.
    """
    x = b.find("if", 1)
    if x is None:
        return None
    count = b.source.integer(1, 2)

    def body(row: Node) -> Node:
        inner = b.inside([row])
        inner.grow(count)
        return inner.pool[-1]

    if b.source.integer(0, 2):
        return gx.map(body, x)
    combine = b.pick((gx.maximum, gx.add, gx.multiply))
    try:
        return gx.associative_scan(combine, x, axis=b.axis(x))
    except REFUSED:
        return None


def examples(b: Builder) -> Any:
    """A random body for every example along some axis at once: `vmap` of each op that it draws, on
    what differs from example to example and what all share.
    """
    x = b.find("if", 1)
    if x is None:
        return None
    axis, count = b.axis(x), b.source.integer(1, 2)
    shared = b.find("f") if b.source.integer(0, 1) else None

    def body(row: Node, other: Node | None) -> Node:
        inner = b.inside([row] if other is None else [other, row])
        inner.grow(count)
        return inner.pool[-1]

    try:
        if shared is None:
            return gx.vmap(lambda row: body(row, None), in_axes=axis)(x)
        return gx.vmap(body, in_axes=(axis, None))(x, shared)
    except REFUSED:  # an op that cannot be mapped, or an extent that it has to know
        return None


DERIVED_MOVES = (spoken_row, spoken_row, spoken_row, spoken_row, differentiated, drawn_number)

__all__ = [
    "DERIVED_MOVES",
    "differentiated",
    "drawn_number",
    "examples",
    "mapped",
    "rows",
    "spoken_row",
]
