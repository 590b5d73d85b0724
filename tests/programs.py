"""How is a random well-typed program made? By moves, each of which adds a node to those that there
are.

A `Builder` draws from a `Source`: hypothesis, which shrinks what fails, or a seeded generator,
where many programs are compiled together. Only types are looked at, so a program with named
dimensions is one program for every size, zero and one included. Every program that a builder makes
is well defined: positions are in range, checks hold, and symbolic extents meet only themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ml_dtypes  # noqa: F401, so that NumPy knows bfloat16 by its name
import numpy as np

import graphc as gx
import graphc.ops  # noqa: F401
from graphc import dtypes
from graphc.dims import Dim, Extent, evaluate, symbols_of
from graphc.node import Node, topological
from graphc.ops.gather import positions_attributes, scatter_op
from graphc.tensor import SURFACE
from tests.derived_moves import DERIVED_MOVES, examples, mapped
from tests.ops.samples import ALL, special
from tests.registry_moves import REGION_MOVES, REGISTRY_MOVES, small

NAMES = ("n", "m")
SIZES = (3, 1, 2, 0, 5, 8, 19)
EXTENTS: tuple[int | str, ...] = (3, 1, 2, 4, "n", "m")
# What most values are of.
USUAL = ("float64", "float32", "int64", "bool")
LONGEST = 4  # the largest rank
DEEPEST = 2  # regions within regions
ATTEMPTS = 4  # moves that are tried before one is given up
MOST_OUTPUTS = 4


class Source(Protocol):
    """Where the choices come from."""

    def integer(self, low: int, high: int) -> int:
        """An int from `low` to `high`, both included; small ones are the simple ones."""


class Seeded:
    """Choices of a seeded generator."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def integer(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))


@dataclass(frozen=True)
class Program:
    """`outputs` over `inputs`; `arrays(sizes)` gives values for the inputs."""

    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    seed: int
    layouts: tuple[int, ...]
    smooth: bool
    wild: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The named dimensions."""
        found = {n for s in self.inputs for e in s.shape for n in symbols_of(e)}
        return tuple(sorted(found))

    def arrays(self, sizes: Mapping[str, int]) -> list[Any]:
        random = np.random.default_rng(self.seed)
        made = []
        for symbol, layout in zip(self.inputs, self.layouts, strict=True):
            shape = tuple(evaluate(e, sizes) for e in symbol.shape)
            values = _values(symbol.dtype, shape, random, self.smooth)
            if self.wild:
                values = _with_special(values, random)
            made.append(_laid_out(values, layout))
        return made

    def __str__(self) -> str:
        return "\n".join(map(str, self.outputs))


def _values(dtype: Any, shape: tuple[int, ...], random: np.random.Generator, smooth: bool) -> Any:
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    if dtypes.is_integer(dtype):
        return random.integers(0 if dtype.kind == "u" else -4, 5, shape).astype(dtype)
    values = random.uniform(-2, 2, shape)
    if not smooth:  # some values that compare equal, and zeros of both signs
        values = np.where(random.uniform(size=shape) < 0.2, np.round(values), values)
    return np.asarray(values).astype(dtype)


def _with_special(values: Any, random: np.random.Generator) -> Any:
    """One element in five is one at which something may go wrong: NaN, infinities, zeros of both
    signs, subnormals, the ends of a dtype.
    """
    odd = random.choice(special(values.dtype.name), values.shape)
    return np.where(random.uniform(size=values.shape) < 0.2, odd, values)


def _laid_out(array: Any, layout: int) -> Any:
    """The same values in C order, in Fortran order, two elements apart, or from the last to the
    first.
    """
    if layout == 1:
        return np.array(array, order="F")
    if layout == 2:
        wide = np.zeros((*array.shape, 2), array.dtype)
        wide[..., 0] = array
        return wide[..., 0]
    if layout == 3:
        turned = tuple(slice(None, None, -1) for _ in array.shape)
        return array[turned].copy()[turned]
    return array


def kind_of(node: Node) -> str:
    """ "b", "i" for integers of either sign, or "f"."""
    return dtypes.kind(node.dtype).replace("u", "i")


# -- building --------------------------------------------------------------------------------------


class Builder:
    """A pool of nodes, and moves that add to it."""

    def __init__(self, source: Source, pool: Sequence[Node], smooth: bool, depth: int = 0) -> None:
        self.source = source
        self.pool = list(pool)
        self.smooth = smooth
        self.depth = depth

    def pick(self, choices: Sequence[Any]) -> Any:
        return choices[self.source.integer(0, len(choices) - 1)]

    def find(
        self, kinds: str = "biuf", rank: int = 0, fits: Callable[[Node], bool] | None = None
    ) -> Node | None:
        """A node of a dtype kind and of at least that rank; recent ones come first."""
        fitting = [
            node
            for node in reversed(self.pool)
            if kind_of(node) in kinds and node.ndim >= rank and (fits is None or fits(node))
        ]
        return self.pick(fitting) if fitting else None

    def partner(self, x: Node, kinds: str = "biuf") -> Node | float | int:
        """Something that broadcasts with `x`: another node, or a number."""
        found = self.find(kinds, fits=lambda y: broadcasts(x.shape, y.shape))
        if found is None or self.source.integer(0, 4) == 4:
            if kind_of(x) == "f":
                return self.pick((2, 0.5, -1.5, 3))
            return self.pick((2, -3 if x.dtype.kind == "i" else 7, 1))
        return found

    def axis(self, x: Node) -> int:
        return self.source.integer(0, x.ndim - 1)

    def inside(self, pool: Sequence[Node]) -> Builder:
        """A builder for the body of a region."""
        return Builder(self.source, pool, self.smooth, self.depth + 1)

    def grow(self, count: int) -> None:
        """Make `count` moves; one that finds nothing to work on gives way to another."""
        moves = SMOOTH_MOVES if self.smooth else MOVES
        if self.depth >= DEEPEST:
            moves = tuple(move for move in moves if move not in REGIONS)
        for _ in range(count):
            for _ in range(ATTEMPTS):
                made = self.pick(moves)(self)
                if made is not None:
                    break
            self.pool += [n for n in _nodes(made) if n.ndim <= LONGEST and small(n)]


def _nodes(made: Any) -> list[Node]:
    if made is None:
        return []
    if isinstance(made, Node):
        return [made]
    return [node for item in made for node in _nodes(item)]


def broadcasts(first: Sequence[Extent], second: Sequence[Extent]) -> bool:
    """Whether shapes broadcast without unifying a symbol."""
    pairs = zip(reversed(first), reversed(second), strict=False)
    return all(a == b or a == 1 or b == 1 for a, b in pairs)


def is_static(extent: Extent, least: int = 1) -> bool:
    return isinstance(extent, int) and extent >= least


# -- moves -----------------------------------------------------------------------------------------

Made = Any
FLOAT_UNARY = (
    *(
        "negative",
        "absolute",
        "sign",
        "square",
        "sqrt",
        "relu",
        "exp",
        "expm1",
        "log",
        "log1p",
        "tanh",
    ),
    *("sigmoid", "softplus", "sin", "cos", "erf"),
)
SMOOTH_UNARY = (
    "negative",
    "square",
    "tanh",
    "sigmoid",
    "softplus",
    "sin",
    "cos",
    "erf",
    "expm1",
    "relu",
    "absolute",
)
INT_UNARY = ("negative", "absolute", "sign", "square", "relu", "tanh")
BINARY = (
    *("add", "subtract", "multiply", "maximum", "minimum", "divide", "strong_multiply", "power"),
    *("hypot", "fmax", "fmin", "logaddexp"),
)
SMOOTH_BINARY = ("add", "subtract", "multiply", "maximum", "minimum")
COMPARISONS = ("less", "equal", "greater_equal", "not_equal", "greater", "less_equal")


def unary(b: Builder) -> Made:
    x = b.find("if")
    if x is None:
        return None
    names = INT_UNARY if kind_of(x) == "i" else SMOOTH_UNARY if b.smooth else FLOAT_UNARY
    return SURFACE[b.pick(names)](x)


def binary(b: Builder) -> Made:
    x = b.find("if")
    if x is None:
        return None
    name = b.pick(SMOOTH_BINARY if b.smooth else BINARY)
    y = b.partner(x, "if")
    if name == "power" and kind_of(x) == "i":
        return gx.power(x, b.source.integer(0, 3))
    return (
        SURFACE[name](x, y)
        if b.source.integer(0, 1) == 0 or name == "power"
        else SURFACE[name](y, x)
    )


def both_whole(x: Node, y: Node) -> bool:
    """Whether two integers promote to one: int64 and uint64 do not."""
    return dtypes.is_integer(dtypes.promote(x.dtype, y.dtype))


def whole(b: Builder) -> Made:
    """Quotients, remainders, bits and powers of integers, within what they demand."""
    x = b.find("i")
    if x is None:
        return None
    y = b.find("i", fits=lambda y: broadcasts(x.shape, y.shape) and both_whole(x, y))
    assert y is not None
    divisor = b.pick((3, -2 if x.dtype.kind == "i" else 2, 8, gx.where(y == 0, 5, y)))
    name = b.pick(("floor_divide", "remainder", "fmod", "bitwise_and", "bitwise_xor", "power"))
    if name in ("bitwise_and", "bitwise_xor"):
        return SURFACE[name](x, y)
    if name == "power":
        return gx.power(x, y & 3) >> 1
    return SURFACE[name](x, divisor)


def safe(b: Builder) -> Made:
    """A function with a singularity, where it is smooth."""
    x = b.find("f")
    if x is None:
        return None
    kept = x * x + 0.5
    return b.pick((gx.sqrt, gx.log, gx.log1p, lambda v: 1.0 / v, lambda v: v**-1.5))(kept)


def compare(b: Builder) -> Made:
    x = b.find("if")
    return None if x is None else SURFACE[b.pick(COMPARISONS)](x, b.partner(x, "if"))


def logic(b: Builder) -> Made:
    x = b.find("b")
    if x is None:
        x = b.find("f")
        return None if x is None else gx.isnan(x)
    y = b.find("b", fits=lambda y: broadcasts(x.shape, y.shape))
    return b.pick((lambda: ~x, lambda: x & y, lambda: x | y))()


def choose(b: Builder) -> Made:
    x = b.find("if" if not b.smooth else "f")
    if x is None:
        return None
    mask = b.find("b", fits=lambda y: broadcasts(x.shape, y.shape))
    mask = x > 0.25 if mask is None else mask
    y = b.partner(x, "f")
    if isinstance(y, Node) and not (
        broadcasts(y.shape, mask.shape) and broadcasts(x.shape, y.shape)
    ):
        y = 1.5
    return gx.where(mask, x, y)


def convert(b: Builder) -> Made:
    x = b.find()
    return None if x is None else gx.cast(x, b.pick((*USUAL * 2, *ALL)))


def reduce(b: Builder) -> Made:
    x = b.find("f" if b.smooth else "bif", 1)
    if x is None:
        return None
    axes: Any = b.pick((None, b.axis(x), (0, x.ndim - 1) if x.ndim > 1 else 0, -1))
    keep = bool(b.source.integer(0, 1))
    names = ("sum", "mean", "max", "min", "prod", "any", "all")
    name = b.pick(names[:5] if b.smooth else names)
    taken = range(x.ndim) if axes is None else axes if isinstance(axes, tuple) else (axes,)
    if name in ("max", "min") and not all(is_static(x.shape[a]) for a in taken):
        name = "sum"
    return SURFACE[name](x, axis=axes, keepdims=keep)


def along_axis(b: Builder) -> Made:
    x = b.find("f", 1, lambda x: is_static(x.shape[-1]))
    if x is None:
        return None
    return b.pick((gx.softmax, gx.log_softmax, lambda v: gx.logsumexp(v, axis=-1, keepdims=True)))(
        x
    )


def position(b: Builder) -> Made:
    x = b.find("if", 1, lambda x: 0 not in x.shape)
    return None if x is None else gx.argmax(x, axis=b.axis(x))


def permute(b: Builder) -> Made:
    x = b.find(rank=2)
    if x is None:
        return None
    return gx.swapaxes(x, b.axis(x), b.axis(x)) if x.ndim > 2 else x.T


def reshape(b: Builder) -> Made:
    x = b.find()
    if x is None:
        return None
    kind = b.source.integer(0, 4)
    if kind == 0:
        return gx.reshape(x, -1)
    if kind == 1:
        return gx.expand_dims(x, b.source.integer(0, x.ndim))
    if kind == 2 and x.ndim >= 2:
        return gx.reshape(x, (*x.shape[:-2], x.shape[-2] * x.shape[-1]))
    if kind == 3 and 1 in x.shape:
        return gx.squeeze(x)
    if kind == 4 and x.ndim >= 1 and is_static(x.shape[0], 2) and x.shape[0] % 2 == 0:  # type: ignore[operator]
        return gx.reshape(x, (2, x.shape[0] // 2, *x.shape[1:]))
    return None


def flip(b: Builder) -> Made:
    x = b.find(rank=1)
    return None if x is None else gx.flip(x, b.pick((None, b.axis(x))))


SLICES = (
    *(slice(1, None), slice(None, -1), slice(None, None, 2), slice(None, None, -1), slice(1, -1)),
    *(slice(1, None, 3), slice(None, 2), slice(-2, None), slice(2, 2)),
)


def cut(b: Builder) -> Made:
    x = b.find(rank=1)
    if x is None:
        return None
    axis = b.axis(x)
    key: Any = b.pick(SLICES)
    if is_static(x.shape[axis]) and b.source.integer(0, 3) == 3:
        key = b.pick((0, -1))
    return x[(*[slice(None)] * axis, key)]


def pad(b: Builder) -> Made:
    x = b.find(rank=1)
    if x is None:
        return None
    return gx.pad(x, [(b.source.integer(0, 2), b.source.integer(0, 1)) for _ in range(x.ndim)])


def join(b: Builder) -> Made:
    x = b.find(rank=1)
    if x is None:
        return None
    y = b.find(fits=lambda y: y.shape == x.shape)
    axis = b.axis(x)
    return gx.concatenate([x, y], axis) if b.source.integer(0, 1) == 0 else gx.stack([y, x], axis)


def stretch(b: Builder) -> Made:
    x = b.find()
    return None if x is None else gx.broadcast_to(x, (b.pick((2, 3, *x.shape[:1])), *x.shape))


def product(b: Builder) -> Made:
    x = b.find("if" if not b.smooth else "f", 1)
    if x is None:
        return None
    y = b.find("if" if not b.smooth else "f", fits=lambda y: y.shape == x.shape)
    kind = b.source.integer(0, 3)
    if y is None:
        return None
    if kind == 0 and x.ndim <= 2:
        return gx.outer(x, y)
    if kind == 1 and x.ndim >= 2:
        return x @ gx.swapaxes(y, -1, -2)
    if kind == 2 and x.ndim >= 2:
        return gx.tensordot(x, y, axes=([0], [0]))
    return gx.tensordot(x, y, axes=x.ndim)


def vector_product(b: Builder) -> Made:
    """A matrix and a vector that fit, from either side."""
    x = b.find("f", 2)
    if x is None:
        return None
    right = b.find("f", 1, lambda v: v.ndim == 1 and v.shape[0] == x.shape[-1])
    if right is not None:
        return x @ right
    left = b.find("f", 1, lambda v: v.ndim == 1 and v.shape[0] == x.shape[-2])
    return None if left is None else left @ x


def indices(b: Builder, size: Extent) -> Node:
    """Positions that are in range along an axis of that extent."""
    if is_static(size) and b.source.integer(0, 1):
        assert isinstance(size, int)
        return gx.constant(
            np.array([b.source.integer(-size, size - 1) for _ in range(3)], np.int64)
        )
    line = gx.arange(size)
    return b.pick((line, gx.flip(line), line * 0, -1 - line))


def take(b: Builder) -> Made:
    x = b.find(rank=1)
    if x is None:
        return None
    axis = b.axis(x)
    if b.source.integer(0, 3) == 3:
        return gx.take_along_axis(x, gx.flip(gx.iota(x.shape, axis), axis), axis)
    return gx.take(x, indices(b, x.shape[axis]), axis=axis)


def scatter(b: Builder) -> Made:
    x = b.find("if" if not b.smooth else "f", 1)
    if x is None:
        return None
    axis = b.axis(x)
    size = x.shape[axis]
    where = b.pick(
        (gx.arange(size), gx.flip(gx.arange(size)), gx.arange(size) * 0, -1 - gx.arange(size))
    )
    shape = (*x.shape[:axis], size + b.source.integer(0, 2), *x.shape[axis + 1 :])
    base = b.pick((gx.zeros(shape, x.dtype), gx.iota(shape, axis, x.dtype)))
    combiner = b.pick(("add", "add", "set", "max"))
    return scatter_op[combiner](base, x, where, **positions_attributes((axis,), at=axis))


def split(b: Builder) -> Made:
    x = b.find("f")
    return None if x is None else gx.modf(x)


def generate(b: Builder) -> Made:
    x = b.find(rank=1)
    if x is None:
        return None
    size = x.shape[b.axis(x)]
    return b.pick(
        (
            lambda: gx.iota(x.shape, b.axis(x), "float64"),
            lambda: gx.ones(x.shape, "float32"),
            lambda: x * (size + 1 if isinstance(size, Dim) else size),
            lambda: gx.full(x.shape, 0.5),
        )
    )()


def guard(b: Builder) -> Made:
    x = b.find("f")
    if x is None:
        return None
    return b.pick(
        (lambda: gx.check(x, (x == x) | gx.isnan(x), "any value"), lambda: gx.stop_gradient(x))
    )()


def checked(b: Builder) -> Made:
    x = b.find("f")
    return None if x is None else gx.check(x, (x == x) | gx.isnan(x), "any value")


def call(b: Builder) -> Made:
    x = b.find("f")
    if x is None:
        return None
    y = b.find("f", fits=lambda y: broadcasts(x.shape, y.shape))
    count = b.source.integer(1, 3)

    def body(first: Node, second: Node) -> Any:
        inner = b.inside([second, first])
        inner.grow(count)
        return inner.pool[-1], inner.pool[0] * 0.5

    return gx.call(body, x, y, name="body")


def scan(b: Builder) -> Made:
    """Over the leading axis: the state takes in slices, and perhaps something from outside."""
    xs = b.find("f", 1)
    if xs is None:
        return None
    init = b.find("f", fits=lambda y: y.shape == xs.shape[1:] and y.dtype == xs.dtype)
    outside = b.find("f", fits=lambda y: y.shape == xs.shape[1:] and y.dtype == xs.dtype)
    start = gx.zeros(xs.shape[1:], xs.dtype) if init is None else init
    kind, count = b.source.integer(0, 2), b.source.integer(0, 2)

    def step(state: Node, x: Node) -> Any:
        inner = b.inside([state, x])
        inner.grow(count)
        new = (state * 0.5 + x, gx.tanh(state) + x, gx.maximum(state, x))[kind]
        if outside is not None:
            new = new * outside
        return gx.cast(new, state.dtype), (inner.pool[-1], state)

    return gx.scan(step, start, xs, reverse=bool(b.source.integer(0, 1)))


SMOOTH_MOVES = (
    *(
        unary,
        binary,
        safe,
        choose,
        reduce,
        along_axis,
        permute,
        reshape,
        flip,
        cut,
        pad,
        join,
        stretch,
    ),
    *(product, vector_product, take, scatter, generate, checked, call, scan),
)
MOVES = (
    *(
        unary,
        binary,
        unary,
        binary,
        safe,
        compare,
        logic,
        choose,
        whole,
        convert,
        reduce,
        reduce,
        along_axis,
    ),
    *(
        position,
        permute,
        reshape,
        flip,
        cut,
        pad,
        join,
        stretch,
        product,
        vector_product,
        take,
        scatter,
    ),
    *(split, generate, guard, call, scan),
    *REGISTRY_MOVES,
    *REGISTRY_MOVES,
    *REGION_MOVES,
    *DERIVED_MOVES,
    mapped,
    examples,
)
REGIONS = (call, scan, mapped, examples, *REGION_MOVES)


def ends(pool: Sequence[Node]) -> list[Node]:
    """The nodes that no other one was made from."""
    below = {argument for node in topological(pool) for argument in node.args}
    return [node for node in dict.fromkeys(pool) if node not in below]


# -- programs --------------------------------------------------------------------------------------


def program(source: Source, smooth: bool = False, longest: int = 8) -> Program:
    """A random program; `smooth`: float64 throughout, differentiable but for isolated points."""
    kinds = ("float64",) if smooth else (*USUAL * 2, "float64", "float32", *ALL)
    extents = EXTENTS[:5] if smooth else EXTENTS
    symbols = []
    for i in range(source.integer(1, 3)):
        shape = [extents[source.integer(0, len(extents) - 1)] for _ in range(source.integer(0, 3))]
        dtype = kinds[source.integer(0, len(kinds) - 1)]
        symbols.append(gx.symbol(f"x{i}", tuple(shape), dtype))
    builder = Builder(source, symbols, smooth)
    builder.grow(source.integer(1, longest))
    outputs = [*ends(builder.pool)[-MOST_OUTPUTS:]]
    if source.integer(0, 2) == 2:  # something from the middle, or an input, or an output twice
        outputs.append(builder.pick(builder.pool))
    strided = not smooth and source.integer(0, 1) == 1
    layouts = tuple(source.integer(0, 3) if strided else 0 for _ in symbols)
    seed, wild = source.integer(0, 255), not smooth and source.integer(0, 2) == 2
    return Program(tuple(symbols), tuple(outputs), seed, layouts, smooth, wild)


def sizes(source: Source, names: Sequence[str]) -> dict[str, int]:
    """A value for every named dimension."""
    return {name: SIZES[source.integer(0, len(SIZES) - 1)] for name in names}


__all__ = ["Builder", "Program", "Seeded", "Source", "program", "sizes"]
